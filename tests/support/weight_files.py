"""Weight files made by hand, as others write them, for the tests of fastrnn.load."""

import numpy as np
from strangers import tensors_of

SUFFIXES = (".npz", ".safetensors")
_NAMES = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32"}


def written(path, arrays, text=None):
    """Write arrays, and a text as the description of layers, to a file of either format."""
    if path.suffix == ".npz":
        np.savez(path, **arrays, **({} if text is None else {"fastrnn": np.array(text)}))
        return path
    header, data = {}, b""
    if text is not None:
        header["__metadata__"] = {"fastrnn": text}
    for name, array in arrays.items():
        data += (own := np.ascontiguousarray(array).tobytes())
        header[name] = {
            "dtype": _NAMES[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [len(data) - len(own), len(data)],
        }
    path.write_bytes(tensors_of(header, data))
    return path


def bfloat16(array):
    """The numbers of an array, cut to bfloat16: as float32, and their bits as uint16."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4") >> 16
    return (bits << 16).view("<f4"), bits.astype("<u2")
