"""Pickles of frozen layers that have the packed weights, for processes that share memory.

A pickle of `freeze(portable=False)` has the bytes that the kernels read, and no address. Whoever
loads it uses them where they lie.
"""

import itertools
import pickle
from multiprocessing import shared_memory

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype, outer_isas
from problems import BACKENDS, assert_same_bits, layer_of, run_python

import fastrnn
from fastrnn import train
from fastrnn._engine import runtime

T, B, I, H = 7, 3, 4, 21  # noqa: E741 - as in all the equations

NETS = {
    "one layer": {},
    "two directions": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "batch_first, reversed": {"num_layers": 2, "batch_first": True, "reverse": True},
}
PRECISIONS = None, "bfloat16-weights", "bfloat16", "int8"

needs_kernels = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")


def draw(*shape, dtype="float32", seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def sent(thing):
    """A pickle of protocol 5, and its buffers apart."""
    buffers = []
    return pickle.dumps(thing, protocol=5, buffer_callback=buffers.append), buffers


def placed(buffers, offset=0):
    """Read-only copies of buffers, each so many bytes behind a boundary of 64."""
    found = []
    for buffer in buffers:
        given = np.frombuffer(buffer, np.uint8)
        place = np.empty(given.size + 128, np.uint8)
        begin = -place.ctypes.data % 64 + offset
        copy = place[begin : begin + given.size]
        copy[:] = given
        copy.flags.writeable = False
        found.append(pickle.PickleBuffer(copy))
    return found


def moved(thing, offset=0):
    content, buffers = sent(thing)
    return pickle.loads(content, buffers=placed(buffers, offset))


def contents(frozen):
    """The packed weights of each pass and of the head."""
    head = [] if frozen._head is None else [frozen._head.dense.content]
    return [weights.content for weights in frozen._kernel_weights] + head


def assert_alike(got, wanted, x):
    """Both give the same bits, in calls of one step and of many, and by the reference."""
    assert repr(got) == repr(wanted)
    assert_same_bits(got(x), wanted(x))
    if wanted._structure.num_directions == 1 and not wanted.reverse:
        stream = got.stream(x.shape[1 - wanted.batch_first])
        assert_same_bits(stream.feed(x), wanted(x)[0])
        assert_same_bits(got.step(x[0])[0], wanted.step(x[0])[0])
    with fastrnn.backend("reference"):
        assert_same_bits(got(x), wanted(x))


@every_backend
@every_cell
@every_dtype
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_loaded_layer_gives_the_same_bits(cell, dtype, net, backend):
    layer = layer_of(cell, I, H, dtype=dtype, **net)
    x = draw(B, T, I, dtype=dtype) if layer.batch_first else draw(T, B, I, dtype=dtype)
    with fastrnn.backend(backend):
        frozen = layer.freeze(portable=False)
        assert_same_bits(frozen(x), layer(x))
        for offset in 0, 8:
            assert_alike(moved(frozen, offset), frozen, x)
        assert_alike(pickle.loads(pickle.dumps(frozen, protocol=2)), frozen, x)


@outer_isas
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"proj_size": 5}, {"layer_norm": True, "peephole": True}])
@pytest.mark.parametrize("hidden", [3, 70])  # the kernels of a narrower set pack a few units
def test_it_gives_them_with_every_precision_option_and_head(options, precision, hidden, isa):
    if hidden == 3:
        options = {name: min(value, 2) for name, value in options.items()}
    layer = layer_of("lstm", I, hidden, num_layers=2, **options)
    width = options.get("proj_size", hidden)
    head = train.Dense(width, 3, activation="softmax", rng=0)
    frozen = layer.freeze(precision, head, portable=False)
    assert_same_bits(frozen(draw(T, B, I)), layer.freeze(precision, head)(draw(T, B, I)))
    assert_alike(moved(frozen), frozen, draw(T, B, I))
    assert_alike(moved(moved(frozen)), frozen, draw(40, 1, I))


@needs_kernels
def test_aligned_buffers_are_used_where_they_lie_and_others_are_copied():
    head = train.Dense(H, 3, rng=0)
    frozen = fastrnn.GRU(I, H, num_layers=2, rng=0).freeze(head=head, portable=False)
    content, buffers = sent(frozen)
    for offset, shared in (0, True), (64, True), (8, False):
        places = placed(buffers, offset)
        loaded = pickle.loads(content, buffers=places)
        for packed in contents(loaded):
            assert packed.ctypes.data % 64 == 0
            assert any(np.shares_memory(packed, place.raw()) for place in places) == shared


@needs_kernels
def test_no_call_packs_anything_more():
    frozen = fastrnn.LSTM(I, H, rng=0).freeze(portable=False)
    before = frozen.nbytes
    for steps, rows in itertools.product((1, 2, 50), (1, 2, 70)):
        frozen(draw(steps, rows, I))
    assert frozen.nbytes == before
    assert 0 <= before - moved(frozen).nbytes <= 64  # the slack to align them


