"""The build id: a compiled module of other sources is refused, wherever Python finds it."""

import pathlib
import runpy
import shutil
import subprocess
import types

import pytest
from problems import run_python

import fastrnn
from fastrnn._engine import _build, runtime

pytestmark = pytest.mark.no_kernels

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = pathlib.Path(fastrnn.__file__).parent

# ---- the id of the sources -----------------------------------------------------------------------

FILES = {
    "csrc/forward/step.c": b"int step;\n",
    "csrc/kernels/lstm.h": b"int lstm;\n",
    "fastrnn/_engine/_core.pyx": b"import numpy\n",
    "fastrnn/_engine/_arguments.pxi": b"",
    "fastrnn/_engine/_core.pxd": b"",
    "fastrnn/kernels.pxd": b"",
    "fastrnn/layers.py": b"class LSTM: ...\n",
    "fastrnn/_engine/_core.pyi": b"",
}
OF_NO_BUILD = {"fastrnn/layers.py", "fastrnn/_engine/_core.pyi"}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def sources(tmp_path):
    return write(tmp_path / "sources", FILES)


def test_the_id_depends_on_neither_line_ends_nor_the_order_of_files(sources, tmp_path):
    windows = {name: FILES[name].replace(b"\n", b"\r\n") for name in reversed(FILES)}
    assert _build.of_sources(write(tmp_path / "windows", windows)) == _build.of_sources(sources)


@pytest.mark.parametrize("name", sorted(FILES.keys() - OF_NO_BUILD))
def test_the_id_changes_with_every_source(name, sources):
    before = _build.of_sources(sources)
    (sources / name).write_bytes(b"another\n")
    assert _build.of_sources(sources) != before


def test_a_source_that_is_renamed_or_goes_changes_the_id(sources):
    ids = {_build.of_sources(sources)}
    renamed = (sources / "csrc/forward/step.c").rename(sources / "csrc/forward/unfused.c")
    ids.add(_build.of_sources(sources))
    renamed.unlink()
    ids.add(_build.of_sources(sources))
    assert len(ids) == 3


@pytest.mark.posix
def test_other_python_and_an_editors_lock_leave_the_id_as_it_is(sources):
    before = _build.of_sources(sources)
    for name in OF_NO_BUILD:
        (sources / name).write_bytes(b"class GRU: ...\n")
    (sources / "fastrnn/_engine/_core.cp313-win_amd64.pyd").write_bytes(b"made of them")
    (sources / "csrc/forward/.#step.c").symlink_to("nobody@nowhere")
    assert _build.of_sources(sources) == before


@pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="needs the sources")
def test_the_kernels_under_test_are_those_of_these_sources(core):
    assert core.build_id() == _build.of_sources(ROOT)


# ---- importing the package -----------------------------------------------------------------------

# The other tests copy the package of a checkout, and its compiled module.
needs_both = pytest.mark.skipif(
    runtime.core is None or not (ROOT / "csrc").exists(), reason="needs kernels and sources"
)


def copy_package(root, package=PACKAGE):
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "_build_id.py", "data")
    shutil.copytree(package, root / "fastrnn", ignore=ignored)
    return root


@pytest.fixture
def checkout(tmp_path):
    """A checkout without a build."""
    root = copy_package(tmp_path / "checkout", ROOT / "fastrnn")
    shutil.copytree(ROOT / "csrc", root / "csrc")
    return root


def put_module(root):
    shutil.copy(runtime.core.__file__, root / "fastrnn/_engine")
    return root


def install(root):
    """Install the package: with a compiled module and an id, without sources."""
    put_module(copy_package(root))
    build_id = runtime.core.build_id()
    (root / "fastrnn/_engine/_build_id.py").write_text(f'BUILD_ID = "{build_id}"\n')
    return root


def run_from(*roots, code="", **environment):
    paths = [str(root) for root in roots]
    code = f"import sys; sys.path[:0] = {paths}\nimport fastrnn\n{code}"
    code += "core = fastrnn._engine.runtime.core; print(fastrnn.__file__, core and core.__file__)"
    return run_python(code, **environment)


def assert_runs(done, package, module):
    assert done.returncode == 0, done.stderr
    files = [pathlib.Path(name) for name in done.stdout.split()]
    assert [files[0].parents[1], files[1].parents[2]] == [package, module]


def assert_refused(done, *words):
    assert done.returncode != 0 and "ImportError: the compiled module" in done.stderr, done.stderr
    for word in ("built from other sources", *words):
        assert word in done.stderr, done.stderr


