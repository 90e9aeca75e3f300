"""The formats of files, chosen by the suffix of the path: .npz and .safetensors.

It must not know: the meaning of names.
"""

from functools import partial
from pathlib import Path

from fastrnn._files import npz, tensors
from fastrnn._files.sources import PICKLED

_WRITERS = {".npz": npz.write, ".safetensors": tensors.write}
_READERS = {".npz": lambda source, texts: npz.Npz(source), ".safetensors": tensors.Tensors}
_OF_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def writer_of(path):
    """The function write(file, arrays, texts) of the suffix; ValueError for an unknown suffix."""
    write = _of_suffix(path, _WRITERS)
    if write is tensors.write:
        tensors.package()
    return write


def reader_of(path, texts):
    """A function from a `Source` to the `Npz` or `Tensors`; ValueError for an unknown suffix.

    texts : the names that texts may have
    """
    return partial(_of_suffix(path, _READERS), texts=texts)


def _of_suffix(path, forms):
    suffix = Path(path).suffix
    if suffix not in forms:
        hint = f": {PICKLED}" if suffix.lower() in _OF_PICKLES else ""
        raise ValueError(f"path must end in {' or '.join(forms)}, got {str(path)!r}{hint}")
    return forms[suffix]
