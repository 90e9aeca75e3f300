"""The variants of cells: their NumPy reference against the papers and finite differences."""

import pickle

import numpy as np
import pytest
from decorators import both_ways, every_dtype, every_varied_cell
from numpy.testing import assert_allclose
from problems import VARIED, assert_close, assert_same_bits
from variants import RAGGED, VARIANTS, Paper, drawn, problem, variant_cell

from fastrnn import reference
from fastrnn._cells.registry import CELLS
from fastrnn._engine.dropout_masks import DropoutMasks
from fastrnn.reference import variants

pytestmark = pytest.mark.no_kernels

every_variant = pytest.mark.parametrize("name", VARIANTS)
with_and_without_masks = pytest.mark.parametrize(
    "with_masks", [False, True], ids=["without masks", "with masks"]
)
each_way = pytest.mark.parametrize(
    ("reverse", "with_masks", "rows"),
    [(False, False, {}), (True, True, {}), (True, True, RAGGED)],
    ids=["forward", "reverse, masks", "ragged, reverse, masks"],
)
TIGHT = {"rtol": 1e-12, "atol": 1e-13}


# ---- the reference -------------------------------------------------------------------------------


@every_variant
@each_way
def test_forward_is_the_papers_row_by_row(name, reverse, with_masks, rows):
    p = problem(name, with_masks, reverse=reverse, ragged=bool(rows))
    assert_papers(p, reverse=reverse, **rows)


@every_variant
def test_there_need_be_no_bias(name):
    p = problem(name, bias=False)
    assert_papers(p)
    got = p.gradients()
    assert got.keys() == p.arrays.keys() and "bias_ln_c" not in got
    for key in ("x", "w_hh"):
        assert_allclose(got[key], finite_differences(p, p.arrays[key]), rtol=1e-6, atol=1e-10)


def assert_papers(p, **rows):
    wanted = Paper(p).run(**rows)
    for y, last in (p.infer(**rows), p.forward(**rows)[:2]):
        assert_allclose(y, wanted[0], **TIGHT)
        for got, state in zip(last, wanted[1], strict=True):
            assert_allclose(got, state, **TIGHT)


STEP = 1e-4


def finite_differences(p, array, **rows):
    """Central differences at STEP and 2 STEP, extrapolated to the fourth order."""
    flat, out = array.reshape(-1), np.empty(array.size)
    for k, here in enumerate(flat.copy()):
        losses = []
        for step in (1, -1, 2, -2):
            flat[k] = here + step * STEP
            losses.append(p.loss(**rows))
        flat[k] = here
        near, far = losses[0] - losses[1], (losses[2] - losses[3]) / 2
        out[k] = (4 * near - far) / (6 * STEP)
    return out.reshape(array.shape)


@every_variant
@each_way
def test_backward_is_the_finite_differences_of_forward(name, reverse, with_masks, rows):
    p = problem(name, with_masks, reverse=reverse, ragged=bool(rows))
    got = p.gradients(reverse=reverse, **rows)
    assert got.keys() == p.arrays.keys()
    for key, array in p.arrays.items():
        if rows and key in ("w_ih", "w_hh"):
            continue  # as their biases
        wanted = finite_differences(p, array, reverse=reverse, **rows)
        assert_allclose(got[key], wanted, rtol=1e-6, atol=1e-10, err_msg=key)
        assert np.abs(wanted).max() > 1e-4, key


def assert_same_pass(p, q, **rows):
    """Outputs, states and gradients of two problems, to the last bit."""
    assert_same_bits(p.infer(**rows), q.infer(**rows))
    assert_same_bits(p.forward(**rows)[:2], q.forward(**rows)[:2])
    assert_same_bits(p.gradients(**rows), q.gradients(**rows))


@every_varied_cell
@every_dtype
@both_ways
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_with_default_options_it_is_the_cell_itself_to_the_bit(cell, dtype, reverse, bias):
    plain = drawn(CELLS[cell], False, bias, 0, (4, 3, 2, 5)).astype(dtype)
    other = drawn(CELLS[cell], False, bias, 0, (4, 3, 2, 5)).astype(dtype)
    other.dropout_masks = DropoutMasks(None, ())
    assert plain.arguments()[0] is reference.CELLS[cell] is not other.arguments()[0]
    assert_same_pass(other, plain, reverse=reverse)


