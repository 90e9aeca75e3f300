"""fastrnn.keras.load without Keras: files made by h5py, right ones and hostile ones."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from keras_by_hand import (  # noqa: E402
    INPUTS,
    H,
    h5_of,
    hdf5_of,
    keras_2,
    keras_members,
    keras_of,
    layer,
    model,
    numbered,
    run,
    weights,
)  # fmt: skip
from strangers import DEFLATED, Member, zip_of  # noqa: E402

import fastrnn  # noqa: E402
from fastrnn.keras import _heaps, load, load_weights  # noqa: E402

# no_kernels: the sanitizers would look at libhdf5.
pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

KINDS = {"SimpleRNN": {}, "LSTM": {}, "GRU": {}, "GRU before": {"reset_after": False}}
every_kind = pytest.mark.parametrize("kind", KINDS)
PATHS = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}
LSTM = model([layer("LSTM", "lstm")])


def written(folder, data, name="model.keras"):
    path = folder / name
    path.write_bytes(data)
    return path


def lstm_arrays(seed=0):
    return numbered("layers/lstm/cell", weights("LSTM", np.random.default_rng(seed)))


def same(loaded, kind, arrays, slope, reset_after):
    x = np.random.default_rng(1).normal(size=(4, 6, INPUTS))
    y, states = run(kind, arrays, x, slope, reset_after)
    for ours, theirs in zip(loaded(x), (y, *states), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


@every_kind
def test_a_keras_file(kind, tmp_path):
    options, kind = KINDS[kind], kind.partition(" ")[0]
    rng, after = np.random.default_rng(0), options.get("reset_after", True)
    arrays = [weights(kind, rng, after) for _ in range(2)]
    config = model([layer(kind, "first", **options), layer(kind, "second", **options)])
    path = PATHS[kind]
    members = numbered(f"layers/{path}/cell", arrays[0])
    members |= numbered(f"layers/{path}_1/cell", arrays[1])
    loaded = load(written(tmp_path, keras_of(config, members)))
    assert list(loaded) == ["first", "second"]
    for one, of_one in zip(loaded.values(), arrays, strict=True):
        same(one, kind, of_one, 1 / 6, after)


@every_kind
def test_a_layer_that_goes_backwards(kind, tmp_path):
    """y begins with the last step of x, and its last one is the final state."""
    options, kind = KINDS[kind], kind.partition(" ")[0]
    rng, after = np.random.default_rng(0), options.get("reset_after", True)
    arrays = weights(kind, rng, after)
    config = model([layer(kind, "own", go_backwards=True, **options)])
    members = numbered(f"layers/{PATHS[kind]}/cell", arrays)
    (loaded,) = load(written(tmp_path, keras_of(config, members))).values()
    assert loaded.go_backwards and loaded.layer.reverse
    x = rng.normal(size=(4, 6, INPUTS))
    y, states = run(kind, arrays, x[:, ::-1], 1 / 6, after)
    for ours, theirs in zip(loaded(x), (y, *states), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


@every_kind
def test_an_h5_of_keras_2(kind, tmp_path):
    """Its hard sigmoid is another function than that of Keras 3."""
    options, kind = KINDS[kind], kind.partition(" ")[0]
    rng, after = np.random.default_rng(0), options.get("reset_after", True)
    arrays = weights(kind, rng, after)
    config = model([layer(kind, "own", 2, **options), {"class_name": "Dense", "config": {}}])
    named = {"own": keras_2(f"own/{PATHS[kind]}_cell", arrays)}
    (loaded,) = load(written(tmp_path, h5_of(config, named), "model.h5")).values()
    same(loaded, kind, arrays, 0.2, after)


def test_models_within_models_in_an_h5_of_keras_2(tmp_path):
    """The layers of the inner model are found by name, beside other layers."""
    rng = np.random.default_rng(0)
    arrays = {name: weights("GRU", rng) for name in ("outer", "a", "b")}
    inner = model([layer("GRU", "a", 2), layer("GRU", "b", 2)])
    inner["config"]["name"] = "inner"
    config = model([layer("GRU", "outer", 2), inner])
    named = {"outer": keras_2("outer/gru_cell", arrays["outer"])}
    named["inner"] = keras_2("b/gru_cell_2", arrays["b"]) | {"dense/kernel:0": np.ones((3, 2))}
    named["inner"] |= keras_2("a/gru_cell_1", arrays["a"])
    loaded = load(written(tmp_path, h5_of(config, named), "model.h5"))
    assert list(loaded) == ["outer", "inner/a", "inner/b"]
    for name, one in loaded.items():
        same(one, "GRU", arrays[name.rpartition("/")[2]], 0.2, True)


def test_a_bidirectional_and_stacked_cells_are_in_the_order_of_their_names(tmp_path):
    rng = np.random.default_rng(0)
    ours = [weights("GRU", rng) for _ in range(2)]
    both = {"name": "both", "merge_mode": "concat", "layer": layer("GRU", "gru", 2)}
    cells = [layer("GRUCell", f"cell_{k}", 2) for k in range(2)]
    for cell in cells:
        cell["config"] |= {"reset_after": True, "recurrent_activation": "sigmoid"}
    stack = {"name": "stack", "dtype": "float64", "return_sequences": True}
    stack["cell"] = {"class_name": "StackedRNNCells", "config": {"cells": cells}}
    config = model(
        [{"class_name": "Bidirectional", "config": both}, {"class_name": "RNN", "config": stack}]
    )
    second = [rng.normal(size=(H, 3 * H)), *ours[1][1:]]
    named = {
        "both": keras_2("both/backward_gru/gru_cell", ours[1])
        | keras_2("both/forward_gru/gru_cell", ours[0]),
        "stack": keras_2("stack/cell_1", second) | keras_2("stack/cell_0", ours[0]),
    }
    loaded = load(written(tmp_path, h5_of(config, named), "model.h5"))
    for name, suffix, last in (("both", "l0_reverse", ours[1]), ("stack", "l1", second)):
        params = loaded[name].layer.params
        for kind, index in (("ih", 0), ("hh", 1)):
            z, r, n = np.split(ours[0][index].T, 3)
            np.testing.assert_array_equal(params[f"weight_{kind}_l0"], np.concatenate([r, z, n]))
            z, r, n = np.split(last[index].T, 3)
            wanted = np.concatenate([r, z, n])
            np.testing.assert_array_equal(params[f"weight_{kind}_{suffix}"], wanted)


def test_weights_of_keras_2_alone(tmp_path):
    arrays = weights("LSTM", np.random.default_rng(0))
    data = hdf5_of(
        {f"lstm/{name}": array for name, array in keras_2("lstm/lstm_cell", arrays).items()},
        {("lstm", "weight_names"): list(keras_2("lstm/lstm_cell", arrays))},
    )
    own = fastrnn.LSTM(INPUTS, H, dtype="float64")
    load_weights(written(tmp_path, data, "w.h5"), {"lstm": own})
    np.testing.assert_array_equal(own.params["weight_hh_l0"], arrays[1].T)


def test_a_keras_file_of_keras_2(tmp_path):
    """Keras 2.12 and 2.13 gave another name to the groups, in models within models too."""
    arrays = weights("LSTM", np.random.default_rng(0))
    config = model([model([layer("LSTM", "lstm", 2)])])
    older = "_layer_checkpoint_dependencies"
    members = numbered(f"{older}/sequential/{older}/lstm/cell", arrays)
    loaded = load(written(tmp_path, keras_of(config, members, version="2.13.1")))
    same(loaded["model/lstm"], "LSTM", arrays, 0.2, True)


def test_a_deflated_keras_file(tmp_path):
    members = keras_members(LSTM, lstm_arrays(), {"layers/lstm": "lstm"})
    for member in members:
        member.method = DEFLATED
    plain = load(written(tmp_path, keras_of(LSTM, lstm_arrays())))
    packed = load(written(tmp_path, zip_of(members), "packed.keras"))
    np.testing.assert_array_equal(packed["lstm"].layer.flat, plain["lstm"].layer.flat)


def test_a_lambda_is_left_out_and_nothing_is_imported(tmp_path):
    code = {"module": "os", "class_name": "system", "config": "true", "registered_name": "x"}
    strange = {"module": "antigravity", "class_name": "Lambda", "config": {"function": code}}
    path = written(tmp_path, keras_of(model([strange, *LSTM["config"]["layers"]]), lstm_arrays()))
    program = (
        "import sys, fastrnn.keras; fastrnn.keras.load(sys.argv[1]);"
        "assert not {'antigravity', 'keras', 'pickle.loads'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, path], check=True)


def test_a_recurrent_layer_of_a_users_class_is_not_left_out(tmp_path):
    own = layer("LSTM", "own") | {"class_name": "Mine", "registered_name": "pkg>Mine"}
    path = written(tmp_path, keras_of(model([own, *LSTM["config"]["layers"]]), lstm_arrays()))
    with pytest.raises(
        ValueError, match="Mine 'own': its class must be .*custom classes are never"
    ):
        load(path)


def test_a_mask_ends_where_a_layer_gives_its_last_output_alone(tmp_path):
    """Of three layers, the second has no sequences, so the third has no mask."""
    embedding = {"class_name": "Embedding", "config": {"name": "table", "mask_zero": True}}
    layers = [layer("LSTM", name) for name in "abc"]
    layers[1]["config"]["return_sequences"] = False
    members = {}
    for k, suffix in enumerate(["", "_1", "_2"]):
        arrays = weights("LSTM", np.random.default_rng(k))
        members |= numbered(f"layers/lstm{suffix}/cell", arrays)
    loaded = load(written(tmp_path, keras_of(model([embedding, *layers]), members)))
    assert [one.mask_source for one in loaded.values()] == ["table", "table", None]


def test_masks_of_a_functional_model_of_keras_2(tmp_path):
    """Tensors are lists there: layer, node, index and arguments."""
    arrays = weights("LSTM", np.random.default_rng(0))
    layers = [{"class_name": "InputLayer", "config": {"name": "ids"}}]
    layers += [{"class_name": "Embedding", "config": {"name": "table", "mask_zero": True}}]
    layers += [layer("LSTM", name, 2) for name in ("first", "second", "third")]
    sources = [
        [],
        [[["ids", 0, 0, {}]]],
        [[["table", 0, 0, {}]]],
        [[["ids", 0, 0, {"mask": ["compared", 0, 0]}]]],
        [[["ids", 0, 0, {"training": False}]]],
    ]
    for one, source in zip(layers, sources, strict=True):
        one |= {"name": one["config"]["name"], "inbound_nodes": source}
    named = {name: keras_2(f"{name}/lstm_cell", arrays) for name in ("first", "second", "third")}
    data = h5_of(model(layers, kind="Functional"), named)
    loaded = load(written(tmp_path, data, "model.h5")).values()
    assert [one.mask_source for one in loaded] == ["table", "compared", None]


def calls(layers, inbound):
    """The layers with what each call of theirs reads, in the form of Keras 2."""
    for one, names in zip(layers, inbound, strict=True):
        one |= {"name": one["config"]["name"], "inbound_nodes": []}
        one["inbound_nodes"] += [[[name, 0, 0, {}] for name in call] for call in names]
    return layers


def test_in_keras_2_add_has_a_mask_if_one_of_its_inputs_has(tmp_path):
    """In Keras 3 all of them must: tests/integrations/test_keras_masks.py."""
    layers = [{"class_name": "InputLayer", "config": {"name": "ids"}}]
    layers += [{"class_name": "Embedding", "config": {"name": "table", "mask_zero": True}}]
    layers += [{"class_name": "Add", "config": {"name": "add"}}, layer("LSTM", "lstm", 2)]
    layers = calls(layers, [[], [["ids"]], [["ids", "table"]], [["add"]]])
    arrays = weights("LSTM", np.random.default_rng(0))
    data = h5_of(model(layers, kind="Functional"), {"lstm": keras_2("lstm/lstm_cell", arrays)})
    loaded = load(written(tmp_path, data, "model.h5"))
    assert loaded["lstm"].mask_source == "table"


def test_in_keras_2_a_model_within_counts_its_calls_from_1(tmp_path):
    inner = calls([{"class_name": "InputLayer", "config": {"name": "x"}}], [[]])
    inner = model(inner, kind="Functional")
    inner["config"] |= {"input_layers": [["x", 0, 0]], "output_layers": [["x", 0, 0]]}
    layers = [{"class_name": "InputLayer", "config": {"name": "ids"}}]
    layers += [{"class_name": "Embedding", "config": {"name": "table", "mask_zero": True}}]
    # By their order in the file the LSTM is before the model.
    layers = calls(
        [*layers, layer("LSTM", "lstm", 2), inner], [[], [["ids"]], [["model"]], [["table"]]]
    )
    layers[2]["inbound_nodes"][0][0][1] = 1
    arrays = weights("LSTM", np.random.default_rng(0))
    data = h5_of(model(layers, kind="Functional"), {"lstm": keras_2("lstm/lstm_cell", arrays)})
    loaded = load(written(tmp_path, data, "model.h5"))
    assert loaded["lstm"].mask_source == "table"


def test_a_circle_of_layers_and_too_many_calls_are_refused(tmp_path):
    own = [layer("LSTM", "lstm"), {"class_name": "Dense", "config": {"name": "dense"}}]
    own = calls(own, [[["dense"]], [["lstm"]]])
    path = written(tmp_path, keras_of(model(own, kind="Functional"), lstm_arrays()))
    with pytest.raises(ValueError, match="must not read each other in a circle"):
        load(path)
    inner = model(calls([layer("LSTM", "lstm")], [[["x"]]]), kind="Functional")
    for depth in range(8):  # 8 models one in another, each called 10 times
        inner["config"]["name"] = f"m{depth}"
        inner = model(calls([inner], [[["x"]] * 10]), kind="Functional")
    path = written(tmp_path, keras_of(inner, lstm_arrays()))
    with pytest.raises(ValueError, match="must read at most"):
        load(path)


def test_importing_needs_no_h5py_and_reading_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install h5py .*fastrnn\[keras\]") as caught:
        load(tmp_path / "any.keras")
    assert caught.value.name == "h5py"
    program = "import sys, fastrnn.keras; assert not {'h5py', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


# ---- Refusals ------------------------------------------------------------------------------------


def changed(**options):
    return model([layer("LSTM", "lstm", **options)])


def renamed(name):
    config = changed()
    config["config"]["layers"][0]["config"]["name"] = name
    return config


def without(key):
    config = changed()
    del config["config"]["layers"][0]["config"][key]
    return config


def nested(depth):
    config = changed()
    for _ in range(depth):
        config = model([config])
    return config


FOREIGN = changed()
FOREIGN["config"]["layers"][0]["module"] = "kerasx.layers"
REGISTERED = changed()
REGISTERED["config"]["layers"][0]["registered_name"] = "Custom>LSTM"


@pytest.mark.parametrize(
    "config, words",
    [
        (changed(units=10**12), "units must be a positive integer"),
        (changed(units=2**30), "shape must be"),
        (changed(units=True), "units must be a positive integer"),
        (changed(activation={"class_name": "f"}), "activation must be 'tanh', got"),
        (changed(recurrent_activation="relu"), "must be 'sigmoid' or 'hard_sigmoid'"),
        (changed(dtype="bfloat16"), "dtype must be float32 or float64"),
        (changed(dtype=[1]), "dtype must be float32 or float64"),
        (changed(return_sequences=1), "return_sequences must be true or false"),
        (changed(time_major=True), "time_major must be False"),
        (changed(num_constants=1), "num_constants must be None"),
        (changed(dropout=2), "dropout must be a number from 0 to 1"),
        (renamed(3), "must have a name"),
        (without("name"), "must have a name"),
        (without("units"), "its configuration must have units"),
        (without("recurrent_activation"), "must have recurrent_activation"),
        (FOREIGN, "must be Keras' own LSTM"),
        (REGISTERED, "registered as Custom>LSTM"),
        (nested(20), "models must not be nested"),
        (nested(300), "models must not be nested|nested too deeply"),
        (model([]), "no recurrent layer"),
        (model(3), "layers must be a list"),
        (model([3]), "must have a class_name and a config"),
        (model([layer("LSTM", "a"), layer("LSTM", "a")]), "the same name"),
        (model([layer("CuDNNLSTM", "a")]), "does not have this layer"),
        (model([], kind="Mine"), "must be a Sequential or Functional model"),
        (b"[1]", "must be an object"),
        (b'{"class_name": 1, "class_name": 2}', "it has class_name twice"),
        (b"{" + b'"a":[' * 10000, "JSON is"),
    ],
)
def test_configurations(config, words, tmp_path):
    path = written(tmp_path, keras_of(config, lstm_arrays()))
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and message.isprintable() and len(message) < 1000


def hostile(change):
    """The bytes of a .keras whose HDF5 file was changed by a function."""
    members = keras_members(LSTM, lstm_arrays())

    file = io.BytesIO(members[2].data)
    with h5py.File(file, "r+") as h5:
        change(h5)
    members[2].data = file.getvalue()
    return zip_of(members)


KERNEL = "layers/lstm/cell/vars/0"


def soft(h5):
    h5.move(KERNEL, "elsewhere")
    h5[KERNEL] = h5py.SoftLink("/elsewhere")


def soft_group(h5):
    h5.move("layers/lstm", "elsewhere")
    h5["layers/lstm"] = h5py.SoftLink("/elsewhere")


def external(h5):
    del h5[KERNEL]
    h5[KERNEL] = h5py.ExternalLink("other.h5", "/x")


def stored_elsewhere(h5):
    del h5[KERNEL]
    h5.create_dataset(KERNEL, (INPUTS, 4 * H), "f8", external="/etc/passwd")


def virtual(h5):
    del h5[KERNEL]
    layout = h5py.VirtualLayout((INPUTS, 4 * H), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(INPUTS, 4 * H))
    h5.create_virtual_dataset(KERNEL, layout)


def replaced(*arguments, **options):
    def change(h5):
        del h5[KERNEL]
        h5.create_dataset(KERNEL, *arguments, **options)

    return change


def group_instead(h5):
    del h5[KERNEL]
    h5.create_group(KERNEL)


def missing(h5):
    del h5[KERNEL]


def shared(h5):
    """Two arrays that are one in the file: memory is not bounded by the file's size then."""
    del h5["layers/lstm/cell/vars/1"]
    h5["layers/lstm/cell/vars/1"] = h5[KERNEL]


