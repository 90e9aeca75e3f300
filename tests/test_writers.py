"""Other threads write to a call's arguments, while it runs or before its gradient is computed.

Ids, lengths, masks and resets decide which memory is read and written. So a call copies them: it
uses the values that it checked, and a tape has the values of its call. A write to another array
changes results, and nothing else.
"""

import signal
import sysconfig
import threading
import time
from functools import cache

import numpy as np
import pytest
from calls import ARRAYS, PAIRS, of_reference
from decorators import every_backend, every_cell
from problems import assert_same_bits, layer_of
from sanitizers import SLOWER

import fastrnn
from fastrnn import checks

pytestmark = pytest.mark.any_isa


T, B, I, H = 40, 24, 6, 16  # noqa: E741 - as in all the equations
WILD = {"i": [0, 1, 2, -1, 2**40, -(2**40)], "f": [0.0, np.nan, np.inf], "b": [0, 1]}


def small(rng):
    """The small array arguments of a call."""
    return {
        "lengths": rng.integers(0, T + 1, B),
        "mask": rng.random((T, B)) < 0.8,
        "reset": rng.random((T, B)) < 0.1,
    }


# ---- after the call ------------------------------------------------------------------------------


@every_backend
@every_cell
@pytest.mark.parametrize("kind", ["features", "ids", "ids, no rows"])
@pytest.mark.parametrize("checkpoint", [None, 7])
def test_a_tape_has_small_arrays_as_they_were(backend, cell, kind, checkpoint):
    rng = np.random.default_rng(0)
    layer, ids = layer_of(cell, I, H, bidirectional=True), kind != "features"
    x = rng.integers(0, I, (T, B)) if ids else rng.uniform(-1, 1, (T, B, I)).astype("float32")
    rows = {} if kind == "ids, no rows" else small(rng)
    dy = rng.uniform(-1, 1, (T, B, 2 * H)).astype("float32")
    tape = layer.forward(x, **rows, one_hot=ids, checkpoint=checkpoint)[2]
    wanted = tape.backward(dy)
    for array in (*rows.values(), *([x] if ids else [])):
        array[...] = np.roll(array, 1, axis=-1) if array.dtype.kind != "b" else ~array
    got = tape.backward(dy)
    assert_same_bits((got.flat, got.state, got.x), (wanted.flat, wanted.state, wanted.x))


# ---- during the call -----------------------------------------------------------------------------


def scribble(array, rng):
    value = rng.choice(WILD[array.dtype.kind])
    if array.dtype.kind in "ib":
        array[...] = value
    array.reshape(-1)[rng.integers(0, array.size)] = value


def attempt(call, *arguments, **options):
    """Whether the call returned. It may refuse its arguments, but raise no other errors."""
    try:
        with np.errstate(all="ignore"):  # NumPy warns of infinite results
            call(*arguments, **options)
    except (ValueError, TypeError, IndexError):  # IndexError is for a stream's rows
        return False
    return True


def pairs(*names):
    """Parametrize by the calls and arguments of these names, without those of `reference`."""
    chosen = [(c, n) for c, n in PAIRS if c is not of_reference and (n in names or not names)]
    ids = [f"{call.__name__[3:]}-{name}" for call, name in chosen]
    return pytest.mark.parametrize("call, name", chosen, ids=ids)


@every_backend
@pairs("lengths", "mask", "reset", "ids", "ids_t", "classes")
def test_what_is_written_after_a_small_array_is_taken_changes_nothing(
    backend, call, name, monkeypatch
):
    """The write comes at the worst moment: after the array was taken, before it is checked."""
    wanted = call(ARRAYS)
    array, rng, writes = ARRAYS[name].copy(), np.random.default_rng(0), []

    def then_write(take):
        def taken(*arguments, **options):
            mine = any(np.shares_memory(a, array) for a in arguments if isinstance(a, np.ndarray))
            if mine:
                array[...] = ARRAYS[name]
            result = take(*arguments, **options)
            if mine:
                array[...] = ~array if array.dtype.kind == "b" else rng.choice([-1, 0, 2**40])
                writes.append(name)
            return result

        return taken

    for function in ("integers", "own_flags"):
        monkeypatch.setattr(checks, function, then_write(getattr(checks, function)))
    assert_same_bits(call(ARRAYS | {name: array}), wanted)
    assert writes


