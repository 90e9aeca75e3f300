"""The registry of cells: what Python must know of each to name, allocate and check.

A row here matches a row of csrc/internal/cells.c; `index` is the one of csrc/fastrnn.h. The
reference and the kernels know the mathematics under the same name. A variant is a row made
from one of these by options.py's record; its mathematics is in variants.py and in the kernels'
*_variant.h.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from fastrnn._cells.options import Options


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
    index : int
        As in `csrc/fastrnn.h`.
    altered : tuple of int
        The indices of its variants, as many as there are: as it is, with coupled gates (+1), with
        normalised products (+2), with peepholes (+4).
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
    index: int
    altered: tuple[int, ...]
    function: str
    gates: int
    states: tuple[str, ...]
    shown: tuple[str, ...]
    extras: tuple[Extra, ...] = ()
    options: Options | None = None
    projects: bool = False

    def __reduce__(self):
        """By name: the numbers are those of this build, and a pickle may be read by another."""
        return _again, (self.name, self.options, self.projects)


def _again(name, options, projects):
    """The row of a cell that was pickled."""
    cell = CELLS[name] if options is None else _altered(CELLS[name], options)
    return projected(cell) if projects else cell


_ROWS = (
    Cell("rnn_tanh", 0, (5,), "rnn", 1, ("h",), ()),
    Cell("rnn_relu", 1, (6,), "rnn", 1, ("h",), ()),
    Cell(
        "lstm", 2, (7, 8, 11, 12, 9, 10, 11, 12), "lstm", 4, ("h", "c"), ("i", "f", "g", "o", "c")
    ),
    Cell("gru_after", 3, (13, -1, 15), "gru", 3, ("h",), ("r", "z", "n")),
    Cell("gru_before", 4, (14,), "gru", 3, ("h",), ("r", "z", "n")),
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
    return cell if options == Options() else _altered(cell, options)


@lru_cache
def noisy(cell):
    """The row that takes noise, of any cell."""
    return cell if cell.options is not None else _altered(cell, Options())


def _altered(cell, options):
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
    index = cell.altered[options.coupled + 2 * options.layer_norm + 4 * options.peephole]
    return replace(cell, index=index, gates=gates, extras=cell.extras + extras, options=options)


# The extra parameters in the order of csrc/fastrnn.h, and the slopes of the hard sigmoids.
_OF_KERNELS = "weight_peephole", "weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c"
_SLOPES = {"sigmoid": 0.0, "hard_sigmoid": 1 / 6, "hard_sigmoid_onnx": 1 / 5}


def for_kernels(cell, arrays):
    """The parameters of a variant's pass, or their gradients, as the compiled module takes them.

    arrays : w_ih, w_hh, b_ih, b_hh and the cell's extras. W_hr or None and a tuple of the others
    follow the first four, and then numbers that say what is altered.
    """
    o = cell.options
    there = dict(zip([e.kind for e in cell.extras], arrays[4:], strict=True))
    extras = tuple([there.get(kind) for kind in _OF_KERNELS])
    stays = (*o.zoneout, 0.0, 0.0)[:2]
    numbers = o.clip or 0.0, o.cell_clip or 0.0, _SLOPES[o.recurrent_activation], *stays
    return (*arrays[:4], there.get("weight_hr"), extras, numbers)
