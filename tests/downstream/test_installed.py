"""An installed package has the header and kernels.pxd, and no sources of its compiled module."""

import pathlib
from importlib import metadata

import pytest

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]


@pytest.fixture(scope="module")
def files():
    """The names of the installed files, from the package's folder on."""
    package = pathlib.Path(fastrnn.__file__).parent
    if not (package / "_engine" / "_build_id.py").exists():
        pytest.skip("fastrnn is a checkout here")
    return {str(file) for file in metadata.files("fastrnn")}


def test_what_others_compile_against_is_there(files):
    assert {"fastrnn/include/fastrnn.h", "fastrnn/kernels.pxd", "fastrnn/py.typed"} <= files
    assert pathlib.Path(fastrnn.get_include()) == pathlib.Path(fastrnn.__file__).parent / "include"


def test_what_serves_nobody_is_not(files):
    suffixes = {pathlib.Path(file).suffix for file in files}
    assert not suffixes & {".pyx", ".pxi", ".c", ".o"}
    assert [file for file in files if file.endswith(".pxd")] == ["fastrnn/kernels.pxd"]


def test_get_include_of_a_checkout_is_its_own_header():
    folder = pathlib.Path(fastrnn.get_include())
    assert folder.name in ("csrc", "include") and (folder / "fastrnn.h").is_file()
