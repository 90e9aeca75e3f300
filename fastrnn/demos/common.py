"""Parts of several demos: options, the schedule of the learning rate, reports of comparisons.

It must not know: any demo's data or model.
"""

import argparse
import math
from pathlib import Path

import fastrnn
from fastrnn._engine import runtime
from fastrnn.demos import pictures

LAYERS = {"rnn": fastrnn.RNN, "lstm": fastrnn.LSTM, "gru": fastrnn.GRU}


def at_least(least):
    """The type of an argparse argument: an integer of at least `least`."""

    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, got {text!r}")
        return int(text)

    return parse


def add_cell(parser, default, cells=tuple(LAYERS), about=""):
    """Add --cell, the kind of layer; about : a text for the help."""
    parser.add_argument("--cell", choices=cells, default=default, help=f"{about}default: {default}")


def add_epochs(parser, default, quick, what):
    """Add --epochs and --quick; what : a text for the help."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=at_least(1), default=default, metavar="N",
        help=f"{what}; default: {default}",
    )  # fmt: skip
    length.add_argument(
        "--quick", dest="epochs", action="store_const", const=quick,
        help=f"the same as --epochs {quick}",
    )  # fmt: skip


def add_seed(parser, what):
    """Add --seed; what : a text for the help."""
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help=f"of {what}; default: 0"
    )


def add_out(parser, default):
    """Add --out, the file of the picture."""
    parser.add_argument(
        "--out", type=pictures.new_picture, default=Path(default), metavar="PATH",
        help=f"the picture, if matplotlib is installed; default: {default}",
    )  # fmt: skip


def cosine(highest, done):
    """The learning rate after the part `done` of the updates: from `highest` down to 0.

    Half a cosine: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts,
    2017, equation 5 with one cycle.
    """
    return highest * (1 + math.cos(math.pi * done)) / 2


def verdict(name, better):
    """Print the rivals that `name` beats, and the others; better : rival -> True if beaten."""
    for verb, wanted in (("beats", True), ("does not beat", False)):
        named = [other for other, is_better in better.items() if is_better == wanted]
        if named:
            print(f"the {name} {verb} {', '.join(named)}")


def engine():
    """A few words about the backend and the instruction set."""
    if not runtime.uses_core():
        return "NumPy path"
    return f"kernels, {runtime.core.isa()}, threads: {fastrnn.get_num_threads()}"
