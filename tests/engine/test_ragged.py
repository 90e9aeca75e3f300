"""Lengths, masks and resets: a batch of ragged sequences against each sequence alone.

First the reference is compared with a loop over single rows and steps, and with finite differences.
Then the kernels are compared with the reference. Then a row must have the same bits in any batch.
"""

from dataclasses import replace

import numpy as np
import pytest
from decorators import both_ways, every_backend, every_cell, every_dtype, every_isa
from problems import (
    WEIGHTS,
    assert_close,
    assert_same_bits,
    by_kernels,
    by_reference,
    layer_of,
    mismatches,
    problem,
    unchanged,
    weight_names,
)

import fastrnn
from fastrnn import reference
from fastrnn._cells.registry import CELLS
from fastrnn._engine import ragged

KINDS = {
    "lengths": ("lengths",),
    "lengths in order": ("sorted lengths",),
    "mask": ("mask",),
    "reset": ("reset",),
    "reset to initial": ("reset", "reset_to"),
    "all of them": ("lengths", "mask", "reset"),
    "all in order, to initial": ("sorted lengths", "mask", "reset", "reset_to"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def rows_of_kind(kind, steps, batch, seed=0):
    """Options of that kind for a batch: a row without steps, one of all steps, gaps, resets."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, steps + 1, batch)
    lengths[rng.integers(0, batch, 2)] = 0, steps
    options = {
        "lengths": lengths,
        "sorted lengths": np.sort(lengths)[::-1],
        "mask": rng.random((steps, batch)) < 0.6,
        "reset": rng.random((steps, batch)) < 0.25,
        "reset_to": "initial",
    }
    return {name.split()[-1]: options[name] for name in KINDS[kind]}


def row_by_row(p, reverse, lengths=None, mask=None, reset=None, reset_to="zero"):
    """y and the last state by definition, one row and one step at a time."""
    y = np.zeros(p.dy.shape, p.x.dtype)
    last = tuple(s.copy() for s in p.state)
    steps, batch, _ = p.x.shape
    for b in range(batch):
        first = state = tuple(s[b : b + 1] for s in p.state)
        end = steps if lengths is None else lengths[b]
        for t in range(end)[:: -1 if reverse else 1]:
            if reset is not None and reset[t, b]:
                state = first if reset_to == "initial" else tuple(np.zeros_like(s) for s in first)
            if mask is None or mask[t, b]:
                _, state = reference.infer(
                    p.cell.name, p.x[t : t + 1, b : b + 1], state, *p.weights
                )
            y[t, b] = state[0]
        for target, s in zip(last, state, strict=True):
            target[b] = s
    return y, last


# ---- the reference -------------------------------------------------------------------------------


@every_cell
@every_kind
@both_ways
def test_a_ragged_batch_is_its_rows_one_by_one(cell, kind, reverse):
    p, rows = problem(cell, 6, 5, 2, 3), rows_of_kind(kind, 6, 5)
    got = reference.infer(cell, p.x, p.state, *p.weights, reverse=reverse, **rows)
    assert_close(got, row_by_row(p, reverse, **rows), "float64")


def losses(p, reverse, rows):
    y, last = reference.infer(p.cell.name, p.x, p.state, *p.weights, reverse=reverse, **rows)
    return np.vdot(y, p.dy) + sum(np.vdot(a, d) for a, d in zip(last, p.dstate, strict=True))


def differences(p, reverse, rows, array, step=1e-6):
    """Central differences of the loss by every element of an array of the problem."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        before = array[index]
        array[index] = before + step
        above = losses(p, reverse, rows)
        array[index] = before - step
        gradient[index] = (above - losses(p, reverse, rows)) / (2 * step)
        array[index] = before
    return gradient


@every_cell
@every_kind
@both_ways
def test_gradients_are_finite_differences(cell, kind, reverse):
    p = problem(cell, 5, 4, 2, 3).map(np.copy)
    rows = rows_of_kind(kind, 5, 4)
    got = by_reference(p, reverse, **rows)
    weights = dict(zip(WEIGHTS, p.weights, strict=True))
    arrays = {"dx": p.x, **{f"d{w}": weights[w] for w in weight_names(p.cell)}}
    arrays |= {f"d{s}0": array for s, array in zip(p.cell.states, p.state, strict=True)}
    for name, array in arrays.items():
        wanted = differences(p, reverse, rows, array)
        np.testing.assert_allclose(got[name], wanted, rtol=1e-6, atol=1e-8, err_msg=name)


# ---- the kernels ---------------------------------------------------------------------------------

SIZES = {
    "few": (5, 4, 3, 7),
    "x enters in the step": (9, 19, 5, 17),
    "x by a product before": (9, 3, 40, 33),
    "a chunk for the projection": (150, 2, 30, 8),
    "several chunks backward": (90, 21, 4, 5),
    "groups of rows backward": (20, 33, 6, 40),
    "one row": (7, 1, 3, 5),
}


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@every_dtype
@every_cell
@every_kind
@both_ways
def test_kernels_agree_with_the_reference(cell, kind, reverse, dtype, sizes):
    p = problem(cell, *sizes)
    rows = rows_of_kind(kind, *sizes[:2])
    wanted = by_reference(p, reverse, **rows)
    got = by_kernels(p.map(lambda a: a.astype(dtype)), reverse, **rows)
    assert not mismatches(got, wanted, p.tolerance(dtype))


@pytest.mark.usefixtures("core")
@every_isa
@every_cell
def test_every_instruction_set_agrees(isa, cell):
    p = problem(cell, 9, 19, 5, 17)
    rows = rows_of_kind("all of them", 9, 19)
    wanted = by_reference(p, **rows)
    got = by_kernels(p.map(lambda a: a.astype("float32")), **rows)
    assert not mismatches(got, wanted, p.tolerance("float32"))


def alone(p, b, reverse, lengths=None, mask=None, reset=None, reset_to="zero"):
    """The kernels' y, dx and initial state's gradient for one row without its masked steps."""
    steps = np.arange(len(p.x) if lengths is None else lengths[b])
    if mask is not None:
        steps = steps[mask[steps, b]]
    row = p.rows(slice(b, b + 1))
    row = replace(row, x=row.x[steps], dy=row.dy[steps])
    return steps, by_kernels(row, reverse)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("kind", ["lengths", "lengths in order", "mask"])
@pytest.mark.parametrize("sizes", [(9, 19, 5, 17), (40, 3, 40, 33)], ids=str)
@every_cell
@both_ways
def test_a_row_has_the_bits_it_has_alone(cell, kind, reverse, sizes):
    p = problem(cell, *sizes, dtype="float32")
    if kind == "mask":  # repeated y have gradients that the row alone lacks
        p = replace(p, dy=p.dy * 0)
    rows = rows_of_kind(kind, *sizes[:2])
    got = by_kernels(p, reverse, **rows)
    for b in range(sizes[1]):
        steps, wanted = alone(p, b, reverse, **rows)
        for name in ("y", "dx"):
            np.testing.assert_array_equal(got[name][steps, b], wanted[name][:, 0], err_msg=name)
        for name in {"h", "c", "dh0", "dc0"} & wanted.keys():
            np.testing.assert_array_equal(got[name][b], wanted[name][0], err_msg=name)


@pytest.mark.usefixtures("core")
@every_cell
@every_kind
@pytest.mark.parametrize("sizes", [(30, 37, 24, 40), (40, 6, 100, 96)], ids=str)
def test_threads_never_show(cell, kind, sizes):
    p = problem(cell, *sizes, dtype="float32")
    rows = rows_of_kind(kind, *sizes[:2])
    with fastrnn.threads(1):
        wanted = by_kernels(p, **rows)
    for n in (2, 3, 8):
        with fastrnn.threads(n):
            assert_same_bits(by_kernels(p, **rows), wanted)


# ---- on either backend ---------------------------------------------------------------------------


@every_backend
@every_cell
@both_ways
def test_what_stands_in_the_gaps_is_not_looked_at(backend, cell, reverse):
    p = problem(cell, 6, 5, 2, 3).map(np.copy)
    rows = rows_of_kind("all of them", 6, 5)
    run = by_kernels if backend == "core" else by_reference
    wanted = run(p, reverse, **rows)
    works = (np.arange(6)[:, None] < rows["lengths"]) & rows["mask"]
    p.x[~works] = np.nan
    p.dy[np.arange(6)[:, None] >= rows["lengths"]] = np.nan
    assert_same_bits(run(p, reverse, **rows), wanted)


@every_backend
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True}], ids=str)
@every_kind
def test_layers_of_a_stack_are_as_many_calls(backend, options, kind):
    steps, batch = 6, 5
    layer = layer_of("lstm", 3, 4, 2, dtype="float64", **options)
    x = problem("lstm", steps, batch, 3, 4).x
    rows = rows_of_kind(kind, steps, batch)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    wanted, lasts = x, []
    with fastrnn.backend(backend):
        for index in range(2):
            ys = []
            for suffix in ["", "_reverse"][: layer.num_directions]:
                weights = [layer.params[f"{name}_l{index}{suffix}"] for name in names]
                y, last = fastrnn.lstm(wanted, None, *weights, reverse=bool(suffix), **rows)
                ys.append(y)
                lasts.append(last)
            wanted = np.concatenate(ys, axis=2)
        if layer.batch_first:
            x, wanted = x.swapaxes(0, 1), wanted.swapaxes(0, 1)
            rows |= {name: rows[name].T for name in ("mask", "reset") if name in rows}
        y, state = layer(x, **rows)
        trained, trained_state, _ = layer.forward(x, **rows)
    assert_same_bits((y, state), (wanted, tuple(map(np.stack, zip(*lasts, strict=True)))))
    assert_same_bits((trained, trained_state), (y, state))