def other_name(h5):
    h5.require_group("layers/lstm/vars").attrs["name"] = "another"


SHAPE = (INPUTS, 4 * H)


@pytest.mark.parametrize(
    "change, words",
    [
        (soft, "must not be a link, got a SoftLink"),
        (soft_group, "must not be a link, got a SoftLink"),
        (external, "must not be a link, got a ExternalLink"),
        (stored_elsewhere, "must be plain"),
        (virtual, "must be plain"),
        (replaced(SHAPE, "f8", compression="gzip"), "must be plain"),
        (replaced(SHAPE, "f8", chunks=(1, 4)), "must be plain"),
        (replaced(SHAPE, "f8"), "bytes are not all in the file"),
        (replaced((2**40, 4 * H), "f8"), "bytes are not all in the file"),
        (replaced(SHAPE, "f4", data=np.ones(SHAPE)), "dtype must be float32, got float64"),
        (replaced(SHAPE, ">f8", data=np.ones(SHAPE)), "dtype must be float64, got >f8"),
        (replaced((INPUTS, H), "f8", data=np.ones((INPUTS, H))), "shape must be"),
        (replaced((4 * H,), "f8", data=np.ones(4 * H)), "shape must be"),
        (group_instead, "must be a dataset"),
        (missing, "it is missing"),
        (shared, "shape must be"),
        (other_name, "has the weights of another"),
    ],
)
def test_what_hdf5_can_do_beside_plain_arrays(change, words, tmp_path):
    path = written(tmp_path, hostile(change))
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_many_layers_cannot_have_the_same_bytes(tmp_path):
    """The arrays that are read are together no larger than the file."""
    count = 40
    config = model([layer("LSTM", f"lstm_{k}", units=64) for k in range(count)])
    arrays = [np.zeros(s) for s in [(64, 256), (64, 256), (256,)]]

    def change(h5):
        for k in range(1, count):
            h5[f"layers/lstm_{k}"] = h5["layers/lstm"]

    members = keras_members(config, numbered("layers/lstm/cell", arrays))

    file = io.BytesIO(members[2].data)
    with h5py.File(file, "r+") as h5:
        change(h5)
    members[2].data = file.getvalue()
    with pytest.raises(ValueError, match="shorter than the arrays"):
        load(written(tmp_path, zip_of(members)))


