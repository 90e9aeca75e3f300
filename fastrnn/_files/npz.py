"""Files that NumPy writes and reads: .npz, a zip file of .npy files, one for each array.

A text is an array of one str. `Npz` reads the headers first, and elements only on demand.

It must not know: parts, the meaning of names.
"""

from itertools import pairwise

import numpy as np

from fastrnn import checks
from fastrnn._files.npy import START, header_of, length_of
from fastrnn._files.zips import Member, entries

_PIECE = 2**14  # characters
_LONGEST_NAME = 2**16 - 1 - len(".npy")  # bytes: a zip file has 16 bits for the length
# The most bytes of memory that a header and its array take without the elements: _HEADER, and _AXIS
# for each axis.
_HEADER, _AXIS = 512, 32


def write(file, arrays, texts):
    """Write arrays of numbers, and texts, both dicts."""
    for name in arrays:
        if "\0" in name or len(name.encode()) > _LONGEST_NAME:
            raise ValueError(
                f"{checks.shown(name)} must have no NUL in an .npz, and at most {_LONGEST_NAME} "
                "bytes in UTF-8: use .safetensors"
            )
    texts = {name: np.array(text) for name, text in texts.items()}
    np.savez(file, **arrays, **texts)  # there is no array of objects, so nothing is pickled


class Npz:
    """An .npz that is being read: `names`, then `describe`, then `array` and `text`."""

    counts_texts = False

    def __init__(self, source):
        self._source = source
        self._entries, self._headers = {}, {}

    def names(self):
        """Yields the names of all arrays and texts, a repeated name several times."""
        for name, entry in entries(self._source):
            name = name.removesuffix(".npy")
            self._entries[name] = entry
            yield name

    def describe(self, names):
        """Yields each name with its `npy.Header`, for arrays and texts; no element is read."""
        spans = []
        for name in names:
            entry = self._entries[name]
            member = Member(self._source, name, entry)
            header = self._headers[name] = self._header(name, entry, member)
            self._source.take_for_names(_HEADER + _AXIS * len(header.shape), name)
            spans.append((entry.begin, member.end, name))
            yield name, header
        for (_, end, _), (begin, _, name) in pairwise(sorted(spans)):
            if begin < end:
                raise self._source.refused("it overlaps another", name)

    def array(self, name):
        """The array, perhaps in Fortran order."""
        header = self._headers[name]
        shape = header.shape[::-1] if header.fortran else header.shape
        member, array = self._elements(name), np.empty(shape, header.dtype)
        member.fill(memoryview(array.reshape(-1).view(np.uint8)))
        member.finish()
        return array.T if header.fortran else array

    def text(self, name):
        """The text; ValueError unless it is ASCII, as the JSON that `write` gets is."""
        dtype = self._headers[name].dtype
        characters, member = np.empty(dtype.itemsize // 4, np.uint8), self._elements(name)
        for at in range(0, characters.size, _PIECE):
            part = characters[at : at + _PIECE]
            wide = np.empty(part.size, np.dtype("u4").newbyteorder(dtype.byteorder))
            member.fill(memoryview(wide.view(np.uint8)))
            if wide.max() > 127:
                raise self._source.refused("its text must be ASCII", name)
            part[...] = wide
        member.finish()
        return str(characters, "ascii").rstrip("\0")  # NumPy pads a str with NULs

    def _elements(self, name):
        """The `Member` after its header, so that it continues with the first element."""
        member = Member(self._source, name, self._entries[name])
        _next(member, self._headers[name].length)
        return member

    def _header(self, name, entry, member):
        if entry.size < START:
            raise self._source.refused("it is too short for an array", name)
        start = _next(member, START)
        length = self._said(name, length_of, start)
        if length > entry.size:
            raise self._source.refused("it ends within its header", name)
        header = self._said(name, header_of, start + _next(member, length - START))
        if isinstance(header.dtype, np.dtype) and length + header.nbytes != entry.size:
            raise self._source.refused(
                f"it has {entry.size - length} bytes of elements by its directory, but "
                f"{header.nbytes} by its dtype and shape",
                name,
            )
        return header

    def _said(self, name, read, data):
        try:
            return read(data)
        except ValueError as error:
            raise self._source.refused(str(error), name) from None


def _next(member, count):
    data = bytearray(count)
    member.fill(memoryview(data))
    return bytes(data)
