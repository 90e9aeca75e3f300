"""fastrnn.keras.load without Keras: files made by h5py, as each version of Keras writes them."""

import subprocess
import sys
import types

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from keras_by_hand import (  # noqa: E402
    INPUTS,
    LSTM,
    H,
    calls,
    h5_of,
    hdf5_of,
    keras_2,
    keras_members,
    keras_of,
    layer,
    lstm_arrays,
    model,
    numbered,
    run,
    weights,
    written,
)  # fmt: skip
from strangers import DEFLATED, zip_of  # noqa: E402

import fastrnn  # noqa: E402
from fastrnn.keras import from_keras, load, load_weights  # noqa: E402

# no_kernels: the sanitizers would look at libhdf5.
pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

KINDS = {"SimpleRNN": {}, "LSTM": {}, "GRU": {}, "GRU before": {"reset_after": False}}
every_kind = pytest.mark.parametrize("kind", KINDS)
PATHS = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}


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


def test_the_newest_form_of_hdf5(tmp_path):
    """Keras writes the oldest. In the newest, numbers are elsewhere in the head of the file."""
    newest = hdf5_of(lstm_arrays(), libver="latest")
    assert newest[8] == 3
    members = keras_members(LSTM, lstm_arrays(), {"layers/lstm": "lstm"})
    members[2].data = newest
    (loaded,) = load(written(tmp_path, zip_of(members))).values()
    np.testing.assert_array_equal(
        loaded.layer.params["weight_hh_l0"], lstm_arrays()["layers/lstm/cell/vars/1"].T
    )


def test_a_list_of_names_in_parts(tmp_path):
    """Keras divides a list that is too long for an attribute."""
    arrays = keras_2("lstm/lstm_cell", weights("LSTM", np.random.default_rng(0)))
    first, *others = arrays
    data = hdf5_of(
        {f"lstm/{name}": array for name, array in arrays.items()},
        {("lstm", "weight_names0"): [first], ("lstm", "weight_names1"): others},
    )
    own = fastrnn.LSTM(INPUTS, H, dtype="float64")
    load_weights(written(tmp_path, data, "w.h5"), {"lstm": own})
    np.testing.assert_array_equal(own.params["weight_ih_l0"], arrays[first].T)


def test_weights_of_one_cell_in_a_stack(tmp_path):
    """A layer of fastrnn has num_layers=1 then, as for a cell that is in no stack."""
    arrays = weights("LSTM", np.random.default_rng(0))
    data = hdf5_of(numbered("layers/rnn/cell/cells/lstm_cell", arrays))
    own = fastrnn.LSTM(INPUTS, H, dtype="float64")
    load_weights(written(tmp_path, data, "w.weights.h5"), {"rnn": own})
    np.testing.assert_array_equal(own.params["weight_hh_l0"], arrays[1].T)


@pytest.mark.parametrize(
    ("package", "version", "name"),
    [("tf_keras", None, "hard_sigmoid_onnx"), ("keras", "2.15.0", "hard_sigmoid_onnx"),
     ("keras", "3.15.1", "hard_sigmoid")],
)  # fmt: skip
def test_the_hard_sigmoid_of_a_live_layer_is_its_own_version_s(package, version, name, monkeypatch):
    kernel, recurrent, bias = weights("LSTM", np.random.default_rng(0))
    own = layer("LSTM", "own", 2)["config"]
    members = {"__module__": f"{package}.src.layers.rnn.lstm", "get_config": lambda self: own}
    members["get_weights"] = lambda self: [kernel, recurrent, bias]
    monkeypatch.setitem(sys.modules, package, types.SimpleNamespace(__version__=version))
    if version is None:
        monkeypatch.delitem(sys.modules, package)
    live = type("LSTM", (), members)()
    assert from_keras(live).layer.options.recurrent_activation == name
    members["get_weights"] = lambda self: [kernel, recurrent]
    with pytest.raises(ValueError, match="keras_layer must have 3 weights, got 2"):
        from_keras(type("LSTM", (), members)())


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


def test_the_input_of_a_model_as_a_mask(tmp_path):
    """In an .h5 of Keras 3 an InputLayer has nothing that says that it is a layer."""

    def tensor(name):
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    layers = [{"class_name": "InputLayer", "config": {"name": name}} for name in ("ids", "own")]
    embedding = {"class_name": "Embedding", "config": {"name": "table", "mask_zero": True}}
    layers += [embedding, layer("LSTM", "lstm")]
    inbound = [[], [], [{"args": [tensor("ids")], "kwargs": {}}],
               [{"args": [tensor("table")], "kwargs": {"mask": tensor("own")}}]]  # fmt: skip
    for one, calls_of_one in zip(layers, inbound, strict=True):
        one.pop("module", None)
        one |= {"name": one["config"]["name"], "inbound_nodes": calls_of_one}
    arrays = keras_2("lstm/lstm_cell", weights("LSTM", np.random.default_rng(0)))
    data = h5_of(model(layers, kind="Functional"), {"lstm": arrays}, "3.15.1")
    assert load(written(tmp_path, data, "model.h5"))["lstm"].mask_source == "own"


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


def test_importing_needs_no_h5py_and_reading_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install h5py .*fastrnn\[keras\]") as caught:
        load(tmp_path / "any.keras")
    assert caught.value.name == "h5py"
    program = "import sys, fastrnn.keras; assert not {'h5py', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
