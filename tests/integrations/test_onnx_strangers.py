"""fastrnn.onnx.load of models that it refuses, in words: broken, hostile, or not for layers."""

import os

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.inliner import inline_local_functions  # noqa: E402
from onnx_models import FLOAT, H, I, draw, helper, lstm, model_of, weights_of  # noqa: E402

import fastrnn.onnx  # noqa: E402
from fastrnn._interop.conventions import ONNX  # noqa: E402

pytestmark = [pytest.mark.any_isa, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def refused(words, model, error=ValueError):
    with pytest.raises(error, match=words):
        fastrnn.onnx.load(model)


def without(name):
    return {own: array for own, array in weights_of().items() if own != name}


def test_weights_that_are_no_constants_are_named():
    refused("W of LSTM 'lstm' must be constant: 'W' is an input of the model",
            model_of([lstm()], without("W"), inputs=("x", "W")))  # fmt: skip
    add = helper.make_node("Add", ["half", "half"], ["R"], "sum")
    refused("R of LSTM 'lstm' must be constant: 'R' is computed, by Add 'sum'",
            model_of([add, lstm()], without("R") | {"half": draw(1, 4 * H, H)}))  # fmt: skip


def test_weights_that_are_nowhere_are_named():
    """Sparse tensors count as nowhere."""
    refused("'W' is neither an initializer nor an output of a node",
            model_of([lstm()], without("W")))  # fmt: skip


def test_two_values_of_one_name_are_refused():
    again = helper.make_node("Identity", ["R"], ["W"])
    refused("the model has two values called 'W'", model_of([again, lstm()], weights_of()))
    model = model_of([lstm()], weights_of())
    model.graph.initializer.append(model.graph.initializer[0])
    refused("the model has two values called", model)
    again = helper.make_node("Identity", ["W"], ["x"])
    refused("the model has two values called 'x'", model_of([lstm(), again], weights_of()))


def test_a_branch_names_what_it_reads_from_around_it():
    """An input of the model is no constant in a branch either."""
    result = helper.make_tensor_value_info("Y", FLOAT, None)
    branch = helper.make_graph([lstm()], "branch", [], [result])
    node = helper.make_node("If", ["yes"], ["Y"], "if", then_branch=branch, else_branch=branch)
    model = model_of([node], without("W"), inputs=("x", "yes", "W"))
    refused("W of LSTM 'lstm' must be constant: 'W' is an input of the model", model)


def test_names_that_are_no_utf_8_are_refused():
    data = model_of([lstm(name="")], weights_of()).SerializeToString()
    damaged = data.replace(b"\n\1B\x12\1Y", b"\n\1B\x12\1\xff")
    assert damaged != data
    refused("a node must have a name of its own, in UTF-8", damaged)


def test_the_input_of_a_body_is_no_constant():
    """Also with an initializer of its name: the loop passes another array."""
    value = helper.make_tensor_value_info("W", FLOAT, None)
    tensor = onnx.numpy_helper.from_array(weights_of()["W"], "W")
    body = helper.make_graph([lstm()], "body", [value], [], [tensor])
    node = helper.make_node("Scan", ["x"], ["Y"], "scan", body=body, num_scan_inputs=1)
    refused("'W' is an input of the model", model_of([node], without("W")))


def test_activations_that_layers_do_not_have_are_named():
    names = ["Sigmoid", "Softsign", "Tanh"]
    model = model_of([lstm(activations=names)], weights_of())
    refused("LSTM 'lstm' must have activations of a layer.*got Sigmoid, Softsign, Tanh", model)
    names = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Tanh", "Tanh"]
    node = lstm(direction="bidirectional", activations=names)
    refused("the same in both directions", model_of([node], weights_of(directions=2)))


def test_nodes_in_functions_are_refused_with_what_to_do():
    domain = helper.make_opsetid("own", 1)
    function = helper.make_function(
        "own", "Recurrent", ["x", "W", "R", "B"], ["Y"], [lstm()], [helper.make_opsetid("", 17)]
    )
    call = helper.make_node("Recurrent", ["x", "W", "R", "B"], ["Y"], domain="own")
    model = model_of([call], weights_of())
    model.functions.append(function)
    model.opset_import.append(domain)
    refused("recurrent nodes in its function 'Recurrent': load onnx.inliner", model)
    assert len(fastrnn.onnx.load(inline_local_functions(model))) == 1


def test_shapes_and_dtypes_that_do_not_fit_are_named():
    wrong = weights_of() | {"B": draw(1, 4 * H)}
    refused(
        r"B of LSTM 'lstm' must be \(num_directions, 8\*hidden_size\)", model_of([lstm()], wrong)
    )
    wrong = weights_of() | {"R": draw(1, 4 * H, H, dtype="float64")}
    refused("R of LSTM 'lstm' must be float32 like W", model_of([lstm()], wrong), TypeError)
    halves = {name: array.astype("float16") for name, array in weights_of().items()}
    refused("W of LSTM 'lstm' must be an array of float32 or float64, got dtype float16",
            model_of([lstm()], halves), TypeError)  # fmt: skip


def test_tensors_have_few_axes_and_the_elements_of_their_shape():
    model = model_of([lstm()], weights_of())
    (tensor,) = [one for one in model.graph.initializer if one.name == "W"]
    tensor.dims[:] = [1] * 33
    refused("W must have up to 32 sizes from 0, got", model)
    tensor.dims[:] = [1, 4 * H, I]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([0.5] * (4 * H * I - 1))
    refused(r"W must have the elements of its shape \(1, 24, 3\), has 71", model)


@pytest.mark.posix
def test_other_sources_and_files_are_refused(tmp_path):
    refused("model must be a path, bytes or an onnx.ModelProto, got int", 3, TypeError)
    (tmp_path / "text.onnx").write_text("nothing of the sort")
    refused("text.onnx cannot be read as a model of ONNX", tmp_path / "text.onnx")
    refused("absent.onnx", tmp_path / "absent.onnx", FileNotFoundError)
    os.mkfifo(tmp_path / "pipe.onnx")
    refused("must be a regular file", tmp_path / "pipe.onnx")
    refused("must name one version of ONNX's operators", b"")


# ---- external data -------------------------------------------------------------------------------


@pytest.fixture
def with_external(tmp_path):
    """A function: entries of a tensor's external data -> the path of a model with them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    weights = weights_of()
    (folder / "beside.bin").write_bytes(bytes(8) + weights["W"].tobytes())
    (tmp_path / "outside.bin").write_bytes(bytes(8) + weights["W"].tobytes())

    def made(**entries):
        model = model_of([lstm()], weights)
        tensor = next(t for t in model.graph.initializer if t.name == "W")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in ({"location": "beside.bin", "offset": "8"} | entries).items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder / "model.onnx"

    return made


def test_external_data_is_read_from_beside_the_model(with_external):
    size = str(weights_of()["W"].nbytes)
    for entries in ({}, {"length": size}, {"location": "./beside.bin"}):
        layer = fastrnn.onnx.load(with_external(**entries))["lstm"]
        wanted = ONNX.to_native("lstm", weights_of()["W"][0])
        np.testing.assert_array_equal(layer.params["weight_ih_l0"], wanted)


@pytest.mark.posix
def test_external_data_elsewhere_is_refused(with_external, tmp_path):
    path = with_external()
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    (path.parent / "up").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe.bin")
    beside = "W must have its data beside the model"
    for location in (
        "../outside.bin",
        str(tmp_path / "outside.bin"),
        "",
        "a\\b",
        "x/../beside.bin",
    ):
        refused(beside, with_external(location=location))
    for location in ("link.bin", "up/outside.bin"):
        refused("links elsewhere", with_external(location=location))
    refused("cannot be read: No such file", with_external(location="absent.bin"))
    refused("in a regular file", with_external(location="pipe.bin"))
    refused("in a regular file|cannot be read", with_external(location="."))


def test_sizes_of_external_data_are_compared_first(with_external):
    refused("has 296 bytes", with_external(offset="9"))
    refused("has 296 bytes", with_external(offset="9999999999999999999"))
    refused("offset of W must be a number of bytes", with_external(offset="-1"))
    refused("offset of W must be a number of bytes", with_external(offset="9" * 30))
    refused("must have 288 bytes of external data, got 4", with_external(length="4"))
    model = with_external().read_bytes()
    refused("has its data in another file, 'beside.bin': load the model by its path", model)


def test_a_file_of_external_data_cannot_be_read_many_times(tmp_path):
    """As large data as the model's own may be there once, and not a thousand times."""
    weights = {"W": draw(1, 4 * H, 500), "R": draw(1, 4 * H, H), "B": draw(1, 8 * H)}
    (tmp_path / "data.bin").write_bytes(weights["W"].tobytes())
    model = model_of([lstm()], weights)
    first = next(t for t in model.graph.initializer if t.name == "W")
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="data.bin")
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    assert len(fastrnn.onnx.load(path)) == 1
    for number in range(400):
        again = model.graph.initializer.add()
        again.CopyFrom(first)
        again.name = f"W{number}"
        model.graph.node.add().CopyFrom(lstm(("x", again.name, "R", "B"), (f"Y{number}",), ""))
    onnx.save_model(model, path)
    refused("take many times its own size", path)


