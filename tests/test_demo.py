"""The command line, and the forecasting demo: its network, its verdict, its report."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import data, demos, pictures, runtime
from fastrnn.__main__ import main
from fastrnn.demos import baselines, forecast
from fastrnn.demos.baselines import rmse
from fastrnn.demos.series import CO2, Laser


@pytest.fixture(scope="module")
def laser():
    """A tenth of the laser's series: what trains on it is quick."""
    return Laser(data.laser()[:1100])


# --- the network ---


@pytest.mark.parametrize("cell", forecast.LAYERS)
def test_gradients_are_those_of_the_loss(laser, cell):
    rng = np.random.default_rng(3)
    model = forecast.Forecaster(cell, rng)
    model.head.flat[...] = rng.normal(size=model.head.flat.shape)
    x, target = laser.inputs(laser.train[:8]), rng.normal(size=(8, 1)).astype(np.float32)
    _, gradients = model.loss_and_gradients(x, target)
    for part, gradient in zip(model.parts, gradients, strict=True):
        way = rng.normal(size=part.flat.shape).astype(np.float32)
        losses = []
        for step in (1e-3, -1e-3):
            kept = part.flat.copy()
            part.flat[...] += np.float32(step) * way
            losses.append(np.mean((model(x) - target) ** 2, dtype=np.float64))
            part.flat[...] = kept
        assert gradient.shape == part.flat.shape
        # float32 differences: enough to catch a wrong factor, sign or term
        np.testing.assert_allclose(np.vdot(gradient, way), np.subtract(*losses) / 2e-3, rtol=0.03)


def test_before_training_the_forecast_is_the_baselines(laser):
    model = forecast.Forecaster("gru", np.random.default_rng(0))
    assert not model(laser.inputs(laser.test)).any()


def test_a_short_run_learns_and_beats_linear_regression(laser):
    base = baselines.mean(laser)
    result = forecast.train("gru", laser, base, 12, seed=0)
    assert result.history.loss[-1] < 0.3 * result.history.loss[0]
    assert len(result.history.validation) == 12
    truth = laser.truth(laser.test)
    linear = baselines.ridge(laser, 32, 1.0)(laser.test)
    assert rmse(result.test - truth) < 0.8 * rmse(linear - truth)


def test_it_forecasts_with_the_weights_of_the_best_epoch(laser, monkeypatch):
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(forecast, "rmse", lambda _: next(scores))
    base = baselines.mean(laser)
    chosen = forecast.train("rnn", laser, base, 3, seed=0)
    assert chosen.history.best_epoch == 2
    scores = iter([1.0, 2.0, 3.0])
    assert not np.array_equal(chosen.test, forecast.train("rnn", laser, base, 3, seed=0).test)


def test_a_forecast_does_not_know_the_test_period(laser):
    """All that is chosen stays the same when the test period is another one."""
    values = laser.series.copy()
    values[laser.test[0] + 1 :] = 255 - values[laser.test[0] + 1 :]
    runs = [forecast.train("rnn", t, baselines.mean(t), 2, seed=0) for t in (laser, Laser(values))]
    assert runs[0].history.validation == runs[1].history.validation
    assert runs[0].test[0] == runs[1].test[0]


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_both_backends_train_alike(laser, cell):
    base = baselines.mean(laser)
    ours = forecast.train(cell, laser, base, 1, seed=1)
    with fastrnn.backend("reference"):
        other = forecast.train(cell, laser, base, 1, seed=1)
    np.testing.assert_allclose(other.history.loss, ours.history.loss, rtol=1e-4)
    np.testing.assert_allclose(other.test, ours.test, rtol=1e-3)


# --- the verdict ---


def test_to_beat_is_to_be_better_by_two_standard_deviations():
    of_network = np.array([1.0, 1.2, 1.4])  # mean 1.2, standard deviation 0.2
    assert forecast.beaten(of_network, {"a": 1.59, "b": 1.61}) == {"a": False, "b": True}
    assert forecast.beaten(of_network[:1], {"a": 0.99, "b": 1.01}) == {"a": False, "b": True}


