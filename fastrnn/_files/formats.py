"""The formats of files, chosen by the suffix of the path: .npz and .safetensors.

It must not know: the meaning of names.
"""

from functools import partial

from fastrnn._files import npz, tensors
from fastrnn._files.sources import PICKLED
from fastrnn.checks import shown

_WRITERS = {".npz": npz.write, ".safetensors": tensors.write}
_READERS = {".npz": lambda source, texts: npz.Npz(source), ".safetensors": tensors.Tensors}
_ELSEWHERE = {
    ".keras": "use fastrnn.keras.load", ".h5": "use fastrnn.keras.load",
    ".hdf5": "use fastrnn.keras.load", ".onnx": "use fastrnn.onnx.load",
}  # fmt: skip
_OF_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def writer_of(path):
    """The function write(file, arrays, texts) of the suffix; ValueError for an unknown suffix."""
    write = _of_suffix(path, _WRITERS)
    if write is tensors.write:
        tensors.package()
    return partial(_written, write)


def reader_of(path, texts):
    """A function from a `Source` to the `Npz` or `Tensors`; ValueError for an unknown suffix.

    texts : the names that texts may have
    """
    return partial(_of_suffix(path, _READERS), texts=texts)


def _written(write, file, arrays, texts):
    """Write arrays and texts by a format's function; ValueError for a name that is no text."""
    for name in arrays:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{shown(name)} must be a text of Unicode's characters, got a surrogate, which "
                "UTF-8 does not have"
            ) from None
    write(file, arrays, texts)


def _of_suffix(path, forms):
    suffix = path.suffix
    if suffix not in forms:
        said = PICKLED if suffix.lower() in _OF_PICKLES else _ELSEWHERE.get(suffix.lower(), "")
        hint = f": {said}" if said and forms is _READERS else ""
        raise ValueError(f"path must end in {' or '.join(forms)}, got {str(path)!r}{hint}")
    return forms[suffix]
