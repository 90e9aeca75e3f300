"""The benchmark from a checkout: `python bench/run.py [options]` is `python -m fastrnn bench`.

It times this checkout's fastrnn, with the kernels built in place or else the installed ones.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from fastrnn.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
