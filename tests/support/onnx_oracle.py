"""Random RNN, LSTM and GRU nodes, and their outputs by the equations of ONNX, in float64.

The equations are written from the specification, gate by gate in ONNX's order and row by row, and
share nothing with the package.
"""

import math
from typing import NamedTuple

import numpy as np

GATES = {"RNN": "h", "LSTM": "iofc", "GRU": "zrh"}
PLAIN = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}

# name: the function of x, alpha and beta; whether it takes alpha and beta, and their defaults.
FUNCTIONS = {
    "Relu": (lambda x, a, b: max(0.0, x), None, None),
    "Tanh": (lambda x, a, b: math.tanh(x), None, None),
    "Sigmoid": (lambda x, a, b: 0.5 * (1 + math.tanh(x / 2)), None, None),
    "Affine": (lambda x, a, b: a * x + b, math.nan, math.nan),
    "LeakyRelu": (lambda x, a, b: x if x >= 0 else a * x, 0.01, None),
    "ThresholdedRelu": (lambda x, a, b: x if x >= a else 0.0, 1.0, None),
    "ScaledTanh": (lambda x, a, b: a * math.tanh(b * x), math.nan, math.nan),
    "HardSigmoid": (lambda x, a, b: min(max(a * x + b, 0.0), 1.0), 0.2, 0.5),
    "Elu": (lambda x, a, b: x if x >= 0 else a * (math.exp(x) - 1), 1.0, None),
    "Softsign": (lambda x, a, b: x / (1 + abs(x)), None, None),
    "Softplus": (lambda x, a, b: max(x, 0) + math.log1p(math.exp(-abs(x))), None, None),
}


class Case(NamedTuple):
    """A node: its kind, attributes, inputs by ONNX's names, and opset."""

    kind: str
    attributes: dict
    inputs: dict
    opset: int

    @property
    def states(self):
        return ["Y_h", "Y_c"] if self.kind == "LSTM" else ["Y_h"]


def drawn(rng, plain=False):
    """A random case; plain : the default activations alone."""
    kind = ["RNN", "LSTM", "GRU"][rng.integers(3)]
    gates, hidden = len(GATES[kind]), int(rng.integers(1, 9))
    direction = ["forward", "reverse", "bidirectional"][rng.integers(3)]
    D = 2 if direction == "bidirectional" else 1
    T, B, I = (int(n) for n in rng.integers([3, 1, 1], [8, 6, 6]))  # noqa: E741
    dtype = ["float32", "float64"][int(rng.random() < 0.3)]
    opset = int(rng.choice([7, 14, 22]))
    attributes = {"direction": direction}
    if rng.random() < 0.8:
        attributes["hidden_size"] = hidden
    if rng.random() < 0.3:
        attributes["clip"] = float(np.float32(rng.uniform(0.2, 2)))
    layout = int(opset >= 14 and rng.random() < 0.3)
    if layout:
        attributes["layout"] = 1
    if kind == "GRU" and rng.random() < 0.5:
        attributes["linear_before_reset"] = 1
    if kind == "LSTM" and rng.random() < 0.3:
        attributes["input_forget"] = 1
    if not plain and rng.random() < 0.6:
        attributes |= activations(rng, kind, D)

    def draw(*shape):
        return rng.uniform(-1, 1, shape).astype(dtype)

    def by_layout(*shape):
        array = draw(*shape)
        return np.ascontiguousarray(array.swapaxes(0, 1)) if layout else array

    inputs = {"X": by_layout(T, B, I), "W": draw(D, gates * hidden, I)}
    inputs["R"] = draw(D, gates * hidden, hidden) / np.array(hidden, dtype) ** 0.5
    if rng.random() < 0.8:
        inputs["B"] = draw(D, 2 * gates * hidden)
    if rng.random() < 1 / 3:
        inputs["sequence_lens"] = rng.integers(0, T + 1, B).astype("int32")
    for name in ["initial_h", "initial_c"][: 2 if kind == "LSTM" else 1]:
        if rng.random() < 0.6:
            inputs[name] = by_layout(D, B, hidden)
    if kind == "LSTM" and rng.random() < 0.5:
        inputs["P"] = draw(D, 3 * hidden)
    return Case(kind, attributes, inputs, opset)


