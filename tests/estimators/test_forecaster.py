"""Forecaster: no look into the future, naive forecasts, intervals, and three measured series."""

import numpy as np
import pytest
from training import draw

from fastrnn import data
from fastrnn.estimators import Forecaster
from fastrnn.estimators.network import Network
from fastrnn.estimators.seen import SeenSeries

pytestmark = pytest.mark.any_isa

STEPS = np.arange(300)
WAVE = np.sin(2 * np.pi * STEPS / 12) + 0.05 * draw(300)
WALK = draw(300).cumsum()


def forecaster(window=8, horizon=3, season=None, **params):
    params = {"hidden_size": 4, "epochs": 2, "random_state": 0, **params}
    return Forecaster(window, horizon, season, **params)


@pytest.fixture(scope="module")
def fitted():
    return forecaster(season=12).fit(WAVE)


# ---- no look into the future ---------------------------------------------------------------------


@pytest.mark.parametrize("season", [1, 5], ids=["no season", "season"])
def test_nothing_that_is_read_depends_on_the_future(season):
    y, X, now = draw(60), draw(60, 2), 33
    seen = SeenSeries(y, X, (6, 7, season))
    changed, others = y.copy(), X.copy()
    changed[now + 1 :], others[now + 1 :] = 1e6, -1e6
    later = SeenSeries(changed, others, seen.sizes, seen.scales)
    until = now + 1 - seen.needed + 1  # the number of times of issue up to now
    for kind in ("regressors", "naive", "spread"):
        ours, theirs = getattr(seen, kind)(), getattr(later, kind)()
        assert len(ours) == 60 - seen.needed + 1
        assert (ours[:until] == theirs[:until]).all() and (ours[-1] != theirs[-1]).any()
    assert (seen.windows[:until] == later.windows[:until]).all()


def test_the_end_of_a_series_is_its_last_time_of_issue():
    y, X = draw(60), draw(60, 2)
    seen = SeenSeries(y, X, (6, 7, 5))
    end = seen.end_of(y, X)
    assert not np.may_share_memory(end.y, y) and len(end.y) == seen.needed == 11
    assert (end.windows == seen.windows[-1:]).all() and (end.naive() == seen.naive()[-1:]).all()


def test_a_forecast_depends_on_the_last_values_alone(fitted):
    y = WAVE.copy()
    y[:-20] = 99  # window + season = 20
    assert (fitted.predict(y=y) == fitted.predict()).all()
    assert (fitted.predict(y=y[-20:]) == fitted.predict()).all()
    y[-20] += 1
    assert (fitted.predict(y=y) != fitted.predict()).any()


def test_steps_forecast_in_training_and_left_out_ones_do_not_overlap(monkeypatch):
    found, train = [], Network.train

    def watched(self, options, inputs, targets, loss, rows, held_out, rng):
        first = 8  # window + season - 1: the first time from which a forecast can be issued
        found.append([np.unique(first + part[:, None] + [1, 2, 3]) for part in (rows, held_out)])
        return train(self, options, inputs, targets, loss, rows, held_out, rng)

    monkeypatch.setattr(Network, "train", watched)
    forecaster(networks=3).fit(WALK)
    assert len(found) == 3 and not any(np.intersect1d(*steps).size for steps in found)
    left_out = [steps.tolist() for _, steps in found]
    assert set().union(*left_out) == set(range(9, 300))  # all that can be forecast


# ---- naive forecasts -----------------------------------------------------------------------------


def test_the_naive_forecast():
    y, X = np.arange(10.0) ** 2, np.empty((10, 0))
    assert SeenSeries(y, X, (3, 5, 3)).naive()[-1].tolist() == [49, 64, 81, 49, 64]
    assert SeenSeries(y, X, (3, 2, 3)).naive()[0].tolist() == [9, 16]  # issued at y[5]
    assert SeenSeries(y, X, (3, 2, 1)).naive()[-1].tolist() == [81, 81]  # without a season


def test_a_season_that_rises_is_learnt():
    y = WAVE + 0.1 * STEPS
    ahead = [np.sin(2 * np.pi * t / 12) + 0.1 * t for t in (300, 301, 302)]
    np.testing.assert_allclose(forecaster(season=12).fit(y).predict(), ahead, atol=0.2)


