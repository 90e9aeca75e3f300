"""Fixtures: instruction sets, backends, and the state of the process after a test.

Without the kernels (no C compiler) the tests of the kernels are skipped, all others run on the
reference. FASTRNN_ISA chooses the set for the suite; tests with @every_isa still run on every set.
"""

import contextlib
import os
import sys
import warnings

# This comes before NumPy is imported. On the small matrices of tests the threads of its BLAS only
# wait for one another, up to nine tenths of the time if other processes run too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from processes import START_METHODS, every_start_method

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # test_runtime.py tests this warning
    from strangers import Target

    import fastrnn
    from fastrnn._engine import runtime

_XDIST = "PYTEST_XDIST_WORKER" in os.environ

# Names in the code of a test that pytest-run-parallel must run in one thread, and such fixtures.
_OF_THE_PROCESS = {"signal", "fork", "tracemalloc", "settrace", "setprofile"}
_FIXTURES_OF_THE_PROCESS = {"keep_threads", "hurried", "no_buffers", "processes", "tmp_path"}


def pytest_report_header():
    """A line about the kernels under test."""
    core = runtime.core
    return [
        f"fastrnn {fastrnn.__version__}: {core.__file__ if core else 'no kernels'}",
        f"backend {'core' if runtime.uses_core() else 'reference'}, "
        f"instruction set {core.isa() if core else 'none'}, threads {fastrnn.get_num_threads()}",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark tests with @every_isa as `any_isa`, tests of the reference as `no_kernels`."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if "isa" in parameters:
            item.add_marker("any_isa")
        if parameters.get("backend") == "reference":
            item.add_marker("no_kernels")
        if item.get_closest_marker("posix") and os.name != "posix":
            item.add_marker(pytest.mark.skip(reason="needs forks, timers or file modes of POSIX"))
        if item.get_closest_marker("alone"):
            item.fixturenames.insert(0, "_alone")
        _mark_for_one_thread(item, parameters)
    items.sort(key=lambda item: "_alone" in item.fixturenames)


def _mark_for_one_thread(item, parameters):
    """Tell pytest-run-parallel, with the reason, if several threads may not run a test at once."""
    reason = None
    if parameters.get("backend") == "reference":
        reason = "the fixture chooses the backend for its own thread"
    elif _OF_THE_PROCESS & {*item.function.__code__.co_names}:
        reason = "signals, forks and the like are the process' own"
    elif _FIXTURES_OF_THE_PROCESS & {*item.fixturenames}:
        reason = "the fixture is for one thread"
    if reason is not None:
        item.add_marker(pytest.mark.thread_unsafe(reason=reason))


@pytest.fixture
def isa(request):
    """The instruction set that the test names by @every_isa."""
    before = runtime.core.isa()
    runtime.select_isa(request.param)
    yield request.param
    runtime.select_isa(before)


@pytest.fixture
def backend(request):
    """The backend that the test names by @every_backend."""
    with fastrnn.backend(request.param):
        yield request.param


@pytest.fixture
def core():
    """The kernels, whatever FASTRNN_BACKEND says."""
    if runtime.core is None:
        pytest.skip("this build has no kernels")
    with fastrnn.backend("core"):
        yield runtime.core


@pytest.fixture
def _alone(tmp_path_factory):
    """The processes of pytest -n take turns here."""
    folder = tmp_path_factory.getbasetemp()
    with open((folder.parent if _XDIST else folder) / "alone", "w") as lock:
        with contextlib.suppress(ImportError):  # on Windows tests are not run side by side
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def _pools():
    with fastrnn.threads(2):  # the fork happens while there is a worker thread
        fastrnn.GRU(20, 96, rng=0)(np.ones((40, 12, 20), np.float32))
    with every_start_method() as pools:
        yield pools


@pytest.fixture(params=START_METHODS)
def processes(request, _pools):
    """Processes of every start method in turn: `processes.map(function, values)`."""
    return _pools[request.param]


@pytest.fixture
def keep_threads():
    """Restore the number of threads after the test."""
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)


@pytest.fixture
def hurried():
    """Let Python's threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def npz(tmp_path):
    """Parts that a file of that format is loaded into."""
    return Target(tmp_path / "theirs.npz")


@pytest.fixture
def tensors(tmp_path):
    """Parts that a file of that format is loaded into."""
    return Target(tmp_path / "theirs.safetensors")
