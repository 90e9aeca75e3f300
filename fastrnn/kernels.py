"""The kernels for other compiled code: functions that run without Python and without linking.

`__pyx_capi__` has a capsule for each function of kernels.pxd, which describes them. Cython takes
the functions by `cimport fastrnn.kernels`, Numba by `get_cython_function_address`, SciPy by
`LowLevelCallable.from_cython`, ctypes and cffi by `address`.

It must not know: what the functions do. The compiled module makes the capsules.
"""

from __future__ import annotations

import ctypes
from typing import Any

from fastrnn import checks
from fastrnn._engine import runtime
from fastrnn._layer.stream import Stream

__all__ = ["address", "stream_handle"]

if runtime.core is None:
    raise ImportError(
        "fastrnn.kernels is the compiled kernels, which this installation lacks: install a C "
        "compiler, and fastrnn again with FASTRNN_REQUIRE_KERNELS=1"
    )

_PREFIX = "api_"

__pyx_capi__: dict[str, Any] = {
    name.replace(_PREFIX, "frnn_", 1): capsule
    for name, capsule in runtime.core.__pyx_capi__.items()
    if name.startswith(_PREFIX)
}

_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def address(name: str) -> int:
    """Return the address of a C function.

    Parameters
    ----------
    name : str
        That of a function in kernels.pxd, such as "frnn_forward".

    Returns
    -------
    address : int
        It is valid as long as the process runs.

    Raises
    ------
    ValueError
        If there is no such function; the message lists them.

    Examples
    --------
    >>> import ctypes
    >>> import fastrnn
    >>> from fastrnn import kernels
    >>> version = ctypes.CFUNCTYPE(ctypes.c_char_p)(kernels.address("frnn_version"))
    >>> version().decode() == fastrnn.__version__
    True
    """
    checks.choice("name", name, tuple(__pyx_capi__))
    capsule = __pyx_capi__[name]
    return _pointer_of(capsule, _name_of(capsule))


def stream_handle(stream: Stream[Any, Any]) -> int:
    """Return the handle by which `frnn_stream_step` steps a stream.

    The stream may still be used from Python, and shows the state there. All its layers, options and
    precisions are those of the handle's steps.

    Parameters
    ----------
    stream : Stream
        Without an embedding and without a head, on the compiled kernels.

    Returns
    -------
    handle : int
        It is valid while `stream` lives: keep the stream. After `stream.grow` the function refuses
        the handle; ask for a new one.

    Raises
    ------
    TypeError
        If `stream` is no `Stream`.
    ValueError
        If the stream has an embedding or a head, or runs on the NumPy path.

    Examples
    --------
    A step by ctypes:

    >>> import ctypes
    >>> import numpy as np
    >>> import fastrnn
    >>> from fastrnn import kernels
    >>> pointer, size = ctypes.c_void_p, ctypes.c_size_t
    >>> kind = ctypes.CFUNCTYPE(ctypes.c_int, size, pointer, size, pointer, size)
    >>> step = kind(kernels.address("frnn_stream_step"))
    >>> stream = fastrnn.GRU(3, 5, rng=0).stream(batch_size=2)
    >>> x, y = np.ones((2, 3), "float32"), np.empty((2, 5), "float32")
    >>> handle = kernels.stream_handle(stream)
    >>> step(handle, x.ctypes.data, x.nbytes, y.ctypes.data, y.nbytes)
    0
    >>> bool((y == stream.state[0]).all())
    True
    """
    if not isinstance(stream, Stream):
        raise TypeError(
            f"stream must be a fastrnn.Stream, got {type(stream).__name__}: use layer.stream()"
        )
    return stream._handle()