@every_backend
@every_kind
def test_a_layers_gradients_are_those_of_its_calls(backend, kind):
    p = problem("gru_after", 6, 5, 3, 4)
    rows = rows_of_kind(kind, 6, 5)
    layer = layer_of("gru_after", 3, 4, dtype="float64")
    for target, weight in zip(layer.params.values(), p.weights, strict=True):
        target[...] = weight
    with fastrnn.backend(backend):
        _, _, tape = layer.forward(p.x, p.state[0][None], **rows)
        grads = tape.backward(p.dy, p.dstate[0][None])
    wanted = by_reference(p, **rows)
    assert_close(
        [grads.x, grads.state[0], *grads.params.values()],
        [wanted[name] for name in ("dx", "dh0", "dw_ih", "dw_hh", "db_ih", "db_hh")],
        "float64",
    )


@every_backend
@pytest.mark.parametrize("merge", ["concat", "mul"])
def test_masked_outputs_may_be_zeros(backend, merge):
    layer = layer_of("lstm", 3, 4, bidirectional=True, merge=merge, dtype="float64")
    p, mask = problem("lstm", 6, 5, 3, 4), rows_of_kind("mask", 6, 5)["mask"]
    options = {"mask": mask, "zero_output_for_mask": True}
    with fastrnn.backend(backend):
        y, state, tape = layer.forward(p.x, mask=mask)
        shown, shown_state, shown_tape = layer.forward(p.x, **options)
        assert_same_bits(layer(p.x, **options), (shown, shown_state))
        dy = np.ones_like(y)
        grads = shown_tape.backward(dy).flat
        wanted = tape.backward(dy * mask[:, :, None]).flat
    assert_same_bits((shown, shown_state), (np.where(mask[:, :, None], y, 0), state))
    assert_same_bits(grads, wanted)


