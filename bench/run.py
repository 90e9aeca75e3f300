"""The benchmark from a checkout: `python bench/run.py [options]` is `python -m fastrnn bench`.

Where no fastrnn is installed, the one built in place is timed.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from fastrnn.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
