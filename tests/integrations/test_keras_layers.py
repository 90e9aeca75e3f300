"""fastrnn.keras against Keras: every layer and option, both dtypes, masks and states."""

import itertools

import numpy as np
import pytest
from keras_layers import (
    MERGES,
    QUIET,
    built,
    initial_state,
    keras,
    kl,
    masks,
    real_float64,
    same,
)  # fmt: skip

import fastrnn
from fastrnn.keras import from_keras, to_keras

ACTIVATIONS = ("sigmoid", "hard_sigmoid")
FLAGS = list(itertools.product([False, True], repeat=3))
PAIRS = [flags for flags in FLAGS if sum(flags) % 2 == 0]  # any two of them in all combinations
KINDS = {
    **{f"rnn {a}": (kl.SimpleRNN, {"activation": a}) for a in ("tanh", "relu")},
    **{f"lstm {a}": (kl.LSTM, {"recurrent_activation": a}) for a in ACTIVATIONS},
    **{
        f"gru {a} {after}": (kl.GRU, {"recurrent_activation": a, "reset_after": after})
        for a in ACTIVATIONS
        for after in (True, False)
    },
}
CELLS = {"rnn": kl.SimpleRNNCell, "lstm": kl.LSTMCell, "gru": kl.GRUCell}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_cell = pytest.mark.parametrize("cell", CELLS)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


pytestmark = [pytest.mark.any_isa, QUIET, pytest.mark.usefixtures(real_float64.__name__)]


def compare(layer, dtype, seed, inputs=3, rows=5, steps=7):
    """A call of the layer and of what `from_keras` makes of it, with masks and states."""
    rng = np.random.default_rng(seed)
    built(layer, inputs, rng)
    loaded = from_keras(layer)
    assert loaded.layer.dtype == np.dtype(dtype)
    x = rng.normal(size=(rows, steps, inputs)).astype(dtype)
    for mask in (None, *masks(rng, rows, steps).values()):
        for state in (None, initial_state(layer, rows, rng, dtype)):
            theirs = layer(x, mask=mask, initial_state=state)
            same(loaded(x, mask=mask, initial_state=state), theirs, dtype)
    return loaded


@every_kind
@both_dtypes
@pytest.mark.parametrize("use_bias", [True, False])
def test_layers(kind, dtype, use_bias):
    make, options = KINDS[kind]
    for sequences, state, backwards in FLAGS:
        layer = make(
            4, use_bias=use_bias, return_sequences=sequences, return_state=state,
            go_backwards=backwards, dtype=dtype, **options,
        )  # fmt: skip
        loaded = compare(layer, dtype, seed=1)
        assert loaded.return_sequences is sequences and loaded.go_backwards is backwards


@every_kind
@both_dtypes
@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional(kind, dtype, merge):
    make, options = KINDS[kind]
    for sequences, state, _ in FLAGS[::2]:
        inner = make(4, return_sequences=sequences, return_state=state, dtype=dtype, **options)
        layer = kl.Bidirectional(inner, merge_mode=merge, dtype=dtype)
        assert compare(layer, dtype, seed=2).zero_output_for_mask is sequences


@every_cell
@both_dtypes
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_cells_alone_and_stacked(cell, dtype, count):
    for sequences, state, backwards in PAIRS:
        cells = [CELLS[cell](4, dtype=dtype) for _ in range(max(1, count))]
        layer = kl.RNN(
            kl.StackedRNNCells(cells, dtype=dtype) if count else cells[0],
            return_sequences=sequences, return_state=state, go_backwards=backwards,
            zero_output_for_mask=sequences and backwards, dtype=dtype,
        )  # fmt: skip
        if count == 1 and cell == "lstm":  # Keras 3 itself fails
            continue
        if count == 1:  # the same with a mask or a state
            rng = np.random.default_rng(3)
            x = rng.normal(size=(5, 7, 3)).astype(dtype)
            same(from_keras(built(layer, 3, rng))(x), layer(x), dtype)
        else:
            compare(layer, dtype, seed=3)


