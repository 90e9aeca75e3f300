"""Keras itself, with its NumPy backend, and what tests draw for it: layers, weights, masks."""

import os

os.environ.setdefault("KERAS_BACKEND", "numpy")  # Keras reads it when it is imported

import numpy as np
import pytest

keras = pytest.importorskip("keras")
kl = keras.layers

# Keras 3.15 converts its variables as NumPy 1 did.
QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MERGES = ("concat", "sum", "ave", "mul", None)


@pytest.fixture
def real_float64(monkeypatch):
    """Keras 3 computes layers of float64 in float32, on every backend but TensorFlow; not here."""
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")


def built(layer, inputs, rng):
    """The layer with drawn weights, of which biases are not 0 either."""
    layer.build((None, None, inputs))
    layer.set_weights([0.7 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def masks(rng, rows, steps):
    """Masks by kind. In each, one row has no True, if there are several rows."""
    lengths = rng.integers(0, steps + 1, rows)
    at = np.arange(steps)
    found = {
        "right": at < lengths[:, None],
        "left": at >= steps - lengths[:, None],
        "scattered": rng.random((rows, steps)) < 0.6,
    }
    for mask in found.values():
        mask[: rows // 4] = False
    return found


def flat(value):
    """The arrays of nested results, in order."""
    if isinstance(value, list | tuple):
        return [array for part in value for array in flat(part)]
    return [np.asarray(value)]


def same(ours, theirs, dtype):
    ours, theirs = flat(ours), flat(theirs)
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == np.dtype(dtype)
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        eps = {"float32": 2e-5, "float64": 1e-13}[dtype] * scale
        np.testing.assert_allclose(a, b, rtol=0, atol=eps)


def initial_state(layer, rows, rng, dtype):
    """A drawn state in the form that the Keras layer takes."""

    def drawn(sizes):
        if isinstance(sizes, list | tuple):
            return [drawn(size) for size in sizes]
        return rng.normal(size=(rows, sizes)).astype(dtype)

    if isinstance(layer, kl.Bidirectional):
        return drawn([*layer.forward_layer.state_size, *layer.backward_layer.state_size])
    state = drawn(layer.state_size)
    if isinstance(getattr(layer, "cell", None), kl.StackedRNNCells):
        return [part if isinstance(part, list) else [part] for part in state]
    return state
