"""Fixtures: the instruction sets and backends that a test runs on, and how it leaves the process.

Without the kernels (no C compiler) the tests of the kernels are skipped, all others run on the
reference. FASTRNN_ISA chooses the set for the suite; tests that walk through the sets still do.
"""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # no kernels: tests/test_runtime.py checks it
    import fastrnn
    from fastrnn import runtime


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
def keep_threads():
    """The number of threads is afterwards what it was."""
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)