@every_kind
def test_an_unrolled_layer(kind):
    """As Keras unrolls it, y before the first step that counts is 0, whatever the first state."""
    make, options = KINDS[kind]
    rng = np.random.default_rng(13)
    layer = built(make(4, unroll=True, return_sequences=True, **options), 3, rng)
    x = rng.normal(size=(5, 7, 3)).astype("float32")
    for mask in (None, *masks(rng, 5, 7).values()):
        same(from_keras(layer)(x, mask=mask), layer(x, mask=mask), "float32")


@every_cell
@pytest.mark.parametrize("sequences", [True, False])
def test_zero_output_for_mask(cell, sequences):
    layer = kl.RNN(CELLS[cell](4), zero_output_for_mask=True, return_sequences=sequences)
    compare(layer, "float32", seed=4)


@every_cell
@pytest.mark.parametrize("backwards", [False, True])
def test_zero_output_where_the_last_step_is_masked(cell, backwards):
    layer = kl.RNN(CELLS[cell](4), zero_output_for_mask=True, go_backwards=backwards)
    compare(layer, "float32", seed=14)


def test_zero_output_of_a_mask_without_steps():
    layer = built(kl.RNN(kl.GRUCell(4), zero_output_for_mask=True), 3, np.random.default_rng(0))
    x, mask = np.zeros((2, 0, 3), "float32"), np.zeros((2, 0), bool)
    y = from_keras(layer)(x, mask=mask)
    np.testing.assert_array_equal(y, np.zeros((2, 4), "float32"))


def test_a_bidirectional_of_a_cell_and_one_with_a_given_backward_layer():
    cell = kl.RNN(kl.GRUCell(4), return_sequences=True)
    compare(kl.Bidirectional(cell), "float32", seed=5)
    backward = kl.LSTM(4, go_backwards=True)
    compare(kl.Bidirectional(kl.LSTM(4), backward_layer=backward), "float32", seed=6)


@every_kind
def test_a_stateful_layer_continues(kind):
    make, options = KINDS[kind]
    for wrap in (lambda layer: layer, kl.Bidirectional):
        layer = wrap(make(4, stateful=True, return_sequences=True, **options))
        rng = np.random.default_rng(7)
        layer.build((5, None, 3))
        built(layer, 3, rng)
        layer.reset_state()
        loaded = from_keras(layer)
        for _ in range(3):
            x = rng.normal(size=(5, 4, 3)).astype("float32")
            same(loaded(x), layer(x), "float32")
        loaded.reset_state()
        layer.reset_state()
        same(loaded(x), layer(x), "float32")


def test_results_of_a_stateful_layer_may_be_changed():
    layer = kl.GRU(4, stateful=True, return_state=True)
    layer.build((2, None, 3))
    one, other = from_keras(layer), from_keras(layer)
    x = np.ones((2, 5, 3), np.float32)
    for array in one(x):
        array[...] = 7
    other(x)
    np.testing.assert_array_equal(one(x)[0], other(x)[0])


@every_kind
def test_dropout_acts_in_training_alone(kind):
    make, options = KINDS[kind]
    layer = make(4, dropout=0.3, recurrent_dropout=0.4, return_sequences=True, **options)
    loaded = compare(layer, "float32", seed=8)
    assert loaded.dropout == 0.3 and loaded.recurrent_dropout == 0.4
    assert loaded.layer.dropout == loaded.layer.recurrent_dropout == 0


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 13, 17, 5), (37, 3, 1, 1), (2, 70, 6, 8)])
@every_kind
def test_sizes(kind, sizes):
    units, inputs, rows, steps = sizes
    make, options = KINDS[kind]
    layer = make(units, return_sequences=True, return_state=True, **options)
    compare(layer, "float32", seed=9, inputs=inputs, rows=rows, steps=steps)


@every_kind
def test_to_keras_is_the_inverse(kind):
    make, options = KINDS[kind]
    for use_bias in (True, False):
        for wrap in (lambda layer: layer, kl.Bidirectional):
            layer = wrap(make(4, use_bias=use_bias, return_sequences=True, **options))
            rng = np.random.default_rng(10)
            x = rng.normal(size=(5, 7, 3)).astype("float32")
            loaded = from_keras(built(layer, 3, rng))
            before = layer.get_weights()
            built(layer, 3, rng)
            to_keras(loaded.layer, layer)
            for a, b in zip(layer.get_weights(), before, strict=True):
                np.testing.assert_array_equal(a, b)
            loaded.layer.flat += rng.normal(size=loaded.layer.flat.shape).astype("float32")
            to_keras(loaded, layer)
            same(loaded(x), layer(x), "float32")


