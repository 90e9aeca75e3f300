"""Tensors of a model as arrays; sizes are compared before elements are read.

Elements lie in the model, or in files beside it ("external data").

It must not know: nodes, graphs.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import numpy as np
from onnx import TensorProto

from fastrnn.checks import shown

# The field of each type's elements, if they do not lie as raw bytes.
_TYPES = {
    TensorProto.FLOAT16: ("<f2", "int32_data"),
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}


# Arrays of a model may take so many times its bytes, and some more.
_TIMES, _MORE = 8, 2**24


class Source:
    """The origin of a model: the folder of external data, and the bytes that arrays may take.

    Arrays of data in the model itself take none: they are views. External data, constants that are
    computed, and layers take bytes; a model can name the same data many times.

    folder : a path, or None for a model without a file.
    size : the bytes of the model; None for no limit.
    """

    def __init__(self, folder=None, size=None):
        self.folder, self._files = folder, set()
        self._left = None if size is None else _TIMES * size + _MORE

    def spend(self, count):
        """Count the bytes of an array, before it is made; ValueError if all are too many."""
        if self._left is None:
            return
        self._left -= count
        if self._left < 0:
            raise ValueError("the arrays of the model take many times its own size")

    def grow(self, path, size):
        """Count a file of external data as a part of the model."""
        if self._left is not None and path not in self._files:
            self._files.add(path)
            self._left += _TIMES * size


def dtype_of(data_type, owner):
    """The dtype of a type of ONNX; TypeError for one that is not read here."""
    if data_type not in _TYPES:
        known = data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(data_type) if known else data_type
        raise TypeError(f"{owner} must be FLOAT or DOUBLE, or integers, got {name}")
    return np.dtype(_TYPES[data_type][0])


def array_of(tensor, source, owner):
    """The array of a tensor, read-only.

    source : Source
    owner : the tensor in messages.

    Raises
    ------
    ValueError, TypeError
        For another number of elements than the shape has, and other types. External data: for a
        path that leads out of the folder, and a file that is not there or too short.
    """
    dtype, shape = dtype_of(tensor.data_type, owner), tuple(tensor.dims)
    if any(size < 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"{owner} must have up to 32 sizes from 0, got {shown(shape)}")
    count = math.prod(shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        data = _external(tensor, source, owner, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    else:
        field = getattr(tensor, _TYPES[tensor.data_type][1])
        # The bits of float16 are in integers.
        data = np.array(field, "<u2" if dtype.itemsize == 2 else dtype).tobytes()
    if len(data) != count * dtype.itemsize:
        has = f"{len(data) / dtype.itemsize:g}"
        raise ValueError(f"{owner} must have the elements of its shape {shown(shape)}, has {has}")
    return np.frombuffer(data, dtype).reshape(shape)


def _external(tensor, source, owner, size):
    """The bytes of a tensor in a file beside the model."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = given.get("location", "")
    offset, length = [_number(owner, given, key) for key in ("offset", "length")]
    if source.folder is None:
        raise ValueError(
            f"{owner} has its data in another file, {shown(location)!r}: load the model by its path"
        )
    if length not in (None, size):
        raise ValueError(f"{owner} must have {size} bytes of external data, got {length}")
    # A text that is no UTF-8 comes as bytes.
    if not isinstance(location, str) or not _is_beside(location):
        raise ValueError(f"{owner} must have its data beside the model, got {shown(location)!r}")
    base = os.path.realpath(source.folder)
    real = os.path.realpath(os.path.join(base, location))
    if os.path.commonpath([base, real]) != base:
        raise ValueError(
            f"{owner} must have its data beside the model; {shown(location)!r} links elsewhere"
        )
    return _read(source, real, offset or 0, size, f"{owner} in {shown(location)!r}")


def _is_beside(location):
    """Return whether a path leads into the folder itself or one in it, if there are no links."""
    path = Path(location)
    if not location or "\0" in location or "\\" in location:
        return False
    return not path.is_absolute() and ".." not in path.parts


def _number(owner, given, key):
    text = given.get(key)
    if text is None:
        return None
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{key} of {owner} must be a number of bytes, got {shown(text)!r}")
    return int(text)


def _read(source, path, offset, size, owner):
    """Bytes of a regular file, whose size is compared first."""
    try:
        # Without O_NONBLOCK a pipe would wait for somebody who writes to it.
        file = open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK))
    except OSError as error:
        raise ValueError(f"the data of {owner} cannot be read: {error.strerror}") from None
    with file:
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode) or offset + size > there.st_size:
            raise ValueError(
                f"the data of {owner} must be {size} bytes from {offset} on, in a regular file; it "
                f"has {there.st_size} bytes"
            )
        source.grow(path, there.st_size)
        source.spend(size)
        file.seek(offset)
        return file.read(size)
