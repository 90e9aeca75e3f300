"""fastrnn.onnx.load: the layers of models, as PyTorch's exporters and tf2onnx write them."""

import os
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    from onnx.inliner import inline_local_functions

import fastrnn  # noqa: E402
import fastrnn.onnx  # noqa: E402
from fastrnn._interop.conventions import ONNX  # noqa: E402

pytestmark = [pytest.mark.any_isa, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

helper, from_array = onnx.helper, onnx.numpy_helper.from_array
FLOAT = onnx.TensorProto.FLOAT

T, B, I, H = 5, 4, 3, 6  # noqa: E741 - as in all the equations


def draw(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def model_of(nodes, initializers=(), inputs=("x",), outputs=("Y",), opset=17):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [from_array(array, name) for name, array in dict(initializers).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights_of(gates=4, directions=1, **options):
    """W, R and B of a node, drawn."""
    sizes = {"W": (gates * H, I), "R": (gates * H, H), "B": (2 * gates * H,)}
    return {name: draw(directions, *size, **options) for name, size in sizes.items()}


def lstm(inputs=("x", "W", "R", "B"), outputs=("Y",), name="lstm", **attributes):
    return helper.make_node("LSTM", inputs, outputs, name, hidden_size=H, **attributes)


# ---- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: a module of torch.nn within a net -> the path of its model."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("models")

    class Net(torch.nn.Module):
        def __init__(self, rnn):
            super().__init__()
            width = rnn.hidden_size * (2 if rnn.bidirectional else 1)
            self.rnn, self.head = rnn, torch.nn.Linear(width, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    def export(rnn, dynamo, folded, whole=True):
        path = str(folder / f"{len(os.listdir(folder))}.onnx")
        arguments = {"optimize": folded, "verbose": False} if dynamo else {}
        if not dynamo:
            arguments = {"do_constant_folding": folded, "input_names": ["x"]}
        net = Net(rnn).eval() if whole else rnn.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (torch.ones(B, T, I),), path, dynamo=dynamo, **arguments)
        return path

    return export


def module_of(kind, **options):
    import torch

    torch.manual_seed(0)
    return getattr(torch.nn, kind)(I, H, **options)


MODULES = {
    "lstm": ("LSTM", {}),
    "lstm, a stack of both directions": (
        "LSTM",
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ),
    "gru": ("GRU", {"bidirectional": True}),
    "gru without bias": ("GRU", {"bias": False, "num_layers": 2}),
}
EXPORTERS = {"older": False, "newer": True}


def assert_layers_compute(layers, module):
    """One layer for each of the stack's, which compute what the module computes, in float32."""
    import torch

    assert len(layers) == module.num_layers
    x = draw(B, T, I)
    y = x.swapaxes(0, 1) if module.batch_first else x
    for layer in layers.values():
        assert layer.bias == module.bias and not layer.batch_first
        y, _ = layer(y)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x))[0].numpy()
    got = y.swapaxes(0, 1) if module.batch_first else y
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


CASES = [(name, exporter, True) for name in MODULES for exporter in EXPORTERS]
CASES += [(name, exporter, False) for name in [*MODULES][1:3] for exporter in EXPORTERS]


@pytest.mark.parametrize("name, exporter, folded", CASES)
def test_models_of_pytorchs_exporters(exported, name, exporter, folded):
    """folded : the exporter computes constants that follow from others."""
    kind, options = MODULES[name]
    module = module_of(kind, **options)
    layers = fastrnn.onnx.load(exported(module, EXPORTERS[exporter], folded))
    assert all(type(layer).__name__ == kind for layer in layers.values())
    assert_layers_compute(layers, module)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_older_exporters_rnn(exported, nonlinearity):
    module = module_of("RNN", nonlinearity=nonlinearity)
    (layer,) = layers = fastrnn.onnx.load(exported(module, False, True)).values()
    assert layer.nonlinearity == nonlinearity
    assert_layers_compute(dict(enumerate(layers)), module)


def test_an_unrolled_rnn_is_refused_with_what_to_do(exported):
    path = exported(module_of("RNN"), True, True)
    with pytest.raises(ValueError, match="no RNN, LSTM or GRU node.*export nn.RNN with dynamo=F"):
        fastrnn.onnx.load(path)


@pytest.mark.parametrize("exporter, folded", [("older", True), ("newer", False)])
def test_a_model_of_a_recurrent_module_alone_runs(exported, exporter, folded):
    """The nodes around the recurrent ones arrange arrays, and no more."""
    import torch

    module = module_of("LSTM", num_layers=2, bidirectional=True, batch_first=True)
    path, x = exported(module, EXPORTERS[exporter], folded, whole=False), draw(B, T, I)
    with torch.no_grad():
        y, (h, c) = module(torch.from_numpy(x))
    for got, wanted in zip(fastrnn.onnx.run_model(path, [x]), (y, h, c), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-6)


# ---- tf2onnx -------------------------------------------------------------------------------------


def tf2onnx_model(weights):
    """Keras' Bidirectional(LSTM) and GRU: Transposes around, squeezed outputs, initial zeros."""
    w = weights
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        helper.make_node("Concat", ["W_fw", "W_bw"], ["W"], axis=0),
        helper.make_node("Concat", ["R_fw", "R_bw"], ["R"], axis=0),
        helper.make_node("Identity", ["B_both"], ["B"]),
        helper.make_node(
            "LSTM",
            ["x_t", "W", "R", "B", "", "zeros", "zeros"],
            ["Y", "Y_h", "Y_c"],
            "functional/bidirectional/LSTM__20",
            direction="bidirectional",
            hidden_size=H,
            activations=["Sigmoid", "Tanh", "Tanh"] * 2,
        ),
        helper.make_node("Split", ["Y", "one_each"], ["fw", "bw"], axis=1),
        helper.make_node("Squeeze", ["fw", "axis"], ["fw_s"]),
        helper.make_node("Squeeze", ["bw", "axis"], ["bw_s"]),
        helper.make_node("Concat", ["fw_s", "bw_s"], ["both"], axis=2),
        helper.make_node("Unsqueeze", ["gru_kernel", "first"], ["gru_kernel_1"]),
        helper.make_node("Transpose", ["gru_kernel_1"], ["gru_W"], perm=[0, 2, 1]),
        helper.make_node(
            "GRU",
            ["both", "gru_W", "gru_R", "gru_B"],
            ["gru_Y", "gru_Y_h"],
            "functional/gru/GRU__35",
            hidden_size=H,
            linear_before_reset=1,
            activations=["Sigmoid", "Tanh"],
        ),
        helper.make_node("Squeeze", ["gru_Y", "axis"], ["gru_t"]),
        helper.make_node("Transpose", ["gru_t"], ["y"], perm=[1, 0, 2]),
    ]
    constants = w | {
        "zeros": np.zeros((2, B, H), "float32"),
        "axis": np.array([1]),
        "first": np.array([0]),
        "one_each": np.array([1, 1]),
    }
    return model_of(nodes, constants, outputs=("y",), opset=15)