def test_a_line_and_a_constant_are_continued_exactly():
    np.testing.assert_allclose(forecaster().fit(3.0 * STEPS).predict(), [900, 903, 906], rtol=1e-9)
    constant = forecaster().fit(np.full(100, 7.0))
    assert (constant.predict() == 7).all()
    assert (np.array(constant.predict_interval()) == 7).all()


def test_a_network_of_no_use_forecasts_nothing():
    model = forecaster(learning_rate=3.0, epochs=1).fit(WALK)
    assert not any(network.head.flat.any() for _, network in model._models)


def test_what_no_naive_forecast_knows_is_learnt():
    """A logistic map, a parabola: the mean of its values is the best of straight lines."""
    y = [0.3]
    for _ in range(599):
        y.append(3.9 * y[-1] * (1 - y[-1]))
    y = np.array(y)
    model = Forecaster(4, 1, hidden_size=16, learning_rate=0.02, epochs=25, random_state=0)
    model.fit(y[:500])
    now = range(500, 599)
    error = np.array([model.predict(y=y[: t + 1])[0] - y[t + 1] for t in now])
    assert np.mean(error**2) < 0.1 * np.var(y)
    # The intervals are narrow too.
    lower, upper = model.predict_interval(level=0.9)
    assert (upper - lower)[0] < y.std()


def test_other_numbers_are_learnt_from():
    """The next value is what X said one step before."""
    X = draw(400)
    y = np.concatenate([[0], X[:-1]]) + 0.05 * draw(400, seed=3)
    errors = []
    for given in (X, None):
        model = Forecaster(3, 1, hidden_size=8, learning_rate=0.02, epochs=20, random_state=0)
        model.fit(y[:300], None if given is None else given[:300])
        now = range(300, 399)
        forecasts = [
            model.predict(y=y[: t + 1], X=None if given is None else given[: t + 1])[0] for t in now
        ]
        errors.append(np.mean((forecasts - y[301:400]) ** 2))
    assert errors[0] < 0.1 * errors[1]


def test_units_of_the_series_and_of_the_other_numbers_do_not_matter():
    y, X = WAVE[:120], draw(120, 2)
    model = forecaster(season=12).fit(y, X)
    other = forecaster(season=12).fit(1024 * y, X * [64, 1 / 256] + [8, -2])
    np.testing.assert_allclose(other.predict(), 1024 * model.predict(), rtol=1e-4)
    for got, bound in zip(other.predict_interval(), model.predict_interval(), strict=True):
        np.testing.assert_allclose(got, 1024 * bound, rtol=1e-3)


def test_the_forecast_is_the_mean_over_the_networks():
    model, found = forecaster(networks=3).fit(WALK), []
    together, models = model.predict(), model._models
    for one in models:
        model._models = [one]
        found.append(model.predict())
    np.testing.assert_allclose(together, np.mean(found, axis=0), rtol=1e-9)
    assert np.ptp(found, axis=0).all()


# ---- steps and intervals -------------------------------------------------------------------------


def test_steps_ahead(fitted):
    every = fitted.predict()
    assert every.shape == (3,) and every.dtype == np.float64
    for fh, indices in (
        (3, [0, 1, 2]), (1, [0]), (np.int64(2), [0, 1]), ([3, 1], [2, 0]), (range(2, 4), [1, 2]),
        (np.array([2]), [1]), ([], []),
    ):  # fmt: skip
        assert fitted.predict(fh).tolist() == every[indices].tolist()
        for some, bound in zip(fitted.predict_interval(fh), fitted.predict_interval(), strict=True):
            assert some.tolist() == bound[indices].tolist()


