"""Pictures that commands write: their file argument, the messages about them, parts of several.

It must not know: any demo.
"""

import argparse
import os
from pathlib import Path

from fastrnn.plot._figures import label_ends as label_ends

SUFFIXES = (".pdf", ".png", ".svg")
NET, BASELINE = "tab:red", "0.7"  # the colours of bars, which differ in grey too


def new_file(text):
    """A path that can be written to, in an existing folder: the type of an argparse argument.

    It is checked before the training, which may take minutes.
    """
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file, got the folder {text!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write to {text!r}: permission denied")
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


def epochs(axes, count):
    """An x-axis of epochs: from 1 to count, in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(1 - (count == 1), count)
    axes.set_xlabel("epoch")


def percent(axis):
    """An axis of fractions, in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
