"""Which backend runs, on which instruction set, with how many threads; workspaces.

Environment, read at import: FASTRNN_BACKEND (core or reference), FASTRNN_ISA (a name that
`show_config` lists), FASTRNN_NUM_THREADS.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
import re
import sys
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn import _version, checks
from fastrnn._engine import _build, installed_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, SupportsIndex

    from fastrnn._typing import Backend


def _compiled_module():
    """The compiled module, or None where there is none; ImportError where it is of another build.

    Where the environment asks for the reference, a module of another build is left alone.
    """
    try:
        module = importlib.import_module("fastrnn._engine._core")
    except ImportError as error:
        warnings.warn(
            f"fastrnn runs on its NumPy path, which is many times slower: its kernels are not "
            f"there ({error}). Install a C compiler, then reinstall: "
            "pip install --force-reinstall fastrnn",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    fault = _build.fault_of(module, installed_id)
    if fault is None:
        return module
    if os.environ.get("FASTRNN_BACKEND") != "reference":
        raise ImportError(fault, name="fastrnn._engine._core", path=module.__file__)
    warnings.warn(fault, RuntimeWarning, stacklevel=3)
    return None


core = _compiled_module()

_BACKENDS = ("core", "reference")

# The pool's limit.
_MOST_THREADS = core.most_threads if core else 256

# What is kept between calls, so that its pages are not faulted in again; a larger buffer is not.
_KEPT_BYTES = 256 * 2**20

# Workspaces that no call is using, the one used last at the end: as many as calls ran at once.
_workspaces = collections.deque(maxlen=16)
_NOTHING = np.empty(0, np.uint8)

# Buffers for tapes, as many bytes of them as are kept: those that tapes have, by the id of what
# refers to the tape; what referred to tapes that are gone; and buffers that serve the next ones.
# Below so many bytes a fresh one costs nothing.
_lent = {}
_returned = collections.deque()
_spare = collections.deque()
_FRESH_BYTES = 128 * 1024


class _Loan(weakref.ref):
    """Refers to a tape, and keeps its buffer."""

    __slots__ = ("buffer",)


class _Local(threading.local):
    """What each thread has for itself."""

    backend = None
    threads = None


_local = _Local()


def _from_environment(name, parse, default):
    text = os.environ.get(name, "")
    if text == "":
        return default
    try:
        return parse(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"environment variable {name}={text!r}: {error}") from None


def _existing_backend(name):
    checks.choice("name", name, _BACKENDS)
    if name == "core" and core is None:
        raise ValueError('backend "core" is not there: this build has no kernels, only "reference"')
    return name


_default_backend = _from_environment(
    "FASTRNN_BACKEND", _existing_backend, "core" if core else "reference"
)


@contextlib.contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Run what stands in this `with` block, in this thread, on one backend.

    Parameters
    ----------
    name : {"core", "reference"}
        The C kernels or the NumPy path.

    Raises
    ------
    ValueError
        If there is no such backend here.
    """
    name = _existing_backend(name)
    before, _local.backend = _local.backend, name
    try:
        yield
    finally:
        _local.backend = before


def uses_core():
    """Whether calls of this thread go to the C kernels."""
    return (_local.backend or _default_backend) == "core"


def select_isa(name):
    """Choose the kernels' instruction set for the whole process, as FASTRNN_ISA does at import.

    A pass of a layer that is running, and a stream that was made before, go on with theirs.

    Raises
    ------
    ValueError
        If this build or this machine has no such set; the message lists the possible ones.
    """
    available = core.isas_available() if core else []
    if name not in available or not core.select_isa(name):
        raise ValueError(f"no instruction set {name!r} here: possible are {', '.join(available)}")


if core:
    _from_environment("FASTRNN_ISA", select_isa, None)


def _available_cores():
    """Cores this process may use: its affinity, and the quota of its control group."""
    by_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(os.getpid())) if by_affinity else os.cpu_count()
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def _number_of_threads(n):
    n = checks.positive("n", n)
    if n > _MOST_THREADS:
        raise ValueError(f"n must be at most {_MOST_THREADS}, got {n}")
    return n


def set_num_threads(n: SupportsIndex) -> None:
    """Let each call use up to n threads, from now on and for every caller in the process.

    What stands in a `threads` block keeps the block's number.

    Parameters
    ----------
    n : int
        1 to 256. FASTRNN_NUM_THREADS sets it at import; without it, it is the number of cores
        that the process may use.

    Raises
    ------
    ValueError, TypeError
        If n is no integer from 1 to 256.
    """
    global _num_threads
    n = _number_of_threads(n)
    if core:
        core.set_num_threads(n)
    _num_threads = n


def get_num_threads() -> int:
    """How many threads a call of this thread may use."""
    return _local.threads or _num_threads


@contextlib.contextmanager
def threads(n: SupportsIndex) -> Iterator[None]:
    """Let each call that stands in this `with` block, in this thread, use up to n threads.

    Calls of other Python threads go by `set_num_threads`, or by a block of their own.

    Parameters
    ----------
    n : int
        1 to 256.

    Raises
    ------
    ValueError, TypeError
        If n is no integer from 1 to 256.

    Examples
    --------
    >>> with fastrnn.threads(1):
    ...     fastrnn.get_num_threads()
    1
    """
    n = _number_of_threads(n)
    before = _local.threads
    _use_threads_here(n)
    try:
        yield
    finally:
        _use_threads_here(before)


