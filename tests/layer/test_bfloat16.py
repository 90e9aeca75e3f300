"""freeze("bfloat16"): the rows that the matrices multiply are rounded too, all else is float32."""

import signal
import time

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_fused_isa, every_isa
from problems import assert_same_bits, layer_of
from variants import VARIANTS

import fastrnn
from fastrnn._engine import runtime
from fastrnn.reference.precision import to_bfloat16

# Tiles of 1 to 8 rows, several tiles, chunks; odd and even numbers of k.
SIZES = [(1, 1), (2, 3), (7, 4), (9, 6), (2, 7), (1, 8), (3, 13), (40, 2), (70, 5), (0, 2), (2, 0)]


def draw(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def parts(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


def near(got, wanted, most=1e-5):
    for a, b in zip(parts(got), parts(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=most)


def by_reference(frozen, *args, **options):
    with fastrnn.backend("reference"):
        return frozen(*args, **options)


def with_rounded_rows(frozen, x, recurrent):
    """A call of a frozen layer, step by step, with x and h rounded before each step.

    recurrent : whether a matrix multiplies h.
    """
    state, outputs = None, []
    for x_t in x:
        if recurrent and state is not None:
            h, *others = state if isinstance(state, tuple) else (state,)
            state = (to_bfloat16(h), *others) if others else to_bfloat16(h)
        y, state = frozen.step(to_bfloat16(x_t), state)
        outputs.append(y)
    return np.stack(outputs), state


@every_fused_isa
@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh", "rnn_relu", "min_gru", "min_lstm"])
@pytest.mark.parametrize("inputs, hidden", [(1, 1), (4, 21), (61, 32), (40, 65), (2051, 9)])
def test_steps_are_those_of_rounded_weights_on_rounded_rows(cell, inputs, hidden, isa):
    """These cells read h in products alone, or have none with h."""
    layer = layer_of(cell, inputs, hidden)
    frozen, of_weights = layer.freeze("bfloat16"), layer.freeze("bfloat16-weights")
    for t, b in SIZES if inputs < 100 else [(1, 1), (5, 3), (2, 20)]:
        if t > 0 and b > 0:
            x = draw(t, b, inputs)
            expected = with_rounded_rows(of_weights, x, not cell.startswith("min"))
            assert_same_bits(frozen(x), expected)


@every_isa
@every_cell
@pytest.mark.parametrize("inputs, hidden", [(1, 1), (4, 21), (61, 32), (40, 65)])
def test_calls_are_near_the_reference(cell, inputs, hidden, isa):
    frozen = layer_of(cell, inputs, hidden).freeze("bfloat16")
    for t, b in SIZES:
        x = draw(t, b, inputs)
        near(frozen(x), by_reference(frozen, x), 1e-2)
        if t == 1:
            state = frozen(draw(3, b, inputs, seed=2))[1]
            near(frozen(x, state), by_reference(frozen, x, state))


@every_backend
@every_cell
@pytest.mark.parametrize("net", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
def test_it_is_near_the_layer(cell, net, backend):
    layer = layer_of(cell, 12, 40, **net)
    x = draw(6, 5, 12)
    near(layer.freeze("bfloat16")(x), layer(x), 2e-2)
    assert not (layer.freeze("bfloat16")(x)[0] == layer(x)[0]).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    cell, options = VARIANTS[name]
    frozen, x = layer_of(cell, 12, 33, **options).freeze("bfloat16"), draw(1, 4, 12)
    near(frozen(x), by_reference(frozen, x))
    state = frozen(draw(3, 4, 12, seed=2))[1]  # so that W_hh multiplies more than zeros
    near(frozen(x, state), by_reference(frozen, x, state))


@every_cell
def test_ids(cell):
    frozen, ids = layer_of(cell, 9, 21).freeze("bfloat16"), np.arange(12).reshape(4, 3) % 9
    for more in {"one_hot": True}, {"embedding": draw(9, 9)}:
        near(frozen(ids, **more), by_reference(frozen, ids, **more), 1e-2)


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_streams_and_the_batch_do_not_show(cell, threads):
    layer = layer_of(cell, 12, 200)
    frozen, x = layer.freeze("bfloat16"), draw(9, 40, 12)
    with fastrnn.threads(threads):
        y, last = frozen(x)
    alone = [frozen(x[:, b : b + 1]) for b in range(3)]
    assert_same_bits(y[:, :3], np.concatenate([y for y, _ in alone], axis=1))
    stream = frozen.stream(40)
    with fastrnn.threads(threads):
        assert_same_bits(np.stack([stream.step(x_t) for x_t in x[:4]]), y[:4])
        assert_same_bits(stream.feed(x[4:]), y[4:])
    assert_same_bits(stream.state, last)


@every_backend
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_stream_of_the_reference_converts_rows_too(precision, backend):
    frozen, x = layer_of("lstm", 12, 20, num_layers=2).freeze(precision), draw(5, 3, 12)
    stream = frozen.stream(3)
    y = frozen(x)[0]
    np.testing.assert_allclose(stream.feed(x), y, rtol=0, atol=1e-6)


# ---- subnormal numbers ---------------------------------------------------------------------------


@pytest.mark.usefixtures("core")
@every_fused_isa
def test_subnormal_numbers_are_zeros_in_a_call_alone(isa):
    layer = fastrnn.RNN(1, 3, nonlinearity="relu", rng=0)
    for name in layer.params:
        layer.params[name] = 0 * layer.params[name]
    layer.params["weight_ih_l0"] = np.float32([[1], [2**-126], [1]])
    frozen = layer.freeze("bfloat16")
    x = np.float32([[[1e-40]], [[0.5]], [[1]]])
    tiny = np.float32([1e-40, 3e-39])
    y = frozen(x)[0][:, 0]
    assert (y[0] == 0).all() and (y[1, 1], y[2, 1]) == (0, np.float32(2**-126))
    assert ((tiny * np.float32(1)) == tiny).all() and (tiny > 0).all()
    assert (layer.freeze("bfloat16-weights")(x)[0][0, 0, 0]) > 0  # the others know them


@pytest.mark.posix
@pytest.mark.usefixtures("core")
def test_a_signal_handler_knows_subnormal_numbers():
    """A handler runs in the middle of a call, with the caller's floating-point environment."""
    frozen, seen = fastrnn.GRU(64, 300, rng=0).freeze("bfloat16"), []
    x, tiny = draw(1000, 4, 64), np.float32([1e-40])

    def handler(*_):
        seen.append(bool((tiny * np.float32(1) == tiny).all() and (tiny > 0).all()))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        expected = frozen(x)[0]
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        while len(seen) < 3 and time.perf_counter() - start < 20:
            y = frozen(x)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen and all(seen)
    assert_same_bits(y, expected)
    assert runtime.core is not None
