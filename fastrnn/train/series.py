"""A series as minibatches of windows."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn import checks


def windows(series, length, horizon, batch_size, rng=None):
    """Minibatches of windows of a series and of the values that follow them, without copies.

    A minibatch's windows are evenly spread over the series, so each sees all of it.

    Parameters
    ----------
    series : (N,) or (N, F) array
    length : int
        T, steps of a window.
    horizon : int
        The target is the value so many steps after a window's last one; from 1.
    batch_size : int
        At most so many windows.
    rng : None, int or numpy.random.Generator
        Shuffles the order of the minibatches; None leaves it.

    Yields
    ------
    x : (T, B, F) view of series
    target : (B, F) view

    Raises
    ------
    ValueError, TypeError
        At once, for arguments that do not fit and a series too short for one window.
    """
    series = checks.as_array("series", series)
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2:
        raise ValueError(f"series must be (N,) or (N, F), got {series.shape}")
    length, horizon = checks.positive("length", length), checks.positive("horizon", horizon)
    count = len(series) - length - horizon + 1
    if count < 1:
        raise ValueError(
            f"series must have at least length + horizon = {length + horizon} values, got "
            f"{len(series)}: use a shorter window or horizon"
        )
    batches = -(-count // checks.positive("batch_size", batch_size))
    x = sliding_window_view(series, length, axis=0)[:count].transpose(2, 0, 1)
    order = np.arange(batches) if rng is None else np.random.default_rng(rng).permutation(batches)
    targets = series[length + horizon - 1 :]
    return ((x[:, i::batches], targets[i::batches]) for i in order)
