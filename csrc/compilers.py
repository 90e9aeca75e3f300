"""The flags of each compiler. setup.py compiles with them, tests and cross.sh read them.

It must not import anything but the standard library: tests run it without setuptools.
"""

import os
import shutil
from pathlib import PureWindowsPath

# Some users have -ffast-math or -Ofast in CFLAGS, which setuptools gives to compiler and linker.
# The compiler would then estimate divisions, and the linker add a start file that flushes subnormal
# numbers in the whole process. The last flag counts, and these come last.
STRICT_FLAGS = ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations"]

# -ffp-contract=off: a multiply-add is fused where the kernels say so and nowhere else, so that
# results do not depend on the compiler. Without unwind tables, which C does not need, the module is
# 3% smaller.
FLAGS = [
    "-std=gnu11", *STRICT_FLAGS, "-g0", "-ffp-contract=off", "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
]  # fmt: skip

# clang-cl takes the options of Microsoft's compiler, and clang's own after /clang:. Functions are
# hidden on Windows anyway; its exceptions need the unwind tables. /GS-: functions with an array do
# not check the stack; other systems' compilers do not do so either.
CLANG_CL_FLAGS = ["/clang:-std=gnu11", "/clang:-O3", "/clang:-ffp-contract=off", "/GS-"]
CLANG_CL_TARGETS = {
    "win-amd64": "--target=x86_64-pc-windows-msvc",
    "win-arm64": "--target=aarch64-pc-windows-msvc",
}


def no_kernels_by(kind, system="", clang_cl=None):
    """Why this compiler cannot build the kernels, or None.

    `kind` is the compiler's type in setuptools: "unix", "msvc", "mingw32". `system`: on Windows the
    system that it compiles for, as in `CLANG_CL_TARGETS`. `clang_cl`: its path, or None.
    """
    if kind == "msvc" and system not in CLANG_CL_TARGETS:
        return f"there are no kernels for {system}, only for {' and '.join(CLANG_CL_TARGETS)}"
    if kind == "msvc" and clang_cl is None:
        return (
            "Microsoft's compiler has no vector types, which the kernels are written in: install "
            "LLVM or Visual Studio's component 'C++ Clang tools for Windows', so that clang-cl is "
            "found, or set CC to its path"
        )
    if kind not in ("unix", "msvc"):
        return f"the kernels are not tested with setuptools' compiler {kind!r}: use clang-cl"
    return None


def find_clang_cl(cl=None, environ=os.environ, find=shutil.which):
    """The path of clang-cl: by CC, on the PATH, where LLVM installs itself, or beside Microsoft's
    compiler `cl`; None if there is none.
    """
    own = environ.get("CC", "")
    if "clang-cl" in PureWindowsPath(own).name:
        return find(own)
    places = [environ.get("PATH", "")]
    if "ProgramFiles" in environ:
        places.append(str(PureWindowsPath(environ["ProgramFiles"], "LLVM", "bin")))
    parents = PureWindowsPath(cl or "").parents  # VC/Tools/MSVC/14.44/bin/Hostx64/x64
    tools = next((parent for parent in parents if parent.name.lower() == "tools"), None)
    if tools:
        arm = parents[0].name.lower() == "arm64"
        places.append(str(tools / "Llvm" / ("ARM64" if arm else "x64") / "bin"))
    found = (find("clang-cl", path=place) for place in places)
    return next(filter(None, found), None)


def strips(platform, in_place, own_flags):
    """Whether the linker leaves out the names of static functions, 5% of a wheel. A developer's
    build has them, for profilers and sanitizers.
    """
    return platform.startswith("linux") and not in_place and not own_flags
