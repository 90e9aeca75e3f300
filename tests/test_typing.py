"""Public names have types: a user's program passes a strict type checker, its mistakes do not.

mypy reads the two programs of tests/typing/; what it says of the package itself does not count.
"""

import os
import pathlib
import re
import runpy

import pytest

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "typing"


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """A function of a program's name: the numbers of the lines with errors, and what mypy said."""
    api = pytest.importorskip("mypy.api")
    cache = tmp_path_factory.mktemp("mypy")
    command = ["--strict", "--follow-imports=silent", "--no-error-summary", "--config-file="]

    def found(name):
        path = PROGRAMS / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MYPYPATH", str(ROOT))  # mypy refuses to have an installed package there
            said, trouble, _ = api.run([*command, f"--cache-dir={cache}", str(path)])
        assert not trouble, trouble
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
