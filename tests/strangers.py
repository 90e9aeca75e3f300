"""Files as strangers make them: zips and safetensors by hand, and mutants of files that were whole.

Everything that a writer of such files would not let one say can be said here.
"""

import json
import re
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

STORED, DEFLATED = 0, 8


def npy(array, descr=None, shape=None, fortran=False, version=1, header=None):
    """A .npy file of an array, of which the header may say something else."""
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
    """A member of a zip; what is None follows from the rest."""

    name: bytes
    data: bytes
    method: int = STORED
    flags: int = 0
    packed: bytes | None = None  # the bytes in the file
    sizes: tuple | None = None  # packed and not, as both headers say them
    crc: int | None = None
    local: dict = field(default_factory=dict)  # name, method, flags, begin in the local header
    extra: bytes = b""
    comment: bytes = b""


def zip_of(members, count=None, comment=b"", begin=None, size=None, zip64=False, before=b""):
    """A zip file of members; count, begin and size are what its end record says."""
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


# ---- mutants -------------------------------------------------------------------------------------

_ODD = (0, 1, 0x7F, 0x80, 0xFF)
_TEXTS = (
    b"0", b"-1", b"1e9", b"99999999999999999999", b"null", b"[]", b"{}", b"True", b"'", b'"', b"(",
    b")", b"[", b"{", b"\\", b"\\ud800", b"\0", b"\xff", b"<f8", b">f4", b"|O", b"F8_E4M3", b"BF16",
)  # fmt: skip


def mutant(rng, whole):
    """One of the many files that a whole one becomes."""
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        _KINDS[rng.integers(len(_KINDS))](rng, data)
    return bytes(data)


def _flip(rng, data):
    if data:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def _set(rng, data):
    """Some bytes become odd ones: as a number, very small or very large."""
    at, count = rng.integers(len(data) + 1), rng.choice([1, 2, 4, 8])
    data[at : at + count] = bytes([rng.choice(_ODD)]) * len(data[at : at + count])


def _cut(rng, data):
    at, count = rng.integers(len(data) + 1), rng.integers(1, 64)
    del data[at : at + count if rng.integers(2) else len(data)]


def _insert(rng, data):
    at = rng.integers(len(data) + 1)
    data[at:at] = rng.bytes(rng.integers(1, 16))


def _splice(rng, data):
    """A piece comes again elsewhere, over what was there or before it."""
    at, to, count = (int(n) for n in rng.integers(0, len(data) + 1, 3))
    count = min(count, 200)
    data[to : to + count * int(rng.integers(2))] = data[at : at + count]


def _edit(rng, data):
    """A word or number of a header becomes another text."""
    words = list(re.finditer(rb"[A-Za-z_]{2,}|\d+|[][(){}:,'\"]|PK..", bytes(data)))
    if words:
        word = words[rng.integers(len(words))]
        data[word.start() : word.end()] = _TEXTS[rng.integers(len(_TEXTS))]


_KINDS = (_flip, _set, _cut, _insert, _splice, _edit, _edit)


def mutant_of_members(rng, members):
    """A zip whose members were changed before it was made, so that its checksums are right."""
    members = [Member(m.name, m.data, m.method) for m in members]
    at = rng.integers(len(members))
    which = rng.integers(4)
    if which == 0:
        members[at].name = mutant(rng, members[at].name)
    elif which == 1:
        members.append(members[at])
    else:
        members[at].data = mutant(rng, members[at].data)
    return zip_of(members)


def mutant_of_header(rng, header, data):
    """A .safetensors whose header was changed and is still as long as it says."""
    return tensors_of(mutant(rng, header), data)
