"""Lectures' matrices: the layer computes the lecture's equations, written out here."""

import numpy as np
import pytest
from decorators import every_dtype
from problems import assert_same_bits

import fastrnn
from fastrnn import GRU, LSTM, RNN, convert

pytestmark = pytest.mark.any_isa

T, B, I, H = 4, 3, 2, 5  # noqa: E741 - as in all the equations
LETTERS = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}
# The same cell in the forms of authors: order, by_columns.
FORMS = [("hx", False), ("xh", False), ("hx", True), ("xh", True)]
CELLS = [("rnn", None), ("lstm", None), ("gru", "new"), ("gru", "old")]
every_cell = pytest.mark.parametrize("cell, update", CELLS)
every_form = pytest.mark.parametrize("order, by_columns", FORMS)


def sigmoid(p):
    return 1 / (1 + np.exp(-p))


def drawn(cell, by_columns=False, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    shape = (H + I, H) if by_columns else (H, H + I)
    return {
        gate: (rng.normal(size=shape).astype(dtype), rng.normal(size=H).astype(dtype))
        for gate in LETTERS[cell]
    }


class Lecture:
    """The equations of `from_gates`, for a row h and a row x at a time."""

    def __init__(self, gates, order, by_columns, update=None):
        self.gates, self.order, self.by_columns, self.update = gates, order, by_columns, update

    def gate(self, letter, h, x):
        w, b = self.gates[letter]
        v = np.concatenate([h, x] if self.order == "hx" else [x, h])
        return (v @ w if self.by_columns else w @ v) + b

    def rnn(self, x, h):
        return (np.tanh(self.gate("h", h, x)),)

    def lstm(self, x, h, c):
        i, f, o = (sigmoid(self.gate(letter, h, x)) for letter in "ifo")
        c = f * c + i * np.tanh(self.gate("g", h, x))
        return o * np.tanh(c), c

    def gru(self, x, h):
        r, z = (sigmoid(self.gate(letter, h, x)) for letter in "rz")
        n = np.tanh(self.gate("n", r * h, x))
        return ((1 - z) * h + z * n if self.update == "new" else z * h + (1 - z) * n,)


def run(step, x, state):
    """y (T, B, H) and the last state of a lecture's step, row by row."""
    y, rows = np.empty((T, B, H)), []
    for row in range(B):
        own = [part[0, row].astype("float64") for part in state]
        for t in range(T):
            own = step(x[t, row].astype("float64"), *own)
            y[t, row] = own[0]
        rows.append(own)
    return y, [np.array([row[k] for row in rows])[None] for k in range(len(state))]


@pytest.mark.parametrize(
    "cell, update", [("rnn", None), ("lstm", None), ("gru", "new"), ("gru", "old")]
)
@every_form
@every_dtype
def test_the_layer_computes_the_lectures_equations(cell, update, order, by_columns, dtype):
    gates = drawn(cell, by_columns, dtype)
    layer = convert.from_gates(cell, gates, order=order, by_columns=by_columns, update=update)
    assert layer.dtype == dtype and (layer.input_size, layer.hidden_size) == (I, H)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(T, B, I)).astype(dtype)
    state = rng.normal(size=(2 if cell == "lstm" else 1, 1, B, H)).astype(dtype)
    y, last = layer(x, tuple(state) if cell == "lstm" else state[0])
    wanted, wanted_last = run(getattr(Lecture(gates, order, by_columns, update), cell), x, state)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y, wanted, rtol=tolerance, atol=tolerance)
    for own, theirs in zip(last if cell == "lstm" else [last], wanted_last, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "cell, update", [("rnn", None), ("lstm", None), ("gru", "new"), ("gru", "old")]
)
@every_form
@every_dtype
def test_there_and_back(cell, update, order, by_columns, dtype):
    form = {"order": order, "by_columns": by_columns, "update": update}
    gates = drawn(cell, by_columns, dtype)
    back = convert.to_gates(convert.from_gates(cell, gates, **form), **form)
    assert list(back) == list(LETTERS[cell])
    for letter, pair in gates.items():
        for there, here in zip(pair, back[letter], strict=True):
            assert_same_bits(here + 0.0, there + 0.0)  # -0.0 in place of 0.0 is the same number
            assert here.flags.c_contiguous and here.base is None


