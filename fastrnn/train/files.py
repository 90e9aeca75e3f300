"""Files from strangers, read piece by piece and refused by name; and files replaced as a whole.

`Source` is a file that is being read. It counts the memory that goes to what nobody asked for by
size, names and `extra`, before that memory is taken.

It must not know: formats, arrays, parts.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

from fastrnn.checks import shown

PICKLED = "pickled files are never read: save as safetensors"

# Bytes of memory that names may take before they count as extra: some, and some for each array
# that is wanted, for a file may hold an optimizer that nobody asked for.
_NAMES, _NAMES_EACH = 2**20, 2**13


@contextlib.contextmanager
def opened(path, max_extra, wanted):
    """A `Source` of a file from which so many arrays are wanted."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open refuses folders in its own words
        raise ValueError(f"{path} must be a regular file: a pipe or a device has no end to look at")
    with open(path, "rb") as file:
        source = Source(path, file, max_extra, wanted)
        if _pickled(source):
            raise source.refused(PICKLED)
        yield source


class Source:
    """A file of which pieces are read by their place; `size` bytes long."""

    def __init__(self, path, file, max_extra, wanted):
        self.path, self._file = Path(path), file
        self.size = os.fstat(file.fileno()).st_size
        self._max_extra, self._left = max_extra, max_extra
        self._left_for_names = _NAMES + _NAMES_EACH * wanted

    def refused(self, reason, member=None):
        """The error to raise: it names file, member and reason."""
        where = "" if member is None else f"{shown(member)}: "
        return ValueError(f"{self.path} cannot be read as {self.path.suffix}: {where}{reason}")

    def read(self, at, count, member=None):
        """Exactly so many bytes."""
        if at + count <= self.size:
            self._file.seek(at)
            data = self._file.read(count)
            if len(data) == count:
                return data
        raise self.refused("the file ends early", member)

    def read_into(self, at, view, member=None):
        """As many bytes as the view has."""
        if at + len(view) <= self.size:
            self._file.seek(at)
            if self._file.readinto(view) == len(view):
                return
        raise self.refused("the file ends early", member)

    def take(self, count, member):
        """Count bytes of memory for extra; ValueError beyond max_extra."""
        self._left -= count
        if self._left < 0:
            raise self.refused(
                f"extra takes more memory than max_extra = {self._max_extra} bytes: if you trust "
                "the file, load it with a larger max_extra",
                member,
            )

    def take_for_names(self, count, member=None):
        """Count bytes of memory for names."""
        beyond = max(0, count - self._left_for_names)
        self._left_for_names -= count - beyond
        self.take(beyond, member)


def _pickled(source):
    """Whether the file begins as a pickle, or as a zip of PyTorch's, which holds one."""
    head = source.read(0, min(source.size, 512))
    if head[8:9] == b"{":  # a safetensors file, whose first eight bytes can be anything
        return False
    if head[:2] in {bytes([0x80, protocol]) for protocol in range(6)}:
        return True
    if head[:1] in (b"(", b"]", b"}", b"c"):  # protocols 0 and 1
        return source.read(source.size - 1, 1) == b"."
    return head.startswith(b"PK\3\4") and b"/data.pkl" in head


def replace(path, write):
    """Write the file at path wholly or not at all, by write(file).

    A file that is there keeps its mode, and its owner and group where that is allowed; where its
    group cannot be kept, groups lose their rights. A new one has the mode that the umask says. A
    symbolic link stays: the file it leads to is written.
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
        # Until it has the mode of the file it replaces, nobody else may look into it.
        mode = 0o666 if before is None else 0o600
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            write(file)
            file.flush()
            if before is not None:
                _own_like(file.fileno(), before)
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _own_like(descriptor, before):
    """Group, owner and mode of the file before, as far as one may set them."""
    with contextlib.suppress(OSError):  # one may be in that group
        os.fchown(descriptor, -1, before.st_gid)
    with contextlib.suppress(OSError):  # to give a file away one must be allowed to
        os.fchown(descriptor, before.st_uid, -1)
    mode = stat.S_IMODE(before.st_mode)
    if os.fstat(descriptor).st_gid != before.st_gid:
        mode &= ~(stat.S_IRWXG | stat.S_ISGID)  # another group has no right to it
    os.fchmod(descriptor, mode)