def _use_threads_here(n):
    """For this thread's calls; None: as many as for the process'."""
    if core:
        core.set_threads_here(n or 0)
    _local.threads = n


def _set_threads_from_text(text):
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(f"must be plain digits, at least 1 and at most {_MOST_THREADS}")
    set_num_threads(int(text))


_num_threads = 1
set_num_threads(min(_available_cores(), _MOST_THREADS))
_from_environment("FASTRNN_NUM_THREADS", _set_threads_from_text, None)


def in_workspace(call, *arguments):
    """call(*arguments, buffer), the buffer growing until the call no longer returns what it lacks.

    The buffer is this call's own meanwhile: others may run in other threads, or in the handler of
    a signal that comes in between.
    """
    try:
        buffer = _workspaces.pop()
    except IndexError:
        buffer = _NOTHING
    while lacking := call(*arguments, buffer):
        buffer = np.empty(lacking, np.uint8)
    if buffer.size <= _KEPT_BYTES:
        _workspaces.append(buffer)


def tape_buffer(nbytes):
    """A byte buffer for a tape; when nobody holds it any more it serves a later one.

    To hold it is to hold this very array: NumPy lets a view of it hold the memory behind alone.
    Training makes tapes of one size again and again, and a fresh one's pages are faulted in as it
    is written: up to a fifth of a training pass.
    """
    _take_back()
    buffer = None if nbytes < _FRESH_BYTES else _take_spare(nbytes)
    if buffer is None:
        buffer = np.empty(nbytes, np.uint8)
        if nbytes < _FRESH_BYTES or not _make_room(nbytes):
            return buffer
    tape = buffer[:nbytes]
    # The callback is no Python code: were a signal handled in it, its exception would be lost.
    loan = _Loan(tape, _returned.append)
    loan.buffer = buffer
    _lent[id(loan)] = loan
    return tape


class TapeContent(NamedTuple):
    """What the kernels wrote into a tape, wherever its buffer stood, for a copy or a pickle.

    made_by : what those kernels are, in words: version, build id and byte order.
    """

    content: np.ndarray
    made_by: str


def tape_content(tape):
    """The `TapeContent` of a kernels' tape; any other tape as it is."""
    if not isinstance(tape, np.ndarray):
        return tape
    begin = core.boundary(tape)
    return TapeContent(tape[begin : begin + tape.size - core.ALIGN], _writer())


def tape_with(content):
    """The tape with that content.

    Raises
    ------
    ValueError
        If it is the kernels' and there are none here, or others.
    """
    if not isinstance(content, TapeContent):
        return content
    if core is None or content.made_by != _writer():
        here = "none" if core is None else f"those of {_writer()}"
        raise ValueError(
            f"a tape made by the kernels of {content.made_by} cannot be read here, where there are "
            f"{here}: run forward again"
        )
    tape = tape_buffer(content.content.size + core.ALIGN)
    begin = core.boundary(tape)
    tape[begin : begin + content.content.size] = content.content
    return tape


def _writer():
    return f"fastrnn {_version.__version__}, build {core.build_id()[:8]}, {sys.byteorder}-endian"


def _take_back():
    """Make the buffers of tapes that are gone spare ones. Each step is safe from other threads."""
    while _returned:
        try:
            loan = _returned.popleft()
        except IndexError:
            return
        _lent.pop(id(loan), None)
        _spare.append(loan.buffer)


def _take_spare(nbytes):
    """One of the spare buffers that fits, else None."""
    for _ in range(len(_spare)):
        try:
            buffer = _spare.pop()
        except IndexError:
            return None
        if nbytes <= buffer.size <= 2 * nbytes:
            return buffer
        _spare.appendleft(buffer)
    return None


def _make_room(nbytes):
    """Whether so many bytes more may be kept; spare ones that nobody wanted go first."""
    lent = sum(loan.buffer.size for loan in list(_lent.values()))
    while _spare and lent + sum(b.size for b in list(_spare)) + nbytes > _KEPT_BYTES:
        _spare.popleft()
    return lent + nbytes <= _KEPT_BYTES


def show_config() -> dict[str, Any]:
    """Print version, backend, instruction sets, threads and platform; return them as a dict."""
    import platform  # here, for it takes two milliseconds

    config = {
        "fastrnn": _version.__version__,
        "backend": "core" if uses_core() else "reference",
        "isa": core.isa() if core else None,
        "isas available": core.isas_available() if core else [],
        "isas compiled in": core.isas_compiled() if core else [],
        "compiler": core.compiler() if core else None,
        "threads": get_num_threads(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for key, value in config.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key:>16}: {text}", file=sys.stdout)
    return config


def probe_fma(seconds=0.05):
    """Multiply-adds in registers, float32: flops per second of one core on the chosen set."""
    return _rate(core.probe_fma, 1 << 14, seconds)


def probe_read(nbytes, seconds=0.05):
    """Reads of a buffer of that footprint: bytes per second of one core on the chosen set."""
    buffer = np.ones(max(1, nbytes // 1024) * 1024 + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    view = buffer[start : start + buffer.size - 64]

    def read(rounds):
        core.probe_read(view, rounds)
        return view.size * rounds

    return _rate(read, max(1, 2**22 // view.size), seconds)


def _rate(work, rounds, seconds):
    """Work per second: the best of the runs that fit into that time."""
    work(rounds)
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        done = work(rounds)
        now = time.perf_counter()
        best = max(best, done / (now - start))
        if now > end:
            return best
