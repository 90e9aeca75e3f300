"""The recurrent operators in NumPy, step by step, with any of ONNX's activations.

The equations are those of the operators of ONNX, opset 22; clip bounds each pre-activation, as in
ONNX Runtime. Parameters have fastrnn's order of gates: i f g o and r z n.

It must not know: kernels, layers, nodes' inputs.
"""

from __future__ import annotations

import numpy as np


def run(operator, activations, parameters, reverse, x, lengths, state):
    """One direction -> y (T, B, H) and the final state, a tuple of (B, H) arrays.

    parameters : as `parameters_of` returns them. lengths : (B,) integers, or None.
    state : a tuple of (B, H) arrays.
    """
    step = _STEPS[operator.kind]
    hidden = parameters["weight_hh"].shape[1]
    zeros = np.zeros(len(parameters["weight_hh"]), x.dtype)
    parameters = {"bias_ih": zeros, "bias_hh": zeros} | parameters
    bound = np.inf if operator.clip is None else operator.clip
    functions = [lambda p, f=f: f(np.clip(p, -bound, bound)) for f in activations]
    state = tuple([part.copy() for part in state])  # without steps it is the final one
    y = np.zeros((*x.shape[:2], hidden), x.dtype)
    with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
        a = x @ parameters["weight_ih"].T + parameters["bias_ih"]
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            new = step(operator, functions, activations, parameters, a[t], *state)
            if lengths is None:
                state, y[t] = new, new[0]
                continue
            works = (t < lengths)[:, None]
            state = tuple([np.where(works, n, s) for n, s in zip(new, state, strict=True)])
            y[t] = np.where(works, new[0], 0)
    return y, state


def _product(parameters, h):
    return h @ parameters["weight_hh"].T + parameters["bias_hh"]


def _rnn(operator, functions, activations, parameters, a, h):
    """Ht = f(Xt Wi^T + Ht-1 Ri^T + Wbi + Rbi)."""
    return (functions[0](a + _product(parameters, h)),)


def _lstm(operator, functions, activations, parameters, a, h, c):
    """Ct = ft Ct-1 + it ct; Ht = ot h(Ct), where h has no clip. ft = 1 - it with input_forget."""
    f, g, _ = functions
    gates = 3 if operator.input_forget else 4
    p = np.split(a + _product(parameters, h), gates, axis=1)
    peepholes = np.split(parameters.get("weight_peephole", np.zeros(0, a.dtype)), gates - 1)
    if peepholes[0].size:
        p[:-2] = [q + peephole * c for q, peephole in zip(p[:-2], peepholes[:-1], strict=True)]
    i = f(p[0])
    forget = 1 - i if operator.input_forget else f(p[1])
    c = forget * c + i * g(p[-2])
    if peepholes[0].size:
        p[-1] = p[-1] + peepholes[-1] * c
    return f(p[-1]) * activations[2](c), c


def _gru(operator, functions, activations, parameters, a, h):
    """Ht = (1 - zt) ht + zt Ht-1."""
    f, g = functions
    r, z, n = np.split(a, 3, axis=1)
    w_r, w_z, w_n = np.split(parameters["weight_hh"], 3)
    b_r, b_z, b_n = np.split(parameters["bias_hh"], 3)
    r, z = f(r + h @ w_r.T + b_r), f(z + h @ w_z.T + b_z)
    if operator.linear_before_reset:
        n = g(n + r * (h @ w_n.T + b_n))
    else:
        n = g(n + (r * h) @ w_n.T + b_n)
    return ((1 - z) * n + z * h,)


_STEPS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}
