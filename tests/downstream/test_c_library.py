"""A C program and a C++ program link the library that csrc/CMakeLists.txt builds and installs."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from pages import blocks
from problems import assert_same_bits

import fastrnn

pytest.importorskip("cmake")  # a system's own cmake would build here in every run of the suite

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

ROOT = pathlib.Path(__file__).parents[2]
WARNINGS = "-Wall -Wextra -Werror"


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


@pytest.fixture(scope="module")
def tools():
    """cmake, pkg-config and cc; PyPI has the first two, as cmake and pkgconf."""
    found = [shutil.which(name) for name in ("cmake", "pkg-config", "cc")]
    found[1] = found[1] or shutil.which("pkgconf")
    if not all(found) or not (ROOT / "csrc").exists():
        pytest.skip("needs cmake, pkg-config, cc and the sources")
    return found


@pytest.fixture(scope="module")
def isa(core_of_module):
    return core_of_module.isa()


@pytest.fixture(scope="module")
def core_of_module():
    from fastrnn._engine import runtime

    return runtime.core or pytest.skip("this build has no kernels")


@pytest.fixture(scope="module")
def installed(tools, isa, tmp_path_factory):
    """The flags that pkg-config gives for a library of float32 and one set."""
    cmake, pkg_config, _ = tools
    work = tmp_path_factory.mktemp("library")
    options = ["-DFASTRNN_FLOAT64=OFF", f"-DFASTRNN_ISA={isa}", f"-DCMAKE_C_FLAGS={WARNINGS}"]
    options += [f"-DCMAKE_INSTALL_PREFIX={work / 'there'}"]
    run(cmake, "-S", ROOT / "csrc", "-B", work / "build", *options)
    run(cmake, "--build", work / "build", "-j", "2")
    run(cmake, "--install", work / "build")
    (folder,) = (work / "there").glob("lib*/pkgconfig")
    found = {"PKG_CONFIG_PATH": str(folder)}
    version = run(pkg_config, "--modversion", "fastrnn", env=found).decode().strip()
    assert version == fastrnn.__version__
    flags = run(pkg_config, "--static", "--cflags", "--libs", "fastrnn", env=found)
    return flags.decode().split()


def test_the_program_of_the_page(tools, installed, tmp_path):
    (tmp_path / "lstm.c").write_text(blocks("c.md", "c")[0])
    run(tools[2], *WARNINGS.split(), "lstm.c", *installed, "-o", "lstm", cwd=tmp_path)
    rng = np.random.default_rng(0)
    shapes = [(24, 4), (24, 6), (24,), (24,), (5, 3, 4)]
    *weights, x = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    written = run(tmp_path / "lstm", input=b"".join(a.tobytes() for a in [*weights, x]))
    y = np.frombuffer(written, "float32").reshape(5, 3, 6)
    assert_same_bits(y, fastrnn.lstm(x, None, *weights)[0])


LEFT_OUT = """
#include <fastrnn.h>
#include <stdio.h>
#include <string.h>

int main() {
  frnn_shape shape = {};
  shape.cell = frnn_cell_named("gru_after");
  shape.batch = shape.input = shape.hidden = 3;
  shape.dtype = FRNN_F64;
  frnn_backward_call call = {};
  call.shape = shape;
  printf("%s %s %d %d\\n", frnn_isa(), frnn_isa_compiled(1) ? "more" : "alone",
         (int)frnn_packed_size(&shape, FRNN_FOR_STEPS), frnn_backward(&call, 1, NULL));
  shape.dtype = FRNN_F32;
  if (!frnn_forward_size(&shape)) return 1;
  return strcmp(FRNN_VERSION, frnn_version()) || frnn_abi() != FRNN_ABI;
}
"""


def test_a_program_in_cpp_sees_what_the_library_lacks(tools, installed, isa, tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++") or pytest.skip("needs a C++ compiler")
    (tmp_path / "left_out.cpp").write_text(LEFT_OUT)
    run(compiler, *WARNINGS.split(), "left_out.cpp", *installed,
        "-o", "left_out", cwd=tmp_path)  # fmt: skip
    assert run(tmp_path / "left_out").decode() == f"{isa} alone 0 -4\n"


def test_an_unknown_set_is_refused(tools, tmp_path):
    command = [tools[0], "-S", ROOT / "csrc", "-B", tmp_path, "-DFASTRNN_ISA=sse9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "got sse9" in done.stderr
