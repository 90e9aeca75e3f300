"""Builds the one extension module; without a C compiler the package installs on NumPy alone.

FASTRNN_REQUIRE_KERNELS=1 makes a compilation that fails an error of the installation.
"""

import os
import runpy
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from types import SimpleNamespace

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

compilers = SimpleNamespace(**runpy.run_path("csrc/compilers.py"))

# FASTRNN_CFLAGS adds flags of a developer's own (a sanitizer, say).
own_flags = os.environ.get("FASTRNN_CFLAGS", "").split()

# The stub of an instruction set that the target does not have is empty there.
units = sorted(glob("csrc/*/*.c"))

# Whatever a module may be built from on any machine: a source distribution has it all.
sources = glob("csrc/**/*.[ch]", recursive=True) + glob("fastrnn/_engine/*.px[di]")
sources += ["fastrnn/kernels.pxd"]

core = Extension(
    "fastrnn._engine._core",
    sources=["fastrnn/_engine/_core.pyx", *units],
    depends=sorted(sources),
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    optional=os.environ.get("FASTRNN_REQUIRE_KERNELS", "0") in ("", "0"),
)

build_id = runpy.run_path("fastrnn/_engine/_build.py")["of_sources"](Path.cwd())


def at_once(compile):
    """The method `compile` of a compiler, for several sources at a time; some take ten seconds."""

    def compile_all(sources, **options):
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            names = pool.map(lambda source: compile([source], **options), sources)
            return [name for of_one in names for name in of_one]

    return compile_all


class BuildExt(build_ext):
    """Compiles the build id too, in a file of its own: a new id alone compiles nothing else."""

    def prepare_compiler(self, ext):
        """Set the flags; on Windows let clang-cl take the place of Microsoft's compiler.

        If the compiler cannot build the kernels, CompileError says so before anything is compiled.
        """
        kind, clang_cl, flags = self.compiler.compiler_type, None, compilers.FLAGS
        if kind == "msvc":
            if not self.compiler.initialized:
                self.compiler.initialize()
            clang_cl = compilers.find_clang_cl(self.compiler.cc)
        fault = compilers.no_kernels_by(kind, self.plat_name, clang_cl)
        if fault:
            raise CompileError(fault)
        if clang_cl:
            flags = [*compilers.CLANG_CL_FLAGS, compilers.CLANG_CL_TARGETS[self.plat_name]]
            self.compiler.cc = clang_cl
            for options in (self.compiler.compile_options, self.compiler.compile_options_debug):
                options[:] = [option for option in options if option != "/GL"]  # Microsoft's own
        ext.extra_compile_args = flags + own_flags
        ext.extra_link_args = [*own_flags] if kind == "msvc" else compilers.STRICT_FLAGS + own_flags
        if compilers.strips(sys.platform, self.inplace, own_flags):
            ext.extra_link_args.append("-Wl,--strip-all")

    def build_extension(self, ext):
        self.prepare_compiler(ext)
        unit = Path(self.build_temp, "build_id.c")
        text = f'const char frnn_build_id[] = "{build_id}";\n'
        stale = not unit.exists() or unit.read_text() != text
        if stale:  # were the compilation to fail, a module of other sources would be taken
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        (made,) = cythonize([ext], language_level=3, build_dir="build", force=stale or None)
        if stale:
            unit.parent.mkdir(parents=True, exist_ok=True)
            unit.write_text(text)
        ext.sources = [*made.sources, str(unit)]
        self.compiler.compile = at_once(self.compiler.compile)
        super().build_extension(ext)
        if not Path(self.get_ext_fullpath(ext.name)).exists():
            raise CompileError("the compiler reported no error and made no module: look at CC")


class BuildPy(build_py):
    """Writes build id and header into the package. An editable installation has its checkout's."""

    def run(self):
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib, "fastrnn")
            (package / "_engine" / "_build_id.py").write_text(f'BUILD_ID = "{build_id}"\n')
            (package / "include").mkdir(exist_ok=True)
            shutil.copyfile("csrc/fastrnn.h", package / "include" / "fastrnn.h")


setup(ext_modules=[core], cmdclass={"build_ext": BuildExt, "build_py": BuildPy})
