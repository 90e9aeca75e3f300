"""Strangers' files, zips and safetensors made by hand, and a target that should refuse them.

These functions can write what a regular writer of such files refuses to write.
"""

import contextlib
import json
import pickle
import struct
import sys
import tracemalloc
import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw

from fastrnn import train

STORED, DEFLATED = 0, 8

# What is said of 20,000 brackets: from CPython 3.14 on their number is bounded by the stack alone.
TOO_DEEP = "nested too deeply" if sys.version_info < (3, 14) else "JSON is broken"


def npy(array, descr=None, shape=None, fortran=False, version=1, header=None):
    """A .npy file of an array, whose header may be wrong."""
    array = np.asarray(array)
    if header is None:
        descr = repr(descr if descr is not None else array.dtype.str)
        shape = array.shape if shape is None else shape
        header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    data = header if isinstance(header, bytes) else header.encode("utf-8")
    ahead = 10 if version == 1 else 12
    data += b" " * (-(ahead + len(data) + 1) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<L", len(data))
    return b"\x93NUMPY" + bytes([version, 0]) + length + data + array.tobytes()


@dataclass
class Member:
    """A member of a zip; fields that are None follow from the others."""

    name: bytes
    data: bytes
    method: int = STORED
    flags: int = 0
    packed: bytes | None = None  # the bytes in the file
    sizes: tuple | None = None  # packed and unpacked, as in both headers
    crc: int | None = None
    local: dict = field(default_factory=dict)  # name, method, flags, begin in the local header
    extra: bytes = b""
    comment: bytes = b""


def zip_of(members, count=None, comment=b"", begin=None, size=None, zip64=False, before=b""):
    """A zip file of members; count, begin and size are for its end record."""
    body, directory = bytearray(before), bytearray()
    for m in members:
        packed = m.packed
        if packed is None:
            packed = deflated(m.data) if m.method == DEFLATED else m.data
        sizes = (len(packed), len(m.data)) if m.sizes is None else m.sizes
        crc = zlib.crc32(m.data) if m.crc is None else m.crc
        at = m.local.get("begin", len(body))
        name = m.local.get("name", m.name)
        if "begin" not in m.local:
            body += struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, m.local.get("flags", m.flags),
                m.local.get("method", m.method), 0, 33, crc, *sizes, len(name), 0,
            )  # fmt: skip
            body += name + packed
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, m.flags, m.method, 0, 33, crc, *sizes, len(m.name),
            len(m.extra), len(m.comment), 0, 0, 0, at,
        )  # fmt: skip
        directory += m.name + m.extra + m.comment
    count, begin = len(members) if count is None else count, len(body) if begin is None else begin
    size = len(directory) if size is None else size
    end = b""
    if zip64:
        where = len(body) + len(directory)
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, begin)
        end += struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
        count, size, begin = 2**16 - 1, 2**32 - 1, 2**32 - 1
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, begin, len(comment))
    return bytes(body + directory) + end + comment


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def tensors_of(header, data=b"", length=None):
    """A .safetensors with that header, a dict or bytes."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


# ---- what is loaded, and into what ---------------------------------------------------------------

MIB = 2**20
WEIGHT, BIAS = draw(2, 3, dtype="float32"), draw(2, dtype="float32", seed=1)


class Target:
    """Parts and an optimizer to load into, and a check that they are unchanged."""

    def __init__(self, path, optimizer=False):
        self.path, self.dense = path, train.Dense(3, 2, rng=0)
        self.dense.rng = np.random.default_rng(0)  # a part that draws
        self.adam = train.Adam([self.dense.flat]) if optimizer else None
        self.before = self.now()

    def now(self):
        state = self.dense.rng.bit_generator.state
        return pickle.dumps((self.dense.flat, self.adam and self.adam.state(), state))

    def load(self, data, **options):
        self.path.write_bytes(data)
        return train.load(self.path, {"d": self.dense}, self.adam, **options)

    def refuses(self, data, error, *words, **options):
        """Assert that data is refused with these words and the file's name, without changes."""
        with pytest.raises(error) as caught:
            self.load(data, **options)
        assert type(caught.value) is error
        for word in (str(self.path), *words):
            assert word in str(caught.value)
        assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()
        assert self.now() == self.before

    def holds(self, weight=WEIGHT, bias=BIAS):
        assert_same_bits(self.dense.params["weight"], weight)
        assert_same_bits(self.dense.params["bias"], bias)


def members(weight=None, bias=None, more=(), **of_weight):
    """The members of a file that fits, with changes of the weight."""
    weight = npy(WEIGHT) if weight is None else weight
    bias = npy(BIAS) if bias is None else bias
    return [Member(b"d.weight.npy", weight, **of_weight), Member(b"d.bias.npy", bias), *more]


def extra_of(text):
    return Member(b"extra.npy", npy(np.array(text)))


def header_of(**changes):
    """The header of a .safetensors that fits; d_weight={"shape": ...} changes an entry of it."""
    header = {
        "d.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "d.bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
    }
    for name, change in changes.items():
        name = name.replace("_", ".")
        header[name] = header.get(name, {}) | change
    return header


DATA = WEIGHT.tobytes() + BIAS.tobytes()
WHOLE = npy(WEIGHT)


@contextlib.contextmanager
def memory_below(limit):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
