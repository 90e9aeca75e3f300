"""Ragged batches with very few steps: backward ends, and gives the right gradients.

Backward divides a batch into groups of rows by their steps, for the cells that have W_hh. If there
are fewer steps than groups, some groups have no rows, or rows without a step. So these tests try
every number of steps around the number of groups, for sizes around those at which groups begin. A
watchdog ends calls that hang.
"""

import itertools
import math

import numpy as np
import pytest
from problems import RECURRENT, assert_close, assert_same_bits, layer_of
from watched import run_watched

import fastrnn
from fastrnn._cells.registry import CELLS
from fastrnn._engine import runtime

pytestmark = pytest.mark.usefixtures("core")

INPUTS, GROUPS, MORE_GROUPS = 8, 4, 8
# The numbers of csrc/backward/layout.c: the least work of a group, the most bytes of its weights,
# and the rows of a group if there are more than four.
MULTIPLY_ADDS, WEIGHT_BYTES, ROWS_IF_MORE = 100_000, 327_680, 128


def units_about_limits(gates, batch, itemsize):
    """Units just below and above the limits at which two and four groups begin, and groups end."""
    begins = [math.isqrt(n * MULTIPLY_ADDS // (gates * batch)) for n in (2, GROUPS)]
    ends = int((WEIGHT_BYTES / itemsize / gates + INPUTS**2 / 4) ** 0.5 - INPUTS / 2)
    return sorted({h for limit in (*begins, ends) for h in (limit, limit + 1)})


def gradients_in_buffer(cell, batch, steps, dtype, hidden):
    """The memory of backward in that of a cell's weight gradients, which each group needs."""
    one = np.dtype(dtype).itemsize * CELLS[cell].gates * hidden * (INPUTS + hidden + 2)
    return (
        runtime.core.Sizes(
            CELLS[cell].index, np.dtype(dtype), steps, batch, INPUTS, hidden
        ).backward
        / one
    )


def lengths_of_sum(total, batch, steps, rng):
    """Random lengths of rows, up to `steps` each, with this total."""
    taken = rng.permutation(np.repeat(np.arange(batch), steps))[:total]
    return np.bincount(taken, minlength=batch)


def gradients(layer, x, lengths, dy, **options):
    _, state, tape = layer.forward(x, lengths=lengths, **options)
    grads = tape.backward(dy, state)
    norms = tape.gradient_norms(dy)
    return {"x": grads.x, "state": grads.state, "flat": grads.flat, "norms": norms}


def check(cell, batch, hidden, steps, dtype, checkpoints=(None, 2), threads=(1, 3), groups=GROUPS):
    """Gradients for every sum of lengths are near the reference's, and the same in every way."""
    rng = np.random.default_rng((batch, hidden, steps))
    layer = layer_of(cell, INPUTS, hidden, dtype=dtype)
    x, dy = (rng.standard_normal((steps, batch, n)).astype(dtype) for n in (INPUTS, hidden))
    for total in range(2 * groups + 1):
        lengths = lengths_of_sum(total, batch, steps, rng)
        with fastrnn.backend("reference"):
            wanted = gradients(layer, x, lengths, dy)
        answers = []
        for checkpoint, n in itertools.product(checkpoints, threads):
            with fastrnn.threads(n):
                answers.append(gradients(layer, x, lengths, dy, checkpoint=checkpoint))
        assert_close(answers[0], wanted, dtype, factor=1024)
        for other in answers[1:]:
            assert_same_bits(other, answers[0])


def check_cell(cell):
    """The sizes at which all groups begin to have rows, for the default suite."""
    gates = CELLS[cell].gates
    for batch, steps, dtype in ((32, 1, "float32"), (128, 2, "float64")):
        below, above = units_about_limits(gates, batch, np.dtype(dtype).itemsize)[2:4]
        more, fewer = (gradients_in_buffer(cell, batch, steps, dtype, h) for h in (above, below))
        assert more - fewer > 1.5, "two groups do not begin in between"
        check(cell, batch, above, steps, dtype)
        check(cell, batch, below, steps, dtype, checkpoints=(None,), threads=(1,))


def check_more_groups(cell):
    """Eight groups begin with the rows: a batch with one row less has four."""
    least = MORE_GROUPS * ROWS_IF_MORE
    for batch, steps, dtype in ((least, 2, "float32"), (1100, 1, "float64")):
        hidden = math.isqrt(MORE_GROUPS * MULTIPLY_ADDS // (CELLS[cell].gates * (least - 1))) + 1
        more, fewer = (
            gradients_in_buffer(cell, b, steps, dtype, hidden) for b in (least, least - 1)
        )
        assert more - fewer > 3.5, "four groups do not begin in between"
        check(cell, batch, hidden, steps, dtype, checkpoints=(None, 1), groups=MORE_GROUPS)
        check(cell, least - 1, hidden, steps, dtype, (None,), (1,))


def check_all(cell):
    sizes = itertools.product((8, 16, 31, 32, 64, 128), (1, 2, 7, 20))
    for n, (batch, steps) in enumerate(sizes):
        dtype = ("float32", "float64")[n % 2]
        itemsize = np.dtype(dtype).itemsize
        for hidden in units_about_limits(CELLS[cell].gates, batch, itemsize):
            check(cell, batch, hidden, steps, dtype, (None, 1, 3), (1, 2, 8)[n % 2 :])


def check_windows(seeds):
    """Padded batches in windows; in the last one only the longest row has a step."""
    layer = fastrnn.LSTM(INPUTS, 64, rng=0)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(20, 200, 32)
        lengths[3] = 20 * (lengths.max() // 20 + 1) + 1  # one step alone in the last window
        x = rng.standard_normal((lengths.max(), 32, INPUTS)).astype("float32")
        done = 0
        for window in fastrnn.tbptt(layer, x, 20, lengths=lengths):
            grads = window.backward(np.ones_like(window.y))
            assert np.isfinite(grads.flat).all()
            done += len(window.y)
        assert done == len(x)


@pytest.mark.parametrize("cell", RECURRENT)
def test_backward_ends_however_few_steps_are_left(cell):
    run_watched(f"import test_few_steps as t\nt.check_cell({cell!r})")


@pytest.mark.parametrize("cell", RECURRENT)
def test_backward_ends_however_few_steps_are_left_for_more_groups(cell):
    run_watched(f"import test_few_steps as t\nt.check_more_groups({cell!r})")


@pytest.mark.slow
@pytest.mark.parametrize("cell", RECURRENT)
def test_backward_ends_however_few_steps_are_left_for_all_sizes(cell):
    run_watched(f"import test_few_steps as t\nt.check_all({cell!r})", seconds=900)


def test_groups_of_rows_without_a_step():
    run_watched("""
import numpy as np, fastrnn
layer = fastrnn.LSTM(8, 64, rng=0)
for lengths in [1] + [0] * 31, [0] * 32, [0] * 31 + [7]:
    y, _, tape = layer.forward(np.zeros((7, 32, 8), "float32"), lengths=lengths)
    tape.backward(np.ones_like(y))
""")


def test_windows_over_padded_batches_go_to_their_end():
    run_watched("import test_few_steps as t\nt.check_windows(range(3))")


@pytest.mark.slow
def test_windows_over_many_padded_batches_go_to_their_end():
    run_watched("import test_few_steps as t\nt.check_windows(range(200))", seconds=600)
