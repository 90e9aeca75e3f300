"""For the tests of fastrnn.train: numbers to train on, slopes by finite differences."""

import numpy as np
import pytest
from problems import DTYPES

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def assert_slopes(loss, x, gradient):
    """Compare the gradient with finite differences of loss(x), along random directions."""
    for seed in range(5):
        way, eps = draw(*x.shape, seed=seed + 10), 1e-6
        slope = (loss(x + eps * way) - loss(x - eps * way)) / (2 * eps)
        np.testing.assert_allclose(np.vdot(gradient, way), slope, rtol=1e-6, atol=1e-10)
