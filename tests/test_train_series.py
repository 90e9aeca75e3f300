"""Windows of a series: views of all of it, in an order that rng says."""

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw

from fastrnn import train

pytestmark = pytest.mark.no_kernels


@pytest.mark.parametrize("features", [None, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_are_views_of_all_that_a_series_has(features, batch_size):
    series = draw(20) if features is None else draw(20, features)
    wide, seen = series.reshape(20, -1), []
    for x, target in train.windows(series, 5, 2, batch_size, rng=0):
        assert np.shares_memory(x, series) and np.shares_memory(target, series)
        assert x.shape == (5, len(target), wide.shape[1]) and len(target) <= batch_size
        for b in range(len(target)):
            (begin,) = np.flatnonzero((wide == x[0, b]).all(axis=1))
            assert_same_bits(x[:, b], wide[begin : begin + 5])
            assert_same_bits(target[b], wide[begin + 6])
            seen.append(begin)
    assert sorted(seen) == list(range(14))


def test_the_order_of_minibatches_is_rngs():
    def orders(rng):
        return [target[0, 0] for _, target in train.windows(np.arange(50.0), 5, 1, 4, rng)]

    assert orders(3) == orders(3) != orders(None)
    assert sorted(orders(3)) == sorted(orders(None))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.windows(draw(5), 4, 2, 1), ValueError, "length \\+ horizon = 6 values"),
        (lambda: train.windows(draw(5), 4, 0, 1), ValueError, "horizon must be"),
        (lambda: train.windows(draw(5, 1, 1), 4, 1, 1), ValueError, "series must be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
