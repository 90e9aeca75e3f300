"""Weight files: what `save` writes, `load` makes again, with the same bits."""

import inspect
import io
import subprocess
import sys

import numpy as np
import pytest
from problems import assert_same_bits
from weight_files import SUFFIXES, written

import fastrnn
from fastrnn import GRU, LSTM, RNN, MinGRU, MinLSTM, train

pytestmark = pytest.mark.any_isa

T, B, I, H = 5, 3, 2, 7  # noqa: E741 - as in all the equations

# Together they have a value other than the default for every argument of every class.
LAYERS = {
    "rnn": lambda: RNN(
        I, H, 2, nonlinearity="relu", batch_first=True, dropout=0.3, dropout_mask="sequence",
        bidirectional=True, merge="sum", clip=0.9, recurrent_dropout=0.1, zoneout=0.25,
        init="keras",
    ),
    "rnn, reversed": lambda: RNN(I, H, bias=False, reverse=True, dtype="float64"),
    "lstm": lambda: LSTM(
        I, H, 2, batch_first=True, dropout=1 / 3, dropout_mask="sequence", bidirectional=True,
        merge=None, peephole=True, clip=2.5, cell_clip=1.5, recurrent_activation="hard_sigmoid",
        recurrent_dropout=0.1, zoneout=(0.1, 0.0), layer_norm=True, init="orthogonal",
        forget_bias=1.5,
    ),
    "lstm, projected": lambda: LSTM(
        I, H, 2, bidirectional=True, proj_size=3, coupled=True, dtype="float64", zoneout=0.0
    ),
    "lstm, reversed": lambda: LSTM(I, H, bias=False, reverse=True, zoneout=0.2),
    "gru": lambda: GRU(
        I, H, 2, reset_after=False, batch_first=True, dropout=0.5, dropout_mask="sequence",
        bidirectional=True, merge="mul", clip=3, recurrent_activation="hard_sigmoid_onnx",
        recurrent_dropout=0.2, zoneout=0.1, init="glorot",
    ),
    "gru, reversed": lambda: GRU(I, H, bias=False, reverse=True, layer_norm=True, dtype="float64"),
    "min_gru": lambda: MinGRU(
        I, H, 2, batch_first=True, dropout=0.5, dropout_mask="sequence", bidirectional=True,
        merge="mean", init="glorot_orthogonal",
    ),
    "min_gru, reversed": lambda: MinGRU(I, H, bias=False, reverse=True, dtype="float64"),
    "min_lstm": lambda: MinLSTM(
        I, H, 2, batch_first=True, dropout=0.5, dropout_mask="sequence", bidirectional=True,
        merge="mean", init="keras",
    ),
    "min_lstm, reversed": lambda: MinLSTM(I, H, bias=False, reverse=True, dtype="float64"),
    "one unit": lambda: LSTM(1, 1),
    "no features": lambda: GRU(0, H),
}  # fmt: skip


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"layers{request.param}"


def arguments(layer):
    """The values of all arguments of a layer's class but rng."""
    names = [name for name in inspect.signature(type(layer)).parameters if name != "rng"]
    return {name: getattr(layer, name, getattr(layer.options, name, None)) for name in names}


def assert_same_layer(one, other):
    assert type(one) is type(other) and repr(one) == repr(other)
    assert arguments(one) == arguments(other) and one.options == other.options
    assert list(one.params) == list(other.params) and one.draws == other.draws
    assert_same_bits(one.flat, other.flat)
    x = np.random.default_rng(1).normal(size=(T, B, one.input_size)).astype(one.dtype)
    state = one(x)[1]
    for a, b in zip(run(one, x, state), run(other, x, state), strict=True):
        assert_same_bits(a, b)


def run(layer, x, state):
    """All arrays of a call, and of a training pass whose random numbers have a seed."""
    layer.rng = 3
    y, last = layer(x, state)
    trained, trained_last, tape = layer.forward(x, state)
    ones = [np.ones_like(part) for part in (trained if isinstance(trained, tuple) else [trained])]
    grads = tape.backward(tuple(ones) if len(ones) > 1 else ones[0])
    found = []
    for part in (y, last, trained, trained_last):
        found += part if isinstance(part, tuple) else [part]
    return [*found, grads.x, grads.flat]


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_that_was_saved_is_loaded(name, path):
    layer = LAYERS[name]()
    fastrnn.save(path, layer)
    assert_same_layer(fastrnn.load(path), layer)


def test_arguments_may_be_numbers_of_numpy(path):
    layer = LSTM(
        np.int64(2), np.uint8(3), np.int32(2), bias=np.True_, batch_first=np.True_,
        reverse=np.True_, dropout=np.float32(0.25), peephole=np.True_, coupled=np.False_,
        clip=np.float32(2), zoneout=(np.float64(0.5), np.int8(0)), forget_bias=np.int64(1),
        merge=np.str_("concat"),
    )  # fmt: skip
    fastrnn.save(path, layer)
    assert_same_layer(fastrnn.load(path), layer)


