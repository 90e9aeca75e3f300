"""Windows of a series: views that cover it, shuffled by rng, and their targets."""

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw

import fastrnn
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
        (lambda: train.windows(draw(50), 4, 1, 4, rng="x"), TypeError, "rng must be None, an int"),
        (lambda: train.windows("s.npy", 4, 1, 4), TypeError, "got 's.npy': .*numpy.load\\(path"),
        (lambda: train.windows(draw(50), 4, 1, 4, rng=-1), ValueError, "rng must be None, an int"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def found(series, x, target, length, steps, columns):
    """The begins of a minibatch's windows, after a check of the windows and targets."""
    begins = []
    for window, values in zip(x, target, strict=True):
        (begin,) = np.flatnonzero((series == window[0]).all(axis=1))
        assert_same_bits(window, series[begin : begin + length])
        wanted = series[begin + length - 1 + np.asarray(steps)][..., columns]
        assert_same_bits(values, wanted)
        begins.append(begin)
    return begins


STEPS = [2, 1, [3], range(1, 5), [1, 7], (2, 4, 6), np.arange(1, 4), [1, 2, 6], range(2, 9, 3)]
COLUMNS = [None, 1, -1, slice(1, None), slice(None, None, -2), [2], [2, 0], np.array([0, 1])]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("horizon", STEPS, ids=str)
@pytest.mark.parametrize("targets", COLUMNS, ids=str)
def test_targets_are_the_columns_and_steps_that_were_asked_for(targets, horizon, batch_first):
    series, seen, several = draw(30, 3), [], np.ndim(horizon) == 1
    columns = slice(None) if targets is None else targets
    columns = np.atleast_1d(np.arange(3)[columns])
    minibatches = train.windows(
        series, 5, horizon, 4, rng=0, targets=targets, batch_first=batch_first
    )
    for x, target in minibatches:
        assert np.shares_memory(x, series)
        if several and not batch_first:
            assert target.shape == (len(horizon), x.shape[1], len(columns))
            target = target.swapaxes(0, 1)
        x = x if batch_first else x.swapaxes(0, 1)
        assert x.shape == (len(target), 5, 3)
        seen += found(series, x, target, 5, horizon, columns)
    assert sorted(seen) == list(range(30 - 5 - int(np.max(horizon)) + 1))


@pytest.mark.parametrize("horizon", [2, range(1, 5), [2, 4, 6], np.arange(1, 3)], ids=str)
@pytest.mark.parametrize("targets", [None, 1, slice(0, 2)], ids=str)
def test_targets_are_views_where_steps_are_evenly_spaced(horizon, targets):
    series = draw(30, 3)
    for _, target in train.windows(series, 5, horizon, 4, targets=targets, batch_first=True):
        assert np.shares_memory(target, series)


def test_a_layer_reads_batches_first_as_it_does_steps_first():
    series = draw(40, 2, dtype="float32")
    first, second = (
        fastrnn.GRU(2, 3, batch_first=batch_first, rng=0) for batch_first in (True, False)
    )
    for ours, wanted in zip(
        train.windows(series, 6, range(1, 4), 5, batch_first=True),
        train.windows(series, 6, range(1, 4), 5),
        strict=True,
    ):
        assert_same_bits(first(ours[0])[0].swapaxes(0, 1), second(wanted[0])[0])
        assert_same_bits(ours[1].swapaxes(0, 1), wanted[1])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, "f4") for kind in ("?", "i1", "i2", ">i2", "u8", "i8", "f4")] + [("f8", "f8")],
)
def test_integers_become_float32_and_floats_stay_what_they_are(kind, dtype):
    series = (np.arange(20) % 2).astype(kind)
    for x, target in train.windows(series, 5, 1, 1):
        assert x.dtype == target.dtype == np.dtype(dtype)
        assert target == 1 - x[-1]
    (x, _), *_ = train.windows([0, 1, 2, 3], 3, 1, 1)
    assert_same_bits(x[:, 0, 0], np.array([0, 1, 2], "f4"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"horizon": []}, ValueError, "horizon must have at least one step"),
        ({"horizon": range(0, 3)}, ValueError, r"horizon\[0\] must be an integer of at least 1"),
        ({"horizon": [1, 2.0]}, TypeError, r"horizon\[1\] must be an integer, got float"),
        ({"horizon": [2, 1]}, ValueError, "horizon must be ascending steps, got 1 after 2"),
        ({"horizon": [1, 1]}, ValueError, "horizon must be ascending steps, got 1 after 1"),
        ({"horizon": range(1, 10**30)}, ValueError, "series must have at least length . horizon"),
        ({"horizon": [1, 99]}, ValueError, "= 104 values, got 20"),
        ({"horizon": "week"}, TypeError, "horizon must be an integer, got str"),
        ({"horizon": 1.5}, TypeError, "horizon must be an integer, got float"),
        ({"targets": 3}, ValueError, "targets must be columns from 0 to 2, got 3"),
        ({"targets": [0, -4]}, ValueError, "targets must be columns from 0 to 2, got -4"),
        ({"targets": [True, False, True]}, TypeError, "targets must be columns, .* got True"),
        ({"targets": "co2"}, TypeError, "targets must be columns: .* got str"),
        ({"targets": 1.0}, TypeError, "targets must be columns: .* got float"),
        ({"targets": []}, ValueError, "targets must take at least one of 3 columns, got none"),
        ({"targets": slice(3, None)}, ValueError, "targets must take at least one of 3 columns"),
        ({"targets": slice(0, 2, 0)}, ValueError, "targets must be a slice of columns, got slice"),
        ({"targets": slice("a", 2)}, TypeError, "targets must be a slice of columns, got slice"),
        ({"batch_first": 1}, TypeError, "batch_first must be True or False"),
        ({"series": np.array([0, 2**24 + 1])}, TypeError, "series must be float32, or numbers tha"),
        ({"series": np.array([2**62, 0])}, TypeError, r'cast it with series.astype\("float32"\)'),
        ({"series": np.ma.arange(20)}, TypeError, "series must be an array without a mask"),
        ({"series": ["a", "b"]}, TypeError, "series must be an array of float32 or float64"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_at_once(options, error, message):
    options = {"series": draw(20, 3), "length": 5, "horizon": 1, "batch_size": 4, **options}
    with pytest.raises(error, match=message):
        train.windows(**options)
