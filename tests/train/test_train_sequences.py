"""Ragged sequences as one array, and tokens as ids."""

import pickle
from collections import Counter

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw

import fastrnn
from fastrnn import train

pytestmark = pytest.mark.no_kernels

# ---- pad -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("features", [(), (3,), (2, 4)], ids=str)
def test_each_sequence_stands_at_the_begin_of_its_row(features, dtype, first):
    sequences = [(100 * draw(n, *features, seed=n) + 100).astype(dtype) for n in (3, 0, 5, 1)]
    x, lengths = train.pad(sequences, batch_first=first, value=7)
    assert x.dtype == dtype and x.flags.c_contiguous
    assert_same_bits(lengths, np.array([3, 0, 5, 1]))
    rows = x if first else x.swapaxes(0, 1)
    assert rows.shape == (4, 5, *features)
    for row, sequence in zip(rows, sequences, strict=True):
        assert_same_bits(row[: len(sequence)], sequence)
        assert (row[len(sequence) :] == 7).all()


def test_lists_of_numbers_are_int64_or_float64():
    assert_same_bits(train.pad([[1, 2], [3]])[0], np.array([[1, 3], [2, 0]]))
    assert train.pad([[1.5], [2.0, 3.0]])[0].dtype == np.float64


@pytest.mark.parametrize("empty", [[], (), np.zeros(0, int)], ids=["list", "tuple", "array"])
def test_an_empty_list_has_the_dtype_of_the_others(empty):
    x, lengths = train.pad([empty, [1, 2]], batch_first=True)
    assert_same_bits((x, lengths), (np.array([[0, 0], [1, 2]]), np.array([0, 2])))
    x, _ = train.pad([[], np.ones((2, 3), "f4")])
    assert (x.shape, x.dtype) == ((2, 2, 3), np.float32)


def test_sequences_of_no_steps_have_no_steps():
    x, lengths = train.pad([np.zeros((0, 3), "f4")] * 2)
    assert x.shape == (0, 2, 3) and not lengths.any()


def test_any_iterable_of_sequences_will_do():
    wanted = train.pad([[1, 2], [3]])
    ragged = np.empty(2, object)
    ragged[:] = [[1, 2], [3]]
    for sequences in (([1, 2], [3]), iter([[1, 2], [3]]), ragged, {0: [1, 2], 1: [3]}.values()):
        assert_same_bits(train.pad(sequences), wanted)
    assert train.pad(np.arange(6).reshape(2, 3))[0].shape == (3, 2)


def test_floats_may_be_filled_up_with_any_number():
    x, _ = train.pad([np.ones(2, "f4"), np.ones(1, "f4")], value=np.nan)
    assert np.isnan(x[1, 1]) and x.dtype == np.float32
    assert train.pad([np.ones(1, "f4"), np.ones(0, "f4")], value=0.1)[0][0, 1] == np.float32(0.1)


def test_large_integers_fill_up_exactly():
    for dtype, value in [("i8", 2**53 + 1), ("i8", 2**63 - 1), ("u8", 2**64 - 1), ("i8", -(2**63))]:
        x, _ = train.pad([np.ones(2, dtype), np.ones(1, dtype)], value=value)
        assert x[1, 1] == value


def test_a_layer_reads_each_row_as_if_it_were_alone():
    layer = fastrnn.GRU(2, 3, batch_first=True, rng=0)
    sequences = [draw(n, 2, dtype="float32", seed=n) for n in (4, 1, 6)]
    x, lengths = train.pad(sequences, batch_first=True, value=np.nan)
    output = layer.last(layer(x, lengths=lengths)[1])
    for row, sequence in zip(output, sequences, strict=True):
        assert_same_bits(row, layer.last(layer(sequence)[1]))


@pytest.mark.parametrize(
    ("sequences", "options", "error", "message"),
    [
        ([], {}, ValueError, "must have at least one with elements or a dtype, got 0 without"),
        ([[], []], {}, ValueError, "got 2 without"),
        ("abc", {}, TypeError, "sequences must be a list of sequences, got str"),
        ({"a": [1]}, {}, TypeError, "sequences must be a list of sequences, got dict"),
        (3, {}, TypeError, "sequences must be a list of sequences, got int"),
        (np.array(3), {}, TypeError, "sequences must be a list of sequences, got ndarray"),
        ([1, 2], {}, ValueError, r"sequences\[0\] must be \(T,\) or \(T, F\), got the number 1"),
        ([["a", "b"]], {}, TypeError, r"sequences\[0\] must be integers or floats.* a Vocabulary"),
        ([[1], [True]], {}, TypeError, r"sequences\[1\] must be integers or floats, got .* bool"),
        ([[1], [2.0]], {}, TypeError, r"int64 in .*\[0\] and float64 in .*'float64'"),
        ([np.ones(2, "f4"), np.ones(2)], {}, TypeError, "one dtype, got float32 .*'float32'"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, ValueError, r"\(2, 3\) in .* and \(2, 4\) in seq"),
        ([np.ones((2, 3)), np.ones(2)], {}, ValueError, r"got \(2, 3\) in .* and \(2,\) in seque"),
        ([[[1, 2], [3]]], {}, ValueError, r"sequences\[0\] must be \(T,\) or \(T, F\): "),
        ([[1]], {"value": 0.5}, ValueError, "value must be an integer that int64 can hold"),
        ([np.ones(1, "u1")], {"value": -1}, ValueError, "an integer that uint8 can hold, got -1"),
        ([[1]], {"value": np.nan}, ValueError, "value must be an integer"),
        ([np.ones(1, "f4")], {"value": 1e300}, ValueError, "a number that float32 can hold"),
        ([[1]], {"value": "0"}, TypeError, "value must be a number, got str"),
        ([[1]], {"batch_first": 1}, TypeError, "batch_first must be"),
        ([np.ma.ones(2)], {}, TypeError, "mask"),
    ],
)  # fmt: skip
def test_what_cannot_be_padded_is_refused(sequences, options, error, message):
    with pytest.raises(error, match=message):
        train.pad(sequences, **options)


