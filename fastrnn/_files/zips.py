"""The directory of a zip file and the bytes of its members, read piece by piece.

A zip file has its members, then a directory with an entry for each, then an end record with the
offset of the directory. A member has a local header, with its name, before its bytes. Each entry of
the directory is compared with the member's local header. A member that is longer than its entry
says is refused. Format: PKWARE's APPNOTE.TXT.

Python's zipfile is not used, because it raises a dozen kinds of errors for damaged files and reads
the directory at once, whatever its size.

It must not know: arrays, parts.
"""

import struct
import zlib
from typing import NamedTuple

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")  # finds the end record of zip64, which has 64-bit numbers
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL, _FULL_16 = 2**32 - 1, 2**16 - 1  # the number is in the field of zip64 instead
_ENCRYPTED, _UTF_8 = 0x41, 0x800  # flags: both kinds of encryption; a name in UTF-8
_STORED, _DEFLATED = 0, 8
_PIECE = 2**16


class Entry(NamedTuple):
    """The directory's entry for a member."""

    raw_name: bytes
    method: int
    crc: int  # checksum of the member's bytes
    packed: int  # the number of bytes in the file, compressed
    size: int  # the number of bytes
    begin: int  # the offset of the local header
    limit: int  # the offset of the directory, before which all members end


def entries(source):
    """Yields the names and entries of all members, in the order of the directory."""
    begin, end, count = _directory(source)
    at = begin
    for _ in range(count):
        if at + _ENTRY.size > end:
            raise source.refused("its directory ends early")
        fields = _ENTRY.unpack(source.read(at, _ENTRY.size))
        lengths = fields[10:13]  # those of the name, the extra fields, the comment
        after = at + _ENTRY.size + sum(lengths)
        if fields[0] != b"PK\1\2" or after > end:
            raise source.refused("its directory is broken")
        source.take_for_names(512 + 4 * lengths[0])
        rest = source.read(at + _ENTRY.size, lengths[0] + lengths[1])
        raw, extra = rest[: lengths[0]], rest[lengths[0] :]
        name = _name(source, raw, fields[3])
        yield name, _checked_entry(source, name, fields, raw, extra, begin)
        at = after
    if at != end:
        raise source.refused("its directory has more entries than it says")


def _directory(source):
    """The begin and end of the directory, and the number of its entries."""
    tail_at = max(0, source.size - _END.size - _FULL_16)
    tail = source.read(tail_at, source.size - tail_at)
    at = len(tail)
    while True:  # search backwards for a signature whose comment ends with the file
        at = tail.rfind(b"PK\5\6", 0, at)
        if at < 0:
            raise source.refused("it is no zip file, or it was cut: its end record is missing")
        if at + _END.size <= len(tail):
            _, disk, its_disk, _, count, size, begin, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                break
    end = tail_at + at
    if _FULL in (size, begin) or count == _FULL_16:
        disk, its_disk, count, size, begin, end = _directory_64(source, end)
    if (disk, its_disk) != (0, 0):
        raise source.refused("it is a part of a zip file that was split")
    if begin + size != end or count * _ENTRY.size > size:
        raise source.refused("its directory is not where its end record says")
    return begin, end, count


def _directory_64(source, end):
    """The numbers of the end record of zip64, found by the locator before the end record."""
    locator_at = end - _LOCATOR.size
    if locator_at < 0:
        raise source.refused("its zip64 locator is missing")
    signature, _, at, _ = _LOCATOR.unpack(source.read(locator_at, _LOCATOR.size))
    if signature != b"PK\6\7" or at + _END_64.size > locator_at:
        raise source.refused("its zip64 locator is missing")
    signature, length, _, _, disk, its_disk, _, count, size, begin = _END_64.unpack(
        source.read(at, _END_64.size)
    )
    if signature != b"PK\6\6" or at + 12 + length != locator_at:
        raise source.refused("its zip64 end record is broken")
    return disk, its_disk, count, size, begin, at


