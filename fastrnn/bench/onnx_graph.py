"""A case as an ONNX model of LSTM, GRU or RNN operators, one per layer, float32, static shapes.

Inputs x (T, B, I) and, for a stream, h0 (and c0); outputs y (T, B, H * directions), h (and c),
the states (layers * directions, B, H).
"""

from __future__ import annotations

import numpy as np

from fastrnn._interop.conventions import ONNX
from fastrnn.bench.cases import Case, suffixes

OPERATOR = {"lstm": "LSTM", "gru": "GRU", "gru-before": "GRU", "rnn": "RNN"}


def state_names(cell: str) -> list[str]:
    return ["h", "c"] if cell == "lstm" else ["h"]


def input_names(case: Case, cell: str) -> list[str]:
    return ["x", *(name + "0" for name in state_names(cell) if case.stream)]


def output_names(cell: str) -> list[str]:
    return ["y", *state_names(cell)]


def make_model(case: Case, cell: str, weights: dict) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], []

    def constant(name: str, value) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def stacked(name: str, layer: int) -> np.ndarray:
        """(directions, G*H, ...) with the gates in ONNX's order."""
        values = [weights[name + suffix] for suffix in suffixes(layer, case.directions)]
        return np.stack([ONNX.from_native(OPERATOR[cell].lower(), value) for value in values])

    direction = "forward" if case.directions == 1 else "bidirectional"
    options = {"hidden_size": case.H, "direction": direction}
    if OPERATOR[cell] == "GRU":
        options["linear_before_reset"] = int(cell == "gru")
    previous, states = "x", state_names(cell)
    for layer in range(case.layers):
        bias = np.concatenate([stacked("bias_ih", layer), stacked("bias_hh", layer)], axis=1)
        inputs = [
            previous,
            constant(f"W{layer}", stacked("weight_ih", layer)),
            constant(f"R{layer}", stacked("weight_hh", layer)),
            constant(f"B{layer}", bias),
        ]
        if case.stream:  # one layer; the empty name stands for the lengths
            inputs += ["", *(state + "0" for state in states)]
        own = [f"{state}_{layer}" if case.layers > 1 else state for state in states]
        outputs = [f"Y{layer}", *own]
        nodes.append(helper.make_node(OPERATOR[cell], inputs, outputs, **options))
        previous = "y" if layer == case.layers - 1 else f"y{layer}"
        if case.directions == 1:
            axis = constant(f"axis{layer}", np.array([1]))
            nodes.append(helper.make_node("Squeeze", [f"Y{layer}", axis], [previous]))
        else:
            shape = constant(f"shape{layer}", np.array([case.T, case.B, 2 * case.H]))
            Y, Z = [f"Y{layer}"], f"Z{layer}"
            nodes.append(helper.make_node("Transpose", Y, [Z], perm=(0, 2, 1, 3)))
            nodes.append(helper.make_node("Reshape", [Z, shape], [previous]))
    if case.layers > 1:
        for state in states:
            parts = [f"{state}_{layer}" for layer in range(case.layers)]
            nodes.append(helper.make_node("Concat", parts, [state], axis=0))

    def value(name: str):
        state = (case.layers * case.directions, case.B, case.H)
        shapes = {"x": (case.T, case.B, case.I), "y": (case.T, case.B, case.directions * case.H)}
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, state))

    graph = helper.make_graph(
        nodes,
        case.name,
        [value(n) for n in input_names(case, cell)],
        [value(n) for n in output_names(cell)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()
