"""Models of ONNX with recurrent nodes, and weights that are drawn for them."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")

helper, from_array = onnx.helper, onnx.numpy_helper.from_array
FLOAT = onnx.TensorProto.FLOAT

T, B, I, H = 5, 4, 3, 6  # noqa: E741 - as in all the equations


def draw(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def model_of(nodes, initializers=(), inputs=("x",), outputs=("Y",), opset=17):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [from_array(array, name) for name, array in dict(initializers).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights_of(gates=4, directions=1, **options):
    """W, R and B of a node, drawn."""
    sizes = {"W": (gates * H, I), "R": (gates * H, H), "B": (2 * gates * H,)}
    return {name: draw(directions, *size, **options) for name, size in sizes.items()}


def lstm(inputs=("x", "W", "R", "B"), outputs=("Y",), name="lstm", **attributes):
    return helper.make_node("LSTM", inputs, outputs, name, hidden_size=H, **attributes)
