"""fastrnn.keras.load with hostile and broken files, made by h5py: each is refused in words."""

import io
import json
import struct

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from keras_by_hand import (  # noqa: E402
    INPUTS,
    LSTM,
    H,
    calls,
    h5_of,
    keras_2,
    keras_members,
    keras_of,
    layer,
    lstm_arrays,
    model,
    numbered,
    weights,
    written,
)  # fmt: skip
from strangers import DEFLATED, Member, zip_of  # noqa: E402

from fastrnn.keras import _hdf5, _heaps, load, load_weights  # noqa: E402

# no_kernels: the sanitizers would look at libhdf5.
pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

# ---- configurations ------------------------------------------------------------------------------


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


BESIDE = changed()
BESIDE["config"]["layers"][0]["module"] = "keras.layersx"


def holding(kind, value):
    """A layer of Keras that holds others."""
    return {"class_name": kind, "config": {"name": "holds", "layer": value}}


def both(merge, backward=None, **options):
    config = {"name": "both", "merge_mode": merge, "layer": layer("LSTM", "a", **options)}
    return holding("Bidirectional", None) | {"config": config | {"backward_layer": backward}}


def stacked(*cells, **options):
    cell = {"class_name": "StackedRNNCells", "config": {"cells": list(cells)} | options}
    return {"class_name": "RNN", "config": {"name": "stack", "cell": cell}}


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
        (BESIDE, "must be Keras' own LSTM, got the one of keras.layersx"),
        (REGISTERED, "registered as Custom>LSTM"),
        (nested(20), "models must not be nested"),
        (nested(300), "models must not be nested|nested too deeply"),
        (model([]), "no recurrent layer"),
        (model(3), "layers must be a list"),
        (model([3]), "must have a class_name and a config"),
        (model([layer("LSTM", "a"), layer("LSTM", "a")]), "the same name"),
        (model([layer("CuDNNLSTM", "a")]), "does not have this layer"),
        (model([], kind="Mine"), "must be a Sequential or Functional model"),
        (model([holding("Wrapper", [LSTM["config"]["layers"][0]])]), "must not hold a recurrent"),
        (model([holding("TimeDistributed", layer("ConvLSTM2D", "a"))]), "must not hold a recurr"),
        (model([both("max")]), "merge_mode is unknown: 'max'"),
        (model([both(["sum"])]), r"merge_mode is unknown: \['sum'\]"),
        (model([both("sum", go_backwards=True)]), "layer must have go_backwards=False"),
        (model([both("sum", layer("LSTM", "b"))]), "backward_layer must have go_backwards=True"),
        (model([stacked(layer("LSTMCell", "a", 2) | {"registered_name": "Mine>LSTMCell"})]),
         "cell of RNN 'stack', LSTMCell 'a': must be Keras' own LSTMCell"),
        (model([stacked(layer("LSTMCell", "a", 2), reverse_state_order=True)]),
         "reverse_state_order must be False"),
        (b"[1]", "must be an object"),
        (b'{"class_name": 1, "class_name": 2}', "it has class_name twice"),
        (b"{" + b'"a":[' * 10000, "JSON is"),
    ],
)  # fmt: skip
def test_configurations(config, words, tmp_path):
    path = written(tmp_path, keras_of(config, lstm_arrays()))
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and message.isprintable() and len(message) < 1000


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
    # One layer with 2000 inputs, in a model that is called 1000 times.
    wide = calls([{"class_name": "Add", "config": {"name": "add"}}], [[["x"] * 2000]])
    wide = calls([model(wide, kind="Functional")], [[["x"]] * 1000])
    path = written(tmp_path, keras_of(model(wide, kind="Functional"), lstm_arrays()))
    with pytest.raises(ValueError, match="must read at most"):
        load(path)


# ---- HDF5 ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "limit, words",
    [("_MOST_NAMES", "lstm: its attribute weight_names is too large"),
     ("_MOST_BYTES_OF_NAMES", "lstm: its attribute weight_names is too large")],
)  # fmt: skip
def test_attributes_have_limits(limit, words, tmp_path, monkeypatch):
    arrays = keras_2("lstm/lstm_cell", weights("LSTM", np.random.default_rng(0)))
    data = h5_of(model([layer("LSTM", "lstm", 2)]), {"lstm": arrays})
    path = written(tmp_path, data, "model.h5")
    size = {"_MOST_NAMES": 3, "_MOST_BYTES_OF_NAMES": len(data)}[limit]
    monkeypatch.setattr(_hdf5, limit, size)
    assert list(load(path)) == ["lstm"]
    monkeypatch.setattr(_hdf5, limit, 2)
    with pytest.raises(ValueError, match="its attribute .* is too large"):
        load(path)


def test_groups_have_a_limit(tmp_path, monkeypatch):
    path = written(tmp_path, keras_of(LSTM, lstm_arrays()))
    monkeypatch.setattr(_hdf5, "_MOST_NAMES", 3)
    assert list(load(path)) == ["lstm"]
    monkeypatch.setattr(_hdf5, "_MOST_NAMES", 2)
    with pytest.raises(ValueError, match="layers/lstm/cell/vars: it has more than 2 parts"):
        load(path)


# ---- zip files and the older format --------------------------------------------------------------


def test_zip_files(tmp_path):
    members = keras_members(LSTM, lstm_arrays())
    bomb = Member(b"model.weights.h5", bytes(2**22), DEFLATED)
    many = [Member(str(number).encode(), b"") for number in range(1022)]
    wide = Member(b"config.json", b" " * (2**24 + 1), DEFLATED)
    changed = Member(b"model.weights.h5", members[2].data, crc=1)
    long = Member(b"config.json", b'{"a":[' + b"0," * 2**22 + b"0]}")
    old = Member(b"metadata.json", json.dumps({"keras_version": "1.2.2"}).encode())
    for some, words in [
        (members[:2], "model.weights.h5: it must have this member"),
        ([*members, members[1]], "config.json: it is there twice"),
        ([*members[:2], bomb], "unpacks to too much"),
        ([*members, *many], "there must be at most 1024 members"),
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
        ({"lstm": arrays | {"lstm/lstm_cell/bias:1": np.zeros(4 * H)}}, "2.3.1", "an array twice"),
    ]:
        with pytest.raises(ValueError, match=words):
            load(written(tmp_path, h5_of(config, named, version), "model.h5"))
    with pytest.raises(ValueError, match="whole model: use load"):
        load_weights(tmp_path / "model.h5", {})
    both_ways = keras_2("both/forward_a/backward_a", list(arrays.values()))
    named = {"both": both_ways | keras_2("both/c", list(arrays.values()))}
    path = written(tmp_path, h5_of(model([both("sum")]), named), "model.h5")
    with pytest.raises(ValueError, match="names of its weights do not say which cell of both"):
        load(path)


# ---- heaps of texts ------------------------------------------------------------------------------


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