def test_intervals_grow_with_the_level(fitted):
    forecast, width = fitted.predict(), 0
    for level in (0.1, 0.5, 0.8, 0.99, 0.9999):
        lower, upper = fitted.predict_interval(level=level)
        assert ((lower <= forecast + 0.05) & (forecast - 0.05 <= upper)).all()
        assert (upper - lower >= width).all()
        width = upper - lower
    assert (fitted.predict_interval(level=0.9999)[0] < fitted.predict_interval(level=0.8)[0]).all()


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_hold_this_part_of_the_left_out_errors(fitted, level):
    """Of n errors the level; the bounds lie between two errors, so one error may miss."""
    count = len(fitted.residuals_)
    spread = fitted._seen.spread()[0]
    bounds = [(b - fitted.predict()) / spread for b in fitted.predict_interval(level=level)]
    within = (fitted.residuals_ >= bounds[0] - 1e-9) & (fitted.residuals_ <= bounds[1] + 1e-9)
    assert (np.abs(within.mean(axis=0) - level) <= 2 / count).all()


def test_intervals_widen_when_the_series_becomes_restless():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(400) * np.where(np.arange(400) // 50 % 2, 3.0, 0.5)
    model = forecaster().fit(y)
    calm, restless = (model.predict_interval(y=y[:t]) for t in (350, 400))
    assert (restless[1] - restless[0] > 1.5 * (calm[1] - calm[0])).all()


def test_sizes_are_those_of_fit(fitted):
    wanted = fitted.predict()
    try:
        fitted.set_params(window=30, horizon=9, season=7)
        assert (fitted.predict() == wanted).all()
    finally:
        fitted.set_params(window=8, horizon=3, season=12)


def test_each_network_keeps_its_best_epoch():
    model = forecaster(epochs=30, patience=2, learning_rate=0.05, networks=3).fit(WALK)
    assert len(model.history_) == 3
    for history in model.history_:
        assert len(history.loss) == min(30, history.best_epoch + 2)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, y, X, error, message",
    [
        ({}, WALK[:24], None, ValueError, "y must have at least 25 values .* got 24"),
        ({}, draw(300, 2), None, ValueError, r"y must be \(300, 1\), got \(300, 2\): one series"),
        ({}, np.where(STEPS == 7, np.nan, WALK), None, ValueError, r"no NaN .* got nan at \[7\]"),
        ({}, WALK, np.ones((303, 2)), ValueError, r"X must be \(300, 2\), got .* future"),
        ({}, WALK, np.full(300, np.inf), ValueError, "X must have no NaN and no inf"),
        ({}, WALK.astype(str), None, TypeError, "y must be real numbers"),
        ({"window": 0}, WALK, None, ValueError, "window must be"),
        ({"window": 2.5}, WALK, None, TypeError, "window must be an integer"),
        ({"horizon": 0}, WALK, None, ValueError, "horizon must be"),
        ({"season": 0}, WALK, None, ValueError, "season must be"),
        ({"networks": 1}, WALK, None, ValueError, "networks must .* has not seen it"),
        ({"cell": "transformer"}, WALK, None, ValueError, "cell must be one of"),
    ],
)  # fmt: skip
def test_what_fit_refuses(params, y, X, error, message):
    with pytest.raises(error, match=message):
        forecaster(**params).fit(y, X)


def test_the_shortest_series_is_long_enough():
    assert forecaster().fit(WALK[:25]).predict().shape == (3,)
    assert forecaster(horizon=1, networks=9).fit(WALK[:18]).predict().shape == (1,)


def test_what_predict_refuses(fitted):
    with_X = forecaster().fit(WALK, draw(300, 2))
    for use, error, message in (
        (lambda: fitted.predict(4), ValueError, "fh must be .* from 1 to horizon = 3, got 4"),
        (
            lambda: fitted.predict(10**12),
            ValueError,
            "fh must be .* from 1 .* got 1000000000000",
        ),
        (lambda: fitted.predict([1, 0]), ValueError, r"fh must be .* from 1 .* got \[1, 0\]"),
        (lambda: fitted.predict(0), ValueError, "fh must be .* from 1 .* got 0"),
        (lambda: fitted.predict(1.5), TypeError, "fh must be integers"),
        (lambda: fitted.predict([1.5]), TypeError, "fh must be integers"),
        (lambda: fitted.predict(y=WAVE[:19]), ValueError, "y must have at least 20 values"),
        (
            lambda: fitted.predict(X=WAVE),
            ValueError,
            "X must come with y: .* no rows of the future",
        ),
        (
            lambda: fitted.predict(y=WAVE, X=WAVE),
            ValueError,
            r"X must be \(300, 0\), got .* of fit",
        ),
        (lambda: with_X.predict(y=WALK), ValueError, r"X must be \(300, 2\), got \(300, 0\)"),
        (
            lambda: with_X.predict(y=WALK, X=WALK),
            ValueError,
            r"X must be \(300, 2\), got \(300, 1\)",
        ),
        (lambda: fitted.predict_interval(level=80), ValueError, "level must be between 0 and 1"),
        (lambda: fitted.predict_interval(level=1), ValueError, "level must be between 0 and 1"),
    ):
        with pytest.raises(error, match=message):
            use()


