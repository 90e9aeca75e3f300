"""Fixtures: the instruction sets and backends that a test runs on, and how it leaves the process.

Without the kernels (no C compiler) the tests of the kernels are skipped, all others run on the
reference. FASTRNN_ISA chooses the set for the suite; tests that walk through the sets still do.
"""

import os
import warnings

import pytest

# Before NumPy is loaded: where other work keeps the cores busy, BLAS threads wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
    with fastrnn.threads(fastrnn.get_num_threads()):
        yield