def _name(source, raw, flags):
    try:
        return raw.decode("utf-8" if flags & _UTF_8 else "cp437")
    except UnicodeDecodeError:
        raise source.refused("it has a name that is not UTF-8", ascii(raw)) from None


def _checked_entry(source, name, fields, raw, extra, limit):
    flags, method, crc, packed, size, begin = *fields[3:5], *fields[7:10], fields[16]
    if flags & _ENCRYPTED:
        raise source.refused("it is encrypted", name)
    if method not in (_STORED, _DEFLATED):
        raise source.refused(f"it must be stored or deflated, got compression {method}", name)
    size, packed, begin = _sizes_64(source, name, extra, [size, packed, begin])
    if method == _STORED and size != packed:
        raise source.refused(f"it is stored with {packed} bytes, but its size is {size}", name)
    return Entry(raw, method, crc, packed, size, begin, limit)


def _sizes_64(source, name, extra, sizes):
    """The sizes; each one that is _FULL is replaced from the extra field of zip64."""
    count, at = sizes.count(_FULL), 0
    if not count:
        return sizes
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1 and at + 4 + length <= len(extra) and length >= 8 * count:
            found = iter(struct.unpack_from(f"<{count}Q", extra, at + 4))
            return [next(found) if size == _FULL else size for size in sizes]
        at += 4 + length
    raise source.refused("its zip64 field is missing", name)


class Member:
    """The bytes of a member, in order: call `fill` several times, then `finish`.

    end : the offset in the file at which its bytes end
    """

    def __init__(self, source, name, entry):
        self._source, self._name, self._entry = source, name, entry
        self._at = self._begin()
        self.end = self._at + entry.packed
        self._inflate = zlib.decompressobj(-15) if entry.method == _DEFLATED else None
        self._packed, self._crc = b"", 0

    def fill(self, view):
        """Fill the view with the next bytes."""
        while len(view):
            piece = self._some(min(len(view), _PIECE))
            if not piece:
                raise self._refused("it has fewer bytes than its directory says")
            self._crc = zlib.crc32(piece, self._crc)
            view[: len(piece)] = piece
            view = view[len(piece) :]

    def finish(self):
        """ValueError unless all bytes were read and their checksum is right."""
        inflate = self._inflate
        if self._some(1):
            raise self._refused("it has more bytes than its directory says")
        if self._at != self.end or inflate and (not inflate.eof or inflate.unused_data):
            raise self._refused("its bytes end elsewhere than the zip file's directory says")
        if self._crc != self._entry.crc:
            raise self._refused("its bytes were changed: their checksum is another one")

    def _begin(self):
        """The offset of the bytes after the local header, which must agree with the directory."""
        entry, at = self._entry, self._entry.begin + _LOCAL.size
        if at > entry.limit:
            raise self._refused("its local header is beyond the members")
        signature, _, flags, method, *_, length, extra = _LOCAL.unpack(
            self._source.read(entry.begin, _LOCAL.size, self._name)
        )
        agrees = (
            signature == b"PK\3\4"
            and not flags & _ENCRYPTED
            and method == entry.method
            and length == len(entry.raw_name)
            and at + length + extra + entry.packed <= entry.limit
        )
        if not agrees or self._source.read(at, length, self._name) != entry.raw_name:
            raise self._refused("its local header is not what the directory says")
        return at + length + extra

    def _some(self, most):
        """The next bytes, at most `most`; none at the end."""
        if self._inflate is None:
            return self._next(most)
        while True:
            try:
                inflated = self._inflate.decompress(self._packed, most)
            except zlib.error as error:
                raise self._refused(f"it cannot be inflated: {error}") from None
            self._packed = self._inflate.unconsumed_tail
            if inflated or self._inflate.eof:
                return inflated
            self._packed = self._next(_PIECE)
            if not self._packed:
                return b""

    def _next(self, most):
        count = min(most, self.end - self._at)
        data = self._source.read(self._at, count, self._name)
        self._at += count
        return data

    def _refused(self, reason):
        return self._source.refused(reason, self._name)
