"""rnn, lstm, gru and the others: shapes, zero sizes, and arrays of any layout. On each backend."""

from dataclasses import replace

import numpy as np
import one_pass
import pytest
from decorators import both_ways, every_backend, every_cell, every_dtype, every_layout
from problems import (
    BIASES,
    WEIGHTS,
    assert_close,
    assert_same_bits,
    by_reference,
    call_function,
    infer,
    misaligned,
    problem,
    unchanged,
    weight_names,
)

import fastrnn
from fastrnn._cells.registry import CELLS


@every_backend
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("biases", BIASES.values(), ids=BIASES)
def test_y_and_the_final_state_are_the_references(cell, dtype, reverse, biases, backend):
    p = problem(cell, biases=biases, dtype=dtype)
    y, state = infer(p, reverse)
    wanted = by_reference(problem(cell, biases=biases), reverse)
    assert y.dtype == dtype and all(s.dtype == dtype for s in state)
    wanted = (wanted["y"], tuple(wanted[s] for s in p.cell.states))
    assert_close(
        (y, state), (wanted[0].astype(dtype), tuple(s.astype(dtype) for s in wanted[1])), dtype
    )


@every_backend
@every_cell
def test_the_final_state_is_the_last_step_of_the_run(cell, backend):
    p = problem(cell)
    for reverse, last in ((False, -1), (True, 0)):
        y, state = infer(p, reverse)
        assert_same_bits(state[0], y[last])
        assert not any(np.shares_memory(a, b) for a in state for b in (y, *p.state))


@every_backend
@every_cell
def test_a_state_of_none_is_zeros(cell, backend):
    p = problem(cell)
    zeros = replace(p, state=tuple(np.zeros_like(s) for s in p.state))
    y, state = call_function(p, state=None)
    assert_same_bits((y, state if isinstance(state, tuple) else (state,)), infer(zeros))


@every_backend
def test_one_part_of_a_state_may_be_none_too(backend):
    p = problem("lstm")
    h, c = p.state
    none = np.zeros_like(h)
    assert_same_bits(
        fastrnn.lstm(p.x, (None, c), *p.weights), fastrnn.lstm(p.x, (none, c), *p.weights)
    )
    assert_same_bits(
        fastrnn.lstm(p.x, (h, None), *p.weights), fastrnn.lstm(p.x, (h, none), *p.weights)
    )


@every_backend
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 5), (4, 0, 2, 5), (4, 3, 0, 5), (0, 0, 0, 5)], ids=["T", "B", "I", "all"]
)
def test_sizes_of_zero_are_defined(cell, dtype, reverse, sizes, backend):
    p = problem(cell, *sizes, dtype=dtype)
    y, state = infer(p, reverse)
    t, b, _, h = sizes
    assert y.shape == (t, b, h) and y.dtype == dtype
    if t == 0:
        assert_same_bits(state, p.state)
        assert not any(np.shares_memory(a, s) for a, s in zip(state, p.state, strict=True))
    elif b:
        free = replace(p, x=np.zeros((t, b, 1), dtype))
        no_weight = np.zeros((len(p.weights[0]), 1), dtype)
        free = replace(free, weights=(no_weight, *p.weights[1:]))
        assert_close((y, state), infer(free, reverse), dtype)


@every_backend
@every_cell
@both_ways
@pytest.mark.parametrize("sizes", [(0, 3, 2, 5), (4, 0, 2, 5), (4, 3, 0, 5)], ids=["T", "B", "I"])
def test_gradients_at_sizes_of_zero_are_the_references(cell, reverse, sizes, backend):
    p = problem(cell, *sizes)
    _, _, saved = one_pass.run(p.cell, p.x, p.state, p.weights, reverse, keep=True)
    dweights = tuple(None if w is None else np.full_like(w, np.nan) for w in p.weights)
    dx, dfirst = one_pass.run_backward(saved, p.dy, p.dstate, dweights)
    wanted = by_reference(p, reverse)
    assert_close(dx, wanted["dx"], "float64")
    assert_close(dfirst, tuple(wanted[f"d{s}0"] for s in p.cell.states), "float64")
    got = dict(zip(WEIGHTS, dweights, strict=True))
    names = weight_names(p.cell)
    assert_close({w: got[w] for w in names}, {w: wanted[f"d{w}"] for w in names}, "float64")


@every_backend
@every_dtype
@every_cell
@every_layout
def test_x_may_lie_in_memory_as_it_likes(cell, dtype, layout, backend):
    p = problem(cell, 5, 3, 4, 9, dtype=dtype)
    strange = layout(p.x)
    assert_same_bits(strange, p.x)
    with unchanged(strange):
        got = infer(replace(p, x=strange))
    compare = assert_same_bits if backend == "core" else assert_close
    compare(got, infer(p), *(() if backend == "core" else (dtype,)))


@every_backend
@every_cell
@every_layout
def test_the_state_and_the_weights_may_lie_in_memory_as_they_like(cell, layout, backend):
    p = problem(cell, 5, 3, 4, 9)

    def strange(array):
        """An array of one or two axes in a layout, which is made for three axes."""
        return layout(array.reshape((1,) * (3 - array.ndim) + array.shape)).reshape(array.shape)

    def in_place(array):
        whole = layout(array[None] if array.ndim == 2 else array[None, None])
        return whole[0] if array.ndim == 2 else whole[0, 0]

    for change in (strange, in_place):
        q = replace(p.map(change), x=p.x)
        with unchanged(q.state, q.weights):
            assert_close(infer(q), infer(p), "float64")


@every_backend
@every_cell
def test_x_may_repeat_one_row_or_one_step_without_memory(cell, backend):
    p = problem(cell, 5, 3, 4, 9)
    for axis in (0, 1, (0, 1)):
        one = p.x.take([0], 0) if axis == 0 else p.x.take([0], 1) if axis == 1 else p.x[:1, :1]
        view = np.broadcast_to(one, p.x.shape)
        assert_close(infer(replace(p, x=view)), infer(replace(p, x=view.copy())), "float64")
    view = np.broadcast_to(np.array(0.5), p.x.shape)
    assert_close(infer(replace(p, x=view)), infer(replace(p, x=view.copy())), "float64")


@every_backend
@every_cell
def test_everything_misaligned_and_read_only_at_once(cell, backend):
    p = problem(cell)

    def change(array):
        array = misaligned(array)
        array.flags.writeable = False
        return array

    assert_close(infer(p.map(change)), infer(p), "float64")


@every_backend
@every_cell
def test_x_may_be_a_file_mapped_into_memory(cell, backend, tmp_path):
    p = problem(cell)
    np.save(tmp_path / "x.npy", p.x)
    got = infer(replace(p, x=np.load(tmp_path / "x.npy", mmap_mode="r")))
    assert type(got[0]) is np.ndarray
    assert_same_bits(got, infer(p))


def test_one_layer_of_each_name_and_no_more():
    assert {cell.function for cell in CELLS.values()} == {
        "rnn", "lstm", "gru", "min_gru", "min_lstm"
    }  # fmt: skip
