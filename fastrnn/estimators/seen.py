"""A series seen from times of issue: what is known then, naive forecasts, and what followed.

A forecast is issued at a time, an index t into the series, from the values up to y[t]. Functions
of times (B,) read no value after them, except `truth`.

It must not know: networks, residuals, intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.estimators.base import scale_of, single

# The naive forecasts of a value h steps ahead, c = ceil(h / season) seasons after one that is
# known: the last value; the known value at the same place of the season; the same plus c times the
# recent rise from season to season. Without a season the rise is from step to step. The first two
# and the third without a season: Hyndman and Athanasopoulos, Forecasting: principles and practice.
BASES = ("last", "season", "rise")


class Sizes(NamedTuple):
    """The sizes of a forecaster, in steps.

    window : the last values that are read. horizon : the steps that are forecast.
    season : 1 for a series without a season.
    recent : those whose mean is the rise of "rise", at most `window`.
    """

    window: int
    horizon: int
    season: int
    recent: int

    @property
    def needed(self):
        """The number of last values from which a forecast can be issued."""
        return self.window + self.season


class Scales(NamedTuple):
    """What a network's inputs are divided by: y and its rise; X, less its mean, (K,) each."""

    y: float
    rise: float
    X_mean: np.ndarray
    X: np.ndarray


class SeenSeries:
    """y (N,), X (N, K), and the `Sizes` of a forecaster."""

    def __init__(self, y, X, sizes):
        self.y, self.X, self.sizes = y, X, sizes
        self.rise = np.full(len(y), np.nan)  # from one season before
        self.rise[sizes.season :] = y[sizes.season :] - y[: -sizes.season]

    def end(self):
        """Copies of the last values, as many as are needed: the user may write to the others."""
        needed = self.sizes.needed
        return SeenSeries(self.y[-needed:].copy(), self.X[-needed:].copy(), self.sizes)

    def steps(self, times):
        """The indices of windows: (window, B)."""
        return times + np.arange(1 - self.sizes.window, 1)[:, None]

    def levelled(self, times):
        """The values in windows, each window less its mean: (window, B)."""
        values = self.y[self.steps(times)]
        return values - values.mean(axis=0)

    def scales(self, times):
        """The `Scales` of windows up to these times, and of the whole X."""
        y, rise = self.levelled(times), self.rise[self.sizes.season :]
        return Scales(root_mean_square(y), root_mean_square(rise), *scale_of(self.X))

    def inputs(self, times, scales):
        """What a network reads: (window, B, 2 + K) float32."""
        steps = self.steps(times)
        x = np.stack([self.levelled(times) / scales.y, self.rise[steps] / scales.rise], axis=-1)
        others = (self.X[steps] - scales.X_mean) / scales.X
        return single("y and X", np.concatenate([x, others], axis=-1))

    def regressors(self, times, scales):
        """What a linear regression reads, of X the last row alone: (B, 2 * window + K)."""
        x = self.inputs(times, scales).astype(np.float64)
        windows = x[:, :, :2].transpose(1, 0, 2).reshape(len(times), 2 * len(x))
        return np.concatenate([windows, x[-1, :, 2:]], axis=1)

    def base(self, kind, times):
        """A naive forecast, one of BASES: (B, horizon)."""
        (_, horizon, season, recent), times = self.sizes, times[:, None]
        if kind == "last":
            return np.repeat(self.y[times], horizon, axis=1)
        ahead = np.arange(1, horizon + 1)
        seasons = -(-ahead // season)
        rise = self.rise[times - np.arange(recent)].mean(axis=1, keepdims=True)
        rise = rise if kind == "rise" else 0.0
        return self.y[times + ahead - seasons * season] + seasons * rise

    def truth(self, times):
        """The values that followed: (B, horizon)."""
        return self.y[times[:, None] + np.arange(1, self.sizes.horizon + 1)]

    def spread(self, times, scales):
        """How much the series has changed from season to season lately: (B, 1), above 0.

        The root mean square of the rises in the window and of the usual rise, half and half. With
        the former alone, intervals would be too narrow after a calm time.
        """
        recent = np.mean(self.rise[self.steps(times)] ** 2, axis=0)
        return np.sqrt((recent + scales.rise**2) / 2)[:, None]


def root_mean_square(values, axis=None):
    """The root of the mean of squares; 1 in the place of 0, because it is divided by."""
    root = np.sqrt(np.mean(np.square(values), axis=axis))
    return np.where(root > 0, root, 1.0)
