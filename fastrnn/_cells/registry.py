"""The registry of cells: facts from a backend's list of cells, and facts that Python adds.

The compiled module lists its plain cells and their variants (csrc/internal/cells.c). If there is no
compiled module, the reference lists the same cells (reference/variants.py). An `Options` chooses a
variant.
"""

from functools import lru_cache
from typing import NamedTuple

from fastrnn._cells.options import Options
from fastrnn._engine import runtime


class Extra(NamedTuple):
    """A parameter that a variant has in addition to the weights and biases of the two products.

    kind : its name without the layer, such as "weight_peephole".
    units : it has units * hidden_size elements; None for a matrix (proj_size, hidden_size).
    begins : the initial value of its elements; None for random values like those of the weights.
    """

    kind: str
    units: int | None
    begins: float | None


_W_HR = Extra("weight_hr", None, None)


class Cell(NamedTuple):
    """One recurrent cell.

    Attributes
    ----------
    name : str
        The name that `fastrnn.reference.forward` takes.
    index : int
        The cell's index in the list of cells.
    function : str
        The public function for the cell: "rnn", "lstm", "gru" and so on.
    gates : int
        G: W_ih is (G * hidden_size, input_size).
    recurrent : int
        R: W_hh is (R * hidden_size, features of h). 0 for a cell without W_hh and b_hh.
    states : tuple of str
        ("h",) or ("h", "c").
    shown : tuple of str
        The names of a step's gates, in the order of a tape's slots; c, if any, is last.
    extras : tuple of Extra
        The cell's parameters after w_ih, w_hh, b_ih and b_hh, in this order. W_hr, a projection of
        h, is the first, if the cell has it.
    options : Options or None
        The options of a variant; None for the plain cell.
    """

    name: str
    index: int
    function: str
    gates: int
    recurrent: int
    states: tuple[str, ...]
    shown: tuple[str, ...]
    extras: tuple[Extra, ...] = ()
    options: Options | None = None

    @property
    def projects(self):
        """True if the cell has a projection of h."""
        return _W_HR in self.extras

    def __reduce__(self):
        """A pickle has the cell's name and not its index, which depends on the build."""
        return _unpickled, (self.name, self.options, self.projects)


def _unpickled(name, options, projects):
    """The cell of a pickle."""
    cell = CELLS[name] if options is None else _with_options(CELLS[name], options)
    return projected(cell) if projects else cell


if runtime.core:
    _LISTED = runtime.core.cells()
else:  # imported here: the reference takes a third of all imports' time
    from fastrnn.reference import variants

    _LISTED = variants.cells()

# The public function of a cell, if its name is not that of the cell.
_FUNCTIONS = {
    "rnn_tanh": "rnn", "rnn_relu": "rnn", "gru_after": "gru", "gru_before": "gru",
}  # fmt: skip

# The names of a step's gates, in the order of a tape's slots; c, if any, is last.
_SHOWN = {
    "rnn": (),
    "lstm": ("i", "f", "g", "o", "c"),
    "gru": ("r", "z", "n"),
    "min_gru": ("z", "n"),
    "min_lstm": ("f", "i", "n"),
}


def _plain(index, entry):
    function = _FUNCTIONS.get(entry["plain"], entry["plain"])
    states, shown = ("h", "c")[: entry["states"]], _SHOWN.get(function, ())
    return Cell(
        entry["name"], index, function, entry["gates"], entry["recurrent"], states, shown
    )  # fmt: skip


_PLAIN_CELLS = [
    _plain(i, entry) for i, entry in enumerate(_LISTED) if entry["name"] == entry["plain"]
]
CELLS = {cell.name: cell for cell in _PLAIN_CELLS}


def projected(cell):
    """The cell with a projection of h."""
    if "proj_size" not in _LISTED[cell.index]["takes"]:
        raise ValueError(f"weight_hr or proj_size has no meaning for the cell {cell.name}")
    return cell._replace(extras=(_W_HR, *cell.extras))


def variant(cell, options):
    """The cell with these options; the cell itself with the default options.

    Raises
    ------
    ValueError
        For options that have no meaning for this cell.
    """
    return cell if options == Options() else _with_options(cell, options)


