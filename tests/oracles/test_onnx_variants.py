"""ONNX Runtime as an independent check of the variants that ONNX has, in every combination.

These are bounds of pre-activations, peepholes included; coupled gates; hard sigmoid 0.2 p + 0.5.
"""

import warnings

import numpy as np
import pytest
from problems import layer_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

T, B, I, H = 5, 3, 4, 6  # noqa: E741 - as in all the equations
FLOAT = onnx.TensorProto.FLOAT
every_clip = pytest.mark.parametrize("clip", [None, 2.0, 0.5])
hard_or_not = pytest.mark.parametrize("activation", ["sigmoid", "hard_sigmoid_onnx"])


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype("float32")


def theirs(kind, feeds, **attributes):
    """The outputs of a model with one node for these inputs; inputs that are None are left out."""
    feeds = {name: array for name, array in feeds.items() if array is not None}
    names = [name if name in feeds else "" for name in ("X", "W", "R", "B", "", "h", "c", "P")]
    outputs = ["Y", "Yh", "Yc"] if kind == "LSTM" else ["Y", "Yh"]
    while not names[-1]:
        names.pop()
    node = onnx.helper.make_node(kind, names, outputs, hidden_size=H, **attributes)

    def infos(shapes):
        return [onnx.helper.make_tensor_value_info(n, FLOAT, s) for n, s in shapes]

    shapes = [(name, array.shape) for name, array in feeds.items()]
    graph = onnx.helper.make_graph([node], "cell", infos(shapes), infos((n, None) for n in outputs))
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def attributes_of(layer, kind):
    """The attributes of the node that correspond to the options."""
    given = {} if layer.options.clip is None else {"clip": layer.options.clip}
    if layer.options.recurrent_activation != "sigmoid":
        others = ["Tanh"] * (2 if kind == "LSTM" else 1)
        given |= {"activations": ["HardSigmoid", *others]}
        given |= {"activation_alpha": [0.2], "activation_beta": [0.5]}
    return given


def weights_of(layer, order):
    """W, R and B with the gates in ONNX's order; None in `order` is a gate of zeros."""

    def ordered(name):
        array = layer.params[name]
        gates = array.reshape(-1, H, *array.shape[1:])
        picked = [np.zeros_like(gates[0]) if k is None else gates[k] for k in order]
        return np.concatenate(picked)[None]

    biases = [ordered("bias_ih_l0"), ordered("bias_hh_l0")]
    return {
        "W": ordered("weight_ih_l0"), "R": ordered("weight_hh_l0"), "B": np.concatenate(biases, 1),
    }  # fmt: skip


@every_clip
@hard_or_not
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
@pytest.mark.parametrize("coupled", [False, True], ids=["", "coupled"])
def test_the_lstm_is_that_of_onnx_runtime(clip, activation, peephole, coupled):
    layer = layer_of(
        "lstm", I, H, clip=clip, recurrent_activation=activation, peephole=peephole, coupled=coupled
    )
    layer.flat[...] = draw(layer.flat.size)
    order = [0, 2, None, 1] if coupled else [0, 3, 1, 2]
    feeds = weights_of(layer, order) | {"X": draw(T, B, I, seed=1)}
    feeds |= {"h": draw(1, B, H, seed=2), "c": draw(1, B, H, seed=3)}
    if peephole:
        p = layer.params["weight_peephole_l0"].reshape(-1, H)
        feeds["P"] = np.concatenate([p[0], p[-1], np.zeros(H, "f4") if coupled else p[1]])[None]
    wanted = theirs("LSTM", feeds, input_forget=int(coupled), **attributes_of(layer, "LSTM"))
    y, (h, c) = layer(feeds["X"], (feeds["h"], feeds["c"]))
    for got, answer in zip((y, h, c), (wanted[0][:, 0], *wanted[1:]), strict=True):
        np.testing.assert_allclose(got, answer, rtol=0, atol=5e-6)


@every_clip
@hard_or_not
@pytest.mark.parametrize("cell", ["gru_after", "gru_before"])
def test_the_gru_is_that_of_onnx_runtime(clip, activation, cell):
    layer = layer_of(cell, I, H, clip=clip, recurrent_activation=activation)
    layer.flat[...] = draw(layer.flat.size)
    feeds = weights_of(layer, [1, 0, 2]) | {"X": draw(T, B, I, seed=1), "h": draw(1, B, H, seed=2)}
    after = int(cell == "gru_after")
    wanted = theirs("GRU", feeds, linear_before_reset=after, **attributes_of(layer, "GRU"))
    y, h = layer(feeds["X"], feeds["h"])
    for got, answer in zip((y, h), (wanted[0][:, 0], wanted[1]), strict=True):
        np.testing.assert_allclose(got, answer, rtol=0, atol=5e-6)
