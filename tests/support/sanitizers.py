"""Whether the kernels of this run have sanitizers, and how long calls take then.

It must not know: tests.
"""

import os

SANITIZED = bool(os.environ.get("FASTRNN_SANITIZED"))
SLOWER = 10 if SANITIZED else 1  # tests that fill a time with calls make so many times fewer