def takes(cell, option):
    """Return whether a plain cell or one of its variants can have an option."""
    return any(
        option in entry["takes"] | entry["has"] for entry in _LISTED if entry["plain"] == cell.name
    )


@lru_cache
def with_masks(cell):
    """The cell as a variant, because only variants take dropout masks."""
    return cell if cell.options is not None else _with_options(cell, Options())


# The options that have a variant of their own, and the initial values of the parameters they add.
_OWN = frozenset().union(*(entry["has"] for entry in _LISTED))
_BEGINS = {"weight_ln_ih": 1.0, "weight_ln_hh": 1.0, "weight_ln_c": 1.0, "bias_ln_c": 0.0}


def _variant_of(name, options):
    """The index and the entry of the plain cell's variant that has these options."""
    wanted, own = set(options.non_default()), {o for o in _OWN if getattr(options, o)}
    for index, entry in enumerate(_LISTED):
        is_variant = entry["plain"] == name != entry["name"]
        if is_variant and entry["has"] <= own and wanted <= entry["has"] | entry["takes"]:
            return index, entry
    entries = [entry for entry in _LISTED if entry["plain"] == name]
    unknown = wanted.difference(*(entry["has"] | entry["takes"] for entry in entries)) or wanted
    unknown = unknown or {"a dropout mask"}  # with default options the cell has no variant
    hint = ": use reset_after=True" if name == "gru_before" and "layer_norm" in unknown else ""
    raise ValueError(f"{', '.join(sorted(unknown))} has no meaning for the cell {name}{hint}")


def _with_options(cell, options):
    index, entry = _variant_of(cell.name, options)
    extras = tuple([
        Extra(kind, units, _BEGINS.get(kind))
        for kind, units in entry["extras"].items()
        if kind != "weight_peephole" or options.peephole
    ])  # fmt: skip
    return cell._replace(
        index=index, gates=entry["gates"], recurrent=entry["recurrent"],
        extras=cell.extras + extras, options=options,
    )  # fmt: skip


def kernel_weights(cell, parameters):
    """The compiled module's `Weights` of a direction's parameters; None without that module.

    parameters : w_ih, w_hh, b_ih, b_hh and the cell's extras.
    """
    if runtime.core is None:
        return None
    return runtime.core.Weights(*_sizes(cell, parameters), **_variant_options(cell))


def packed_weights(cell, parameters, precision=None, scales=None, whole=False):
    """The same as the module's `Packed`: it refers to the biases and extras, not to the matrices.

    precision : that of the matrices; None is that of their dtype.
    scales : the scales of int8 weights, as `Packed.scales` returns them; None computes them.
    whole : whether W_ih is packed at once in all forms that passes read.
    """
    if runtime.core is None:
        return None
    return runtime.core.Packed(
        *_sizes(cell, parameters), **_variant_options(cell), precision=precision or "",
        scales=scales, whole=whole,
    )  # fmt: skip


def packed_before(cell, hidden_size, vectors, precision, content):
    """A `Packed` of what another one's `content` returned, maybe in another process.

    vectors : the parameters, with None for the matrices.
    """
    return runtime.core.Packed(
        cell.index, hidden_size, *_by_name(cell, vectors), **_variant_options(cell),
        precision=precision or "", content=content,
    )  # fmt: skip


def _sizes(cell, parameters):
    """The arguments of `Weights` by position: the cell, its sizes, the parameters."""
    return cell.index, len(parameters[0]) // cell.gates, *_by_name(cell, parameters)


def _variant_options(cell):
    o = cell.options
    return {} if o is None else {"numbers": o.numbers(), "zoneout": o.zoneout}


def kernel_gradients(cell, weights, arrays):
    """The compiled module's `Gradients` of such weights, which writes to these arrays.

    weights : the result of `kernel_weights`. arrays : like its parameters; a gradient whose array
    is None is not computed.
    """
    return None if weights is None else runtime.core.Gradients(weights, *_by_name(cell, arrays))


def _by_name(cell, arrays):
    """w_ih, w_hh, b_ih, b_hh, and if there are extras w_hr or None, and a dict of the others."""
    if not cell.extras:
        return arrays
    extras = dict(zip([e.kind for e in cell.extras], arrays[4:], strict=True))
    w_hr = extras.pop("weight_hr", None)
    return *arrays[:4], w_hr, extras
