"""A series seen from times of issue: what is known then, naive forecasts, and what followed.

A forecast is issued at a time, an index t into the series, from the values up to y[t]. Functions
of times (B,) read no value after them, except `truth`.

It must not know: networks, residuals, intervals.
"""

from __future__ import annotations

import numpy as np

from fastrnn.estimators.base import scale_of, single

# The naive forecasts of a value h steps ahead, c = ceil(h / season) seasons after one that is
# known: the last value; the known value at the same place of the season; the same plus c times the
# recent rise from season to season. Without a season the rise is from step to step. The first two
# and the third without a season: Hyndman and Athanasopoulos, Forecasting: principles and practice.
BASES = ("last", "season", "rise")


class SeenSeries:
    """y (N,), X (N, K), and the sizes of a forecaster: window, horizon, season, recent.

    season : 1 for a series without a season
    recent : the number of steps whose mean is the rise of "rise", up to `window`
    """

    def __init__(self, y, X, sizes):
        self.y, self.X, self.sizes = y, X, sizes
        self.window, self.horizon, self.season, self.recent = sizes
        self.needed = self.window + self.season  # last values, from which a forecast can be issued
        self.rise = np.full(len(y), np.nan)  # from one season before
        self.rise[self.season :] = y[self.season :] - y[: -self.season]

    def end(self):
        """Copies of the last values, as many as are needed: the user may write to the others."""
        last = slice(-self.needed, None)
        return SeenSeries(self.y[last].copy(), self.X[last].copy(), self.sizes)

    def steps(self, times):
        """The indices of windows: (window, B)."""
        return times + np.arange(1 - self.window, 1)[:, None]

    def levelled(self, times):
        """The values in windows, each window less its mean: (window, B)."""
        values = self.y[self.steps(times)]
        return values - values.mean(axis=0)

    def scales(self, times):
        """What windows up to these times are divided by: (values, rises, (mean and scale of X))."""
        of_y, of_rise = self.levelled(times), self.rise[self.season :]
        return root_mean_square(of_y), root_mean_square(of_rise), scale_of(self.X)

    def inputs(self, times, scales):
        """What a network reads: (window, B, 2 + K) float32."""
        steps, (of_y, of_rise, (mean, of_X)) = self.steps(times), scales
        x = np.stack([self.levelled(times) / of_y, self.rise[steps] / of_rise], axis=-1)
        x = np.concatenate([x, (self.X[steps] - mean) / of_X], axis=-1)
        return single("y and X", x)

    def regressors(self, times, scales):
        """What a linear regression reads, of X the last row alone: (B, 2 * window + K)."""
        x = self.inputs(times, scales).astype(np.float64)
        windows = x[:, :, :2].transpose(1, 0, 2).reshape(len(times), 2 * self.window)
        return np.concatenate([windows, x[-1, :, 2:]], axis=1)

    def base(self, kind, times):
        """A naive forecast, one of BASES: (B, horizon)."""
        times, ahead = times[:, None], np.arange(1, self.horizon + 1)
        if kind == "last":
            return np.repeat(self.y[times], self.horizon, axis=1)
        seasons = -(-ahead // self.season)
        rise = self.rise[times - np.arange(self.recent)].mean(axis=1, keepdims=True)
        rise = rise if kind == "rise" else 0.0
        return self.y[times + ahead - seasons * self.season] + seasons * rise

    def truth(self, times):
        """The values that followed: (B, horizon)."""
        return self.y[times[:, None] + np.arange(1, self.horizon + 1)]

    def spread(self, times, usual):
        """How much the series has changed from season to season lately: (B, 1), above 0.

        The root of the mean of two squares: that of the rises in the window, and `usual`**2. With
        the former alone, intervals would be too narrow after a calm time.
        """
        recent = np.mean(self.rise[self.steps(times)] ** 2, axis=0)
        return np.sqrt((recent + usual**2) / 2)[:, None]


def root_mean_square(values, axis=None):
    """The root of the mean of squares; 1 in the place of 0, because it is divided by."""
    root = np.sqrt(np.mean(np.square(values), axis=axis))
    return np.where(root > 0, root, 1.0)
