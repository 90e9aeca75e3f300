"""The kernels against the reference in float64: every output and every gradient of every cell.

The sizes are at the edges of tiles, vectors, chunks of time and blocks of sums.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from decorators import both_ways, every_cell, every_dtype, outer_isas
from problems import (
    BIASES,
    BOUNDED,
    WEIGHTS,
    assert_same_bits,
    by_kernels,
    by_reference,
    expected,
    infer,
    mismatches,
    problem,
    weight_names,
    within_nans,
)

from fastrnn._cells.registry import CELLS

pytestmark = pytest.mark.usefixtures("core")


H = (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 130)  # vectors of 4, 8, 16; tiles of 1, 2, 4, 8
B = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17)  # tiles of up to 8 rows, and several tiles
I = (3, 0, 15, 1, 16, 40, 17)  # noqa: E741 - as in all the equations
T = (3, 4, 5, 1)


def edges(h):
    """Each B with this H; I, T and the biases vary so that over all H every pair occurs."""
    k = H.index(h)
    for n, b in enumerate(B):
        sizes = T[(n + k // 2) % len(T)], b, I[(n + k) % len(I)], h
        yield sizes, list(BIASES.values())[(n + n // 4 + k) % len(BIASES)]


def check(cell, sizes, dtype, reverse, biases=(1, 1)):
    p = problem(cell, *sizes, biases=biases, dtype=dtype)
    got = by_kernels(p, reverse)
    assert all(array.dtype == dtype for array in got.values())
    wrong = mismatches(got, expected(cell, sizes, biases, reverse), p.tolerance(dtype))
    assert not wrong, f"(T, B, I, H) = {sizes}, biases {biases}"


@outer_isas
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("h", H)
def test_kernels_are_the_reference_at_the_edges_of_tiles(cell, dtype, isa, reverse, h):
    for sizes, biases in edges(h):
        check(cell, sizes, dtype, reverse, biases)


LARGE = {
    "many chunks of time, one row": (300, 1, 3, 7),
    "many chunks of time, odd rows": (31, 17, 5, 10),
    "a step fills a forward chunk": (3, 64, 4, 6),
    "a step is more than a chunk": (3, 300, 2, 5),
    "a last chunk of one step": (65, 4, 1, 3),
    "many chunks backward, one row": (1100, 1, 3, 7),
    "many chunks backward, odd rows": (133, 17, 5, 10),
    "sums longer than a block": (4, 3, 270, 300),
    "sums of groups of rows": (4, 101, 3, 66),
    "many chunks of groups of rows": (70, 38, 3, 66),
}


# To draw a large problem of relu that is far from every kink takes a second.
LONG = "rnn_relu", "many chunks of groups of rows"


@outer_isas
@every_dtype
@both_ways
@pytest.mark.parametrize(
    "cell, sizes",
    [
        pytest.param(
            cell, sizes, id=f"{cell}-{name}", marks=[pytest.mark.slow] * ((cell, name) == LONG)
        )
        for cell in CELLS
        for name, sizes in LARGE.items()
    ],
)
def test_kernels_are_the_reference_beyond_chunks_and_blocks(cell, dtype, isa, reverse, sizes):
    check(cell, sizes, dtype, reverse)


@outer_isas
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("sizes", [(5, 3, 2, 9), (3, 5, 2, 9)], ids=str)
def test_y_and_dy_may_be_part_of_wider_rows_and_batch_first(cell, dtype, isa, reverse, sizes):
    """Two directions side by side have such arrays, in either order of the axes."""
    p = problem(cell, *sizes, dtype=dtype)
    wanted = by_kernels(p, reverse)
    for order in (lambda a: a, lambda a: a.swapaxes(0, 1)):
        y, dy, x = (order(within_nans(order(a))) for a in (np.zeros_like(p.dy), p.dy, p.x))
        base = y if y.base is None else y.base
        assert_same_bits(by_kernels(replace(p, x=x, dy=dy), reverse, y), wanted)
        assert np.isnan(base).sum() == base.size - y.size


@outer_isas
@every_dtype
@every_cell
def test_a_gradient_not_given_is_zero(cell, dtype, isa):
    p = problem(cell, dtype=dtype)
    zero_dy, zeros = np.zeros_like(p.dy), tuple(np.zeros_like(s) for s in p.dstate)
    for given, whole in [
        (replace(p, dy=None), replace(p, dy=zero_dy)),
        (replace(p, dstate=(None,) * len(zeros)), replace(p, dstate=zeros)),
        (
            replace(p, dstate=(None, *p.dstate[1:])),
            replace(p, dstate=(zeros[0], *p.dstate[1:])),
        ),
    ]:
        y = np.zeros_like(p.dy)
        got, wanted = by_kernels(given, y=y.copy()), by_kernels(whole, y=y.copy())
        assert not mismatches(got, wanted, 0.0)


@outer_isas
@every_dtype
@pytest.mark.parametrize("cell", BOUNDED)
def test_infinite_inputs_saturate_and_give_no_nan(cell, dtype, isa):
    """Cells with bounded activations give exactly the results of huge finite inputs."""
    p = problem(cell, i=1, dtype=dtype)
    infinite, huge = (replace(p, x=np.full_like(p.x, v)) for v in (np.inf, 1e30))
    assert_same_bits(infer(infinite), infer(huge))
    assert np.isfinite(infer(infinite)[0]).all()


@outer_isas
def test_lstm_gates_are_exact_at_infinity(isa):
    """Infinite biases: i = 1, f = 0, g = -1, o = 1, so c = -1 from any c."""
    p = problem("lstm", h=1)
    bias = np.array([np.inf, -np.inf, -np.inf, np.inf])
    p = replace(p, weights=(*(np.zeros_like(w) for w in p.weights[:2]), bias, None))
    y, (_, c) = infer(p)
    assert (c == -1).all()
    assert (np.abs(y + np.tanh(1.0)) < 4e-16).all()


@outer_isas
@every_dtype
def test_relu_has_slope_zero_at_zero(isa, dtype):
    p = problem("rnn_relu", 1, 1, 1, 1, biases=(0, 0), dtype=dtype)
    p = replace(p, x=p.x * 0, state=(p.state[0] * 0,))
    got = by_kernels(p)
    assert got["y"].item() == 0 and got["dx"].item() == 0 and got["dh0"].item() == 0


@outer_isas
@every_dtype
def test_denormals_pass_through(isa, dtype):
    """IEEE operations only: nothing is flushed to zero, in inputs, intermediates or outputs."""
    tiny = np.finfo(dtype).smallest_subnormal
    p = problem("rnn_relu", 3, 2, 1, 1, biases=(0, 0), dtype=dtype)
    one = np.ones((1, 1), dtype)
    p = replace(p, x=np.full_like(p.x, tiny), weights=(one, one * 0, None, None))
    p = replace(p, dy=np.full_like(p.dy, tiny), dstate=(None,))
    got = by_kernels(p)
    assert (got["y"] == tiny).all() and (got["dx"] == tiny).all()


# ---- the comparison itself -----------------------------------------------------------------------
# Faults of kernels, planted in the reference: the comparison above must find them.

SEEN = [(3, 9, 3, 17), (4, 5, 15, 130), (300, 1, 3, 7)]


def noticed(cell, sizes, change):
    p = problem(cell, *sizes)
    wanted = by_reference(p)
    return mismatches(change(p, {k: v.copy() for k, v in wanted.items()}), wanted,
                      p.tolerance("float32"))  # fmt: skip


def swapped(array, first, second, gates):
    parts = list(np.split(array, gates))
    parts[first], parts[second] = parts[second], parts[first]
    return np.concatenate(parts)


def matrix(cell):
    """The gradient of the matrix that sees all of the state; of W_ih where there is no W_hh."""
    return "dw_hh" if CELLS[cell].recurrent else "dw_ih"


@every_cell
@pytest.mark.parametrize("sizes", SEEN)
def test_two_gates_swapped_would_be_seen(cell, sizes):
    gates = CELLS[cell].gates
    names = weight_names(CELLS[cell])
    for pair in combinations(range(gates), 2):
        for name in names:

            def change(p, out, name=name, pair=pair):
                weights = dict(zip(WEIGHTS, p.weights, strict=True))
                weights[name] = swapped(weights[name], *pair, gates)
                return by_reference(replace(p, weights=tuple(weights.values())))

            assert {"y", "h", "dx", "dh0", matrix(cell)} <= noticed(cell, sizes, change).keys()
        for name in (f"d{w}" for w in names):

            def change(p, out, name=name, pair=pair):
                return out | {name: swapped(out[name], *pair, gates)}

            assert name in noticed(cell, sizes, change)


@every_cell
@pytest.mark.parametrize("sizes", SEEN)
def test_a_step_or_a_gradient_left_out_would_be_seen(cell, sizes):
    def last_step(p, out):
        """The sums and the state lack the last step."""
        short = by_reference(replace(p, x=p.x[:-1], dy=p.dy[:-1]))
        return short | {k: np.concatenate([short[k], out[k][-2:-1]]) for k in ("y", "dx")}

    gradients = {"dx", "dw_ih", "db_ih", matrix(cell)}
    assert noticed(cell, sizes, last_step).keys() >= {"y", "h", *gradients}

    def dy_of_last_step(p, out):
        return by_reference(replace(p, dy=np.concatenate([p.dy[:-1], 0 * p.dy[:1]])))

    assert gradients <= noticed(cell, sizes, dy_of_last_step).keys()

    def final_state(p, out):
        return by_reference(replace(p, dstate=(None,) * len(p.dstate)))

    assert gradients <= noticed(cell, sizes, final_state).keys()

    def initial_state(p, out):
        return by_reference(replace(p, state=tuple(0 * s for s in p.state)))

    assert {"y", matrix(cell)} <= noticed(cell, sizes, initial_state).keys()


@every_cell
@pytest.mark.parametrize("sizes", SEEN[:2])
def test_a_tail_left_unwritten_or_one_number_would_be_seen(cell, sizes):
    answer = expected(cell, sizes)
    for name, array in answer.items():
        largest = np.unravel_index(np.abs(array).argmax(), array.shape)
        for place, value in (((..., -1), 0), ((-1,), 0), (largest, 0), (largest, np.nan)):

            def change(p, out, name=name, place=place, value=value):
                out[name][place] = value
                return out

            assert noticed(cell, sizes, change).keys() == {name}
