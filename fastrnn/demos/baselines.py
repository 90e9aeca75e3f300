"""Forecasts without a network, which a network must beat to be worth its trouble.

Each is a function of a task (`fastrnn.demos.series`) and of what can be tuned. It returns a
function from times of issue to forecasts, both (B,). It learns from the task's training period
alone; `tuned` chooses among the settings by the validation period, as the network's epochs are.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

QUERIES = 256  # windows that are compared with all of training at once, so that memory stays small


def rmse(error):
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean(np.square(error))))


def mae(error):
    """Mean absolute error."""
    return float(np.mean(np.abs(error)))


def persistence(task):
    """It stays as it is."""
    return lambda times: task.series[times]


def mean(task):
    """The mean of the training period."""
    of_training = task.series[: task.train[-1] + 1].mean()
    return lambda times: np.full(len(times), of_training)


def seasonal(task, years, weeks):
    """The same week of past years, each raised by the drift since then, and the mean of these.

    The drift is that from some weeks of that year to the last ones. With one year and one week it
    is the seasonal naive forecast with drift.
    """

    def forecast(times):
        recent = task.window(times, weeks).mean(axis=1)
        made = []
        for back in range(task.YEAR, years * task.YEAR + 1, task.YEAR):
            drift = recent - task.window(times - back, weeks).mean(axis=1)
            made.append(task.series[times + task.AHEAD - back] + drift)
        return np.mean(made, axis=0)

    return forecast


def ridge(task, length, penalty):
    """Linear regression on the last values about their mean; its squared weights are penalised."""

    def about_mean(times):
        window = task.window(times, length)
        level = window.mean(axis=1)
        return window - level[:, None], level

    x, level = about_mean(task.train)
    w, b = _linear(x[None], (task.truth(task.train) - level)[None], penalty)

    def forecast(times):
        x, level = about_mean(times)
        return level + x @ w[0] + b[0]

    return forecast


def analogues(task, length, count):
    """What followed the most similar windows of training, on average (Lorenz, 1969)."""

    def forecast(times):
        return task.truth(_nearest(task, times, length, count).ravel()).reshape(-1, count).mean(1)

    return _in_pieces(forecast)


def local_linear(task, length, count, penalty):
    """A ridge regression on the most similar windows of training, another one for each forecast.

    Farmer and Sidorowich, Predicting chaotic time series, 1987; Sauer forecast this laser so in the
    competition that its measurements are from.
    """

    def forecast(times):
        near = _nearest(task, times, length, count)
        x = task.window(near.ravel(), length).reshape(len(times), count, length)
        y = task.truth(near.ravel()).reshape(len(times), count)
        w, b = _linear(x, y, penalty)
        made = np.einsum("bi,bi->b", task.window(times, length), w) + b
        return made.clip(y.min(axis=1), y.max(axis=1))  # never beyond what followed them

    return _in_pieces(forecast)


def _linear(x, y, penalty):
    """G ridge regressions, of x (G, n, k) and y (G, n) -> weights (G, k), biases (G,)."""
    x_mean, y_mean = x.mean(axis=1), y.mean(axis=1)
    x, y = x - x_mean[:, None], y - y_mean[:, None]
    squares = x.transpose(0, 2, 1) @ x + penalty * np.eye(x.shape[2])
    w = np.linalg.solve(squares, x.transpose(0, 2, 1) @ y[:, :, None])[:, :, 0]
    return w, y_mean - np.einsum("gk,gk->g", x_mean, w)


def _nearest(task, times, length, count):
    """The times of training whose windows are the nearest to those of `times`: (B, count)."""
    x, known = task.window(times, length), task.window(task.train, length)
    squares = np.einsum("ni,ni->n", known, known) - 2 * x @ known.T  # and |x|^2, which is no matter
    return task.train[np.argpartition(squares, count, axis=1)[:, :count]]


def _in_pieces(forecast):
    """The same function, called with a part of the times at once."""

    def whole(times):
        pieces = np.split(times, range(QUERIES, len(times), QUERIES))
        return np.concatenate([forecast(piece) for piece in pieces])

    return whole


class Baseline(NamedTuple):
    """A baseline as it was tuned: `settings` says how, `forecast` is its function of times."""

    settings: dict
    forecast: object


def tuned(task, make, **grid):
    """The settings of the grid whose forecasts of the validation period are the best."""
    truth, best, least = task.truth(task.validation), None, np.inf
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        forecast = make(task, **settings)
        error = rmse(forecast(task.validation) - truth)
        if error < least:
            best, least = Baseline(settings, forecast), error
    return best


def of_laser(task):
    """The laser's baselines: name -> Baseline."""
    return {
        "persistence": tuned(task, persistence),
        "mean": tuned(task, mean),
        "ridge regression": tuned(
            task, ridge, length=(8, 16, 32, 48), penalty=(1.0, 1e2, 1e4, 1e6)
        ),
        "analogues": tuned(task, analogues, length=(8, 16, 24, 32), count=(1, 2, 4, 8)),
        "local linear": tuned(
            task, local_linear, length=(8, 16, 32), count=(16, 32), penalty=(1e1, 1e2, 1e3)
        ),
    }


def of_co2(task):
    """The same for CO2."""
    penalties = 10.0 ** np.arange(-1, 4, 0.5)
    return {
        "persistence": tuned(task, persistence),
        "seasonal naive + drift": tuned(task, seasonal, years=(1,), weeks=(1,)),
        "seasonal mean + drift": tuned(task, seasonal, years=(1, 2, 3, 4), weeks=(1, 4, 8, 12)),
        "ridge on 78 weeks": tuned(task, ridge, length=(78,), penalty=penalties),
        "ridge": tuned(task, ridge, length=(52, 78, 104, 130, 156, 208), penalty=penalties),
    }
