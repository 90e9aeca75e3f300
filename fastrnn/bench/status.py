"""The status of a run, on stderr: on a terminal one line that changes, elsewhere a line per job.

It does not use train/progress.py, which leaves most steps of a long run out of a log: the bench's
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
    """Print lines that remain; on a terminal they replace the status line."""
    _write(f"{WIPE if sys.stderr.isatty() else ''}{text}\n")


def begin(counter: str, job: str):
    """On a terminal, show the job that is running, cut to one line that can be wiped."""
    if sys.stderr.isatty():
        _write(WIPE + f"{counter} {job}"[: shutil.get_terminal_size().columns - 1])


def end(counter: str, job: str, times: str):
    """In a log, print the job that is done, with its times; on a terminal the table has them."""
    if not sys.stderr.isatty():
        _write(f"{counter} {job}: {times}\n")


def close():
    if sys.stderr.isatty():
        _write(WIPE)