def test_the_table_has_mean_and_spread_over_seeds(laser, capsys):
    truth = [laser.truth(times) for times in (laser.validation, laser.test)]
    results = [forecast.Result(None, truth[0] + 1, truth[1] + off) for off in (1.0, 2.0)]
    off = baselines.Baseline({"length": 8}, lambda times: laser.truth(times) + 5)
    forecast.print_errors(laser, "GRU", results, {"rival": off})
    out = capsys.readouterr().out
    rows = {line[:36].strip(): line[36:].split() for line in out.splitlines()}
    assert rows["GRU, mean of seeds: 2"] == ["1.000", "1.500", "1.500"]
    assert rows["standard deviation over seeds"] == ["0.000", "0.707", "0.707"]
    assert rows["rival"] == ["5.000", "5.000", "5.000", "length", "8"]
    assert "the GRU beats rival" in out and "2 standard deviations" in out


@pytest.mark.slow
def test_the_network_beats_every_baseline_on_the_laser():
    task = Laser()
    others = baselines.of_laser(task)
    base = others[forecast.BASE["laser"]].forecast
    runs = [forecast.train("gru", task, base, forecast.EPOCHS, s) for s in range(forecast.SEEDS)]
    truth = task.truth(task.test)
    of_network = np.array([rmse(run.test - truth) for run in runs])
    of_others = {name: rmse(b.forecast(task.test) - truth) for name, b in others.items()}
    assert all(forecast.beaten(of_network, of_others).values())
    assert of_network.mean() < 0.8 * min(of_others.values())


@pytest.mark.slow
def test_the_network_is_about_as_good_as_a_baseline_on_co2():
    task = CO2()
    base = baselines.seasonal(task, years=3, weeks=8)
    run = forecast.train("gru", task, base, forecast.QUICK_EPOCHS, seed=0)
    truth = task.truth(task.test)
    assert rmse(run.test - truth) == pytest.approx(rmse(base(task.test) - truth), rel=0.1)


# --- the command line ---


@pytest.fixture
def short(monkeypatch):
    """The demo's command, on a short series."""
    monkeypatch.setitem(forecast.TASKS, "laser", lambda: Laser(data.laser()[:1100]))
    return ["demo", "forecast", "--epochs", "1", "--cell", "rnn"]


def test_demo_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "fastrnn", "demo", "--series", "co2"]
    command += ["--epochs", "1", "--seeds", "2", "--cell", "rnn"]
    # The package that these tests import, installed or not; one BLAS thread keeps it steady.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = (
        "seasonal mean + drift",
        "RMSE",
        "standard deviation",
        "training loss",
        "time per epoch",
    )
    for text in said:
        assert text in done.stdout
    assert done.stderr.count("1/1  loss") == 2
    assert ("\npicture: " in done.stdout) == (tmp_path / "forecast.png").exists()


def test_picture_is_written(short, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(forecast, "print_times", lambda *_: None)  # slow, and tested above
    path = tmp_path / "there.png"
    assert main([*short, "--seeds", "1", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert pictures.write(forecast.draw, tmp_path / "x.png", None, "", None, {}) == 0
    assert "pip install matplotlib" in capsys.readouterr().out


def test_one_seed_has_no_spread(short, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*short, "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "mean of seeds: 1" in out and "standard deviation" not in out
    assert "local linear" in out and "analogues" in out


def test_without_kernels_it_says_so_and_compares_nothing(short, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(runtime, "core", None)
    monkeypatch.setattr(runtime, "_default_backend", "reference")
    monkeypatch.chdir(tmp_path)
    assert main([*short, "--seeds", "1"]) == 0
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
        (["demo", "--series", "sunspots"], "invalid choice: 'sunspots'"),
        (["demo", "--seeds", "0"], "--seeds: must be a whole number from 1, got '0'"),
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
