"""ctypes, cffi and SciPy call the kernels by their addresses; what a stream's handle refuses."""

import copy
import ctypes
import gc
import pathlib
import re

import numpy as np
import pytest
from pages import blocks
from problems import assert_same_bits

import fastrnn
from fastrnn import train

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

INVALID, BUSY = -3, -5


def function(address):
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    return ctypes.CFUNCTYPE(ctypes.c_int, size, pointer, size, pointer, size)(address)


@pytest.fixture
def step(core):
    """`frnn_stream_step` on arrays, or on addresses with their bytes."""
    call = function(fastrnn.kernels.address("frnn_stream_step"))

    def run(handle, x, y, x_bytes=None, y_bytes=None):
        x_bytes = x.nbytes if x_bytes is None else x_bytes
        y_bytes = y.nbytes if y_bytes is None else y_bytes
        x, y = (a if isinstance(a, int) else a.ctypes.data for a in (x, y))
        return call(handle, x, x_bytes, y, y_bytes)

    return run


@pytest.fixture
def page():
    """The names of the page's example in Python."""
    names = {}
    exec(blocks("c.md", "python")[0], names)
    return names


def outputs_of(page):
    return fastrnn.LSTM(40, 128, num_layers=2, rng=0).stream(batch_size=8).feed(page["x"])


def test_cffi(page):
    pytest.importorskip("cffi")
    exec(blocks("c.md", "python")[3], page)
    assert_same_bits(page["y"], outputs_of(page))


def test_scipy(page):
    scipy = pytest.importorskip("scipy")
    found = scipy.LowLevelCallable.from_cython(fastrnn.kernels, "frnn_stream_step")
    assert found.signature == "int (size_t, void const *, size_t, void *, size_t)"
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = tuple.__getitem__(found, 0)
    assert address(capsule, found.signature.encode()) == fastrnn.kernels.address("frnn_stream_step")


def test_every_function_of_the_pxd_has_a_capsule_and_no_other():
    text = pathlib.Path(fastrnn.__file__).with_name("kernels.pxd").read_text()
    declared = set(re.findall(r"^cdef .*?(\w+)\(.*noexcept nogil$", text, re.M))
    assert declared == set(fastrnn.kernels.__pyx_capi__) and len(declared) > 10
    assert len({fastrnn.kernels.address(name) for name in declared}) == len(declared)


def test_no_other_name_has_an_address():
    with pytest.raises(ValueError, match="name must be one of .*'frnn_forward'.*, got 'forward'"):
        fastrnn.kernels.address("forward")


def test_the_header_has_the_version_of_the_package():
    header = pathlib.Path(fastrnn.get_include(), "fastrnn.h").read_text()
    assert f'#define FRNN_VERSION "{fastrnn.__version__}"' in header


# ---- a stream's handle ---------------------------------------------------------------------------


@pytest.fixture
def gru():
    """A stream, its handle, and arrays of a step."""
    stream = fastrnn.GRU(3, 5, rng=0).stream(2)
    handle = fastrnn.kernels.stream_handle(stream)
    return stream, handle, np.ones((2, 3), "float32"), np.zeros((2, 5), "float32")


def test_the_state_is_that_of_the_stream_in_python(gru, step):
    stream, handle, x, y = gru
    same = fastrnn.GRU(3, 5, rng=0).stream(2)
    assert step(handle, x, y) == 0
    assert_same_bits(y, same.step(x))
    assert_same_bits(stream.step(x), same.step(x))
    stream.reset(1)
    same.reset(1)
    assert step(handle, x, y) == 0
    assert_same_bits(y, same.step(x))


def test_x_and_y_may_overlap(step):
    stream, same = (fastrnn.GRU(65, 65, rng=0).stream(2) for _ in range(2))
    handle, x = fastrnn.kernels.stream_handle(stream), np.ones((2, 65), "float32")
    wanted = [same.step(x)]
    wanted.append(same.step(wanted[0]))
    assert step(handle, x, x) == 0 and step(handle, x, x) == 0
    assert_same_bits(x, wanted[1])


def test_ids_are_steps_too_and_unknown_ones_are_refused(step):
    stream, same = (fastrnn.LSTM(7, 5, rng=0).stream(2, one_hot=True) for _ in range(2))
    handle, y = fastrnn.kernels.stream_handle(stream), np.zeros((2, 5), "float32")
    assert step(handle, np.array([3, 7]), y) == INVALID == step(handle, np.array([-1, 0]), y)
    assert not y.any() and not stream.state[0].any()
    assert step(handle, np.array([3, 6]), y) == 0
    assert_same_bits(y, same.step(np.array([3, 6])))


def test_arrays_that_do_not_fit_are_refused(gru, step):
    stream, handle, x, y = gru
    odd = np.zeros(64, np.uint8).ctypes.data // 8 * 8 + 1
    assert step(handle, x[:1], y) == INVALID == step(handle, x, y[:1])
    assert step(handle, 0, y, x.nbytes) == INVALID == step(handle, x, 0, None, y.nbytes)
    assert step(handle, odd, y, x.nbytes) == INVALID == step(handle, x, odd, None, y.nbytes)
    assert not y.any() and not stream.state.any()


def test_numbers_that_are_no_handle_are_refused(gru, step):
    _, handle, x, y = gru
    memory = np.zeros(512)
    for bad in (0, handle + 1, memory.ctypes.data):
        assert step(bad, x, y) == INVALID
    assert not y.any()


def test_a_stream_that_another_call_uses_is_busy(gru, step):
    stream, handle, x, y = gru
    assert stream._stepper.alone(lambda: step(handle, x, y)) == BUSY
    assert step(handle, x, y) == 0


def test_a_handle_ends_with_grow_and_a_new_one_has_the_rows(gru, step):
    stream, handle, x, y = gru
    assert step(handle, x, y) == 0
    before = stream.state.copy()
    stream.grow(1)
    gc.collect()
    assert step(handle, x, y) == BUSY
    assert_same_bits(stream.state[:, :2], before)
    more, out = np.ones((3, 3), "float32"), np.zeros((3, 5), "float32")
    assert step(fastrnn.kernels.stream_handle(stream), more, out) == 0
    assert_same_bits(out, stream.state[0])


def test_copies_of_a_stream_have_handles_of_their_own(gru, step):
    stream, handle, x, y = gru
    other = copy.copy(stream)
    assert fastrnn.kernels.stream_handle(other) != handle
    assert step(fastrnn.kernels.stream_handle(other), x, y) == 0
    assert not stream.state.any() and other.state.any()


def test_streams_that_the_kernels_alone_cannot_step_are_refused():
    layer = fastrnn.GRU(3, 5, rng=0)
    handle = fastrnn.kernels.stream_handle
    with pytest.raises(ValueError, match="without an embedding"):
        handle(layer.stream(embedding=np.zeros((9, 3), "float32")))
    with pytest.raises(ValueError, match="without a head"):
        handle(layer.freeze(head=train.Dense(5, 2, rng=0)).stream())
    with fastrnn.backend("reference"):
        stream = layer.stream()
    with pytest.raises(ValueError, match="NumPy path"):
        handle(stream)
    with pytest.raises(TypeError, match="stream must be a fastrnn.Stream, got"):
        handle(layer)