def test_a_model_in_the_layout_of_tf2onnx():
    runtime = pytest.importorskip("onnxruntime")
    both = {f"{name}_{way}": array for way, seed in (("fw", 1), ("bw", 2))
            for name, array in weights_of(seed=seed).items()}  # fmt: skip
    weights = both | {"B_both": np.concatenate([both.pop("B_fw"), both.pop("B_bw")])}
    weights |= {"gru_kernel": draw(2 * H, 3 * H, seed=3), "gru_R": draw(1, 3 * H, H, seed=4)}
    model = tf2onnx_model(weights | {"gru_B": draw(1, 6 * H, seed=5)})
    layers = fastrnn.onnx.load(model)
    assert list(layers) == ["functional/bidirectional/LSTM__20", "functional/gru/GRU__35"]
    lstm, gru = layers.values()
    assert lstm.bidirectional and gru.reset_after
    x = draw(B, T, I, seed=6)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, {"x": x})
    got = gru(lstm(x.swapaxes(0, 1))[0])[0].swapaxes(0, 1)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(fastrnn.onnx.run_model(model, [x])[0], wanted, rtol=0, atol=1e-6)


# ---- all nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_a_layer_computes_what_the_node_does(direction, layout, dtype):
    D = 2 if direction == "bidirectional" else 1
    weights = weights_of(directions=D, dtype=dtype) | {"P": draw(D, 3 * H, seed=1, dtype=dtype)}
    node = lstm(
        ("x", "W", "R", "B", "", "", "", "P"), ("Y", "Y_h", "Y_c"), direction=direction,
        layout=layout, clip=0.5, input_forget=1,
    )  # fmt: skip
    layer = fastrnn.onnx.load(model_of([node], weights))["lstm"]
    assert layer.dtype == dtype and layer.batch_first == bool(layout)
    assert layer.reverse == (direction == "reverse") and layer.bidirectional == (D == 2)
    x = draw(T, B, I, seed=2, dtype=dtype)
    y, (h, c) = layer(x)
    inputs = {name: array for name, array in (weights | {"x": x}).items()}
    Y, Y_h, Y_c = fastrnn.onnx.run_node(node, inputs)
    Y = Y if layout else Y.swapaxes(1, 2)  # the directions come before the units
    np.testing.assert_array_equal(y, Y.reshape(*x.shape[:2], D * H))
    for got, wanted in ((h, Y_h), (c, Y_c)):
        np.testing.assert_array_equal(got, wanted.swapaxes(0, 1) if layout else wanted)