@every_backend
def test_a_single_sequence_has_a_number_for_its_length(backend):
    layer = layer_of("lstm", 3, 4)
    x = problem("lstm", 6, 1, 3, 4, dtype="float32").x
    mask, reset = (rows_of_kind("all of them", 6, 3)[name] for name in ("mask", "reset"))
    with fastrnn.backend(backend):
        y, (h, _) = layer(x[:, 0], lengths=4, mask=mask[:, 0], reset=reset[:, 0])
        wanted, (last, _) = layer(x, lengths=[4], mask=mask[:, :1], reset=reset[:, :1])
    assert_same_bits((y, h), (wanted[:, 0], last[:, 0]))


@every_backend
def test_full_lengths_and_empty_masks_change_nothing(backend):
    layer = layer_of("lstm", 3, 4)
    x = problem("lstm", 6, 5, 3, 4, dtype="float32").x
    with fastrnn.backend(backend):
        wanted = layer(x)
        got = layer(x, lengths=[6] * 5, mask=np.ones((6, 5), bool), reset=np.zeros((6, 5), bool))
    assert_same_bits(got, wanted)
    assert ragged.rows(6, 5, [6] * 5, np.ones((6, 5), bool), np.zeros((6, 5), bool)) is None


@every_backend
@pytest.mark.parametrize("sizes", [(0, 3), (4, 0), (0, 0)], ids=str)
def test_no_steps_and_no_rows(backend, sizes):
    layer = layer_of("lstm", 3, 4)
    steps, batch = sizes
    x = np.ones((steps, batch, 3), "float32")
    state = tuple(np.ones((1, batch, 4), "float32") for _ in range(2))
    lengths = np.zeros(batch, int)
    with fastrnn.backend(backend):
        y, last, tape = layer.forward(x, state, lengths=lengths)
        grads = tape.backward(np.ones_like(y), state)
    assert not y.any() and y.shape == (steps, batch, 4)
    assert_same_bits((last, grads.state), (state, state))
    assert not grads.flat.any() and grads.x.shape == x.shape


