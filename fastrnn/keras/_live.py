"""`from_keras` and `to_keras`: weights between fastrnn and live layers of Keras.

A Keras layer is whatever has get_config, get_weights and set_weights, and whose class is Keras'.

It must not know: files. It does not import Keras.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.keras._loaded import Loaded
from fastrnn.keras._own import layer_of, own_recipe
from fastrnn.keras._recipe import recipe_of
from fastrnn.keras._weights import cells_of, filled, stored_dtype

if TYPE_CHECKING:
    from typing import Any


def from_keras(keras_layer: Any) -> Loaded:
    """A fastrnn layer with the weights of a live Keras layer.

    Parameters
    ----------
    keras_layer : a built SimpleRNN, LSTM, GRU, RNN or Bidirectional of Keras 2 or 3

    Returns
    -------
    Loaded
        With copies of the weights.

    Raises
    ------
    ValueError
        For a layer that has no weights yet, and what fastrnn cannot compute, by name.
    TypeError
        For an object that is no Keras layer.

    Examples
    --------
    >>> import fastrnn.keras
    >>> loaded = fastrnn.keras.from_keras(model.get_layer("lstm"))  # doctest: +SKIP
    >>> y = loaded(x)  # doctest: +SKIP
    """
    recipe = _recipe(keras_layer)
    return Loaded(recipe, filled(recipe, _cells(recipe, keras_layer)))


def to_keras(layer: Any, keras_layer: Any) -> None:
    """Set the weights of a live Keras layer to those of a fastrnn layer.

    Where Keras has one bias it gets the sum of the layer's two.

    Parameters
    ----------
    layer : fastrnn.RNN, LSTM or GRU, or a `Loaded` with one
    keras_layer : a built layer of Keras with the same sizes and options

    Raises
    ------
    ValueError
        For layers that differ; the message says in what. The Keras layer has not changed then.
    TypeError
        For other objects.

    Examples
    --------
    >>> import fastrnn
    >>> import fastrnn.keras
    >>> layer = fastrnn.GRU(3, 5, rng=0)
    >>> fastrnn.keras.to_keras(layer, model.get_layer("gru"))  # doctest: +SKIP
    """
    layer = layer_of("layer", layer)
    mine, theirs = own_recipe("layer", layer), _recipe(keras_layer)
    if not hasattr(keras_layer, "set_weights"):
        raise TypeError("keras_layer must be a layer of Keras, which has set_weights")
    pairs = {
        "cell": (mine.cell, theirs.cell),
        "units": (mine.units, theirs.units),
        "the number of stacked cells": (max(1, mine.num_layers), max(1, theirs.num_layers)),
        "bidirectional": (mine.bidirectional, theirs.bidirectional),
        "dtype": (mine.dtype, theirs.dtype or mine.dtype),
        "go_backwards, which is reverse": (mine.call.go_backwards, theirs.call.go_backwards),
        **{key: (mine.options.get(key), theirs.options.get(key)) for key in theirs.options},
    }
    for name, (ours, wanted) in pairs.items():
        if ours != wanted:
            raise ValueError(
                f"layer and keras_layer must be alike in {name}, got {ours} and {wanted}"
            )
    arrays = [array for cell in cells_of(theirs, layer) for array in cell]
    built = [np.asarray(array) for array in keras_layer.get_weights()]
    _must_be_built(built)
    if [a.shape for a in arrays] != [b.shape for b in built]:
        raise ValueError(
            f"layer and keras_layer must have weights of the same shapes, got "
            f"{[a.shape for a in arrays]} and {[b.shape for b in built]}"
        )
    keras_layer.set_weights(arrays)


def _recipe(keras_layer):
    kind = type(keras_layer)
    if isinstance(keras_layer, type):
        raise TypeError(f"keras_layer must be a layer, got the class {keras_layer.__name__}")
    if not all(hasattr(keras_layer, name) for name in ("get_config", "get_weights")):
        raise TypeError(f"keras_layer must be a layer of Keras, got {kind.__name__}")
    if hasattr(keras_layer, "get_layer"):
        raise TypeError(
            f"keras_layer must be a recurrent layer, got a model, {kind.__name__}: take "
            "model.get_layer(name)"
        )
    package = kind.__module__.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", "3")
    major = 2 if package == "tf_keras" or version.startswith("2.") else 3
    entry = {"class_name": kind.__name__, "module": kind.__module__}
    return recipe_of(entry | {"config": keras_layer.get_config()}, major)


def _cells(recipe, keras_layer):
    """The arrays of each cell, whose shapes and dtypes are as the configuration says."""
    arrays = [np.asarray(array) for array in keras_layer.get_weights()]
    _must_be_built(arrays)
    of_cell = len(recipe.shapes(0))
    if len(arrays) != of_cell * recipe.passes:
        raise ValueError(
            f"keras_layer must have {of_cell * recipe.passes} weights, got {len(arrays)}"
        )
    cells = [arrays[at : at + of_cell] for at in range(0, len(arrays), of_cell)]
    dtype = stored_dtype(recipe, arrays[0].dtype) or arrays[0].dtype
    for index, cell in enumerate(cells):
        inputs = recipe.inputs(index, len(arrays[0]))
        for array, shape in zip(cell, recipe.shapes(inputs), strict=True):
            checks.of_dtype("a weight of keras_layer", array, dtype)
            checks.shaped("a weight of keras_layer", array, None, shape)
    return cells


def _must_be_built(arrays):
    if not arrays:
        raise ValueError("keras_layer must be built, it has no weights: call it on a batch once")