def test_zip_files(tmp_path):
    members = keras_members(LSTM, lstm_arrays())
    bomb = Member(b"model.weights.h5", bytes(2**22), DEFLATED)
    wide = Member(b"config.json", b" " * (2**24 + 1), DEFLATED)
    changed = Member(b"model.weights.h5", members[2].data, crc=1)
    long = Member(b"config.json", b'{"a":[' + b"0," * 2**22 + b"0]}")
    old = Member(b"metadata.json", json.dumps({"keras_version": "1.2.2"}).encode())
    for some, words in [
        (members[:2], "model.weights.h5: it must have this member"),
        ([*members, members[1]], "config.json: it is there twice"),
        ([*members[:2], bomb], "unpacks to too much"),
        ([members[0], wide, members[2]], "at most 16777216 bytes"),
        ([*members[:2], changed], "model.weights.h5: its bytes were changed"),
        ([members[0], long, members[2]], "takes more than 268435456 bytes of memory"),
        ([old, *members[1:]], "keras_version must be 2 or 3, got 1.2.2"),
        ([*members[:2], Member(b"model.weights.h5", b"x" * 99)], "must be an HDF5 file"),
    ]:
        with pytest.raises(ValueError, match=words):
            load(written(tmp_path, zip_of(some)))
    for data in (b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"\x80\4K\1.", b"not a model"):
        with pytest.raises(ValueError, match="cannot be read as .keras"):
            load(written(tmp_path, data))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.keras")


