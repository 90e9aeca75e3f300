"""Odd but legal arrays: the same values in unusual memory layouts.

It must not know: what the arrays are for.
"""

import numpy as np


class Derived(np.ndarray):
    """An array of a user's subclass."""


def unaligned(array):
    copy = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def backwards(axis):
    """A layout with a negative stride of that axis."""

    def laid_out(array):
        if array.ndim == 0:
            return array
        index = (slice(None),) * (axis % array.ndim) + (slice(None, None, -1),)
        return np.ascontiguousarray(array[index])[index]

    return laid_out


def between_others(array):
    """Every other element of a last axis; the elements between may have no effect."""
    if array.ndim == 0:
        return array
    wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide.view(np.uint8)[...] = 0xFF
    wide[..., ::2] = array
    return wide[..., ::2]


def among_others(array):
    """Rows that are parts of wider rows."""
    if array.ndim == 0:
        return array
    wide = np.empty((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    wide.view(np.uint8)[...] = 0xFF
    wide[..., 1:-2] = array
    return wide[..., 1:-2]


def field(array):
    """A field of packed records."""
    records = np.zeros(array.shape, np.dtype([("before", "i1"), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


def repeated(array):
    """Stride 0 along the first axis with equal elements, if there is one."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] > 1 else None
        if first is not None and (array == first).all():
            return np.broadcast_to(first, array.shape)
    return array


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def last_axis_first(array):
    """The last axis is the outermost one in memory."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)).transpose(
        *range(1, array.ndim), 0
    ) if array.ndim > 1 else array  # fmt: skip


ANY = {
    "plain": lambda array: array,
    "Fortran": lambda array: np.asfortranarray(array) if array.ndim else array,
    "last axis first": last_axis_first,
    "first axis backwards": backwards(0),
    "last axis backwards": backwards(-1),
    "every other element": between_others,
    "part of wider rows": among_others,
    "unaligned": unaligned,
    "field of records": field,
    "stride 0": repeated,
    "read-only": read_only,
    "subclass": lambda array: array.copy().view(Derived),
}


def _cast(dtype):
    """A layout with that dtype, if it can hold the values."""

    def laid_out(array):
        cast = array.astype(dtype)
        return cast if (cast == array).all() else array

    return laid_out


_NAMES = "int8", "uint8", "int16", "int32", "uint32", "uint64", "longlong"
INTEGERS = ANY | {name: _cast(name) for name in _NAMES}
INTEGERS |= {
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "longlong, every other": lambda array: between_others(array.astype(np.longlong)),
}


def _bytes(*values):
    """A layout of booleans in which True is one of these bytes."""

    def laid_out(array):
        some = np.resize(np.array(values, np.uint8), array.shape)
        return np.where(array, some, np.uint8(0)).view(np.bool_)

    return laid_out


FLAGS = ANY | {"true is 2": _bytes(2), "true is any byte": _bytes(255, 1, 128, 2, 3)}
