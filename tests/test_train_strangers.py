"""Files from strangers: what they hold, they are read, or refused in words that name the file.

Whatever the bytes: ValueError or TypeError, bounded memory, nothing changed.
"""

import contextlib
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from problems import assert_same_bits
from strangers import (
    DEFLATED,
    Member,
    deflated,
    mutant,
    mutant_of_header,
    mutant_of_members,
    npy,
    tensors_of,
    zip_of,
)
from training import draw

from fastrnn import train
from fastrnn.train import texts

MIB = 2**20
WEIGHT, BIAS = draw(2, 3, dtype="float32"), draw(2, dtype="float32", seed=1)


class Target:
    """Parts to be loaded into, an optimizer too, and whether they are as they were."""

    def __init__(self, path, optimizer=False):
        self.path, self.dense = path, train.Dense(3, 2, rng=0)
        self.dense.rng = np.random.default_rng(0)  # a part that draws
        self.adam = train.Adam([self.dense.flat]) if optimizer else None
        self._before = self._now()

    def _now(self):
        state = self.dense.rng.bit_generator.state
        return pickle.dumps((self.dense.flat, self.adam and self.adam.state(), state))

    def load(self, data, **options):
        self.path.write_bytes(data)
        return train.load(self.path, {"d": self.dense}, self.adam, **options)

    def refuses(self, data, error, *words, **options):
        """It does so with these words and the name of the file, and is as it was."""
        with pytest.raises(error) as caught:
            self.load(data, **options)
        assert type(caught.value) is error
        for word in (str(self.path), *words):
            assert word in str(caught.value)
        assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()
        assert self._now() == self._before

    def holds(self, weight=WEIGHT, bias=BIAS):
        assert_same_bits(self.dense.params["weight"], weight)
        assert_same_bits(self.dense.params["bias"], bias)


@pytest.fixture
def npz(tmp_path):
    return Target(tmp_path / "theirs.npz")


@pytest.fixture
def tensors(tmp_path):
    return Target(tmp_path / "theirs.safetensors")


def members(weight=None, bias=None, more=(), **of_weight):
    """The members of a file that fits, the weight changed by what is given."""
    weight = npy(WEIGHT) if weight is None else weight
    bias = npy(BIAS) if bias is None else bias
    return [Member(b"d.weight.npy", weight, **of_weight), Member(b"d.bias.npy", bias), *more]


def extra_of(text):
    return Member(b"extra.npy", npy(np.array(text)))


def header_of(**changes):
    """The header of a .safetensors that fits, changed; None takes an array out."""
    header = {
        "d.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "d.bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
    }
    for name, change in changes.items():
        name = name.replace("_", ".")
        header[name] = header.get(name, {}) | change
    return header


DATA = WEIGHT.tobytes() + BIAS.tobytes()


@contextlib.contextmanager
def memory_below(limit):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# ---- mutants -------------------------------------------------------------------------------------


def whole_files(path):
    """Functions that make mutants of files that were saved: rng -> suffix and bytes."""
    pytest.importorskip("safetensors")
    dense = train.Dense(3, 2, rng=1)
    dense.rng = np.random.default_rng(1)
    whole, extra = {}, {"epoch": 3, "words": ["a", "b"], "table": draw(6), "on": np.ones(2, bool)}
    for suffix in (".npz", ".safetensors"):
        train.save(path / f"x{suffix}", {"d": dense}, train.Adam([dense.flat]), **extra)
        whole[suffix] = (path / f"x{suffix}").read_bytes()
    with zipfile.ZipFile(path / "x.npz") as file:
        methods = [0, DEFLATED] * len(file.namelist())
        inside = [Member(n.encode(), file.read(n), m) for n, m in zip(file.namelist(), methods)]  # noqa: B905
    packed, tensors = zip_of(inside), whole[".safetensors"]
    length = 8 + int.from_bytes(tensors[:8], "little")
    return [
        lambda rng: (".npz", mutant(rng, whole[".npz"])),
        lambda rng: (".npz", mutant(rng, packed)),
        lambda rng: (".npz", mutant_of_members(rng, inside)),
        lambda rng: (".safetensors", mutant(rng, tensors)),
        lambda rng: (".safetensors", mutant_of_header(rng, tensors[8:length], tensors[length:])),
    ]


