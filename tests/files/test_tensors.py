"""Strangers' safetensors: the header must agree with the file, the parts and the package."""

import json

import numpy as np
import pytest
from problems import assert_same_bits
from strangers import BIAS, DATA, TOO_DEEP, WEIGHT, header_of, tensors_of
from training import draw

pytestmark = pytest.mark.no_kernels


def test_a_header_may_name_arrays_in_any_order_and_more_texts(tensors):
    header = dict(reversed(header_of().items())) | {"__metadata__": {"format": "pt"}}
    assert tensors.load(tensors_of(header, DATA)) == {}
    tensors.holds()


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E5M2", "F8_E4M3", "C64", "x" * 999])
def test_dtypes_that_numpy_lacks_are_named(dtype, tensors):
    header = header_of(d_weight={"dtype": dtype})
    tensors.refuses(tensors_of(header, DATA), TypeError, "d.weight", f"got {dtype[:100]}")
    at = len(DATA)
    for name in ("extra.x", "optimizer.x"):
        header = header_of() | {name: {"dtype": dtype, "shape": [1], "data_offsets": [at, at + 4]}}
        data = tensors_of(header, DATA + bytes(4))
        if name == "extra.x":
            tensors.refuses(data, TypeError, name, "array of numbers, got dtype")
        else:
            tensors.load(data)


def test_bfloat16_is_named_and_its_size_compared(tensors):
    """`fastrnn.load` reads it."""
    for name in ("d.weight", "optimizer.x"):
        header = header_of() | {name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 24]}}
        tensors.refuses(tensors_of(header, DATA), ValueError, name, "but 12 by its dtype")
    header = {
        "d.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "d.bias": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
    }
    tensors.refuses(tensors_of(header, bytes(20)), TypeError, "d.weight", "got BF16")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dtype": "F64"}, ValueError, "24 bytes by its data_offsets, but 48 by its dtype"),
        ({"dtype": "I32"}, TypeError, "must be float32 like parts, got int32"),
        ({"dtype": 4}, ValueError, "dtype must be a text"),
        ({"shape": [3, 2]}, ValueError, "got (3, 2): transposed?"),
        ({"shape": [2, 4]}, ValueError, "but 32 by its dtype and shape"),
        ({"shape": [2.0, 3]}, ValueError, "shape must be a list of sizes"),
        ({"shape": [True, 6]}, ValueError, "shape must be a list of sizes"),
        ({"shape": [-2, -3]}, ValueError, "shape must be a list of sizes"),
        ({"shape": [1] * 65 + [2, 3]}, ValueError, "shape must be a list of sizes"),
        ({"shape": [10**4000]}, ValueError, "shape must be a list of sizes"),
        ({"shape": [[[[]]]]}, ValueError, "shape must be a list of sizes"),
        ({"shape": None}, ValueError, "shape must be a list of sizes"),
        ({"shape": [2**62] * 64}, ValueError, "by its dtype and shape"),
        ({"data_offsets": [0, 20]}, ValueError, "20 bytes by its data_offsets, but 24"),
        ({"data_offsets": [24, 0]}, ValueError, "where its bytes begin and end"),
        ({"data_offsets": [-24, 0]}, ValueError, "where its bytes begin and end"),
        ({"data_offsets": [0, 24, 24]}, ValueError, "where its bytes begin and end"),
        ({"data_offsets": "024"}, ValueError, "where its bytes begin and end"),
        ({"data_offsets": [2**64, 2**64 + 24]}, ValueError, "where its bytes begin and end"),
        ({"data_offsets": [2**62, 2**62 + 24]}, ValueError, "data_offsets"),
        ({"data_offsets": [8, 32]}, ValueError, "do not follow another's"),
        ({"data_offsets": [4, 28]}, ValueError, "data_offsets"),
        ({"more": 1}, ValueError, "must have data_offsets, dtype, shape alone"),
    ],
)  # fmt: skip
def test_an_array_that_a_header_says_wrongly_is_refused(change, error, words, tensors):
    tensors.refuses(tensors_of(header_of(d_weight=change), DATA), error, words)


TEXT = json.dumps(header_of()).encode()
TWICE = TEXT.replace(b"d.bias", b"d.weight")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file ends early"),
        (tensors_of(b""), "header must end within the file"),
        (tensors_of(TEXT, DATA, 2**63), "header must end within the file"),
        (tensors_of(TEXT, DATA, 2**64 - 1), "header must end within the file"),
        (tensors_of(TEXT, DATA[:-1]), "end at byte"),
        (tensors_of(TEXT, DATA + b"\0"), "end at byte"),
        (tensors_of(TEXT, DATA, len(TEXT) - 1), "JSON is broken"),
        (tensors_of(TEXT, DATA, len(TEXT) + 1), "header"),
        (tensors_of(TWICE, DATA), "d.weight: it comes twice"),
        (tensors_of(TEXT.replace(b'"shape"', b'"dtype"'), DATA), "dtype: it comes twice"),
        (tensors_of(b"[" * 20_000), TOO_DEEP),
        (tensors_of(b'{"a":' * 20_000), TOO_DEEP),
        (tensors_of(b"[]"), "must be an object, got list"),
        (tensors_of(b"\xef\xbb\xbf{}"), "JSON is broken"),
        (tensors_of('{"a": "\ud800"}'.encode("utf-8", "surrogatepass")), "not UTF-8"),
        (tensors_of('{"a":{}}'.encode("utf-16")), "not UTF-8"),
        (tensors_of(b'{"a": ' + b"1" * 5000 + b"}"), "JSON is broken"),
        (tensors_of({"a": 1}), "a: it must have data_offsets, dtype, shape alone"),
        (tensors_of({"__metadata__": []}), "__metadata__: it must be an object of texts"),
        (tensors_of({"__metadata__": {"extra": {}}}), "__metadata__: it must be an object of text"),
    ],
)  # fmt: skip
def test_a_header_that_is_broken_is_refused(data, words, tensors):
    tensors.refuses(data, ValueError, "cannot be read as .safetensors", words)


@pytest.mark.parametrize("name", ["", "x" * 50_000, "\0", "d.weight.npy", "\ud800", "__metadata"])
def test_an_array_that_is_not_wanted_is_unknown(name, tensors):
    header = header_of() | {name: {"dtype": "F32", "shape": [0], "data_offsets": [32, 32]}}
    tensors.refuses(tensors_of(header, DATA), ValueError, "unknown are")


def test_the_package_reads_what_is_read_here(tensors):
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {"d.weight": WEIGHT, "d.bias": BIAS}
    for name in ("?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"):
        arrays[f"extra.{name}"] = (draw(3, 2) * 9).astype(name)
    arrays |= {"extra.0": np.array(2.5), "extra.none": np.zeros((0, 4), "f4")}
    extra = tensors.load(safetensors.save(arrays, {"extra": '{"epoch": 3}'}))
    tensors.holds()
    assert extra.pop("epoch") == 3
    wanted = {name[6:]: array for name, array in arrays.items() if name.startswith("extra.")}
    assert extra.keys() == wanted.keys()
    assert_same_bits({name: extra[name] for name in wanted}, wanted)
