"""Public names have types: a user's program passes strict type checkers, its mistakes do not.

mypy and pyright read the two programs of tests/typing/ and the README's examples; what they say of
the package itself does not count. stubtest compares the stub of the compiled module with it.
"""

import importlib.util
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import readme

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "typing"


def run(module, *arguments, cwd, **environment):
    """What a checker prints; it has a process of its own, for mypy raises the recursion limit."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"needs {module}")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def by_mypy(folder, strict):
    """The errors in a folder's programs: (file, line) -> message."""
    # An untyped function's body is read all the same, as pyright does.
    options = ["--strict"] if strict else ["--check-untyped-defs"]
    options += ["--follow-imports=silent", "--no-error-summary", "--config-file=", "--no-pretty"]
    # MYPYPATH: mypy refuses an installed package there.
    said = run("mypy", *options, ".", cwd=folder, MYPYPATH=str(ROOT))
    found = re.findall(r"^(.*?):(\d+): error: (.*)$", said, re.MULTILINE)
    return {(name, int(line)): message for name, line, message in found}


def by_pyright(folder, strict):
    """The same. A program may leave a name unread: tuples have more parts than one wants."""
    config = {"extraPaths": [str(ROOT)], "reportUnusedVariable": False}
    config["typeCheckingMode"] = "strict" if strict else "standard"
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    said = run("pyright", "--outputjson", "--pythonpath", sys.executable, cwd=folder)
    found = json.loads(said)
    assert found["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    return {
        (pathlib.Path(error["file"]).name, error["range"]["start"]["line"] + 1): error["message"]
        for error in found["generalDiagnostics"]
    }


@pytest.fixture(params=[by_mypy, by_pyright], ids=["mypy", "pyright"])
def errors(request, tmp_path):
    """A function of programs, name -> text: the errors in them."""

    def found(texts, strict=True):
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return request.param(tmp_path, strict)

    return found


def test_a_program_runs(capsys):
    with fastrnn.backend("reference"):
        runpy.run_path(str(PROGRAMS / "sample.py"), run_name="__main__")
    assert "LSTM(3, 4" in capsys.readouterr().out


def test_a_program_has_no_errors_and_every_mistake_is_found(errors):
    """One run for both: what a checker reads of NumPy takes it the longest."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in PROGRAMS.glob("*.py")}
    planted = {
        (name, number)
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.endswith("# mistake")
    }
    assert planted
    found = errors(texts)
    differing = sorted(found.keys() ^ planted)
    assert not differing, {place: found.get(place, "not found") for place in differing}


def test_the_readmes_examples_have_no_errors(errors):
    texts = {f"{name}.py": readme.program(name) for name in readme.PROGRAMS}
    assert not errors(texts, strict=False)  # nobody annotates as much in an example


@pytest.mark.usefixtures("core")
def test_the_stub_is_that_of_the_compiled_module(tmp_path):
    """Names, parameters and their defaults; stubtest cannot see the types."""
    found = str(pathlib.Path(fastrnn.__file__).parents[1])  # the fastrnn that is tested
    paths = {"MYPYPATH": str(ROOT), "PYTHONPATH": found}
    # Without these, what mypy says of every module that the package imports would count.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = silent\nignore_missing_imports = true\n"
    )
    options = ["--mypy-config-file", "mypy.ini"]
    said = run("mypy.stubtest", "fastrnn._engine._core", *options, cwd=tmp_path, **paths)
    assert said.startswith("Success"), said
