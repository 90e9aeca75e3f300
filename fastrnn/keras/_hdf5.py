"""HDF5 files from strangers, read by h5py: texts and arrays, each checked before it is read.

Keras writes plain datasets in groups. Everything else that HDF5 can do is refused: soft and
external links, data in other files, virtual datasets, filters, chunks.

It must not know: models, layers.
"""

import contextlib

import numpy as np

from fastrnn import checks
from fastrnn.checks import shown
from fastrnn.keras._heaps import must_end

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_NAMES, _MOST_BYTES_OF_NAMES = 2**16, 2**24


def imported():
    """The module h5py."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "fastrnn.keras reads files through h5py: pip install h5py (the extra fastrnn[keras] "
            "has it)",
            name="h5py",
        ) from error
    return h5py


class Hdf5:
    """An HDF5 file that is being read.

    file : an object with read, readinto, seek and tell
    size : its number of bytes
    refused : function from a reason and the name of a part to the ValueError to raise
    """

    def __init__(self, file, size, refused):
        self._h5py = imported()
        self._size, self._left, self._refused = size, size, refused
        must_end(file, size, refused)
        with self._reading(None):
            self._root = self._h5py.File(file, "r")

    def close(self):
        with contextlib.suppress(Exception):  # what was read is right, however the file closes
            self._root.close()

    def group(self, path):
        """The group at a path, or None if there is none."""
        return self._found(path, self._h5py.Group)

    def names(self, path):
        """The names in the group at a path; none if there is no such group."""
        group = self.group(path)
        if group is None:
            return []
        with self._reading(path):
            count = len(group)
        if count > _MOST_NAMES:
            raise self._refused(f"it has more than {_MOST_NAMES} parts", path)
        with self._reading(path):
            return list(group)

    def text(self, path, name):
        """The text of an attribute of a group; None if it is not there."""
        value = self._attribute(path, name)
        if isinstance(value, bytes | np.bytes_):
            value = self._decoded(path, bytes(value))
        if value is not None and not isinstance(value, str):
            raise self._refused(f"its attribute {name} must be a text", path)
        return value

    def texts(self, path, name):
        """The texts of an attribute; Keras divides a long one into name0, name1 and so on."""
        parts = [self._attribute(path, name)]
        if parts[0] is None:
            parts = []
            while (part := self._attribute(path, f"{name}{len(parts)}")) is not None:
                parts.append(part)
        if not parts:
            raise self._refused(f"its attribute {name} is missing", path)
        found = [text for part in parts for text in np.ravel(part).tolist()]
        found = [self._decoded(path, t) if isinstance(t, bytes) else t for t in found]
        if not all(isinstance(text, str) for text in found):
            raise self._refused(f"its attribute {name} must be texts", path)
        return found

    def shape(self, path):
        """The shape of the dataset at a path; ValueError if there is none."""
        dataset = self._dataset(path)
        with self._reading(path):
            return tuple(dataset.shape)

    def dtype(self, path):
        """The dtype of the dataset at a path; ValueError if there is none."""
        dataset = self._dataset(path)
        with self._reading(path):
            return dataset.dtype

    def array(self, path, shape, dtype):
        """The array at a path, which must have this shape, and this dtype unless it is None."""
        dataset = self._dataset(path)
        with self._reading(path):
            found, kind = tuple(dataset.shape), dataset.dtype
        if found != shape:
            raise self._refused(f"its shape must be {shape}, got {found}", path)
        if kind not in checks.DTYPES or (dtype is not None and kind != dtype):
            wanted = dtype or "float32 or float64"
            raise self._refused(f"its dtype must be {wanted}, got {shown(kind)}", path)
        self._must_be_here(path, dataset, kind.itemsize * int(np.prod(shape, dtype=object)))
        with self._reading(path):
            return np.ascontiguousarray(dataset[()])

    def _must_be_here(self, path, dataset, count):
        """ValueError unless all `count` bytes are in the file, as they are, and not twice."""
        with self._reading(path):
            properties = dataset.id.get_create_plist()
            layout, offset = properties.get_layout(), dataset.id.get_offset()
            stored = dataset.id.get_storage_size()
            plain = properties.get_nfilters() == 0 and properties.get_external_count() == 0
        h5d = self._h5py.h5d
        if not plain or layout not in (h5d.CONTIGUOUS, h5d.COMPACT):
            raise self._refused("its data must be plain: in the file, in one piece", path)
        here = stored == count and (layout == h5d.COMPACT or offset is not None or not count)
        if not here or (offset is not None and offset + count > self._size):
            raise self._refused(f"its {count} bytes are not all in the file", path)
        self._left -= count
        if self._left < 0:
            raise self._refused("the file is shorter than the arrays that it has", path)

    def _dataset(self, path):
        found = self._found(path, self._h5py.Dataset)
        if found is None:
            raise self._refused("it is missing", path)
        return found

    def _found(self, path, kind):
        """The object at a path, by hard links alone; None if there is none."""
        at, parts = self._root, [part for part in path.split("/") if part]
        for index, part in enumerate(parts):
            with self._reading(path):
                if part not in at.keys():
                    return None
                link = at.get(part, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                raise self._refused(f"it must not be a link, got a {type(link).__name__}", path)
            with self._reading(path):
                at = at[part]
            wanted = kind if index == len(parts) - 1 else self._h5py.Group
            if not isinstance(at, wanted):
                raise self._refused(f"it must be a {wanted.__name__.lower()}", path)
        return at

    def _attribute(self, path, name):
        """The value of an attribute of a group; None if the attribute or the group is missing."""
        group = self.group(path)
        if group is None:
            return None
        with self._reading(path):
            if name not in group.attrs:
                return None
            attribute = group.attrs.get_id(name)
            elements = attribute.get_space().get_simple_extent_npoints()
            count = elements * attribute.get_type().get_size()
        if elements > _MOST_NAMES or count > _MOST_BYTES_OF_NAMES:
            raise self._refused(f"its attribute {name} is too large", path)
        with self._reading(path):
            return group.attrs[name]

    def _decoded(self, path, value):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise self._refused("it has a text that is not UTF-8", path) from None

    @contextlib.contextmanager
    def _reading(self, path):
        """Turn the many kinds of errors that h5py raises for damaged files into ValueErrors."""
        try:
            yield
        except Exception as error:
            raise self._refused(f"HDF5 cannot read it: {shown(error)}", path) from None