def test_as_much_external_data_as_there_is_can_be_read(tmp_path):
    """The small model beside it does not bound it."""
    weights = {f"W{k}": draw(1, 4 * H, 20_000, seed=k) for k in range(3)}
    nodes = [lstm(("x", name, "R"), (f"Y{name}",), name) for name in weights]
    model = model_of(nodes, weights | {"R": draw(1, 4 * H, H)})
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True)
    assert list(fastrnn.onnx.load(tmp_path / "model.onnx")) == list(weights)


# ---- memory --------------------------------------------------------------------------------------


def test_constants_cannot_take_many_times_the_models_bytes():
    """A file of some hundred bytes must not become gigabytes."""
    doubled = [
        helper.make_node("Concat", [f"a{k}", f"a{k}"], [f"a{k + 1}"], axis=0) for k in range(50)
    ]
    node = lstm(("x", "a50", "R", "B"))
    small = without("W") | {"a0": draw(1, 4 * H, I)}
    refused("take many times its own size", model_of([*doubled, node], small))
    huge = helper.make_node("ConstantOfShape", ["shape"], ["R"])
    shape = {"shape": np.array([1, 4 * 100_000, 100_000])}
    refused("take many times its own size", model_of([huge, lstm()], without("R") | shape))


def test_many_nodes_cannot_take_many_times_the_models_bytes():
    """They may all have the same weights, and be as small as a node can be."""
    many = [lstm(outputs=(f"Y{k}",), name=f"lstm{k}") for k in range(3000)]
    weights = {n: draw(1, *s) for n, s in (("W", (256, 64)), ("R", (256, 64)), ("B", (512,)))}
    for node in many:
        node.attribute[0].i = 64
    refused("take many times its own size", model_of(many, weights))
    small = [helper.make_node("LSTM", ["x", "W", "R"], [f"Y{k}"]) for k in range(6000)]
    weights = {"W": draw(1, 4, 1), "R": draw(1, 4, 1)}
    refused("take many times its own size", model_of(small, weights))
    assert len(fastrnn.onnx.load(model_of(small[:500], weights))) == 500


def test_a_cycle_is_no_constant():
    nodes = [helper.make_node("Identity", ["a"], ["W"]), helper.make_node("Identity", ["W"], ["a"])]
    refused("W of LSTM 'lstm' must be constant", model_of([*nodes, lstm()], without("W")))


def test_a_long_chain_is_no_constant():
    chain = [helper.make_node("Identity", [f"a{k}"], [f"a{k + 1}"]) for k in range(5000)]
    node = lstm(("x", "a5000", "R", "B"))
    refused(
        "W of LSTM 'lstm' must be constant",
        model_of([*chain, node], {"a0": draw(1, 4 * H, I)} | without("W")),
    )
