"""A case as a LiteRT model: one layer, one direction, float32, its steps written out one by one.

LiteRT's fast path (XNNPACK) has no recurrent operator, so a step is products and pointwise
operators, as converters write it. Inputs x (T, B, I), h0 and for the LSTM c0, each (1, B, H);
outputs y (T, B, H), h (and c). The schema's classes come with the package.
"""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fastrnn.bench.cases import GATES, Case

NOTHING = -1  # an operator's input that is left out


class Graph:
    """Tensors are numbers; each method adds an operator and returns its outputs."""

    def __init__(self):
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [schema.BufferT()]  # the first one is empty: the buffer of what is computed

    def tensor(self, shape, name: str, value: np.ndarray | None = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.name, tensor.buffer = list(shape), name, 0
        is_integer = value is not None and value.dtype == np.int32
        tensor.type = schema.TensorType.INT32 if is_integer else schema.TensorType.FLOAT32
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, value) -> int:
        value = np.asarray(value)
        return self.tensor(value.shape, name, value)

    def add(self, kind: str, inputs, shapes, options=None) -> list[int]:
        """An operator of a kind of the schema's BuiltinOperator, with its options."""
        code = getattr(schema.BuiltinOperator, kind)
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self.codes.index(code), list(inputs)
        count = len(self.operators)
        operator.outputs = [self.tensor(s, f"{kind}{count}_{n}") for n, s in enumerate(shapes)]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self.operators.append(operator)
        return operator.outputs

    def shape(self, tensor: int) -> list[int]:
        return self.tensors[tensor].shape

    def pointwise(self, kind: str, *inputs: int) -> int:
        options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}
        made = options[kind]() if kind in options else None
        return self.add(kind, inputs, [self.shape(inputs[0])], made)[0]

    def product(self, x: int, weight: int, bias: int = NOTHING) -> int:
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        shape = [*self.shape(x)[:2], self.shape(weight)[0]]
        return self.add("FULLY_CONNECTED", [x, weight, bias], [shape], options)[0]

    def split(self, x: int, axis: int, count: int) -> list[int]:
        if count == 1:
            return [x]
        options, shape = schema.SplitOptionsT(), list(self.shape(x))
        options.numSplits, shape[axis] = count, shape[axis] // count
        where = self.constant(f"axis{len(self.tensors)}", np.int32(axis))
        return self.add("SPLIT", [where, x], [shape] * count, options)

    def joined(self, parts: list[int], axis: int) -> int:
        if len(parts) == 1:
            return parts[0]
        options, shape = schema.ConcatenationOptionsT(), list(self.shape(parts[0]))
        options.axis, shape[axis] = axis, sum(self.shape(part)[axis] for part in parts)
        return self.add("CONCATENATION", parts, [shape], options)[0]

    def serialised(self, inputs: list[int], outputs: list[int]) -> bytes:
        part, model = schema.SubGraphT(), schema.ModelT()
        part.tensors, part.operators = self.tensors, self.operators
        part.inputs, part.outputs = inputs, outputs
        model.version, model.subgraphs, model.buffers = 3, [part], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 5 if code == schema.BuiltinOperator.FULLY_CONNECTED else 1
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _lstm_step(graph: Graph, weights: dict, x: int, state: list[int]) -> list[int]:
    h, c = state
    a = graph.product(graph.joined([x, h], 2), weights["both"], weights["bias"])
    i, f, g, o = graph.split(a, 2, 4)
    kept = graph.pointwise("MUL", graph.pointwise("LOGISTIC", f), c)
    new = graph.pointwise("MUL", graph.pointwise("LOGISTIC", i), graph.pointwise("TANH", g))
    c = graph.pointwise("ADD", kept, new)
    h = graph.pointwise("MUL", graph.pointwise("LOGISTIC", o), graph.pointwise("TANH", c))
    return [h, c]


def _gru_step(graph: Graph, weights: dict, x: int, state: list[int]) -> list[int]:
    (h,) = state
    a = graph.product(x, weights["ih"], weights["bias_ih"])
    b = graph.product(h, weights["hh"], weights["bias_hh"])
    (ar, az, an), (br, bz, bn) = graph.split(a, 2, 3), graph.split(b, 2, 3)
    r = graph.pointwise("LOGISTIC", graph.pointwise("ADD", ar, br))
    z = graph.pointwise("LOGISTIC", graph.pointwise("ADD", az, bz))
    n = graph.pointwise("TANH", graph.pointwise("ADD", an, graph.pointwise("MUL", r, bn)))
    return [graph.pointwise("ADD", n, graph.pointwise("MUL", z, graph.pointwise("SUB", h, n)))]


def _rnn_step(graph: Graph, weights: dict, x: int, state: list[int]) -> list[int]:
    joined = graph.joined([x, state[0]], 2)
    return [graph.pointwise("TANH", graph.product(joined, weights["both"], weights["bias"]))]


_STEPS = {"lstm": _lstm_step, "gru": _gru_step, "rnn": _rnn_step}
CELLS = tuple(_STEPS)


def make_model(case: Case, cell: str, weights: dict) -> bytes:
    graph, H = Graph(), case.H
    assert GATES[cell] * H == len(weights["bias_ih_l0"])
    if cell == "gru":
        constants = {
            "ih": weights["weight_ih_l0"],
            "hh": weights["weight_hh_l0"],
            "bias_ih": weights["bias_ih_l0"],
            "bias_hh": weights["bias_hh_l0"],
        }
    else:
        constants = {
            "both": np.concatenate([weights["weight_ih_l0"], weights["weight_hh_l0"]], axis=1),
            "bias": weights["bias_ih_l0"] + weights["bias_hh_l0"],
        }
    numbers = {name: graph.constant(name, value) for name, value in constants.items()}
    x = graph.tensor((case.T, case.B, case.I), "x")
    names = ("h0", "c0") if cell == "lstm" else ("h0",)
    first = [graph.tensor((1, case.B, H), name) for name in names]
    state, rows = first, []
    for x_t in graph.split(x, 0, case.T):
        state = _STEPS[cell](graph, numbers, x_t, state)
        rows.append(state[0])
    outputs = [graph.joined(rows, 0), *state] if case.T > 1 else state
    return graph.serialised([x, *first], outputs)
