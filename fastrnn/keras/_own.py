"""The `Recipe` of a fastrnn layer: which Keras layer has the same arithmetic.

It must not know: files, Keras.
"""

from fastrnn import checks
from fastrnn._interop.conventions import NATIVE
from fastrnn.keras._loaded import Loaded
from fastrnn.keras._recipe import CallOptions, Recipe
from fastrnn.layers import CLASSES

_CELLS = {CLASSES[cell]: cell for cell in NATIVE}


def layer_of(name, value):
    """The fastrnn layer itself, or that of a `Loaded`."""
    layer = value.layer if isinstance(value, Loaded) else value
    if type(layer) not in _CELLS:
        raise TypeError(
            f"{name} must be a fastrnn.RNN, LSTM or GRU, or a Loaded with one, "
            f"got {checks.no_layer(layer)}"
        )
    return layer


def own_recipe(name, layer):
    """The recipe of a layer; ValueError if it computes what no Keras layer does."""
    given = layer.options.non_default()
    activation = given.pop("recurrent_activation", "sigmoid")
    if layer.proj_size:
        given["proj_size"] = layer.proj_size
    if given:
        raise ValueError(f"{name} must be without {', '.join(given)}, which Keras does not have")
    if layer.bidirectional and layer.num_layers > 1:
        raise ValueError(
            f"{name} must have num_layers=1 or bidirectional=False: a Bidirectional of Keras has "
            "one cell in each direction"
        )
    cell, options = _CELLS[type(layer)], {"bias": layer.bias}
    if cell == "rnn":
        options["nonlinearity"] = layer.nonlinearity
    else:
        options["recurrent_activation"] = activation
    if cell == "gru":
        options["reset_after"] = layer.reset_after
    if layer.bidirectional:
        options["merge"] = layer.merge
    return Recipe(
        name, cell, layer.hidden_size, options, layer.dtype,
        CallOptions(True, True, layer.reverse, False, False), layer.input_size,
        layer.bidirectional, num_layers=layer.num_layers if layer.num_layers > 1 else 0,
    )  # fmt: skip
