"""The controller by which threadpoolctl sees and limits fastrnn's threads.

It must not know: what threads compute, where their number came from.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fastrnn import _version, checks
from fastrnn._engine import runtime

if TYPE_CHECKING:
    from typing import Any

_registered = False


def register_threadpoolctl() -> None:
    """Let threadpoolctl limit fastrnn's threads, with those of BLAS and OpenMP, and list them.

    After it `threadpoolctl.threadpool_limits(1)` sets the number of threads of the process, as
    `set_num_threads` does, and puts it back at the end of its block; `threadpool_info` lists the
    version, the number and the instruction set. The name for `user_api` is "fastrnn". A `threads`
    block still decides for its own calls.

    threadpoolctl knows no libraries but those that are registered, so call this once. It is done
    already where threadpoolctl, or a package that uses it such as scikit-learn, was imported before
    fastrnn. More calls change nothing. Without the kernels there are no threads to register.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed, or older than 3.2.

    Examples
    --------
    >>> import fastrnn
    >>> from threadpoolctl import threadpool_limits  # doctest: +SKIP
    >>> fastrnn.register_threadpoolctl()  # doctest: +SKIP
    >>> with threadpool_limits(1):  # doctest: +SKIP
    ...     fastrnn.get_num_threads()
    1
    """
    global _registered
    threadpoolctl = checks.module("threadpoolctl", "register_threadpoolctl")
    if not hasattr(threadpoolctl, "register"):
        raise ImportError(
            f"threadpoolctl must be 3.2 or later, got {threadpoolctl.__version__}: "
            "pip install --upgrade threadpoolctl"
        )
    if not _registered and runtime.core is not None:
        threadpoolctl.register(_controller(threadpoolctl.LibController, runtime.core))
        _registered = True


def _controller(base: Any, core: Any) -> Any:
    """The controller class of the compiled module. Each call of threadpoolctl makes an object."""
    path = os.path.realpath(core.__file__)

    class FastrnnController(base):
        """The threads of fastrnn."""

        user_api = internal_api = "fastrnn"
        filename_prefixes = (os.path.basename(path).lower(),)
        check_symbols = ("PyInit__core",)

        def set_additional_attributes(self) -> None:
            """Set the instruction set, which `threadpool_info` shows too."""
            self.architecture = core.isa()
            if os.path.normcase(self.filepath) != os.path.normcase(path):
                # Another package's module of the same name. threadpoolctl looks for check_symbols
                # in dynlib, and drops the library where it finds none.
                self.dynlib = None

        def get_num_threads(self) -> int:
            """The process' number, whatever this thread's `threads` block says."""
            return runtime.process_threads()

        def set_num_threads(self, num_threads: int) -> None:
            """Set the process' number; a limit above the largest number is no limit."""
            runtime.set_process_threads(num_threads, "threadpoolctl")

        def get_version(self) -> str:
            return _version.__version__

    return FastrnnController


# At the import of fastrnn. threadpoolctl itself is not imported for those who do not use it.
if hasattr(sys.modules.get("threadpoolctl"), "register"):
    register_threadpoolctl()
