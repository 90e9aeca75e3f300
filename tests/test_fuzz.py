"""The fuzzer: some hundred cases, always the same, and tests that it finds planted faults.

CI runs it for two minutes with a new seed for every commit: `python -m tests.fuzz`.
"""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from fuzz import __main__ as program
from fuzz import answers, buffers, relations, rounding, running
from problems import BACKENDS

from fastrnn import reference

pytestmark = pytest.mark.any_isa  # it draws the instruction sets

needs_kernels = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")


def test_whatever_is_combined_agrees_with_other_ways_to_compute_it():
    """It runs in a process of its own, because a case may hang or crash."""
    cases = "300" if len(BACKENDS) > 1 else "50"  # without kernels 50 cases take as long
    command = [sys.executable, "-m", "fuzz", "--seed", "1", "--cases", cases]
    done = subprocess.run(
        command, cwd=program.TESTS, env=program.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert f"{cases} cases" in done.stdout


def test_a_case_is_the_same_each_time_and_runs_alone():
    one, two = (running.described(3, 14) for _ in range(2))
    assert one == two and one.startswith("python -m tests.fuzz --seed 3 --case 14\n")
    assert program.alone(3, 14) == 0


@needs_kernels
def test_a_wrong_number_is_found(monkeypatch):
    infer = reference.infer

    def off(*arguments, **options):
        y, last = infer(*arguments, **options)
        return y * 1.001, last

    monkeypatch.setattr(reference, "infer", off)
    cases = (running.drawn(0, number) for number in range(30))
    assert any((running.run(case) or "").startswith("the reference") for case in cases)


def test_what_rounding_grows_to_is_allowed_on_the_reference_too(monkeypatch):
    case = running.drawn(0, 0)
    case.settings["backend"] = "reference"
    run = relations.Run(case, {}, (), None)
    far, near = {"grad h": np.full(3, 1e3)}, {"grad h": np.full(3, 1e3 + 100)}
    for by in (6.0, 0.0):
        monkeypatch.setattr(rounding, "moved", lambda run, by=by: {"grad h": by})
        with nullcontext() if by else pytest.raises(answers.Differs):
            run.same(far, near)


def test_a_byte_beside_an_array_is_found():
    with buffers.watched():
        np.empty(3)[...] = 1
    if not buffers.EXACT:  # with exact buffers AddressSanitizer finds it
        with pytest.raises(AssertionError, match="24 bytes"), buffers.watched():
            array = np.empty(3)
            np.lib.stride_tricks.as_strided(array, (4,))[3] = 1


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import faulthandler, time; faulthandler.dump_traceback_later(0.1, exit=True); "
        "time.sleep(60)",
    ],
    ids=["crashes", "hangs"],
)
def test_a_case_that_ends_the_process_is_told(code, capsys):
    count = program.Count(0)
    code = f"print('begin 0\\nend 0 0\\nbegin 1', flush=True); {code}"
    program.watch([sys.executable, "-c", code], 0, count)
    assert count.failed == [1] and count.next == 2
    said = capsys.readouterr().out
    assert "--seed 0 --case 1\n" in said and "the process ended with" in said


def test_a_commit_gives_a_seed(monkeypatch):
    commits = "40904d70aa", "40904d70ab"
    seeds = set()
    for commit in commits * 2:
        monkeypatch.setattr(sys, "argv", ["", "--seed-from", commit])
        seeds.add(program.arguments().seed)
    assert len(seeds) == 2
