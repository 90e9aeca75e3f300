"""The LSTM of docs/jax.md: built and run as it stands there, against a scan in JAX."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from pages import DOCS, blocks
from problems import assert_same_bits

import fastrnn

jax = pytest.importorskip("jax")

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]


@pytest.fixture(scope="session")  # XLA takes the handlers once
def page(tmp_path_factory):
    """The names of the page, compiled by the page's command."""
    if fastrnn._engine.runtime.core is None or not shutil.which("c++"):
        pytest.skip("needs the kernels and a C++ compiler")
    folder = tmp_path_factory.mktemp("jax")
    (folder / "lstm.cc").write_text(blocks("jax.md", "cpp")[0])
    command = re.search(r"^    c\+\+ (.*\\\n)*.*$", (DOCS / "jax.md").read_text(), re.M)[0]
    command = command.replace("python", sys.executable)
    package = str(pathlib.Path(fastrnn.__file__).parents[1])
    done = subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | {"PYTHONPATH": package},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {}
    exec(blocks("jax.md", "python")[0].replace("./lstm.so", str(folder / "lstm.so")), names)
    return names


@pytest.fixture
def lstm(page):
    return page["lstm"]


def test_the_page_takes_the_weights_of_a_layer(page):
    names = dict(page)
    exec(blocks("jax.md", "python")[1], names)
    y, (h, c) = names["layer"](np.ones((100, 8, 40), "f4"))
    for got, wanted in (names["y"], y), (names["h"], h[0]), (names["c"], c[0]):
        np.testing.assert_array_equal(got, wanted)
    assert [names[f"d{n}"].shape for n in ("w_ih", "b_hh")] == [(512, 40), (512,)]


def scan(x, state, weights):
    w_ih, w_hh, b_ih, b_hh = weights
    recurrent = w_hh.T

    def step(state, gates):
        h, c = state
        i, f, g, o = jax.numpy.split(gates + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
        h = jax.nn.sigmoid(o) * jax.numpy.tanh(c)
        return (h, c), h

    last, y = jax.lax.scan(step, state, x @ w_ih.T + (b_ih + b_hh))
    return y, last


def problem(t, b, i, h):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return jax.numpy.asarray(rng.uniform(-1, 1, shape) / np.sqrt(h), "float32")

    weights = drawn(4 * h, i), drawn(4 * h, h), drawn(4 * h), drawn(4 * h)
    x = jax.numpy.asarray(rng.standard_normal((t, b, i)), "float32")
    return x, (drawn(b, h), drawn(b, h)), weights


def loss_of(function):
    """A loss of y and of the last state, in which every element has another weight."""

    def loss(*arguments):
        y, (h, c) = function(*arguments)
        ramp = jax.numpy.cos(jax.numpy.arange(y.size)).reshape(y.shape)
        return (y * ramp).sum() + (h * h).sum() + jax.numpy.sin(c).sum()

    return loss


def assert_close(got, wanted):
    got, wanted = jax.tree.leaves(got), jax.tree.leaves(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(abs(b).max()))


@pytest.mark.parametrize("sizes", [(5, 3, 7, 19), (1, 1, 1, 1), (33, 2, 130, 17)])
def test_outputs_and_gradients_are_those_of_a_scan(lstm, sizes):
    arguments = problem(*sizes)
    for wrapped in (lambda f: f, jax.jit):
        assert_close(wrapped(lstm)(*arguments), scan(*arguments))
        gradient = wrapped(jax.grad(loss_of(lstm), (0, 1, 2)))
        assert_close(gradient(*arguments), jax.grad(loss_of(scan), (0, 1, 2))(*arguments))


def test_it_is_a_part_of_larger_jitted_functions(lstm):
    x, state, weights = problem(5, 3, 19, 19)

    def stack(function):
        def run(x, state, weights):
            y, state = function(jax.numpy.tanh(x), state, weights)
            return function(y * 2, state, weights)

        return run

    gradient = jax.jit(jax.value_and_grad(loss_of(stack(lstm)), (0, 1, 2)))
    wanted = jax.value_and_grad(loss_of(stack(scan)), (0, 1, 2))
    assert_close(gradient(x, state, weights), wanted(x, state, weights))


def test_shapes_and_dtypes_that_do_not_fit_are_refused(lstm):
    x, state, (w_ih, *others) = problem(5, 3, 7, 19)
    with pytest.raises(ValueError, match="must be float32 of shapes"):
        lstm(x, state, (w_ih.T, *others))
    with pytest.raises(ValueError, match="must be float32 of shapes"):
        jax.jit(lstm)(x.astype("bfloat16"), state, (w_ih, *others))


@pytest.mark.parametrize("sizes", [(5, 3, 7, 19), (1, 1, 1, 1), (33, 2, 130, 17), (0, 2, 3, 5)])
def test_packed_weights_serve_any_steps_and_batch(page, sizes):
    x, state, weights = problem(*sizes)
    packed, last = page["pack"](weights), state
    for wrapped in (lambda f: f, jax.jit):
        results = wrapped(page["lstm_packed"])(x, state, packed)
        for got, wanted in zip(
            jax.tree.leaves(results), jax.tree.leaves(page["lstm"](x, state, weights)), strict=True
        ):
            assert_same_bits(np.asarray(got), np.asarray(wanted))
    for step in x:
        _, last = page["lstm_packed"](step[None], last, packed)
    assert_close(last, scan(x, state, weights)[1])


def test_packed_weights_that_do_not_fit_are_refused(page):
    x, state, weights = problem(5, 3, 7, 19)
    with pytest.raises(ValueError, match="must be float32 of shapes"):
        page["pack"](weights[:3])
    for others in (problem(5, 3, 19, 7)[2], problem(5, 3, 7, 20)[2]):
        with pytest.raises(ValueError, match="packed must be what pack returns"):
            page["lstm_packed"](x, state, page["pack"](others))
    with pytest.raises((RuntimeError, ValueError), match="returned -3"):
        page["lstm_packed"](x, state, jax.numpy.zeros_like(page["pack"](weights)))


def seconds(functions, calls):
    """The least times of the functions' calls, which take turns."""
    least = [float("inf")] * len(functions)
    for _ in range(60):
        for number, (function, arguments) in enumerate(zip(functions, calls, strict=True)):
            begin = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            least[number] = min(least[number], time.perf_counter() - begin)
    return least


@pytest.mark.alone
@pytest.mark.parametrize("sizes", [(500, 1, 40, 128), (64, 16, 64, 128)])
def test_it_is_faster_than_a_scan(lstm, sizes):
    arguments = problem(*sizes)

    def training(function):
        return jax.jit(jax.grad(lambda *given: (function(*given)[0] ** 2).sum(), (0, 2)))

    for wrapped in (jax.jit, training):
        ours, of_scan = seconds([wrapped(lstm), wrapped(scan)], [arguments] * 2)
        assert of_scan > 1.2 * ours


@pytest.mark.alone
@pytest.mark.parametrize("units", [64, 256])
def test_a_step_with_packed_weights_is_faster_than_a_scan(page, units):
    x, state, weights = problem(1, 1, units, units)
    calls = [(x, state, page["pack"](weights)), (x, state, weights)]
    ours, of_scan = seconds([jax.jit(page["lstm_packed"]), jax.jit(scan)], calls)
    assert of_scan > 1.3 * ours