@needs_both
def test_a_checkout_built_in_place_runs_until_a_source_changes(checkout):
    put_module(checkout)
    with (checkout / "fastrnn/layers.py").open("a") as file:
        file.write("\nTHIS_IS_NO_SOURCE_OF_THE_MODULE = True\n")
    assert_runs(run_from(checkout), checkout, checkout)
    with (checkout / "csrc/kernels/lstm.h").open("a") as file:
        file.write("/* another cell */\n")
    assert_refused(run_from(checkout), "python setup.py build_ext --inplace", str(checkout))


@needs_both
def test_a_checkout_takes_an_installed_module_of_its_own_sources_alone(checkout, tmp_path):
    site = install(tmp_path / "site")
    assert_runs(run_from(checkout, site), checkout, site)
    with (checkout / "csrc/internal/cells.c").open("a") as file:
        file.write("/* another cell */\n")
    assert_refused(run_from(checkout, site), "pip install .", str(site), str(checkout))


@needs_both
def test_an_installed_package_refuses_a_module_that_is_not_its_own(tmp_path):
    site = install(tmp_path / "site")
    assert_runs(run_from(site), site, site)
    (site / "fastrnn/_engine/_build_id.py").write_text('BUILD_ID = "0123456789abcdef"\n')
    assert_refused(run_from(site), "pip install --force-reinstall fastrnn")


@needs_both
def test_a_module_from_before_there_were_ids_is_refused(checkout):
    (checkout / "fastrnn/_engine/_core.py").write_text("def isa(): return 'avx2'\n")
    assert_refused(run_from(checkout))


@needs_both
def test_the_reference_runs_beside_a_module_of_another_build(checkout):
    (checkout / "fastrnn/_engine/_core.py").write_text("def isa(): return 'avx2'\n")
    code = "import numpy as np; fastrnn.GRU(3, 4)(np.ones((2, 1, 3), np.float32))\n"
    done = run_from(checkout, code=code, FASTRNN_BACKEND="reference")
    assert done.returncode == 0 and done.stdout.split()[-1] == "None", done.stderr
    assert "RuntimeWarning: the compiled module" in done.stderr


# ---- the compiler --------------------------------------------------------------------------------

LLVM = r"C:\Program Files\LLVM\bin"
STUDIO = r"C:\VS\VC\Tools"


@pytest.fixture
def compilers():
    path = ROOT / "csrc" / "compilers.py"
    if not path.exists():
        pytest.skip("needs the sources")
    return types.SimpleNamespace(**runpy.run_path(str(path)))


def clang_cl_in(*folders):
    """A shutil.which() of a machine that has clang-cl in these folders alone."""

    def find(name, path=None):
        if path is None:
            return name
        return next((f"{at}\\{name}.exe" for at in path.split(";") if at in folders), None)

    return find


def test_gcc_and_clang_build_the_kernels(compilers):
    assert compilers.no_kernels_by("unix") is None
    assert "-ffp-contract=off" in compilers.FLAGS and "-std=gnu11" in compilers.FLAGS


