"""load: the recurrent nodes of a model as layers.

It must not know: how nodes run, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import AttributeProto

from fastrnn.checks import shown
from fastrnn.onnx._model import Constants, read
from fastrnn.onnx._operator import input_names, is_recurrent, operator_of
from fastrnn.onnx._weights import Weights, checked_weights, layer_of, options_of

if TYPE_CHECKING:
    import os

    from onnx import ModelProto

    from fastrnn.layers import GRU, LSTM, RNN

_LAYER = 2**13  # bytes of a layer besides its parameters


def load(model: ModelProto | bytes | str | os.PathLike[str]) -> dict[str, RNN | LSTM | GRU]:
    """Read the recurrent nodes of a model as layers.

    There is one layer for each node. Programs write a node for each layer of a stack: PyTorch's
    ``nn.LSTM(num_layers=2)`` becomes two layers, the second of which reads the y of the first. A
    node with layout=0 becomes a layer whose x is (T, B, I), whatever Transposes the model has
    around it; layout=1 is batch_first=True. Direction reverse is reverse=True. Nodes in the
    branches and bodies of If, Loop and Scan count too.

    The file may come from anybody: nothing in it is run, and external data is read only from files
    beside it.

    Parameters
    ----------
    model : path, onnx.ModelProto, or its bytes
        Weights are initializers, or follow from them by operators that move numbers.

    Returns
    -------
    dict
        The name of the node, or of its first output if the node has none -> a layer, in the order
        of the file.

    Raises
    ------
    ValueError
        For a file that is no model; for one without recurrent nodes, as exporters write that
        unroll them; for weights that are not constant, and for activations that fastrnn's layers
        do not have. The message names the node.
    TypeError
        For weights that are neither float32 nor float64.
    OSError
        As for `open`.

    Examples
    --------
    >>> import fastrnn
    >>> import fastrnn.onnx
    >>> fastrnn.onnx.export(fastrnn.LSTM(3, 5, num_layers=2, rng=0), "lstm.onnx")
    >>> layers = fastrnn.onnx.load("lstm.onnx")
    >>> list(layers)
    ['lstm_l0', 'lstm_l1']
    """
    model, layers = read(model), {}
    for node, constants in _nodes(model, model.proto.graph, None):
        names = [name for name in (node.name, *node.output) if name and name not in layers]
        if not names or not isinstance(names[0], str):  # a text that is no UTF-8 comes as bytes
            raise ValueError(
                f"a node must have a name of its own, in UTF-8, or an output with one, got "
                f"{shown(node.name)!r}"
            )
        layers[names[0]] = _layer(node, constants, model)
    for function in model.proto.functions:
        if any(is_recurrent(node) for node in function.node):
            raise ValueError(
                f"the model has recurrent nodes in its function {shown(function.name)!r}: load "
                "onnx.inliner.inline_local_functions(model)"
            )
    if not layers:
        raise ValueError(
            "the model has no RNN, LSTM or GRU node. Some exporters write the steps one by one, or "
            "a loop, as torch.onnx.export does with dynamo=True for nn.RNN and for cells: export "
            "nn.RNN with dynamo=False, and nn.LSTM or nn.GRU in place of cells"
        )
    return layers


def _nodes(model, graph, outer):
    """The recurrent nodes of a graph and of those within it, each with its `Constants`."""
    constants = Constants(model, graph, outer)
    for node in graph.node:
        if is_recurrent(node):
            yield node, constants
        for attribute in node.attribute:
            inner = attribute.graphs
            if attribute.type == AttributeProto.GRAPH:
                inner = [attribute.g]
            for own in inner:
                yield from _nodes(model, own, constants)


def _layer(node, constants, model):
    operator, names = operator_of(node, model.opset), input_names(node)
    arrays = []
    for name in Weights._fields:
        array = constants.get(names[name]) if name in names else None
        if array is None and name in names:
            raise ValueError(
                f"{name} of {operator.label} must be constant: {constants.why_not(names[name])}"
            )
        arrays.append(array)
    weights = checked_weights(operator, Weights(*arrays))
    model.source.spend(_LAYER + sum(array.nbytes for array in weights if array is not None))
    indices = range(operator.num_directions)
    options = [options_of(operator, index, weights.P is not None) for index in indices]
    if None in options or options[0] != options[-1]:
        got = ", ".join([function.name for of_one in operator.activations for function in of_one])
        raise ValueError(
            f"{operator.label} must have activations of a layer of fastrnn, the same in both "
            f"directions, got {got}: fastrnn.onnx.run_node computes them"
        )
    return layer_of(operator, weights, options[0], indices)