# ---- vocabulary ----------------------------------------------------------------------------------


def test_ids_count_in_the_order_of_first_occurrence():
    words = train.Vocabulary("you are good you are bad".split())
    assert words.tokens == ("you", "are", "good", "bad")
    assert_same_bits(words.encode(["bad", "you"]), np.array([3, 0]))
    assert "bad" in words and "well" not in words and len(words) == 4


def test_decode_is_the_inverse_of_encode():
    letters = train.Vocabulary("hello world")
    assert "".join(letters.decode(letters.encode("world hello"))) == "world hello"
    assert letters.encode("").shape == (0,)
    assert letters.decode([]) == []


def test_the_unknown_token_stands_for_all_others():
    words = train.Vocabulary(["a", "?", "b"], unknown="?")
    assert words.tokens == ("?", "a", "b")
    assert_same_bits(words.encode(["b", "c", "?"]), np.array([2, 0, 0]))
    assert train.Vocabulary(words.tokens, unknown="?").tokens == words.tokens
    assert train.Vocabulary([], unknown="?").encode(["a"]).tolist() == [0]


def test_tokens_may_be_anything_hashable():
    notes = train.Vocabulary([(60, 1), (62, 2), (60, 1)])
    assert notes.decode(notes.encode([(62, 2), (60, 1)])) == [(62, 2), (60, 1)]


def test_the_keys_of_a_dict_have_an_order():
    assert train.Vocabulary(Counter("banana").keys()).tokens == ("b", "a", "n")


def test_what_was_given_to_it_is_fixed():
    words = train.Vocabulary(["a", "b"])
    for name in ("unknown", "tokens"):
        with pytest.raises(AttributeError):
            setattr(words, name, "b")


def test_an_error_of_a_generator_of_tokens_stays_that_error():
    with pytest.raises(TypeError, match="can only concatenate"):
        train.Vocabulary("ab").encode(token + 1 for token in "ab")
    with pytest.raises(KeyError, match="zz"):
        train.Vocabulary("ab").encode({}[token] for token in ["zz"])


def test_a_copy_has_the_same_ids():
    words = train.Vocabulary(["a", "b"], unknown="?")
    like = pickle.loads(pickle.dumps(words))
    assert like.tokens == words.tokens and like.encode(["b", "c"]).tolist() == [2, 0]


def test_its_ids_are_those_that_layers_and_embeddings_take():
    words = train.Vocabulary("abc")
    x, lengths = train.pad([words.encode("ab"), words.encode("c")])
    layer, table = fastrnn.GRU(3, 4, rng=0), train.Embedding(len(words), 2, rng=0)
    assert layer(x, one_hot=True, lengths=lengths)[0].shape == (2, 2, 4)
    assert table(x).shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.Vocabulary("ab").encode("abc"), ValueError, "vocabulary of 2, got 'c'"),
        (lambda: train.Vocabulary(["no", "yes"]).encode("no"), TypeError, "text.split"),
        (lambda: train.Vocabulary(["no"], unknown="?").encode("no"), TypeError, "text.split"),
        (lambda: train.Vocabulary({"a", "b"}), TypeError, "got a set: use sorted"),
        (lambda: train.Vocabulary(5), TypeError, "tokens must be a list of tokens, got int"),
        (lambda: train.Vocabulary("ab").encode(5), TypeError, "a list of tokens, got int"),
        (lambda: train.Vocabulary("ab").encode([["a"]]), TypeError, "hashable.* got list: .*one l"),
        (lambda: train.Vocabulary([["a"]]), TypeError, "tokens must be hashable, .* got list"),
        (lambda: train.Vocabulary("a", unknown=[]), TypeError, "unknown must be hashable"),
        (lambda: train.Vocabulary("ab").decode([2]), ValueError, "ids must be from 0 to 1, got 2"),
        (lambda: train.Vocabulary("ab").decode([-1]), ValueError, "must be from 0 to 1, got -1"),
        (lambda: train.Vocabulary("ab").decode([1.0]), TypeError, "ids must be integers"),
        (lambda: train.Vocabulary("ab").decode([[1]]), ValueError, r"ids must be \(T,\), got"),
        (lambda: train.Vocabulary("ab").decode(1), ValueError, r"ids must be \(T,\), got"),
    ],
)  # fmt: skip
def test_what_is_no_token_and_no_id_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_characters_with_a_long_unknown_token_are_still_characters():
    letters = train.Vocabulary("ab", unknown="<unknown>")
    assert letters.encode("abc").tolist() == [1, 2, 0]
