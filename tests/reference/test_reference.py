"""The reference against the papers (scalar loops with `math`) and against finite differences.

Everything else in the package is compared with the reference, so these tests use nothing else of
the package.
"""

import dataclasses
import math
import pickle
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from decorators import both_ways, every_dtype
from numpy.testing import assert_allclose, assert_array_equal

from fastrnn import reference

pytestmark = pytest.mark.no_kernels

GATES = {name: cell.gates for name, cell in reference.CELLS.items()}
RECURRENT = [name for name, cell in reference.CELLS.items() if cell.phases]  # those with W_hh
T, B, INPUTS, H = 4, 3, 2, 5
TIGHT = {"rtol": 1e-13, "atol": 1e-14}
BIASES = {"both": (1, 1), "b_ih": (1, 0), "b_hh": (0, 1), "none": (0, 0)}

every_textbook_cell = pytest.mark.parametrize("cell", GATES)


@dataclass
class Problem:
    """A layer, its input and the incoming gradients."""

    x: np.ndarray
    state: tuple
    w_ih: np.ndarray
    w_hh: np.ndarray | None
    b_ih: np.ndarray | None
    b_hh: np.ndarray | None
    dy: np.ndarray
    dstate: tuple

    def layer(self):
        return self.x, self.state, self.w_ih, self.w_hh, self.b_ih, self.b_hh

    def map(self, change):
        """The problem with `change` applied to every array."""

        def each(value):
            if type(value) is tuple:
                return tuple(each(v) for v in value)
            return None if value is None else change(value)

        fields = {f.name: each(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return Problem(**fields)

    def inputs(self):
        """Name -> array, for everything with a gradient."""
        named = {"x": self.x, **dict(zip(("h0", "c0"), self.state, strict=False))}
        named |= {k: getattr(self, k) for k in ("w_ih", "w_hh", "b_ih", "b_hh")}
        return {k: v for k, v in named.items() if v is not None}


def problem(cell, biases=(1, 1), seed=0, t=T, b=B, i=INPUTS, h=H):
    """A problem without zeros, also in the initial state and the gradients."""
    rng = np.random.default_rng(seed)
    g, states, recurrent = GATES[cell], reference.CELLS[cell].states, cell in RECURRENT

    def draw(*shape):
        return rng.uniform(0.1, 1.0, shape) * rng.choice([-1.0, 1.0], shape)

    state, dstate = (tuple(draw(b, h) for _ in range(states)) for _ in range(2))
    weights = draw(g * h, i), draw(g * h, h) if recurrent else None
    bias = [
        draw(g * h) if given and side else None
        for given, side in zip(biases, (True, recurrent), strict=True)
    ]
    return Problem(draw(t, b, i), state, *weights, *bias, draw(t, b, h), dstate)


def infer(cell, x, state, *weights, reverse=False):
    """Call the public inference function, with the state as a tuple."""
    if cell not in RECURRENT:
        return reference.infer(cell, x, state, *weights, reverse=reverse)
    if cell == "lstm":
        return reference.lstm(x, state, *weights, reverse=reverse)
    h = None if state is None else state[0]
    if cell.startswith("gru"):
        after = cell == "gru_after"
        y, h = reference.gru(x, h, *weights, reset_after=after, reverse=reverse)
    else:
        y, h = reference.rnn(x, h, *weights, nonlinearity=cell[4:], reverse=reverse)
    return y, (h,)


def gradients(cell, p, reverse=False):
    """Name -> gradient, named as `Problem.inputs` names the inputs."""
    _, _, tape = reference.forward(cell, *p.layer(), reverse=reverse)
    return named(reference.backward(tape, p.dy, p.dstate))


def named(grads):
    dx, dstate, dw_ih, dw_hh, db_ih, db_hh = grads
    out = {"x": dx, **dict(zip(("h0", "c0"), dstate, strict=False))}
    out |= {"w_ih": dw_ih, "w_hh": dw_hh, "b_ih": db_ih, "b_hh": db_hh}
    return {k: v for k, v in out.items() if v is not None}


def arrays(tree):
    """Every array in nested tuples, in order."""
    if isinstance(tree, tuple):
        return [a for branch in tree for a in arrays(branch)]
    return [] if tree is None else [tree]


# ---- forward: the papers, one unit at a time -----------------------------------------------------


def sigma(p):
    return 1 / (1 + math.exp(-p))


def affine(w, v, b, unit):
    return sum(w[unit][k] * v[k] for k in range(len(v))) + (0.0 if b is None else b[unit])


def scalar_step(cell, x, state, w_ih, w_hh, b_ih, b_hh):
    """One step of one sequence: lists of floats in, lists of floats out."""
    h, n = state[0], len(state[0])

    def a(gate, j):
        return affine(w_ih, x, b_ih, gate * n + j)

    def u(gate, j, v=h):
        return affine(w_hh, v, b_hh, gate * n + j)

    if cell == "min_gru":
        z = [sigma(a(0, j)) for j in range(n)]
        return ([(1 - z[j]) * h[j] + z[j] * a(1, j) for j in range(n)],)
    if cell == "min_lstm":
        f, i = ([sigma(a(gate, j)) for j in range(n)] for gate in (0, 1))
        return ([(f[j] * h[j] + i[j] * a(2, j)) / (f[j] + i[j]) for j in range(n)],)
    if cell == "rnn_tanh":
        return ([math.tanh(a(0, j) + u(0, j)) for j in range(n)],)
    if cell == "rnn_relu":
        return ([max(0.0, a(0, j) + u(0, j)) for j in range(n)],)
    if cell == "lstm":
        c = []
        for j in range(n):
            write, keep = sigma(a(0, j) + u(0, j)), sigma(a(1, j) + u(1, j))
            c.append(keep * state[1][j] + write * math.tanh(a(2, j) + u(2, j)))
        return [sigma(a(3, j) + u(3, j)) * math.tanh(c[j]) for j in range(n)], c
    r = [sigma(a(0, j) + u(0, j)) for j in range(n)]
    z = [sigma(a(1, j) + u(1, j)) for j in range(n)]
    if cell == "gru_after":
        new = [math.tanh(a(2, j) + r[j] * u(2, j)) for j in range(n)]
    else:
        rh = [r[k] * h[k] for k in range(n)]
        new = [math.tanh(a(2, j) + u(2, j, rh)) for j in range(n)]
    return ([(1 - z[j]) * new[j] + z[j] * h[j] for j in range(n)],)


@every_textbook_cell
@both_ways
@pytest.mark.parametrize("biases", BIASES.values(), ids=BIASES)
def test_forward_is_the_papers_unit_by_unit(cell, reverse, biases):
    p = problem(cell, biases)
    y, state = infer(cell, *p.layer(), reverse=reverse)
    weights = [None if w is None else w.tolist() for w in p.layer()[2:]]
    for row in range(B):
        now = tuple(s[row].tolist() for s in p.state)
        for t in reversed(range(T)) if reverse else range(T):
            now = scalar_step(cell, p.x[t, row].tolist(), now, *weights)
            assert_allclose(y[t, row], now[0], **TIGHT)
        assert_allclose([s[row] for s in state], now, **TIGHT)


def column(*values):
    return np.array(values, float)[:, None]


def test_rnn_by_hand():
    arguments = [[[2.0]]], [[0.5]], column(0.75), column(-0.5), np.array([0.25]), np.array([-1.0])
    p = 0.75 * 2 + 0.25 - 0.5 * 0.5 - 1
    assert reference.rnn(*arguments)[1].item() == pytest.approx(math.tanh(p), rel=1e-15)
    assert reference.rnn(*arguments, nonlinearity="relu")[1].item() == p == 0.5


def test_lstm_by_hand():
    """Weights of zero leave the biases: gates i = 3/4, f = 1/5, g = 1/2, o = 2/3."""
    bias = np.log([3, 1 / 4, 3, 2]) / [1, 1, 2, 1]
    zero = np.zeros((4, 1))
    y, (h, c) = reference.lstm([[[9.0]]], ([[9.0]], [[2.0]]), zero, zero, bias)
    assert c.item() == pytest.approx(0.2 * 2 + 0.75 * 0.5, rel=1e-15)
    assert h.item() == y.item() == pytest.approx(2 / 3 * math.tanh(0.775), rel=1e-15)


def test_gru_by_hand_shows_where_the_reset_gate_acts():
    """r = 1/4, z = 2/5; W_hn h + b_hn = 3 * 2 + 1; r scales either all of it or only h."""
    bias, zero = np.array([math.log(1 / 3), math.log(2 / 3), 0.5]), np.zeros((3, 1))
    arguments = [[[9.0]]], [[2.0]], zero, column(0, 0, 3), bias, np.array([0.0, 0.0, 1.0])
    after = 0.6 * math.tanh(0.5 + 0.25 * 7) + 0.4 * 2
    before = 0.6 * math.tanh(0.5 + 0.25 * 6 + 1) + 0.4 * 2
    for expected, reset_after in ((after, True), (before, False)):
        _, h = reference.gru(*arguments, reset_after=reset_after)
        assert h.item() == pytest.approx(expected, rel=1e-15)


@every_dtype
def test_a_nearly_closed_gate_keeps_its_digits(dtype):
    """sigmoid(-60) is 8.8e-27; 0.5 + 0.5 tanh(-30) would be zero."""
    bias, zero = np.array([0, -60, 0, 0], dtype), np.zeros((4, 1), dtype)
    one = np.ones((1, 1), dtype)
    _, (_, c) = reference.lstm(np.zeros((1, 1, 1), dtype), (one, one), zero, zero, bias)
    assert c.item() == pytest.approx(math.exp(-60), rel=4 * float(np.finfo(dtype).eps), abs=0)


# ---- backward: finite differences ----------------------------------------------------------------

STEP = 5e-4


def finite_differences(cell, p, reverse):
    """Central differences at STEP and 2 STEP, extrapolated to the fourth order."""

    def loss():
        y, state = infer(cell, *p.layer(), reverse=reverse)
        total = np.vdot(y, p.dy)
        return total + sum(np.vdot(s, d) for s, d in zip(state, p.dstate, strict=True))

    def slope(flat, k, step):
        here = flat[k]
        flat[k] = here + step
        above = loss()
        flat[k] = here - step
        below = loss()
        flat[k] = here
        return (above - below) / (2 * step)

    def gradient(array):
        flat, out = array.reshape(-1), np.empty(array.size)
        for k in range(array.size):
            out[k] = (4 * slope(flat, k, STEP) - slope(flat, k, 2 * STEP)) / 3
        return out.reshape(array.shape)

    return {name: gradient(array) for name, array in p.inputs().items()}


def distance_to_kink(p, reverse):
    """The smallest absolute value of a pre-activation of a relu network."""
    (h,), least = p.state, math.inf
    for x in p.x[::-1] if reverse else p.x:
        a = x @ p.w_ih.T + h @ p.w_hh.T
        a = a + sum(b for b in (p.b_ih, p.b_hh) if b is not None)
        h, least = np.maximum(a, 0), min(least, np.abs(a).min())
    return least


@cache
def away_from_kinks(cell, biases, reverse):
    """A problem whose loss is smooth at all points of the finite differences."""
    for seed in range(1000):
        p = problem(cell, biases, seed)
        if cell != "rnn_relu" or distance_to_kink(p, reverse) > 80 * STEP:
            return p
    raise AssertionError("every problem comes near a kink")


@every_textbook_cell
@both_ways
@pytest.mark.parametrize("biases", BIASES.values(), ids=BIASES)
def test_backward_is_the_finite_differences_of_forward(cell, reverse, biases):
    p = away_from_kinks(cell, biases, reverse)
    got, expected = gradients(cell, p, reverse), finite_differences(cell, p, reverse)
    assert got.keys() == expected.keys() == p.inputs().keys()
    for name in expected:
        assert_allclose(got[name], expected[name], rtol=1e-6, err_msg=name)


def test_relu_has_slope_zero_at_zero():
    _, _, tape = reference.forward("rnn_relu", [[[0.0]]], None, column(1), column(1))
    dx, (dh,), *_ = reference.backward(tape, np.ones((1, 1, 1)))
    assert dx.item() == dh.item() == 0


@every_textbook_cell
def test_a_gradient_not_given_is_zero(cell):
    p = problem(cell)
    _, _, tape = reference.forward(cell, *p.layer())
    zero_dy, zero_dstate = np.zeros_like(p.dy), tuple(np.zeros_like(s) for s in p.dstate)
    some_dstate = (None, *p.dstate[1:])
    for given, whole in [
        ((p.dy,), (p.dy, zero_dstate)),
        ((p.dy, some_dstate), (p.dy, (zero_dstate[0], *p.dstate[1:]))),
        ((None, p.dstate), (zero_dy, p.dstate)),
    ]:
        expected = named(reference.backward(tape, *whole))
        for name, got in named(reference.backward(tape, *given)).items():
            assert_array_equal(got, expected[name], err_msg=name)


@every_textbook_cell
def test_a_bias_of_none_has_a_gradient_of_none_and_is_otherwise_a_bias_of_zero(cell):
    without = problem(cell, (0, 0))
    biases = {name for name in problem(cell).inputs() if name.startswith("b_")}
    zeros = {name: np.zeros(GATES[cell] * H) for name in biases}
    with_zero = dataclasses.replace(without, **zeros)
    got, expected = gradients(cell, without), gradients(cell, with_zero)
    assert expected.keys() - got.keys() == biases
    for name in got:
        assert_allclose(got[name], expected[name], **TIGHT, err_msg=name)


# ---- forward and backward: what a caller can rely on ---------------------------------------------


@every_textbook_cell
@both_ways
def test_inference_gives_what_forward_gives(cell, reverse):
    p = problem(cell)
    for layer in (p.layer(), (p.x, None, *p.layer()[2:])):
        y, state, _ = reference.forward(cell, *layer, reverse=reverse)
        for got, expected in zip(
            arrays(infer(cell, *layer, reverse=reverse)), arrays((y, state)), strict=True
        ):
            assert_array_equal(got, expected)


@every_textbook_cell
def test_a_state_of_none_is_zeros(cell):
    p = problem(cell)
    zeros = tuple(np.zeros((B, H)) for _ in p.state)
    got = infer(cell, p.x, None, *p.layer()[2:])
    for a, b in zip(arrays(got), arrays(infer(cell, p.x, zeros, *p.layer()[2:])), strict=True):
        assert_array_equal(a, b)


@every_textbook_cell
def test_reverse_is_time_flipped(cell):
    p = problem(cell)
    flipped = dataclasses.replace(p, x=p.x[::-1], dy=p.dy[::-1])
    y, state = infer(cell, *p.layer(), reverse=True)
    y_flipped, state_flipped = infer(cell, *flipped.layer())
    assert_allclose(y, y_flipped[::-1], **TIGHT)
    assert_allclose(state, state_flipped, **TIGHT)
    assert_array_equal(y[0], state[0])
    got, expected = gradients(cell, p, reverse=True), gradients(cell, flipped)
    expected["x"] = expected["x"][::-1]
    for name in expected:
        assert_allclose(got[name], expected[name], **TIGHT, err_msg=name)


@every_textbook_cell
@both_ways
def test_step_by_step_is_the_whole_sequence(cell, reverse):
    p = problem(cell)
    y, final = infer(cell, *p.layer(), reverse=reverse)
    state = p.state
    for t in reversed(range(T)) if reverse else range(T):
        y_t, state = infer(cell, p.x[t : t + 1], state, *p.layer()[2:])
        assert_allclose(y_t[0], y[t], **TIGHT)
    assert_allclose(state, final, **TIGHT)


@every_textbook_cell
@both_ways
@pytest.mark.parametrize("sizes", [{"t": 0}, {"b": 0}, {"i": 0}], ids=["T=0", "B=0", "I=0"])
def test_zero_sizes_are_defined(cell, reverse, sizes):
    p = problem(cell, **sizes)
    t, b, _ = p.x.shape
    y, state, tape = reference.forward(cell, *p.layer(), reverse=reverse)
    grads = named(reference.backward(tape, p.dy, p.dstate))
    assert y.shape == (t, b, H)
    assert {k: g.shape for k, g in grads.items()} == {k: v.shape for k, v in p.inputs().items()}
    if t == 0:
        for given, got in zip(p.state, state, strict=True):
            assert_array_equal(got, given)
            assert not np.shares_memory(got, given)
        for name, given in zip(("h0", "c0"), p.dstate, strict=False):
            assert_array_equal(grads[name], given)
            assert not np.shares_memory(grads[name], given)
    if 0 in (t, b):
        weights = {"w_ih", "w_hh", "b_ih", "b_hh"} & grads.keys()
        assert not any(grads[name].any() for name in weights)


@every_textbook_cell
def test_float32_stays_float32(cell):
    p = problem(cell)
    single = p.map(np.float32)
    results = []
    for q in (single, p):
        y, state, tape = reference.forward(cell, *q.layer())
        results.append(arrays((y, state, reference.backward(tape, q.dy, q.dstate))))
        results[-1] += arrays(infer(cell, *q.layer()))
        results[-1] += arrays(infer(cell, q.x, None, *q.layer()[2:4]))
    for got, expected in zip(*results, strict=True):
        assert (got.dtype, expected.dtype) == (np.float32, np.float64)
    for got, expected in list(zip(*results, strict=True))[:-2]:
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["x", "w_ih", "w_hh", "b_ih", "b_hh", "state"])
def test_dtypes_do_not_mix(name):
    p = problem("rnn_tanh")
    odd = dataclasses.replace(p, **{name: getattr(p.map(np.float32), name)})
    with pytest.raises(TypeError, match="float"):
        infer("rnn_tanh", *odd.layer())


@every_textbook_cell
def test_strided_and_read_only_arrays_are_taken_and_left_alone(cell):
    p = problem(cell)

    def awkward(array):
        wide = np.full((*array.shape, 2), np.nan)
        wide[..., 0] = array
        wide.flags.writeable = False
        return wide[..., 0]

    got, expected = gradients(cell, p.map(awkward)), gradients(cell, p)
    for name in expected:
        assert_allclose(got[name], expected[name], **TIGHT, err_msg=name)


@every_textbook_cell
@both_ways
def test_a_tape_is_read_and_not_used_up(cell, reverse):
    p = problem(cell)
    _, _, tape = reference.forward(cell, *p.layer(), reverse=reverse)
    first, second = (named(reference.backward(tape, p.dy, p.dstate)) for _ in range(2))
    for name in first:
        assert_array_equal(first[name], second[name], err_msg=name)


@every_textbook_cell
def test_a_tape_can_be_pickled(cell):
    p = problem(cell)
    _, _, tape = reference.forward(cell, *p.layer())
    tape = pickle.loads(pickle.dumps(tape))
    got, expected = named(reference.backward(tape, p.dy, p.dstate)), gradients(cell, p)
    for name in expected:
        assert_array_equal(got[name], expected[name], err_msg=name)


@every_textbook_cell
@both_ways
def test_a_tape_does_not_share_what_was_returned_nor_the_initial_state(cell, reverse):
    p = problem(cell)
    expected = gradients(cell, p, reverse)
    y, state, tape = reference.forward(cell, *p.layer(), reverse=reverse)
    for array in (y, *state, *p.state):
        array.fill(np.nan)
    got = named(reference.backward(tape, p.dy, p.dstate))
    for name in expected:
        assert_array_equal(got[name], expected[name], err_msg=name)


# ---- NaN and infinities --------------------------------------------------------------------------


@every_textbook_cell
@both_ways
def test_nan_stays_in_its_row(cell, reverse):
    p = problem(cell)
    bad = dataclasses.replace(p, x=p.x.copy())
    bad.x[1, 1, 0] = np.nan
    (y, state, tape), (y_bad, state_bad, tape_bad) = (
        reference.forward(cell, *q.layer(), reverse=reverse) for q in (p, bad)
    )
    later = slice(None, 2) if reverse else slice(1, None)
    assert np.isnan(y_bad[later, 1]).all()
    assert np.isfinite(np.delete(y_bad[:, 1], range(T)[later], axis=0)).all()
    assert all(np.isnan(s[1]).all() for s in state_bad)
    dx, dstate, *_ = reference.backward(tape, p.dy, p.dstate)
    dx_bad, dstate_bad, *_ = reference.backward(tape_bad, p.dy, p.dstate)
    others = [0, 2]
    assert_array_equal(y_bad[:, others], y[:, others])
    assert_array_equal(dx_bad[:, others], dx[:, others])
    for got, expected in zip(state_bad + dstate_bad, state + dstate, strict=True):
        assert_array_equal(got[others], expected[others])


@every_textbook_cell
@every_dtype
def test_no_value_anywhere_raises_a_warning(cell, dtype):
    big, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    pairs = [np.inf, -np.inf], [big, -big], [tiny, -tiny], [np.nan, np.inf], [300.0, -300.0]
    for where in range(len(places(problem(cell)))):
        for pair in pairs:
            p = problem(cell).map(lambda array: array.astype(dtype))
            array = places(p)[where].reshape(-1)[::2]
            array[:] = np.resize(pair, array.shape)
            with warnings.catch_warnings(), np.errstate(all="raise"):
                warnings.simplefilter("error")
                infer(cell, *p.layer())
                _, _, tape = reference.forward(cell, *p.layer())
                reference.backward(tape, p.dy, p.dstate)


def places(p):
    """Every array of a problem, inputs and incoming gradients."""
    return [*p.inputs().values(), p.dy, *p.dstate]


@every_dtype
def test_gates_are_exact_at_infinity(dtype):
    """Infinite biases: i = 1, f = 0, g = -1, o = 1, so c = -1 from any c, and h = tanh(-1)."""
    bias = np.array([np.inf, -np.inf, -np.inf, np.inf], dtype)
    zero, one = np.zeros((4, 1), dtype), np.ones((1, 1), dtype)
    _, (h, c) = reference.lstm(np.zeros((1, 1, 1), dtype), (one, one), zero, zero, bias)
    assert c.item() == -1
    assert h.item() == np.tanh(np.array(-1, dtype))
