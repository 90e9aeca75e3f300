"""Public calls (calls.py) with odd but legal arrays: the results are those for plain arrays.

Each call is a function of its array arguments alone. The same values in another kind of array must
give the same bits.
"""

import numpy as np
import pytest
from calls import ARRAYS, PAIRS, WRITERS, H, I, T, draw, layer, of_losses, of_parts, of_reference
from decorators import every_backend
from problems import LAYOUTS, assert_close, assert_same_bits, misaligned


def packed_field(array):
    """A field of packed records: neither aligned nor dense."""
    records = np.zeros(array.shape, np.dtype([("before", "u1"), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


class Subclass(np.ndarray):
    pass


def memory_mapped(array, folder):
    mapped = np.memmap(folder / f"{id(array)}.bin", array.dtype, "w+", shape=array.shape or (1,))
    mapped[...] = array
    return mapped.reshape(array.shape)


def strided(array):
    return np.repeat(array, 2, axis=-1)[..., ::2]


def from_behind(array):
    return array[..., ::-1].copy()[..., ::-1]


FLOATS = LAYOUTS | {"packed field": packed_field, "subclass": lambda a: a.view(Subclass)}
OF_ANY = {
    "unaligned": misaligned,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "from behind": from_behind,
    "packed field": packed_field,
    "subclass": lambda a: a.view(Subclass),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "list": lambda a: a.tolist(),
}
KINDS = [
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "longlong",
    "ulonglong",
    ">i2",
    ">i8",
    ">u4",
]
INTEGERS = (
    OF_ANY
    | {kind: lambda a, kind=kind: a.astype(kind) for kind in KINDS}
    | {
        "unaligned longlong": lambda a: misaligned(a.astype("longlong")),
        "strided longlong": lambda a: strided(a.astype("longlong")),
        "unaligned, other byte order": lambda a: misaligned(a.astype(">i8")),
    }
)


def of_bytes(byte):
    return lambda a: (a * np.uint8(byte)).view(bool)


FLAGS = OF_ANY | {
    "bytes of 2": of_bytes(2),
    "bytes of 128": of_bytes(128),
    "bytes of 255": of_bytes(255),
    "strided bytes of 2": lambda a: strided(of_bytes(2)(a)),
    "read-only bytes of 4": lambda a: np.frombuffer(of_bytes(4)(a), bool).reshape(a.shape),
}


def ways_of(name):
    return {"f": FLOATS, "i": INTEGERS, "b": FLAGS}[ARRAYS[name].dtype.kind]


OF_NUMPY = of_parts, of_losses, of_reference
OF_DIFFERENT = "rows", "horizon", "columns"  # arguments whose elements must differ


@every_backend
@pytest.mark.parametrize(
    "call, name", PAIRS, ids=[f"{call.__name__[3:]}-{name}" for call, name in PAIRS]
)
def test_the_kind_of_array_never_shows(backend, call, name, tmp_path):
    wanted = call(ARRAYS)
    # The reference's products are NumPy's. Their last bits depend on the addresses of arrays.
    agree = assert_same_bits if backend == "core" and call not in OF_NUMPY else close
    array, ways = ARRAYS[name], ways_of(name) | {"memmap": lambda a: memory_mapped(a, tmp_path)}
    for way, laid_out in ways.items():
        if array.ndim < 2 and way in LAYOUTS:
            continue  # some of these layouts permute axes
        try:
            agree(call(ARRAYS | {name: laid_out(array)}), wanted)
        except Exception as error:
            raise AssertionError(f"{name} as {way}") from error


@every_backend
@pytest.mark.parametrize("write, shape", WRITERS.items(), ids=[w.__name__ for w in WRITERS])
def test_an_array_of_any_kind_is_written(backend, write, shape, tmp_path):
    before = draw(*shape)
    wanted = before.copy()
    write(wanted)
    assert not np.array_equal(before, wanted)
    ways = FLOATS | {"memmap": lambda a: memory_mapped(a, tmp_path)}
    for way in ways.keys() - {"read-only"}:
        array = ways[way](before.copy())
        try:
            write(array)
            close(np.asarray(array), wanted)
        except Exception as error:
            raise AssertionError(f"as {way}") from error


@every_backend
@pytest.mark.parametrize("write, shape", WRITERS.items(), ids=[w.__name__ for w in WRITERS])
def test_a_read_only_array_is_not_written(backend, write, shape):
    before = draw(*shape)
    with pytest.raises((ValueError, TypeError), match="read-only"):
        write(FLOATS["read-only"](before.copy()))


def close(got, wanted):
    assert_close(got, wanted, "float32")


@every_backend
def test_a_row_for_the_whole_batch_may_be_broadcast(backend):
    agree = assert_same_bits if backend == "core" else close
    for call, name in PAIRS:
        array = ARRAYS[name]
        if name in OF_DIFFERENT:
            continue
        one = np.broadcast_to(array[:1], array.shape)
        agree(call(ARRAYS | {name: one}), call(ARRAYS | {name: one.copy()}))


def test_an_empty_list_is_lengths_of_no_rows():
    y, _ = layer()(np.zeros((T, 0, I), "float32"), lengths=[])
    assert y.shape == (T, 0, H)
