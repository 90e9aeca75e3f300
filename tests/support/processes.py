"""Pools of processes, one for each way to start them, for the whole session.

A test asks for the fixture `processes` (conftest.py), which runs it once per start method. The
function that the processes call must stand at the top of a module that they can import.
"""

import contextlib
import multiprocessing
import warnings

START_METHODS = multiprocessing.get_all_start_methods()

_SECONDS = 100  # a process that takes longer hangs


class Processes:
    """Two processes that were started in one way."""

    def __init__(self, method):
        self.method = method
        self._pool = multiprocessing.get_context(method).Pool(2)

    def map(self, function, values):
        """[function(value), ...], as these processes compute them."""
        return self._pool.map_async(function, values, chunksize=1).get(_SECONDS)

    def close(self):
        self._pool.terminate()
        self._pool.join()


@contextlib.contextmanager
def every_start_method():
    """{start method: its processes}, which end with the block."""
    with contextlib.ExitStack() as stack:
        pools = {}
        for method in START_METHODS:  # "fork" is first: no other pool's threads run as yet
            with warnings.catch_warnings():
                # Python dislikes a fork beside threads, which a user does all the same.
                warnings.filterwarnings("ignore", "This process.*fork", DeprecationWarning)
                pools[method] = stack.enter_context(contextlib.closing(Processes(method)))
        yield pools
