"""The command line, and the forecasting demo: its network, its verdict, its report."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import data, demos
from fastrnn.__main__ import main
from fastrnn._engine import runtime
from fastrnn.demos import baselines, forecast, pictures
from fastrnn.demos.baselines import rmse
from fastrnn.demos.series import CO2, Departures

pytestmark = pytest.mark.any_isa

INPUTS = 54  # columns that the network reads of the departures


@pytest.fixture(scope="module")
def flights():
    return few(Departures())


def few(task):
    """The task with a quarter of its training period, to be quick."""
    task.train = task.train[::4]
    return task


# --- the network ---


@pytest.mark.parametrize("cell", forecast.LAYERS)
def test_gradients_are_those_of_the_loss(flights, cell):
    rng = np.random.default_rng(3)
    model = forecast.Forecaster(cell, INPUTS, rng)
    model.head.flat[...] = rng.normal(size=model.head.flat.shape)
    x, target = flights.inputs(flights.train[:8]), rng.normal(size=(8, 1)).astype(np.float32)
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


def test_before_training_the_forecast_is_the_baselines(flights):
    model = forecast.Forecaster("gru", INPUTS, np.random.default_rng(0))
    assert not model(flights.inputs(flights.test)).any()


def test_a_short_run_learns_and_beats_linear_regression(flights):
    base = baselines.mean_of_the_hour(flights)
    result = forecast.train("gru", flights, base, 12, seed=0)
    assert result.history.loss[-1] < 0.8 * result.history.loss[0]
    assert len(result.history.validation) == 12
    truth = flights.truth(flights.validation)
    linear = baselines.ridge(flights, 3, 300.0)(flights.validation)
    assert (
        rmse(result.validation - truth)
        < rmse(linear - truth)
        < rmse(base(flights.validation) - truth)
    )


def test_a_run_is_the_mean_of_networks_and_shares_none_with_the_next(flights, monkeypatch):
    seeds = []

    def train(cell, task, base, epochs, seed, progress):
        seeds.append(seed)
        return forecast.Result(f"of {seed}", np.array([seed, 0.0]), np.array([2.0 * seed]))

    monkeypatch.setattr(forecast, "train", train)
    first, second = (forecast.train_run("gru", flights, None, 1, seed) for seed in (0, 1))
    assert seeds == list(range(2 * forecast.NETWORKS))
    assert first.history == "of 0" and second.history == "of 4"
    assert first.validation.tolist() == [1.5, 0.0] and first.test.tolist() == [3.0]


def test_it_forecasts_with_the_weights_of_the_best_epoch(flights, monkeypatch):
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(forecast, "rmse", lambda _: next(scores))
    base = baselines.mean_of_the_hour(flights)
    chosen = forecast.train("rnn", flights, base, 3, seed=0)
    assert chosen.history.best_epoch == 2
    scores = iter([1.0, 2.0, 3.0])
    assert not np.array_equal(chosen.test, forecast.train("rnn", flights, base, 3, seed=0).test)


def test_a_forecast_does_not_know_the_test_period(flights):
    """Other values in the test period do not change any choice."""
    late = data.departures()[2].copy()
    late[flights.test + flights.AHEAD] = 0
    kept, changed = flights, few(Departures(late))
    runs = [
        forecast.train("rnn", t, baselines.mean_of_the_hour(t), 2, seed=0) for t in (kept, changed)
    ]
    assert runs[0].history.validation == runs[1].history.validation
    assert runs[0].test[0] == runs[1].test[0]


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_both_backends_train_alike(flights, cell):
    base = baselines.mean_of_the_hour(flights)
    ours = forecast.train(cell, flights, base, 1, seed=1)
    with fastrnn.backend("reference"):
        other = forecast.train(cell, flights, base, 1, seed=1)
    np.testing.assert_allclose(other.history.loss, ours.history.loss, rtol=1e-4)
    np.testing.assert_allclose(other.test, ours.test, rtol=1e-3)


# --- the verdict ---


def test_to_beat_is_to_be_better_by_two_standard_deviations():
    of_network = np.array([1.0, 1.2, 1.4])  # mean 1.2, standard deviation 0.2
    assert forecast.beaten(of_network, {"a": 1.59, "b": 1.61}) == {"a": False, "b": True}
    assert forecast.beaten(of_network[:1], {"a": 0.99, "b": 1.01}) == {"a": False, "b": True}


def test_the_table_has_mean_and_spread_over_seeds(flights, capsys):
    truth = [flights.truth(times) for times in (flights.validation, flights.test)]
    results = [forecast.Result(None, truth[0] + 1, truth[1] + off) for off in (1.0, 2.0)]
    off = baselines.Baseline({"length": 8}, lambda times: flights.truth(times) + 5)
    forecast.print_errors(flights, "GRU", results, {"rival": off})
    out = capsys.readouterr().out
    rows = {line[:36].strip(): line[36:].split() for line in out.splitlines()}
    assert rows["GRU, mean of seeds: 2"] == ["1.0000", "1.5000", "1.5000"]
    assert rows["standard deviation over seeds"] == ["0.0000", "0.7071", "0.7071"]
    assert rows["rival"] == ["5.0000", "5.0000", "5.0000", "length", "8"]
    assert "the GRU beats rival" in out and "2 standard deviations" in out


@pytest.mark.slow
def test_the_networks_beat_the_baselines_that_the_readme_says_they_beat():
    task = Departures()
    others = baselines.of_departures(task)
    base = others[forecast.BASE["departures"]].forecast
    runs = [
        forecast.train_run("gru", task, base, forecast.EPOCHS, s) for s in range(forecast.SEEDS)
    ]
    truth = task.truth(task.test)
    of_network = np.array([rmse(run.test - truth) for run in runs])
    of_others = {name: rmse(b.forecast(task.test) - truth) for name, b in others.items()}
    better = forecast.beaten(of_network, of_others)
    assert not better.pop("kernel ridge") and all(better.values())


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
    """The demo's command with little training and tuning."""
    monkeypatch.setitem(forecast.TASKS, "departures", lambda: few(Departures()))
    monkeypatch.setitem(forecast.BASELINES, "departures", some)
    monkeypatch.setattr(forecast, "NETWORKS", 1)
    return ["demo", "forecast", "--epochs", "1", "--cell", "rnn"]


