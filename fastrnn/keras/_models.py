"""A model's configuration: which recurrent layers it has, where their weights are, who masks them.

It must not know: files, arrays, Keras.
"""

import re
from typing import NamedTuple

from fastrnn.keras._masks import Mask, Masks
from fastrnn.keras._nodes import Node
from fastrnn.keras._recipe import MODELS, OTHERS, RECURRENT

_MOST_MODELS_IN_MODELS = 16


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


def recurrent_layers(entry, major):
    """A list of `Found` for a serialized model.

    major : the major version of Keras, 2 or 3

    Raises
    ------
    ValueError
        For a subclassed model, layers that hide a recurrent layer, and layers that read each other.
    """
    node = Node(entry)
    if node.kind not in MODELS:
        raise node.refused(
            "must be a Sequential or Functional model: the code of a subclassed model, which says "
            "what its layers are, is not in the file"
        )
    found = []
    _walk(node, "", (), found)
    masks = Masks(major)
    masks.of_model(node, [])
    return [one._replace(mask=masks.found.get(id(one.entry))) for one in found]


def _walk(model, base, models, found):
    """Append the recurrent layers of a model to `found`, without their masks."""
    if len(models) > _MOST_MODELS_IN_MODELS:
        raise model.refused("models must not be nested more deeply than 16 times")
    counts = {}
    owner = f"in {model.where.removeprefix('in ')}, " if models else ""
    for node in model.layers(owner):
        snake = _snake_case(node.kind)
        counts[snake] = counts.get(snake, -1) + 1
        path = f"{base}layers/{snake}" + (f"_{counts[snake]}" if counts[snake] else "")
        if node.kind in MODELS:
            _walk(node, path + "/", (*models, node.name), found)
        elif node.kind in OTHERS:
            raise node.refused("fastrnn does not have this layer")
        elif node.kind in RECURRENT:
            found.append(Found(node.entry, path, models, None))
        elif "return_sequences" in node.config:
            raise node.refused(
                f"its class must be one of Keras', {', '.join(sorted(RECURRENT))}: custom classes "
                "are never loaded"
            )
        elif _hides_recurrent(node.config):
            raise node.refused("must not hold a recurrent layer: only Bidirectional may")


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
