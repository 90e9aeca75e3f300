"""A check of an HDF5 file's heaps of texts, on which libhdf5 can loop for ever.

HDF5 keeps texts of any length in global heaps: "GCOL", a version, a size, then objects one after
another, each with an index, a size and its bytes. Index 0 is the free space at the end. libhdf5
walks over the objects by their sizes, and never ends where a step is 0 bytes long (seen in 2.0.0,
as h5py 3.16 has it). Format: the HDF5 File Format Specification, version 3, III.E.

It must not know: Keras, h5py.
"""

import struct

_HEAP, _OBJECT = b"GCOL\1", struct.Struct("<HHIQ")
_PIECE = 2**20
_BITS = 2**64


def must_end(file, size, refused):
    """ValueError for a file with a heap that libhdf5 would not leave.

    file : an object with seek and readinto, which begins with HDF5's signature
    refused : function from a reason to the ValueError to raise
    """
    head = _read(file, 0, min(size, 16))
    at = 13 if head[8:9] in (b"\0", b"\1") else 9  # by the version of the superblock
    if head[at : at + 2] != b"\10\10":
        raise refused("its addresses and lengths must have 8 bytes")
    left = size
    for begin in _heaps(file, size):
        length = int.from_bytes(_read(file, begin + 8, 8), "little")
        if begin + length > size:
            continue  # libhdf5 refuses it, or these are numbers that happen to begin like a heap
        left -= length
        if left < 0:
            raise refused("its heaps of texts overlap")
        if _is_endless(_read(file, begin, length)):
            raise refused("it has a heap of texts that does not end")


def _heaps(file, size):
    """The offsets of all heaps."""
    for begin in range(0, size, _PIECE):
        data = _read(file, begin, min(size - begin, _PIECE + len(_HEAP) - 1))
        found = data.find(_HEAP)
        while found >= 0:
            yield begin + found
            found = data.find(_HEAP, found + 1)


def _is_endless(heap):
    """Return whether a walk over the objects of a heap comes to a step of 0 bytes."""
    at = 16
    while at + _OBJECT.size <= len(heap):
        index, _, _, count = _OBJECT.unpack_from(heap, at)
        step = (_OBJECT.size + (count + 7) // 8 * 8) % _BITS if index else count
        if step == 0:
            return True
        at += step
    return False


def _read(file, at, count):
    data = bytearray(count)
    file.seek(at)
    return bytes(data[: file.readinto(data)])