@every_cell
def test_stacked_cells_from_a_layer(cell):
    rng = np.random.default_rng(11)
    kind = {"rnn": fastrnn.RNN, "lstm": fastrnn.LSTM, "gru": fastrnn.GRU}[cell]
    layer = kind(3, 4, num_layers=3, batch_first=True, rng=0)
    theirs = built(kl.RNN([CELLS[cell](4) for _ in range(3)], return_sequences=True), 3, rng)
    to_keras(layer, theirs)
    x = rng.normal(size=(5, 7, 3)).astype("float32")
    same(layer(x)[0], theirs(x), "float32")


@every_kind
def test_a_frozen_one_has_the_same_bits(kind):
    make, options = KINDS[kind]
    rng = np.random.default_rng(12)
    for layer in (make(4, go_backwards=True, **options), kl.Bidirectional(make(4, **options))):
        loaded = from_keras(built(layer, 3, rng))
        frozen = loaded.freeze()
        x = rng.normal(size=(5, 7, 3)).astype("float32")
        for mask in masks(rng, 5, 7).values():
            np.testing.assert_array_equal(frozen(x, mask=mask), loaded(x, mask=mask))
        assert type(frozen.layer) is fastrnn.Frozen and type(loaded.layer) is not fastrnn.Frozen


def test_a_frozen_one_begins_without_a_state():
    layer = kl.GRU(4, stateful=True)
    layer.build((2, None, 3))
    loaded, x = from_keras(layer), np.ones((2, 5, 3), "float32")
    first, then = loaded(x), loaded.freeze()
    np.testing.assert_array_equal(then(x), first)
    assert not np.array_equal(loaded(x), first)


def random_layer(rng, dtype):
    """A layer of any kind with drawn options."""
    units, flags = int(rng.integers(1, 20)), rng.integers(0, 2, 6).astype(bool).tolist()
    make, options = KINDS[list(KINDS)[rng.integers(len(KINDS))]]
    options = options | {"use_bias": flags[0], "dtype": dtype}
    call = {"return_sequences": flags[1], "return_state": flags[2], "dtype": dtype}
    if flags[3]:
        layer = make(units, **options | call)
        merge = MERGES[rng.integers(len(MERGES))]
        return kl.Bidirectional(layer, merge_mode=merge, dtype=dtype)
    call["go_backwards"] = flags[4]
    if not flags[5]:
        return make(units, **options | call)
    cell = {kl.SimpleRNN: "rnn", kl.LSTM: "lstm", kl.GRU: "gru"}[make]
    cells = [CELLS[cell](units, **options) for _ in range(rng.integers(1, 4))]
    stack = kl.StackedRNNCells(cells, dtype=dtype) if len(cells) > 1 else cells[0]
    return kl.RNN(stack, zero_output_for_mask=bool(rng.integers(2)), **call)


@both_dtypes
@pytest.mark.parametrize("seed", range(10))
def test_random_layers(seed, dtype):
    rng = np.random.default_rng(seed)
    for _ in range(12):
        inputs, rows, steps = (int(n) for n in rng.integers(1, 10, 3))
        compare(random_layer(rng, dtype), dtype, rng, inputs, rows, steps)


LAYER = fastrnn.LSTM(3, 4, rng=0)


