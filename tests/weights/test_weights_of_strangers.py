"""Weight files of strangers: descriptions are checked, memory is bounded, nothing is executed."""

import json
import pickle

import numpy as np
import pytest
from strangers import DEFLATED, MIB, Member, memory_below, npy, tensors_of, zip_of
from weight_files import SUFFIXES, written

import fastrnn
from fastrnn import GRU, LSTM, MinGRU
from fastrnn._weights import description

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

ARRAYS = LSTM(2, 3, rng=0).params.copy()
OPTIONS = {"batch_first": True, "dropout": 0.5, "zoneout": [0.5, 0.25], "clip": None}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"theirs{request.param}"


def described(name="", cell="lstm", options=OPTIONS, version=1):
    """The JSON of the description of one layer."""
    return json.dumps({"version": version, "layers": {name: {"cell": cell, "options": options}}})


def refused(path, *words, error=ValueError, **options):
    with pytest.raises(error) as caught:
        fastrnn.load(path, **options)
    assert type(caught.value) is error
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()


# ---- descriptions --------------------------------------------------------------------------------


def test_a_description_need_not_have_every_option(path):
    """An older fastrnn had fewer."""
    layer = fastrnn.load(written(path, ARRAYS, described()))
    same = LSTM(2, 3, batch_first=True, zoneout=(0.5, 0.25))
    assert layer.dropout == 0.5 and layer.options == same.options and layer.batch_first


def of_options(**options):
    return described(options=options)


@pytest.mark.parametrize(
    "text, words",
    [
        ("x", "JSON is broken"),
        ("[]", "JSON must be an object, got list"),
        ("{}", "must have version = 1 and layers alone"),
        ('{"version": 1, "version": 1, "layers": {}}', "it has version twice"),
        (described(version=2), "its version must be 1, got 2: update fastrnn"),
        (described(version=10**30), "its version must be 1, got 1000000000"),
        (described(version=0), "must have version = 1 and layers alone"),
        (described(version=True), "must have version = 1 and layers alone"),
        (described(version=1.0), "must have version = 1 and layers alone"),
        (described(version="1"), "must have version = 1 and layers alone"),
        ('{"version": 1, "layers": {}, "more": 1}', "must have version = 1 and layers alone"),
        ('{"version": 1, "layers": []}', "must describe the layers [''], which have arrays"),
        ('{"version": 1, "layers": {}}', "must describe the layers [''], which have arrays"),
        (described("a"), "must describe the layers [''], which have arrays, got ['a']"),
        ('{"version": 1, "layers": {"": 1}}', "must have cell and options alone"),
        ('{"version": 1, "layers": {"": {"cell": "lstm"}}}', "must have cell and options alone"),
        (described(cell="LSTM"), "cell must be one of rnn, lstm, gru, min_gru, min_lstm, got"),
        (described(cell=["lstm"]), "cell must be one of"),
        (described(cell="os.system"), "cell must be one of"),
        (described(cell="gru", options={"peephole": True}), "options of gru must be among"),
        (described(cell="gru", options={}), "must be (9, 2), got (12, 2)"),
        (described(cell="min_gru", options={}), "unknown are bias_hh_l0, weight_hh_l0"),
        (described(options=[]), "options of lstm must be among"),
        (of_options(colour=1), "got colour: a later fastrnn may know it"),
        (of_options(nonlinearity="tanh"), "got nonlinearity"),
        (of_options(hidden_size=3), "got hidden_size"),
        (of_options(dtype="float32"), "got dtype"),
        (of_options(rng=0), "got rng"),
        (of_options(self=0), "got self"),
        (of_options(clip=[1, 2, 3]), "clip cannot be [1, 2, 3]"),
        (of_options(clip={}), "clip cannot be {}"),
        (of_options(clip=[[1]]), "clip cannot be [[1]]"),
        (of_options(clip=10**100), "clip cannot be 1000"),
        (of_options(merge="x" * 100), "merge cannot be 'xxx"),
        (of_options(merge="x" * 50), "merge must be one of"),
        (of_options(merge="\ud800"), "merge must be one of"),
        (of_options(merge="sum"), "merge must be 'concat'"),
        (of_options(zoneout=[0.1]), "zoneout must be one number or a pair"),
        (of_options(zoneout=[0.1, 2]), "zoneout of c must be from 0 to 1, got 2"),
        (of_options(dropout=float("nan")), "dropout must be from 0 to 1, got nan"),
        (of_options(forget_bias=float("inf")), "forget_bias must be finite"),
        (of_options(peephole=True), "missing are weight_peephole_l0"),
        (of_options(init="zeros"), "init must be one of"),
    ],
)
def test_a_description_that_save_would_not_write_is_refused(text, words, path):
    refused(written(path, ARRAYS, text), words)


