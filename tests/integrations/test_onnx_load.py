"""fastrnn.onnx.load: the layers of models, as PyTorch's exporters and tf2onnx write them."""

import os
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")

from onnx_models import (  # noqa: E402
    FLOAT,
    B,
    H,
    I,
    T,
    draw,
    helper,
    lstm,
    model_of,
    weights_of,
)

import fastrnn.onnx  # noqa: E402
from fastrnn._interop.conventions import ONNX  # noqa: E402

pytestmark = [pytest.mark.any_isa, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

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


def test_a_cast_of_half_precision_is_no_arithmetic():
    weights = weights_of()
    weights["W_half"] = weights.pop("W").astype("float16")
    cast = helper.make_node("Cast", ["W_half"], ["W"], to=FLOAT)
    model = model_of([cast, lstm()], weights)
    wanted = ONNX.to_native("lstm", weights["W_half"][0].astype("float32"))
    for typed in (False, True):
        if typed:  # the bits of each number are in an integer
            (tensor,) = [one for one in model.graph.initializer if one.name == "W_half"]
            tensor.ClearField("raw_data")
            tensor.int32_data.extend(weights["W_half"].view("u2").reshape(-1).tolist())
        layer = fastrnn.onnx.load(model)["lstm"]
        np.testing.assert_array_equal(layer.params["weight_ih_l0"], wanted)


def test_initializers_may_be_inputs_too():
    """As older files have it: the initializers are the inputs' defaults."""
    model = model_of([lstm()], weights_of(), inputs=("x", "W", "R", "B"))
    same = fastrnn.onnx.load(model_of([lstm()], weights_of()))["lstm"]
    np.testing.assert_array_equal(fastrnn.onnx.load(model)["lstm"].flat, same.flat)
    assert fastrnn.onnx.prepare(model).input_names == ["x"]


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
