"""fastrnn.keras.load against Keras: models that Keras saves, in each of its formats."""

import pathlib
import re

import numpy as np
import pytest
from keras_layers import QUIET, built, flat, keras, kl, masks, same

import fastrnn
from fastrnn.keras import _masks, _models, from_keras, load, load_weights, to_keras

pytestmark = [
    pytest.mark.any_isa,
    QUIET,
    pytest.mark.filterwarnings("ignore:.*does not support masking"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

both = pytest.mark.parametrize("suffix", [".keras", ".h5"])


def drawn(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([0.7 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def save(model, folder, suffix):
    path = folder / f"model{suffix}"
    model.save(path)
    return path


def layers_of(model):
    """The recurrent layers with their names, also those of models within."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from ((f"{layer.name}/{name}", one) for name, one in layers_of(layer))
        elif isinstance(layer, kl.RNN | kl.Bidirectional):
            yield layer.name, layer


def compare(model, path):
    """Each layer of the file does what the layer of the model does."""
    loaded, rng = load(path), np.random.default_rng(1)
    assert list(loaded) == [name for name, _ in layers_of(model)]
    for name, theirs in layers_of(model):
        ours = loaded[name]
        assert ours.name == theirs.name
        x = rng.normal(size=(5, 7, ours.layer.input_size)).astype("float32")
        for mask in masks(rng, 5, 7).values():
            same(ours(x, mask=mask), theirs(x, mask=mask), "float32")
    return loaded


def sequential():
    return drawn(
        keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                kl.Embedding(20, 3, mask_zero=True),
                kl.Dropout(0.2),
                kl.LSTM(4, return_sequences=True, dropout=0.1, recurrent_dropout=0.1),
                kl.Bidirectional(kl.GRU(5, return_sequences=True), merge_mode="ave"),
                kl.Dense(6, activation="relu"),
                kl.LSTM(3, return_sequences=True, use_bias=False, go_backwards=True),
                kl.Conv1D(4, 3, padding="same"),
                kl.RNN([kl.GRUCell(4), kl.GRUCell(4)], return_sequences=True),
                kl.GRU(4, reset_after=False, return_sequences=True),
                kl.SimpleRNN(4, activation="relu"),
                kl.Dense(2),
            ]
        )
    )


def functional():
    """With several inputs, a merge, a model within and a mask that is passed on."""
    ids, more = keras.Input((None,), dtype="int32"), keras.Input((None, 4))
    x = kl.Embedding(20, 4, mask_zero=True)(ids)
    own = keras.Input((None, 4))
    inner = keras.Model(own, kl.Bidirectional(kl.LSTM(4, return_sequences=True))(own))
    x = kl.GRU(4, return_sequences=True)(kl.Concatenate()([x, more]))
    x = kl.LSTM(5, return_sequences=True)(inner(x))
    y, *_ = kl.LSTM(4, return_sequences=True, return_state=True)(kl.Masking()(more))
    z = kl.SimpleRNN(3)(more)
    outputs = [kl.Dense(1)(x), kl.LSTM(2)(y), z]
    return drawn(keras.Model([ids, more], outputs))


@both
@pytest.mark.parametrize("make", [sequential, functional])
def test_models(make, suffix, tmp_path):
    model = make()
    compare(model, save(model, tmp_path, suffix))


@both
@pytest.mark.parametrize("name", ["back", None])
def test_a_backward_layer_with_a_name_of_its_own(name, suffix, tmp_path):
    layer = kl.Bidirectional(kl.GRU(4), backward_layer=kl.GRU(4, go_backwards=True, name=name))
    model = drawn(keras.Sequential([keras.Input((None, 3)), layer]))
    compare(model, save(model, tmp_path, suffix))


@both
def test_masks_of_a_sequential_model(suffix, tmp_path):
    model = sequential()
    loaded = list(load(save(model, tmp_path, suffix)).values())
    embedding = model.layers[0].name
    assert [one.mask_source for one in loaded] == [embedding] * 3 + [None] * 3
    assert [one.mask_zero for one in loaded] == [True] * 3 + [False] * 3
    x = np.zeros((2, 3, 3), np.float32)
    with pytest.raises(ValueError, match=f"mask must be given: .*{embedding}.*mask=ids != 0"):
        loaded[0](x)


@both
def test_masks_of_a_functional_model(suffix, tmp_path):
    model = functional()
    loaded = load(save(model, tmp_path, suffix))
    by_kind = {}
    for name, one in loaded.items():
        by_kind.setdefault((type(one.layer).__name__, one.layer.hidden_size), []).append(name)
    source = {name: one.mask_source or "" for name, one in loaded.items()}
    (gru,), (after,) = by_kind["GRU", 4], by_kind["LSTM", 5]
    (plain,), (last,) = by_kind["RNN", 3], by_kind["LSTM", 2]
    assert source[gru].startswith("embedding") and source[after].startswith("embedding")
    assert source[plain] == "" and source[last].startswith("masking")
    assert loaded[gru].mask_zero and not loaded[last].mask_zero


@both
def test_a_whole_model_is_served_without_keras(suffix, tmp_path):
    """The layers one after another, with NumPy between them, give the model's own result."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            kl.Embedding(20, 3, mask_zero=True),
            kl.LSTM(4, return_sequences=True),
            kl.Bidirectional(kl.GRU(5)),
            kl.Dense(1, activation="sigmoid"),
        ]
    )
    table, *_, w, b = drawn(model).get_weights()
    first, second = load(save(model, tmp_path, suffix)).values()
    ids = np.array([[3, 5, 7, 0, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0], [0, 4, 0, 2, 0]])
    h = second(first(table[ids], mask=ids != 0), mask=ids != 0)
    same(1 / (1 + np.exp(-(h @ w + b))), model.predict(ids, verbose=0), "float32")


def test_the_example_of_docs_keras_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            kl.Embedding(20, 3, mask_zero=True),
            kl.LSTM(4, return_sequences=True, name="lstm"),
            kl.Bidirectional(kl.GRU(5), name="bidirectional"),
            kl.Dense(1, activation="sigmoid"),
        ]
    )
    drawn(model).save("model.keras")
    text = (pathlib.Path(__file__).parents[2] / "docs" / "keras.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"np": np}
    exec(first + second, names)
    same(names["score"], model.predict(names["ids"], verbose=0), "float32")


@both
def test_stateful_and_return_state(suffix, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 3), batch_size=2),
            kl.LSTM(4, stateful=True, return_sequences=True),
            kl.GRU(5, stateful=True),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    first, second = load(save(drawn(model), tmp_path, suffix)).values()
    assert first.stateful and second.stateful
    for _ in range(3):
        same(second(first(x)), model(x), "float32")


@both
def test_float64(suffix, tmp_path):
    model = drawn(keras.Sequential([keras.Input((7, 3)), kl.GRU(4, dtype="float64")]))
    (loaded,) = load(save(model, tmp_path, suffix)).values()
    assert loaded.layer.dtype == np.float64
    theirs = from_keras(model.layers[0]).layer
    np.testing.assert_array_equal(loaded.layer.flat, theirs.flat)


@both
def test_float64_whose_weights_keras_keeps_in_float32(suffix, tmp_path):
    """As all backends do at first but those of TensorFlow and PyTorch. No digit is lost."""
    layer = kl.LSTM(4, dtype="float64")
    model = keras.Sequential([keras.Input((7, 3)), layer])
    assert layer.get_weights()[0].dtype == np.float32, "Keras differs from this test"
    (loaded,) = load(save(model, tmp_path, suffix)).values()
    live = from_keras(layer)
    for one in (loaded, live):
        assert one.layer.dtype == np.float64
        np.testing.assert_array_equal(
            one.layer.params["weight_hh_l0"][:4], layer.get_weights()[1].T[:4]
        )
    to_keras(live, layer)


def weights_file(model, folder):
    path = folder / "model.weights.h5"
    model.save_weights(path)
    return path


def own_layers():
    """Name -> a layer for each recurrent layer of `sequential`, and the Keras layer."""
    model = sequential()
    theirs = dict(layers_of(model))
    return model, theirs, {name: from_keras(layer).layer for name, layer in theirs.items()}


def test_weights_alone(tmp_path):
    model, theirs, ours = own_layers()
    path = weights_file(model, tmp_path)
    wanted = {name: layer.flat.copy() for name, layer in ours.items()}
    for layer in ours.values():
        layer.flat = np.zeros_like(layer.flat)
    load_weights(path, ours)
    for name, layer in ours.items():
        np.testing.assert_array_equal(layer.flat, wanted[name])
    layer = ours[next(iter(ours))]
    load_weights(path, {"layers/lstm": layer})
    np.testing.assert_array_equal(layer.flat, wanted[next(iter(ours))])


def test_weights_alone_are_set_all_or_not_at_all(tmp_path):
    model, _, ours = own_layers()
    path = weights_file(model, tmp_path)
    first = next(iter(ours))
    layer = fastrnn.LSTM(3, 4, rng=1)
    before = layer.flat.copy()
    for other, words in [
        ({"nothing": fastrnn.LSTM(3, 4)}, "it has no layer nothing, but "),
        ({"layers/nothing": fastrnn.LSTM(3, 4)}, "it is missing"),
        ({"layers/lstm": fastrnn.LSTM(3, 5)}, r"shape must be \(3, 20\), got \(3, 16\)"),
        ({"layers/lstm": fastrnn.LSTM(3, 4, dtype="float64")}, "dtype must be float64"),
        ({"layers/lstm": fastrnn.LSTM(3, 4, peephole=True)}, "without peephole"),
        ({"layers/lstm": fastrnn.GRU(3, 4)}, "it is a cell of LSTM, and .* is one of GRU"),
        ({"layers/lstm": fastrnn.LSTM(3, 4, bidirectional=True)}, "one direction, and .* has two"),
        (
            {"layers/lstm": fastrnn.LSTM(3, 4, bias=False)},
            r"it has a bias, and layers\['.*'\] has no",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            load_weights(path, {first: layer} | other)
        np.testing.assert_array_equal(layer.flat, before)
    with pytest.raises(TypeError, match="must be a fastrnn.RNN, LSTM or GRU"):
        load_weights(path, {first: 3})
    with pytest.raises(TypeError, match="layers must be a dict from names to layers, got LSTM"):
        load_weights(path, layer)
    with pytest.raises(TypeError, match="layers must be a dict from names to layers, got list"):
        load_weights(path, [layer])
    for function in (load, lambda path: load_weights(path, {first: layer})):
        with pytest.raises(TypeError, match="path must be a str or a pathlib.Path, got int"):
            function(0)


def test_each_kind_of_file_has_its_function(tmp_path):
    model = sequential()
    with pytest.raises(ValueError, match="weights alone, .* use load_weights"):
        load(weights_file(model, tmp_path))
    for suffix in (".keras", ".h5"):
        with pytest.raises(ValueError, match="whole model: use load"):
            load_weights(save(model, tmp_path, suffix), {})


class Doubled(kl.Layer):
    """A user's layer, whose code is not in the file."""

    def call(self, x):
        return x


class Tagger(keras.Model):
    """A subclassed model."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lstm = kl.LSTM(3)

    def call(self, x):
        return self.lstm(x)


def refused(layers):
    return lambda: keras.Sequential([keras.Input((4, 3)), *layers])


@both
@pytest.mark.parametrize(
    "make, words",
    [
        (refused([kl.Dense(3)]), "no recurrent layer"),
        (refused([kl.SimpleRNN(3, activation="sigmoid")]), "SimpleRNN .*: activation must be"),
        (refused([kl.LSTM(3, activation=kl.LeakyReLU())]), "activation must be 'tanh'"),
        (refused([kl.Reshape((4, 3, 1)), kl.ConvLSTM1D(2, 2)]), "ConvLSTM1D .* does not have"),
        (
            lambda: keras.Sequential([keras.Input((4, 5, 3)), kl.TimeDistributed(kl.LSTM(3))]),
            "TimeDistributed .*: must not hold a recurrent layer",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(make, words, suffix, tmp_path):
    path = save(make(), tmp_path, suffix)
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_subclassed_models_are_refused_and_other_layers_left_out(tmp_path):
    tagger = Tagger()
    tagger(np.zeros((2, 4, 3), np.float32))
    with pytest.raises(ValueError, match="Tagger .*must be a Sequential or Functional model"):
        load(save(tagger, tmp_path, ".keras"))
    model = keras.Sequential([keras.Input((4, 3)), Doubled(), kl.LSTM(3), kl.Dense(2)])
    loaded = compare(drawn(model), save(model, tmp_path, ".keras"))
    assert len(loaded) == 1


def test_the_layers_that_hand_on_masks_are_keras_own():
    """Every name is a layer of Keras that says that it supports masks."""
    arguments = {"Activation": "relu", "AlphaDropout": 0.1, "Dense": 1, "Dropout": 0.1}
    arguments |= {"GaussianDropout": 0.1, "GaussianNoise": 0.1, "SpatialDropout1D": 0.1}
    arguments |= {"Rescaling": 1.0, "TimeDistributed": kl.Dense(1)}
    for name in (_masks.HAND_ON | _masks.JOIN) - {"MultiHeadAttention", "GroupQueryAttention"}:
        given = [arguments[name]] if name in arguments else []
        assert getattr(kl, name)(*given).supports_masking, name


@pytest.mark.parametrize("name", ["LSTM", "SimpleRNN", "Conv1D", "My2DNet", "A>B c", "ABc", "x"])
def test_groups_are_named_as_keras_names_them(name):
    from keras.src.utils.naming import to_snake_case

    assert _models._snake_case(name) == to_snake_case(name)


def test_random_models(tmp_path):
    """Some random layers one above another, with their states."""
    rng = np.random.default_rng(2)
    for index in range(10):
        layers = [keras.Input((None, int(rng.integers(1, 6))))]
        for _ in range(4):
            units, flags = int(rng.integers(1, 8)), rng.integers(0, 2, 4).astype(bool).tolist()
            kind = [kl.SimpleRNN, kl.LSTM, kl.GRU][rng.integers(3)]
            options = {"use_bias": flags[0], "return_sequences": True}
            if flags[1]:
                layer = kl.Bidirectional(kind(units, **options), merge_mode="sum")
            else:
                layer = kind(units, go_backwards=flags[2], **options)
            layers.append(layer)
        model = drawn(keras.Sequential(layers), seed=index)
        compare(model, save(model, tmp_path, (".keras", ".h5")[index % 2]))


def test_arrays_of_states_come_as_keras_gives_them(tmp_path):
    cells = kl.RNN([kl.LSTMCell(4), kl.LSTMCell(4)], return_state=True)
    layer = built(cells, 3, np.random.default_rng(0))
    x = np.ones((2, 5, 3), np.float32)
    y, *states = from_keras(layer)(x)
    assert [len(flat(state)) for state in states] == [2, 2] and y.shape == (2, 4)