def load_mutants(path, count, seed):
    """Load so many mutants -> how many were refused; nothing but refusals in words may come."""
    makers, rng, refused = whole_files(path), np.random.default_rng(seed), 0
    targets = {s: Target(path / f"m{s}", True) for s in (".npz", ".safetensors")}
    for index in range(count):
        suffix, data = makers[index % len(makers)](rng)
        target = targets[suffix]
        try:
            target.load(data, max_extra=2**16)
            targets[suffix] = Target(target.path, True)
        except (ValueError, TypeError) as error:
            assert type(error) in (ValueError, TypeError) and str(target.path) in str(error)
            assert len(str(error)) < 2000 and str(error).isprintable()
            assert target._now() == target._before
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    return refused


def test_two_thousand_mutants_are_loaded_or_refused_in_words(tmp_path):
    assert load_mutants(tmp_path, 1800, seed=0) > 1500
    with memory_below(2 * MIB):
        assert load_mutants(tmp_path, 200, seed=1) > 150


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_mutants(seed, tmp_path):
    load_mutants(tmp_path, 10_000, seed)


# ---- zip files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [0, DEFLATED])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"comment": b"a comment"},
        {"comment": b"PK\5\6" + b"x" * 18},  # like an end record
        {"zip64": True},
        {"before": b"what unpacks itself"},
    ],
    ids=["plain", "comment", "comment like an end", "zip64", "something before"],
)
def test_a_zip_that_is_right_is_read(method, options, npz):
    files = members(method=method)
    files[0].comment, files[0].extra = b"of one member", struct.pack("<2H4s", 0x5455, 4, b"date")
    assert npz.load(zip_of(files, **options)) == {}
    npz.holds()


def test_sizes_beyond_32_bits_are_in_the_field_of_zip64(npz):
    files = members(sizes=(2**32 - 1, 2**32 - 1))
    size = len(files[0].data)
    files[0].extra = struct.pack("<2H4s", 7, 4, b"what") + struct.pack("<2H2Q", 1, 16, size, size)
    npz.load(zip_of(files))
    npz.holds()


@pytest.mark.parametrize("extra", [b"", struct.pack("<2HQ", 1, 8, 152), b"\1\0\xff\xff", b"\1"])
def test_a_field_of_zip64_that_is_missing_or_too_short_is_missed(extra, npz):
    files = members(sizes=(2**32 - 1, 2**32 - 1), extra=extra)
    npz.refuses(zip_of(files), ValueError, "d.weight", "zip64 field is missing")


def test_members_may_stand_in_any_order_and_lack_their_suffix(npz):
    files = members()
    files[1].name = b"d.bias"
    npz.load(zip_of(files[::-1]))
    npz.holds()


WHOLE = npy(WEIGHT)
SHORT = deflated(WHOLE[:-1])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (members(method=12), ["d.weight", "stored or deflated, got compression 12"]),
        (members(method=14), ["got compression 14"]),
        (members(flags=1), ["d.weight", "encrypted"]),
        (members(flags=0x40), ["encrypted"]),
        (members(local={"flags": 1}), ["d.weight", "local header"]),
        (members(local={"name": b"d.wei\0ht.npy"}), ["d.weight", "local header"]),
        (members(local={"method": 8}), ["local header"]),
        (members(local={"begin": 3}), ["local header"]),
        (members(local={"begin": 2**31}), ["d.weight", "beyond the members"]),
        (members(crc=1), ["d.weight", "checksum"]),
        (members(method=8, crc=1), ["d.weight", "checksum"]),
        (members(sizes=(152, 151)), ["d.weight", "152 bytes are to be 151"]),
        (members(sizes=(2**31, 2**31)), ["d.weight", "local header"]),
        (members(method=8, sizes=(len(deflated(WHOLE)), 200)), ["d.weight", "24 by its dtype"]),
        (members(method=8, packed=SHORT, sizes=(len(SHORT), 152)), ["fewer bytes"]),
        (members(method=8, packed=deflated(WHOLE + b"\0")), ["more bytes than its directory"]),
        (members(method=8, packed=deflated(WHOLE) + b"\0"), ["end elsewhere"]),
        (members(method=8, packed=deflated(WHOLE)[:-4]), ["fewer bytes"]),
        (members(method=8, packed=b"\6" * 30), ["d.weight", "cannot be inflated"]),
        (members(method=8, packed=b""), ["fewer bytes"]),
        (members(b""), ["d.weight", "too short"]),
        (members(WHOLE + b"\0"), ["25 bytes of elements by its directory, but 24"]),
        (members(WHOLE[:-1]), ["23 bytes of elements by its directory, but 24"]),
        (members(WHOLE[:50]), ["shorter than its header"]),
        (members(more=members()[:1]), ["d.weight", "twice"]),
        (members(more=[Member(b"d.weight", WHOLE)]), ["d.weight", "twice"]),
        (members(more=[Member(b"extra.a.npy", WHOLE), Member(b"extra.a", WHOLE)]), ["twice"]),
        (members(more=[Member(b"\xff", WHOLE, flags=0x800)]), ["not UTF-8"]),
    ],
)  # fmt: skip
def test_a_zip_that_is_not_what_it_says_is_refused(files, words, npz):
    npz.refuses(zip_of(files), ValueError, "cannot be read as .npz", *words)