def test_clang_cl_builds_the_kernels_by_its_own_spelling_of_the_same_flags(compilers):
    assert compilers.no_kernels_by("msvc", "win-amd64", rf"{LLVM}\clang-cl.exe") is None
    assert compilers.no_kernels_by("msvc", "win-arm64", rf"{LLVM}\clang-cl.exe") is None
    flags = compilers.CLANG_CL_FLAGS
    same = {flag.removeprefix("/clang:") for flag in flags if flag.startswith("/clang:")}
    assert same == {"-std=gnu11", "-O3", "-ffp-contract=off"} <= set(compilers.FLAGS)


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize("users", ["-ffast-math", "-Ofast", "-funsafe-math-optimizations"])
def test_fast_math_among_a_users_flags_has_no_effect(compilers, users, name, tmp_path):
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")

    source = tmp_path / "mean.c"
    source.write_text(
        "float mean(float *a) { float s = 0; for (int i = 0; i < 64; i++) s += a[i] / a[64]; "
        "return s == s ? s : 0; }"
    )

    def output(*flags):
        line = [name, "-fPIC", "-o", "-", *flags, str(source)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        return done.stderr if "-###" in flags else done.stdout

    assert output("-S", "-O3", users) != output("-S", "-O3")
    assert output("-S", users, *compilers.FLAGS) == output("-S", *compilers.FLAGS)
    assert "crtfastmath" not in output("-###", "-shared", users, *compilers.STRICT_FLAGS)


def test_microsofts_compiler_is_refused_with_a_hint_before_anything_is_compiled(compilers):
    assert "install LLVM" in compilers.no_kernels_by("msvc", "win-amd64", None)


def test_other_compilers_and_systems_are_refused(compilers):
    assert "use clang-cl" in compilers.no_kernels_by("mingw32", "win-amd64", None)
    assert "no kernels for win32" in compilers.no_kernels_by("msvc", "win32", "clang-cl.exe")


@pytest.mark.parametrize(
    ("environ", "cl", "has", "found"),
    [
        pytest.param({"PATH": r"C:\a;C:\b"}, None, r"C:\b", r"C:\b\clang-cl.exe", id="path"),
        pytest.param(
            {"PATH": "", "ProgramFiles": r"C:\Program Files"},
            None, LLVM, rf"{LLVM}\clang-cl.exe", id="llvm",
        ),
        pytest.param(
            {}, rf"{STUDIO}\MSVC\14.44\bin\Hostx64\x64\cl.exe",
            rf"{STUDIO}\Llvm\x64\bin", rf"{STUDIO}\Llvm\x64\bin\clang-cl.exe", id="studio",
        ),
        pytest.param(
            {}, rf"{STUDIO}\MSVC\14.44\bin\Hostarm64\arm64\cl.exe",
            rf"{STUDIO}\Llvm\ARM64\bin", rf"{STUDIO}\Llvm\ARM64\bin\clang-cl.exe", id="arm64",
        ),
        pytest.param({"CC": r"D:\clang-cl.exe"}, None, LLVM, r"D:\clang-cl.exe", id="by CC"),
        pytest.param({"PATH": r"C:\a", "CC": "cl"}, r"C:\cl.exe", LLVM, None, id="nowhere"),
    ],
)  # fmt: skip
def test_clang_cl_is_found(compilers, environ, cl, has, found):
    assert compilers.find_clang_cl(cl, environ, clang_cl_in(has)) == found


@pytest.fixture
def prepare(compilers, monkeypatch):
    """Prepares a faked compiler of Microsoft's as setup.py does; returns it and the extension."""
    setuptools = pytest.importorskip("setuptools")
    pytest.importorskip("Cython.Build")
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path("setup.py")

    def run(**environ):
        for name in ("CC", "PATH", "ProgramFiles"):
            monkeypatch.setenv(name, environ.get(name, ""))
        command = given["cmdclass"]["build_ext"](setuptools.Distribution())
        command.plat_name, command.inplace = "win-amd64", False
        command.compiler = types.SimpleNamespace(
            compiler_type="msvc", initialized=True, cc="cl.exe",
            compile_options=["/nologo", "/GL"], compile_options_debug=["/Od"],
        )  # fmt: skip
        command.prepare_compiler(given["ext_modules"][0])
        return command.compiler, given["ext_modules"][0]

    return run


@pytest.mark.posix
def test_setup_compiles_by_clang_cl_on_windows(prepare, tmp_path):
    clang_cl = tmp_path / "clang-cl"
    clang_cl.write_text("")
    clang_cl.chmod(0o700)
    compiler, extension = prepare(PATH=str(tmp_path))
    assert compiler.cc == str(clang_cl) and compiler.compile_options == ["/nologo"]
    assert "--target=x86_64-pc-windows-msvc" in extension.extra_compile_args
    assert not any(flag.startswith("-f") for flag in extension.extra_compile_args)


def test_setup_gives_up_at_once_without_clang_cl(prepare):
    from setuptools.errors import CompileError

    with pytest.raises(CompileError, match="install LLVM"):
        prepare()


def test_a_developers_build_keeps_the_names_of_functions(compilers):
    assert compilers.strips("linux", in_place=False, own_flags=[])
    assert not compilers.strips("linux", in_place=True, own_flags=[])
    assert not compilers.strips("linux", in_place=False, own_flags=["-fsanitize=address"])
    assert not compilers.strips("darwin", in_place=False, own_flags=[])


# ---- the version ---------------------------------------------------------------------------------


def test_the_command_line_tells_the_version():
    done = run_python("import fastrnn.__main__ as m; m.main(['--version'])")
    assert done.stdout == f"fastrnn {fastrnn.__version__}\n", done.stderr


@pytest.mark.skipif(not (ROOT / "fastrnn").exists(), reason="needs the sources")
def test_the_version_is_said_once():
    said = [path for path in ROOT.glob("fastrnn/**/*.py") if "__version__ =" in path.read_text()]
    assert [path.name for path in said] == ["_version.py"]
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
