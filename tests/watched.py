"""Runs what may hang: in a Python of its own, under a watchdog that dumps every thread's stack."""

import pathlib

from problems import run_python

WATCHED = """
import faulthandler, sys
faulthandler.dump_traceback_later({seconds}, exit=True)
sys.path.insert(0, {tests!r})
{code}
faulthandler.cancel_dump_traceback_later()
"""


def run_watched(code, seconds=60):
    """Asserts that code, which may import the tests' modules, ends in time and without an error."""
    tests = str(pathlib.Path(__file__).parent)
    done = run_python(WATCHED.format(seconds=seconds, tests=tests, code=code), timeout=2 * seconds)
    assert done.returncode == 0, done.stderr