def test_h5_files(tmp_path):
    arrays = keras_2("lstm/lstm_cell", weights("LSTM", np.random.default_rng(0)))
    config = model([layer("LSTM", "lstm", 2)])
    names = list(arrays)
    for named, version, words in [
        ({}, "2.3.1", "weight_names is missing"),
        ({"lstm": {}}, "2.3.1", "weights of 1 cells, got 0"),
        ({"lstm": arrays}, "4.0", "keras_version must be 2 or 3"),
        ({"lstm": {k: arrays[k] for k in names[:2]}}, "2.3.1", "each cell must have kernel"),
        ({"lstm": arrays | keras_2("x/y", list(arrays.values()))}, "2.3.1", "1 cells, got 2"),
    ]:
        with pytest.raises(ValueError, match=words):
            load(written(tmp_path, h5_of(config, named, version), "model.h5"))
    with pytest.raises(ValueError, match="whole model: use load"):
        load_weights(tmp_path / "model.h5", {})


def heap_of(steps):
    """The bytes of a global heap: (index, size) of its objects."""
    body = b"".join(
        struct.pack("<HHIQ", index, 0, 0, size) + bytes((size + 7) // 8 * 8 if index else 0)
        for index, size in steps
    )
    return b"GCOL\1\0\0\0" + struct.pack("<Q", 16 + len(body)) + body


def checked(data):
    """Whether `must_end` accepts a file that begins as HDF5 does and has this data."""
    start = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\10\10" + bytes(1)
    try:
        _heaps.must_end(io.BytesIO(start + data), 16 + len(data), ValueError)
    except ValueError as error:
        return str(error)
    return "fine"


def test_heaps_in_which_libhdf5_would_loop_for_ever():
    assert checked(heap_of([(1, 5), (2, 8), (0, 16)])) == "fine"
    assert "does not end" in checked(heap_of([(1, 5), (0, 0)]))
    assert "does not end" in checked(bytes(2**20 - 18) + heap_of([(0, 0)]))  # between two pieces
    wraps = bytearray(heap_of([(1, 8)]))
    wraps[24:32] = b"\xf0" + 7 * b"\xff"
    assert "does not end" in checked(bytes(wraps))
    overlapping = 3 * (b"GCOL\1\0\0\0" + struct.pack("<Q", 40)) + bytes(24)
    assert "overlap" in checked(overlapping)
    assert checked(b"GCOL\1\0\0\0" + b"\xff" * 8 + bytes(32)) == "fine"  # longer than the file
    with pytest.raises(ValueError, match="must have 8 bytes"):
        _heaps.must_end(io.BytesIO(bytes(16)), 16, ValueError)