class Writer(threading.Thread):
    """Writes to an array without a pause and without Python's lock, as a thread in C would.

    Each element has wild values at times. At the end all have their first values.
    """

    def __init__(self, array):
        super().__init__()
        rng = np.random.default_rng(0)
        written = np.repeat(array[None], 100, axis=0)
        wild = rng.choice(WILD[array.dtype.kind], written.shape).astype(array.dtype)
        np.copyto(written, wild, where=rng.random(written.shape) < 0.5)
        written[-1] = array
        # One copy writes to the same elements many times; NumPy releases the lock meanwhile.
        shape = (200_000 // array.size, *written.shape)
        self.written, self.done = np.broadcast_to(written, shape), threading.Event()
        self.place = np.lib.stride_tricks.as_strided(array, shape, (0, 0, *array.strides))

    def run(self):
        while not self.done.is_set():
            np.copyto(self.place, self.written)

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.usefixtures("core", "hurried")
@pairs()
def test_another_thread_may_write_to_any_argument(call, name):
    wanted, array = call(ARRAYS), ARRAYS[name].copy()
    arrays, written_to, end = ARRAYS | {name: array}, 0, time.monotonic() + 20
    with Writer(array):
        while written_to < 3:  # the number of calls during which the array changed
            assert time.monotonic() < end, f"{written_to} calls have been written to"
            before = array.tobytes()
            attempt(call, arrays)
            written_to += array.tobytes() != before
    assert_same_bits(call(arrays), wanted)
    assert_same_bits(call(ARRAYS), wanted)


@pytest.mark.usefixtures("core", "hurried")
@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without the global lock a step may begin in the midst of a fill",
)
def test_a_step_of_a_stream_reads_its_ids_once():
    """Rows whose ids were the same when the step began have the same h after it."""
    stream = fastrnn.GRU(8, 256, rng=0).stream(400, one_hot=True)
    ids, out = np.zeros(400, np.int64), np.empty((400, 256), "float32")  # small: one go
    done = threading.Event()

    def write():
        while not done.is_set():
            ids.fill(1)
            ids.fill(0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100 // SLOWER):
            stream.reset()
            stream.step(ids, out)
            assert (out == out[0]).all()
    finally:
        done.set()
        writer.join()


def long_arrays():
    """The arguments of a call of some 0.1 s, as new arrays."""
    return {name: array.copy() for name, array in _long_arrays().items()}


@cache
def _long_arrays():
    rng = np.random.default_rng(0)
    steps, batch, inputs = 1500 // SLOWER, 40, 64
    return {
        "x": rng.uniform(-1, 1, (steps, batch, inputs)).astype("float32"),
        "ids": rng.integers(0, inputs, (steps, batch)),
        "lengths": rng.integers(0, steps + 1, batch),
        "mask": rng.random((steps, batch)) < 0.8,
        "reset": rng.random((steps, batch)) < 0.1,
        "state": rng.uniform(-1, 1, (1, batch, 128)).astype("float32"),
        "dy": rng.uniform(-1, 1, (steps, batch, 128)).astype("float32"),
    }


def long_calls(ids):
    """name -> a call with these arrays."""
    layer, x = fastrnn.LSTM(64, 128, rng=0), "ids" if ids else "x"

    def rows(a):
        return {"one_hot": ids} | {name: a[name] for name in ("lengths", "mask", "reset")}

    def train(a):
        tape = layer.forward(a[x], (a["state"], a["state"]), **rows(a))[2]
        tape.backward(a["dy"])

    return {
        "train": train,
        "feed": lambda a: layer.stream(40, one_hot=ids).feed(a[x]),
        "infer": lambda a: layer(a[x], **rows(a)),
    }


@pytest.mark.posix
@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("name", ["train", "feed", "infer"])
@pytest.mark.parametrize("ids", [False, True], ids=["features", "ids"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_signals_handler_may_write_to_any_argument(ids, threads, name):
    """Handlers run within a call, when it polls for interrupts.

    If a handler writes before the call has made its copies, the call may refuse its arguments; the
    test then tries again.
    """
    call, rng = long_calls(ids)[name], np.random.default_rng(0)

    def handler(*_):
        written.append(rng.choice(list(a)))
        scribble(a[written[-1]], rng)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with fastrnn.threads(threads):
            for _ in range(50):
                a, written = long_arrays(), []
                signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
                went_well = attempt(call, a)
                signal.setitimer(signal.ITIMER_REAL, 0)
                if went_well and written:
                    return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pytest.fail("no call was written to and went well")
