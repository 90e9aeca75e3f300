"""Builds the one extension module; without a C compiler the package installs on NumPy alone."""

import os
import sysconfig
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

# -ffp-contract=off: a multiply-add is fused where the kernels say so and nowhere else, so that
# results do not depend on the compiler. FASTRNN_CFLAGS adds flags of a developer's own (a
# sanitizer, say).
flags = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden"]
own = os.environ.get("FASTRNN_CFLAGS", "").split()

platform = sysconfig.get_platform()
if platform.endswith(("x86_64", "amd64")):
    isas = ["generic", "avx2", "avx512"]
elif platform.endswith(("aarch64", "arm64")):
    isas = ["generic", "neon"]
else:
    isas = ["generic"]
stubs = [f"csrc/isa/{isa}_f{bits}.c" for isa in isas for bits in (32, 64)]

core = Extension(
    "fastrnn._core",
    sources=["fastrnn/_core.pyx", *sorted(glob("csrc/*.c")), *stubs],
    depends=glob("csrc/*.h") + glob("csrc/kernels/*.h") + glob("fastrnn/*.pxi"),
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=flags + own,
    extra_link_args=own,
)

modules = cythonize([core], language_level=3, build_dir="build")
for module in modules:
    module.optional = True  # cythonize forgets it

setup(ext_modules=modules)
