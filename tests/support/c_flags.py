"""How setup.py compiles C: the tests of the compiled code and of other compilers do the same.

tests/c/cross.sh reads the flags from the output of `python tests/support/c_flags.py`.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def c_flags():
    """The flags of setup.py, all warnings as errors, and where the headers are, seen from ROOT."""
    text = re.search(r"^flags = (\[.*?\])", (ROOT / "setup.py").read_text(), re.M | re.S)
    return [*ast.literal_eval(text[1]), *WARNINGS, "-Icsrc"]


if __name__ == "__main__":
    print(*c_flags())
