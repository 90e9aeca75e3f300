"""Failing allocations: MemoryError or the right result, and nothing half-changed.

failing_allocations.py is the program that runs, c/failing_malloc.c makes allocations fail.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
from problems import BACKENDS, run_python
from sanitizers import SANITIZED

from fastrnn._engine import runtime

TESTS = pathlib.Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels"),
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library as Linux does"),
    pytest.mark.skipif(SANITIZED, reason="their malloc is their own"),
]  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The path of the library to preload."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("a free-threaded Python has no allocator but its own")
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("failing") / "failing_malloc.so"
    command = [compiler, "-shared", "-fPIC", "-O1", TESTS / "c/failing_malloc.c", "-o", library]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the GNU C library: {done.stderr[-300:]}")
    return str(library)


def fail(library, *operations, but=(), malloc="pymalloc", **environment):
    """Run operations, by default all `but` some -> what the program printed.

    malloc : Python's allocator. With "malloc" allocations of Python itself may fail too.
    """
    code = (
        f"import sys; sys.path[:0] = {[str(TESTS / name) for name in ('engine', 'support')]}; "
        "import failing_allocations; "
        f"failing_allocations.main({list(operations)!r}, {list(but)!r})"
    )
    environment |= {"LD_PRELOAD": library, "PYTHONMALLOC": malloc}
    done = run_python(code, "-X", "faulthandler", timeout=300, **environment)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def test_the_compiled_module_has_no_list_comprehensions():
    """Cython 3.3.1's release an object twice if memory ends while the list grows."""
    folder = pathlib.Path(runtime.__file__).parent
    if not (folder / "_core.pyx").exists():
        pytest.skip("needs the sources")
    for path in folder.glob("_*.px[iy]"):
        for made in re.findall(r"\[(.*?) for (\w+)", path.read_text()):
            assert re.fullmatch(r"\w+", made[0]), f"{path.name}: [{made[0]} for {made[1]}"


def test_an_allocation_that_fails_is_a_memory_error_and_spoils_nothing(library):
    some = "training", "training, more threads", "training, ragged", "ids, a stream", "load", "step"
    said = fail(library, *some, FASTRNN_NUM_THREADS="2")
    assert said.count("MemoryError") >= len(some) - 1


def test_an_allocation_of_a_frozen_call_that_fails_spoils_nothing(library):
    said = fail(library, "freeze", "a frozen layer", malloc="malloc", FASTRNN_NUM_THREADS="1")
    assert said.count("MemoryError") == 2


@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="CPython itself crashes where it has no memory for a function object",
)
def test_a_stream_of_the_reference_is_not_left_between_two_steps(library):
    fail(library, "step", "a state", malloc="malloc", FASTRNN_BACKEND="reference")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("malloc", ["pymalloc", "malloc"])
def test_every_allocation_of_every_operation(library, malloc, threads):
    # A file is read by no kernel, and has more allocations than all others: once is enough.
    but = [] if threads == "1" else ["a file"]
    fail(library, but=but, malloc=malloc, FASTRNN_NUM_THREADS=threads)
