"""Pools of processes, one for each start method, for all tests of a session.

The fixture `processes` (conftest.py) runs a test once per start method. The function that the
processes call must be at the top level of a module that they can import.
"""

import contextlib
import multiprocessing
import warnings

START_METHODS = multiprocessing.get_all_start_methods()

_SECONDS = 100  # a process that takes longer counts as hanging


class Processes:
    """Two processes of one start method."""

    def __init__(self, method):
        self.method = method
        self._pool = multiprocessing.get_context(method).Pool(2)

    def map(self, function, values):
        """[function(value), ...], computed in these processes."""
        return self._pool.map_async(function, values, chunksize=1).get(_SECONDS)

    def close(self):
        self._pool.terminate()
        self._pool.join()


@contextlib.contextmanager
def every_start_method():
    """{start method: its processes}; the processes end with the block."""
    with contextlib.ExitStack() as stack:
        pools = {}
        for method in START_METHODS:  # "fork" is first, before threads of other pools run
            with warnings.catch_warnings():
                # Python warns of a fork beside threads, but users do it all the same.
                warnings.filterwarnings("ignore", "This process.*fork", DeprecationWarning)
                pools[method] = stack.enter_context(contextlib.closing(Processes(method)))
        yield pools
