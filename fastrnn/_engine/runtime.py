"""Settings (backend, instruction set, number of threads) and reused buffers (workspaces, tapes).

Three environment variables are read at import: FASTRNN_BACKEND (core or reference), FASTRNN_ISA (a
name that `show_config` lists) and FASTRNN_NUM_THREADS; without the last one what limits.py reads.
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
from fastrnn._engine import _build, installed_id, limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, SupportsIndex

    from fastrnn._typing import Backend

_COMPILER = "clang-cl, which LLVM's installer brings" if os.name == "nt" else "a C compiler"


def _compiled_module():
    """Import the compiled module; None if there is none, ImportError if it is of another build.

    With FASTRNN_BACKEND=reference a module of another build is ignored, with a warning.
    """
    try:
        module = importlib.import_module("fastrnn._engine._core")
    except ImportError as error:
        warnings.warn(
            f"fastrnn runs on its NumPy path, which is many times slower: its kernels are "
            f"missing ({error}). Install {_COMPILER}, then install fastrnn again: pip install . "
            "in a checkout, else pip install --force-reinstall --no-cache-dir fastrnn",
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

# The limit of the thread pool in the compiled module.
_MOST_THREADS = core.most_threads if core else 256

# The most bytes of a workspace, and of all buffers of tapes, that are kept between calls. The first
# writes to a new buffer fault its pages in, so calls use old buffers.
_KEPT_BYTES = 256 * 2**20

# Workspaces that no call is using, the last used one at the end. Each call that runs at the same
# time as others has its own, so there are as many as calls ran at once, at most 16.
_workspaces = collections.deque(maxlen=16)
_NOTHING = np.empty(0, np.uint8)

# Buffers for tapes. A loan is a weak reference to a tape, with the tape's buffer. _lent has the
# loans of tapes in use, by the loan's id. _returned has the loans whose tapes were deleted. _spare
# has buffers for the next tapes. Tapes below _FRESH_BYTES get a new buffer each: that costs little.
_lent = {}
_returned = collections.deque()
_spare = collections.deque()
_FRESH_BYTES = 128 * 1024


class _Loan(weakref.ref):
    """A weak reference to a tape that holds the tape's buffer."""

    __slots__ = ("buffer",)


class _Local(threading.local):
    """The settings of one thread; None where the process has the setting."""

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
        raise ValueError('backend "core" is missing: this build has no kernels, only "reference"')
    return name


_default_backend = _from_environment(
    "FASTRNN_BACKEND", _existing_backend, "core" if core else "reference"
)


@contextlib.contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Run the calls in this `with` block, in this thread, on one backend.

    Parameters
    ----------
    name : {"core", "reference"}
        The C kernels or the NumPy path.

    Raises
    ------
    ValueError
        For an unknown backend, and for "core" if this build has no kernels.

    Examples
    --------
    >>> import fastrnn
    >>> with fastrnn.backend("reference"):
    ...     print(fastrnn.show_config()["backend"])  # doctest: +ELLIPSIS
             fastrnn: ...
    reference
    """
    name = _existing_backend(name)
    before, _local.backend = _local.backend, name
    try:
        yield
    finally:
        _local.backend = before


def uses_core():
    """Return whether calls of this thread run on the C kernels."""
    return (_local.backend or _default_backend) == "core"


def select_isa(name):
    """Choose the kernels' instruction set for the whole process, as FASTRNN_ISA does at import.

    A pass that is running and a stream that exists continue with the instruction set that they
    began with.

    Raises
    ------
    ValueError
        If this build or this machine has no such instruction set; the message lists the possible
        ones.
    """
    available = core.isas_available() if core else []
    if name not in available or not core.select_isa(name):
        raise ValueError(f"no instruction set {name!r} here: possible are {', '.join(available)}")


if core:
    _from_environment("FASTRNN_ISA", select_isa, None)


def _number_of_threads(n):
    n = checks.positive("n", n)
    if n > _MOST_THREADS:
        raise ValueError(f"n must be at most {_MOST_THREADS}, got {n}")
    return n


def set_num_threads(n: SupportsIndex) -> None:
    """Let each call use up to n threads, from now on and in all threads of the process.

    A call in a `threads` block uses the block's number instead.

    Parameters
    ----------
    n : int
        1 to 256. The number at import is FASTRNN_NUM_THREADS; without that variable the first
        number of OMP_NUM_THREADS, which joblib, Dask and Ray set in their workers; without both
        the number of cores that the process may use, by its affinity and its container's quota.

    Raises
    ------
    ValueError, TypeError
        If n is no integer from 1 to 256.

    Examples
    --------
    >>> import fastrnn
    >>> before = fastrnn.get_num_threads()
    >>> fastrnn.set_num_threads(1)  # leaves the other cores to you
    >>> fastrnn.get_num_threads()
    1
    >>> fastrnn.set_num_threads(before)
    """
    set_process_threads(_number_of_threads(n), "set_num_threads")


def set_process_threads(n, source):
    """Set the process' number of threads to n, at most 256. source : that of a `limits.Limit`."""
    global _limit
    n = min(checks.positive("n", n), _MOST_THREADS)
    if core:
        core.set_num_threads(n)
    _limit = limits.Limit(n, source)