@needs_kernels
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_bytes_follow_from_the_weights_alone(precision):
    head = train.Dense(H, 3, rng=0)
    made = [fastrnn.LSTM(I, H, rng=0).freeze(precision, head, portable=False) for _ in range(2)]
    hold = np.full(10**6, 7, np.uint8)  # other memory to be found by the next one
    del hold
    made.append(fastrnn.LSTM(I, H, rng=0).freeze(precision, head, portable=False))
    assert len({pickle.dumps(frozen) for frozen in made}) == 1


@needs_kernels
def test_a_pickle_has_no_second_copy_of_the_weights():
    portable, packed = (fastrnn.LSTM(64, 256, rng=0).freeze(portable=p) for p in (True, False))
    assert len(pickle.dumps(packed)) < packed.nbytes + 4096
    assert len(pickle.dumps(portable)) < portable.nbytes + 4096


@needs_kernels
def test_a_stream_takes_its_layer_along():
    frozen, x = fastrnn.GRU(I, H, rng=0).freeze(portable=False), draw(2 * T, B, I)
    stream = frozen.stream(B)
    stream.feed(x[:T])
    assert_same_bits(moved(stream).feed(x[T:]), frozen(x)[0][T:])


OTHER_PROCESS = """
import os, pickle
from multiprocessing import resource_tracker, shared_memory
import numpy as np

resource_tracker.register = lambda *_: None  # the other process deletes it
memory = shared_memory.SharedMemory(os.environ["MEMORY"])
places = [memory.buf[begin:end].toreadonly() for begin, end in eval(os.environ["RANGES"])]
frozen = pickle.loads(places[0], buffers=places[1:])
whole = np.frombuffer(memory.buf, np.uint8)
packed = frozen._kernel_weights[0].content
print(np.shares_memory(packed, whole), frozen(np.ones((7, 3, 64), "float32"))[0].tobytes().hex())
"""


