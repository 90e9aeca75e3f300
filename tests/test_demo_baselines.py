"""Forecasts without a network: what each is, on series small enough to see it."""

import numpy as np
import pytest

from fastrnn.demos import baselines
from fastrnn.demos.baselines import rmse, tuned
from fastrnn.demos.series import CO2, Laser, Task


class Small(Task):
    """A year of four values, one value ahead."""

    YEAR, AHEAD, WINDOW, HISTORY = 4, 1, 4, 14


def task_of(values, kind=Small):
    values = np.asarray(values, float)
    return Small(values, np.ones(len(values), bool)) if kind is Small else kind(values)


@pytest.fixture
def noise():
    return task_of(np.random.default_rng(0).normal(size=200))


def test_errors_are_their_definitions():
    error = np.array([3.0, -4.0])
    assert baselines.rmse(error) == pytest.approx(np.sqrt(12.5))
    assert baselines.mae(error) == 3.5


def test_persistence_and_mean(noise):
    times = noise.test
    assert np.array_equal(baselines.persistence(noise)(times), noise.series[times])
    of_training = noise.series[: noise.train[-1] + 1].mean()
    assert np.array_equal(baselines.mean(noise)(times), np.full(len(times), of_training))


def test_seasonal_is_the_mean_of_past_years_with_the_drift_since(noise):
    s, t = noise.series, noise.test[3]
    naive = s[t + 1 - 4] + s[t] - s[t - 4]
    made = baselines.seasonal(noise, years=1, weeks=1)(np.array([t]))
    assert made == pytest.approx(naive)
    parts = [
        s[t + 1 - 4 * k] + s[t - 2 : t + 1].mean() - s[t - 4 * k - 2 : t - 4 * k + 1].mean()
        for k in (1, 2, 3)
    ]
    made = baselines.seasonal(noise, years=3, weeks=3)(np.array([t]))
    assert made == pytest.approx(np.mean(parts))


def test_seasonal_forecasts_a_trend_and_a_season_exactly():
    t = np.arange(120)
    task = task_of(0.3 * t + np.tile([0.0, 2.0, -1.0, 5.0], 30))
    for years, weeks in ((1, 1), (3, 2)):
        made = baselines.seasonal(task, years, weeks)(task.test)
        np.testing.assert_allclose(made, task.truth(task.test))


def test_ridge_finds_a_linear_rule_and_shrinks_to_the_mean(noise):
    series = [1.0, 0.5]
    for _ in range(150):
        series.append(1.6 * series[-1] - 0.99 * series[-2])  # a slowly fading swing
    task = task_of(np.array(series) + 7)
    made = baselines.ridge(task, length=4, penalty=1e-9)(task.test)
    np.testing.assert_allclose(made, task.truth(task.test), atol=1e-5)
    # With weights of 0 it is the window's mean, and what the truth is above it on average.
    window = noise.window(noise.train, 3).mean(axis=1)
    above = (noise.truth(noise.train) - window).mean()
    made = baselines.ridge(noise, length=3, penalty=1e12)(noise.test)
    np.testing.assert_allclose(made, noise.window(noise.test, 3).mean(axis=1) + above, atol=1e-6)


def test_ridge_solves_the_penalised_normal_equations(noise):
    x = noise.window(noise.train, 4)
    level = x.mean(axis=1)
    x, y = x - level[:, None], noise.truth(noise.train) - level
    columns = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag([5.0, 5.0, 5.0, 5.0, 0.0])
    w = np.linalg.solve(columns.T @ columns + penalty, columns.T @ y)
    test = noise.window(noise.test, 4)
    expected = test.mean(axis=1) + (test - test.mean(axis=1, keepdims=True)) @ w[:4] + w[4]
    made = baselines.ridge(noise, length=4, penalty=5.0)(noise.test)
    np.testing.assert_allclose(made, expected)


def test_analogues_are_the_nearest_windows_of_training(noise):
    known = noise.window(noise.train, 3)
    for week in noise.test[:5]:
        distance = ((known - noise.window(np.array([week]), 3)) ** 2).sum(axis=1)
        nearest = noise.train[np.argsort(distance)[:4]]
        made = baselines.analogues(noise, length=3, count=4)(np.array([week]))
        assert made == pytest.approx(noise.truth(nearest).mean())


def test_local_linear_forecasts_what_is_linear_nearby():
    logistic = [0.3]
    for _ in range(600):
        logistic.append(3.9 * logistic[-1] * (1 - logistic[-1]))  # chaos, and no noise
    task = task_of(logistic)
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
    values[task.test[0] + 1 :] = 1000  # the test period is something else altogether
    other = tuned(task_of(values), baselines.ridge, length=lengths, penalty=penalties)
    assert other.settings == chosen.settings
    first = task.test[:1]
    assert other.forecast(first) == chosen.forecast(first)


def test_what_comes_later_reaches_no_baseline():
    """Nor is any forecast changed by what is measured after it was issued."""
    values = np.random.default_rng(2).integers(0, 255, 900).astype(float)
    task = Laser(values)
    changed = values.copy()
    when = task.test[20]
    changed[when + 1 :] = 255 - changed[when + 1 :]
    other = Laser(changed)
    for make, settings in (
        (baselines.persistence, ()), (baselines.mean, ()), (baselines.ridge, (8, 1.0)),
        (baselines.analogues, (8, 3)), (baselines.local_linear, (4, 16, 1.0)),
    ):  # fmt: skip
        issued = task.test[:21]
        assert np.array_equal(make(task, *settings)(issued), make(other, *settings)(issued))


def test_the_baselines_of_co2_reach_what_the_documentation_says():
    task = CO2()
    made = baselines.of_co2(task)
    error = {name: rmse(b.forecast(task.test) - task.truth(task.test)) for name, b in made.items()}
    assert made["seasonal mean + drift"].settings == {"years": 3, "weeks": 8}
    assert error["seasonal mean + drift"] == pytest.approx(0.698, abs=1e-3)
    assert error["seasonal naive + drift"] == pytest.approx(0.987, abs=1e-3)
    assert error["ridge"] < error["ridge on 78 weeks"] < 0.71 < error["persistence"]
