"""The demos' data, and the forecasting demo's two tasks: windows, split, no future values."""

import hashlib

import numpy as np
import pytest

from fastrnn import data
from fastrnn.demos import series
from fastrnn.demos.series import CO2, Departures

pytestmark = pytest.mark.any_isa

NAMES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def ppm():
    return data.co2(fill=False)[1]


@pytest.fixture(scope="module")
def co2():
    return CO2()


@pytest.fixture(scope="module")
def departures():
    return Departures()


# --- the data ---


def test_co2_is_weekly_and_complete():
    dates, ppm = data.co2()
    assert dates.dtype == "datetime64[D]" and ppm.dtype == np.float64
    assert dates.shape == ppm.shape == (2284,)
    assert str(dates[0]) == "1958-03-29" and str(dates[-1]) == "2001-12-29"
    assert np.all(np.diff(dates) == np.timedelta64(7, "D"))
    assert 310 < ppm.min() < 315 and 370 < ppm.max() < 375
    assert (ppm[0], ppm[-1]) == (316.1, 371.5)


def test_co2_gaps_are_filled_on_straight_lines():
    (_, gaps), (_, filled) = data.co2(fill=False), data.co2()
    missing = np.isnan(gaps)
    assert missing.sum() == 59
    assert np.array_equal(filled[~missing], gaps[~missing])
    assert not np.isnan(filled).any()
    assert np.array_equal(data.fill_gaps(np.array([1.0, np.nan, np.nan, 4.0])), [1, 2, 3, 4])


def test_departures_are_hours_of_a_year_in_local_time():
    hours, scheduled, late, weather = data.departures()
    assert hours.shape == (8730,) and scheduled.shape == late.shape == (8730, 3)
    steps = np.diff(hours).astype(int)
    assert (steps == 1).sum() == 8727
    assert str(hours[:-1][steps == 2][0]) == "2013-03-10T01"  # summer time begins
    assert str(hours[:-1][steps == 0][0]) == "2013-11-03T01"  # and ends
    assert (late <= scheduled).all() and 0.2 < late.sum() / scheduled.sum() < 0.25
    assert weather.shape == (8730, len(data.WEATHER))
    temperature, dew_point, humidity, east, north, speed, rain, pressure, visibility = weather.T
    assert np.nanmean(temperature) == pytest.approx(55.3, abs=0.3)  # degrees Fahrenheit
    assert np.isnan(weather).sum(axis=0).tolist() == [16] * 7 + [290, 16]
    assert np.nanmax(dew_point - temperature) < 0.1 and np.nanmax(humidity) == 100
    # If an airport gave no direction, the vector is the mean of the others.
    assert np.nanquantile(np.hypot(east, north) - speed, 0.9) < 0.2
    assert np.nanmin(rain) == 0 and np.nanmin(pressure) > 980 and np.nanmax(visibility) == 10


def test_provenance_ships_beside_the_data():
    folder = data.resources.files("fastrnn.data")
    for file, said in (
        ("co2.csv", ("public domain", "Keeling")), ("departures.npz", ("CC0", "nycflights13")),
    ):  # fmt: skip
        name = file.partition(".")[0]
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        content = (folder / file).read_bytes()
        if file.endswith(".csv"):  # a checkout may have other line ends
            content = content.replace(b"\r\n", b"\n")
        assert hashlib.sha256(content).hexdigest() in text
        assert all(word in text for word in said)


# --- windows and split ---


@pytest.mark.parametrize("name", ["co2", "departures"])
def test_windows_and_truths_are_the_right_values(name, request):
    task = request.getfixturevalue(name)
    times = task.test[[0, 7, -1]]
    for length in (3, None):
        for row, time in zip(task.window(times, length), times, strict=True):
            assert np.array_equal(row, task.series[time - len(row) + 1 : time + 1])
    assert task.window(times).shape == (3, task.WINDOW)
    assert np.array_equal(task.truth(times), task.series[times + task.AHEAD])


def test_co2_is_seen_about_the_mean_of_its_window(co2):
    x = co2.inputs(co2.test[:5])
    assert x.shape == (co2.WINDOW, 5, 1) and x.dtype == np.float32
    window = co2.window(co2.test[:5])
    level = window.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(x[:, :, 0].T, (window - level) / co2.scale, rtol=1e-5, atol=1e-5)


