"""Each convention, against the equations of a step as the system's documentation writes them."""

import numpy as np
import pytest

import fastrnn
from fastrnn._interop import conventions
from fastrnn._interop.conventions import KERAS, LECTURE, NATIVE, ONNX, PYTORCH, THINC

pytestmark = pytest.mark.any_isa

INPUTS, H, B = 3, 5, 2

# The orders of gates as each system's documentation has them.
LSTMS = [(PYTORCH, "ifgo"), (KERAS, "ifgo"), (ONNX, "iofg"), (THINC, "fiog")]
GRUS = [(PYTORCH, "rzn"), (KERAS, "zrn"), (ONNX, "zrn"), (LECTURE, "rzn")]


def sigmoid(p):
    return 1 / (1 + np.exp(-p))


def lstm_step(x, h, c, w, r, b, order):
    """A step with a gate for each letter of `order`, side by side on the matrices' columns."""
    p = dict(zip(order, np.split(x @ w + h @ r + b, 4, axis=1), strict=True))
    c = sigmoid(p["f"]) * c + sigmoid(p["i"]) * np.tanh(p["g"])
    return sigmoid(p["o"]) * np.tanh(c), c


def gru_step(x, h, w, r, b, order, z_is_new):
    """The same for a GRU whose reset gate acts before the product."""
    a, u, b = (dict(zip(order, np.split(m, 3, axis=-1), strict=True)) for m in (x @ w, r, b))
    z, reset = (sigmoid(a[g] + h @ u[g] + b[g]) for g in "zr")
    n = np.tanh(a["n"] + (reset * h) @ u["n"] + b["n"])
    return (1 - z) * h + z * n if z_is_new else z * h + (1 - z) * n


def drawn(gates):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=s) for s in [(gates * H, INPUTS), (gates * H, H), (gates * H,), (B, INPUTS)]
    ]


def columns(convention, cell, native):
    """A matrix in the system's arrangement, with the gates on its columns: so it is in Keras."""
    array = convention.from_native(cell, native)
    return array if convention is KERAS or array.ndim == 1 else array.T


@pytest.mark.parametrize(("convention", "order"), LSTMS, ids=["pytorch", "keras", "onnx", "thinc"])
def test_lstm(convention, order):
    w, r, b, x = drawn(4)
    h, c = np.random.default_rng(1).normal(size=(2, B, H))
    own = [columns(convention, "lstm", array) for array in (w, r, b)]
    expected = lstm_step(x, h, c, *own, order)
    y, (_, c_new) = fastrnn.lstm(x[None], (h, c), w, r, b, np.zeros(4 * H))
    np.testing.assert_allclose(y[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(c_new, expected[1], rtol=1e-13)


@pytest.mark.parametrize(("convention", "order"), GRUS, ids=["pytorch", "keras", "onnx", "lecture"])
def test_gru(convention, order):
    w, r, b, x = drawn(3)
    h = np.random.default_rng(1).normal(size=(B, H))
    own = [columns(convention, "gru", array) for array in (w, r, b)]
    expected = gru_step(x, h, *own, order, z_is_new=convention is LECTURE)
    y, _ = fastrnn.gru(x[None], h, w, r, b, np.zeros(3 * H), reset_after=False)
    np.testing.assert_allclose(y[0], expected, rtol=1e-13)


@pytest.mark.parametrize("convention", [PYTORCH, KERAS, ONNX, THINC, LECTURE])
@pytest.mark.parametrize("cell", NATIVE)
def test_there_and_back(convention, cell):
    for native in drawn(len(NATIVE[cell]))[:3]:
        there = convention.from_native(cell, native)
        assert there.flags.c_contiguous and not np.may_share_memory(there, native)
        back = convention.to_native(cell, there)
        np.testing.assert_array_equal(back, native)
        assert back.flags.c_contiguous and not np.may_share_memory(back, there)


def test_some_gates_alone():
    """ONNX's peepholes are i o f, fastrnn's i f o."""
    i, f, o = np.eye(3)[:, :2]
    own = ONNX.from_native("lstm", np.concatenate([i, f, o]), "ifo")
    np.testing.assert_array_equal(own, np.concatenate([i, o, f]))
    np.testing.assert_array_equal(ONNX.to_native("lstm", own, "ifo"), np.concatenate([i, f, o]))


@pytest.mark.parametrize("cell, reset_after", [("lstm", True), ("rnn", True), ("gru", False)])
def test_one_bias(cell, reset_after):
    bias = np.arange(float(len(NATIVE[cell]) * H))
    b_ih, b_hh = conventions.split_biases(cell, bias, reset_after)
    np.testing.assert_array_equal(b_ih, bias)
    assert not b_hh.any() and not np.may_share_memory(b_ih, bias)
    joined = conventions.joined_biases(cell, bias, 2 * bias, reset_after)
    np.testing.assert_array_equal(joined, 3 * bias)


def test_a_gru_with_reset_after_has_two_biases():
    with pytest.raises(ValueError, match="must have two biases, got one"):
        conventions.split_biases("gru", np.zeros(9))
    with pytest.raises(ValueError, match="cannot have one"):
        conventions.joined_biases("gru", np.zeros(9), np.zeros(9))