def test_parameters_have_fastrnns_order_of_gates():
    weights = weights_of()
    layer = fastrnn.onnx.load(model_of([lstm()], weights))["lstm"]
    back = ONNX.from_native("lstm", layer.params["weight_ih_l0"])
    np.testing.assert_array_equal(back, weights["W"][0])
    i, o, f, g = np.split(weights["B"][0, 4 * H :], 4)
    np.testing.assert_array_equal(layer.params["bias_hh_l0"], np.concatenate([i, f, g, o]))


def test_layers_own_their_parameters_and_train():
    weights = weights_of()
    layer = fastrnn.onnx.load(model_of([lstm()], weights))["lstm"]
    y, _, tape = layer.forward(draw(T, B, I))
    layer.flat -= 0.1 * tape.backward(y).flat
    np.testing.assert_array_equal(weights["W"], weights_of()["W"])


def test_names_are_those_of_nodes_or_of_their_outputs():
    nodes = [lstm(outputs=(f"Y{k}",), name="", **{}) for k in range(2)]
    nodes += [lstm(outputs=("", f"Y{k}"), name="same") for k in range(2, 4)]
    layers = fastrnn.onnx.load(model_of(nodes, weights_of()))
    assert list(layers) == ["Y0", "Y1", "same", "Y3"]


def test_nodes_in_branches_read_the_constants_around_them():
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = lstm(("x", "W", "R_here", "B"), (f"Y_{name}",), name)
        inner = helper.make_node("Identity", ["R"], ["R_here"])
        result = helper.make_tensor_value_info(f"Y_{name}", FLOAT, None)
        branches[name] = helper.make_graph([inner, node], name, [], [result])
    node = helper.make_node("If", ["condition"], ["Y"], "if", **branches)
    weights = weights_of()
    layers = fastrnn.onnx.load(model_of([node], weights, inputs=("x", "condition")))
    assert sorted(layers) == ["else_branch", "then_branch"]
    for layer in layers.values():
        assert np.isin(layer.params["weight_hh_l0"], weights["R"]).all()


def test_a_path_bytes_and_a_model_are_sources(tmp_path):
    model = model_of([lstm()], weights_of())
    onnx.save(model, tmp_path / "model.onnx")
    sources = [tmp_path / "model.onnx", str(tmp_path / "model.onnx"), model]
    layers = [fastrnn.onnx.load(s)["lstm"] for s in [*sources, model.SerializeToString()]]
    assert all((layer.flat == layers[0].flat).all() for layer in layers)


def test_every_way_to_write_a_tensors_elements(tmp_path):
    """Raw bytes, typed fields, and another file."""
    weights = weights_of()
    raw = model_of([lstm()], weights)
    typed = model_of([lstm()], weights)
    for tensor in typed.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.reshape(-1).tolist())
    onnx.save(raw, tmp_path / "external.onnx", save_as_external_data=True, size_threshold=0)
    raw = model_of([lstm()], weights)
    loaded = [fastrnn.onnx.load(s)["lstm"].flat for s in (raw, typed, tmp_path / "external.onnx")]
    assert (loaded[0] == loaded[1]).all() and (loaded[0] == loaded[2]).all()


# ---- refused -------------------------------------------------------------------------------------


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


def test_a_cast_of_half_precision_is_no_arithmetic():
    halves = without("W") | {"W_half": weights_of()["W"].astype("float16")}
    cast = helper.make_node("Cast", ["W_half"], ["W"], to=FLOAT)
    layer = fastrnn.onnx.load(model_of([cast, lstm()], halves))["lstm"]
    wanted = ONNX.to_native("lstm", halves["W_half"][0].astype("float32"))
    np.testing.assert_array_equal(layer.params["weight_ih_l0"], wanted)


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