def test_every_argument_differs_from_its_default_in_a_layer_above():
    """So that an option that is added later is not forgotten in files."""
    layers = [make() for make in LAYERS.values()]
    for kind in (RNN, LSTM, GRU, MinGRU, MinLSTM):
        plain = arguments(kind(I + 1, H + 1))
        own = [arguments(layer) for layer in layers if type(layer) is kind]
        assert all(any(layer[name] != plain[name] for layer in own) for name in plain), kind


def test_a_dict_of_layers_keeps_names_and_order(path):
    layers = {name: make() for name, make in LAYERS.items()} | {"a.b": GRU(2, 3), "a": LSTM(2, 3)}
    fastrnn.save(path, layers)
    loaded = fastrnn.load(path)
    assert list(loaded) == list(layers)
    for name, layer in layers.items():
        assert_same_layer(loaded[name], layer)


def test_a_dict_comes_back_from_a_dict_of_one(path):
    fastrnn.save(path, {"encoder": LSTM(2, 3, rng=0)})
    assert list(fastrnn.load(path)) == ["encoder"]


def test_the_prefix_chooses_layers(path):
    layers = {"model.encoder": LSTM(2, 3), "model.decoder.rnn": GRU(3, 3), "other": RNN(1, 2)}
    fastrnn.save(path, layers)
    assert_same_layer(fastrnn.load(path, "model.encoder."), layers["model.encoder"])
    assert_same_layer(fastrnn.load(path, prefix="model.decoder.rnn."), layers["model.decoder.rnn"])
    assert list(fastrnn.load(path, "model.")) == ["encoder", "decoder.rnn"]
    assert list(fastrnn.load(path, "model.decoder.")) == ["rnn"]
    for prefix in ("model.encoder", "other"):
        with pytest.raises(ValueError, match=rf"layers.*dot: use prefix='{prefix}\.'"):
            fastrnn.load(path, prefix)
    for prefix in ("encoder.", "model.encoder.x", "model.encoder.weight_ih_l0"):
        with pytest.raises(ValueError, match="no recurrent layer is behind prefix=.*use 'model"):
            fastrnn.load(path, prefix)
    with pytest.raises(TypeError, match="prefix must be a text, got NoneType"):
        fastrnn.load(path, None)


def test_a_layer_and_layers_below_it_need_a_choice(path):
    fastrnn.save(path, {"a": LSTM(2, 3), "a.b": GRU(2, 3)})
    assert list(fastrnn.load(path)) == ["a", "a.b"]
    with pytest.raises(ValueError, match=r"layers at 'a\.' and below it: 'a\.b\.'"):
        fastrnn.load(path, "a.")


def test_the_generator_is_new_and_has_drawn_nothing(path):
    layer = LSTM(2, 3, 2, dropout=0.5, rng=0)
    fastrnn.save(path, {"a": layer, "b": layer})
    loaded, fresh = fastrnn.load(path, rng=7)["a"], np.random.default_rng(7)
    assert loaded.rng.bit_generator.state == fresh.bit_generator.state
    assert all(layer.rng is fresh for layer in fastrnn.load(path, rng=fresh).values())
    assert fresh.bit_generator.state == np.random.default_rng(7).bit_generator.state
    states = [fastrnn.load(path, "a.").rng.bit_generator.state for _ in range(2)]
    assert states[0] != states[1]
    with pytest.raises(ValueError, match="rng must be"):
        fastrnn.load(path, rng=-1)


def test_options_override_those_of_the_file(path):
    fastrnn.save(path, LSTM(2, 3, 2, dropout=0.5, batch_first=True, clip=3.0, rng=0))
    loaded = fastrnn.load(
        path, batch_first=False, clip=None, dropout=0.1, zoneout=(0.5, 0.25), hidden_size=3,
        cell="lstm",
    )  # fmt: skip
    same = fastrnn.load(path)
    assert not loaded.batch_first and loaded.options.clip is None and loaded.dropout == 0.1
    assert loaded.options.zoneout == (0.5, 0.25) and same.dropout == 0.5
    assert_same_bits(loaded.flat, same.flat)


