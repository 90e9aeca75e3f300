"""`load` and `load_weights`: layers and weights from files that Keras wrote.

It must not know: Keras.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastrnn.checks import shown
from fastrnn.keras._files import opened
from fastrnn.keras._loaded import Loaded
from fastrnn.keras._models import recurrent_layers
from fastrnn.keras._own import layer_of, own_recipe
from fastrnn.keras._places import OLDER_LAYERS, named, numbered
from fastrnn.keras._recipe import recipe_of
from fastrnn.keras._weights import filled, params_of, stored_dtype

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any


def load(path: str | PathLike[str]) -> dict[str, Loaded]:
    """The recurrent layers of a Keras model, by name, without Keras.

    Parameters
    ----------
    path : str or path
        A .keras file, or a whole model in an .h5 of the older format, which Keras 2 wrote too.

    Returns
    -------
    dict
        Name -> `Loaded`, in the order of the file. A layer of a model within the model has the
        names of both: "encoder/lstm". Layers that are not recurrent are left out.

    Raises
    ------
    ValueError
        For a file that cannot be read, a model without recurrent layers, and what fastrnn cannot
        compute, by name. Nothing of the file is executed.
    OSError
        As for `open`.
    ImportError
        If h5py is not installed.

    See Also
    --------
    load_weights : weights into given layers, from a .weights.h5.

    Examples
    --------
    >>> import fastrnn.keras
    >>> layers = fastrnn.keras.load("model.keras")  # doctest: +SKIP
    >>> y = layers["lstm"](x)  # doctest: +SKIP
    """
    with opened(path) as file:
        if file.config is None:
            raise file.refused(
                "it has weights alone, without a configuration: use load_weights(path, "
                "{name: layer})"
            )
        with _in_words(file):
            found = recurrent_layers(file.config, file.major)
            recipes = [recipe_of(one.entry, file.major) for one in found]
        names = [
            "/".join([*one.models, recipe.name]) for one, recipe in zip(found, recipes, strict=True)
        ]
        if not found:
            raise file.refused("its model has no recurrent layer")
        if len(set(names)) < len(names):
            raise file.refused("two of its recurrent layers have the same name")
        return {
            name: _loaded(file, one, recipe)
            for name, one, recipe in zip(names, found, recipes, strict=True)
        }


def load_weights(path: str | PathLike[str], layers: Mapping[str, Any]) -> None:
    """Set the weights of fastrnn layers from a file that has weights and no configuration.

    Parameters
    ----------
    path : str or path
        A .weights.h5 of Keras 3, or an .h5 of `save_weights` of Keras 2.
    layers : dict
        Name of a layer in the Keras model -> a fastrnn.RNN, LSTM or GRU, which must be as the Keras
        layer: several cells in a StackedRNNCells are num_layers, a Bidirectional is bidirectional.
        A name with a slash is the path of its group in the file, such as
        "layers/functional/layers/lstm" for a layer of a model within the model. Files of the first
        versions of Keras 3 have no other names.

    Raises
    ------
    ValueError, TypeError
        For a file that cannot be read, and weights that do not fit the layers. No layer has changed
        then.
    OSError
        As for `open`.
    ImportError
        If h5py is not installed.

    Examples
    --------
    >>> import fastrnn
    >>> import fastrnn.keras
    >>> layer = fastrnn.LSTM(3, 5, batch_first=True)
    >>> fastrnn.keras.load_weights("my.weights.h5", {"lstm": layer})  # doctest: +SKIP
    """
    if not isinstance(layers, Mapping):
        raise TypeError(f"layers must be a dict from names to layers, got {type(layers).__name__}")
    given = {name: layer_of(f"layers[{name!r}]", layer) for name, layer in layers.items()}
    recipes = {name: own_recipe(f"layers[{name!r}]", given[name]) for name in given}
    with opened(path) as file:
        if file.config is not None:
            raise file.refused("it has a whole model: use load(path)")
        new = {}
        for name, layer in given.items():
            cells = _read(file, recipes[name], _alone(file, name, recipes[name]))
            new[name] = params_of(recipes[name], layer, cells)
    for name, params in new.items():
        for key, array in params.items():
            given[name].params[key] = array


def _loaded(file, found, recipe):
    """The `Loaded` of a layer; its arrays are read once their shapes are known to fit."""
    if file.zipped:
        said = file.h5.text(f"{found.path}/vars", "name")
        if said not in (None, recipe.name):
            raise file.refused(f"it has the weights of {shown(said)}", found.path)
        paths = numbered(file.h5, recipe, found.path, file.refused)
    else:
        group = f"model_weights/{(*found.models, recipe.name)[0]}"
        paths = named(file.h5, recipe, group, bool(found.models), file.refused)
    stored = stored_dtype(recipe, file.h5.dtype(paths[0][0]))
    cells = _read(file, recipe._replace(dtype=stored), paths)
    return Loaded(recipe, filled(recipe, cells), found.mask)


def _read(file, recipe, paths):
    """The arrays of each cell. All must have one dtype, and the shapes that the recipe says."""
    inputs, dtype, cells = recipe.input_size, recipe.dtype, []
    if inputs is None:
        shape = file.h5.shape(paths[0][0])
        inputs = shape[0] if len(shape) == 2 else 0
    for index, of_cell in enumerate(paths):
        shapes, arrays = recipe.shapes(recipe.inputs(index, inputs)), []
        for path, shape in zip(of_cell, shapes, strict=True):
            arrays.append(file.h5.array(path, shape, dtype))
            dtype = arrays[-1].dtype
        cells.append(arrays)
    return cells


def _alone(file, name, recipe):
    """The paths of a layer's arrays in a file without a configuration."""
    h5 = file.h5
    if h5.group("layers") is None and h5.group(OLDER_LAYERS) is None:
        return named(h5, recipe, name, False, file.refused)
    base = name
    if "/" not in name:
        recorded = {h5.text(f"layers/{one}/vars", "name"): one for one in h5.names("layers")}
        recorded.pop(None, None)
        if recorded and name not in recorded:
            raise file.refused(f"it has no layer {shown(name)}, but {shown(', '.join(recorded))}")
        base = f"layers/{recorded.get(name, name)}"
    if not recipe.num_layers and h5.group(f"{base}/cell/cells") is not None:
        recipe = recipe._replace(num_layers=1)  # one cell in a StackedRNNCells
    return numbered(h5, recipe, base, file.refused)


@contextlib.contextmanager
def _in_words(file):
    """Give the file's name to ValueErrors about its configuration."""
    try:
        yield
    except ValueError as error:
        raise file.refused(str(error)) from None
