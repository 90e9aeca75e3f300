"""Streams whose rows come and go: steps and chunks of some rows, and more rows."""

import copy
import os
import pickle
import sys

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype
from problems import assert_close, assert_same_bits, layer_of

from fastrnn._engine import runtime

T, B, I, H = 6, 5, 4, 21  # noqa: E741 - as in all the equations
V = 9  # rows of an embedding


def draw(*shape, dtype="float32", seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def agree(got, wanted, dtype="float32"):
    if runtime.uses_core():
        assert_same_bits(got, wanted)
    else:
        assert_close(got, wanted, dtype)


def arrays(state):
    return state if isinstance(state, tuple) else (state,)


ROWS = {
    "in order": [0, 3],
    "in another order": np.array([4, 0, 2]),
    "all": range(B),
    "one": 3,
    "a slice": slice(1, 4),
    "booleans": np.array([True, False, False, True, True]),
    "none": [],
    "no booleans": np.zeros(B, bool),
    "negative": [-1, 0],
}
KINDS = {"features": {}, "ids": {"one_hot": True}, "an embedding": {"embedding": draw(V, I)}}


def x_of(kind, *shape, dtype="float32"):
    if kind == "features":
        return draw(*shape, I, dtype=dtype)
    return np.random.default_rng(1).integers(0, I, shape)


@every_backend
@every_cell
@pytest.mark.parametrize("kind", KINDS)
def test_the_named_rows_step_and_the_others_stay(cell, kind, backend):
    for rows in ROWS.values() if backend == "core" or kind == "ids" else [[4, 0, 2]]:
        check_named(cell, rows, kind)


def check_named(cell, rows, kind):
    frozen = layer_of(cell, I, H, 2).freeze()
    stream, whole = (frozen.stream(B, **KINDS[kind]) for _ in range(2))
    x = x_of(kind, 3, B)
    stream.feed(x[:2])
    whole.feed(x[:2])
    before, index = arrays(stream.state), np.atleast_1d(np.arange(B)[rows])
    y, wanted = stream.step(x[2][index], rows=rows), whole.step(x[2])
    agree(y, wanted[index])
    for got, held, full in zip(arrays(stream.state), before, arrays(whole.state), strict=True):
        others = np.setdiff1d(np.arange(B), index)
        assert_same_bits(got[:, others], held[:, others])
        agree(got[:, index], full[:, index])


@every_backend
@every_dtype
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_of_some_rows_is_their_steps(dtype, batch_first, kind, backend):
    options = {"dtype": dtype, "batch_first": batch_first}
    given = {k: v.astype(dtype) if k == "embedding" else v for k, v in KINDS[kind].items()}
    frozen = layer_of("lstm", I, H, 2, **options).freeze()
    stream, steps = (frozen.stream(B, **given) for _ in range(2))
    rows, x = [3, 1], x_of(kind, T, 2, dtype=dtype)
    chunk = x.swapaxes(0, 1) if batch_first else x
    out = np.full((2, T, H) if batch_first else (T, 2, H), 9, dtype)
    y = stream.feed(chunk, out=out, rows=rows)
    assert y is out
    wanted = np.stack([steps.step(x_t, rows=rows) for x_t in x], axis=int(batch_first))
    agree(y, wanted, dtype)
    agree(stream.state, steps.state, dtype)


@every_backend
def test_rows_are_as_if_each_had_a_stream_of_its_own(backend):
    """Requests that come and go at random."""
    frozen, rng = layer_of("gru_after", I, H, 2).freeze(), np.random.default_rng(3)
    stream, alone = frozen.stream(B), [frozen.stream() for _ in range(B)]
    for _ in range(30):
        rows = rng.permutation(B)[: rng.integers(0, B + 1)]
        x = rng.uniform(-1, 1, (len(rows), I)).astype("f4")
        y = stream.step(x, rows=rows)
        for k, row in enumerate(rows):
            agree(y[k : k + 1], alone[row].step(x[k : k + 1]))
        if rng.random() < 0.2:
            row = int(rng.integers(0, B))
            stream.reset(row)
            alone[row].reset()


@every_backend
@pytest.mark.parametrize(
    "x, rows, out, error, message",
    [
        (draw(2, I), [1, 1], None, ValueError, "rows must name each row once, got"),
        (draw(2, I), [0, B], None, ValueError, f"rows must be within the {B} of the stream"),
        (draw(2, I), [0, -B - 1], None, ValueError, f"rows must be within the {B} of the stream"),
        (draw(2, I), np.ones(4, bool), None, ValueError, f"rows must be within the {B}"),
        (draw(2, I), [0.5, 1], None, TypeError, "numbers of rows .* use astype"),
        (draw(2, I), {0, 1}, None, TypeError, r"numbers of rows .* use rows=sorted\(rows\)"),
        (draw(2, I), "all", None, TypeError, "rows must be numbers of rows or B booleans, got all"),
        (draw(1, I), [2**64 - 1], None, ValueError, f"rows must be within the {B} of the stream"),
        (draw(1, I), np.uint64(2**64 - 1), None, ValueError, f"rows must be within the {B}"),
        (draw(2, I), True, None, TypeError, "rows must be numbers of rows"),
        (draw(3, I), [0, 1], None, ValueError, r"x must be \(B, input_size\) = \(2, 4\)"),
        (draw(2, I + 1), [0, 1], None, ValueError, "x must be"),
        (draw(2, I, dtype="float64"), [0, 1], None, TypeError, "x must be float32"),
        (draw(2, I), [0, 1], np.zeros((3, H), "f4"), ValueError, "out must be"),
        (draw(2, I), [0, 1], np.zeros((2, H)), TypeError, "out must be float32"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(x, rows, out, error, message, backend):
    stream = layer_of("lstm", I, H, 2).stream(B)
    stream.step(draw(B, I))
    before = copy.deepcopy(stream.state)
    with pytest.raises(error, match=message):
        stream.step(x, out=out, rows=rows)
    assert_same_bits(stream.state, before)


@every_backend
@every_cell
@pytest.mark.parametrize("kind", KINDS)
def test_more_rows_begin_at_zero_and_the_others_go_on(cell, kind, backend):
    frozen = layer_of(cell, I, H, 2).freeze()
    stream, other = (frozen.stream(B, **KINDS[kind]) for _ in range(2))
    x = x_of(kind, 3, B + 2)
    for s in stream, other:
        s.feed(x[:2, :B])
    stream.grow(0)
    assert_same_bits(stream.state, other.state)
    stream.grow(2)
    assert stream.batch_size == B + 2
    for got, held in zip(arrays(stream.state), arrays(other.state), strict=True):
        assert_same_bits(got[:, :B], held)
        assert got.shape[1] == B + 2 and not got[:, B:].any()
    new, stream = frozen.stream(2, **KINDS[kind]), pickle.loads(pickle.dumps(stream))
    y = stream.step(x[2])
    agree(y[:B], other.step(x[2, :B]))
    agree(y[B:], new.step(x[2, B:]))
    assert stream.feed(x).shape == (3, B + 2, H)


@every_backend
@pytest.mark.parametrize("n, error", [(-1, ValueError), (1.5, TypeError), (2**60, ValueError)])
def test_a_stream_does_not_grow_by_what_is_no_number_of_rows(n, error, backend):
    stream = layer_of("gru_after", I, H).stream(B)
    with pytest.raises(error):
        stream.grow(n)
    assert stream.batch_size == B and stream.state.shape[1] == B


@every_backend
def test_large_unsigned_rows_are_outside_and_small_ones_are_not(backend):
    stream = layer_of("lstm", I, H).stream(B)
    with pytest.raises(IndexError, match=f"within the {B}"):
        stream.reset(np.array([2**64 - 2], "u8"))
    x, other = draw(2, I), copy.deepcopy(stream)
    assert_same_bits(
        stream.step(x, rows=np.array([3, 1], "u8")), other.step(x, rows=np.array([3, 1]))
    )


# ---- rows that come while another call has begun -------------------------------------------------


class Between:
    """Runs a function once, at the n-th line of this package's Python code that a call reaches."""

    def __init__(self, n, function):
        self.left, self.function = n, function

    def __call__(self, frame, event, argument):
        if "fastrnn" + os.sep not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.function()
        return self


def calls_of_a_stream():
    """Name -> a function that calls a stream of two rows once."""
    x = np.ones((2, I), "f4")
    return {
        "step": lambda s: s.step(x),
        "step of an odd array": lambda s: s.step(np.asfortranarray(x)),
        "step of some rows": lambda s: s.step(x[:1], rows=[1]),
        "feed": lambda s: s.feed(np.asfortranarray(x[None])),
        "feed of some rows": lambda s: s.feed(x[None, :1], rows=np.array([1])),
        "state": lambda s: setattr(s, "state", np.ones((1, 2, H), "f4")),
        "reset": lambda s: s.reset([0]),
    }


@every_backend
@pytest.mark.parametrize("call", calls_of_a_stream())
def test_rows_that_come_during_a_call_lose_nothing(call, backend):
    """The call does all that it does, or raises and does nothing; the next call works."""
    make, run = layer_of("gru_after", I, H).freeze, calls_of_a_stream()[call]
    frozen = make()
    first = np.full((1, 2, H), 0.5, "f4")
    wanted = frozen.stream(2)
    wanted.state = first
    run(wanted)
    cut = 0
    for line in range(1, 200):
        stream = frozen.stream(2)
        stream.state = first
        between = Between(line, lambda stream=stream: stream.grow(1))
        before = sys.gettrace()  # that of a coverage tool
        sys.settrace(between)
        try:
            run(stream)
            done = True
        except (RuntimeError, ValueError):
            done = False
        finally:
            sys.settrace(before)
        if between.left > 0:
            break
        cut += 1
        after = wanted.state if done else first
        if stream.batch_size == 3:
            assert_same_bits(stream.state[:, :2], after)
            assert not stream.state[:, 2].any()
        stream.step(np.ones((1, I), "f4"), rows=[0])
        stream.step(np.ones((stream.batch_size, I), "f4"))
    assert cut > 1