@pytest.mark.parametrize(
    "name",
    [b"d.weight\0.npy", b"../d.weight.npy", b"/d.weight.npy", b"d/", b"", b".npy", 
     b"d.weight.npy.npy", b"D.weight.npy", b"x" * 65535, b"a\r\nb", b"optimizers.x.npy"],
)  # fmt: skip
def test_a_name_that_is_nearly_one_is_another(name, npz):
    more = [Member(name, b"", crc=1)]
    npz.refuses(zip_of(members(more=more)), ValueError, "unknown are")


def test_members_that_overlap_are_refused(npz):
    weight, bias = members()
    inside = zip_of([bias])[: 30 + len(bias.name) + len(bias.data)]
    outside = Member(b"extra.t.npy", npy(np.frombuffer(inside, "u1")))
    before = zip_of([weight, outside])
    bias.local["begin"] = before.index(inside)
    npz.refuses(zip_of([weight, outside, bias]), ValueError, "d.bias", "overlaps another")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 1}, "more entries than it says"),
        ({"count": 3}, "not where its end record says"),
        ({"count": 2**16 - 1}, "zip64 locator is missing"),
        ({"begin": 0}, "not where its end record says"),
        ({"begin": 2**32 - 1}, "zip64 locator is missing"),
        ({"size": 0}, "not where its end record says"),
        ({"begin": 2**63, "zip64": True}, "not where its end record says"),
        ({"size": 2**64 - 1, "zip64": True}, "not where its end record says"),
        ({"count": 2**64 - 1, "zip64": True}, "not where its end record says"),
    ],
)
def test_an_end_record_that_lies_is_refused(options, words, npz):
    npz.refuses(zip_of(members(), **options), ValueError, words)


def test_a_locator_that_leads_nowhere_is_refused(npz):
    whole = zip_of(members(), zip64=True)
    at = whole.index(b"PK\6\7") + 8
    for where in (0, at, len(whole), 2**64 - 1):
        lie = whole[:at] + struct.pack("<Q", where) + whole[at + 8 :]
        npz.refuses(lie, ValueError, "zip64")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6", b"PK\5\6" + bytes(17), bytes(100)])
def test_what_is_no_zip_is_refused(data, npz):
    npz.refuses(data, ValueError, "cannot be read as .npz: it is no zip file")


def test_a_zip_without_members_is_missing_all(npz):
    npz.refuses(zip_of([]), ValueError, "missing are d.weight, d.bias; unknown are none")


# ---- headers of .npy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weight",
    [
        npy(WEIGHT, version=2),
        npy(WEIGHT, version=3),
        npy(WEIGHT.T.copy(), shape=(2, 3), fortran=True),
        npy(WEIGHT, header='{"shape":(2,3),"fortran_order":False,"descr":"<f4"}'),
        npy(WEIGHT, header="{'descr': '=f4' , 'fortran_order' : False, 'shape': (2L, 3L,)}"),
    ],
    ids=["version 2", "version 3", "Fortran", "another order", "Python 2"],
)
def test_whoever_wrote_an_array_it_is_read(weight, npz):
    npz.load(zip_of(members(weight)))
    npz.holds()


