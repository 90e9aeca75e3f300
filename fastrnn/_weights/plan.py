"""The layer that the arrays of a file make: decided from names, shapes and dtypes, and checked.

No element is read, and no memory is taken for the layer, before everything fits.

It must not know: files, formats.
"""

import contextlib
import re
from typing import Any, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._layer import initializers
from fastrnn._layer.structure import Structure
from fastrnn._weights.kinds import SIZES, arguments
from fastrnn.layers import CLASSES

_BFLOAT16 = "BF16"
_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}  # PyTorch's layers, by the number of their gates


class Given(NamedTuple):
    """The user's arguments, which override what the file says."""

    cell: str | None
    dtype: np.dtype | None
    options: dict[str, Any]


class Plan(NamedTuple):
    """A layer to make.

    kind : its class
    arguments : all but dropout and rng
    dropout : a number, and True if the user gave it
    nbytes : the bytes of its parameters
    """

    kind: type
    arguments: dict
    dropout: tuple[float, bool]
    nbytes: int

    def made(self, rng):
        """The layer, whose parameters have no values yet, and whose generator has drawn none."""
        dropout, given = self.dropout
        with initializers.skipped():
            layer = self.kind(**self.arguments, dropout=dropout if given else 0.0, rng=rng)
        layer._dropout = dropout  # without the warning for one layer, if the file has it so
        return layer


def planned(label, found, described, given):
    """The `Plan` of a layer.

    label : the layer and its file, for messages
    found : name of a parameter -> an object with its dtype and shape
    described : a `Described`, or None for a file without a description

    Raises
    ------
    ValueError, TypeError
        For names, shapes, dtypes and options that do not fit.
    """
    kind = CLASSES[_cell(label, found, described, given.cell)]
    _check_names(label, kind, given.options)
    dtype = _dtype(label, found, given.dtype)
    options = (described.options if described else {}) | {
        name: value for name, value in given.options.items() if name not in SIZES
    }
    sizes = _told_by_names(kind, found)
    twin = _twin(label, kind, sizes | options, dtype)
    sizes |= _told_by_shapes(label, found, twin)
    _check_sizes(label, sizes, given.options)
    nbytes = _check_shapes(label, found, twin, sizes)
    options.pop("dropout", None)
    return Plan(
        kind, sizes | options | {"dtype": dtype}, (twin.dropout, "dropout" in given.options), nbytes
    )


def _cell(label, found, described, cell):
    """The name of the cell: as the user or the file says, else PyTorch's of so many gates."""
    if cell is not None:
        checks.choice("cell", cell, tuple(CLASSES))
    if described is not None:
        if cell not in (None, described.cell):
            raise ValueError(f"cell of {label} is {described.cell!r} by the file, got {cell!r}")
        return described.cell
    if cell is not None:
        return cell
    shape = _matrix(label, found, "weight_hh_l0")
    hidden = _hidden(label, found, "weight_hr_l0" in found)
    gates, rest = divmod(shape[0], hidden)
    if rest or gates not in _OF_GATES:
        raise ValueError(
            f"weight_hh_l0 of {label} must have 1, 3 or 4 rows for each of the {hidden} hidden "
            f"units, as PyTorch's RNN, GRU and LSTM, got {shape}"
        )
    return _OF_GATES[gates]


def _hidden(label, found, projects):
    """The hidden units, by the columns of a matrix."""
    name = "weight_hr_l0" if projects else "weight_hh_l0"
    shape = _matrix(label, found, name)
    if not shape[1]:
        raise ValueError(f"{name} of {label} must have a column for each hidden unit, got {shape}")
    return shape[1]


def _check_names(label, kind, options):
    """TypeError for arguments that the class does not have."""
    known = [name for name in arguments(kind) if name not in ("dtype", "rng")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"{unknown[0]} is no option of {kind.__name__}, the class of {label}: its options are "
            f"{', '.join(known)}"
        )