def activations(rng, kind, D):
    """Random activations: half of them those of kernels, the others any, in any place."""
    count = len(PLAIN[kind])
    names = PLAIN[kind] * D
    if rng.random() < 0.5:  # a gate of kernels, in both directions or in one
        for d in range(D):
            gate = {"RNN": "Relu"}.get(kind, "HardSigmoid")
            names[d * count] = gate if rng.random() < 0.7 else names[d * count]
    else:
        names = [str(rng.choice([*FUNCTIONS])) for _ in names]
    given = {"activations": names}
    for key, at in (("activation_alpha", 1), ("activation_beta", 2)):
        takers = [name for name in names if FUNCTIONS[name][at] is not None]
        # ONNX Runtime's ThresholdedRelu has another default than the operator of that name.
        required = [
            k
            for k, n in enumerate(takers)
            if math.isnan(FUNCTIONS[n][at]) or n == "ThresholdedRelu"
        ]
        least = max(required, default=-1) + 1
        numbers = [float(np.float32(v)) for v in rng.uniform(0.05, 0.9, len(takers))]
        numbers = numbers[: rng.integers(least, len(takers) + 1)]
        if numbers:
            given[key] = numbers
    if rng.random() < 0.3 and kind != "RNN":  # case does not count
        given["activations"] = [name.upper() for name in names]
    return given


def functions_of(case, D):
    """A list of functions for each direction."""
    given = case.attributes.get("activations", PLAIN[case.kind] * D)
    by_name = {name.lower(): of for name, of in FUNCTIONS.items()}
    alphas = list(case.attributes.get("activation_alpha", []))
    betas = list(case.attributes.get("activation_beta", []))
    found = []
    for name in given:
        function, alpha, beta = by_name[name.lower()]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        found.append(lambda x, f=function, a=alpha, b=beta: np.array([f(v, a, b) for v in x]))
    count = len(PLAIN[case.kind])
    return [found[d * count : (d + 1) * count] for d in range(D)]


def outputs_of(case):
    """Y, Y_h and, of an LSTM, Y_c by the specification's equations, in float64."""
    given = case.attributes
    direction = given.get("direction", "forward")
    D = 2 if direction == "bidirectional" else 1
    of64 = {name: np.asarray(a, "float64") for name, a in case.inputs.items()}
    layout = given.get("layout", 0)
    X = of64["X"].swapaxes(0, 1) if layout else of64["X"]
    (T, B, _), H = X.shape, of64["R"].shape[2]
    lens = case.inputs.get("sequence_lens", np.full(B, T))
    first = []
    for name in ("initial_h", "initial_c"):
        array = of64.get(name, np.zeros((B, D, H) if layout else (D, B, H)))
        first.append(array.swapaxes(0, 1) if layout else array)
    Y, last = np.zeros((T, D, B, H)), [np.zeros((D, B, H)) for _ in case.states]
    bound = given.get("clip", math.inf)
    for d, functions in enumerate(functions_of(case, D)):
        f = [lambda x, g=g: g(np.clip(x, -bound, bound)) for g in functions]
        f.append(functions[-1])  # the LSTM's h, without the clip
        W, R = of64["W"][d], of64["R"][d]
        gates = len(GATES[case.kind])
        bias = of64["B"][d] if "B" in of64 else np.zeros(2 * gates * H)
        P = of64["P"][d] if "P" in of64 else np.zeros(3 * H)
        for b in range(B):
            state = [first[k][d, b] for k in range(len(last))]
            steps = range(lens[b])
            for t in reversed(steps) if d == 1 or direction == "reverse" else steps:
                state = STEPS[case.kind](given, f, X[t, b], W, R, bias, P, *state)
                Y[t, d, b] = state[0]
            for k, part in enumerate(state):
                last[k][d, b] = part
    if layout:
        return [Y.transpose(2, 0, 1, 3), *[part.swapaxes(0, 1) for part in last]]
    return [Y, *last]


def rnn(given, f, x, W, R, bias, P, h):
    Wb, Rb = np.split(bias, 2)
    return [f[0](W @ x + R @ h + Wb + Rb)]


def lstm(given, f, x, W, R, bias, P, h, c):
    Wb, Rb = np.split(bias, 2)
    i, o, forget, g = np.split(W @ x + R @ h + Wb + Rb, 4)
    Pi, Po, Pf = np.split(P, 3)
    i = f[0](i + Pi * c)
    forget = 1 - i if given.get("input_forget") else f[0](forget + Pf * c)
    c = forget * c + i * f[1](g)
    return [f[0](o + Po * c) * f[3](c), c]


def gru(given, f, x, W, R, bias, P, h):
    (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(W, 3), np.split(R, 3)
    Wbz, Wbr, Wbh, Rbz, Rbr, Rbh = np.split(bias, 6)
    z = f[0](Wz @ x + Rz @ h + Wbz + Rbz)
    r = f[0](Wr @ x + Rr @ h + Wbr + Rbr)
    if given.get("linear_before_reset"):
        n = f[1](Wh @ x + r * (Rh @ h + Rbh) + Wbh)
    else:
        n = f[1](Wh @ x + Rh @ (r * h) + Rbh + Wbh)
    return [(1 - z) * n + z * h]


STEPS = {"RNN": rnn, "LSTM": lstm, "GRU": gru}