@pytest.mark.parametrize(
    "option", ["batch_first", "reverse", "peephole", "layer_norm", "dropout", "clip", "merge"]
)
@pytest.mark.parametrize("value", [0, 1, None, "true", "", [], [0], [True], {}, 0.5, -1, True])
def test_a_value_of_another_kind_is_refused_or_means_what_it_says(option, value, path):
    written(path, ARRAYS, of_options(**{option: value}))
    try:
        layer = fastrnn.load(path)
    except (TypeError, ValueError) as error:
        assert str(path) in str(error)
    else:
        own = getattr(layer, option, getattr(layer.options, option, None))
        assert own == value and type(own) in (type(value), float)


def test_the_layers_with_arrays_and_those_described_are_the_same(path):
    arrays = {"a." + name: array for name, array in ARRAYS.items()}
    arrays |= {"b.c." + name: array for name, array in ARRAYS.items()}
    layers = {"a": LSTM(2, 3), "b.c": LSTM(2, 3, reverse=True)}
    written(path, arrays, description.text_of(layers))
    assert fastrnn.load(path, "b.c.").reverse and fastrnn.load(path, "b.")["c"].reverse
    for names in (["a"], ["a", "b.c", "d"]):
        layers = {name: LSTM(2, 3) for name in names}
        written(path, arrays, description.text_of(layers))
        refused(path, "it must describe the layers ['a', 'b.c']")
        refused(path, "it must describe the layers ['a', 'b.c']", prefix="a.")


def test_a_description_is_a_text(path):
    written(path, ARRAYS | {"fastrnn": np.zeros(3, "f4")})
    refused(path, "fastrnn of", "must be a string that holds JSON", error=TypeError)


# ---- damaged files and pickles -------------------------------------------------------------------


def test_pickles_are_refused(path):
    path.write_bytes(pickle.dumps(ARRAYS))
    refused(path, "pickled files are never read")
    path.write_bytes(zip_of([Member(b"model/data.pkl", pickle.dumps(1))]))
    refused(path, "pickled files are never read")


def test_an_array_of_objects_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **(ARRAYS | {"bias_ih_l0": np.array([None] * 12)}))
    refused(path, "bias_ih_l0", "got |O", error=TypeError)


def zipped(arrays, **of_first):
    """A zip of arrays; the options are those of the first member."""
    members = [Member(name.encode() + b".npy", npy(array)) for name, array in arrays.items()]
    for name, value in of_first.items():
        setattr(members[0], name, value)
    return members


