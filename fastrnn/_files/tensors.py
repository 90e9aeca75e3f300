"""Files in the format safetensors: a header with the offsets of each array, then the elements.

The first eight bytes are the length of the header. The header is JSON: for each array its dtype,
its shape, and the begin and end of its bytes. Texts are in the object `__metadata__`. The package
safetensors writes files. `Tensors` reads them without that package, because the package accepts
headers of 100 MB and does not bound the memory of their contents.

It must not know: parts, the meaning of names.
"""

import math
from reprlib import repr  # its texts have a bounded length
from typing import NamedTuple

import numpy as np

from fastrnn._files.npy import MOST_AXES
from fastrnn._files.texts import Twice, memory_of, object_of

_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_BFLOAT16 = "BF16"  # NumPy has no such dtype; `Tensors.array` makes float32 of it
_METADATA, _ENTRY = "__metadata__", {"dtype", "shape", "data_offsets"}


def package():
    """The module safetensors; the message of ModuleNotFoundError says how to install it."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a .safetensors file needs safetensors to be written: pip install safetensors, or use "
            ".npz"
        ) from None
    return safetensors


def write(file, arrays, texts):
    """Write arrays of numbers, and texts, both dicts."""
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<").str not in _DTYPES.values():
            raise TypeError(
                f"{name} must be of at most 64 bits in .safetensors, got {array.dtype}: use .npz"
            )
    safetensors = package()
    try:
        data = safetensors.numpy.save(arrays, texts or None)
    except safetensors.SafetensorError as error:  # the names take 100 MB, say
        raise ValueError(f"the arrays cannot be written as .safetensors: {error}") from None
    file.write(data)


class Tensor(NamedTuple):
    """The header's entry for an array, or a text.

    dtype : a dtype of numbers, or for a text a str of its length; for any other dtype the name in
        the header, such as "BF16"
    """

    dtype: np.dtype | str
    shape: tuple
    begin: int = 0  # the offset in the file
    end: int = 0


class Tensors:
    """A .safetensors that is being read: `names`, then `describe`, then `array` and `text`.

    texts : the names that texts may have; other texts are ignored
    """

    # The memory for the header counts by its characters, those of texts included. This count covers
    # the texts, and the objects from their JSON, which are created after the header's were deleted.
    counts_texts = True

    def __init__(self, source, texts):
        self._source, self._known = source, texts
        self._texts, self._tensors = {}, {}

    def names(self):
        """Yields the names of all arrays and texts, a repeated name several times."""
        length = int.from_bytes(self._source.read(0, 8), "little")
        header = self._header(length)
        self._texts = self._checked_texts(header.pop(_METADATA, {}))
        for name, value in header.items():
            self._tensors[name] = self._tensor(name, value, 8 + length)
        self._check_places(8 + length)
        yield from self._texts
        yield from self._tensors

    def describe(self, names):
        """Yields each name with its `Tensor`, for arrays and texts; no element is read."""
        texts = {name: Tensor(np.dtype(f"U{len(t)}"), ()) for name, t in self._texts.items()}
        described = (
            self._tensors | texts
        )  # no name is in both: the caller refuses one that comes twice
        for name in names:
            yield name, described[name]

    def array(self, name):
        """The array; of bfloat16 it is float32, which has all numbers of bfloat16."""
        tensor = self._tensors[name]
        is_bfloat16 = tensor.dtype == _BFLOAT16
        array = np.empty(tensor.shape, "<u2" if is_bfloat16 else tensor.dtype)
        view = memoryview(array.reshape(-1).view(np.uint8))
        self._source.read_into(tensor.begin, view, name)
        if is_bfloat16:  # the upper half of the bits of a float32
            return (array.astype("<u4") << 16).view("<f4")
        return array

    def text(self, name):
        """The text."""
        return self._texts[name]

    def _header(self, length):
        source = self._source
        if not 2 <= length <= source.size - 8:
            raise source.refused(f"its header must end within the file, got {length} bytes")
        source.take_for_names(2 * length)
        data = source.read(8, length)
        source.take_for_names(max(0, memory_of(data) - 2 * length))
        try:
            text = data.decode("utf-8")
            del data
            return object_of(text)
        except Twice as error:
            raise source.refused("it comes twice", error.args[0]) from None
        except UnicodeDecodeError:
            raise source.refused("its header is not UTF-8") from None
        except ValueError as error:
            raise source.refused(f"of its header {error}") from None

    def _checked_texts(self, texts):
        if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
            raise self._source.refused("it must be an object of texts", _METADATA)
        return {name: text for name, text in texts.items() if name in self._known}

    def _tensor(self, name, value, data):
        """The `Tensor` of a header's entry; `data` is the offset that its bytes count from."""
        if not isinstance(value, dict) or value.keys() != _ENTRY:
            raise self._source.refused(f"it must have {', '.join(sorted(_ENTRY))} alone", name)
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str):
            raise self._source.refused("its dtype must be a text", name)
        if not _sizes(shape) or len(shape) > MOST_AXES:
            raise self._source.refused(
                f"its shape must be a list of sizes, got {repr(shape)}", name
            )
        if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self._source.refused(
                f"its data_offsets must be where its bytes begin and end, got {repr(offsets)}", name
            )
        begin, end = offsets
        dtype = np.dtype(_DTYPES[dtype]) if dtype in _DTYPES else dtype
        itemsize = 2 if dtype == _BFLOAT16 else getattr(dtype, "itemsize", None)
        if itemsize is not None and end - begin != math.prod(shape) * itemsize:
            raise self._source.refused(
                f"it has {end - begin} bytes by its data_offsets, but "
                f"{math.prod(shape) * itemsize} by its dtype and shape",
                name,
            )
        return Tensor(dtype, tuple(shape), data + begin, data + end)

    def _check_places(self, at):
        """ValueError unless each byte after the header belongs to exactly one array."""
        for name, tensor in sorted(self._tensors.items(), key=lambda item: item[1][2:]):
            if tensor.begin != at:
                what = (
                    "overlap those of another" if tensor.begin < at else "do not follow another's"
                )
                raise self._source.refused(f"its bytes {what}, by its data_offsets", name)
            at = tensor.end
        if at != self._source.size:
            raise self._source.refused(
                f"its arrays end at byte {at}, but the file at byte {self._source.size}"
            )


def _sizes(value):
    """Return whether the value is a list of integers from 0 to the largest address."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
