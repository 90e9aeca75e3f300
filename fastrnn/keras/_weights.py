"""Weights of a Keras layer to and from the parameters of a fastrnn layer.

A cell of Keras has a kernel (I, G*H), a recurrent kernel (H, G*H) and perhaps a bias (G*H,), which
is (2, G*H) for a GRU with reset_after. `conventions.KERAS` has the order of gates.

It must not know: files, configurations.
"""

import numpy as np

from fastrnn._interop.conventions import KERAS, joined_biases, split_biases


def params_of(recipe, layer, cells):
    """Names of parameters -> new arrays for a layer, from the weights of Keras' cells in order."""
    names = [layer._structure.names(slot) for slot in range(recipe.passes)]
    return {
        named[kind]: array
        for named, arrays in zip(names, cells, strict=True)
        for kind, array in _native(recipe, arrays).items()
    }


def stored_dtype(recipe, found):
    """The dtype that a layer's arrays must have, by that of the first.

    It is the layer's own, or float32 for float64: Keras has no float64 with JAX, and not all of it
    with NumPy, and stores what it has.
    """
    narrow = recipe.dtype == np.float64 and found == np.float32
    return np.dtype(np.float32) if narrow else recipe.dtype


def filled(recipe, cells):
    """A new fastrnn layer with the weights of Keras' cells in order."""
    dtype = recipe.dtype or cells[0][0].dtype
    layer = recipe.new_layer(len(cells[0][0]), dtype)
    params = params_of(recipe, layer, cells)
    layer.load({name: array.astype(dtype, copy=False) for name, array in params.items()})
    return layer


def cells_of(recipe, layer):
    """The weights of Keras' cells, in order, from a layer's parameters; all are copies."""
    names = [layer._structure.names(slot) for slot in range(recipe.passes)]
    return [_keras(recipe, {k: layer.params[n] for k, n in named.items()}) for named in names]


def _native(recipe, arrays):
    kernel, recurrent, *bias = arrays
    found = {
        "weight_ih": KERAS.to_native(recipe.cell, kernel),
        "weight_hh": KERAS.to_native(recipe.cell, recurrent),
    }
    if bias:
        reset_after = recipe.options.get("reset_after", False)
        if reset_after:
            pair = [KERAS.to_native(recipe.cell, row) for row in bias[0]]
        else:
            pair = split_biases(recipe.cell, KERAS.to_native(recipe.cell, bias[0]), reset_after)
        found |= dict(zip(("bias_ih", "bias_hh"), pair, strict=True))
    return found


def _keras(recipe, params):
    found = [KERAS.from_native(recipe.cell, params[k]) for k in ("weight_ih", "weight_hh")]
    if recipe.options["bias"]:
        reset_after = recipe.options.get("reset_after", False)
        pair = params["bias_ih"], params["bias_hh"]
        if reset_after:
            found.append(np.stack([KERAS.from_native(recipe.cell, one) for one in pair]))
        else:
            joined = joined_biases(recipe.cell, *pair, reset_after)
            found.append(KERAS.from_native(recipe.cell, joined))
    return found
