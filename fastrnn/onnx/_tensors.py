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
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}


def dtype_of(data_type, owner):
    """The dtype of a type of ONNX; TypeError for one that is not read here."""
    if data_type not in _TYPES:
        known = data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(data_type) if known else data_type
        raise TypeError(f"{owner} must be FLOAT, DOUBLE, INT32, INT64 or BOOL, got {name}")
    return np.dtype(_TYPES[data_type][0])


def array_of(tensor, folder, owner):
    """The array of a tensor, read-only.

    folder : where the model's file is; None if it has none.
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
        data = _external(tensor, folder, owner, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    else:
        field = getattr(tensor, _TYPES[tensor.data_type][1])
        if len(field) != count:
            raise _of_other_size(owner, shape, len(field))
        data = np.array(field, dtype).tobytes()
    if len(data) != count * dtype.itemsize:
        raise _of_other_size(owner, shape, len(data) / dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape)


def _of_other_size(owner, shape, count):
    return ValueError(f"{owner} must have the elements of its shape {shown(shape)}, has {count:g}")


def _external(tensor, folder, owner, size):
    """The bytes of a tensor in a file beside the model."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = given.get("location", "")
    offset, length = [_number(owner, given, key) for key in ("offset", "length")]
    if folder is None:
        raise ValueError(
            f"{owner} has its data in another file, {shown(location)!r}: load the model by its path"
        )
    if length not in (None, size):
        raise ValueError(f"{owner} must have {size} bytes of external data, got {length}")
    path = Path(location)
    inner = location and "\0" not in location and "\\" not in location and not path.is_absolute()
    if not inner or ".." in path.parts:
        raise ValueError(f"{owner} must have its data beside the model, got {shown(location)!r}")
    base = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(base, location))
    if os.path.commonpath([base, real]) != base:
        raise ValueError(
            f"{owner} must have its data beside the model; {shown(location)!r} links elsewhere"
        )
    return _read(real, offset or 0, size, owner, location)


def _number(owner, given, key):
    text = given.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{key} of {owner} must be a number of bytes, got {shown(text)!r}")
    return int(text)


def _read(path, offset, size, owner, location):
    """Bytes of a regular file, whose size is compared first."""
    try:
        # A pipe would wait to be written to.
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise ValueError(f"{owner} has its data in {shown(location)!r}: {error.strerror}") from None
    with file:
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode) or offset + size > there.st_size:
            raise ValueError(
                f"{owner} must have {size} bytes from {offset} on in the file "
                f"{shown(location)!r}, which has {there.st_size}"
            )
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{shown(location)!r} became shorter while it was read")
    return data
