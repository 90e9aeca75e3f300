"""How setup.py compiles C: the tests of the compiled code and of other compilers do the same.

tests/c/cross.sh reads the flags from the output of `python tests/support/c_flags.py`.
"""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def c_flags():
    """The flags of setup.py, all warnings as errors, and where the headers are, seen from ROOT."""
    flags = runpy.run_path(str(ROOT / "csrc" / "compilers.py"))["FLAGS"]
    return [*flags, *WARNINGS, "-Icsrc"]


if __name__ == "__main__":
    print(*c_flags())