def _dtype(label, found, dtype):
    """The dtype of the layer: the user's, or that of all arrays."""
    dtypes = {name: _native(header.dtype) for name, header in found.items()}
    first = next(iter(dtypes.values()))
    for name, own in dtypes.items():
        hint = "" if own is None else ': give dtype="float32" to convert all of them'
        if own is None or dtype is None and own not in checks.DTYPES:
            wanted = "float32 or float64"
        elif dtype is None and own != first:
            wanted = f"{first} like other arrays of the layer"
        else:
            continue
        raise TypeError(
            f"{checks.shown(name)} of {label} must be {wanted}, got "
            f"{checks.shown(found[name].dtype)}{hint}"
        )
    return first if dtype is None else dtype


def _native(dtype):
    """A dtype of floats in the machine's byte order, or "BF16"; None for all others."""
    if isinstance(dtype, str):
        return dtype if dtype == _BFLOAT16 else None
    return dtype.newbyteorder("=") if dtype.kind == "f" and dtype.itemsize <= 8 else None


def _told_by_names(kind, found):
    """The arguments of the layer that the names of parameters tell."""
    layers = [name for name in found if re.fullmatch("weight_ih_l[0-9]+", name)]
    told = {
        "num_layers": len(layers),
        "bias": not found.keys().isdisjoint({"bias_ih_l0", "bias_hh_l0"}),
        "bidirectional": "weight_ih_l0_reverse" in found,
    }
    if "weight_hr_l0" in found and "proj_size" in arguments(kind):
        told["proj_size"] = 1  # the size is told by the shape
    return told


def _twin(label, kind, options, dtype):
    """A layer of these options with few units, which checks the options and takes no memory."""
    with _about(label), initializers.skipped():
        return kind(1, 2, **(options | {"num_layers": 2}), dtype=dtype, rng=0)


def _told_by_shapes(label, found, twin):
    """The arguments of the layer that the shapes of parameters tell."""
    cell = twin._structure.cell
    rows, inputs = _matrix(label, found, "weight_ih_l0")
    if cell.recurrent:
        hidden = _hidden(label, found, cell.projects)
    else:
        hidden = max(1, rows // cell.gates)
    told = {"input_size": inputs, "hidden_size": hidden}
    if cell.projects:
        told["proj_size"] = _matrix(label, found, "weight_hr_l0")[0]
    return told


def _matrix(label, found, name):
    """The shape of a matrix."""
    if name not in found:
        raise ValueError(
            f"{name} of {label} is missing: it has {checks.shown(', '.join(sorted(found)))}"
        )
    shape = found[name].shape
    if len(shape) != 2:
        raise ValueError(f"{name} of {label} must have two axes, got {shape}")
    return shape


def _check_sizes(label, sizes, options):
    """ValueError for sizes of the user that are not those of the arrays."""
    for name in SIZES:
        size = sizes.get(name, 0)
        if name in options and not (np.ndim(options[name]) == 0 and options[name] == size):
            raise ValueError(f"{name} of {label} is {size} by its arrays, got {options[name]!r}")


def _check_shapes(label, found, twin, sizes):
    """ValueError unless a layer of these sizes has these parameters -> its bytes."""
    with _about(label):
        structure = Structure(
            twin._structure.cell, sizes["input_size"], sizes["hidden_size"],
            sizes.get("proj_size", 0), sizes["num_layers"], sizes["bias"], False,
            sizes["bidirectional"], "concat", twin.dtype,
        )  # fmt: skip
    owner = f"the parameters of {type(twin).__name__}"
    checks.same_names(label, found, structure.shapes, owner)
    for name, shape in structure.shapes.items():
        checks.shaped(f"{name} of {label}", found[name], None, shape)
    return structure.size * twin.dtype.itemsize


@contextlib.contextmanager
def _about(label):
    """Add the label to the errors of a layer's class."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{label}: {error}") from None
