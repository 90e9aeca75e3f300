"""export: a layer as a model of ONNX.

Values in the model are (T, B, ...), those between two nodes (T, B, D*H); a layer that has B first
gets a Transpose before and after.

It must not know: how nodes run, files of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import fastrnn
from fastrnn import checks
from fastrnn._files.sources import replace
from fastrnn._layer.base import Recurrent
from fastrnn.onnx._weights import GATE_ACTIVATIONS, LAYERS, parameters_of_pass, weights_of

if TYPE_CHECKING:
    import os

_OPSET, _IR_VERSION = 17, 8  # of 2022: most programs read them

_LARGEST = 2**31 - 2**20  # bytes of weights: protobuf ends at 2 GiB


def export(
    layer: fastrnn.RNN | fastrnn.LSTM | fastrnn.GRU, path: str | os.PathLike[str], *,
    lengths: bool = False, state: bool = True,
) -> None:  # fmt: skip
    """Write a layer as a model of ONNX, which runs inference as a call of the layer does.

    Parameters
    ----------
    layer : fastrnn.RNN, LSTM or GRU
        float32. Dropout is not part of it, as in a call.
    path : path
        The file is replaced completely or not at all.
    lengths : bool
        The model has an input lengths (B,), int32.
    state : bool
        The model has inputs h0 and, for an LSTM, c0: (num_layers * directions, B, H). False begins
        with zeros.

    Raises
    ------
    ValueError
        For options that ONNX does not have: layer_norm, zoneout, cell_clip, proj_size; and for 2
        GiB of weights.
    TypeError
        For another object, and for a layer that is float64, which ONNX Runtime does not compute.
    OSError
        If the file cannot be written.

    Notes
    -----
    Inputs are x, then lengths, h0 and c0; outputs y, h and, for an LSTM, c. They have the layer's
    layout, and T and B are free. merge=None gives y_forward and y_reverse in place of y. There is
    one node for each layer of a stack, of opset 17.

    Examples
    --------
    >>> import fastrnn
    >>> import fastrnn.onnx
    >>> layer = fastrnn.LSTM(3, 5, bidirectional=True, rng=0)
    >>> fastrnn.onnx.export(layer, "lstm.onnx", lengths=True)
    >>> prepared = fastrnn.onnx.prepare("lstm.onnx")
    >>> prepared.input_names, prepared.output_names
    (['x', 'lengths', 'h0', 'c0'], ['y', 'h', 'c'])
    """
    lengths, state = checks.flag("lengths", lengths), checks.flag("state", state)
    path = checks.path("path", path)
    _check(layer)
    data = _Graph(layer, lengths, state).model().SerializeToString()
    replace(path, lambda file: file.write(data))


def _check(layer):
    """Refuse what ONNX does not have."""
    if type(layer) not in LAYERS.values():
        hint = ": ONNX has no such operator" if isinstance(layer, Recurrent) else ""
        raise TypeError(
            f"layer must be a fastrnn.RNN, LSTM or GRU, got {checks.no_layer(layer)}{hint}"
        )
    if layer.dtype != np.float32:
        raise TypeError(
            f"layer must be float32, got {layer.dtype}, which ONNX Runtime does not compute: copy "
            "the parameters into a layer of float32"
        )
    refused = {
        name: getattr(layer.options, name) for name in ("layer_norm", "zoneout", "cell_clip")
    }
    refused["proj_size"] = layer.proj_size
    for name, value in refused.items():
        if value:
            raise ValueError(f"{name} must not be set, got {value}: ONNX's operators have none")
    if layer.flat.nbytes > _LARGEST:
        raise ValueError(f"the parameters must be less than 2 GiB, got {layer.flat.nbytes} bytes")


class _Graph:
    """A graph that grows node by node."""

    def __init__(self, layer, lengths, state):
        self._layer = layer
        self._kind = next(kind for kind, own in LAYERS.items() if type(layer) is own)
        self._states = ["h", "c"] if self._kind == "LSTM" else ["h"]
        self._lengths, self._state = lengths, state
        self._nodes, self._constants = [], []

    def model(self):
        """The whole model."""
        layer, last = self._layer, "x"
        if layer.batch_first:
            last = self._add("Transpose", ["x"], ["x_time_first"], perm=[1, 0, 2])
        initial = [self._parts(name + "0") for name in self._states] if self._state else []
        top = layer.num_layers - 1
        finals = [
            [name] if top == 0 else [f"{name}_l{index}" for index in range(top + 1)]
            for name in self._states
        ]
        for index in range(top + 1):
            own = [[parts[index] for parts in arrays] for arrays in (initial, finals)]
            Y = self._recurrent(index, last, *own)
            if index < top:
                last = self._side_by_side(Y, f"y_l{index}")
        outputs = self._outputs(Y)
        if top:
            for name, parts in zip(self._states, finals, strict=True):
                self._add("Concat", parts, [name], axis=0)
        graph = helper.make_graph(
            self._nodes, "fastrnn", self._inputs(), self._infos(outputs), self._constants
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION,
            producer_name="fastrnn", producer_version=fastrnn.__version__,
        )  # fmt: skip

    def _add(self, operator, inputs, outputs, name="", **attributes):
        self._nodes.append(helper.make_node(operator, inputs, outputs, name, **attributes))
        return outputs[0]

    def _constant(self, name, value):
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def _parts(self, name):
        """The initial state of each layer of the stack."""
        count, directions = self._layer.num_layers, self._layer.num_directions
        if count == 1:
            return [name]
        parts = [f"{name}_l{index}" for index in range(count)]
        sizes = self._constant(f"{name}_sizes", np.full(count, directions))
        self._add("Split", [name, sizes], parts, axis=0)
        return parts

    def _recurrent(self, index, x, initial, finals):
        """Add the node of a layer of the stack -> its Y."""
        layer, kind = self._layer, self._kind
        first = index * layer.num_directions
        directions = [parameters_of_pass(layer, first + d) for d in range(layer.num_directions)]
        weights = weights_of(kind, directions, layer.hidden_size)
        W, R, B, P = [
            "" if array is None else self._constant(f"{name}_l{index}", array)
            for name, array in zip(weights._fields, weights, strict=True)
        ]
        initial = initial or [""] * len(self._states)
        inputs = [x, W, R, B, "lengths" if self._lengths else "", *initial, P]
        while not inputs[-1]:
            inputs.pop()
        outputs, name = [f"Y_l{index}", *finals], f"{kind.lower()}_l{index}"
        return self._add(kind, inputs, outputs, name, **self._attributes())

    def _attributes(self):
        layer, kind = self._layer, self._kind
        direction = "bidirectional" if layer.bidirectional else "forward"
        direction = "reverse" if layer.reverse else direction
        given = {"hidden_size": layer.hidden_size, "direction": direction}
        options = layer.options
        if options.clip is not None:
            given["clip"] = options.clip
        if kind == "RNN":
            names = [layer.nonlinearity.capitalize()]
            return given | {"activations": names * layer.num_directions}
        if kind == "GRU":
            given["linear_before_reset"] = int(layer.reset_after)
        elif options.coupled:
            given["input_forget"] = 1
        gate, alpha, beta = GATE_ACTIVATIONS[options.recurrent_activation]
        if alpha is not None:
            names = [gate, "Tanh", "Tanh"][: 2 + (kind == "LSTM")]
            count = layer.num_directions
            given |= {"activations": names * count, "activation_alpha": [alpha] * count,
                      "activation_beta": [beta] * count}  # fmt: skip
        return given

    def _side_by_side(self, Y, name):
        """Y (T, D, B, H) as (T, B, D*H)."""
        layer = self._layer
        if layer.num_directions == 1:
            return self._add("Squeeze", [Y, self._constant(f"{name}_axis", [1])], [name])
        moved = self._add("Transpose", [Y], [f"{name}_moved"], perm=[0, 2, 1, 3])
        # 0 stands for the input's size.
        shape = self._constant(f"{name}_shape", [0, 0, 2 * layer.hidden_size])
        return self._add("Reshape", [moved, shape], [name])

    def _outputs(self, Y):
        """Add the nodes from the top layer's Y to the outputs -> name of y: its features."""
        layer, hidden = self._layer, self._layer.hidden_size
        if layer.merge is None:
            for index, name in enumerate(("y_forward", "y_reverse")):
                chosen = self._constant(f"{name}_index", np.int64(index))
                self._add("Gather", [Y, chosen], [self._before(name)], axis=1)
                self._by_batch(name)
            return {"y_forward": hidden, "y_reverse": hidden}
        features = hidden
        if layer.merge == "concat":
            self._side_by_side(Y, self._before("y"))
            features = layer.num_directions * hidden
        elif layer.merge == "sum":  # whose axes are an input from opset 13 on
            self._add("ReduceSum", [Y, self._constant("axis", [1])], [self._before("y")],
                      keepdims=0)  # fmt: skip
        else:
            operator = {"mean": "ReduceMean", "mul": "ReduceProd"}[layer.merge]
            self._add(operator, [Y], [self._before("y")], keepdims=0, axes=[1])
        self._by_batch("y")
        return {"y": features}

    def _before(self, name):
        """The name of an output before it gets the layer's layout."""
        return f"{name}_time_first" if self._layer.batch_first else name

    def _by_batch(self, name):
        """Give an output the layer's layout."""
        if self._layer.batch_first:
            self._add("Transpose", [self._before(name)], [name], perm=[1, 0, 2])

    def _info(self, name, features):
        axes = ["B", "T"] if self._layer.batch_first else ["T", "B"]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [*axes, features])

    def _state_infos(self, suffix):
        layer = self._layer
        shape = [layer.num_layers * layer.num_directions, "B", layer.hidden_size]
        return [
            helper.make_tensor_value_info(name + suffix, TensorProto.FLOAT, shape)
            for name in self._states
        ]

    def _inputs(self):
        infos = [self._info("x", self._layer.input_size)]
        if self._lengths:
            infos.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
        return infos + (self._state_infos("0") if self._state else [])

    def _infos(self, outputs):
        return [self._info(*own) for own in outputs.items()] + self._state_infos("")