# ---- measured series -----------------------------------------------------------------------------


def measured():
    """Name -> (series, steps of a season): hours, but weeks for CO2."""
    _, _, late, weather = data.departures()
    temperature = data.fill_gaps(weather[:, list(data.WEATHER).index("temperature")])
    return {
        "co2": (data.co2()[1], 52),
        "late departures": (late.sum(axis=1).astype(float), 24),
        "temperature": (temperature, 24),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", measured())
def test_measured_series_are_forecast_better_than_naively_with_intervals_that_cover(name):
    """The last fifth is kept apart: some 100 forecasts from times in it, up to a season ahead.

    CO2 half a year ahead. The errors are root mean squares over all steps. Each forecast has the
    same four networks; nothing is learnt from what was kept apart.
    """
    y, season = measured()[name]
    horizon = min(season, 26)
    end = len(y) * 4 // 5
    model = Forecaster(2 * season, horizon, season, random_state=0).fit(y[:end])
    now = np.linspace(end - 1, len(y) - horizon - 1, 100).astype(int)
    ahead = np.arange(1, horizon + 1)
    truth = y[now[:, None] + ahead]
    forecasts = {
        "network": np.array([model.predict(y=y[: t + 1]) for t in now]),
        "naive": y[now, None],
        "seasonal naive": y[now[:, None] + ahead - season],
        "drift": y[now, None] + ahead * ((y[now] - y[0]) / now)[:, None],
    }
    errors = {kind: np.sqrt(np.mean((f - truth) ** 2)) for kind, f in forecasts.items()}
    of_network = errors.pop("network")
    assert of_network < 0.9 * min(errors.values()), (of_network, errors)
    bounds = np.array([model.predict_interval(level=0.8, y=y[: t + 1]) for t in now])
    cover = np.mean((truth >= bounds[:, 0]) & (truth <= bounds[:, 1]))
    assert 0.7 < cover < 0.9, cover
    for _, network in model._models:
        network.head.flat[:] = 0
    linear = np.array([model.predict(y=y[: t + 1]) for t in now])
    gain = of_network / np.sqrt(np.mean((linear - truth) ** 2))
    assert gain < (0.97 if name == "late departures" else 1.01), gain


# ---- the arrays of the user ----------------------------------------------------------------------


def test_a_forecast_does_not_change_with_the_arrays_of_fit():
    y, X = WALK.copy(), np.sin(WALK)
    model = forecaster(epochs=1).fit(y, X)
    before = model.predict()
    y[:], X[:] = 0, 0
    assert np.array_equal(model.predict(), before)


def test_numbers_that_would_overflow_are_refused(fitted):
    with pytest.raises(ValueError, match=r"y must have no NaN and no inf in float32, got .*e\+"):
        forecaster().fit(1e300 * WALK)
    with pytest.raises(ValueError, match="y and X must have .* of a size like that in fit"):
        forecaster().fit(1e-9 * WAVE).predict(y=1e35 * WAVE)


def test_a_series_whose_squares_are_0_is_forecast_as_others():
    tiny = 2.0**-700
    wanted = forecaster().fit(WALK).predict_interval()
    found = forecaster().fit(tiny * WALK).predict_interval()
    assert (np.array(found) == tiny * np.array(wanted)).all()


def test_steps_are_one_sequence(fitted):
    with pytest.raises(
        ValueError, match=r"fh must be a step or a list of steps .*got \[\[1, 2\]\]"
    ):
        fitted.predict([[1, 2]])
