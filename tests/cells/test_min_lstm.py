"""minLSTM where its gates underflow: f / (f + i) and its gradients against decimal arithmetic."""

from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
from decorators import every_dtype
from numpy.testing import assert_allclose
from problems import ISAS, by_kernels, by_reference, problem

from fastrnn._engine import runtime

pytestmark = pytest.mark.any_isa

# Pre-activations whose sigmoid is 0 in float32, in both dtypes, or neither, and about 1.
LEVELS = (-1000.0, -999.5, -200.0, -199.0, -90.0, -1.0, 0.0, 3.0, 40.0, 200.0, 1000.0)
PAIRS = np.array(list(product(LEVELS, LEVELS)))  # of f and i; each pair is one unit


@pytest.fixture(params=[*ISAS, "reference"])
def solve(request):
    """The kernels of every instruction set, and the reference: a problem's answer by name."""
    if request.param == "reference":
        yield by_reference
        return
    before = runtime.core.isa()
    runtime.select_isa(request.param)
    yield by_kernels
    runtime.select_isa(before)


def exact(pairs):
    """f / (f + i), its gradients by both pre-activations, and i / (f + i), to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        rows = []
        for pair in pairs:
            f, i = (1 / (1 + (-Decimal(p)).exp()) for p in pair.tolist())
            keep, take = f / (f + i), i / (f + i)
            rows.append([keep, keep * take * (1 - f), -keep * take * (1 - i), take])
        return np.array(rows, float).T


def of_pairs(dtype, state, new):
    """A problem of one step from `state`, whose units have the pre-activations of PAIRS."""
    p = problem("min_lstm", 1, 1, 1, len(PAIRS), dtype=dtype)
    w_ih, _, b_ih, _ = p.weights
    w_ih[...] = 0
    b_ih[...] = np.concatenate([*PAIRS.T, np.full(len(PAIRS), new)])
    p.state[0][...] = state
    p.dy[...], p.dstate[0][...] = 1, 0
    return p


@every_dtype
def test_the_parts_of_old_and_new_are_right_where_both_gates_underflow(solve, dtype):
    """From h = 1 to a candidate of 0, h is f / (f + i)."""
    info = np.finfo(dtype)
    got = solve(of_pairs(dtype, 1, 0))
    assert all(np.isfinite(array).all() for array in got.values())
    keep, *gradients = exact(PAIRS)
    # The error of an exponent is relative, so that of its power grows with the exponent.
    allowed = 8 * float(info.eps) * np.maximum(1, np.abs(PAIRS[:, 0] - PAIRS[:, 1]))
    y, dh0 = got["y"][0, 0], got["dh0"][0]
    for part in (y, dh0):
        assert (np.abs(part - keep) <= allowed * keep + float(info.tiny)).all()
    assert_allclose(got["db_ih"], np.concatenate(gradients), rtol=0, atol=16 * float(info.eps))


@every_dtype
def test_a_small_part_of_the_new_state_has_all_its_digits(solve, dtype):
    """From h = 0 to a candidate of 1, h is i / (f + i): 1 minus the other would be 0 below eps."""
    info = np.finfo(dtype)
    got = solve(of_pairs(dtype, 0, 1))
    take = exact(PAIRS)[-1]
    allowed = 8 * float(info.eps) * np.maximum(1, np.abs(PAIRS[:, 0] - PAIRS[:, 1]))
    y, d_new = got["y"][0, 0], got["db_ih"][2 * len(PAIRS) :]
    for part in (y, d_new):
        assert (np.abs(part - take) <= allowed * take + float(info.tiny)).all()


@every_dtype
def test_equal_gates_take_a_half_of_each_however_small_they_are(solve, dtype):
    same = PAIRS[:, 0] == PAIRS[:, 1]
    y = solve(of_pairs(dtype, 3, 1))["y"][0, 0]
    assert (y[same] == 2).all()


@every_dtype
def test_far_gates_keep_or_replace_the_state_exactly(solve, dtype):
    y = solve(of_pairs(dtype, 3, 7))["y"][0, 0]
    f, i = PAIRS.T
    far = np.minimum(f, 0) - np.minimum(i, 0)
    assert (y[far > 700] == 3).all()
    assert (y[far < -780] == 7).all()