def test_without_biases():
    matrices = {letter: w for letter, (w, _) in drawn("gru").items()}
    for gates in (matrices, {letter: (w, None) for letter, w in matrices.items()}):
        layer = convert.from_gates("gru", gates, update="old")
        assert list(layer.params) == ["weight_ih_l0", "weight_hh_l0"]
        back = convert.to_gates(layer, update="old")
        for letter, w in matrices.items():
            assert_same_bits(back[letter][0], w)
            assert back[letter][1] is None


def test_two_biases_become_their_sum():
    layer = LSTM(I, H, dtype="float64", rng=0)
    gates = convert.to_gates(layer)
    b = np.split(layer.params["bias_ih_l0"] + layer.params["bias_hh_l0"], 4)
    for letter, sum_of_both in zip("ifgo", b, strict=True):
        assert_same_bits(gates[letter][1], sum_of_both)


def test_one_array_of_all_gates_and_two_matrices_of_a_gate():
    """As the docstring says."""
    w, b = np.random.default_rng(0).normal(size=(4 * H, H + I)), np.arange(4.0 * H)
    gates = dict(zip("ifog", zip(np.split(w, 4), np.split(b, 4), strict=True), strict=True))
    layer = convert.from_gates("lstm", gates)
    assert_same_bits(layer.params["weight_hh_l0"][2 * H : 3 * H], w[3 * H :, :H])
    assert_same_bits(layer.params["weight_ih_l0"][3 * H :], w[2 * H : 3 * H, H:])
    w_h, w_x = w[:H, :H], w[:H, H:]
    layer = convert.from_gates("rnn", {"h": np.hstack([w_h, w_x])}, nonlinearity="relu")
    assert_same_bits(layer.params["weight_hh_l0"], w_h)
    assert layer.nonlinearity == "relu"