def test_damage_is_found(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(zip_of(zipped(ARRAYS, crc=7)))
    refused(path, "weight_ih_l0: its bytes were changed")
    path.write_bytes(zip_of(zipped(ARRAYS) + zipped(ARRAYS)[:1]))
    refused(path, "weight_ih_l0: it comes twice")


def test_members_of_two_layers_do_not_share_bytes(tmp_path):
    """A file could otherwise have as many layers as it likes."""
    path, members = tmp_path / "x.npz", []
    for prefix in ("a.", "b."):
        members += zipped({prefix + name: array for name, array in ARRAYS.items()})
    members[4].local = {"begin": 0, "name": members[0].name}
    path.write_bytes(zip_of(members))
    with pytest.raises(
        ValueError, match="x.npz.*(overlaps another|is not what the directory says)"
    ):
        fastrnn.load(path)


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_loading_takes_at_most_twice_the_memory_of_the_layers(dtype, path):
    layers = {"a": GRU(250, 250), "b": GRU(250, 200)}
    arrays = {f"{n}.{key}": a for n, layer in layers.items() for key, a in layer.params.items()}
    written(path, arrays, description.text_of(layers))
    size = sum(layer.flat.nbytes for layer in layers.values()) * (1 if dtype is None else 2)
    with memory_below(2 * size + MIB // 2):
        fastrnn.load(path, dtype=dtype)


def test_a_small_file_makes_no_large_layer(tmp_path):
    """Its zeros are packed to a thousandth."""
    layer, path = GRU(1000, 1000), tmp_path / "x.npz"
    layer.flat[...] = 0
    members = zipped(layer.params)
    for member in members:
        member.method = DEFLATED
    path.write_bytes(zip_of(members))
    with memory_below(2 * MIB):
        refused(path, "its layers take 24024000 bytes of memory, more than 100 times the file's")
    layer = GRU(2, 3)
    np.savez_compressed(path, **layer.params)
    assert (fastrnn.load(path).flat == layer.flat).all()


@pytest.mark.parametrize(
    "shapes, words",
    [
        (
            {"weight_ih_l0": [2**40, 2**20], "weight_hh_l0": [2**40, 2**38]},
            "by its dtype and shape",
        ),
        ({"weight_ih_l0": [2**62, 0], "weight_hh_l0": [2**60, 0]}, "a column for each hidden unit"),
        ({"weight_ih_l0": [4, 0], "weight_hh_l0": [0, 2**62]}, "must have 1, 3 or 4 rows"),
        ({"weight_ih_l0": [0, 2**62], "weight_hh_l0": [4, 1]}, "overflow"),
        ({"weight_ih_l0": [0, 2**50], "weight_hh_l0": [4, 1]}, "weight_ih_l0 of"),
    ],
)
def test_sizes_as_large_as_they_like_take_no_memory(shapes, words, tmp_path):
    path, header, at = tmp_path / "x.safetensors", {}, 0
    for name, shape in shapes.items():
        end = at + (16 if shape == [4, 1] else 0)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    path.write_bytes(tensors_of(header, bytes(at)))
    with memory_below(MIB):
        refused(path, words)


def test_sizes_without_elements_take_no_memory(tmp_path):
    """Of the largest units that a layer can have, without features and biases."""
    path, text = tmp_path / "x.safetensors", described(cell="min_gru", options={})
    for rows, words in ((2**21, None), (2**62, "overflow"), (3, "must be (2, 0), got (3, 0)")):
        header = {"weight_ih_l0": {"dtype": "F32", "shape": [rows, 0], "data_offsets": [0, 0]}}
        path.write_bytes(tensors_of({"__metadata__": {"fastrnn": text}} | header))
        with memory_below(MIB):
            if words is None:
                assert repr(fastrnn.load(path)) == repr(MinGRU(0, rows // 2, bias=False))
            else:
                refused(path, words)


def test_a_long_description_and_long_names_are_refused_before_they_take_memory(path):
    written(path, ARRAYS, '{"version": [' + "1," * 500_000 + "1]}")
    with memory_below(4 * MIB):
        refused(path, "its names take more than 32 MiB of memory")
    many = dict.fromkeys([f"{n}.{'x' * 1000}" for n in range(17_000)], np.zeros(1, "f4"))
    written(path, ARRAYS | many)
    with memory_below(40 * MIB):
        refused(path, "its names take more than 32 MiB of memory")


def test_a_file_of_many_arrays_is_read_within_the_limit(path):
    many = {f"layers.{n}.attention.weight": np.zeros(1, "f4") for n in range(5000)}
    written(path, many | {"lstm." + name: array for name, array in ARRAYS.items()})
    with memory_below(48 * MIB):
        assert list(fastrnn.load(path)) == ["lstm"]