def get_num_threads() -> int:
    """Return how many threads a call of this thread may use.

    Returns
    -------
    n : int

    Examples
    --------
    >>> import fastrnn
    >>> with fastrnn.threads(2):
    ...     fastrnn.get_num_threads()
    2
    """
    return _local.threads or process_threads()


def process_threads():
    """The number of threads of calls outside of `threads` blocks."""
    return _limit.threads


@contextlib.contextmanager
def threads(n: SupportsIndex) -> Iterator[None]:
    """Let each call in this `with` block, in this thread, use up to n threads.

    Calls of other Python threads follow `set_num_threads`, or a block of their own.

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
    >>> import numpy as np
    >>> import fastrnn
    >>> layer, x = fastrnn.LSTM(3, 5, rng=0), np.ones((7, 2, 3), "float32")
    >>> with fastrnn.threads(1):
    ...     y, state = layer(x)
    """
    n = _number_of_threads(n)
    before = _local.threads
    _use_threads_here(n)
    try:
        yield
    finally:
        _use_threads_here(before)


def _use_threads_here(n):
    """Set the number of threads for this thread's calls; None stands for the process' number."""
    if core:
        core.set_threads_here(n or 0)
    _local.threads = n


def _threads_from_text(text):
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(f"must be plain digits, at least 1 and at most {_MOST_THREADS}")
    return limits.Limit(_number_of_threads(int(text)), "FASTRNN_NUM_THREADS")


_limit = _from_environment(
    "FASTRNN_NUM_THREADS", _threads_from_text, None
) or limits.limit_of_process(_MOST_THREADS)
set_process_threads(*_limit)


def in_workspace(call, *arguments):
    """Run call(*arguments, buffer) with a buffer that is large enough.

    If the buffer is too small, `call` does nothing and returns the bytes that it needs, else it
    returns 0. No other call gets this buffer meanwhile, neither in another thread nor in a signal
    handler.
    """
    try:
        buffer = _workspaces.pop()
    except IndexError:
        buffer = _NOTHING
    while lacking := call(*arguments, buffer):
        buffer = np.empty(lacking, np.uint8)
    if buffer.size <= _KEPT_BYTES:
        _workspaces.append(buffer)


# The same workspaces as the compiled module takes them itself.
workspaces = core.Workspaces(_workspaces, _KEPT_BYTES) if core else None


def tape_buffer(nbytes):
    """A byte buffer for a tape. When the returned array is deleted, a later tape gets its memory.

    Keep the returned array itself, not only a view of it: a view refers to the buffer behind that
    array, so the array would be deleted while the tape is in use. Training makes many tapes of one
    size, and the page faults of new memory take up to a fifth of a training pass.
    """
    _take_back()
    buffer = None if nbytes < _FRESH_BYTES else _take_spare(nbytes)
    if buffer is None:
        buffer = np.empty(nbytes, np.uint8)
        if nbytes < _FRESH_BYTES or not _make_room(nbytes):
            return buffer
    tape = buffer[:nbytes]
    # The callback is a method in C, because Python drops an exception that a signal handler raises
    # while a callback in Python runs.
    loan = _Loan(tape, _returned.append)
    loan.buffer = buffer
    _lent[id(loan)] = loan
    return tape


class TapeContent(NamedTuple):
    """The bytes that the kernels wrote into a tape, for copies and pickles.

    content : the bytes from the tape's first aligned address on. made_by : the text of `writer`.
    """

    content: np.ndarray
    made_by: str


