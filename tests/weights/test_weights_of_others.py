"""Files of others, without a description: layers follow from the names and shapes of arrays."""

import numpy as np
import pytest
from problems import assert_same_bits
from strangers import Member, npy, tensors_of, zip_of
from weight_files import SUFFIXES, bfloat16, written

import fastrnn
from fastrnn import GRU, LSTM, RNN, MinGRU, MinLSTM

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

OF_PYTORCH = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"theirs{request.param}"


def shapes(prefix="", **changes):
    """Zeros with the names and shapes of an LSTM(2, 3), with changes; None removes an array."""
    arrays = {name: np.zeros(a.shape, "f4") for name, a in LSTM(2, 3).params.items()}
    arrays |= {n: a if a is None else np.zeros(a, "f4") for n, a in changes.items()}
    return {prefix + name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("cell", OF_PYTORCH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("both, bias", [(False, True), (True, True), (True, False)])
def test_the_sizes_follow_from_names_and_shapes(cell, dtype, layers, both, bias, path):
    for inputs, hidden in ((2, 5), (5, 5), (7, 3), (1, 1), (0, 4)):
        layer = OF_PYTORCH[cell](
            inputs, hidden, layers, bidirectional=both, bias=bias, dtype=dtype, rng=0
        )
        loaded = fastrnn.load(written(path, layer.params))
        assert repr(loaded) == repr(layer)
        assert_same_bits(loaded.flat, layer.flat)


@pytest.mark.parametrize("hidden, projected", [(5, 3), (4, 1), (2, 1)])
@pytest.mark.parametrize("both", [False, True])
def test_a_projection_is_seen(hidden, projected, both, path):
    layer = LSTM(2, hidden, 2, proj_size=projected, bidirectional=both, rng=0)
    loaded = fastrnn.load(written(path, layer.params))
    assert repr(loaded) == repr(layer)
    assert_same_bits(loaded.flat, layer.flat)


@pytest.mark.parametrize(
    "options",
    [
        {"nonlinearity": "relu", "batch_first": True, "reverse": True},
        {"dropout": 0.5, "bidirectional": True, "merge": "sum", "num_layers": 2},
    ],
)
def test_options_are_the_users(options, path):
    layer = RNN(2, 3, rng=0, **{"num_layers": 2, **options})
    loaded = fastrnn.load(written(path, layer.params), **options)
    assert repr(loaded) == repr(layer)
    assert_same_bits(loaded.flat, layer.flat)


def test_the_cell_and_options_that_add_parameters_are_the_users_too(path):
    for cell, kind in {"min_gru": MinGRU, "min_lstm": MinLSTM}.items():
        layer = kind(2, 3, 2, rng=0)
        written(path, layer.params)
        assert repr(fastrnn.load(path, cell=cell)) == repr(layer)
        with pytest.raises(ValueError, match="weight_hh_l0 of .* is missing: it has bias_ih_l0, "):
            fastrnn.load(path)
    options = {"peephole": True, "coupled": True, "layer_norm": True}
    layer = LSTM(2, 3, **options)
    loaded = fastrnn.load(written(path, layer.params), cell="lstm", **options)
    assert repr(loaded) == repr(layer)
    with pytest.raises(ValueError, match="unknown are bias_ln_c_l0, weight_ln_c_l0, "):
        fastrnn.load(path)  # three gates: a GRU


def test_of_a_whole_model_the_recurrent_layers_are_loaded(path):
    encoder, decoder = LSTM(4, 5, 2, rng=0), GRU(5, 5, rng=1)
    arrays = {"embedding.weight": np.ones((9, 4), "f4")}
    arrays |= {"encoder.rnn." + name: array for name, array in encoder.params.items()}
    arrays |= {"fc.weight": np.ones((2, 5), "f4"), "steps": np.ones((), "i4")}
    arrays |= {"decoder." + name: array for name, array in decoder.params.items()}
    written(path, arrays)
    loaded = fastrnn.load(path)
    assert list(map(repr, loaded.values())) == [repr(encoder), repr(decoder)]
    assert list(loaded) == ["encoder.rnn", "decoder"]
    assert_same_bits(loaded["encoder.rnn"].flat, encoder.flat)
    assert_same_bits(fastrnn.load(path, "decoder.").flat, decoder.flat)
    assert list(fastrnn.load(path, "encoder.")) == ["rnn"]
    with pytest.raises(ValueError, match="prefix='fc.': use 'encoder.rnn.', 'decoder.'"):
        fastrnn.load(path, "fc.")


def test_a_cell_of_pytorch_is_a_layer(path):
    layer = GRU(2, 3, rng=0)
    arrays = {name.removesuffix("_l0"): array for name, array in layer.params.items()}
    assert_same_bits(fastrnn.load(written(path, arrays)).flat, layer.flat)
    written(path, {"policy.cell." + name: array for name, array in arrays.items()})
    assert repr(fastrnn.load(path)) == f"{{'policy.cell': {layer!r}}}"
    written(path, arrays | dict(layer.params))
    with pytest.raises(ValueError, match="theirs.*the parameter weight_ih_l0 twice"):
        fastrnn.load(path)


def test_a_file_without_layers_says_so(path):
    written(path, {"fc.weight": np.ones((2, 5), "f4"), "lstm.weight": np.ones(3, "f4")})
    with pytest.raises(ValueError, match="theirs.*no array is a parameter of a recurrent layer"):
        fastrnn.load(path)


def test_names_need_no_dot_behind_a_prefix(path):
    layer = LSTM(2, 3, rng=0)
    written(path, {"lstm_" + name: array for name, array in layer.params.items()})
    assert_same_bits(fastrnn.load(path, "lstm_").flat, layer.flat)
    assert list(fastrnn.load(path)) == ["lstm_"]


def test_names_that_differ_by_a_dot_alone_are_refused(path):
    written(path, shapes("a") | shapes("a."))
    with pytest.raises(ValueError, match=r"layers at 'a\.', and without the dot"):
        fastrnn.load(path)


@pytest.mark.parametrize(
    "arrays, words",
    [
        (shapes(weight_hh_l0=None), ["weight_hh_l0 of", "is missing"]),
        (shapes(weight_ih_l0=None), ["weight_ih_l0 of", "is missing"]),
        (shapes(bias_hh_l0=None), ["missing are bias_hh_l0; unknown are none"]),
        (shapes(weight_ih_l1=(12, 3)), ["missing are weight_hh_l1, bias_ih_l1, bias_hh_l1"]),
        (shapes(weight_ih_l2=(12, 3)), ["missing are weight_ih_l1", "unknown are weight_ih_l2"]),
        (shapes(weight_ih_l01=(12, 3)), ["unknown are weight_ih_l01"]),
        (shapes(bias_hh_l0_reverse=(12,)), ["unknown are bias_hh_l0_reverse"]),
        (shapes(weight_ih_l0_reverse=(12, 2)), ["missing are weight_hh_l0_reverse"]),
        (shapes(weight_hr_l0=(2, 3)), ["weight_hh_l0 of", "(12, 2), got (12, 3)"]),
        (shapes(weight_hr_l0=(2, 4)), ["unknown are weight_hr_l0"]),
        (shapes(weight_peephole_l0=(9,)), ["unknown are weight_peephole_l0"]),
        (shapes(fc=(9,)), ["unknown are fc"]),
        (shapes(weight_hh_l0=(3, 12)), ["must have 1, 3 or 4 rows for each of the 12 hidden"]),
        (shapes(weight_hh_l0=(6, 3)), ["must have 1, 3 or 4 rows for each of the 3 hidden"]),
        (shapes(weight_hh_l0=(0, 3)), ["must have 1, 3 or 4 rows"]),
        (shapes(weight_hh_l0=(12, 0)), ["a column for each hidden unit, got (12, 0)"]),
        (shapes(weight_hh_l0=(12,)), ["weight_hh_l0 of", "must have two axes, got (12,)"]),
        (shapes(weight_ih_l0=()), ["weight_ih_l0 of", "must have two axes, got ()"]),
        (shapes(weight_ih_l0=(2, 12)), ["(12, 12), got (2, 12)"]),
        (shapes(weight_ih_l0=(9, 2)), ["(12, 2), got (9, 2)"]),
        (shapes(bias_ih_l0=(12, 1)), ["bias_ih_l0 of", "must be (12,), got (12, 1)"]),
        (shapes(bias_hh_l0=(11,)), ["bias_hh_l0 of", "must be (12,), got (11,)"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "a.b."])
def test_names_and_shapes_that_do_not_fit_are_refused(arrays, words, prefix, path):
    written(path, {prefix + name: array for name, array in arrays.items()})
    with pytest.raises(ValueError) as caught:
        fastrnn.load(path)
    for word in [str(path), *words, *["layer 'a.b' of"] * bool(prefix)]:
        assert word in str(caught.value)


def test_a_module_below_a_layer_is_refused(path):
    """As weight_norm and parametrizations make it: the layer's own weights are elsewhere."""
    written(path, shapes("lstm.") | {"lstm.parametrizations.weight": np.ones(3, "f4")})
    with pytest.raises(ValueError, match="layer 'lstm'.*unknown are parametrizations.weight"):
        fastrnn.load(path)


# ---- dtypes --------------------------------------------------------------------------------------


def test_half_precision_is_converted_if_the_user_says_so(path):
    layer = GRU(2, 3, rng=0)
    halves = {name: array.astype("f2") for name, array in layer.params.items()}
    written(path, halves)
    with pytest.raises(TypeError, match='_l0 of .* got float16: give dtype="float32"'):
        fastrnn.load(path)
    for dtype in ("float32", "float64"):
        loaded = fastrnn.load(path, dtype=dtype)
        assert loaded.dtype == dtype
        for name, half in halves.items():
            assert_same_bits(loaded.params[name], half.astype(dtype))


def test_bfloat16_is_converted_if_the_user_says_so(tmp_path):
    layer, path = GRU(2, 3, rng=0), tmp_path / "x.safetensors"
    layer.flat[:4] = np.inf, -0.0, 1e-40, 3e38
    rounded = {name: bfloat16(array) for name, array in layer.params.items()}
    header, data = {}, b""
    for name, (_, bits) in rounded.items():
        at, data = len(data), data + bits.tobytes()
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": [at, len(data)]}
    path.write_bytes(tensors_of(header, data))
    with pytest.raises(TypeError, match='_l0 of .* got BF16: give dtype="float32"'):
        fastrnn.load(path)
    for dtype in ("float32", "float64"):
        loaded = fastrnn.load(path, dtype=dtype)
        for name, (numbers, _) in rounded.items():
            assert_same_bits(loaded.params[name], numbers.astype(dtype))


def test_dtypes_are_not_mixed_unless_the_user_says_so(path):
    arrays = shapes() | {"bias_ih_l0": np.ones(12)}
    with pytest.raises(TypeError, match="bias_ih_l0 of .* float32 like other .* float64: give"):
        fastrnn.load(written(path, arrays))
    loaded = fastrnn.load(path, dtype="float64")
    assert loaded.dtype == "float64" and loaded.params["bias_ih_l0"].all()


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_integers_are_refused(dtype, path):
    arrays = shapes() | {"bias_ih_l0": np.ones(12, "i4")}
    with pytest.raises(TypeError, match="bias_ih_l0 of .* must be float32 or float64, got int32$"):
        fastrnn.load(written(path, arrays), dtype=dtype)


def test_floats_of_more_than_64_bits_are_refused(tmp_path):
    path, arrays = tmp_path / "x.npz", shapes(bias_ih_l0=None)
    members = [Member(name.encode() + b".npy", npy(array)) for name, array in arrays.items()]
    members.append(Member(b"bias_ih_l0.npy", npy(np.ones(24), "<f16", shape=(12,))))
    path.write_bytes(zip_of(members))
    with pytest.raises(TypeError, match="bias_ih_l0 of .* must be float32 or float64, got .*f"):
        fastrnn.load(path, dtype="float64")


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f4", "<f8"])
def test_the_byte_order_and_the_layout_are_free_in_an_npz(dtype, tmp_path):
    layer, path = LSTM(2, 3, dtype=dtype[1:], rng=0), tmp_path / "x.npz"
    members = [
        Member(
            name.encode() + b".npy",
            npy(array.T.copy().astype(dtype), shape=array.shape, fortran=True),
        )
        for name, array in layer.params.items()
    ]
    path.write_bytes(zip_of(members))
    loaded = fastrnn.load(path)
    assert loaded.dtype == dtype[1:] and loaded.dtype.isnative
    assert_same_bits(loaded.flat, layer.flat)
