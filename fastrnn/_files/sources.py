"""Reading strangers' files piece by piece, with bounded memory; replacing files atomically.

`Source` is a file that is being read. The file decides how much memory its names and its further
contents take, so `Source` counts that memory before it is allocated, and a `Limit` bounds it.

It must not know: formats, arrays, parts.
"""

import contextlib
import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fastrnn.checks import shown

PICKLED = (
    "pickled files are never read: save as safetensors, or let PyTorch read it, and give "
    "torch.load(path, weights_only=True) to layer.load"
)


class Limit(NamedTuple):
    """The bytes of memory that a file may take beside the arrays that are wanted.

    names : for names, before they count as extra
    extra : for everything else
    reason : the reason of the error if extra is exceeded
    """

    names: int
    extra: int
    reason: str


@contextlib.contextmanager
def opened(path, limit):
    """A `Source` for a file."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open has a message for folders
        raise ValueError(f"{path} must be a regular file: a pipe or a device has no size")
    with open(path, "rb") as file:
        source = Source(path, file, limit)
        if _pickled(source):
            raise source.refused(PICKLED)
        yield source


class Source:
    """A file that is read in pieces, by their offset; `size` is its length in bytes."""

    def __init__(self, path, file, limit):
        self.path, self._file = Path(path), file
        self.size = os.fstat(file.fileno()).st_size
        self._left_for_names, self._left, self._reason = limit

    def refused(self, reason, member=None):
        """The ValueError to raise: it names the file, the member and the reason."""
        where = "" if member is None else f"{shown(member)}: "
        kind = f" as {self.path.suffix}" if self.path.suffix else ""
        return ValueError(f"{self.path} cannot be read{kind}: {where}{reason}")

    def read(self, at, count, member=None):
        """Read exactly `count` bytes at the offset `at`."""
        if at + count <= self.size:
            self._file.seek(at)
            data = self._file.read(count)
            if len(data) == count:
                return data
        raise self.refused("the file ends early", member)

    def read_into(self, at, view, member=None):
        """Fill the view from the offset `at` on."""
        if at + len(view) <= self.size:
            self._file.seek(at)
            if self._file.readinto(view) == len(view):
                return
        raise self.refused("the file ends early", member)

    def take(self, count, member):
        """Count bytes of memory for extra; ValueError if they exceed the limit."""
        self._left -= count
        if self._left < 0:
            raise self.refused(self._reason, member)

    def take_for_names(self, count, member=None):
        """Count bytes of memory for names."""
        beyond = max(0, count - self._left_for_names)
        self._left_for_names -= count - beyond
        self.take(beyond, member)


def _pickled(source):
    """Return whether the file begins as a pickle, or as a zip file of PyTorch with a pickle."""
    head = source.read(0, min(source.size, 512))
    if head[8:9] == b"{":  # a safetensors file: its first eight bytes may be anything
        return False
    if head[:2] in {bytes([0x80, protocol]) for protocol in range(6)}:
        return True
    if head[:1] in (b"(", b"]", b"}", b"c"):  # protocols 0 and 1
        return source.read(source.size - 1, 1) == b"."
    return head.startswith(b"PK\3\4") and b"/data.pkl" in head


def replace(path, write):
    """Call write(file) to write the file at path, completely or not at all.

    An existing file keeps its mode, and its owner and group if the process may set them. If its
    group cannot be set, the group loses its rights. The umask decides the mode of a new file. A
    symbolic link remains: the file that it leads to is written.
    """
    try:
        before = os.stat(path)
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        if not stat.S_ISDIR(before.st_mode):
            raise ValueError(f"{path} must be a regular file or a new one, not a pipe or a device")
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{os.urandom(8).hex()}.part")
    try:
        # Other users may not read the new file before it has the mode of the old one.
        mode = 0o666 if before is None else 0o600
        with _created(path, beside, mode) as file:
            write(file)
            file.flush()
            if before is not None and os.name == "posix":
                _own_like(file.fileno(), before)
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _created(path, beside, mode):
    """The new file beside the one at `path`, which errors name."""
    try:
        # `partial`, because a signal's handler that raises could interrupt a function of Python
        # after os.open: nobody would close the descriptor.
        return open(beside, "xb", opener=partial(os.open, mode=mode))
    except OSError as error:
        error.filename = str(path)
        raise


def _own_like(descriptor, before):
    """Set the group, owner and mode of the old file, as far as the process may."""
    with contextlib.suppress(OSError):  # allowed for a group that one is in
        os.fchown(descriptor, -1, before.st_gid)
    with contextlib.suppress(OSError):  # giving a file away needs a privilege
        os.fchown(descriptor, before.st_uid, -1)
    mode = stat.S_IMODE(before.st_mode)
    if os.fstat(descriptor).st_gid != before.st_gid:
        mode &= ~(stat.S_IRWXG | stat.S_ISGID)  # another group must not get rights
    os.fchmod(descriptor, mode)