def test_departures_are_seen_with_the_hour_that_is_forecast(departures):
    times = departures.test[:5]
    x = departures.inputs(times)
    columns = np.concatenate([departures.seen, departures.clock], axis=1)
    assert x.shape == (departures.WINDOW, 5, columns.shape[1]) and x.dtype == np.float32
    np.testing.assert_allclose(x[-1], columns[times], rtol=1e-6)
    np.testing.assert_allclose(x[0], columns[times - departures.WINDOW + 1], rtol=1e-6)
    assert np.array_equal(
        departures.clock[times, :24].argmax(axis=1), departures.hour[times + departures.AHEAD]
    )
    seen = departures.seen[departures.train]
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-9)


def test_regressors_of_departures_are_the_last_hours_and_may_turn(departures):
    times = departures.test[:3]
    x, level = departures.regressors(times, 2)
    width = departures.seen.shape[1]
    assert np.array_equal(x[:, width : 2 * width], departures.seen[times - 1])
    assert np.array_equal(x[:, 2 * width :], departures.clock[times]) and not level.any()
    turned, _ = departures.regressors(times, 2, by_hour=True)
    quarter = 2 * np.pi * departures.hour[times, None] / 24
    expected = np.concatenate([x, x * np.sin(quarter), x * np.cos(quarter)], axis=1)
    np.testing.assert_allclose(turned, expected)


def test_periods_of_departures_share_seasons_and_weekdays_but_no_window(
    departures,
):
    for name in NAMES:
        when = departures.when(getattr(departures, name) + departures.AHEAD)
        weekdays = set(when.astype("datetime64[D]").astype(int) % 7)
        assert weekdays >= set(range(7)) - {5}  # 1970-01-01 was a Thursday, 5 is Tuesday
        assert set(when.astype("datetime64[M]").astype(int) % 12) >= {0, 3, 6, 8, 10}
    touched = []
    for name in NAMES:
        times = getattr(departures, name)[:, None]
        reach = np.arange(1 - departures.HISTORY, departures.AHEAD + 1)
        touched.append(set((times + reach).ravel()))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not touched[one] & touched[other]


def test_what_is_judged_later_does_not_reach_a_forecast_of_departures(departures):
    """The change is in the first span of the test, so training and its scale do not change."""
    time, late = departures.test[10], data.departures()[2].copy()
    last = departures.test[departures.test < time + 7 * 24][-1] + departures.AHEAD
    late[time + 1 : last + 1] = 0
    other, issued = Departures(late), np.array([time])
    assert not np.array_equal(departures.truth(issued), other.truth(issued))
    assert np.array_equal(departures.inputs(issued), other.inputs(issued))
    for by_hour in (False, True):
        seen = [task.regressors(issued, 24, by_hour)[0] for task in (departures, other)]
        assert np.array_equal(*seen)


def test_what_was_not_measured_is_what_was_measured_last():
    nan = np.nan
    columns = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0]])
    assert series._last_known(columns).tolist() == [[0, 1], [2, 1], [2, 1], [3, 4]]


def test_periods_of_co2_follow_each_other_without_overlap(co2):
    task = co2
    periods = [getattr(task, part) for part in NAMES]
    assert periods[0][0] >= task.HISTORY - 1 >= task.WINDOW - 1
    for before, after in zip(periods, periods[1:], strict=False):
        assert before[-1] + task.AHEAD < after[0]
    for times in periods:
        assert task.measured[times].all() and task.measured[times + task.AHEAD].all()
    assert len(task.test) > 400


def test_what_comes_later_does_not_reach_training(ppm):
    task, changed = CO2(ppm), ppm.copy()
    changed[task.train[-1] + task.AHEAD + 1 :] += 1000
    other = CO2(changed)
    assert np.array_equal(task.train, other.train) and task.scale == other.scale
    assert np.array_equal(task.inputs(task.train), other.inputs(task.train))
    assert np.array_equal(task.truth(task.train), other.truth(task.train))


def test_the_test_period_does_not_reach_training_of_departures(departures):
    late = data.departures()[2].copy()
    late[departures.test + departures.AHEAD] = 0
    other = Departures(late)
    assert np.array_equal(departures.inputs(departures.train), other.inputs(departures.train))
    assert np.array_equal(departures.truth(departures.train), other.truth(departures.train))


def test_what_comes_later_does_not_reach_a_forecast(co2, ppm):
    after_gaps = [week for week in co2.train[1:] if not co2.measured[week - 1]]
    assert after_gaps
    for week in [*after_gaps, co2.validation[0], co2.test[0], co2.test[-1]]:
        changed = ppm.copy()
        changed[week + 1 :] += 1000
        issued = np.array([week])
        seen = [t.window(issued, t.HISTORY) for t in (co2, CO2(changed))]
        assert np.array_equal(*seen)
