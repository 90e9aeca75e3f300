"""Pictures that commands write: the type of their file argument, and the messages about them."""

import argparse
from pathlib import Path

SUFFIXES = (".pdf", ".png", ".svg")


def new_file(text):
    """A path in an existing folder: the type of an argparse argument."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def new_picture(text):
    """A path of a picture in an existing folder; the suffix is the format."""
    if Path(text).suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(SUFFIXES)}, got {text!r}")
    return new_file(text)


def write(draw, path, *what):
    """Call draw(path, *what); print the path, or why there is no picture -> exit code."""
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
