"""The demos' data, and the forecasting demo's two tasks: windows, split, nothing of the future."""

import hashlib

import numpy as np
import pytest

from fastrnn import data
from fastrnn.demos.series import CO2, Laser

NAMES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def ppm():
    return data.co2(fill=False)[1]


@pytest.fixture(scope="module")
def co2():
    return CO2()


@pytest.fixture(scope="module")
def laser():
    return Laser()


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


def test_the_laser_is_what_an_oscilloscope_of_eight_bits_gave():
    intensity = data.laser()
    assert intensity.shape == (10093,) and intensity.dtype == np.float64
    assert np.array_equal(intensity, intensity.astype(np.uint8))
    assert (intensity.min(), intensity.max()) == (0, 255)
    assert intensity[:6].tolist() == [86, 141, 95, 41, 22, 21]  # as in the competition's file


def test_provenance_ships_beside_the_data():
    folder = data.resources.files("fastrnn.data")
    for name, said in (("co2", ("public domain", "Keeling")), ("laser", ("MIT", "Huebner"))):
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        # A checkout may have other ends of lines than the file that was published.
        content = (folder / f"{name}.csv").read_bytes().replace(b"\r\n", b"\n")
        assert hashlib.sha256(content).hexdigest() in text
        assert all(word in text for word in said)


# --- windows and split ---


@pytest.mark.parametrize("name", ["co2", "laser"])
def test_windows_and_truths_are_the_right_values(name, request):
    task = request.getfixturevalue(name)
    times = task.test[[0, 7, -1]]
    for length in (3, None):
        for row, time in zip(task.window(times, length), times, strict=True):
            assert np.array_equal(row, task.series[time - len(row) + 1 : time + 1])
    assert task.window(times).shape == (3, task.WINDOW)
    assert np.array_equal(task.truth(times), task.series[times + task.AHEAD])


@pytest.mark.parametrize("name", ["co2", "laser"])
def test_inputs_are_windows_about_their_level(name, request):
    task = request.getfixturevalue(name)
    x = task.inputs(task.test[:5])
    assert x.shape == (task.WINDOW, 5, 1) and x.dtype == np.float32
    window = task.window(task.test[:5])
    level = task.level(window)
    np.testing.assert_allclose(x[:, :, 0].T, (window - level) / task.scale, rtol=1e-5, atol=1e-5)


def test_the_level_is_the_windows_mean_for_co2_and_that_of_training_for_the_laser(co2, laser):
    window = co2.window(co2.test[:5])
    assert np.array_equal(co2.level(window), window.mean(axis=1, keepdims=True))
    of_training = laser.series[: laser.train[-1] + 1].mean()
    assert np.array_equal(laser.level(laser.window(laser.test[:2])), [[of_training]] * 2)


@pytest.mark.parametrize("name", ["co2", "laser"])
def test_periods_follow_each_other_without_overlap(name, request):
    task = request.getfixturevalue(name)
    periods = [getattr(task, part) for part in NAMES]
    assert periods[0][0] >= task.HISTORY - 1 >= task.WINDOW - 1
    for before, after in zip(periods, periods[1:], strict=False):
        assert before[-1] + task.AHEAD < after[0]
    for times in periods:
        assert task.measured[times].all() and task.measured[times + task.AHEAD].all()
    assert len(task.test) > 400


@pytest.mark.parametrize("kind", [CO2, Laser])
def test_what_comes_later_does_not_reach_training(kind, ppm):
    values = ppm if kind is CO2 else data.laser()
    task, changed = kind(values), values.copy()
    changed[task.train[-1] + task.AHEAD + 1 :] += 1000
    other = kind(changed)
    assert np.array_equal(task.train, other.train) and task.scale == other.scale
    assert np.array_equal(task.inputs(task.train), other.inputs(task.train))
    assert np.array_equal(task.truth(task.train), other.truth(task.train))


def test_what_comes_later_does_not_reach_a_forecast(co2, ppm):
    after_gaps = [week for week in co2.train[1:] if not co2.measured[week - 1]]
    assert after_gaps
    for week in [*after_gaps, co2.validation[0], co2.test[0], co2.test[-1]]:
        changed = ppm.copy()
        changed[week + 1 :] += 1000
        issued = np.array([week])
        seen = [t.window(issued, t.HISTORY) for t in (co2, CO2(changed))]
        assert np.array_equal(*seen)