# ---- bad input -----------------------------------------------------------------------------------

BAD = {
    "longer than T": ({"lengths": [7, 1, 2]}, ValueError, "lengths must be from 0 to T = 6, got 7"),
    "negative": ({"lengths": [1, -1, 2]}, ValueError, "lengths must be from 0 to T = 6, got -1"),
    "not integers": ({"lengths": [1.0, 2, 3]}, TypeError, "lengths must be integers, got dtype"),
    "too few": ({"lengths": [1, 2]}, ValueError, r"lengths must be \(B,\) = \(3,\), got \(2,\)"),
    "a mask of another shape": (
        {"mask": np.ones((3, 6), bool)},
        ValueError,
        r"mask must be \(T, B\) = \(6, 3\), got \(3, 6\): transposed",
    ),
    "a mask of numbers": ({"mask": np.ones((6, 3))}, TypeError, "mask must be booleans.*mask != 0"),
    "a reset of numbers": ({"reset": np.ones((6, 3), int)}, TypeError, "reset must be booleans"),
    "another reset_to": ({"reset_to": "start"}, ValueError, "reset_to must be one of 'zero', '"),
    "a flag that is none": ({"zero_output_for_mask": 1}, TypeError, "zero_output_for_mask must"),
}


@pytest.mark.parametrize("options, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_told_so_and_changes_nothing(options, error, message):
    layer = layer_of("lstm", 2, 4)
    x, flat = np.ones((6, 3, 2), "float32"), layer.flat
    with unchanged(x, flat):
        for call in (layer, layer.forward):
            with pytest.raises(error, match=message):
                call(x, **options)


@every_backend
@pytest.mark.parametrize(
    "rows",
    [
        {"lengths": [3, 0]},
        {"mask": np.array([[True, False]] * 3)},
        {"reset": np.array([[False, True]] + [[False] * 2] * 2)},
    ],
    ids=["no steps", "masked", "reset first"],
)
@pytest.mark.parametrize("cell, options", [*((c, {}) for c in CELLS), ("lstm", {"proj_size": 3})])
def test_a_state_that_no_step_uses_may_hold_anything(cell, options, rows, backend):
    """The row takes no step, or is reset before its first one."""
    layer = layer_of(cell, 2, 5, **options)
    x = np.random.default_rng(0).standard_normal((3, 2, 2)).astype("float32")
    gradients = []
    for bad in (0, np.nan):
        state = [np.zeros((1, 2, n), "float32") for n in layer._structure.state_sizes]
        for part in state:
            part[:, 1] = bad
        y, _, tape = layer.forward(x, tuple(state) if len(state) > 1 else state[0], **rows)
        dy = np.ones_like(y)
        if "mask" in rows:
            dy[:, 1] = 0  # y repeats the state
        gradients.append(tape.backward(dy).flat)
    assert np.isfinite(gradients[1]).all()
    assert_same_bits(*gradients)
