"""Memory for results that shows writes outside it; it is full of NaN at first.

NumPy's `empty` is replaced by one with awkward addresses. Under AddressSanitizer
(FASTRNN_SANITIZED) an array ends where its memory ends. Otherwise it is between two bands, which
must not change.

It must not know: what is computed.
"""

import collections
import contextlib
import math
import os

import numpy as np

from fastrnn._engine import runtime

_ALIGN = 64
_BAND = 128
EXACT = bool(os.environ.get("FASTRNN_SANITIZED"))
_empty = np.empty


class Buffers:
    """Makes arrays as `np.empty` does, and checks the bands around them."""

    def __init__(self):
        self.given = []

    def empty(self, shape, dtype=float, order="C"):
        dtype = np.dtype(dtype)
        shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        nbytes = math.prod(shape) * dtype.itemsize
        whole, start = self._exact(nbytes, dtype) if EXACT else self._banded(nbytes, dtype)
        whole[...] = 0xFF
        self.given.append((whole, start, start + nbytes))
        return whole[start : start + nbytes].view(dtype).reshape(shape, order=order)

    def empty_like(self, array):
        return self.empty(array.shape, array.dtype)

    def _exact(self, nbytes, dtype):
        """An array that ends where its memory ends, at an address of the least alignment."""
        tries = []  # keeping these makes each have another address
        for remainder in (0, 16, 32, 48):
            start = (dtype.itemsize - remainder) % _ALIGN
            tries.append(_empty(start + nbytes, np.uint8))
            if tries[-1].ctypes.data % _ALIGN == remainder:
                break
        return tries[-1], start

    def _banded(self, nbytes, dtype):
        whole = _empty(nbytes + 2 * _BAND + _ALIGN, np.uint8)
        start = _BAND + (dtype.itemsize - whole.ctypes.data) % _ALIGN
        return whole, start

    def check(self):
        for whole, start, end in self.given:
            if not (whole[:start] == 0xFF).all() or not (whole[end:] == 0xFF).all():
                raise AssertionError(f"written beside a buffer of {end - start} bytes")


@contextlib.contextmanager
def watched():
    """In this block arrays and workspaces come from `Buffers`, which checks them at the end."""
    buffers = Buffers()
    before = np.empty, np.empty_like, runtime._workspaces
    np.empty, np.empty_like = buffers.empty, buffers.empty_like
    runtime._workspaces = collections.deque(maxlen=0)  # none is kept: all sizes are exact
    try:
        yield
    finally:
        np.empty, np.empty_like, runtime._workspaces = before
    buffers.check()
