"""For the tests of fastrnn.train: numbers to train on, slopes by finite differences, examples."""

import doctest

import numpy as np
import pytest
from problems import DTYPES

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def assert_slopes(loss, x, gradient):
    """The gradient is the finite differences of loss(x), along some ways."""
    for seed in range(5):
        way, eps = draw(*x.shape, seed=seed + 10), 1e-6
        slope = (loss(x + eps * way) - loss(x - eps * way)) / (2 * eps)
        np.testing.assert_allclose(np.vdot(gradient, way), slope, rtol=1e-6, atol=1e-10)


def assert_examples_run(module):
    """The docstrings of a module have examples, which give what they say."""
    result = doctest.testmod(module, report=True)
    assert result.attempted and not result.failed
