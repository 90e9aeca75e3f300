"""How far a run is, on stderr: on a terminal one line written anew, elsewhere a line per job.

Not the progress of a training: that one leaves most steps of a long run out of a log, and a bench's
log has every job's times.
"""

from __future__ import annotations

import shutil
import sys

WIPE = "\r\x1b[K"


def _write(text: str):
    sys.stderr.write(text)
    sys.stderr.flush()


def say(text: str):
    """Lines that stay; on a terminal the line that does not gives way to them."""
    _write(f"{WIPE if sys.stderr.isatty() else ''}{text}\n")


def begin(counter: str, job: str):
    """On a terminal, the job that is now running, cut to a line that can be wiped."""
    if sys.stderr.isatty():
        _write(WIPE + f"{counter} {job}"[: shutil.get_terminal_size().columns - 1])


def end(counter: str, job: str, times: str):
    """In a log, the job that is done, with its times; a terminal gets them in the table."""
    if not sys.stderr.isatty():
        _write(f"{counter} {job}: {times}\n")


def close():
    if sys.stderr.isatty():
        _write(WIPE)
