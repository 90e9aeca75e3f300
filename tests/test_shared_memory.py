"""Inputs in read-only memory that another process wrote are read where they lie."""

import tracemalloc
from multiprocessing import shared_memory

import numpy as np
import pytest
from problems import assert_same_bits

import fastrnn
from fastrnn._engine import runtime

pytestmark = [pytest.mark.any_isa, pytest.mark.usefixtures("core")]

T, B, I, H = 2048, 8, 64, 2  # noqa: E741 - as in all the equations; x has 4 MB, y far less


@pytest.fixture(scope="module")
def memory():
    """Shared memory with random numbers, as bytes that cannot be written to."""
    block = shared_memory.SharedMemory(create=True, size=4 * T * B * I)
    array = np.ndarray(T * B * I, np.float32, block.buf)
    array[:] = np.random.default_rng(0).standard_normal(array.size)
    array.flags.writeable = False
    yield array
    block.unlink()
    # Arrays of failed tests may refer to the block, which is freed with the last of them.
    block._buf = None


@pytest.fixture(params=["time first", "batch first", "a file"])
def given(request, memory, tmp_path):
    """batch_first, and x."""
    if request.param == "batch first":
        return True, memory.reshape(B, T, I)
    if request.param == "time first":
        return False, memory.reshape(T, B, I)
    np.save(tmp_path / "x.npy", memory.reshape(T, B, I))
    return False, np.load(tmp_path / "x.npy", mmap_mode="r")


def most_bytes(call):
    """The result, and the most bytes of arrays that a call had at once, workspaces included."""
    runtime._workspaces.clear()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return result, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [fastrnn.LSTM, fastrnn.GRU, fastrnn.MinLSTM])
def test_no_call_copies_its_input(given, make):
    batch_first, x = given
    layer = make(I, H, batch_first=batch_first, rng=0)
    frozen, lengths = layer.freeze(), np.arange(1, B + 1) * (T // B)
    calls = {
        "layer": lambda: layer(x),
        "lengths": lambda: layer(x, lengths=lengths),
        "frozen": lambda: frozen(x),
    }
    if not batch_first:  # a stream reads dense steps: it copies those of another order
        calls["stream"] = lambda: frozen.stream(B).feed(x)
    for name, call in calls.items():
        result, nbytes = most_bytes(call)
        assert nbytes < x.nbytes / 2, name
        wanted = layer(x.copy(), lengths=lengths if name == "lengths" else None)
        assert_same_bits(result, wanted[0] if name == "stream" else wanted)


def test_the_measure_would_see_a_copy(given):
    _, x = given
    assert most_bytes(lambda: fastrnn.LSTM(I, H, rng=0)(x.copy()))[1] > x.nbytes
