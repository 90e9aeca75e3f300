"""Cython modules of other packages call the kernels: by a stream's handle, and by the structs."""

import pathlib
import threading

import numpy as np
import pytest
from pages import blocks
from problems import assert_same_bits

import fastrnn

pytest.importorskip("Cython")
pytest.importorskip("setuptools")

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

INVALID = -3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    from extensions import build

    def of(name, source):
        setup = blocks("c.md", "python")[1].replace("loop", name)
        return build(tmp_path_factory.mktemp(name), name, source, setup)

    return of


@pytest.fixture(scope="module")
def loop(build):
    """The module of the page."""
    return build("loop", blocks("c.md", "cython")[0])


@pytest.fixture(scope="module")
def structs(build):
    return build("structs", (pathlib.Path(__file__).parent / "structs.pyx").read_text())


# ---- a stream's handle ---------------------------------------------------------------------------

LAYERS = {
    "two LSTMs": lambda: fastrnn.LSTM(7, 19, num_layers=2, rng=0),
    "layer norm": lambda: fastrnn.GRU(7, 19, layer_norm=True, rng=0),
    "projection": lambda: fastrnn.LSTM(7, 23, proj_size=19, rng=0),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_precision = pytest.mark.parametrize("precision", [None, "bfloat16-weights", "int8"])


@every_layer
@every_precision
def test_a_loop_without_the_gil_steps_a_stream(name, precision, loop, rng):
    frozen = LAYERS[name]().freeze(precision)
    stream, same = frozen.stream(3), frozen.stream(3)
    x, y = rng.standard_normal((11, 3, 7)).astype("float32"), np.empty((11, 3, 19), "float32")
    loop.run(fastrnn.kernels.stream_handle(stream), x, y)
    assert_same_bits(y, same.feed(x))
    assert_same_bits(stream.state, same.state)
    loop.run(fastrnn.kernels.stream_handle(stream), x, y)  # it goes on from there
    assert_same_bits(y, same.feed(x))


def test_the_example_of_the_page(loop):
    names = {}
    exec(blocks("c.md", "python")[0], names)
    loop.run(names["handle"], names["x"], names["y"])
    same = fastrnn.LSTM(40, 128, num_layers=2, rng=0).stream(batch_size=8)
    assert_same_bits(names["y"], same.feed(names["x"]))


def test_threads_step_their_own_streams_at_once(loop, rng):
    frozen = fastrnn.GRU(5, 33, rng=0).freeze()
    streams = [frozen.stream(2) for _ in range(4)]
    xs = rng.standard_normal((4, 200, 2, 5)).astype("float32")
    ys = np.empty((4, 200, 2, 33), "float32")
    threads = [
        threading.Thread(target=loop.run, args=(fastrnn.kernels.stream_handle(stream), x, y))
        for stream, x, y in zip(streams, xs, ys, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, y in zip(xs, ys, strict=True):
        assert_same_bits(y, frozen.stream(2).feed(x))


def test_arrays_of_other_sizes_are_refused(loop):
    stream = fastrnn.GRU(5, 6, rng=0).stream(2)
    handle = fastrnn.kernels.stream_handle(stream)
    x, y = np.ones((1, 2, 5), "float32"), np.zeros((1, 2, 6), "float32")
    for bad_x, bad_y in ((x[:, :, :4].copy(), y), (x, y[:, :1])):
        with pytest.raises(RuntimeError, match=f"returned {INVALID}"):
            loop.run(handle, bad_x, bad_y)
    with pytest.raises(RuntimeError, match=f"returned {INVALID}"):
        loop.run(0, x, y)
    assert not y.any() and not stream.state.any()


# ---- the structs ---------------------------------------------------------------------------------


def aligned(nbytes):
    """Zeros that begin at a multiple of 64 bytes."""
    memory = np.zeros(nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + nbytes]


class Lstm:
    """Arrays of an LSTM's passes, and their addresses."""

    def __init__(self, structs, rng, dtype, sizes):
        t, b, i, h = self.sizes = sizes
        self.structs, self.number = structs, int(dtype == "float64")

        def drawn(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.weights = [drawn(4 * h, i), drawn(4 * h, h), drawn(4 * h), drawn(4 * h)]
        self.x, self.dy = drawn(t, b, i), drawn(t, b, h)
        self.first, self.dlast = (drawn(b, h), drawn(b, h)), (drawn(b, h), drawn(b, h))
        self.y, self.dx = np.zeros_like(self.dy), np.zeros_like(self.x)
        self.last, self.dfirst = ([np.zeros_like(a) for a in self.first] for _ in range(2))
        self.gradients = [np.zeros_like(w) for w in self.weights]
        nbytes = structs.sizes_of("lstm", self.number, sizes)
        self.buffers = {name: aligned(n) for name, n in nbytes.items()}

    def addresses(self):
        named = {"x", "y", "dy", "dx", "first", "last", "dlast", "dfirst", "gradients"}
        arrays = {name: getattr(self, name) for name in named} | self.buffers
        arrays["work"] = arrays["forward"]
        return {
            name: a.ctypes.data if isinstance(a, np.ndarray) else [e.ctypes.data for e in a]
            for name, a in arrays.items()
        }

    def run(self, name, change="", **options):
        weights = [w.ctypes.data for w in self.weights]
        arguments = "lstm", self.number, self.sizes, weights, self.addresses(), change
        return getattr(self.structs, name)(*arguments, **options)


@pytest.fixture
def lstm(structs, rng):
    return Lstm(structs, rng, "float32", (5, 3, 7, 19))


def test_the_module_and_the_library_have_the_same_header(structs):
    assert structs.same_header()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(5, 3, 7, 19), (1, 1, 1, 1), (3, 2, 130, 17), (0, 2, 3, 4)])
@pytest.mark.parametrize("planned", [False, True])
def test_forward_and_backward_are_those_of_python(structs, rng, dtype, sizes, planned):
    lstm = Lstm(structs, rng, dtype, sizes)
    assert lstm.run("forward", planned=planned) == (0, 0)
    assert lstm.run("backward") == 0
    y, last, tape = fastrnn.lstm(lstm.x, lstm.first, *lstm.weights, return_tape=True)
    dx, dfirst, dweights = fastrnn.lstm_backward(
        tape, lstm.x, y, lstm.first, tuple(lstm.weights), lstm.dy, lstm.dlast
    )
    assert_same_bits([lstm.y, *lstm.last], [y, *last])
    assert_same_bits([lstm.dx, *lstm.dfirst], [dx, *dfirst])
    assert_same_bits(lstm.gradients, list(dweights[:4]))


@pytest.mark.parametrize("change", ["matrix", "forms", "panels"])
def test_packing_that_cannot_be_right_is_refused(lstm, change):
    assert lstm.run("forward", change) == (INVALID, INVALID)
    assert not lstm.y.any() and not lstm.buffers["packed"].any()


BAD = ["cell", "dtype", "other dtype", "steps", "precision", "projected", "work", "no work", "tape"]
BAD += ["x", "y", "state", "last", "count", "no calls"]


@pytest.mark.parametrize("change", BAD)
def test_forward_calls_that_cannot_be_right_are_refused(lstm, change):
    assert lstm.run("forward", change) == (0, INVALID)
    assert not lstm.y.any()


@pytest.mark.parametrize("change", ["planned shape", "work", "no work"])
def test_planned_calls_that_cannot_be_right_are_refused(lstm, change):
    assert lstm.run("forward", change, planned=True) == (0, INVALID)
    assert not lstm.y.any()


BAD = ["tape", "work", "precision", "matrix", "dfirst", "x", "cell"]


@pytest.mark.parametrize("change", BAD)
def test_backward_calls_that_cannot_be_right_are_refused(lstm, change):
    assert lstm.run("forward") == (0, 0)
    assert lstm.run("backward", change) == INVALID
    assert not lstm.dx.any()


def test_sizes_of_a_shape_that_cannot_be_right_are_0(structs):
    bad = [("nonsense", 0, (1, 1, 1, 1)), ("lstm", 2, (1, 1, 1, 1)), ("lstm", 0, (1, -1, 1, 1))]
    for case in [*bad, ("lstm", 0, (2**40, 2**62, 1, 1))]:
        sizes = structs.sizes_of(*case)
        assert sizes["forward"] == sizes["tape"] == sizes["backward"] == 0
