"""The command line, the data and the forecasting demo: honest windows, split and report."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import data, demos, pictures, runtime
from fastrnn.__main__ import main
from fastrnn.demos import forecast

pytestmark = pytest.mark.any_isa

NAMES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def ppm():
    return data.co2(fill=False)[1]


@pytest.fixture(scope="module")
def task(ppm):
    return forecast.Task(ppm)


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


def test_provenance_ships_beside_the_data():
    text = (data.resources.files("fastrnn.data") / "co2.md").read_text(encoding="utf-8")
    assert "public domain" in text and "Keeling" in text


# --- windows and split ---


def test_windows_are_a_view(task):
    assert np.shares_memory(task.windows, task.series)
    assert task.windows.shape == (2284 - forecast.WINDOW + 1, forecast.WINDOW)
    assert task.windows.strides == 2 * task.series.strides


def test_inputs_and_targets_are_the_right_weeks(task):
    weeks = task.test[[0, 7, -1]]
    x, target = task.inputs(weeks), task.targets(weeks)
    assert x.shape == (forecast.WINDOW, 3, 1) and x.dtype == np.float32
    assert target.shape == (3, 1) and target.dtype == np.float32
    for row, week in enumerate(weeks):
        window = task.series[week - forecast.WINDOW + 1 : week + 1]
        expected = (window - window.mean()) / task.scale
        np.testing.assert_allclose(x[:, row, 0], expected, atol=1e-4)
    np.testing.assert_allclose(
        task.to_ppm(target, weeks), task.series[weeks + forecast.AHEAD], rtol=1e-6
    )


def test_baselines_are_the_values_they_are_called(task):
    weeks = task.test
    made = task.baselines(weeks)
    assert list(made) == ["persistence", "seasonal naive", "seasonal naive + drift"]
    assert np.array_equal(made["persistence"], task.series[weeks])
    assert np.array_equal(made["seasonal naive"], task.series[weeks + forecast.AHEAD - 52])
    drift = task.series[weeks] - task.series[weeks - 52]
    np.testing.assert_allclose(made["seasonal naive + drift"], made["seasonal naive"] + drift)


def test_periods_follow_each_other_without_overlap(task):
    periods = [getattr(task, name) for name in NAMES]
    for before, after in zip(periods, periods[1:], strict=False):
        assert before[-1] + forecast.AHEAD < after[0]
    for weeks in periods:
        assert task.measured[weeks].all() and task.measured[weeks + forecast.AHEAD].all()
    assert len(task.test) > 400


def test_what_comes_later_does_not_reach_training(task, ppm):
    changed = ppm.copy()
    changed[task.train[-1] + forecast.AHEAD + 1 :] += 1000
    other = forecast.Task(changed)
    assert np.array_equal(task.train, other.train)
    assert task.scale == other.scale
    for made in ("inputs", "targets"):
        assert np.array_equal(getattr(task, made)(task.train), getattr(other, made)(task.train))


def test_what_comes_later_does_not_reach_a_forecast(task, ppm):
    after_gaps = [week for week in task.train[1:] if not task.measured[week - 1]]
    assert after_gaps
    for week in [*after_gaps, task.validation[0], task.test[0], task.test[-1]]:
        changed = ppm.copy()
        changed[week + 1 :] += 1000
        other, issued = forecast.Task(changed), np.array([week])
        np.testing.assert_allclose(
            task.inputs(issued) * task.scale, other.inputs(issued) * other.scale, atol=1e-4
        )
        for name, value in task.baselines(issued).items():
            assert value == other.baselines(issued)[name], name


# --- the model ---


@pytest.mark.parametrize("cell", forecast.LAYERS)
def test_gradients_are_those_of_the_loss(task, cell):
    rng = np.random.default_rng(3)
    model = forecast.Forecaster(cell, rng)
    model.w[...] = rng.normal(size=model.w.shape)
    x, target = task.inputs(task.train[:8]), task.targets(task.train[:8])
    _, gradients = model.loss_and_gradients(x, target)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        way = rng.normal(size=parameter.shape).astype(np.float32)
        losses = []
        for step in (1e-3, -1e-3):
            kept = parameter.copy()
            parameter += np.float32(step) * way
            losses.append(np.mean((model.predict(x) - target) ** 2, dtype=np.float64))
            parameter[...] = kept
        assert gradient.shape == parameter.shape
        # float32 differences: enough to catch a wrong factor, sign or term
        np.testing.assert_allclose(np.vdot(gradient, way), np.subtract(*losses) / 2e-3, rtol=0.03)


def test_a_quick_run_learns_and_beats_the_baselines(task):
    result = forecast.train("gru", task, forecast.QUICK_EPOCHS, seed=0)
    assert result.history.loss[-1] < 0.3 * result.history.loss[0]
    assert len(result.history.validation) == forecast.QUICK_EPOCHS
    truth = task.truth(task.test)
    baselines = task.baselines(task.test)
    for name in ("persistence", "seasonal naive"):
        for measure in (forecast.rmse, forecast.mae):
            assert measure(result.forecast - truth) < 0.8 * measure(baselines[name] - truth), name


def test_what_forecasts_is_the_mean_of_the_weights_after_the_best_epoch(task, monkeypatch):
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(forecast, "rmse", lambda _: next(scores))
    chosen = forecast.train("rnn", task, 3, seed=0)
    assert chosen.history.best_epoch == 2
    scores = iter([2.0, 1.0])
    assert np.array_equal(chosen.forecast, forecast.train("rnn", task, 2, seed=0).forecast)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cell", forecast.LAYERS)
def test_every_cell_beats_every_baseline(task, cell, seed):
    result = forecast.train(cell, task, forecast.EPOCHS, seed)
    error = forecast.rmse(result.forecast - task.truth(task.test))
    for name, other in task.baselines(task.test).items():
        assert error < 0.95 * forecast.rmse(other - task.truth(task.test)), name


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_both_backends_train_alike(task, cell):
    task = copy.copy(task)
    task.train = task.train[::4]  # the NumPy path is slow
    ours = forecast.train(cell, task, 1, seed=1)
    with fastrnn.backend("reference"):
        other = forecast.train(cell, task, 1, seed=1)
    np.testing.assert_allclose(other.history.loss, ours.history.loss, rtol=1e-4)
    np.testing.assert_allclose(other.forecast, ours.forecast, rtol=1e-4)


# --- the command line ---


def test_demo_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "fastrnn", "demo", "--epochs", "1", "--cell", "rnn"]
    # The package that these tests import, installed or not; one BLAS thread keeps it steady.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for text in ("persistence", "seasonal naive", "RMSE", "training loss", "time per epoch"):
        assert text in done.stdout
    assert "1/1  loss" in done.stderr
    assert ("\npicture: " in done.stdout) == (tmp_path / "forecast.png").exists()


def test_picture_is_written(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(forecast, "print_times", lambda *_: None)  # slow, and tested above
    path = tmp_path / "there.png"
    assert main(["demo", "forecast", "--epochs", "1", "--cell", "rnn", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    what = forecast.Task(data.co2()[1]), 0, "", 0
    assert pictures.write(forecast.draw, tmp_path / "x.png", *what) == 0
    assert "pip install matplotlib" in capsys.readouterr().out


def test_without_kernels_it_says_so_and_compares_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(runtime, "core", None)
    monkeypatch.setattr(runtime, "_default_backend", "reference")
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--epochs", "1", "--cell", "rnn"]) == 0
    out = capsys.readouterr().out
    assert "this build has no C kernels" in out and "times as long" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["train"], "invalid choice: 'train'"),
        (["demo", "nothing"], "invalid choice: 'nothing'"),
        (["demo", "--cell", "transformer"], "invalid choice: 'transformer'"),
        (["demo", "--epochs", "0"], "--epochs: must be a whole number from 1, got '0'"),
        (["demo", "--epochs", "many"], "must be a whole number from 1, got 'many'"),
        (["demo", "--seed", "-1"], "--seed: must be a whole number from 0, got '-1'"),
        (["demo", "--quick", "--epochs", "3"], "not allowed with"),
        (["demo", "--out", "picture.txt"], "must end in .pdf, .png, .svg, got 'picture.txt'"),
        (["demo", "--out", "no/such/folder/x.png"], "there is no folder 'no/such/folder'"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_demos_and_their_options(capsys):
    for arguments, text in (
        *((["demo", "--help"], f"\n  {name} ") for name in demos.DEMOS),
        *((["demo", name, "-h"], "--quick") for name in demos.DEMOS),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert text in capsys.readouterr().out


def test_info_prints_the_configuration(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert fastrnn.__version__ in out and "isa:" in out and "threads:" in out
    if runtime.core:
        assert runtime.core.isa() in out
