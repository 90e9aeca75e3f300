"""Recurrent nodes of ONNX and models with them, and weights that are drawn for them."""

import warnings

import numpy as np
import onnx_oracle
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")

helper, from_array = onnx.helper, onnx.numpy_helper.from_array
FLOAT = onnx.TensorProto.FLOAT
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

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


def node_of(case, name="node"):
    """The node of a case of `onnx_oracle`."""
    names = [name if name in case.inputs else "" for name in INPUTS]
    while not names[-1]:
        names.pop()
    return helper.make_node(case.kind, names, ["Y", *case.states], name, **case.attributes)


def case_of(kind, seed=0, T=5, B=3, I=2, H=4, D=1, dtype="float32", given=(), **attributes):  # noqa: E741
    """A case of these sizes; given : the optional inputs that it has."""
    rng, gates = np.random.default_rng(seed), len(onnx_oracle.GATES[kind])
    shapes = {
        "X": (T, B, I), "W": (D, gates * H, I), "R": (D, gates * H, H), "B": (D, 2 * gates * H),
        "initial_h": (D, B, H), "initial_c": (D, B, H), "P": (D, 3 * H),
    }  # fmt: skip
    named = [name for name in shapes if name in ("X", "W", "R", *given)]
    inputs = {name: rng.uniform(-1, 1, shapes[name]).astype(dtype) for name in named}
    return onnx_oracle.Case(kind, attributes, inputs, 22)