def header_like(text):
    return npy(WEIGHT, header=text)


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (npy(WEIGHT, ">f4"), TypeError, "must be float32 like parts, got >f4"),
        (npy(WEIGHT.astype("f8")), TypeError, "got float64"),
        (npy(WEIGHT, "|O"), TypeError, "got |O: pickled files are never read"),
        (npy(WEIGHT, [("a", "<f4")]), TypeError, "got [('a', '<f4')]"),
        (npy(WEIGHT, "<M8[s]"), TypeError, "got <M8[s]"),
        (npy(WEIGHT, "<f3"), TypeError, "got <f3"),
        (npy(WEIGHT, "V4"), TypeError, "got V4"),
        (npy(WEIGHT, "<U6", ()), TypeError, "got <U6"),
        (npy(WEIGHT, "x" * 9000), TypeError, "got xxxx"),
        (npy(WEIGHT, shape=(3, 2)), ValueError, "(2, 3), got (3, 2): transposed?"),
        (npy(WEIGHT, shape=(6,)), ValueError, "got (6,)"),
        (npy(WEIGHT, shape="(6)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape="(-6,)"), ValueError, "header must be a dict"),
        (npy(WEIGHT, shape="(6,,)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape=(1,) * 65), ValueError, "at most 64 sizes"),
        (npy(WEIGHT, shape="(" + "9" * 500 + ",)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape=(2**62, 2**62)), ValueError, "d.weight"),
        (npy(WEIGHT, shape=(0, 2**62)), ValueError, "d.weight"),
        (npy(WEIGHT, fortran=1), ValueError, "header must be a dict"),
        (npy(WEIGHT, fortran="'x'"), ValueError, "True or False as fortran_order"),
        (npy(WEIGHT, shape="(__import__('os').abort(),)"), ValueError, "header must be a dict"),
        (npy(WEIGHT, shape="(" * 4000), ValueError, "header must be a dict"),
        (header_like("{'descr': '<f4', 'shape': (2, 3)}"), ValueError, "must be a dict of descr"),
        (header_like("{'fortran_order': False, 'shape': (2, 3), 'descr': '<f8', 'descr': '<f4'}"),
         ValueError, "must be a dict of descr"),
        (header_like("-" * 9000), ValueError, "header must be a dict"),
        (header_like(""), ValueError, "header must be a dict"),
        (header_like("{" * 9000 + "}"), ValueError, "header must be a dict"),
        (header_like("{'descr': '\n\x1b[2J', 'x"), ValueError, "header must be a dict"),
        (header_like(b"\xff\xfe{}"), ValueError, "header must be a dict"),
        (header_like(" " * 20_000), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1", b"NUMPY\4"), ValueError, "1.0, 2.0 or 3.0, got 4.0"),
        (WHOLE.replace(b"NUMPY", b"NUMPX"), ValueError, "it is not an array"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\2\0\xff\xff"), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\1\0\0\0"), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\1\0\0\4"), ValueError, "shorter than its header"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [0, DEFLATED])
def test_a_header_that_does_not_fit_is_refused(method, weight, error, words, npz):
    npz.refuses(zip_of(members(weight, method=method)), error, "d.weight", words)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)], ids=str)
def test_arrays_of_one_and_of_no_element_are_read(shape, npz):
    array = draw(*shape)
    more = [Member(b"extra.a.npy", npy(array)), Member(b"extra.b.npy", npy(array, fortran=True))]
    extra = npz.load(zip_of(members(more=more)))
    assert_same_bits(extra["a"], array)
    assert_same_bits(extra["b"], array)


# ---- safetensors ---------------------------------------------------------------------------------


def test_a_header_may_name_arrays_in_any_order_and_more_texts(tensors):
    header = dict(reversed(header_of().items())) | {"__metadata__": {"format": "pt"}}
    assert tensors.load(tensors_of(header, DATA)) == {}
    tensors.holds()


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E5M2", "F8_E4M3", "BF16", "C64", "x" * 999])
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
        (tensors_of(b"[" * 5000), "nested too deeply"),
        (tensors_of(b'{"a":' * 5000), "nested too deeply"),
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


# ---- memory, and what extra may take -------------------------------------------------------------

LARGE = 8 * MIB


def sized(path, count):
    """Parts of two megabytes, and a file of them."""
    dense = train.Dense(500, 1000, rng=0)
    train.save(path, {"d": dense}, train.Adam([dense.flat]), table=np.zeros(count, "u1"))
    return {"d": dense}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("optimizer", [False, True])
def test_loading_takes_at_most_twice_the_memory_of_the_parts_and_extra(optimizer, suffix, tmp_path):
    pytest.importorskip("safetensors")
    parts = sized(path := tmp_path / f"x{suffix}", 3 * MIB)
    adam = train.Adam([parts["d"].flat]) if optimizer else None
    size = parts["d"].flat.nbytes * (3 if optimizer else 1)
    with memory_below(2 * size + 3 * MIB + MIB // 2):
        train.load(path, parts, adam, max_extra=3 * MIB)


@pytest.mark.parametrize("method", [0, DEFLATED])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (Member(b"unknown.npy", npy(np.zeros(LARGE, "u1"))), ["unknown are unknown"]),
        (Member(b"extra.x.npy", npy(np.zeros(LARGE, "u1"))), ["extra.x", "max_extra = 1048576"]),
        (Member(b"extra.npy", npy(np.array("1" * (LARGE // 4)))), ["extra", "max_extra"]),
        (Member(b"extra.x.npy", npy(b"", "|u1", (LARGE,))), ["extra.x", "by its dtype and shape"]),
    ],
    ids=["unknown", "array", "text", "a lie"],
)
def test_what_is_too_large_is_refused_unread(more, words, method, npz):
    more.method = method
    data = zip_of(members(more=[more]))
    with memory_below(MIB):
        npz.refuses(data, ValueError, *words, max_extra=MIB)


def test_a_member_that_unpacks_to_more_than_it_says_is_left_there(npz):
    packed = deflated(WHOLE + bytes(LARGE))
    data = zip_of(members(method=DEFLATED, packed=packed, sizes=(len(packed), len(WHOLE))))
    with memory_below(MIB):
        npz.refuses(data, ValueError, "d.weight", "more bytes than its directory says")


def test_an_optimizer_that_nobody_asked_for_is_not_read(npz):
    more = [Member(b"optimizer.x.npy", b"no array", DEFLATED, packed=b"cannot be inflated", crc=1)]
    npz.load(zip_of(members(more=more)))
    npz.holds()


JSON_OF_FEW_BYTES = {
    "lists": "[" + "[]," * 30_000 + "0]",
    "objects": "[" + "{}," * 10_000 + "0]",
    "nested": "[" + "[[[[[[[[[[]]]]]]]]]]," * 1000 + "0]",
    "names": "{" + ",".join(f'"{n}":0' for n in range(10_000)) + "}",
    "objects of one": "[" + '{"":{}},' * 5000 + "0]",
    "objects of names": "[" + ",".join(f'{{"{n}":{{}}}}' for n in range(5000)) + "]",
    "floats": "[" + "9e9," * 10_000 + "0]",
    "texts": "[" + '"ab",' * 10_000 + "0]",
    "one wide": '["' + "a" * 200_000 + "\\ud83d\\ude00" + '"]',
    "all wide": '["' + "\\u4e00" * 20_000 + '"]',
}


@pytest.mark.parametrize("text", JSON_OF_FEW_BYTES.values(), ids=JSON_OF_FEW_BYTES)
def test_json_takes_no_more_memory_than_it_counts_for(text):
    with memory_below(texts.memory_of(text) + 2**14):
        texts.object_of('{"a":' + text + "}")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("text", ["lists", "one wide"])
def test_json_that_takes_more_than_max_extra_is_refused(text, suffix, tmp_path):
    target, text = Target(tmp_path / f"x{suffix}"), '{"a":' + JSON_OF_FEW_BYTES[text] + "}"
    if suffix == ".npz":
        data = zip_of(members(more=[extra_of(text)]))
    else:
        data = tensors_of(header_of() | {"__metadata__": {"extra": text}}, DATA)
    with memory_below(6 * MIB):
        target.refuses(data, ValueError, "extra", "max_extra = 1048576", max_extra=MIB)
    assert list(target.load(data)) == ["a"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_more_names_than_anybody_needs_are_refused(suffix, tmp_path):
    target, names = Target(tmp_path / f"x{suffix}"), [f"optimizer.{n}" for n in range(6000)]
    if suffix == ".npz":
        data = zip_of(members(more=[Member(name.encode(), b"") for name in names]))
    else:
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [32, 32]}
        data = tensors_of(header_of() | dict.fromkeys(names, empty), DATA)
    with memory_below(6 * MIB):
        target.refuses(data, ValueError, "max_extra = 1048576", max_extra=MIB)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_max_extra_is_the_bytes_of_all_arrays_of_extra(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path, dense = tmp_path / f"x{suffix}", train.Dense(3, 2)
    train.save(path, [dense], a=np.zeros(100), b=np.zeros((10, 10), "f4"))
    assert list(train.load(path, [dense], max_extra=1200)) == ["a", "b"]
    with pytest.raises(
        ValueError, match="x.* extra.*: extra takes more memory than max_extra = 11"
    ):
        train.load(path, [dense], max_extra=1199)
    with pytest.raises(ValueError, match="max_extra must be an integer of at least 0, got -1"):
        train.load(path, [dense], max_extra=-1)


# ---- extra ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ([extra_of("[1, 2]")], ValueError, "must be an object, got list"),
        ([extra_of('{"a": 1')], ValueError, "JSON is broken"),
        ([extra_of('{"a": 1, "a": 2}')], ValueError, "it has a twice"),
        ([extra_of('{"a": {"b": 1, "b": 2}}')], ValueError, "it has b twice"),
        ([extra_of('{"a": ' + "[" * 9000)], ValueError, "nested too deeply"),
        ([extra_of('{"a": ' + "1" * 5000 + "}")], ValueError, "JSON is broken"),
        ([extra_of('{"a": "\xe4"}')], ValueError, "text must be ASCII"),
        ([Member(b"extra.npy", npy(b"\xff\xff\xff\xff", "<U1", ()))], ValueError, "must be ASCII"),
        ([extra_of(["{}", "{}"])], TypeError, "must be a text of JSON"),
        ([Member(b"extra.npy", npy(WEIGHT))], TypeError, "must be a text of JSON"),
        ([Member(b"extra.npy", b"{}")], ValueError, "too short for an array"),
        ([extra_of('{"a": 1}'), Member(b"extra.a.npy", npy(WEIGHT))], ValueError, "twice"),
        ([Member(b"extra.a", npy(np.array("a")))], TypeError, "of numbers, got dtype <U1"),
        ([Member(b"extra.a.npy", npy(np.array(1j)))], TypeError, "of numbers, got dtype <c16"),
        ([Member(b"extra.a", npy(np.zeros(0), "|O"))], TypeError, "of numbers, got dtype |O"),
        ([Member(b"extra.a.npy", npy(b"\1\2", "|b1", (2,)))], ValueError, "bytes 0 and 1"),
        ([Member(b"extra.a", npy(np.zeros(0), "<f4", (0, 2**62)))], ValueError, "an address"),
    ],
)  # fmt: skip
def test_extra_that_no_save_has_written_is_refused(more, error, words, npz):
    npz.refuses(zip_of(members(more=more)), error, "extra", words)


def test_names_that_json_makes_the_same_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="extra must have no name twice in JSON.*got '1'"):
        train.save(tmp_path / "x.npz", [train.Dense(3, 2)], ids={1: "a", "1": "b"})


# ---- pickles -------------------------------------------------------------------------------------

NEVER = "pickled files are never read: save as safetensors"


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "pytorch_model.bin", "x.ckpt", "x.PKL"])
def test_a_file_that_is_called_like_a_pickle_is_not_opened(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}.*: {NEVER}"):
        train.load(tmp_path / name, [train.Dense(3, 2)])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_by_another_name_is_not_read(protocol, suffix, tmp_path):
    target = Target(tmp_path / f"x{suffix}")
    for value in ({"d.weight": WEIGHT}, [WEIGHT], WEIGHT, train.Dense(3, 2)):
        target.refuses(pickle.dumps(value, protocol), ValueError, NEVER)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_of_pytorch_by_another_name_is_not_read(zipped, suffix, tmp_path):
    torch, target = pytest.importorskip("torch"), Target(tmp_path / f"x{suffix}")
    torch.save(
        torch.nn.Linear(3, 2).state_dict(), tmp_path / "x", _use_new_zipfile_serialization=zipped
    )
    target.refuses((tmp_path / "x").read_bytes(), ValueError, NEVER)


# ---- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_no_file_is_refused_without_waiting(suffix, tmp_path):
    path, dense = tmp_path / f"x{suffix}", train.Dense(3, 2)
    with pytest.raises(FileNotFoundError):
        train.load(path, [dense])
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        train.load(path, [dense])
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path} must be a regular file"):
        train.load(path, [dense])


# ---- an optimizer of another's -------------------------------------------------------------------


class Refusing(train.SGD):
    def load(self, state):
        raise RuntimeError("not this one")


def test_an_optimizer_that_refuses_its_state_leaves_the_parts_as_they_were(tmp_path):
    written, read = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=1)
    train.save(tmp_path / "x.npz", [written], train.SGD([written.flat], 0.1))
    before = read.flat.copy()
    with pytest.raises(RuntimeError, match="not this one"):
        train.load(tmp_path / "x.npz", [read], Refusing([read.flat], 0.1))
    assert_same_bits(read.flat, before)


def test_a_part_that_is_read_only_leaves_the_others_as_they_were(npz):
    npz.dense.params["bias"].flags.writeable = False
    npz.refuses(zip_of(members()), ValueError, "d.bias", "read-only")
