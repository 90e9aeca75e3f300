"""The bench: its command line, its report of invented results, tiny runs; instruction counts.

No test depends on the times of a real clock.
"""

import importlib.util
import io
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from fastrnn.__main__ import main
from fastrnn._engine import runtime
from fastrnn.bench import about, markdown, measure, picture, report, status
from fastrnn.bench.cases import CASES, CELLS
from fastrnn.bench.limits import Machine

pytestmark = pytest.mark.any_isa

ROOT = pathlib.Path(__file__).parents[2]
PRECISION, SERVE, AUDIO = ({"group": name} for name in ("precision", "serve", "audio"))
MACHINE = {"peak": 1e11, "reads": {"16384": 2e11, "32768": 1e11}}


def _job(case, mode, cell="lstm", threads=1, limit=None, **seconds):
    peers = {
        name: {"status": "ok", "best": t, "median": 2 * t, "seconds": [t], "interruptions": [0]}
        for name, t in seconds.items()
    }
    job = {"case": case, "cell": cell, "mode": mode, "threads": threads, "peers": peers}
    return job | ({"limit": limit} if limit else {})


@pytest.fixture
def found():
    """Results of three jobs: fastrnn ahead of all, behind PyTorch, and ahead on two threads."""
    jobs = [
        _job("step-64", "forward", limit=1e-6, fastrnn=2e-6, numpy=3e-5, torch=1.6e-5, jax=8e-6),
        _job("seq-128", "training", limit=1e-3, fastrnn=4e-3, numpy=8e-3, torch=2e-3),
        _job("seq-128", "training", "gru", 2, fastrnn=4e-3, torch=5e-3),
    ]
    jobs[1]["peers"]["openvino"] = {"status": "skipped", "reason": "inference only"}
    jobs[2]["peers"]["jax"] = {"status": "mismatch", "reason": "y is off"}
    return {"about": {}, "settings": {}, "probes": {"1": MACHINE}, "jobs": jobs}