def some(task):
    """Some quick baselines."""
    return {
        "mean of the hour": baselines.tuned(task, baselines.mean_of_the_hour),
        "ridge": baselines.tuned(task, baselines.ridge, length=(1,), penalty=(100.0,)),
        "kernel ridge": baselines.tuned(
            task, baselines.kernel_ridge, length=(1,), width=(100.0,), penalty=(1.0,)
        ),
    }


@pytest.mark.slow
def test_demo_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "fastrnn", "demo", "--series", "co2"]
    command += ["--epochs", "1", "--seeds", "2", "--cell", "rnn"]
    # It imports the same package as these tests. One BLAS thread makes times steady.
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
    assert done.stderr.count("4/4  loss") == 2
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
    assert "the RNN" in out and "mean of the hour" in out


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
        (["demo", "--out", "folder.png"], "must be a file, got the folder 'folder.png'"),
        (["demo", "--out", "x.png"], "cannot write to 'x.png': permission denied"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write to all folders
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


@pytest.mark.skipif(os.name != "posix", reason="sends a signal as POSIX does")
def test_ctrl_c_ends_a_demo_in_a_line():
    # A shell's background job begins with SIGINT ignored, and its children do.
    code = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; runpy.run_module('fastrnn', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code, "demo", "memory"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        while "computed by" not in demo.stdout.readline():
            pass
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert err.endswith("interrupted\n") and "Traceback" not in err


@pytest.mark.skipif(os.name != "posix", reason="needs pipes as POSIX has them")
@pytest.mark.parametrize("command", ["-u -m fastrnn demo memory --quick", "-m fastrnn info"])
def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(command):
    command = [sys.executable, *command.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        err = program.stderr.read()
    assert program.returncode == 141 and b"Traceback" not in err and b"BrokenPipe" not in err