def test_options_are_for_all_layers(path):
    fastrnn.save(path, {"a": LSTM(2, 3), "b": GRU(2, 3)})
    assert all(layer.batch_first for layer in fastrnn.load(path, batch_first=True).values())
    with pytest.raises(TypeError, match="reset_after is no option of LSTM.*are input_size, "):
        fastrnn.load(path, reset_after=False)
    assert not fastrnn.load(path, "b.", reset_after=False).reset_after


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"hidden_size": 4}, ValueError, "hidden_size of .* is 3 by its arrays, got 4"),
        ({"num_layers": 2}, ValueError, "num_layers of .* is 1 by its arrays, got 2"),
        ({"bias": False}, ValueError, "bias of .* is True by its arrays, got False"),
        ({"bidirectional": True}, ValueError, "bidirectional of .* is False"),
        ({"proj_size": 2}, ValueError, "proj_size of .* is 0"),
        ({"input_size": np.ones(2)}, ValueError, "input_size of .* is 2"),
        ({"peephole": True}, ValueError, "missing are weight_peephole_l0; unknown are none"),
        ({"coupled": True}, ValueError, r"weight_ih_l0 of .* must be \(9, 2\), got \(12, 2\)"),
        ({"layer_norm": True}, ValueError, "missing are weight_ln_ih_l0, weight_ln_hh_l0"),
        ({"merge": "sum"}, ValueError, "layers.*: merge must be 'concat' for a layer of one"),
        ({"clip": -1}, ValueError, "layers.*: clip must be a positive number or None, got -1"),
        ({"batch_first": 1}, TypeError, "layers.*: batch_first must be True or False, got 1"),
        ({"nonlinearity": "relu"}, TypeError, "nonlinearity is no option of LSTM"),
        ({"device": "cpu"}, TypeError, "device is no option of LSTM"),
        ({"cell": "gru"}, ValueError, "cell of .* is 'lstm' by the file, got 'gru'"),
        ({"cell": "LSTM"}, ValueError, "cell must be one of 'rnn', 'lstm', 'gru'"),
        ({"dtype": "float16"}, TypeError, "dtype must be float32 or float64"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, error, words, path):
    fastrnn.save(path, LSTM(2, 3))
    with pytest.raises(error, match=words):
        fastrnn.load(path, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_converts(dtype, path):
    layer = GRU(2, 3, dtype=dtype, rng=0)
    fastrnn.save(path, layer)
    other = "float64" if dtype == "float32" else "float32"
    loaded = fastrnn.load(path, dtype=other)
    assert loaded.dtype == other
    assert_same_bits(loaded.flat, layer.flat.astype(other))


def test_a_number_that_float32_does_not_hold_is_refused(path):
    layer = GRU(2, 3, dtype="float64")
    layer.flat[0], layer.flat[1], layer.flat[2] = np.inf, np.nan, 1e-300
    fastrnn.save(path, layer)
    assert np.isinf(fastrnn.load(path, dtype="float32").flat[0])
    layer.flat[0] = 1e300
    fastrnn.save(path, layer)
    with pytest.raises(ValueError, match="weight_ih_l0: it has a number that float32 does not"):
        fastrnn.load(path, dtype="float32")


@pytest.mark.parametrize("dtype, bits", [("float32", 0x7FA00000), ("float64", 0x7FF4 << 48)])
def test_a_signalling_nan_is_converted_too(dtype, bits, path):
    layer = GRU(2, 3, dtype=dtype)
    layer.flat.view(f"u{layer.dtype.itemsize}")[0] = bits
    fastrnn.save(path, layer)
    for other in ("float32", "float64"):
        flat = fastrnn.load(path, dtype=other).flat
        assert np.isnan(flat[0]) and not np.isnan(flat[1:]).any()


def test_a_dropout_that_does_nothing_is_loaded_quietly_and_given_with_a_warning(path):
    with pytest.warns(UserWarning, match="does nothing"):
        layer = LSTM(2, 3, dropout=0.5)
    fastrnn.save(path, layer)
    assert fastrnn.load(path).dropout == 0.5
    with pytest.warns(UserWarning, match="dropout = 0.25 does nothing"):
        assert fastrnn.load(path, dropout=0.25).dropout == 0.25


class Mine(LSTM):
    """A class of somebody's own."""


class Module:
    """Like a module of PyTorch."""

    def state_dict(self):
        return {}


@pytest.mark.parametrize(
    "path, words",
    [("m.keras", "use fastrnn.keras.load"), ("m.h5", "use fastrnn.keras.load"),
     ("m.onnx", "use fastrnn.onnx.load"), ("m.pt", "save as safetensors, or let PyTorch read it")],
)  # fmt: skip
def test_other_formats_have_a_way_out(path, words):
    with pytest.raises(ValueError, match=f"must end in .* got '{path}': .*{words}"):
        fastrnn.load(path)


@pytest.mark.parametrize(
    "layers, error, words",
    [
        (None, TypeError, "layers must be a layer, or a dict.*got NoneType"),
        ([LSTM(2, 3)], TypeError, "got list"),
        ({}, ValueError, "got an empty dict"),
        ({"": LSTM(2, 3)}, ValueError, "layers must have texts as names, got ''"),
        ({0: LSTM(2, 3)}, ValueError, "layers must have texts as names, got 0"),
        ({"a": train.Dense(2, 3)}, TypeError, r"layers\['a'\] must be a layer, got Dense"),
        ({"a": Mine(2, 3)}, TypeError, r"layers\['a'\] must be a layer, got Mine"),
        (Mine(2, 3), TypeError, "got Mine.*fastrnn.train.save takes other parts too"),
        (Module(), TypeError, r"got \S*Module: make a fastrnn layer .* layer.load\(module\)"),
        (LSTM(2, 3).freeze(), TypeError, "got Frozen: use the layer that was frozen"),
        ({"\ud800": LSTM(2, 3)}, ValueError, r"'\\ud800.weight_ih_l0' must be .*got a surrogate"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(layers, error, words, path):
    path.write_bytes(b"old")
    with pytest.raises(error, match=words):
        fastrnn.save(path, layers)
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_if_layer_and_path_are_exchanged_the_message_says_so(tmp_path):
    layer, path = LSTM(2, 3), tmp_path / "x.npz"
    for exchanged in (
        lambda: fastrnn.save(layer, path),
        lambda: fastrnn.save({"a": layer}, str(path)),
        lambda: train.save({"a": layer}, path),
        lambda: train.load([layer], path),
    ):
        with pytest.raises(TypeError, match="path must be .*: the path comes first"):
            exchanged()


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model", "model.NPZ", "model.h5"])
def test_other_suffixes_are_refused(name, tmp_path):
    for use in (lambda path: fastrnn.save(path, LSTM(2, 3)), fastrnn.load):
        with pytest.raises(ValueError, match="path must end in .npz or .safetensors"):
            use(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        fastrnn.load(str(tmp_path / "there_is_none.npz"))


@pytest.mark.parametrize("given", [b"x.npz", None, 3, io.BytesIO()])
def test_a_path_that_is_none_is_refused(given):
    kind = type(given).__name__
    for use in (lambda path: fastrnn.save(path, LSTM(2, 3)), fastrnn.load):
        with pytest.raises(TypeError, match=f"path must be a str or a pathlib.Path, got {kind}"):
            use(given)


def test_a_folder_that_is_missing_is_named_by_the_path(path):
    missing = path.parent / "none" / path.name
    with pytest.raises(FileNotFoundError) as caught:
        fastrnn.save(missing, LSTM(2, 3))
    assert caught.value.filename == str(missing)


def test_names_that_a_format_does_not_hold_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    for suffix, length, words in (
        (".npz", 65_532 - len(".weight_ih_l0"), "at most 65531 bytes.*use .safetensors"),
        (".safetensors", 10**8, "cannot be written as .safetensors: .*header too large"),
    ):
        with pytest.raises(ValueError, match=words):
            fastrnn.save(tmp_path / f"x{suffix}", {"x" * length: RNN(1, 2, bias=False)})
        assert not list(tmp_path.iterdir())
    longest = "x" * (65_531 - len(".weight_ih_l0"))
    fastrnn.save(tmp_path / "x.npz", {longest: RNN(1, 2, bias=False)})
    assert list(fastrnn.load(tmp_path / "x.npz")) == [longest]


def test_odd_names_come_back(path):
    for name in ("a.", ".", "weight_ih_l0", "x" * 300, "ä/b", "fastrnn", "a b\n", "a.npy"):
        layer = RNN(1, 2, rng=0)
        fastrnn.save(path, {name: layer})
        assert_same_layer(fastrnn.load(path)[name], layer)


def test_numpy_reads_an_npz(tmp_path):
    layer = LSTM(2, 3, rng=0)
    fastrnn.save(tmp_path / "x.npz", {"a": layer})
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {"fastrnn", *("a." + name for name in layer.params)}
        assert_same_bits(file["a.weight_ih_l0"], layer.params["weight_ih_l0"])


def test_a_layer_takes_the_arrays_that_numpy_reads(tmp_path):
    one, other = (fastrnn.LSTM(2, 3, rng=seed) for seed in (0, 1))
    fastrnn.save(tmp_path / "one.npz", one)
    with np.load(tmp_path / "one.npz") as arrays:
        other.load(arrays)
    np.testing.assert_array_equal(other.flat, one.flat)


def test_reading_needs_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    layer, path = LSTM(2, 3, rng=0), tmp_path / "x.safetensors"
    written(path, layer.params)
    assert_same_layer(fastrnn.load(path), layer)
    with pytest.raises(ModuleNotFoundError, match="pip install safetensors"):
        fastrnn.save(path, layer)


@pytest.mark.no_kernels
def test_importing_fastrnn_imports_none_of_it():
    program = "import sys, fastrnn; print('json' in sys.modules or 'fastrnn.io' in sys.modules)"
    program += (
        "; fastrnn.load; print('fastrnn.io' in sys.modules, 'fastrnn.convert' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert said.stdout.split() == [b"False", b"True", b"False"], said