@pytest.fixture
def file(found, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    return str(path)


# --- the report ---


def test_a_ratio_is_a_peers_time_over_ours(found):
    first, second, third = (report.figures(job, "best") for job in found["jobs"])
    expected = {"numpy": 15.0, "torch": 8.0, "jax": 4.0, "best peer": 4.0, "limit": 0.5}
    assert first == pytest.approx(expected)
    assert second["best peer"] == pytest.approx(0.5)
    assert third == pytest.approx({"torch": 1.25, "best peer": 1.25})


def test_the_mean_is_geometric(found):
    means = report.means(found["jobs"][:2], "best")
    assert means["all"]["best peer"] == pytest.approx((4.0 * 0.5) ** 0.5)
    assert means["forward, 1 thread, lstm"]["torch"] == pytest.approx(8.0)


def test_the_table_has_times_ratios_and_what_failed(found):
    head, first, second, third = report.table(found["jobs"], "best").splitlines()
    assert head.split("  ")[0] == "case" and head.endswith("best peer")
    assert "2 us" in first and "50%" in first and "15.00" in first
    assert "25%" in second and "0.50" in second
    assert "MISMATCH" in third
    assert "jax: y is off (seq-128 training gru 2)" in report.troubles_text(found["jobs"])


def test_markdown_has_a_row_per_case_and_the_modes_side_by_side(found):
    text = markdown.markdown(found, "best")
    lstm, gru = text.split("\n\nGRU, float32, 2 threads\n\n")
    lines = lstm.splitlines()
    assert lines[0] == "LSTM, float32, 1 thread"
    assert lines[2].startswith("| case (T, B, I, H) | forward | NumPy | PyTorch | JAX | training |")
    assert lines[4] == "| step-64 (1, 1, 64, 64) | 2 us | 15.00 | 8.00 | 4.00 |  |  |  |"
    assert lines[5] == "| seq-128 (500, 1, 40, 128) |  |  |  |  | 4 ms | 2.00 | 0.50 |"
    assert lines[6] == "| geometric mean |  | 15.00 | 8.00 | 4.00 |  | 2.00 | 0.50 |"
    assert gru.splitlines()[2] == "| seq-128 (500, 1, 40, 128) | 4 ms | 1.25 |"


def test_serve_has_a_column_per_number_of_units():
    jobs = [
        _job("serve-1x8-64", "forward", fastrnn=2e-6, torch=4e-6, jax=3e-6) | SERVE,
        _job("serve-1x8-256", "forward", fastrnn=2e-6, torch=1.6e-6) | SERVE,
        _job("serve-4x1-64", "forward", fastrnn=1e-3, torch=6e-3) | SERVE,
    ]
    assert markdown.markdown({"jobs": jobs}, "best").splitlines() == [
        "LSTM, float32, 1 thread",
        "",
        "| rows B, steps T | I = H = 64 | I = H = 256 |",
        "| --- | --- | --- |",
        "| 1, 4 | 1 ms, 6.00 |  |",
        "| 8, 1 | 2 us, 1.50 | 2 us, 0.80 |",
        "| geometric mean | 3.00 | 0.80 |",
    ]


def test_precisions_stand_side_by_side_against_float32_and_the_best_peer():
    jobs = [
        _job("imdb:bfloat16", "forward", fastrnn=1e-3, float32=2e-3, numpy=1) | PRECISION,
        _job("imdb:int8", "forward", fastrnn=1e-3, float32=4e-3, torch=3e-3) | PRECISION,
    ]
    lines = markdown.markdown({"jobs": jobs}, "best").splitlines()
    assert lines[0] == "LSTM, 1 thread"
    assert lines[2:] == [
        "| case (T, B, I, H) | float32 | bfloat16 | best peer | int8 | best peer |",
        "| --- | --- | --- | --- | --- | --- |",
        "| imdb (200, 32, 128, 128) | 2 ms | 2.00 |  | 4.00 | 3.00 |",
        "| geometric mean |  | 2.00 |  | 4.00 | 3.00 |",
    ]


def test_audio_has_the_time_of_a_sample():
    jobs = [
        _job("audio-8", "forward", fastrnn=51.2e-6, call=1.024e-4, jax=5.12e-3) | AUDIO,
        _job("audio-8", "forward", "gru", fastrnn=51.2e-6) | AUDIO,
    ]
    lines = markdown.markdown({"jobs": jobs}, "best").splitlines()
    assert lines[0] == "float32, 1 thread"
    assert lines[2].startswith("| units H | LSTM, a sample | frozen(x) | best peer | GRU, a")
    assert lines[4] == "| 8 | 100 ns | 2.00 | 100.00 | 100 ns |  |  |"


def test_means_are_those_of_a_group():
    jobs = [
        _job("imdb:int8", "forward", fastrnn=1.0, float32=4.0, torch=3.0) | PRECISION,
        _job("audio-8", "forward", fastrnn=1.0, call=1.5, jax=2.0) | AUDIO,
    ]
    means = report.means(jobs, "best")
    assert means["int8 all"] == pytest.approx({"float32": 4, "torch": 3, "best peer": 3})
    assert means["audio forward, 1 thread"]["best peer"] == pytest.approx(2)
    assert "audio all: best peer 2.00x, call 1.50x" in report.means_text(jobs, "best")


def test_sizes_tell_layers_and_directions():
    assert CASES["imdb-bi2"].sizes() == "(200, 32, 128, 64, 2 layers, bidirectional)"


def test_the_limit_is_the_slower_of_peak_and_reading():
    case = CASES["step-64"]
    machine = Machine(1e11, {2**14: 1e9, 2**28: 1e9})
    nbytes = 4 * 4 * 64 * (64 + 64)
    assert case.limit(machine, "lstm", "forward", 1) == pytest.approx(nbytes / 1e9)
    machine = Machine(1e9, {2**14: 1e14, 2**28: 1e14})
    assert case.limit(machine, "lstm", "forward", 1) == pytest.approx(2 * nbytes / 4 / 1e9)


# --- what was found, shown again ---


def test_from_shows_the_table_of_a_file(file, found, capsys):
    assert main(["bench", "--from", file, "--cells", "lstm"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(report.table(found["jobs"][:2], "best") + "\n\n")
    assert "FMA 100 GFLOP/s; reads in GB/s: 16K 200, 32K 100" in shown
    assert main(["bench", "--from", file]) == 1  # a peer gave wrong results
    assert "MISMATCH" in capsys.readouterr().out


def test_from_takes_the_part_that_is_named(file, capsys):
    chosen = ["--cases", "step-64", "--peers", "fastrnn,jax", "--stat", "median", "--markdown"]
    assert main(["bench", "--from", file, *chosen]) == 0
    assert capsys.readouterr().out.splitlines()[2:5] == [
        "| case (T, B, I, H) | forward | JAX |",
        "| --- | --- | --- |",
        "| step-64 (1, 1, 64, 64) | 4 us | 4.00 |",
    ]


def test_picture_is_written(file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "there.png"
    assert main(["bench", "--from", file, "--cells", "lstm", "--picture", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_picture_is_relative_to_the_best_framework(found):
    Bar = picture.Bar
    shown = [picture.bar(job, "best") for job in found["jobs"]]
    assert shown == [Bar("jax", 0.25, 0.125), Bar("torch", 2.0, 0.5), Bar("torch", 0.8, None)]
    assert picture.bar(_job("seq-128", "forward", fastrnn=1.0, numpy=2.0), "best") is None


def test_at_a_narrow_precision_the_picture_is_relative_to_float32():
    job = _job("imdb:int8", "forward", fastrnn=2.0, float32=8.0, torch=4.0) | PRECISION
    assert picture.bar(job, "best") == picture.Bar("float32", 0.25, 0.5)
    assert picture.column(job) == "int8" and picture.tick(job) == "imdb"


def test_without_a_picture_it_says_why_and_goes_on(file, tmp_path, capsys, monkeypatch):
    arguments = ["bench", "--from", file, "--cells", "lstm", "--picture", str(tmp_path / "x.png")]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(arguments) == 0
    assert "no picture: matplotlib is not installed" in capsys.readouterr().out


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "seq-128,mnist"], "['mnist']: choose from those that --list names"),
        (
            ["--group", "lunch"],
            "['lunch']: choose from programs, serve, precision, ",
        ),
        (["--cells", "transformer"], "['transformer']: choose from lstm"),
        (["--modes", "both"], "['both']: choose from forward"),
        (["--peers", "keras"], "['keras']: choose from fastrnn"),
        (["--threads", "0"], "must be a whole number from 1, got '0'"),
        (["--threads", "1,two"], "must be a whole number from 1, got 'two'"),
        (["--rounds", "none"], "must be a whole number from 1, got 'none'"),
        (["--batch", "-1"], "must be seconds above 0, got '-1'"),
        (["--probe", "nan"], "must be seconds above 0, got 'nan'"),
        (["--json", "no/such/folder/x.json"], "there is no folder 'no/such/folder'"),
        (["--picture", "x.txt"], "must end in .pdf, .png, .svg, got 'x.txt'"),
        (["--from", "no-such.json"], "cannot read 'no-such.json': No such file"),
        (["--from", __file__], "test_bench.py': not a bench's JSON"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"probes": [1]}', '{"probes": {}, "jobs": [1]}'])
def test_a_file_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="not a bench's JSON"):
        measure.read(text)


def test_what_cannot_be_measured_is_said(capsys, monkeypatch):
    assert main(["bench", "--threads", "100000"]) == 2
    assert "--threads 100000: this process may use" in capsys.readouterr().err
    monkeypatch.setattr(runtime, "_default_backend", "reference")
    monkeypatch.setattr(runtime, "core", object())
    assert main(["bench"]) == 2
    assert "FASTRNN_BACKEND=reference" in capsys.readouterr().err
    monkeypatch.setattr(runtime, "core", None)
    assert main(["bench"]) == 2
    assert "this build has no C kernels" in capsys.readouterr().err


def test_peers_that_are_not_installed_are_named(capsys, monkeypatch):
    there = measure.util.find_spec
    gone = ("jax", "torch", "onnx")
    monkeypatch.setattr(measure.util, "find_spec", lambda n: None if n in gone else there(n))
    assert main(["bench", "--peers", "torch,jax"]) == 2
    shown = capsys.readouterr()
    assert "--peers torch,jax: needs torch, jax, not installed here" in shown.err and not shown.out
    assert main(["bench", "--peers", "openvino"]) == 2
    assert "onnx, not installed here" in capsys.readouterr().err
    assert measure.missing_packages("numpy") == []


def test_importing_fastrnn_leaves_the_bench_alone():
    code = (
        "import sys; sys.path[:] = sys.argv[1:]; import fastrnn\n"
        "sys.exit(any(name.startswith('fastrnn.bench') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *sys.path])
    assert done.returncode == 0


# --- a tiny run ---


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures on Linux only")
@pytest.mark.parametrize("case", ["serve-2x8-64", "audio-8", "rl-batch:int8", "layer_norm-imdb"])
def test_every_groups_kernels_agree_with_the_reference(case, core, tmp_path):
    path, numbers = tmp_path / "tiny.json", "--rounds 1 --batch 1e-9 --probe 1e-4"
    peers = "fastrnn,call,float32,numpy"
    arguments = (
        f"--cases {case} --cells gru --modes forward --peers {peers} {numbers} --json {path}"
    )
    assert main(["bench", *arguments.split()]) == 0
    (job,) = json.loads(path.read_text())["jobs"]
    assert job["group"] == CASES[case].group and job["checked_against"] == "numpy"
    assert job["peers"]["call"]["status"] == ("ok" if case == "audio-8" else "skipped")
    assert job["peers"]["float32"]["status"] == ("ok" if ":" in case else "skipped")
    assert ("limit" in job) == (case in ("serve-2x8-64", "audio-8"))


def test_list_shows_the_cases_of_a_group(capsys):
    assert main(["bench", "--list", "--group", "audio"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split(maxsplit=1) == ["audio-8", "(512, 1, 1, 8)"] and len(shown) == 6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures on Linux only")
def test_a_tiny_run_ends_well_and_its_file_shows_the_same(tmp_path, capsys, monkeypatch):
    path = tmp_path / "tiny.json"
    monkeypatch.setattr(measure, "missing_packages", lambda name: ["jax"] * (name == "jax"))
    tiny = "--cases step-64 --cells rnn --peers numpy,jax --rounds 1 --batch 0.001 --probe 0.001"
    assert main(["bench", *tiny.split(), "--json", str(path)]) == 0
    measured = capsys.readouterr()
    assert "[1/1] step-64 forward rnn 1: numpy" in measured.err
    assert "--peers numpy,jax: needs jax, not installed here" in measured.err
    found = json.loads(path.read_text())
    assert {"about", "settings", "probes", "jobs", "geometric_means"} <= found.keys()
    assert {"cpu", "versions", "commit", "uncommitted", "fastrnn"} <= found["about"].keys()
    assert found["about"]["versions"]["numpy"]
    assert found["settings"]["cases"] == ["step-64"]
    (job,) = found["jobs"]
    assert job["peers"]["jax"] == {"status": "skipped", "reason": "not installed"}
    assert job["peers"]["numpy"]["status"] == "ok" and len(job["peers"]["numpy"]["seconds"]) == 1
    assert main(["bench", "--from", str(path)]) == 0
    assert capsys.readouterr().out == measured.out


@pytest.mark.slow
def test_the_kernels_agree_with_the_reference_on_every_cell(core, tmp_path):
    path = tmp_path / "small.json"
    small = "--cases vad-128 --modes training --peers fastrnn,numpy --rounds 1 --batch 1e-9"
    assert main(["bench", *small.split(), "--probe", "1e-4", "--json", str(path)]) == 0
    jobs = json.loads(path.read_text())["jobs"]
    assert [job["cell"] for job in jobs] == list(CELLS)
    for job in jobs:
        assert job["limit"] > 0 and job["checked_against"] == "numpy"
        assert job["peers"]["fastrnn"]["errors"]["layer"].keys() >= {"y", "dx", "d.weight_hh_l0"}


# --- commit ---


def _git(folder, *args):
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", "-C", str(folder), *who, *args], check=True, capture_output=True)


def test_the_commit_is_this_projects_or_none(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("no git here")
    inner = tmp_path / "site-packages"
    (inner / "csrc").mkdir(parents=True)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project's")
    nothing = {"commit": None, "uncommitted": None}
    for root in (tmp_path, inner):
        monkeypatch.setattr(about, "ROOT", root)
        assert about.commit() == nothing
    (inner / about.OURS).write_text("")
    _git(inner, "init", "-q")
    _git(inner, "add", "-A")
    _git(inner, "commit", "-q", "-m", "this project's")
    assert len(about.commit()["commit"]) == 40 and about.commit()["uncommitted"] is False
    (inner / about.OURS).write_text("changed")
    assert about.commit()["uncommitted"] is True
    monkeypatch.setenv("PATH", "")
    assert about.commit() == nothing


# --- the progress line ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line_written_anew(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "20")
    status.begin("[1/2]", "seq-128 forward lstm 1")
    status.say("*** something that stays")
    status.end("[1/2]", "seq-128 forward lstm 1", "fastrnn 1 us")
    status.close()
    wipe = status.WIPE
    assert stream.getvalue() == f"{wipe}[1/2] seq-128 forwa{wipe}*** something that stays\n{wipe}"


def test_a_log_gets_a_line_per_job(capsys):
    status.begin("[1/2]", "seq-128 forward lstm 1")
    status.end("[1/2]", "seq-128 forward lstm 1", "fastrnn 1 us")
    status.close()
    assert capsys.readouterr().err == "[1/2] seq-128 forward lstm 1: fastrnn 1 us\n"


# --- the instruction counts ---


@pytest.fixture(scope="module")
def instructions():
    spec = importlib.util.spec_from_file_location("instructions", ROOT / "bench/instructions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts_are_held_within_two_percent(instructions):
    assert instructions.judge("x", 1019, 1000) is None
    assert instructions.judge("x", 981, 1000) is None
    assert "x: 1021 instructions, 2.1% more" in instructions.judge("x", 1021, 1000)
    fewer = instructions.judge("x", 979, 1000)
    assert "2.1% fewer" in fewer and "--record" in fewer


def test_every_case_has_a_figure(instructions):
    kept = json.loads(instructions.FIGURES.read_text())
    for cases in kept["counts"].values():
        assert tuple(cases) == instructions.CASES and min(cases.values()) > 0
