"""Files that Keras writes: .keras, .h5 and .weights.h5, as `Hdf5` and a configuration.

A .keras is a zip of metadata.json, config.json and model.weights.h5. An .h5 has the configuration
in an attribute.

It must not know: layers.
"""

import contextlib
import io
import re
from collections.abc import Callable
from typing import NamedTuple

from fastrnn import checks
from fastrnn._files import objects, sources, zips
from fastrnn._files.texts import memory_of
from fastrnn.checks import shown
from fastrnn.keras._hdf5 import SIGNATURE, Hdf5, imported

_MOST_MEMBERS = 2**10
_MOST_CONFIGURATION = 2**24  # bytes of JSON
_LIMIT = sources.Limit(2**24, 2**28, f"its JSON takes more than {2**28} bytes of memory")
# Weights hardly shrink, so a member that unpacks to more than this is refused. Keras stores it.
_MOST_INFLATED = 16
_PIECE = 2**16
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class KerasFile(NamedTuple):
    """A file of Keras that is being read.

    Attributes
    ----------
    h5 : Hdf5
    config : dict, or None in a file of weights alone
    major : 2 or 3, the major version of the Keras that wrote it; None without a configuration
    zipped : bool
        The file is a .keras.
    refused : function
        From a reason, and the name of a part, to the ValueError to raise.
    """

    h5: Hdf5
    config: dict | None
    major: int | None
    zipped: bool
    refused: Callable


@contextlib.contextmanager
def opened(path):
    """The `KerasFile` at a path."""
    imported()  # before the file is opened: what is missing is said first
    with sources.opened(checks.path("path", path), _LIMIT) as source:
        head = source.read(0, min(source.size, len(SIGNATURE)))
        file = _in_zip(source) if head[:4] == b"PK\3\4" else _alone(source, head)
        try:
            yield file
        finally:
            file.h5.close()


def _in_zip(source):
    """A .keras."""
    members = {}
    for name, entry in zips.entries(source):
        if name in members:
            raise source.refused("it is there twice", name)
        if len(members) == _MOST_MEMBERS:
            raise source.refused(f"there must be at most {_MOST_MEMBERS} members")
        members[name] = entry
    for name in (_CONFIG, _METADATA, _WEIGHTS):
        if name not in members:
            raise source.refused("it must have this member, as Keras writes it in one piece", name)
    major = _major(source, _json(source, members, _METADATA).get("keras_version"))
    config = _json(source, members, _CONFIG)
    window, size = _window(source, members[_WEIGHTS])
    if window.read(len(SIGNATURE)) != SIGNATURE:
        raise source.refused("it must be an HDF5 file", _WEIGHTS)
    return KerasFile(Hdf5(window, size, source.refused), config, major, True, source.refused)


def _alone(source, head):
    """An .h5: a model in the older format, or weights alone."""
    if head != SIGNATURE:
        raise source.refused("it must be a .keras, which is a zip file, or an HDF5 file")
    h5 = Hdf5(_Window(source, 0, source.size), source.size, source.refused)
    try:
        text, config, major = h5.text("", "model_config"), None, None
        if text is not None:
            config = _object(source, "model_config", text)
            major = _major(source, h5.text("", "keras_version"))
    except BaseException:
        h5.close()
        raise
    return KerasFile(h5, config, major, False, source.refused)


def _json(source, members, name):
    entry = members[name]
    if entry.size > _MOST_CONFIGURATION:
        raise source.refused(f"it must have at most {_MOST_CONFIGURATION} bytes", name)
    data = bytearray(entry.size)
    member = zips.Member(source, name, entry)
    member.fill(memoryview(data))
    member.finish()
    return _object(source, name, bytes(data))


def _object(source, name, text):
    if len(text) > _MOST_CONFIGURATION:
        raise source.refused(f"it must have at most {_MOST_CONFIGURATION} characters", name)
    source.take(memory_of(text), name)
    return objects.read(source, name, text)


def _major(source, version):
    found = re.match(r"([23])\.", version) if isinstance(version, str) else None
    if found is None:
        raise source.refused(f"keras_version must be 2 or 3, got {shown(version)}")
    return int(found[1])


def _window(source, entry):
    """A file object over the member with the weights, and its size. Its checksum is compared."""
    if entry.size > _MOST_INFLATED * entry.packed:
        raise source.refused("it unpacks to too much: store it, as Keras does", _WEIGHTS)
    member, left = zips.Member(source, _WEIGHTS, entry), entry.size
    inflated = None if entry.size == entry.packed and entry.method == 0 else bytearray(left)
    piece = bytearray(_PIECE)
    while left:
        count = min(left, _PIECE)
        at = entry.size - left
        view = memoryview(piece)[:count] if inflated is None else memoryview(inflated)[at:][:count]
        member.fill(view)
        left -= count
    member.finish()
    if inflated is not None:
        return io.BytesIO(inflated), entry.size
    return _Window(source, member.end - entry.size, entry.size), entry.size


class _Window(io.RawIOBase):
    """A part of a source as a file, from which h5py reads."""

    def __init__(self, source, begin, size):
        self._source, self._begin, self._size, self._at = source, begin, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, view):
        view = memoryview(view).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._source.read_into(self._begin + self._at, view[:count])
        self._at += count
        return count