def tape_content(tape):
    """The `TapeContent` of a tape of the kernels; a tape of the reference as it is."""
    if not isinstance(tape, np.ndarray):
        return tape
    begin = core.boundary(tape)
    return TapeContent(tape[begin : begin + tape.size - core.ALIGN], writer())


def tape_with(content):
    """The tape from a result of `tape_content`.

    Raises
    ------
    ValueError
        If kernels wrote the content, and this build has no kernels or other ones.
    """
    if not isinstance(content, TapeContent):
        return content
    check_writer("a tape made", content.made_by, "run forward again")
    tape = tape_buffer(content.content.size + core.ALIGN)
    begin = core.boundary(tape)
    tape[begin : begin + content.content.size] = content.content
    return tape


def writer():
    """The version, build id and byte order of the kernels here, as a text."""
    return f"fastrnn {_version.__version__}, build {core.build_id()[:8]}, {sys.byteorder}-endian"


def check_writer(made, made_by, mend):
    """ValueError unless the kernels here are those that `made_by`, a text of `writer`, names."""
    if core is None or made_by != writer():
        here = "none" if core is None else f"those of {writer()}"
        raise ValueError(
            f"{made} by the kernels of {made_by} cannot be read here (kernels: {here}): {mend}"
        )


def check_packed(of, found, wanted):
    """ValueError unless packed weights from elsewhere are of the sizes and the dtype wanted."""
    if found != wanted:
        found, wanted = (", ".join(map(str, sizes)) for sizes in (found, wanted))
        raise ValueError(
            f"the packed weights of the {of} are those of another one: sizes {wanted} expected, "
            f"got {found}. Give pickle.loads the buffers in the order of buffer_callback"
        )


def _take_back():
    """Move the buffers of deleted tapes to `_spare`; other threads may do so at the same time."""
    while _returned:
        try:
            loan = _returned.popleft()
        except IndexError:
            return
        _lent.pop(id(loan), None)
        _spare.append(loan.buffer)


def _take_spare(nbytes):
    """A buffer from `_spare` of nbytes to twice as many, or None."""
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
    """Drop spare buffers to make room for nbytes; return whether nbytes may be kept."""
    lent = sum(loan.buffer.size for loan in _snapshot(_lent.values()))
    while lent + sum(buffer.size for buffer in _snapshot(_spare)) + nbytes > _KEPT_BYTES:
        try:
            _spare.popleft()
        except IndexError:
            break
    return lent + nbytes <= _KEPT_BYTES


def _snapshot(elements):
    """A list of what a collection has, while other threads change it."""
    while True:
        try:
            return list(elements)
        except RuntimeError:  # it changed meanwhile, which needs a Python without the global lock
            continue


def show_config() -> dict[str, Any]:
    """Print version, backend, instruction sets, threads and platform; return them as a dict.

    Returns
    -------
    config : dict

    Examples
    --------
    >>> import fastrnn
    >>> config = fastrnn.show_config()  # doctest: +ELLIPSIS
             fastrnn: ...
    >>> config["backend"] in ("core", "reference")
    True
    """
    import platform  # imported here: it takes 2 ms

    config = {
        "fastrnn": _version.__version__,
        "backend": "core" if uses_core() else "reference",
        "isa": core.isa() if core else None,
        "isas available": core.isas_available() if core else [],
        "isas compiled in": core.isas_compiled() if core else [],
        "extensions": core.extensions() if core else [],
        "extensions built": core.extensions_compiled() if core else [],
        "compiler": core.compiler() if core else None,
        "threads": get_num_threads(),
        "threads from": "a threads block" if _local.threads else _limit.source,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for key, value in config.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key:>16}: {text}", file=sys.stdout)
    return config


def probe_fma(seconds=0.05):
    """Flops per second of one core, by float32 multiply-adds in registers, on the set in use."""
    return _rate(core.probe_fma, 1 << 14, seconds)


def probe_read(nbytes, seconds=0.05):
    """Bytes per second that one core reads from a buffer of nbytes, on the set in use."""
    buffer = np.ones(max(1, nbytes // 1024) * 1024 + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    view = buffer[start : start + buffer.size - 64]

    def read(rounds):
        core.probe_read(view, rounds)
        return view.size * rounds

    return _rate(read, max(1, 2**22 // view.size), seconds)


def _rate(work, rounds, seconds):
    """The highest rate of several runs of work(rounds), which take `seconds` in total."""
    work(rounds)
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        done = work(rounds)
        now = time.perf_counter()
        best = max(best, done / (now - start))
        if now > end:
            return best
