"""Others write to a call's arguments, while it runs or before its gradient is computed.

Ids, lengths, masks and resets decide which memory is read and written. So a call copies them: what
is checked is what is used, and a tape has them as they were. What is written to other arrays shows
in the results and nowhere else.
"""

import signal
import threading
import time

import numpy as np
import pytest
from calls import ARRAYS, CALLS, PAIRS
from problems import BACKENDS, assert_same_bits, layer_of

import fastrnn
from fastrnn.cells import CELLS

pytestmark = pytest.mark.any_isa

every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
every_cell = pytest.mark.parametrize("cell", CELLS)

T, B, I, H = 40, 24, 6, 16  # noqa: E741 - as in all the equations
WILD = {"i": [0, 1, 2, -1, 2**40, -(2**40)], "f": [0.0, np.nan, np.inf], "b": [0, 1]}


def small(rng):
    """What a call takes besides x, small arrays all."""
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
    """The call, which may find that its arguments do not fit, and nothing else."""
    try:
        call(*arguments, **options)
    except (ValueError, TypeError):
        pass


@pytest.mark.usefixtures("core", "hurried")
@pytest.mark.parametrize(
    "call, name", PAIRS, ids=[f"{call.__name__[3:]}-{name}" for call, name in PAIRS]
)
def test_another_thread_may_write_to_any_argument(call, name):
    arrays = ARRAYS | {name: ARRAYS[name].copy()}
    done = threading.Event()

    def write():
        rng = np.random.default_rng(0)
        while not done.is_set():
            scribble(arrays[name], rng)
            arrays[name][...] = ARRAYS[name]

    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        attempt(call, arrays)
    done.set()
    writer.join()
    assert_same_bits(call(ARRAYS), call(ARRAYS))


@pytest.mark.usefixtures("core", "hurried")
def test_a_step_of_a_stream_reads_its_ids_once():
    """Rows whose ids were the same when the step began have the same h after it."""
    stream = fastrnn.GRU(8, 256, rng=0).stream(400, one_hot=True)
    ids, out = np.zeros(400, np.int64), np.empty((400, 256), "float32")  # few: filled at one go
    done = threading.Event()

    def write():
        while not done.is_set():
            ids.fill(1)
            ids.fill(0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            stream.reset()
            stream.step(ids, out)
            assert (out == out[0]).all()
    finally:
        done.set()
        writer.join()


def long_arrays():
    """What a call of some 0.1 s takes."""
    rng = np.random.default_rng(0)
    steps, batch, inputs = 300, 40, 64
    return {
        "x": rng.uniform(-1, 1, (steps, batch, inputs)).astype("float32"),
        "ids": rng.integers(0, inputs, (steps, batch)),
        "lengths": rng.integers(0, steps + 1, batch),
        "mask": rng.random((steps, batch)) < 0.8,
        "reset": rng.random((steps, batch)) < 0.1,
        "state": rng.uniform(-1, 1, (1, batch, 128)).astype("float32"),
        "dy": rng.uniform(-1, 1, (steps, batch, 128)).astype("float32"),
    }


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("ids", [False, True], ids=["features", "ids"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_signals_handler_may_write_to_any_argument(ids, threads):
    """Handlers run within a call, where it looks whether to stop."""
    a, layer = long_arrays(), fastrnn.LSTM(64, 128, rng=0)
    rng, written = np.random.default_rng(0), []

    def handler(*_):
        name = rng.choice(list(a))
        scribble(a[name], rng)
        written.append(name)

    x, options = a["ids" if ids else "x"], {"one_hot": ids}
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        with fastrnn.threads(threads):
            options |= {key: a[key] for key in ("lengths", "mask", "reset")}
            y, state, tape = layer.forward(x, (a["state"], a["state"]), **options)
            tape.backward(a["dy"])
            attempt(layer.stream(40, one_hot=ids).feed, x)
            attempt(layer, x, **options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert written


def test_every_call_is_among_those_that_are_written_to():
    assert {call for call, _ in PAIRS} == set(CALLS)
