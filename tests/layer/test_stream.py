"""Streams: single steps give the results of the full sequence; the state, copies, errors."""

import copy
import pickle
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype
from problems import (
    BACKENDS,
    assert_close,
    assert_same_bits,
    at_once,
    layer_of,
    misaligned,
    within_nans,
)

import fastrnn
from fastrnn._cells.registry import CELLS

T, B, I, H = 7, 3, 4, 21  # noqa: E741 - as in all the equations


def sequence(dtype="float32", t=T, b=B, i=I):
    return np.random.default_rng(1).uniform(-1, 1, (t, b, i)).astype(dtype)


def arrays(state):
    """A state as a tuple of arrays."""
    return state if isinstance(state, tuple) else (state,)


def agree(got, wanted, backend, dtype="float32"):
    if backend == "core":
        assert_same_bits(got, wanted)
    else:
        assert_close(got, wanted, dtype)


@every_backend
@every_cell
@every_dtype
@pytest.mark.parametrize("batch", [1, 3, 9])
@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=["biases", "no bias"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_steps_are_the_whole_sequence(cell, dtype, batch, options, layers, backend):
    layer, x = layer_of(cell, I, H, layers, dtype=dtype, **options), sequence(dtype, b=batch)
    y, state = layer(x)
    stream = layer.stream(batch)
    for t in range(T):
        got = stream.step(x[t])
        assert got.shape == (batch, H) and got.dtype == dtype
        agree(got, y[t], backend, dtype)
    agree(stream.state, state, backend, dtype)


@every_backend
@every_cell
@every_dtype
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_chunks_are_the_whole_sequence(cell, dtype, batch, first, backend):
    layer = layer_of(cell, I, H, 2, dtype=dtype, batch_first=first)
    x = sequence(dtype, b=batch)
    x = np.ascontiguousarray(x.swapaxes(0, 1)) if first else x
    y, state = layer(x)
    for cuts in ([0, T], [0, 1, 4, 4, T]):
        stream = layer.stream(batch)
        for begin, end in zip(cuts, cuts[1:]):  # noqa: B905 - no chunk begins at the last cut
            part = np.s_[:, begin:end] if first else np.s_[begin:end]
            agree(stream.feed(x[part]), y[part], backend, dtype)
        agree(stream.state, state, backend, dtype)


@every_backend
@every_cell
def test_a_chunk_may_lie_in_memory_as_it_likes(cell, backend):
    layer, x = layer_of(cell, I, I, 2), sequence()
    y = layer.stream(B).feed(x)
    for array in (misaligned(x), within_nans(x), x.swapaxes(0, 1).copy().swapaxes(0, 1)):
        assert_same_bits(layer.stream(B).feed(array), y)
        into = np.empty_like(array) if array.base is None else array.copy()
        assert layer.stream(B).feed(array, out=into) is into
        assert_same_bits(into, y)
    same = x.copy()
    layer.stream(B).feed(same, out=same)
    assert_same_bits(same, y)
    room = np.zeros((T + 1, B, I), "float32")  # out one step behind x
    room[1:] = x
    assert_same_bits(layer.stream(B).feed(room[1:], out=room[:-1]), y)


@every_backend
@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (np.zeros((T, B), "f4"), None, ValueError, "x must be .T, B, input_size. = .T, 3, 4."),
        (np.zeros((B, T, I), "f4"), None, ValueError, "x must be"),
        (np.zeros((T, B, I)), None, TypeError, "x must be float32"),
        (sequence(), np.zeros((T, B, I), "f4"), ValueError, "out must be .T, B, hidden_size."),
        (sequence(), np.zeros((T, B, H)), TypeError, "out must be float32"),
        (sequence(), [0], TypeError, "out must be an array, got list"),
        (sequence(), np.broadcast_to(np.float32(0), (T, B, H)), ValueError, "out must be writeab"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(x, out, error, message, backend):
    stream = layer_of("lstm", I, H).stream(B)
    stream.step(sequence()[0])
    before = stream.state
    with pytest.raises(error, match=message):
        stream.feed(x, out=out)
    assert_same_bits(stream.state, before)


@every_backend
@every_cell
def test_a_stream_goes_on_from_a_sequence_and_a_sequence_from_a_stream(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    y, state = layer(x)
    stream = layer.stream(B)
    _, stream.state = layer(x[:3])
    for t in (3, 4):
        agree(stream.step(x[t]), y[t], backend)
    agree(layer(x[5:], stream.state), (y[5:], state), backend)


@every_backend
@every_cell
def test_a_layer_that_takes_batch_first_streams_alike(cell, backend):
    layer, other = (layer_of(cell, I, H, batch_first=first) for first in (True, False))
    x = sequence()
    assert_same_bits(layer.stream(B).step(x[0]), other.stream(B).step(x[0]))


@every_backend
@every_cell
def test_the_state_begins_as_zeros_and_has_the_layers_shape(cell, backend):
    stream = layer_of(cell, I, H, 2).stream(B)
    zeros = tuple(np.zeros((2, B, H), "float32") for _ in CELLS[cell].states)
    assert_same_bits(arrays(stream.state), zeros)
    assert isinstance(stream.state, tuple) == (len(zeros) > 1)
    assert layer_of(cell, I, H).stream().state[0].shape[-2:] == (1, H)


@every_backend
@every_cell
def test_the_state_is_a_copy_on_the_way_out_and_in(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream, other = layer.stream(B), layer.stream(B)
    stream.step(x[0])
    other.step(x[0])
    out = stream.state
    for array in arrays(out):
        array.fill(np.nan)
    assert_same_bits(stream.state, other.state)
    given = tuple(np.full_like(array, 0.25) for array in arrays(out))
    stream.state = other.state = given if len(given) > 1 else given[0]
    for array in given:
        array.fill(np.nan)
    assert (arrays(stream.state)[0] == 0.25).all()
    assert_same_bits(stream.step(x[1]), other.step(x[1]))


@every_backend
@every_cell
def test_a_state_may_be_set_from_any_layout(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    state = layer(x)[1]
    streams = []
    for change in (np.copy, np.asfortranarray, misaligned, within_nans):
        streams.append(layer.stream(B))
        parts = tuple(change(s) for s in arrays(state))
        streams[-1].state = parts if len(parts) > 1 else parts[0]
    for stream in streams:
        assert_same_bits(stream.state, state)


@every_cell
def test_a_state_of_none_is_refused_with_the_call_that_sets_zeros(cell):
    stream = layer_of(cell, I, H, 2).stream(B)
    with pytest.raises(TypeError, match=r"got None: reset\(\) sets zeros"):
        stream.state = None


@every_backend
@every_cell
def test_reset_sets_all_rows_or_the_named_ones_to_zero(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream = layer.stream(B)
    for rows, named in [
        (None, [0, 1, 2]),
        (1, [1]),
        ([0, 2], [0, 2]),
        ((0, 1), [0, 1]),
        ([], []),
        (slice(1, None), [1, 2]),
        (np.array([False, True, True]), [1, 2]),
        ([True, False, False], [0]),
        (np.int64(2), [2]),
        (np.array([-1, 0]), [2, 0]),
        (np.array([], int), []),
    ]:
        stream.step(x[0])
        before = arrays(stream.state)
        assert all(s.any(axis=-1).all() for s in before) or cell == "rnn_relu"
        stream.reset() if rows is None else stream.reset(rows)
        for array in before:
            array[:, named] = 0
        assert_same_bits(arrays(stream.state), before)


@every_backend
@pytest.mark.parametrize(
    "rows, error, message",
    [
        (True, TypeError, "rows must be numbers of rows or B booleans, got True"),
        (np.bool_(False), TypeError, "rows must be numbers of rows or B booleans, got False"),
        ([[0], [0, 1]], ValueError, "rows must be numbers of rows or booleans: "),
    ],
)
def test_what_names_no_rows_resets_none(backend, rows, error, message):
    stream = fastrnn.LSTM(3, 4, rng=0).stream(2)
    stream.step(np.ones((2, 3), "f4"))
    before = stream.state
    with pytest.raises(error, match=message):
        stream.reset(rows)
    assert_same_bits(stream.state, before)


@every_backend
@pytest.mark.parametrize(
    "rows", [[0, 1, 0], [1, 1], np.array([0, 0, 1]), (0, -3), np.array([[0, 1], [1, 2]])], ids=str
)
def test_rows_that_are_named_twice_may_be_flags_and_are_not_reset(rows, backend):
    stream = layer_of("lstm", I, H, 2).stream(B)
    stream.step(sequence()[0])
    before = stream.state
    with pytest.raises(
        ValueError, match="(?s)rows must name each row once.*for flags use booleans"
    ):
        stream.reset(rows)
    assert_same_bits(stream.state, before)


@every_backend
@every_cell
def test_a_row_that_was_reset_goes_on_as_a_new_one(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream, new = layer.stream(B), layer.stream(B)
    stream.step(x[0])
    stream.reset([1])
    agree(stream.step(x[1])[1], new.step(x[1])[1], backend)


@every_backend
@every_cell
@every_dtype
def test_out_is_written_and_returned(cell, dtype, backend):
    layer, x = layer_of(cell, I, H, 2, dtype=dtype), sequence(dtype)
    stream, other = layer.stream(B), layer.stream(B)
    out = np.full((B, H), np.nan, dtype)
    for t in range(3):
        assert stream.step(x[t], out) is out
        assert_same_bits(out, other.step(x[t]))
    assert stream.step(x[3], out=out) is out


@every_backend
@every_cell
@pytest.mark.parametrize(
    "change", [np.asfortranarray, misaligned, within_nans, lambda a: a[::-1]],
    ids=["Fortran", "misaligned", "part of wider rows", "rows backwards"],
)  # fmt: skip
def test_out_may_be_of_any_layout_and_nothing_beside_it_is_written(cell, change, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream, other = layer.stream(B), layer.stream(B)
    out = change(np.zeros((B, H), "float32"))
    for t in range(3):
        assert stream.step(x[t], out) is out
        assert_same_bits(out, other.step(x[t]))
    if out.base is not None and out.base.size > out.size and out.base.dtype == out.dtype:
        assert np.isnan(out.base).sum() == out.base.size - out.size


@every_backend
@every_cell
def test_x_may_be_of_any_layout(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()[0]
    wanted = layer.stream(B).step(x)
    for change in (np.asfortranarray, misaligned, within_nans, lambda a: a[::-1].copy()[::-1]):
        agree(layer.stream(B).step(change(x)), wanted, backend)
    lists = layer_of(cell, I, H, dtype="float64").stream(B)
    assert_same_bits(lists.step(x.astype("float64").tolist()).shape, (B, H))


@every_backend
@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_out_may_be_x(cell, layers, backend):
    layer, x = layer_of(cell, H, H, layers), sequence(i=H)
    stream, other = layer.stream(B), layer.stream(B)
    for t in range(3):
        wanted, x_t = other.step(x[t]), x[t].copy()
        assert_same_bits(stream.step(x_t, out=x_t), wanted)
    assert_same_bits(stream.state, other.state)


@every_backend
@every_cell
def test_y_is_the_callers_own(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream, other = layer.stream(B), layer.stream(B)
    for t in range(3):
        y = stream.step(x[t])
        assert_same_bits(y, other.step(x[t]))
        y.fill(np.nan)
    assert_same_bits(stream.state, other.state)


@every_backend
@every_cell
def test_a_stream_keeps_the_weights_of_when_it_was_made(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    y, _ = layer(x)
    stream = layer.stream(B)
    layer.flat.fill(np.nan)
    agree(stream.step(x[0]), y[0], backend)


@every_backend
@every_cell
def test_streams_of_one_layer_are_separate(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    first, second, wanted = (layer.stream(B) for _ in range(3))
    for t in range(3):
        y = wanted.step(x[t])
        first.step(x[t + 1])
        assert_same_bits(second.step(x[t]), y)


@every_backend
@every_cell
def test_a_stream_outlives_its_layer(cell, backend):
    x = sequence()
    wanted = layer_of(cell, I, H, 2).stream(B).step(x[0])
    stream = layer_of(cell, I, H, 2).stream(B)
    rubbish = [np.full(2**14, np.nan, "float32") for _ in range(50)]
    assert_same_bits(stream.step(x[0]), wanted)
    assert len(rubbish) == 50


@every_backend
@every_cell
def test_nan_stays_in_its_row_and_is_gone_after_a_reset(cell, backend):
    layer, x = layer_of(cell, I, H, 2), sequence()
    stream, clean = layer.stream(B), layer.stream(B)
    bad = x[0].copy()
    bad[1, 2] = np.nan
    y, wanted = stream.step(bad), clean.step(x[0])
    assert np.isnan(y[1]).all()
    agree(y[[0, 2]], wanted[[0, 2]], backend)
    stream.reset([1])
    assert np.isfinite(stream.step(x[1])).all()


@every_backend
@every_cell
def test_no_input_is_defined(cell, backend):
    layer = layer_of(cell, 0, H)
    x = np.empty((T, B, 0), "float32")
    stream, (y, _) = layer.stream(B), layer(x)
    for t in range(T):
        agree(stream.step(x[t]), y[t], backend)


@every_cell
def test_a_stream_stays_on_the_backend_it_was_made_on(cell):
    layer, x = layer_of(cell, I, H, 2), sequence()
    for maker in BACKENDS:
        with fastrnn.backend(maker):
            wanted = layer.stream(B).step(x[0])
            stream = layer.stream(B)
        for user in BACKENDS:
            with fastrnn.backend(user):
                stream.reset()
                assert_same_bits(stream.step(x[0]), wanted)


@pytest.mark.usefixtures("core")
@every_cell
def test_a_stream_does_not_mind_another_instruction_set_chosen_later(cell):
    """Its weights are packed for the instruction set that was chosen when it was made."""
    runtime, x = fastrnn._engine.runtime, sequence()
    before, layer = runtime.core.isa(), layer_of(cell, I, H, 2)
    stream, wanted = layer.stream(B), layer.stream(B).step(x[0])
    try:
        for isa in runtime.core.isas_available():
            runtime.select_isa(isa)
            stream.reset()
            assert_close(stream.step(x[0]), wanted, "float32")
    finally:
        runtime.select_isa(before)


@pytest.mark.usefixtures("core")
@every_cell
def test_a_step_into_out_allocates_no_array(cell):
    layer, x = layer_of(cell, 64, 64, 2), sequence(b=1, i=64)
    stream, out = layer.stream(), np.empty((1, 64), "float32")
    for x_t in x:
        stream.step(x_t, out)
    x_t = x[0]
    tracemalloc.start()
    try:
        stream.step(x_t, out)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            stream.step(x_t, out)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held - before < 64 * 4 and peak - before < 64 * 4 * 4


@every_backend
@every_cell
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))],
    ids=["copy", "deepcopy", "pickle"],
)  # fmt: skip
def test_a_copy_of_a_stream_goes_on_by_itself(cell, duplicate, backend):
    x, stream = sequence(), layer_of(cell, I, H, 2).stream(B)
    stream.step(x[0])
    other = duplicate(stream)
    assert_same_bits(other.state, stream.state)
    wanted = stream.feed(x[1:])
    assert_same_bits(other.feed(x[1:]), wanted)
    assert_same_bits(other.state, stream.state)


@pytest.mark.posix
@pytest.mark.skipif(fastrnn._engine.runtime.core is None, reason="this build has no kernels")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_ends_a_chunk_between_steps_and_the_stream_goes_on():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    layer, x = fastrnn.LSTM(64, 256, rng=0), np.ones((60000, 1, 64), "f4")  # most of a second
    stream, y = layer.stream(), np.full((60000, 1, 256), np.nan, "f4")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Stop):
            stream.feed(x, out=y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    done = int(np.isfinite(y[:, 0, 0]).sum())
    assert done < len(y) and not np.isfinite(y[done:]).any()
    assert_same_bits(stream.state[0][0], y[done - 1] if done else np.zeros((1, 256), "f4"))
    stream.reset()
    assert_same_bits(stream.feed(x[:5]), layer(x[:5])[0])


# ---- one at a time -------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize("ids", [False, True], ids=["features", "ids"])
def test_a_stream_that_another_thread_steps_is_refused(backend, ids):
    """The second thread gets an error, the first one its right results."""
    layer = fastrnn.LSTM(64, 96, rng=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 64, (300, 4)) if ids else rng.uniform(-1, 1, (300, 4, 64)).astype("f4")
    stream, wanted = (layer.stream(4, one_hot=ids) for _ in range(2))
    refused, done = [], threading.Event()

    def disturb():
        with fastrnn.backend(backend):
            while not done.is_set():
                for disturbance in (
                    lambda: stream.step(x[0]),
                    lambda: stream.feed(x[:2]),
                    lambda: stream.state,
                    lambda: stream.reset(),
                    lambda: setattr(stream, "state", wanted_state),
                ):
                    try:
                        held.wait()
                        if not done.is_set():
                            disturbance()
                    except RuntimeError as error:
                        refused.append(error)

    wanted_state, held = wanted.state, threading.Event()
    worker = threading.Thread(target=disturb)

    def hold():
        worker.start()
        held.set()
        end = time.monotonic() + 10
        while len(refused) < 10 and time.monotonic() < end:
            time.sleep(0.001)
        done.set()
        worker.join()

    stream._stepper.alone(hold)
    assert_same_bits(stream.feed(x), wanted.feed(x))
    assert len(refused) >= 10
    assert all("another thread is stepping this stream" in str(error) for error in refused)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("ids", [False, True], ids=["features", "ids"])
def test_threads_that_feed_one_stream_are_refused_or_take_turns(ids):
    stream = fastrnn.LSTM(64, 96, rng=0).stream(4, one_hot=ids)
    x = np.zeros((400, 4), int) if ids else np.ones((400, 4, 64), "f4")
    outcomes = []

    def feed():
        for _ in range(20):
            try:
                outcomes.append(np.isfinite(stream.feed(x)).all())
            except RuntimeError:
                outcomes.append(None)

    at_once([feed, feed, feed], 1)
    assert outcomes.count(None) > 0 and outcomes.count(True) > 0 and len(outcomes) == 60
    assert outcomes.count(False) == 0


@pytest.mark.posix
@every_backend
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_an_exception_of_a_handler_leaves_a_stream_to_be_used(backend):
    """The exception may come at any point, also between two calls of Python."""
    stream = fastrnn.LSTM(3, 4, rng=0).stream(2)
    x, end, rng = np.ones((2, 3), "f4"), time.monotonic() + 0.7, np.random.default_rng(0)

    def handler(*_):
        raise InterruptedError

    def use():  # a function: where a loop goes back, CPython 3.12 and later leave a `try` unseen
        while time.monotonic() < end + 2:
            stream.state = stream.state
            stream.reset([0])
            stream.step(x)
            stream.step(x[:1], rows=[1])

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, 8e-5))
                use()
                pytest.fail("the handler's exception was dropped")
            except InterruptedError:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    stream.reset()
    stream.step(x)


@pytest.mark.posix
@pytest.mark.usefixtures("core")
def test_a_handler_that_steps_the_stream_which_it_interrupts_is_refused():
    stream, told = fastrnn.LSTM(64, 256, rng=0).stream(32), []

    def handler(*_):
        try:
            stream.step(np.ones((32, 64), "f4"))
        except RuntimeError as error:
            told.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.004)
    try:
        for _ in range(50):
            stream.feed(np.ones((200, 32, 64), "f4"))
            if told:
                break
            signal.setitimer(signal.ITIMER_REAL, 0.004)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    stream.feed(np.ones((2, 32, 64), "f4"))
    assert "a signal's handler" in told[0]
