"""Pictures that commands write: their name among the arguments, and what is said of them."""

import argparse
from pathlib import Path

SUFFIXES = (".pdf", ".png", ".svg")


def new_file(text):
    """A path in a folder that is there: the type of an argparse argument."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def new_picture(text):
    """The same for a picture, whose format its suffix says."""
    if Path(text).suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(SUFFIXES)}, got {text!r}")
    return new_file(text)


def write(draw, path, *what):
    """draw(path, *what), and say where the picture is or why there is none -> exit code."""
    try:
        draw(path, *what)
    except ImportError:
        print("\nno picture: matplotlib is not installed (pip install matplotlib)")
    except ValueError as error:
        print(f"\nno picture: {error}")
    except OSError as error:
        print(f"\nno picture: cannot write {path}: {error.strerror}")
        return 1
    else:
        print(f"\npicture: {path.resolve()}")
    return 0
