"""Public names have types: a user's program passes a strict type checker, and mistakes do not.

mypy reads the two programs of tests/typing/. Its messages about the package itself do not count.
"""

import importlib.util
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "typing"


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """A function from a program's name to the lines with errors, and mypy's output."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("needs mypy")
    cache = tmp_path_factory.mktemp("mypy")
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", "--config-file="]

    def found(name):
        """mypy runs in a process of its own, because it raises the recursion limit."""
        command = [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", PROGRAMS / name]
        environment = os.environ | {
            "MYPYPATH": str(ROOT)
        }  # mypy refuses this variable for an installed package
        done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True)
        assert not done.stderr, done.stderr
        said = done.stdout
        lines = re.findall(rf"^.*{re.escape(os.sep + name)}:(\d+): error: ", said, re.MULTILINE)
        return {int(line) for line in lines}, said

    return found


def test_a_program_runs(capsys):
    with fastrnn.backend("reference"):
        runpy.run_path(str(PROGRAMS / "sample.py"), run_name="__main__")
    assert "LSTM(3, 4" in capsys.readouterr().out


def test_a_program_has_no_errors(errors):
    _, said = errors("sample.py")
    assert not said, said


def test_every_mistake_is_found_and_nothing_else(errors):
    lines, said = errors("mistakes.py")
    text = (PROGRAMS / "mistakes.py").read_text(encoding="utf-8")
    planted = {n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# mistake")}
    assert planted
    assert lines == planted, f"lines {sorted(lines ^ planted)}\n{said}"