def test_the_matrices_of_cs231n_become_gates():
    rng, steps = np.random.default_rng(4), 3
    wx, wh, b = rng.normal(size=(I, 4 * H)), rng.normal(size=(H, 4 * H)), rng.normal(size=4 * H)
    w = np.split(np.vstack([wx, wh]), 4, axis=1)
    gates = dict(zip("ifog", zip(w, np.split(b, 4), strict=True), strict=True))
    layer = convert.from_gates("lstm", gates, order="xh", by_columns=True, batch_first=True)
    x, h, c = rng.normal(size=(2, steps, I)), np.zeros((2, H)), np.zeros((2, H))
    for t in range(steps):
        i, f, o, g = np.split(x[:, t] @ wx + h @ wh + b, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
    np.testing.assert_allclose(layer(x)[0][:, -1], h, rtol=1e-12)


def test_options_go_to_the_layer_and_nothing_is_drawn():
    layer = convert.from_gates(
        "gru", drawn("gru"), update="new", batch_first=True, zoneout=0.1, reverse=True, rng=3
    )
    assert layer.batch_first and layer.options.zoneout == (0.1,) and layer.reverse
    assert layer.rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def changed(cell, letter, w=None, b=None):
    gates = drawn(cell)
    old = gates[letter]
    gates[letter] = (old[0] if w is None else np.zeros(*w), old[1] if b is None else np.zeros(*b))
    return gates


@pytest.mark.parametrize(
    "cell, gates, options, error, words",
    [
        ("LSTM", drawn("lstm"), {}, ValueError, "cell must be one of 'rnn', 'lstm', 'gru'"),
        ("lstm", drawn("gru"), {}, ValueError, "gates must be a dict of i, f, g, o.*got .'r'"),
        ("lstm", drawn("lstm") | {"c": 1}, {}, ValueError, "g .LSTM. and n .GRU. are the cand"),
        ("lstm", [1], {}, ValueError, "gates must be a dict of i, f, g, o.*got list"),
        ("gru", drawn("gru"), {}, ValueError, 'update must be "new" for h_t = .*look at your'),
        ("gru", drawn("gru"), {"update": "z"}, ValueError, "update must be one of 'new', 'old'"),
        ("lstm", drawn("lstm"), {"update": "new"}, ValueError, "update must be None for the cell"),
        ("rnn", drawn("rnn"), {"order": "h"}, ValueError, "order must be one of 'hx', 'xh'"),
        ("rnn", drawn("rnn"), {"by_columns": 1}, TypeError, "by_columns must be True or False"),
        ("rnn", drawn("rnn", True), {}, ValueError, r"W of h must be \(hidden_size, hidden_size"),
        ("rnn", drawn("rnn"), {"by_columns": True}, ValueError, r"\+ input_size, hidden_size\) w"),
        ("lstm", changed("lstm", "o", w=[(H, H)]), {}, ValueError, "W of o .*, got .5, 5."),
        ("lstm", changed("lstm", "g", b=[H + 1]), {}, ValueError, r"b of g .* \(5,\), got \(6,\)"),
        ("lstm", changed("lstm", "f", w=[(H, H + I), "f4"]), {}, TypeError, "W of f .* W of i"),
        ("lstm", changed("lstm", "f", b=[H, "f4"]), {}, TypeError, "b of f must be float64 like W"),
        ("rnn", {"h": np.ones((2, 3), int)}, {}, TypeError, "W of h must be an array of float32"),
        ("rnn", {"h": np.ones(3)}, {}, ValueError, r"W of h must be \(hidden_size"),
        ("lstm", drawn("lstm") | {"o": np.ones((H, H + I))}, {}, ValueError, "o must be a pair"),
        ("lstm", drawn("lstm"), {"peephole": True}, ValueError, "peephole must be False, got True"),
        ("lstm", drawn("lstm"), {"proj_size": 2}, ValueError, "proj_size must be 0, got 2"),
        ("lstm", drawn("lstm"), {"num_layers": 2}, ValueError, "num_layers must be 1, got 2"),
        ("gru", drawn("gru"), {"update": "old", "reset_after": True}, ValueError, "reset_after"),
        ("lstm", drawn("lstm"), {"colour": 1}, TypeError, "colour"),
        ("lstm", changed("lstm", "f", b=[(H, 1)]), {}, ValueError, r"got \(5, 1\): use b.ravel"),
        ("rnn", {"h": np.ones((3, 3))}, {}, ValueError, r"columns for x .*, got .3, 3.: .*hst"),
        ("rnn", {"h": np.ones((3, 3))}, {"by_columns": True}, ValueError, "rows for x"),
        ("rnn", {"h": (np.ones((3, 2)), np.ones((3, 3)), np.ones(3))}, {}, TypeError,
         r"h must be W, or a pair \(W, b\), got 3 arrays: .* np.hstack"),
        ("rnn", drawn("rnn", True), {}, ValueError, "got .*: transposed. Then by_columns=True"),
        ("lstm", drawn("lstm"), {"bias": True}, TypeError, "bias follows from the arrays, got T"),
        ("lstm", drawn("lstm"), {"dtype": "float32"}, TypeError, "dtype follows from the arrays"),
        ("rnn", {"h": [np.ones((2, 3)), np.ones(2)]}, {}, TypeError, r"h must be a tuple \(W, b"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(cell, gates, options, error, words):
    with pytest.raises(error, match=words):
        convert.from_gates(cell, gates, **options)


@pytest.mark.parametrize(
    "layer, options, error, words",
    [
        (GRU(I, H), {"update": "new"}, ValueError, "reset_after must be False, got True"),
        (GRU(I, H, reset_after=False), {}, ValueError, "update must be"),
        (LSTM(I, H, 2), {}, ValueError, "num_layers must be 1, got 2"),
        (RNN(I, H, bidirectional=True), {}, ValueError, "bidirectional must be False"),
        (LSTM(I, H, coupled=True), {}, ValueError, "coupled must be False"),
        (LSTM(I, H, layer_norm=True), {}, ValueError, "layer_norm must be False"),
        (LSTM(I, H, proj_size=2), {}, ValueError, "proj_size must be 0"),
        (fastrnn.MinGRU(I, H), {}, TypeError, "layer must be an LSTM, GRU or RNN, got MinGRU"),
        (fastrnn.LSTM(I, H).freeze(), {}, TypeError, "got Frozen: use the layer that was frozen"),
    ],
)
def test_layers_without_such_a_form_are_refused(layer, options, error, words):
    with pytest.raises(error, match=words):
        convert.to_gates(layer, **options)
