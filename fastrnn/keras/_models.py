"""A model's configuration: which recurrent layers it has, where their weights are, who masks them.

It must not know: files, arrays, Keras.
"""

import re
from typing import NamedTuple

from fastrnn.keras._nodes import Node
from fastrnn.keras._recipe import OTHERS, RECURRENT

_MODELS = {"Sequential", "Functional", "Model"}  # Model: Keras 2's older name of Functional
_MOST_MODELS_IN_MODELS = 16
# Keras' layers that hand on the mask of their input, beside recurrent ones.
HAND_ON = {
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "BatchNormalization",
    "Concatenate", "Dense", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
    "GroupNormalization", "Identity", "LayerNormalization", "LeakyReLU", "Maximum", "Minimum",
    "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "ReLU", "Rescaling", "Softmax",
    "SpatialDropout1D", "Subtract", "TimeDistributed", "UnitNormalization",
}  # fmt: skip


class Mask(NamedTuple):
    """The layer that makes a mask, and whether it is an Embedding with mask_zero."""

    source: str
    mask_zero: bool


class Found(NamedTuple):
    """A recurrent layer of a model.

    Attributes
    ----------
    entry : dict
        The serialized layer.
    path : str
        The group of its weights in Keras 3's files.
    models : tuple of str
        The names of the models that hold it, without the outermost.
    mask : Mask, or None where it is called without one
    """

    entry: dict
    path: str
    models: tuple
    mask: Mask | None


def recurrent_layers(entry):
    """A list of `Found` for a serialized model.

    Raises
    ------
    ValueError
        For a subclassed model, or layers that hide a recurrent layer.
    """
    node = Node(entry)
    if node.kind not in _MODELS:
        raise node.refused(
            "must be a Sequential or Functional model: the code of a subclassed model, which says "
            "what its layers are, is not in the file"
        )
    found = []
    _walk(node, "", (), {}, found)
    return found


def _walk(model, base, models, masks, found):
    """Append the recurrent layers of a model to `found`, and return the mask of its output.

    masks : name of the model's input layer, or None for the first of a Sequential -> Mask
    """
    if len(models) > _MOST_MODELS_IN_MODELS:
        raise model.refused("models must not be nested more deeply than 16 times")
    entries = model.needed("layers")
    if not isinstance(entries, list):
        raise model.refused("layers must be a list")
    sequential, counts, last = model.kind == "Sequential", {}, masks.get(None)
    masks = dict(masks)
    for entry in entries:
        node = Node(entry, f"in {model.where}, " if models else "")
        snake = _snake_case(node.kind)
        counts[snake] = counts.get(snake, -1) + 1
        path = f"{base}layers/{snake}" + (f"_{counts[snake]}" if counts[snake] else "")
        incoming = last if sequential else _incoming(node, masks)
        last = masks[node.name] = _one(node, path, models, incoming, masks, found)
    return last if sequential else _first(masks.get(name) for name in _names(model, "output"))


def _one(node, path, models, incoming, masks, found):
    """Treat one layer of a model -> the mask of its output."""
    if node.kind in _MODELS:
        inside = {None: incoming} | {name: incoming for name in _names(node, "input")}
        return _walk(node, path + "/", (*models, node.name), inside, found)
    if node.kind == "InputLayer":
        return masks.get(node.name, incoming)
    if node.kind in OTHERS:
        raise node.refused("fastrnn does not have this layer")
    if node.kind in RECURRENT:
        found.append(Found(node.entry, path, models, incoming))
        inner = node.child("layer") if node.kind == "Bidirectional" else node
        return incoming if inner.config.get("return_sequences") is True else None
    if _hides_recurrent(node.config):
        raise node.refused("must not hold a recurrent layer: only Bidirectional may")
    if node.kind == "Embedding":
        return Mask(node.name, True) if node.config.get("mask_zero") is True else None
    if node.kind == "Masking":
        return Mask(node.name, False)
    return incoming if node.kind in HAND_ON else None


def _incoming(node, masks):
    """The mask of a layer's input in a Functional model."""
    sources, explicit = _sources(node.entry.get("inbound_nodes"))
    handed = _first(masks.get(name) for name in sources)
    return handed or (Mask(explicit, False) if explicit else None)


def _sources(value):
    """The names of the layers that a layer reads, and that of the `mask` that it is called with.

    Keras 3 has them as serialized tensors, Keras 2 as lists [name, node, tensor, kwargs].
    """
    names, explicit, left = [], None, [value]
    while left:
        value = left.pop()
        name = _tensor(value)
        if name is not None:
            names.append(name)
            kwargs = value[3] if isinstance(value, list) and len(value) == 4 else None
        elif isinstance(value, dict):
            kwargs = value.get("kwargs")
            left.append(value.get("args"))
        else:
            kwargs = None
            left += value if isinstance(value, list) else []
        if isinstance(kwargs, dict):
            explicit = _tensor(kwargs.get("mask")) or explicit
    return names, explicit


def _tensor(value):
    """The name of the layer that a serialized tensor comes from; None for another value."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        value = value["config"].get("keras_history") if isinstance(value.get("config"), dict) else 0
    if isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str):
        return value[0]
    return None


def _names(model, which):
    """The names of a Functional model's input or output layers."""
    names, left = [], [model.config.get(f"{which}_layers")]
    while left:
        value = left.pop()
        if isinstance(value, list) and value and isinstance(value[0], str):
            names.append(value[0])
        elif isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
    return names


def _first(masks):
    return next((mask for mask in masks if mask is not None), None)


def _hides_recurrent(config):
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            kind = value.get("class_name")
            if isinstance(kind, str) and kind in RECURRENT | OTHERS:
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False


def _snake_case(name):
    """As keras.src.utils.naming.to_snake_case: the names of groups in Keras 3's files."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
