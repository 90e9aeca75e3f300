"""The registry of cells: what Python must know of each to name, allocate and check.

A row here matches a row of csrc/cells.c; `index` is the one of csrc/fastrnn.h. The reference
(reference.py) and the kernels know the mathematics under the same name. A variant is a row made
from one of these by options.py's record; its mathematics is in variants.py.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from fastrnn.options import Options


class Extra(NamedTuple):
    """A parameter that a variant has besides the weights and biases of the two products.

    kind : its name without the layer, "weight_peephole".
    units : it has units * hidden_size numbers; None for a matrix (proj_size, hidden_size).
    begins : its first value; None is random like the weights.
    """

    kind: str
    units: int | None
    begins: float | None


@dataclass(frozen=True)
class Cell:
    """One recurrent cell.

    Attributes
    ----------
    name : str
        As in `fastrnn.reference.forward`.
    index : int or None
        As in `csrc/fastrnn.h`; None where the kernels do not know it: then NumPy runs it.
    function : str
        The public function that runs it: "rnn", "lstm" or "gru".
    gates : int
        G: the weights have G * hidden_size rows.
    states : tuple of str
        ("h",) or ("h", "c").
    shown : tuple of str
        What a step's gates are called, in the order of a tape's slots; c, if any, last.
    extras : tuple of Extra
        Its parameters after w_ih, w_hh, b_ih and b_hh, in this order.
    options : Options or None
        What makes it a variant; None is the cell itself.
    projects : bool
        Whether h is a projection of what the cell makes.
    """

    name: str
    index: int | None
    function: str
    gates: int
    states: tuple[str, ...]
    shown: tuple[str, ...]
    extras: tuple[Extra, ...] = ()
    options: Options | None = None
    projects: bool = False


_ROWS = (
    Cell("rnn_tanh", 0, "rnn", 1, ("h",), ()),
    Cell("rnn_relu", 1, "rnn", 1, ("h",), ()),
    Cell("lstm", 2, "lstm", 4, ("h", "c"), ("i", "f", "g", "o", "c")),
    Cell("gru_after", 3, "gru", 3, ("h",), ("r", "z", "n")),
    Cell("gru_before", 4, "gru", 3, ("h",), ("r", "z", "n")),
)

CELLS = {cell.name: cell for cell in _ROWS}


def projected(cell):
    """The row of a cell whose h is projected: W_hr is the first of its extra parameters."""
    return replace(cell, extras=(Extra("weight_hr", None, None), *cell.extras), projects=True)


def variant(cell, options):
    """The row of a cell with these options; its own where they alter nothing.

    Raises
    ------
    ValueError
        For options that have no meaning for this cell.
    """
    if options == Options():
        return cell
    if options.layer_norm and cell.name == "gru_before":
        raise ValueError(
            "layer_norm is defined for the GRU whose reset gate acts after the product: "
            "use reset_after=True"
        )
    gates, extras = cell.gates - options.coupled, ()
    if options.layer_norm:
        extras += Extra("weight_ln_ih", gates, 1.0), Extra("weight_ln_hh", gates, 1.0)
        if "c" in cell.states:
            extras += Extra("weight_ln_c", 1, 1.0), Extra("bias_ln_c", 1, 0.0)
    if options.peephole:
        extras += (Extra("weight_peephole", gates - 1, None),)  # all gates but g
    return replace(cell, index=None, gates=gates, extras=extras, options=options)