@needs_kernels
def test_another_process_reads_the_same_memory():
    frozen = fastrnn.LSTM(64, 128, rng=0).freeze(portable=False)
    content, buffers = sent(frozen)
    parts, ranges, end = [content, *map(memoryview, buffers)], [], 0
    for part in parts:
        begin = -(-end // 64) * 64
        ranges.append((begin, begin + memoryview(part).nbytes))
        end = ranges[-1][1]
    memory = shared_memory.SharedMemory(create=True, size=end)
    try:
        for part, (begin, stop) in zip(parts, ranges, strict=True):
            memory.buf[begin:stop] = memoryview(part).cast("B")
        done = run_python(OTHER_PROCESS, MEMORY=memory.name, RANGES=str(ranges))
    finally:
        memory.close()
        memory.unlink()
    assert done.returncode == 0, done.stderr
    y = frozen(np.ones((7, 3, 64), "float32"))[0]
    assert done.stdout.split() == ["True", y.tobytes().hex()]


@needs_kernels
def test_a_process_that_selects_another_set_uses_the_one_that_packed():
    frozen, x = fastrnn.LSTM(I, H, rng=0).freeze(portable=False), draw(T, B, I)
    before, wanted = runtime.core.isa(), frozen(x)
    try:
        runtime.select_isa("generic")
        assert_same_bits(moved(frozen)(x), wanted)
    finally:
        runtime.select_isa(before)


# ---- what cannot be loaded ----------------------------------------------------------------------


@needs_kernels
def test_a_pickle_of_another_build_is_refused(monkeypatch):
    content = pickle.dumps(fastrnn.LSTM(I, H, rng=0).freeze(portable=False))
    monkeypatch.setattr(runtime, "writer", lambda: "fastrnn 9.8.7, build 01234567, big-endian")
    message = r"weights packed by the kernels of fastrnn .*9\.8\.7.*portable=True"
    with pytest.raises(ValueError, match=message):
        pickle.loads(content)


@needs_kernels
def test_a_process_without_kernels_refuses_it(monkeypatch):
    content = pickle.dumps(fastrnn.LSTM(I, H, rng=0).freeze(portable=False))
    monkeypatch.setattr(runtime, "core", None)
    message = r"cannot be read here \(kernels: none\): use the same build"
    with pytest.raises(ValueError, match=message):
        pickle.loads(content)


def changed(frozen, change):
    """Loads a pickle whose first packed weights `change` gets, as an array that it may change."""
    content, buffers = sent(frozen)
    largest = max(range(len(buffers)), key=lambda i: buffers[i].raw().nbytes)
    place = np.zeros(buffers[largest].raw().nbytes + 64, np.uint8)
    begin = -place.ctypes.data % 64
    array = place[begin : begin + buffers[largest].raw().nbytes]
    array[:] = np.frombuffer(buffers[largest], np.uint8)
    change(array)
    buffers[largest] = pickle.PickleBuffer(array)
    return pickle.loads(content, buffers=buffers)


@needs_kernels
@pytest.mark.parametrize(
    "place, message",
    [
        (b"fastrnn", "no packed weights"),
        (fastrnn.__version__.encode(), "no packed weights"),
        (b"avx", "instructions of .* that this machine or build lacks: freeze the layer here"),
    ],
)
@pytest.mark.parametrize("bit", [1, 128])
def test_weights_of_something_else_are_refused(place, bit, message):
    frozen = fastrnn.LSTM(I, H, rng=0).freeze(portable=False)
    begin = contents(frozen)[0].tobytes().find(place)
    if begin < 0:
        pytest.skip("needs such a set")

    def change(array):
        array[begin] ^= bit

    with pytest.raises(ValueError, match=message):
        changed(frozen, change)


@needs_kernels
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_call_after_a_damaged_header_ends_and_most_are_refused(precision):
    frozen, x = fastrnn.LSTM(I, H, rng=0).freeze(precision, portable=False), draw(T, B, I)
    refused = 0
    for byte, bit in itertools.product(range(192), (1, 128)):

        def change(array, byte=byte, bit=bit):
            array[byte] ^= bit

        try:
            changed(frozen, change)(x)
        except (ValueError, TypeError):
            refused += 1
    assert refused > 100


@needs_kernels
def test_the_weights_of_two_passes_exchanged_are_refused():
    frozen = fastrnn.LSTM(64, 40, num_layers=2, rng=0).freeze(portable=False)
    make, (*others, of_passes, head) = frozen.__reduce__()
    with pytest.raises(ValueError, match="sizes 64, 40, float32 expected, got 40, 40, float32"):
        make(*others, of_passes[::-1], head)


@needs_kernels
@pytest.mark.parametrize(
    "units, outputs, activation", [(41, 3, None), (40, 4, None), (40, 3, "softmax")]
)
def test_another_head_is_refused(units, outputs, activation):
    wanted, other = (
        fastrnn.GRU(I, dense.inputs, rng=0).freeze(head=dense, portable=False)
        for dense in (
            train.Dense(40, 3, rng=0),
            train.Dense(units, outputs, activation=activation, rng=0),
        )
    )
    make, (*arguments, (_, *facts)) = wanted.__reduce__()
    message = (
        f"of the head .* sizes 40, 3, None, float32 expected, got {units}, {outputs}, {activation}"
    )
    with pytest.raises(ValueError, match=message):
        make(*arguments, (other.__reduce__()[1][-1][0], *facts))


@needs_kernels
@pytest.mark.parametrize("outputs", [0, 3000], ids=["zeros", "another head"])
def test_calls_notice_that_somebody_wrote_to_the_buffers(outputs):
    frozen, other = (
        fastrnn.LSTM(I, H, rng=0).freeze(head=train.Dense(H, n, rng=0), portable=False)
        for n in (3, outputs or 3)
    )
    content, buffers = sent(frozen)
    memory = np.zeros(10**6, np.uint8)
    whole = memory[-memory.ctypes.data % 64 :]
    places = write(whole, buffers)
    loaded, x = pickle.loads(content, buffers=places), draw(T, B, I)
    stream = loaded.stream(B)
    stream.step(x[0])
    write(whole, sent(other)[1])
    if outputs == 0:
        memory[:] = 0
    y = draw(T, B, H)
    for call in (
        lambda: loaded(x), lambda: stream.step(x[0]), lambda: stream.feed(x),
        lambda: loaded._head(y), lambda: loaded._head.arrays(), lambda: pickle.dumps(loaded),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="somebody wrote to the buffers of the pickle"):
            call()


def write(memory, buffers):
    """Copies buffers one after another, each to a boundary of 64, and returns the copies."""
    copies, end = [], 0
    for buffer in buffers:
        array = np.frombuffer(buffer, np.uint8)
        copies.append(memory[end : end + array.size])
        copies[-1][:] = array
        end += -(-array.size // 64) * 64
    return list(map(pickle.PickleBuffer, copies))


@pytest.mark.parametrize("options", [{}, {"proj_size": 5}])
def test_int8_weights_of_no_inputs_have_scales_of_zero(options):
    made = [fastrnn.LSTM(0, H, rng=0, **options).freeze("int8") for _ in range(2)]
    assert len({pickle.dumps(frozen) for frozen in made}) == 1
    assert not made[0].__reduce__()[1][3][0][0].any()


@pytest.mark.parametrize("portable", [None, 1, "no"])
def test_portable_is_a_flag(portable):
    with pytest.raises(TypeError, match="portable must be True or False, got"):
        fastrnn.LSTM(I, H, rng=0).freeze(portable=portable)
