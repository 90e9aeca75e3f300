"""What the forecasting demo forecasts: two measured series, their windows and their three periods.

A forecast is issued at a time from the values up to then, and judged `AHEAD` values later. Each of
three periods owns the forecasts that are both issued and judged inside it: the first is to train
on, the second (validation) to choose by, the third (test) for the errors that are reported.

It must not know: how anything forecasts.
"""

import numpy as np

from fastrnn import data


class Task:
    """A series, and what is to be forecast from what.

    Parameters
    ----------
    values : (N,) array
    measured : (N,) array of bool
        A forecast is issued and judged only where this is True.

    Attributes
    ----------
    series : (N,) float64 array
    train, validation, test : arrays of int
        The times at which forecasts are issued: indices into `series`.
    scale : float
        Of the windows about their levels; from the training windows alone.
    """

    TITLE = UNIT = ""  # what the series is, and what an error is given in
    AHEAD = 1  # values from the time of issue to the one that is forecast
    WINDOW = 1  # values that the network reads, the last one that of the time of issue
    HISTORY = 1  # values before any forecast: some baselines read more than the network
    SHOWN = None  # how many forecasts the picture shows; None: all of the test period

    def __init__(self, values, measured):
        self.series, self.measured = values, measured
        bounds = (0, len(values) * 65 // 100, len(values) * 80 // 100, len(values))
        periods = zip(bounds, bounds[1:], strict=False)
        self.train, self.validation, self.test = (self._issued(*p) for p in periods)
        window = self.window(self.train)
        self.scale = np.std(window - self.level(window))

    def _issued(self, start, stop):
        times = np.arange(max(start, self.HISTORY - 1), stop - self.AHEAD)
        return times[self.measured[times] & self.measured[times + self.AHEAD]]

    def window(self, times, length=None):
        """The last values up to each time, oldest first: (B, length), WINDOW where it is None."""
        return self.series[times[:, None] + np.arange(1 - (length or self.WINDOW), 1)]

    def level(self, window):
        """What the network sees each window about: (B, 1)."""
        return window.mean(axis=1, keepdims=True)

    def inputs(self, times):
        """What the network reads: (WINDOW, B, 1) float32."""
        window = self.window(times)
        scaled = (window - self.level(window)) / self.scale
        return scaled.T[:, :, None].astype(np.float32)

    def truth(self, times):
        """What was measured AHEAD of these times: (B,)."""
        return self.series[times + self.AHEAD]


class Laser(Task):
    """The intensity of a chaotic laser, one value ahead; seven or eight values make a swing."""

    TITLE, UNIT = "intensity of a chaotic laser", "units"
    AHEAD, WINDOW, HISTORY, SHOWN = 1, 48, 48, 300

    def __init__(self, intensity=None):
        intensity = data.laser() if intensity is None else intensity
        super().__init__(intensity, np.ones(len(intensity), bool))

    def level(self, window):
        """The mean of the training period: how bright it is says how near the collapse is."""
        return np.full((len(window), 1), self.series[: self.train[-1] + 1].mean())

    def when(self, times):
        """What stands at the time axis."""
        return times


class CO2(Task):
    """The CO2 in the air, half a year ahead; each window about its own mean, for CO2 rises.

    A forecast is issued only in a week that was measured. So no filled gap before it knows what
    comes after it (`fastrnn.data.fill_gaps`).

    Attributes
    ----------
    dates : (N,) array of datetime64[D]
    """

    TITLE, UNIT = "weekly CO2 at Mauna Loa", "ppm"
    YEAR = 52
    AHEAD, WINDOW, HISTORY = 26, 156, 4 * YEAR + 12

    def __init__(self, ppm=None):
        self.dates, measured = data.co2(fill=False)
        ppm = measured if ppm is None else ppm
        super().__init__(data.fill_gaps(ppm), ~np.isnan(ppm))

    def when(self, times):
        """What stands at the time axis."""
        return self.dates[times]


TASKS = {"laser": Laser, "co2": CO2}
