"""The header of a .npy file, read without evaluating it.

A .npy file has the magic bytes, a version (two bytes), the length of the header (two bytes, from
version 2 on four), the header (the text of a dict) and the elements. Format: numpy.lib.format.

It must not know: files, zips, parts.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from fastrnn.checks import shown

START = 12  # bytes before the header, including its length; version 1 has two fewer
_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header; NumPy's own limit
MOST_AXES = 64  # the most axes that an array of NumPy's can have

_ITEM = re.compile(
    r"""\s*(['"])(descr|fortran_order|shape)\1\s*:\s*"""
    r"""('[^'\\]*'|"[^"\\]*"|\[[^{}:]*\]|\([0-9L,\s]*\)|True|False)\s*(,|$)\s*"""
)
_NUMBERS = re.compile(r"[<>|=][biuf][0-9]{1,2}|[<>|=]U[0-9]{1,10}")


class Header(NamedTuple):
    """The contents of a header.

    dtype : a dtype of numbers or of one str; for any other dtype the text in the header, perhaps
        shortened
    """

    dtype: np.dtype | str
    shape: tuple
    fortran: bool  # True if the array is in Fortran order
    length: int  # bytes before the elements

    @property
    def nbytes(self):
        return math.prod(self.shape) * self.dtype.itemsize


def length_of(start):
    """The bytes before the elements, from the first `START` bytes; ValueError with a reason."""
    if start[:6] != _MAGIC:
        raise ValueError("it is not an array: it does not begin as a .npy file")
    version = start[6], start[7]
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise ValueError(f"its .npy version must be 1.0, 2.0 or 3.0, got {version[0]}.{version[1]}")
    ahead = 10 if version[0] == 1 else START
    length = int.from_bytes(start[8:ahead], "little")
    if not 2 <= length <= _LONGEST:
        raise ValueError(f"its header must have 2 to {_LONGEST} bytes, got {length}")
    return ahead + length


def header_of(data):
    """The `Header` from the bytes before the elements; ValueError with a reason."""
    text = data[10 if data[6] == 1 else START :].decode("latin-1").strip()
    items, at = {}, 1
    while at < len(text) - 1:
        item = _ITEM.match(text, at, len(text) - 1)
        if item is None or item[2] in items:
            break
        items[item[2]], at = item[3], item.end()
    if text[:1] + text[-1:] != "{}" or at != len(text) - 1 or len(items) != 3:
        raise ValueError(
            f"its header must be a dict of descr, fortran_order and shape alone, got {shown(text)}"
        )
    if items["fortran_order"] not in ("True", "False"):
        raise ValueError("its header must have True or False as fortran_order")
    dtype, shape = _dtype(items["descr"]), _shape(items["shape"])
    return Header(dtype, shape, items["fortran_order"] == "True", len(data))


def _dtype(text):
    """A dtype of numbers or of a str; for any other dtype its text, shortened for a message."""
    if _NUMBERS.fullmatch(text[1:-1]) and text[0] in "'\"":
        try:
            return np.dtype(text[1:-1])
        except (TypeError, ValueError):  # such as <f3
            pass
    return shown(text[1:-1] if text[0] in "'\"" else text)


def _shape(text):
    sizes = text[1:-1].split(",") if text[0] == "(" else [text]
    if sizes[-1].strip() == "":  # () and (3,), but not (3)
        sizes.pop()
    elif len(sizes) == 1:
        sizes = [text]
    if len(sizes) > MOST_AXES or not all(re.fullmatch(r"\s*[0-9]{1,19}L?\s*", s) for s in sizes):
        raise ValueError(
            f"its shape must be a tuple of at most {MOST_AXES} sizes, got {shown(text)}"
        )
    return tuple([int(size.strip().rstrip("L")) for size in sizes])
