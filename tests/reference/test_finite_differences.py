"""A user's cell: a step of it, and its derivative compared with finite differences."""

import numpy as np
import pytest

from fastrnn import reference

pytestmark = pytest.mark.no_kernels


@pytest.mark.parametrize("cell", reference.CELLS)
def test_the_cells_that_there_are_pass(cell):
    errors = reference.check(cell, rng=2)
    states = ["h0", "c0"][: reference.CELLS[cell].states]
    has_w_hh = reference.CELLS[cell].phases
    weights = ["w_ih", "w_hh", "b_ih", "b_hh"] if has_w_hh else ["w_ih", "b_ih"]
    assert list(errors) == ["x", *states, *weights]
    assert max(errors.values()) < 1e-6


def step(a, state, w, b):
    (h,) = state
    u = h @ w.T + b
    return (np.tanh(a[0]) * u,), (h,), (a[0], u)


def derivative(dstate, saved, w, da, du):
    (dh,), (a, u) = dstate, saved
    da[0] = dh * u * (1 - np.tanh(a) ** 2)
    du[0] = dh * np.tanh(a)
    return (du[0] @ w,)


def test_a_cell_of_ones_own_passes_where_its_derivative_is_right():
    reference.check(reference.Cell(1, 1, step, derivative, ((0, 1),), added=False))


@pytest.mark.parametrize("what", ["da", "du", "dstate", "nothing written"])
def test_a_wrong_derivative_is_named(what):
    def wrong(dstate, saved, w, da, du):
        (before,) = derivative(dstate, saved, w, da, du)
        if what == "nothing written":
            da[...] = np.nan
        {"da": da, "du": du, "dstate": before}.get(what, da)[...] *= 1.001
        return (before,)

    names = {"da": "x", "du": "w_hh", "dstate": "x", "nothing written": "x"}
    cell = reference.Cell(1, 1, step, wrong, ((0, 1),), added=False)
    with pytest.raises(ValueError, match=f"the derivative of {names[what]} must be .*, got"):
        reference.check(cell)


@pytest.mark.parametrize("cell", reference.CELLS)
def test_a_step_is_that_of_the_loop(cell):
    rng, row = np.random.default_rng(0), reference.CELLS[cell]
    x, rows = rng.uniform(-1, 1, (3, 2, 4)), 5 * row.gates
    weights = [rng.uniform(-1, 1, shape) for shape in ((rows, 4), (rows, 5), rows, rows)]
    state = None
    for x_t in x:
        state = reference.step(cell, x_t, state, *weights)
    _, wanted = reference.infer(cell, x, None, *weights)
    for got, array in zip(state, wanted, strict=True):
        np.testing.assert_allclose(got, array, rtol=1e-13)


def test_a_step_takes_integers_for_ones_among_zeros():
    w_ih, w_hh = np.random.default_rng(0).uniform(-1, 1, (2, 8, 2))
    (h,) = reference.step("rnn_tanh", np.array([1, 0]), None, w_ih[:2], w_hh[:2])
    (other,) = reference.step("rnn_tanh", np.eye(2)[[1, 0]], None, w_ih[:2], w_hh[:2])
    np.testing.assert_allclose(h, other, rtol=1e-13)
