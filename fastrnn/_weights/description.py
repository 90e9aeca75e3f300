"""The description of layers in a file: the cell and the options of each, as JSON.

    {"version": 1, "layers": {"encoder": {"cell": "lstm", "options": {"batch_first": true, ...}}}}

A file of one layer has the name "". Sizes are not in it, because the arrays have them. It comes
from strangers, so `checked` takes nothing that `text_of` would not write.

It must not know: files, arrays.
"""

import json
from reprlib import repr  # its texts have a bounded length
from typing import NamedTuple

from fastrnn._layer.parameters import DESCRIPTION
from fastrnn._weights import kinds
from fastrnn.checks import shown
from fastrnn.layers import CLASSES

NAME = DESCRIPTION  # of the text in a file
_VERSION = 1


class Described(NamedTuple):
    """A layer's cell, one of CLASSES, and its options: name -> value, for its class."""

    cell: str
    options: dict


def text_of(layers):
    """The JSON of a dict from names to layers."""
    cells = {kind: cell for cell, kind in CLASSES.items()}
    described = {
        name: {"cell": cells[type(layer)], "options": kinds.values(layer)}
        for name, layer in layers.items()
    }
    return json.dumps({"version": _VERSION, "layers": described})


def checked(value, names):
    """Name of a layer -> `Described`, from the object of the JSON.

    names : the names of all layers that have arrays

    Raises
    ------
    ValueError
        With a reason, for anything that `text_of` would not write.
    """
    version = value.get("version")
    if type(version) is int and version > _VERSION:
        raise ValueError(f"its version must be {_VERSION}, got {repr(version)}: update fastrnn")
    if value.keys() != {"version", "layers"} or type(version) is not int or version != _VERSION:
        raise ValueError(f"it must have version = {_VERSION} and layers alone")
    layers = value["layers"]
    if not isinstance(layers, dict) or layers.keys() != set(names):
        described = list(layers) if isinstance(layers, dict) else layers
        raise ValueError(
            f"it must describe the layers {repr(list(names))}, which have arrays, got "
            f"{repr(described)}"
        )
    return {name: _checked_layer(name, layer) for name, layer in layers.items()}


def _checked_layer(name, layer):
    if not isinstance(layer, dict) or layer.keys() != {"cell", "options"}:
        raise ValueError(f"of the layer {shown(name)!r} it must have cell and options alone")
    cell, options = layer["cell"], layer["options"]
    if not isinstance(cell, str) or cell not in CLASSES:
        raise ValueError(f"cell must be one of {', '.join(CLASSES)}, got {repr(cell)}")
    known = kinds.options(CLASSES[cell])
    if not isinstance(options, dict) or not options.keys() <= set(known):
        unknown = options.keys() - set(known) if isinstance(options, dict) else {"no object"}
        raise ValueError(
            f"options of {cell} must be among {', '.join(known)}, got {shown(min(unknown))}: a "
            "later fastrnn may know it"
        )
    for option, setting in options.items():
        if not _plain(setting):
            raise ValueError(f"{option} cannot be {repr(setting)}")
    return Described(cell, options)


def _plain(value):
    """Return whether the value is of a kind and size that options have."""
    if isinstance(value, list):
        return len(value) <= 2 and all(type(n) is float or _is_int(n) for n in value)
    if isinstance(value, str):
        return len(value) < 100
    return value is None or isinstance(value, bool | float) or _is_int(value)


def _is_int(value):
    return type(value) is int and abs(value) < 2**63
