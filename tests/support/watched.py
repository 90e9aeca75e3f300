"""Runs code that may hang in a new process, under a watchdog that dumps every thread's stack."""

import pathlib

from problems import run_python

WATCHED = """
import faulthandler, sys
faulthandler.dump_traceback_later({seconds}, exit=True)
sys.path[:0] = {folders}
{code}
faulthandler.cancel_dump_traceback_later()
"""


def run_watched(code, seconds=60):
    """Assert that code ends in time and without an error. It may import the tests' modules."""
    folders = [str(path) for path in pathlib.Path(__file__).parents[1].iterdir() if path.is_dir()]
    watched = WATCHED.format(seconds=seconds, folders=folders, code=code)
    done = run_python(watched, timeout=2 * seconds)
    assert done.returncode == 0, done.stderr
