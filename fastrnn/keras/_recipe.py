"""A Keras layer's configuration, read into a `Recipe`, from which a fastrnn layer is made.

A configuration is a tree of dicts from JSON. Its names are compared with lists of names; nothing of
it is imported or evaluated. Layers that fastrnn cannot compute are refused by name.

It must not know: files, arrays, Keras.
"""

from typing import NamedTuple

import numpy as np

from fastrnn._interop.conventions import NATIVE
from fastrnn._layer import initializers
from fastrnn.checks import shown
from fastrnn.keras._nodes import Node
from fastrnn.layers import CLASSES

LAYERS = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
CELLS = {"SimpleRNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru"}
RECURRENT = {*LAYERS, "RNN", "Bidirectional"}
MODELS = {"Sequential", "Functional", "Model"}  # Model: Keras 2's older name of Functional
# Recurrent layers that fastrnn does not have.
OTHERS = {"CuDNNGRU", "CuDNNLSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}
_MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul", None: None}
_MOST_UNITS = 2**31
# By the version of Keras: clip(0.2 p + 0.5, 0, 1) in Keras 2, clip(p/6 + 0.5, 0, 1) in Keras 3.
_HARD_SIGMOIDS = {2: "hard_sigmoid_onnx", 3: "hard_sigmoid"}


class CallOptions(NamedTuple):
    """The options of a Keras layer that act in a call, around its arithmetic; Keras' names."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool


class Recipe(NamedTuple):
    """The properties of a Keras layer that fastrnn needs.

    Attributes
    ----------
    name : str
    cell : "rnn", "lstm" or "gru"
    units : int
    options : dict
        Arguments of fastrnn.RNN, LSTM or GRU.
    dtype : numpy.dtype, or None if the configuration has none
    call : CallOptions
    input_size : int, or None if the configuration does not say it
    bidirectional : bool
    num_layers : int
        The number of stacked cells; 0 if the layer's cell is not a `StackedRNNCells`.
    cell_names : tuple of str
        The names of the stacked cells, or of the two layers of a Bidirectional that has a
        backward_layer.
    dropout, recurrent_dropout : float
        Keras' own, which act in training.
    """

    name: str
    cell: str
    units: int
    options: dict
    dtype: np.dtype | None
    call: CallOptions
    input_size: int | None = None
    bidirectional: bool = False
    num_layers: int = 0
    cell_names: tuple = ()
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def passes(self):
        """The number of cells that have weights of their own."""
        return 2 if self.bidirectional else max(1, self.num_layers)

    def inputs(self, index, input_size):
        """The number of features that a cell reads."""
        return self.units if index and not self.bidirectional else input_size

    def shapes(self, inputs):
        """Keras' shapes of a cell's weights: kernel, recurrent kernel and, with one, the bias."""
        width = len(NATIVE[self.cell]) * self.units
        shapes = [(inputs, width), (self.units, width)]
        if self.options["bias"]:
            two = self.options.get("reset_after", False)
            shapes.append((2, width) if two else (width,))
        return shapes

    def new_layer(self, input_size, dtype):
        """A fastrnn layer with these options; its weights are still to be set."""
        kind = CLASSES[self.cell]
        with initializers.skipped():
            return kind(
                input_size, self.units, max(1, self.num_layers), batch_first=True, dtype=dtype,
                bidirectional=self.bidirectional, reverse=self.call.go_backwards, rng=0,
                **self.options,
            )  # fmt: skip


def recipe_of(entry, major):
    """The `Recipe` of a serialized layer: a dict with class_name and config.

    major : the major version of Keras, 2 or 3

    Raises
    ------
    ValueError
        For a layer that fastrnn cannot compute, or a broken configuration.
    """
    node = Node(entry)
    node.must_be_keras()
    if not node.name:
        raise node.refused("its configuration must have a name, a text")
    if node.kind == "Bidirectional":
        return _bidirectional(node, major)
    if node.kind == "RNN":
        return _of_cells(node, major)
    return _one(node, node, LAYERS, major)


def _one(node, settings, kinds, major):
    """The recipe of one cell's settings; node has the settings of the call.

    kinds : the known class names -> the cell
    """
    if settings.kind not in kinds:
        raise settings.refused(f"its class must be one of {', '.join(kinds)}")
    cell = kinds[settings.kind]
    options = {"bias": settings.flag("use_bias")}
    if cell == "rnn":
        known = {"tanh": "tanh", "relu": "relu"}
        options["nonlinearity"] = settings.activation("activation", known)
    else:
        settings.activation("activation", {"tanh": "tanh"})
        known = {"sigmoid": "sigmoid", "hard_sigmoid": _HARD_SIGMOIDS[major]}
        options["recurrent_activation"] = settings.activation("recurrent_activation", known)
    if cell == "gru":
        options["reset_after"] = settings.flag("reset_after")
    return Recipe(
        node.name, cell, _units(settings), options, _dtype(node, settings), _call(node),
        input_size=_input_size(node), dropout=settings.rate("dropout"),
        recurrent_dropout=settings.rate("recurrent_dropout"),
    )  # fmt: skip


def _of_cells(node, major):
    """The recipe of a layer RNN(cell), where the cell may be `StackedRNNCells`."""
    cell = node.child("cell")
    cell.must_be_keras()
    if cell.kind != "StackedRNNCells":
        return _one(node, cell, CELLS, major)
    cell.only("reverse_state_order", False, "fastrnn has the states from below")
    entries = cell.needed("cells")
    if not isinstance(entries, list) or not entries:
        raise cell.refused("cells must be a list of at least one cell")
    cells = [Node(entry, f"cell of {node.where}, ") for entry in entries]
    for one in cells:
        one.must_be_keras()
    _dtype(node, cell)
    made = [_one(node, one, CELLS, major) for one in cells]
    for one, recipe in zip(cells, made, strict=True):
        if _arithmetic(recipe) != _arithmetic(made[0]):
            raise one.refused("stacked cells must all be alike: fastrnn has one size and kind")
    names = tuple([one.name for one in cells])
    return made[0]._replace(num_layers=len(cells), cell_names=names)


def _bidirectional(node, major):
    forward = _of_direction(node.child("layer"), major)
    backward, names = node.config.get("backward_layer"), ()
    if backward is not None:
        backward = _of_direction(Node(backward, f"backward_layer of {node.where}, "), major)
        if _arithmetic(backward) != _arithmetic(forward):
            raise node.refused("its two layers must be alike: fastrnn has one size and kind")
        if not backward.call.go_backwards:
            raise node.refused("backward_layer must have go_backwards=True, and layer False")
        names = (forward.name, backward.name)
    if forward.call.go_backwards:
        raise node.refused("layer must have go_backwards=False, and backward_layer True")
    merge = node.needed("merge_mode")
    if not (merge is None or isinstance(merge, str)) or merge not in _MERGES:
        raise node.refused(f"merge_mode is unknown: {shown(repr(merge))}")
    # Keras sets zero_output_for_mask of the two layers itself, whatever they say.
    call = forward.call._replace(zero_output_for_mask=forward.call.return_sequences)
    return forward._replace(
        name=node.name, bidirectional=True, call=call, input_size=_input_size(node),
        options=forward.options | {"merge": _MERGES[merge]}, cell_names=names,
    )  # fmt: skip


def _of_direction(node, major):
    node.must_be_keras()
    if node.kind == "RNN":
        recipe = _of_cells(node, major)
        if recipe.num_layers:
            raise node.refused("stacked cells must not be in a Bidirectional: use one cell")
        return recipe
    return _one(node, node, LAYERS, major)


def _arithmetic(recipe):
    call = recipe.call._replace(go_backwards=False)
    return recipe.cell, recipe.units, recipe.options, recipe.dtype, call


def _units(node):
    units = node.needed("units")
    if isinstance(units, bool) or not isinstance(units, int) or not 0 < units < _MOST_UNITS:
        raise node.refused(f"units must be a positive integer, got {shown(repr(units))}")
    return units


def _call(node):
    node.only("time_major", False, "transpose x and leave it out")
    node.only("num_constants", None, "fastrnn has no constants")
    return CallOptions(
        node.flag("return_sequences"),
        node.flag("return_state", False),
        node.flag("go_backwards", False),
        node.flag("stateful", False),
        node.flag("zero_output_for_mask", False),
    )


def _dtype(node, cell):
    """The dtype of weights and results, or None. A policy of two dtypes is refused."""
    found = set()
    for one in (node, cell):
        value = one.config.get("dtype")
        if isinstance(value, dict):  # a serialized policy
            value = value["config"].get("name") if isinstance(value.get("config"), dict) else value
        if value is None:
            continue
        if value not in ("float32", "float64"):
            raise one.refused(f"dtype must be float32 or float64, got {shown(repr(value))}")
        found.add(np.dtype(value))
    if len(found) > 1:
        raise cell.refused("its dtype must be that of its layer")
    return found.pop() if found else None


def _input_size(node):
    """The features of x, if the file says them."""
    build = node.entry.get("build_config")
    shape = build.get("input_shape") if isinstance(build, dict) else None
    size = shape[-1] if isinstance(shape, list) and len(shape) == 3 else None
    return size if isinstance(size, int) and not isinstance(size, bool) else None
