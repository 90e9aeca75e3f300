"""PyTorch as an independent check of variants: autograd over cells built from its functions."""

import warnings

import numpy as np
import pytest
from decorators import every_dtype
from problems import layer_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

from torch.nn import functional as F  # noqa: E402

from fastrnn import reference  # noqa: E402
from fastrnn.reference import variants  # noqa: E402

T, B, I, H = 6, 3, 4, 7  # noqa: E741 - as in all the equations


def lstm_gates(p, sigmoid):
    i, f, g, o = p.chunk(4, 1)
    return sigmoid(i), sigmoid(f), torch.tanh(g), sigmoid(o)


def lstm(sigmoid):
    def step(w, x, h, c):
        p = F.linear(x, w["weight_ih"], w["bias_ih"]) + F.linear(h, w["weight_hh"], w["bias_hh"])
        i, f, g, o = lstm_gates(p, sigmoid)
        c = f * c + i * g
        return o * torch.tanh(c), c

    return step


def gru(sigmoid):
    def step(w, x, h):
        a, u = F.linear(x, w["weight_ih"], w["bias_ih"]), F.linear(h, w["weight_hh"], w["bias_hh"])
        (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, 1), u.chunk(3, 1)
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        return ((1 - z) * torch.tanh(a_n + r * u_n) + z * h,)

    return step


def normed_lstm(w, x, h, c):
    def normed(q, side):
        return F.layer_norm(q, (4 * H,), w[f"weight_ln_{side}"], w[f"bias_{side}"])

    p = normed(x @ w["weight_ih"].T, "ih") + normed(h @ w["weight_hh"].T, "hh")
    i, f, g, o = lstm_gates(p, torch.sigmoid)
    c = f * c + i * g
    return o * torch.tanh(F.layer_norm(c, (H,), w["weight_ln_c"], w["bias_ln_c"])), c


def normed_gru(w, x, h):
    def normed(q, side):
        gain, shift, k = w[f"weight_ln_{side}"], w[f"bias_{side}"], 2 * H
        gates = F.layer_norm(q[:, :k], (k,), gain[:k], shift[:k])
        return gates, F.layer_norm(q[:, k:], (H,), gain[k:], shift[k:])

    a, a_n = normed(x @ w["weight_ih"].T, "ih")
    u, u_n = normed(h @ w["weight_hh"].T, "hh")
    r, z = torch.sigmoid(a + u).chunk(2, 1)
    return ((1 - z) * torch.tanh(a_n + r * u_n) + z * h,)


def zoned(cell, rates):
    """A cell of PyTorch's with the expectation of zoneout."""

    def step(w, x, *state):
        arguments = w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"]
        if len(state) > 1:
            after = cell(x, list(state), *arguments)
        else:
            after = (cell(x, *state, *arguments),)
        return tuple(d * b + (1 - d) * a for d, a, b in zip(rates, after, state, strict=True))

    return step


def hard_sigmoid(p):
    """PyTorch's, but not in float64: there its derivative has 1/6 with the digits of float32."""
    return F.hardsigmoid(p) if p.dtype is torch.float32 else F.relu6(p + 3) / 6


def onnx_hard_sigmoid(p):
    return torch.clamp(0.2 * p + 0.5, 0, 1)


THEIRS = {
    "lstm, layer norm": ("lstm", {"layer_norm": True}, normed_lstm),
    "gru, layer norm": ("gru_after", {"layer_norm": True}, normed_gru),
    "lstm, hard sigmoid": (
        "lstm", {"recurrent_activation": "hard_sigmoid"}, lstm(hard_sigmoid),
    ),
    "gru, hard sigmoid": (
        "gru_after", {"recurrent_activation": "hard_sigmoid"}, gru(hard_sigmoid),
    ),
    "lstm, ONNX": (
        "lstm", {"recurrent_activation": "hard_sigmoid_onnx"}, lstm(onnx_hard_sigmoid),
    ),
    "lstm, zoneout": ("lstm", {"zoneout": (0.2, 0.5)}, zoned(torch.lstm_cell, (0.2, 0.5))),
    "gru, zoneout": ("gru_after", {"zoneout": 0.3}, zoned(torch.gru_cell, (0.3,))),
    "rnn, zoneout": ("rnn_tanh", {"zoneout": 0.3}, zoned(torch.rnn_tanh_cell, (0.3,))),
}  # fmt: skip


def assert_near(got, wanted, dtype, name):
    wanted = wanted.detach().numpy()
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, name
    atol = 200 * float(np.finfo(dtype).eps) * max(1.0, np.abs(wanted).max(initial=0.0))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", THEIRS)
@every_dtype
def test_outputs_states_and_gradients_are_autograds(name, dtype):
    cell, given, step = THEIRS[name]
    ours, rng = layer_of(cell, I, H, dtype=dtype, **given), np.random.default_rng(0)

    def draw(*shape):
        return rng.uniform(-1, 1, shape).astype(dtype)

    ours.flat[...] = draw(ours.flat.size)
    states = len(ours._structure.cell.states)
    x, dy = draw(T, B, I), draw(T, B, H)
    state, dstate = ([draw(B, H) for _ in range(states)] for _ in range(2))
    x_t, *state_t = (torch.from_numpy(a.copy()).requires_grad_() for a in (x, *state))
    w = {n: torch.from_numpy(p.copy()).requires_grad_() for n, p in ours.params.items()}
    by_kind, now, ys = {n.removesuffix("_l0"): p for n, p in w.items()}, tuple(state_t), []
    for t in range(T):
        now = step(by_kind, x_t[t], *now)
        ys.append(now[0])
    y_t = torch.stack(ys)
    loss = (y_t * torch.from_numpy(dy)).sum()
    loss = loss + sum((s * torch.from_numpy(d)).sum() for s, d in zip(now, dstate, strict=True))
    loss.backward()

    def packed(arrays):
        return tuple(a[None] for a in arrays) if states > 1 else arrays[0][None]

    assert_near(ours(x, packed(state))[0], y_t, dtype, "y of a call")
    # The reference, because there zoneout can be its expectation in training too.
    weights = ours._parameters[0]
    y, last, tape = reference.forward(
        variants.reference_cell(ours._structure.cell), x, state, *weights
    )
    dx, dfirst, *dweights = reference.backward(tape, dy, dstate)
    assert_near(y, y_t, dtype, "y")
    assert_near(dx, x_t.grad, dtype, "dx")
    for n, d in zip(w, dweights, strict=True):
        assert_near(d, w[n].grad, dtype, n)
    for s, d, theirs, first in zip(last, dfirst, now, state_t, strict=True):
        assert_near(s, theirs, dtype, "state")
        assert_near(d, first.grad, dtype, "dstate")
