"""Forecasts without a network: each against its definition, on small series."""

import numpy as np
import pytest

from fastrnn.demos import baselines
from fastrnn.demos.baselines import rmse, tuned
from fastrnn.demos.series import CO2, Departures, Task

pytestmark = pytest.mark.any_isa


class Small(Task):
    """A year of four values, one value ahead."""

    YEAR, AHEAD, WINDOW, HISTORY = 4, 1, 4, 14

    def regressors(self, times, length, by_hour=False):
        window = self.window(times, length)
        level = window.mean(axis=1)
        return window - level[:, None], level


class Raw(Small):
    """The same with windows that are not normalised."""

    def regressors(self, times, length, by_hour=False):
        return self.window(times, length), np.zeros(len(times))


def task_of(values, kind=Small):
    values = np.asarray(values, float)
    return kind(values, np.ones(len(values), bool))


@pytest.fixture
def noise():
    return task_of(np.random.default_rng(0).normal(size=200))


def test_errors_are_their_definitions():
    error = np.array([3.0, -4.0])
    assert baselines.rmse(error) == pytest.approx(np.sqrt(12.5))
    assert baselines.mae(error) == 3.5


@pytest.fixture(scope="module")
def flights():
    """The departures with a quarter of their training period, to be quick."""
    task = Departures()
    task.train = task.train[::4]
    return task


def test_persistence_yesterday_and_the_mean_of_the_hour(flights):
    times, s = flights.test, flights.series
    assert np.array_equal(baselines.persistence(flights)(times), s[times])
    assert np.array_equal(baselines.yesterday(flights)(times), s[times + 6 - 24])
    forecast = baselines.mean_of_the_hour(flights)
    hours = flights.hour[flights.train + 6]
    for hour in (9, 17):
        at = flights.train[hours == hour]
        assert forecast(at).mean() == pytest.approx(flights.truth(at).mean(), abs=0.01)


def test_seasonal_is_the_mean_of_past_years_with_the_drift_since(noise):
    s, t = noise.series, noise.test[3]
    naive = s[t + 1 - 4] + s[t] - s[t - 4]
    forecast = baselines.seasonal(noise, years=1, weeks=1)(np.array([t]))
    assert forecast == pytest.approx(naive)
    parts = [
        s[t + 1 - 4 * k] + s[t - 2 : t + 1].mean() - s[t - 4 * k - 2 : t - 4 * k + 1].mean()
        for k in (1, 2, 3)
    ]
    forecast = baselines.seasonal(noise, years=3, weeks=3)(np.array([t]))
    assert forecast == pytest.approx(np.mean(parts))


def test_seasonal_forecasts_a_trend_and_a_season_exactly():
    t = np.arange(120)
    task = task_of(0.3 * t + np.tile([0.0, 2.0, -1.0, 5.0], 30))
    for years, weeks in ((1, 1), (3, 2)):
        forecast = baselines.seasonal(task, years, weeks)(task.test)
        np.testing.assert_allclose(forecast, task.truth(task.test))


def test_ridge_finds_a_linear_rule_and_shrinks_to_the_mean(noise):
    series = [1.0, 0.5]
    for _ in range(150):
        series.append(1.6 * series[-1] - 0.99 * series[-2])  # a slowly fading swing
    task = task_of(np.array(series) + 7)
    forecast = baselines.ridge(task, length=4, penalty=1e-9)(task.test)
    np.testing.assert_allclose(forecast, task.truth(task.test), atol=1e-5)
    # With weights of 0 it is the window's mean plus the mean difference of the truth from it.
    window = noise.window(noise.train, 3).mean(axis=1)
    above = (noise.truth(noise.train) - window).mean()
    forecast = baselines.ridge(noise, length=3, penalty=1e12)(noise.test)
    np.testing.assert_allclose(
        forecast, noise.window(noise.test, 3).mean(axis=1) + above, atol=1e-6
    )


def test_ridge_solves_the_penalised_normal_equations(noise):
    x = noise.window(noise.train, 4)
    level = x.mean(axis=1)
    x, y = x - level[:, None], noise.truth(noise.train) - level
    columns = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag([5.0, 5.0, 5.0, 5.0, 0.0])
    w = np.linalg.solve(columns.T @ columns + penalty, columns.T @ y)
    test = noise.window(noise.test, 4)
    expected = test.mean(axis=1) + (test - test.mean(axis=1, keepdims=True)) @ w[:4] + w[4]
    forecast = baselines.ridge(noise, length=4, penalty=5.0)(noise.test)
    np.testing.assert_allclose(forecast, expected)


def test_ridge_by_the_hour_has_other_weights_at_other_hours(flights):
    """It fits values that follow the last one by day only; plain ridge cannot."""
    turn = np.sin(2 * np.pi * flights.hour / 24)
    values = flights.seen[:, 9] * turn  # a product of an input and the hour

    class Product(Departures):
        def truth(self, times):
            return values[times]

    task = Product()
    task.train = flights.train
    truth, errors = values[flights.validation], []
    for by_hour in (False, True):
        forecast = baselines.ridge(task, 1, 1e-3, by_hour)(flights.validation)
        errors.append(rmse(forecast - truth))
    assert errors[1] < 0.05 * errors[0]


