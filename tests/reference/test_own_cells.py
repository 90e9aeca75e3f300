"""Cells that a user writes from the equations of a paper: checked, run through time, trained."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastrnn import reference, train
from fastrnn.reference import Cell, by_gate, by_row, sigmoid

pytestmark = pytest.mark.no_kernels

# ---- a vanilla RNN: h_t = tanh(a_t + u_t) --------------------------------------------------------


def rnn_step(a, state, w, b):
    (h,) = state
    h_t = np.tanh(a[0] + h @ w.T + b)
    return (h_t,), (h,), h_t


def rnn_derivative(dstate, h_t, w, da, du):
    (dh,) = dstate
    da[0] = dh * (1 - h_t**2)
    return (da[0] @ w,)


RNN = Cell(1, 1, rnn_step, rnn_derivative, phases=((0, 1),))

# ---- the textbook's GRU: z takes the new value, r acts before the product ------------------------


def gru_step(a, state, w, b):
    (h,) = state
    k = 2 * h.shape[1]
    z, r = sigmoid(a[:2] + by_gate(h @ w[:k].T + b[:k], 2))
    v = r * h
    n = np.tanh(a[2] + v @ w[k:].T + b[k:])
    return ((1 - z) * h + z * n,), (h, v), (z, r, n, h)


def gru_derivative(dstate, saved, w, da, du):
    (dh,), (z, r, n, h) = dstate, saved
    k = 2 * h.shape[1]
    da[0] = dh * (n - h) * z * (1 - z)
    da[2] = dh * z * (1 - n**2)
    dv = da[2] @ w[k:]
    da[1] = dv * h * r * (1 - r)
    return (dh * (1 - z) + dv * r + by_row(da[:2]) @ w[:k],)


GRU = Cell(3, 1, gru_step, gru_derivative, phases=((0, 2), (2, 3)), names=("z", "r", "n"))

# ---- a light recurrent unit: n reads x alone, so W_hh has rows for f alone -----------------------


def light_step(a, state, w, b):
    (h,) = state
    f, n = sigmoid(a[0] + h @ w.T + b), np.tanh(a[1])
    return (f * h + (1 - f) * n,), (h,), (f, n, h)


def light_derivative(dstate, saved, w, da, du):
    (dh,), (f, n, h) = dstate, saved
    da[0] = dh * (h - n) * f * (1 - f)
    da[1] = dh * (1 - f) * (1 - n**2)
    return (dh * f + da[0] @ w,)


LIGHT = Cell(2, 1, light_step, light_derivative, phases=((0, 1),), names=("f", "n"))

CELLS = {"rnn": RNN, "gru": GRU, "light": LIGHT}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@every_cell
def test_their_derivatives_are_right(cell):
    report = reference.check(cell)
    assert report.ok and max(report.values()) < 1e-8


def test_phases_may_be_lists_and_arrays():
    for phases in ([[0, 1]], np.array([[0, 1]])):
        cell = Cell(1, 1, rnn_step, rnn_derivative, phases)
        assert cell.phases == ((0, 1),) and reference.check(cell).ok


@every_cell
def test_they_run_through_time_with_ragged_batches_and_back(cell):
    weights = reference.weights(cell, 3, 4, rng=0)
    rng, lengths = np.random.default_rng(1), [5, 2]
    x, h0, dy = (rng.uniform(-1, 1, shape) for shape in ((5, 2, 3), (2, 4), (5, 2, 4)))
    y, (h,), tape = reference.forward(cell, x, (h0,), *weights, lengths=lengths)
    dx, (dh0,), *gradients = reference.backward(tape, dy)
    assert [g.shape for g in gradients] == [w.shape for w in weights]
    state = (h0,)
    for x_t in x:
        state = reference.step(cell, x_t, state, *weights)
    assert_allclose(state[0][0], h[0], rtol=1e-13)
    assert_allclose(y[1, 1], h[1], rtol=1e-13)

    for array, gradient in zip([x, h0, *weights], [dx, dh0, *gradients], strict=True):
        way = rng.uniform(-1, 1, array.shape)
        ends = []
        for eps in (1e-6, -1e-6):
            array += eps * way
            y, _ = reference.infer(cell, x, (h0,), *weights, lengths=lengths)
            ends.append(np.vdot(y, dy))
            array -= eps * way
        assert_allclose(np.vdot(gradient, way), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_can_be_trained(cell, dtype):
    """The number that the one marked step shows, some steps later."""
    rng, weights = np.random.default_rng(0), reference.weights(cell, 2, 8, dtype=dtype, rng=0)
    head = train.Dense(8, 1, dtype=dtype, rng=1)
    adam = train.Adam([*weights, head], 0.02)
    for _ in range(150):
        x = rng.uniform(-1, 1, (5, 32, 2)).astype(dtype)
        x[..., 1] = np.arange(5)[:, None] == 2
        y, (h,), tape = reference.forward(cell, x, None, *weights)
        loss, d = train.mean_squared_error(head(h), x[2, :, :1])
        of_head = head.backward(h, d)
        _, _, *gradients = reference.backward(tape, None, (of_head.x,))
        adam.step([*gradients, of_head])
    assert loss < 0.1  # 1/3 for the mean


def test_the_textbooks_gru_is_ours_with_the_sign_of_z_turned():
    x, h0 = np.random.default_rng(0).uniform(-1, 1, (4, 2, 3)), np.ones((2, 4))
    w_ih, w_hh, b_ih, b_hh = weights = reference.weights(GRU, 3, 4, rng=0)
    y, _ = reference.infer(GRU, x, (h0,), *weights)
    order = np.r_[4:8, 0:4, 8:12]  # r z n
    sign = np.repeat([1.0, -1.0, 1.0], 4)
    turned = [w[order] * (sign[:, None] if w.ndim == 2 else sign) for w in weights]
    assert_allclose(y, reference.infer("gru_before", x, (h0,), *turned)[0], rtol=1e-12)


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", reference.CELLS)
def test_weights_fit_their_cell(cell):
    weights = reference.weights(cell, 3, 4, dtype="float32", rng=0)
    y, *_ = reference.forward(cell, np.ones((2, 1, 3), "float32"), None, *weights)
    assert y.shape == (2, 1, 4) and y.dtype == np.float32
    drawn = np.concatenate([w.reshape(-1) for w in weights if w is not None])
    assert abs(drawn).max() <= 0.5
    assert (weights[1] is None) == (not reference.CELLS[cell].phases)


def test_the_seed_decides_the_weights():
    a, b = (reference.weights("lstm", 3, 4, rng=seed) for seed in (0, np.random.default_rng(0)))
    assert all((p == q).all() for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reference.weights("grue", 3, 4), ValueError, "cell must be"),
        (lambda: by_gate(np.ones((2, 7)), 3), ValueError, r"G\*H\) with G = 3, got \(2, 7\)"),
        (lambda: by_gate(np.ones((2, 6)), 0), ValueError, "with G = 0"),
        (lambda: by_gate(np.ones(6), 3), ValueError, r"p must be \(..., B, G\*H\)"),
        (lambda: by_row(np.ones((2, 6))), ValueError, r"p must be \(G, B, H\), got \(2, 6\)"),
        (lambda: reference.weights(rnn_step, 3, 4), TypeError, "cell must be a Cell or the name"),
        (lambda: reference.weights("lstm", 0, 4), ValueError, "inputs must be"),
        (lambda: reference.weights("lstm", 3, 4, dtype="int8"), TypeError, "dtype must be"),
        (lambda: Cell(0, 1, rnn_step, rnn_derivative, ()), ValueError, "gates must be"),
        (lambda: Cell(1, 3, rnn_step, rnn_derivative, ()), ValueError, "states must be 1 for h"),
        (lambda: Cell(1, 1, None, rnn_derivative, ()), TypeError, "step must be a function"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, ((0, 3),)), ValueError, r"as in \(\(0, 2\)"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, ((1, 2),)), ValueError, "phases must be"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, ((0, 1), (0, 2))), ValueError, "phases must"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, (), names=("a",)), ValueError, "of 2 gates"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, (0, 2)), TypeError, "ends with a comma"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, None), TypeError, "phases must be.*got None"),
        (lambda: Cell(2, 1, rnn_step, rnn_derivative, ((0, 1.0),)), TypeError, "phases must be"),
        (lambda: Cell(1, 1, rnn_step, rnn_derivative, (), names=(1,)), TypeError, "tuple of str"),
        (lambda: Cell(1, 1, rnn_step, rnn_derivative, (), names=5), TypeError, "got 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_rounds_to_0_without_a_warning(dtype):
    p = np.array([-1e4, -100, 0, 1e4, -np.inf, np.inf], dtype)
    with np.errstate(all="raise"):
        s = sigmoid(p)
    assert s[[0, 2, 3, 4, 5]].tolist() == [0, 0.5, 1, 0, 1] and s.dtype == dtype
    assert s[1] == pytest.approx(np.exp(-100.0), rel=0.05)  # subnormal in float32