@every_dtype
@pytest.mark.parametrize("cell, bound", [*((c, "clip") for c in VARIED), ("lstm", "cell_clip")])
def test_in_the_limit_it_is_the_cell_itself_to_the_bit(cell, dtype, bound):
    plain = drawn(CELLS[cell], False, True, 0, (4, 3, 2, 5)).astype(dtype)
    other = drawn(variant_cell(cell, **{bound: 1e30}), False, True, 0, (4, 3, 2, 5)).astype(dtype)
    assert other.cell.options is not None
    assert_same_pass(other, plain)


@every_varied_cell
def test_peepholes_of_zero_and_masks_that_keep_all_are_none(cell):
    sizes = (4, 3, 2, 5)
    plain, other = (drawn(CELLS[cell], False, True, 0, sizes) for _ in range(2))
    if cell == "lstm":
        other.cell = variant_cell(cell, peephole=True)
        other.arrays["weight_peephole"] = np.zeros(3 * 5)
    other.dropout_masks = DropoutMasks(
        np.ones((3, 5)), tuple(np.zeros((4, 3, 5)) for _ in other.cell.states)
    )
    wanted, got = plain.gradients(), other.gradients()
    assert_allclose(other.infer()[0], plain.infer()[0], **TIGHT)
    for key, array in wanted.items():
        assert_allclose(got[key], array, **TIGHT)


@pytest.mark.parametrize(
    ("activation", "slope"), [("hard_sigmoid", 1 / 6), ("hard_sigmoid_onnx", 0.2)]
)
def test_a_hard_sigmoid_is_its_formula_and_flat_at_its_kinks_and_beyond(activation, slope):
    p = np.array([-100, -0.5 / slope, -1, 0, 0.3, 0.5 / slope, 7])
    value, back = variants._GATES[activation]
    assert_allclose(value(p), [0, 0, 0.5 - slope, 0.5, 0.5 + 0.3 * slope, 1, 1])
    assert_allclose(back(np.ones(7), value(p)), [0, 0, slope, slope, slope, 0, 0])


@every_variant
@with_and_without_masks
def test_float32_stays_float32(name, with_masks):
    p = problem(name, with_masks)
    single, got = p.astype("float32"), {}
    (y, last), (wanted_y, wanted_last) = single.infer(), p.infer()
    got = {"y": y, "last": last, "gradients": single.gradients()}
    wanted = {"y": wanted_y, "last": wanted_last, "gradients": p.gradients()}
    assert all(a.dtype == np.float32 for a in flatten(got))
    for a, b in zip(flatten(got), flatten(wanted), strict=True):
        assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(1, np.abs(b).max()))


def flatten(tree):
    if isinstance(tree, np.ndarray):
        return [tree]
    return [a for branch in (tree.values() if isinstance(tree, dict) else tree)
            for a in flatten(branch)]  # fmt: skip


@every_variant
def test_a_tape_can_be_pickled(name):
    p = problem(name, with_masks=True)
    tape = pickle.loads(pickle.dumps(p.forward()[2]))
    got = reference.backward(tape, p.dy, p.dstate)
    assert_close(got, reference.backward(p.forward()[2], p.dy, p.dstate), "float64")


@every_variant
@both_ways
def test_nan_stays_in_its_row(name, reverse):
    p, bad = (drawn(problem(name).cell, False, True, 0, (4, 3, 2, 5)) for _ in range(2))
    bad.arrays["x"][1, 1, 0] = np.nan
    (y, _), (y_bad, _) = p.infer(reverse=reverse), bad.infer(reverse=reverse)
    assert np.isnan(y_bad[:2] if reverse else y_bad[1:])[:, 1].all()
    assert_same_bits(y_bad[:, [0, 2]], y[:, [0, 2]])
    got, wanted = bad.gradients(reverse=reverse), p.gradients(reverse=reverse)
    assert_same_bits(got["x"][:, [0, 2]], wanted["x"][:, [0, 2]])
