"""The contents of a checkpoint: bounded memory, extra, no pickles, and no partial loading."""

import os
import pickle

import numpy as np
import pytest
from problems import assert_same_bits
from strangers import (
    DATA,
    DEFLATED,
    MIB,
    TOO_DEEP,
    WEIGHT,
    WHOLE,
    Member,
    Target,
    deflated,
    extra_of,
    header_of,
    members,
    memory_below,
    npy,
    tensors_of,
    zip_of,
)

from fastrnn import checks, train
from fastrnn._files import texts
from fastrnn.train import state

pytestmark = pytest.mark.no_kernels

# ---- memory, and what extra may take -------------------------------------------------------------

LARGE = 8 * MIB


def sized(path, count):
    """Parts of two megabytes, and a file with them."""
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
    # So many that a dict grows for the last one.
    "many names": "{" + ",".join(f'"{n}":"{n}"' for n in range(87_382)) + "}",
    "objects of one": "[" + '{"":{}},' * 5000 + "0]",
    "objects of names": "[" + ",".join(f'{{"{n}":{{}}}}' for n in range(5000)) + "]",
    "floats": "[" + "9e9," * 10_000 + "0]",
    "texts": "[" + '"ab",' * 10_000 + "0]",
    "one wide": '["' + "a" * 300_000 + "\\ud83d\\ude00" + '"]',
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
def test_a_list_of_many_words_loads_from_both_formats_within_max_extra(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path, dense = tmp_path / f"x{suffix}", train.Dense(3, 2)
    words = [f"w{n}" for n in range(120_000)]
    train.save(path, [dense], words=words)
    with memory_below(17 * MIB):
        assert train.load(path, [dense])["words"] == words


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


LONG = "{'descr': '%s', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("header", "error", "words"),
    [
        (LONG % ("x" * 9800, "()"), TypeError, "extra.0"),
        (LONG % ("<f4", (0, *63 * [10**19 - 1])), ValueError, "overflows an address"),
        (LONG % ("<f4", (0, *63 * [1])), ValueError, "max_extra = 1048576"),
    ],
    ids=["dtypes", "sizes", "axes"],
)
def test_headers_of_extra_take_no_more_memory_than_max_extra(header, error, words, npz):
    data = npy(np.zeros(0), header=header)
    more = [Member(f"extra.{n}.npy".encode(), data, DEFLATED) for n in range(3000)]
    data = zip_of(members(more=more))
    with memory_below(3 * MIB):
        npz.refuses(data, error, words, max_extra=MIB)


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
        ([extra_of('{"a": ' + "[" * 20_000)], ValueError, TOO_DEEP),
        ([extra_of('{"a": ' + "1" * 5000 + "}")], ValueError, "JSON is broken"),
        ([extra_of('{"a": "\xe4"}')], ValueError, "text must be ASCII"),
        ([Member(b"extra.npy", npy(b"\xff\xff\xff\xff", "<U1", ()))], ValueError, "must be ASCII"),
        ([extra_of(["{}", "{}"])], TypeError, "must be a string that holds JSON"),
        ([Member(b"extra.npy", npy(WEIGHT))], TypeError, "must be a string that holds JSON"),
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


@pytest.mark.posix
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


class Bits(np.random.PCG64):
    """A bit generator whose state cannot be set while it is `full`; the first try ends that."""

    full = False

    @property
    def state(self):
        return super().state

    @state.setter
    def state(self, value):
        if self.full:
            self.full = False
            raise MemoryError
        np.random.PCG64.state.__set__(self, value)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_what_fails_while_it_is_put_back_leaves_all_as_it_was(error, tmp_path):
    def parts_and_adam(seed):
        parts = {name: train.Dense(3, 2, rng=seed) for name in "ab"}
        for part in parts.values():
            part.rng = np.random.Generator(Bits(seed))
        return parts, train.Adam(parts.values())

    def now():
        states = [part.rng.bit_generator.state for part in parts.values()]
        return pickle.dumps(([part.flat for part in parts.values()], adam.state(), states))

    class Half(train.Adam):
        def load(self, state):
            super().load(state)
            if state["updates"] == 1:
                raise RuntimeError

    (parts, adam), path = parts_and_adam(0), tmp_path / "x.npz"
    adam.step([part.flat for part in parts.values()])
    train.save(path, parts, adam)
    parts, adam = parts_and_adam(1)
    if error is MemoryError:
        parts["b"].rng.bit_generator.full = True
    else:
        adam = Half(parts.values())
    before = now()
    with pytest.raises(error):
        train.load(path, parts, adam)
    assert now() == before
    if error is MemoryError:
        train.load(path, parts, adam)
        assert now() != before


def test_a_part_that_is_read_only_leaves_the_others_as_they_were(npz):
    npz.dense.params["bias"].flags.writeable = False
    npz.refuses(zip_of(members()), ValueError, "d.bias", "read-only")


class Interrupted(dict):
    """A dict of arrays that raises at the third one, as a signal's handler would."""

    count = 0

    def __getitem__(self, key):
        self.count += 1
        if self.count == 3:
            raise KeyboardInterrupt
        return super().__getitem__(key)


def test_an_interrupt_while_values_are_written_leaves_all_as_it_was(monkeypatch):
    parts = {"one": train.Dense(3, 2, rng=0), "two": train.Dense(2, 1, rng=1)}
    optimizer = train.Adam(list(parts.values()), 0.1)
    older = state.state_of(parts, optimizer)
    optimizer.step([np.ones_like(part.flat) for part in parts.values()])
    before, like = state.state_of(parts, optimizer), checks.arrays_like
    monkeypatch.setattr(checks, "arrays_like", lambda *given: Interrupted(like(*given)))
    monkeypatch.setattr(state, "_load_optimizer", lambda optimizer, new, name: None)
    with pytest.raises(KeyboardInterrupt):
        state.put_back(older, parts, optimizer)
    assert_same_bits(state.state_of(parts, optimizer).arrays, before.arrays)
