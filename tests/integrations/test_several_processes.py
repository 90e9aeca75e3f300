"""The programs of docs/how-to/several-processes.md run as files, as a user runs them."""

import os
import pathlib
import re
import subprocess
import sys
from importlib.util import find_spec

import pages
import pytest

import fastrnn
from fastrnn._engine import runtime

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

SAME = "the same bits: True"
# Program -> the package that it needs, and what it prints at least.
PROGRAMS = {
    "shared": (None, [SAME]),
    "dask": ("distributed", ["(50, 400, 32) ", " (400, 32) ", SAME]),
    "joblib": ("joblib", ["[5.1 6.1 7.  8. ]", SAME]),
    "threadpoolctl": ("threadpoolctl", ["1\n", f"fastrnn {fastrnn.__version__} "]),
}
RUN_ELSEWHERE = {"ray"}  # by test_ray.py


def text_of(name):
    (text,) = pages.blocks("how-to/several-processes.md", f"python {name}")
    return text


def run(path):
    """What a program prints; the engines themselves choose how many threads it has."""
    package = str(pathlib.Path(fastrnn.__file__).parents[1])
    paths = filter(None, [package, os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, path], env=environment, cwd=path.parent, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_runs_as_it_stands(name, tmp_path):
    package, words = PROGRAMS[name]
    if package and find_spec(package) is None:
        pytest.skip(f"needs {package}")
    if name == "threadpoolctl" and runtime.core is None:
        pytest.skip("without kernels there are no threads")
    (tmp_path / "program.py").write_text(text_of(name))
    said = run(tmp_path / "program.py")
    for word in words:
        assert word in said


def test_every_program_of_the_page_is_run():
    text = (pages.DOCS / "how-to/several-processes.md").read_text()
    assert {*re.findall("```python (.*)", text)} == {*PROGRAMS, *RUN_ELSEWHERE}
