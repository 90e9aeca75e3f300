"""Forecasts without a network: baselines that a network should beat.

A baseline is a function of a task (`fastrnn.demos.series`) and of settings that can be tuned. It
learns from the task's training period alone and returns a function from times of issue to
forecasts, both (B,). `tuned` chooses the settings on the validation period, on which the network's
epoch is chosen too.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

QUERIES = 128  # hours that one call compares with the training period; this bounds the memory


def rmse(error):
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean(np.square(error))))


def mae(error):
    """Mean absolute error."""
    return float(np.mean(np.abs(error)))


def persistence(task):
    """The value at the time of issue."""
    return lambda times: task.series[times]


def mean_of_the_hour(task):
    """A linear fit of the hour of the day and the day of the week."""
    w, b = _linear(task.clock[task.train][None], task.truth(task.train)[None], 1.0)
    return lambda times: task.clock[times] @ w[0] + b[0]


def yesterday(task):
    """The value at the same hour of the day before."""
    return lambda times: task.series[times + task.AHEAD - 24]


def seasonal(task, years, weeks):
    """The mean of the same week in past years, each plus the drift since then.

    The drift is the change of the mean over `weeks` weeks from that year to now. With one year and
    one week it is the seasonal naive forecast with drift.
    """

    def forecast(times):
        recent = task.window(times, weeks).mean(axis=1)
        forecasts = []
        for back in range(task.YEAR, years * task.YEAR + 1, task.YEAR):
            drift = recent - task.window(times - back, weeks).mean(axis=1)
            forecasts.append(task.series[times + task.AHEAD - back] + drift)
        return np.mean(forecasts, axis=0)

    return forecast


def ridge(task, length, penalty, by_hour=False):
    """Linear regression on the inputs of the last `length` times, with penalised weights.

    by_hour : the weights depend on the hour of the day, by a sine and a cosine.
    """
    x, level = task.regressors(task.train, length, by_hour)
    w, b = _linear(x[None], (task.truth(task.train) - level)[None], penalty)

    def forecast(times):
        x, level = task.regressors(times, length, by_hour)
        return level + x @ w[0] + b[0]

    return forecast


def kernel_ridge(task, length, width, penalty):
    """Ridge regression on Gaussians about the inputs of training: smooth, and not linear."""
    known, level = task.regressors(task.train, length)
    left = task.truth(task.train) - level
    mean = left.mean()

    def kernel(x):
        return np.exp(-_squares(x, known) / width)

    w = np.linalg.solve(kernel(known) + penalty * np.eye(len(known)), left - mean)

    def forecast(times):
        x, level = task.regressors(times, length)
        return level + mean + kernel(x) @ w

    return forecast


def analogues(task, length, count):
    """The mean of the values that followed the most similar times of training (Lorenz, 1969)."""

    def forecast(times):
        near, _, level = _nearest(task, times, length, count)
        return level + near.left.mean(axis=1)

    return _in_pieces(forecast)


def local_linear(task, length, count, penalty):
    """For each forecast a ridge regression on the most similar times of training.

    Farmer and Sidorowich, Predicting chaotic time series, 1987.
    """

    def forecast(times):
        near, x, level = _nearest(task, times, length, count)
        w, b = _linear(near.x, near.left, penalty)
        forecasts = np.einsum("bi,bi->b", x, w) + b
        # clipped to the range of the values that followed them
        return level + forecasts.clip(near.left.min(axis=1), near.left.max(axis=1))

    return _in_pieces(forecast)


def _linear(x, y, penalty):
    """G ridge regressions of y (G, n) on x (G, n, k) -> weights (G, k), biases (G,)."""
    x_mean, y_mean = x.mean(axis=1), y.mean(axis=1)
    x, y = x - x_mean[:, None], y - y_mean[:, None]
    squares = x.transpose(0, 2, 1) @ x + penalty * np.eye(x.shape[2])
    w = np.linalg.solve(squares, x.transpose(0, 2, 1) @ y[:, :, None])[:, :, 0]
    return w, y_mean - np.einsum("gk,gk->g", x_mean, w)


class Near(NamedTuple):
    """The training times nearest to each of B times."""

    x: np.ndarray  # (B, count, k), the inputs
    left: np.ndarray  # (B, count), the values that followed, less their level


def _nearest(task, times, length, count):
    """-> Near, and the inputs and levels at `times`."""
    known, levels = task.regressors(task.train, length)
    x, level = task.regressors(times, length)
    nearest = np.argpartition(_squares(x, known), count, axis=1)[:, :count]
    return Near(known[nearest], (task.truth(task.train) - levels)[nearest]), x, level


def _squares(x, known):
    """Squared distances (B, N) between (B, k) and (N, k)."""
    return np.sum(x**2, axis=1)[:, None] + np.sum(known**2, axis=1) - 2 * x @ known.T


def _in_pieces(forecast):
    """Wrap a function of times so that it gets at most QUERIES of them at once."""

    def whole(times):
        pieces = np.split(times, range(QUERIES, len(times), QUERIES))
        return np.concatenate([forecast(piece) for piece in pieces])

    return whole


class Baseline(NamedTuple):
    """A tuned baseline: its `settings`, and `forecast`, its function of times."""

    settings: dict
    forecast: object


def tuned(task, make, **grid):
    """The Baseline with the settings of the grid that forecast the validation period best."""
    truth, best, least = task.truth(task.validation), None, np.inf
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        forecast = make(task, **settings)
        error = rmse(forecast(task.validation) - truth)
        if error < least:
            best, least = Baseline(settings, forecast), error
    return best


def of_departures(task):
    """The baselines of late departures: name -> Baseline."""
    penalties = (30.0, 1e2, 3e2, 1e3, 3e3)
    return {
        "persistence": tuned(task, persistence),
        "yesterday": tuned(task, yesterday),
        "mean of the hour": tuned(task, mean_of_the_hour),
        "ridge": tuned(task, ridge, length=(1, 3, 8, 24), penalty=penalties),
        "ridge by the hour": tuned(
            task, ridge, length=(1, 3, 8), penalty=penalties, by_hour=(True,)
        ),
        "nearest times": tuned(task, analogues, length=(1, 2, 3, 4), count=(5, 10, 20, 40)),
        "linear on nearest times": tuned(
            task, local_linear, length=(1, 3), count=(50, 100), penalty=(30.0, 1e2, 3e2)
        ),
        "kernel ridge": tuned(
            task, kernel_ridge, length=(2, 3), width=(100.0, 300.0), penalty=(0.3, 1.0)
        ),
    }


def of_co2(task):
    """The baselines of CO2: name -> Baseline."""
    penalties = 10.0 ** np.arange(-1, 4, 0.5)
    return {
        "persistence": tuned(task, persistence),
        "seasonal naive + drift": tuned(task, seasonal, years=(1,), weeks=(1,)),
        "seasonal mean + drift": tuned(task, seasonal, years=(1, 2, 3, 4), weeks=(1, 4, 8, 12)),
        "ridge on 78 weeks": tuned(task, ridge, length=(78,), penalty=penalties),
        "ridge": tuned(task, ridge, length=(52, 78, 104, 130, 156, 208), penalty=penalties),
    }
