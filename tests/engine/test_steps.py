"""Several steps in one call give the bits of steps that are called one by one.

A pass whose rows all take every step computes the arguments of a step once, and a step that one
tile computes stays within the kernel (csrc/forward/steps.c). So the sizes here are those at which
the number of tiles changes. Variants and projections are not part of it; their steps are computed
one by one.
"""

import numpy as np
import pytest
from problems import BACKENDS, assert_same_bits

import fastrnn

KINDS = {
    "tanh": (fastrnn.RNN, {}),
    "relu": (fastrnn.RNN, {"nonlinearity": "relu"}),
    "lstm": (fastrnn.LSTM, {}),
    "gru": (fastrnn.GRU, {}),
    "gru before": (fastrnn.GRU, {"reset_after": False}),
    "variant, one by one": (fastrnn.LSTM, {"coupled": True, "peephole": True}),
    "projected, one by one": (fastrnn.LSTM, {"proj_size": 1}),
}
SIZES = [2, 7, 8, 9, 16, 17, 20, 24, 25, 32, 33, 40, 48, 49, 64, 65]
STEPS = 70  # more than between two polls for interrupts

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")


def one_by_one(layer, x, state=None, **options):
    """The outputs and the last state of calls of one step each."""
    outputs = []
    for t in range(len(x)):
        y, state = layer(x[t : t + 1], state, **options)
        outputs.append(y)
    return np.concatenate(outputs), state


def layer_of(kind, inputs, hidden, **options):
    make, more = KINDS[kind]
    return make(inputs, hidden, rng=hidden, **more, **options)


def features(*shape, dtype="float32"):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", SIZES)
def test_steps_of_every_size(kind, hidden, dtype):
    layer = layer_of(kind, 1, hidden, dtype=dtype)
    x = features(STEPS, 1, 1, dtype=dtype)
    with fastrnn.backend("core"):
        expected = one_by_one(layer, x)
        assert_same_bits(layer(x), expected)
        assert_same_bits(layer.freeze()(x), expected)
        assert_same_bits(layer.stream().feed(x), expected[0])
        assert_same_bits(layer.forward(x)[:2], expected)
        precision = None if dtype == "float64" else "bfloat16-weights"
        frozen = layer.freeze(precision)
        assert_same_bits(frozen(x), one_by_one(frozen, x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("inputs", [3, 40])  # x enters in the step, or by a product before
def test_steps_of_more_rows_in_both_directions(kind, batch, inputs):
    layer = layer_of(kind, inputs, 24, num_layers=2)
    x = features(STEPS, batch, inputs)
    with fastrnn.backend("core"):
        start = layer(x)[1]
        assert_same_bits(layer(x, start), one_by_one(layer, x, start))
        for transposed in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
            assert_same_bits(layer(transposed, start), layer(x, start))
        both = layer_of(kind, inputs, 24, bidirectional=True)
        alone = layer_of(kind, inputs, 24)
        alone.flat = both.flat[len(both.flat) // 2 :]
        y = both(x)[0]
        assert_same_bits(y[::-1, :, y.shape[2] // 2 :], one_by_one(alone, x[::-1])[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [8, 20, 33])
def test_steps_of_ids(kind, hidden):
    layer = layer_of(kind, 11, hidden)
    ids = np.random.default_rng(0).integers(0, 11, (STEPS, 2))
    with fastrnn.backend("core"):
        assert_same_bits(layer(ids, one_hot=True), one_by_one(layer, ids, one_hot=True))
        stream = layer.stream(2, one_hot=True)
        assert_same_bits(stream.feed(ids), layer(ids, one_hot=True)[0])