@pytest.mark.parametrize(
    "layer, options, words",
    [
        (LAYER, {"units": 5}, "units, got 4 and 5"),
        (LAYER, {"use_bias": False}, "bias, got True and False"),
        (LAYER, {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation"),
        (LAYER, {"go_backwards": True}, "go_backwards"),
        (LAYER, {"dtype": "float64"}, "dtype"),
        (fastrnn.GRU(3, 4, rng=0), {}, "cell, got gru and lstm"),
        (fastrnn.LSTM(2, 4, rng=0), {}, "same shapes"),
        (fastrnn.LSTM(3, 4, num_layers=2, rng=0), {}, "stacked cells, got 2 and 1"),
        (fastrnn.LSTM(3, 4, bidirectional=True, rng=0), {}, "bidirectional"),
        (fastrnn.LSTM(3, 4, 2, bidirectional=True, rng=0), {}, "one cell in each direction"),
        (fastrnn.LSTM(3, 4, peephole=True, clip=1.0, rng=0), {}, "without clip, peephole"),
        (fastrnn.LSTM(3, 4, proj_size=2, rng=0), {}, "without proj_size"),
    ],
)
def test_to_keras_refuses_layers_that_differ(layer, options, words):
    theirs = built(kl.LSTM(**{"units": 4} | options), 3, np.random.default_rng(0))
    before = theirs.get_weights()
    with pytest.raises(ValueError, match=words):
        to_keras(layer, theirs)
    for a, b in zip(theirs.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "layer, words",
    [
        (kl.SimpleRNN(4, activation="sigmoid"), "activation must be 'tanh' or 'relu'"),
        (kl.LSTM(4, activation="relu"), "LSTM .*: activation must be 'tanh', got 'relu'"),
        (kl.GRU(4, recurrent_activation="tanh"), "recurrent_activation must be"),
        (kl.GRU(4, activation=None), "got 'linear'"),
        (kl.LSTM(4, dtype="mixed_bfloat16"), "float32 or float64, got 'mixed_bfloat16'"),
        (kl.RNN([kl.LSTMCell(4, dtype="float64")], dtype="float64"), "dtype must be that of"),
        (kl.RNN([kl.LSTMCell(4), kl.LSTMCell(5)]), "stacked cells must all be alike"),
        (kl.RNN([kl.LSTMCell(4), kl.GRUCell(4)]), "stacked cells must all be alike"),
        (kl.Bidirectional(kl.RNN([kl.GRUCell(4), kl.GRUCell(4)])), "must not be in a Bidir"),
        (kl.Bidirectional(kl.GRU(4), backward_layer=kl.GRU(5, go_backwards=True)), "be alike"),
        (kl.Dense(3), "its class must be one of SimpleRNN, LSTM, GRU"),
        (kl.LSTM(4), "must be built"),
    ],
)
def test_from_keras_refuses_by_name(layer, words):
    with pytest.raises(ValueError, match=words):
        from_keras(layer)


class MyLSTM(kl.LSTM):
    """A user's own class, which may compute anything."""


MyLSTM.__name__ = "LSTM"


def test_the_rows_of_states_are_those_of_x():
    layer = kl.LSTM(4, stateful=True)
    layer.build((2, None, 3))
    loaded = from_keras(layer)
    x, state = np.zeros((2, 5, 3), "float32"), [np.zeros((3, 4), "float32")] * 2
    with pytest.raises(
        ValueError, match=r"initial_state must be \(B, H\) = \(2, 4\), got \(3, 4\)"
    ):
        loaded(x, initial_state=state)
    loaded(x)
    with pytest.raises(ValueError, match="must have B = 2 rows, .* got 1: call reset_state"):
        loaded(x[:1])
    loaded.reset_state()
    loaded(x[:1])


def test_a_users_own_class_is_refused():
    with pytest.raises(ValueError, match="must be Keras' own LSTM"):
        from_keras(MyLSTM(4))
    with pytest.raises(TypeError, match="must be a layer of Keras, got int"):
        from_keras(3)
    with pytest.raises(TypeError, match="must be a layer, got the class LSTM"):
        from_keras(kl.LSTM)
    with pytest.raises(TypeError, match=r"got a model, Sequential: take model.get_layer\(name\)"):
        from_keras(keras.Sequential([kl.LSTM(4)]))
    with pytest.raises(TypeError, match="layer must be a fastrnn.RNN, LSTM or GRU"):
        to_keras(kl.LSTM(4), kl.LSTM(4))


def test_keras_runs_on_numpy_here():
    assert keras.backend.backend() == "numpy"
