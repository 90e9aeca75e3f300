"""A series seen from times of issue: what is known then, and a naive forecast.

A forecast is issued at a time, from the values up to that time. The first time of issue is the
first one with enough values before it, the last one is the end of the series. No result for a time
depends on later values.

It must not know: networks, residuals, intervals.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn.estimators.base import scale_of, single


class SeenSeries:
    """y (N,), X (N, K), and the sizes (window, horizon, season) of a forecaster, in steps.

    season : 1 for a series without a season.
    scales : what `scale_of` says of the windows; None for those of this series.

    Results are for n = N - needed + 1 times of issue; `needed` values are read for each.

    windows : (n, window, 2 + K) float32, scaled: the values, each window less
        its mean; their changes from one season before; X.
    """

    def __init__(self, y, X, sizes, scales=None):
        self.y, self.X, self.sizes, (window, _, season) = y, X, sizes, sizes
        self.needed = window + season
        steps = np.column_stack([y[season:], y[season:] - y[:-season], X[season:]])
        windows = sliding_window_view(steps, window, axis=0).swapaxes(1, 2).copy()
        windows[:, :, 0] -= windows[:, :, 0].mean(axis=1, keepdims=True)
        self.scales = scales or scale_of(windows.reshape(-1, steps.shape[1]))
        mean, deviation = self.scales
        self.windows = single("y and X", (windows - mean) / deviation)

    def end_of(self, y, X):
        """The last time of issue of a series, with these sizes and scales, on copies."""
        last = slice(-self.needed, None)
        return SeenSeries(y[last].copy(), X[last].copy(), self.sizes, self.scales)

    def inputs(self, times):
        """What a network reads at some of the times, as `Network` wants it."""
        return self.windows[times].swapaxes(0, 1), None

    def regressors(self):
        """What a linear regression reads, of X the last row alone: (n, 2 * window + K) float64."""
        of_y = self.windows[:, :, :2].reshape(len(self.windows), -1)
        return np.concatenate([of_y, self.windows[:, -1, 2:]], axis=1, dtype=np.float64)

    def naive(self):
        """The last known values at the same places of the season: (n, horizon).

        Without a season it is the last value (Hyndman and Athanasopoulos, Forecasting: principles
        and practice).
        """
        _, horizon, season = self.sizes
        now = np.arange(self.needed - 1, len(self.y))
        return self.y[now[:, None] - season + np.arange(horizon) % season + 1]

    def spread(self):
        """How much the series has changed from season to season lately: (n, 1), above 0.

        The root mean square of the changes in the window and of those in the whole series, half and
        half. With the former alone, intervals would be too narrow after a calm time.
        """
        recent = np.mean(np.square(self.windows[:, :, 1], dtype=np.float64), axis=1)
        return np.sqrt((recent + 1) / 2)[:, None]
