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


def library(tools, work, *options):
    """Builds and installs the library; the flags that pkg-config gives for it."""
    cmake, pkg_config, _ = tools
    run(cmake, "-S", ROOT / "csrc", "-B", work / "build", f"-DCMAKE_C_FLAGS={WARNINGS}", *options)
    run(cmake, "--build", work / "build", "-j", "2")
    run(cmake, "--install", work / "build", "--prefix", work / "there")
    (folder,) = (work / "there").glob("lib*/pkgconfig")
    found = {"PKG_CONFIG_PATH": str(folder)}
    version = run(pkg_config, "--modversion", "fastrnn", env=found).decode().strip()
    assert version == fastrnn.__version__
    flags = run(pkg_config, "--static", "--cflags", "--libs", "fastrnn", env=found)
    return flags.decode().split()


@pytest.fixture(scope="module")
def installed(tools, isa, tmp_path_factory):
    """The flags for a library of float32 and one set."""
    work = tmp_path_factory.mktemp("library")
    return library(tools, work, "-DFASTRNN_FLOAT64=OFF", f"-DFASTRNN_ISA={isa}")


def program_of_the_page(tools, flags, folder):
    """Builds the program and runs it: its y, and that of fastrnn.lstm."""
    (folder / "lstm.c").write_text(blocks("c.md", "c")[0])
    run(tools[2], *WARNINGS.split(), "lstm.c", *flags, "-o", "lstm", cwd=folder)
    rng = np.random.default_rng(0)
    shapes = [(24, 4), (24, 6), (24,), (24,), (5, 3, 4)]
    *weights, x = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    written = run(folder / "lstm", input=b"".join(a.tobytes() for a in [*weights, x]))
    y = np.frombuffer(written, "float32").reshape(5, 3, 6)
    return y, fastrnn.lstm(x, None, *weights)[0]


def test_the_program_of_the_page(tools, installed, tmp_path):
    assert_same_bits(*program_of_the_page(tools, installed, tmp_path))


def test_what_cannot_be_right_is_refused(tools, installed, tmp_path):
    source = ROOT / "tests" / "c" / "refused.c"
    run(tools[2], *WARNINGS.split(), source, *installed, "-o", "refused", cwd=tmp_path)
    run(tmp_path / "refused")


SETS = """
#include <fastrnn.h>
#include <string.h>

int main(void) {
  frnn_shape shape = {.cell = frnn_cell_named("lstm"), .batch = 2, .input = 3, .hidden = 3};
  int all = 0;
  for (; frnn_isa_available(all); all++)
    for (int dtype = FRNN_F32; dtype < FRNN_DTYPES; dtype++) {
      shape.dtype = dtype;
      if (frnn_select(frnn_isa_available(all))) return 1;
      if (!frnn_packed_size(&shape, FRNN_FOR_STEPS)) return 1;
    }
  return all == 0 || strcmp(frnn_isa_available(all - 1), "generic");
}
"""


@pytest.mark.slow
def test_the_default_library(tools, tmp_path):
    """All sets of the target, in both dtypes; it takes the best set, whatever FASTRNN_ISA says."""
    flags = library(tools, tmp_path)
    np.testing.assert_allclose(*program_of_the_page(tools, flags, tmp_path), rtol=1e-5, atol=1e-6)
    (tmp_path / "sets.c").write_text(SETS)
    run(tools[2], *WARNINGS.split(), "sets.c", *flags, "-o", "sets", cwd=tmp_path)
    run(tmp_path / "sets")


@pytest.mark.slow
def test_a_shared_library(tools, isa, tmp_path):
    options = "-DBUILD_SHARED_LIBS=ON", "-DFASTRNN_FLOAT64=OFF", f"-DFASTRNN_ISA={isa}"
    flags = library(tools, tmp_path, *options)
    (folder,) = (flag[2:] for flag in flags if flag.startswith("-L"))
    flags.append(f"-Wl,-rpath,{folder}")
    assert_same_bits(*program_of_the_page(tools, flags, tmp_path))
    needed = run("readelf", "-d", tmp_path / "lstm").decode()
    assert f"libfastrnn.so.{fastrnn.__version__}" in needed


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


@pytest.mark.parametrize("name", ["sse9", "", "avx2;neon", "of another target"])
def test_a_set_that_the_library_cannot_have_is_refused(name, tools, isa, tmp_path):
    words = f"must be all, avx512, avx2, neon or generic, got {name}"
    if name == "of another target":
        name, target = ("avx2", "x86_64") if isa == "neon" else ("neon", "aarch64")
        words = f"FASTRNN_ISA={name} needs a compiler for {target}"
    command = [tools[0], "-S", ROOT / "csrc", "-B", tmp_path, f"-DFASTRNN_ISA={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and words.strip() in " ".join(done.stderr.split())
