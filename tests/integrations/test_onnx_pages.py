"""The examples of docs/onnx.md and of fastrnn.onnx's docstrings run."""

import doctest
import pathlib
import re
import subprocess
import sys
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("onnx")

import fastrnn.onnx  # noqa: E402

pytestmark = pytest.mark.any_isa


def test_the_pages_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = pathlib.Path(__file__).parents[2] / "docs/onnx.md"
    names = {}
    for block in re.findall("```python\n(.*?)```", page.read_text(), re.S):
        exec(block, names)
    assert names["y"].shape == (100, 8, 128) and list(names["layers"]) == ["lstm_l0"]


@pytest.mark.parametrize("name", [*fastrnn.onnx.__all__, "Prepared.run"])
def test_the_docstrings_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = fastrnn.onnx
    for part in name.split("."):
        value = getattr(value, part)
    (found,) = doctest.DocTestFinder(recurse=False).find(value, name)
    assert found.examples
    assert doctest.DocTestRunner().run(found).failed == 0


def test_it_is_imported_on_first_use_and_needs_onnx_alone():
    program = (
        "import sys, fastrnn\n"
        "assert 'onnx' not in sys.modules\n"
        "fastrnn.onnx.load\n"
        "assert not {'torch', 'onnxruntime', 'onnxscript', 'fastrnn.torch'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
