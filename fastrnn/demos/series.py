"""The tasks of the forecasting demo: two measured series, their windows and their three periods.

A forecast is issued at a time from the values up to that time, and judged `AHEAD` values later. A
period has the forecasts that are both issued and judged within it. The first period is for
training, the second (validation) for choices, the third (test) for the reported errors.

It must not know: models.
"""

import numpy as np

from fastrnn import data


class Task:
    """A series, the inputs of forecasts, and the values to forecast.

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
    """

    TITLE = UNIT = ""  # the name of the series, and the unit of errors
    EVERY = ""  # the unit of time between two values, in the plural
    AHEAD = 1  # steps from the time of issue to the value that is forecast
    WINDOW = 1  # values that the network reads; the last one is that of the time of issue
    HISTORY = 1  # values before the first forecast: some baselines read more than the network
    NOISE = 0.0  # deviation of the noise that training adds to the inputs of each minibatch
    SHOWN = None  # the number of forecasts of the test period in the picture; None: all

    def __init__(self, values, measured):
        self.series, self.measured = values, measured
        self.train, self.validation, self.test = (
            np.concatenate([self._issued(*span) for span in spans]) for spans in self._periods()
        )

    def _periods(self):
        """The spans (start, stop) of training, validation and test: one of each, in this order."""
        end = len(self.series)
        bounds = (0, end * 65 // 100, end * 80 // 100, end)
        return [[span] for span in zip(bounds, bounds[1:], strict=False)]

    def _issued(self, start, stop):
        """The times of issue within a span."""
        times = np.arange(max(start, self.HISTORY - 1), stop - self.AHEAD)
        return times[self.measured[times] & self.measured[times + self.AHEAD]]

    def window(self, times, length=None):
        """The last values up to each time, oldest first: (B, length); None is WINDOW."""
        return self.series[times[:, None] + np.arange(1 - (length or self.WINDOW), 1)]

    def regressors(self, times, length, by_hour=False):
        """The inputs of a baseline (B, k), and the levels (B,) that its forecast is added to."""
        raise NotImplementedError

    def inputs(self, times):
        """The inputs of the network: (WINDOW, B, F) float32."""
        raise NotImplementedError

    def truth(self, times):
        """The values measured AHEAD of these times: (B,)."""
        return self.series[times + self.AHEAD]


class Departures(Task):
    """The fraction of New York's flights that will leave late, six hours ahead.

    The year is a sequence of cycles of five weeks: three for training, one for validation, one for
    the test. So each period has all seasons. On the first day of each span, a Tuesday, no forecast
    is issued, so that no window reaches into another span. Validation and test have the other six
    days of the week.

    Attributes
    ----------
    hours : (N,) array of datetime64[h]
    clock : (N, 31) float64 array
        Flags of the hour of the day that is forecast, and of the day of the week.
    seen : (N, F) float64 array
        The inputs at each time; each column has mean 0 and deviation 1 over training.
    """

    TITLE, UNIT = "late departures from New York", "fraction of flights"
    EVERY = "hours"
    AHEAD, WINDOW, HISTORY, SHOWN, NOISE = 6, 8, 24, 88, 0.5
    WEEK = 7 * 24
    CYCLE = (3, 4, 5)  # weeks from the start of a cycle to the ends of its three spans
    FLIGHTS = 30  # an hour with fewer flights is not forecast

    def __init__(self, late=None):
        self.hours, scheduled, counted, weather = data.departures()
        late = counted if late is None else late
        flights = scheduled.sum(axis=1)
        fraction = late.sum(axis=1) / np.maximum(flights, 1)
        super().__init__(fraction, flights >= self.FLIGHTS)
        self.hour = self.hours.astype(int) % 24
        later = np.roll(self.hour, -self.AHEAD)
        weekday = self.hours.astype("datetime64[D]").astype(int) % 7
        self.clock = np.concatenate([np.eye(24)[later], np.eye(7)[weekday]], axis=1)
        self.seen = self._seen(scheduled, late / np.maximum(scheduled, 1), weather)

    def _seen(self, scheduled, fractions, weather):
        """The columns of `seen`: the airports, the weather, the hour and the season."""
        weather = _last_known(weather)
        rain = list(data.WEATHER).index("rain")
        weather[:, rain] = np.sqrt(weather[:, rain])  # the amount of rain matters less than rain
        to_come = np.roll(scheduled, -self.AHEAD, axis=0)
        turns = 2 * np.pi * np.stack([self.hour / 24, np.arange(len(self.hour)) / 8766], axis=1)
        columns = np.concatenate(
            [
                weather, fractions, self.series[:, None], scheduled, to_come,
                np.sin(turns), np.cos(turns),
            ],
            axis=1,
        )  # fmt: skip
        of_training = columns[self.train]
        return (columns - of_training.mean(axis=0)) / of_training.std(axis=0)

    def _periods(self):
        end, cycle = len(self.series), self.CYCLE[-1] * self.WEEK
        starts = (0, *self.CYCLE)
        return [
            [
                (first + start * self.WEEK + self.HISTORY - 1, min(first + stop * self.WEEK, end))
                for first in range(0, end, cycle)
            ]
            for start, stop in zip(starts, self.CYCLE, strict=False)
        ]

    def _issued(self, start, stop):
        times = np.arange(start, stop - self.AHEAD)
        return times[self.measured[times + self.AHEAD]]

    def regressors(self, times, length, by_hour=False):
        """The network's inputs of the last hours; by_hour: also times sine, cosine of the hour."""
        lagged = self.seen[times[:, None] - np.arange(length)].reshape(len(times), -1)
        x = np.concatenate([lagged, self.clock[times]], axis=1)
        if by_hour:
            turn = 2 * np.pi * self.hour[times, None] / 24
            x = np.concatenate([x, x * np.sin(turn), x * np.cos(turn)], axis=1)
        return x, np.zeros(len(times))

    def inputs(self, times):
        """The columns `seen` and `clock` of the last hours: (WINDOW, B, F) float32."""
        columns = np.concatenate([self.seen, self.clock], axis=1)
        return columns[times + np.arange(1 - self.WINDOW, 1)[:, None]].astype(np.float32)

    def when(self, times):
        """The times as values of the picture's axis."""
        return self.hours[times]


def _last_known(columns):
    """A copy of (N, F) with the last value in place of each NaN, 0 if there is none."""
    known = np.where(np.isnan(columns), 0, np.arange(len(columns))[:, None])
    return np.nan_to_num(np.take_along_axis(columns, np.maximum.accumulate(known), axis=0))


class CO2(Task):
    """The CO2 in the air, half a year ahead. CO2 rises, so each window has its mean subtracted.

    A forecast is issued only in a week that was measured. So the filled gaps before that week do
    not depend on later weeks (`fastrnn.data.fill_gaps`).

    Attributes
    ----------
    dates : (N,) array of datetime64[D]
    scale : float
        The deviation of the training windows, each with its mean subtracted.
    """

    TITLE, UNIT = "weekly CO2 at Mauna Loa", "ppm"
    EVERY = "weeks"
    YEAR = 52
    AHEAD, WINDOW, HISTORY = 26, 156, 4 * YEAR + 12

    def __init__(self, ppm=None):
        self.dates, measured = data.co2(fill=False)
        ppm = measured if ppm is None else ppm
        super().__init__(data.fill_gaps(ppm), ~np.isnan(ppm))
        self.scale = np.std(self.regressors(self.train, self.WINDOW)[0])

    def regressors(self, times, length, by_hour=False):
        """The last values minus their mean, and that mean."""
        window = self.window(times, length)
        level = window.mean(axis=1)
        return window - level[:, None], level

    def inputs(self, times):
        """The window minus its mean, scaled: (WINDOW, B, 1) float32."""
        x, _ = self.regressors(times, self.WINDOW)
        return (x / self.scale).T[:, :, None].astype(np.float32)

    def when(self, times):
        """The times as values of the picture's axis."""
        return self.dates[times]


TASKS = {"departures": Departures, "co2": CO2}
