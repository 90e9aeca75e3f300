"""Fixtures: the instruction sets and backends that a test runs on, and how it leaves the process.

Without the kernels (no C compiler) the tests of the kernels are skipped, all others run on the
reference. FASTRNN_ISA chooses the set for the suite; tests that walk through the sets still do.
"""

import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

# Before NumPy is there: on the small matrices of tests the threads of its BLAS only wait for one
# another, for up to nine tenths of the time where other processes run beside.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from processes import START_METHODS, every_start_method

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # no kernels: tests/test_runtime.py checks it
    from strangers import Target

    import fastrnn
    from fastrnn import runtime


def pytest_report_header():
    """Which kernels the tests meet."""
    core = runtime.core
    return [
        f"fastrnn {fastrnn.__version__}: {core.__file__ if core else 'no kernels'}",
        f"backend {'core' if runtime.uses_core() else 'reference'}, "
        f"instruction set {core.isa() if core else 'none'}, threads {fastrnn.get_num_threads()}",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A test that names its instruction set is `any_isa`, one of the reference `no_kernels`."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if "isa" in parameters:
            item.add_marker("any_isa")
        if parameters.get("backend") == "reference":
            item.add_marker("no_kernels")
    items.sort(key=lambda item: "verdict" in item.fixturenames)  # last: see _verdicts


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


@pytest.fixture(scope="session", autouse=True)
def _verdicts(request, tmp_path_factory):
    """What test_codegen.py judges is compiled beside the other tests: compilers take long."""
    items = [item for item in request.session.items if "verdict" in item.fixturenames]
    folder = tmp_path_factory.mktemp("codegen")
    with ThreadPoolExecutor(2) as pool:
        yield {
            item.name: pool.submit(item.module.judge, folder=folder, **item.callspec.params)
            for item in items
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def verdict(request, _verdicts):
    """What test_codegen.py's `judge` says of the test's parameters."""
    return _verdicts[request.node.name].result()


@pytest.fixture(scope="session")
def _pools():
    with fastrnn.threads(2):  # the fork happens beside a worker, as in a program that forks late
        fastrnn.GRU(20, 96, rng=0)(np.ones((40, 12, 20), np.float32))
    with every_start_method() as pools:
        yield pools


@pytest.fixture(params=START_METHODS)
def processes(request, _pools):
    """Processes of every start method in turn: `processes.map(function, values)`."""
    return _pools[request.param]


@pytest.fixture
def keep_threads():
    """The number of threads is afterwards what it was."""
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)


@pytest.fixture
def hurried():
    """Python's threads take turns as often as they can."""
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
