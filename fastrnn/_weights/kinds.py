"""The options of each class of layers.

It must not know: files, names of arrays.
"""

import inspect

# The arguments of layers that follow from the names and shapes of their parameters.
SIZES = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")


def arguments(kind):
    """The names of all arguments of a class of layers."""
    return tuple(inspect.signature(kind).parameters)


def options(kind):
    """The names of the arguments that the parameters do not tell."""
    return tuple([name for name in arguments(kind) if name not in (*SIZES, "dtype", "rng")])


def values(layer):
    """The values of a layer's `options`: name -> None, bool, number, text or list of numbers."""
    return {name: _value(layer, name) for name in options(type(layer))}


def _value(layer, name):
    value = getattr(layer, name) if hasattr(layer, name) else getattr(layer.options, name)
    if name == "zoneout":  # a number for each array of the state, or () for none
        return list(value) if len(set(value)) > 1 else max(value, default=0.0)
    return value