def test_kernel_ridge_solves_for_its_weights_and_finds_what_is_not_linear():
    logistic = [0.3]
    for _ in range(300):
        logistic.append(3.9 * logistic[-1] * (1 - logistic[-1]))
    task = task_of(logistic, Raw)
    forecast = baselines.kernel_ridge(task, 2, 0.5, 1e-6)
    x, y = task.window(task.train, 2), task.truth(task.train)
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / 0.5)
    weights = np.linalg.solve(kernel + 1e-6 * np.eye(len(x)), y - y.mean())
    test = task.window(task.test, 2)
    expected = y.mean() + np.exp(-((test[:, None] - x) ** 2).sum(axis=2) / 0.5) @ weights
    np.testing.assert_allclose(forecast(task.test), expected, atol=1e-6)
    linear = baselines.ridge(task, 2, 1e-6)(task.test) - task.truth(task.test)
    assert rmse(forecast(task.test) - task.truth(task.test)) < 0.02 * rmse(linear)


def test_analogues_are_the_nearest_times_of_training(noise):
    task = task_of(noise.series, Raw)
    known = task.window(task.train, 3)
    for week in task.test[:5]:
        distance = ((known - task.window(np.array([week]), 3)) ** 2).sum(axis=1)
        nearest = task.train[np.argsort(distance)[:4]]
        forecast = baselines.analogues(task, length=3, count=4)(np.array([week]))
        assert forecast == pytest.approx(task.truth(nearest).mean())


def test_analogues_forecast_about_the_level_that_is_there():
    """An oscillation about a higher level than in training."""
    swing = np.tile([0.0, 2.0, -1.0, 5.0], 50)
    task = task_of(swing + np.repeat([0.0, 100.0], 100))
    forecast = baselines.analogues(task, 4, 3)(task.test)
    np.testing.assert_allclose(forecast, task.truth(task.test))


def test_local_linear_forecasts_what_is_linear_nearby():
    logistic = [0.3]
    for _ in range(600):
        logistic.append(3.9 * logistic[-1] * (1 - logistic[-1]))  # chaos, and no noise
    task = task_of(logistic, Raw)
    truth = task.truth(task.test)
    error = {
        "ridge": rmse(baselines.ridge(task, 4, 1e-6)(task.test) - truth),
        "analogues": rmse(baselines.analogues(task, 2, 2)(task.test) - truth),
        "local": rmse(baselines.local_linear(task, 2, 8, 1e-6)(task.test) - truth),
    }
    assert error["local"] < 0.5 * error["analogues"] < 0.05 * error["ridge"]


def test_forecasts_do_not_depend_on_what_is_asked_along_with_them(noise, monkeypatch):
    whole = baselines.analogues(noise, 3, 2)(noise.test)
    monkeypatch.setattr(baselines, "QUERIES", 7)
    np.testing.assert_array_equal(baselines.analogues(noise, 3, 2)(noise.test), whole)


def test_tuning_takes_the_best_of_the_validation_period_and_sees_no_test():
    values = np.random.default_rng(1).normal(size=300)
    task = task_of(values)
    lengths, penalties = (2, 4, 8), (0.1, 10.0)
    chosen = tuned(task, baselines.ridge, length=lengths, penalty=penalties)
    scores = {
        (n, p): rmse(baselines.ridge(task, n, p)(task.validation) - task.truth(task.validation))
        for n in lengths
        for p in penalties
    }
    assert tuple(chosen.settings.values()) == min(scores, key=scores.get)
    values[task.test[0] + 1 :] = 1000  # other values in the test period
    other = tuned(task_of(values), baselines.ridge, length=lengths, penalty=penalties)
    assert other.settings == chosen.settings
    first = task.test[:1]
    assert other.forecast(first) == chosen.forecast(first)


def test_what_comes_later_reaches_no_baseline():
    """Values after the time of issue do not change a forecast."""
    values = np.random.default_rng(2).normal(size=400)
    task, changed = task_of(values, Raw), values.copy()
    when = task.test[20]
    changed[when + 1 :] = -changed[when + 1 :]
    other = task_of(changed, Raw)
    for make, settings in (
        (baselines.persistence, ()), (baselines.seasonal, (2, 2)), (baselines.ridge, (8, 1.0)),
        (baselines.analogues, (8, 3)), (baselines.local_linear, (4, 16, 1.0)),
        (baselines.kernel_ridge, (4, 5.0, 1.0)),
    ):  # fmt: skip
        issued = task.test[:21]
        assert np.array_equal(make(task, *settings)(issued), make(other, *settings)(issued))


def test_the_baselines_of_co2_reach_what_the_documentation_says():
    task = CO2()
    found = baselines.of_co2(task)
    error = {name: rmse(b.forecast(task.test) - task.truth(task.test)) for name, b in found.items()}
    assert found["seasonal mean + drift"].settings == {"years": 3, "weeks": 8}
    assert error["seasonal mean + drift"] == pytest.approx(0.698, abs=1e-3)
    assert error["seasonal naive + drift"] == pytest.approx(0.987, abs=1e-3)
    assert error["ridge"] < error["ridge on 78 weeks"] < 0.71 < error["persistence"]
