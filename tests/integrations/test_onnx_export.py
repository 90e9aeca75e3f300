"""fastrnn.onnx.export: ONNX Runtime computes the layer's numbers, and load gives it back."""

import itertools
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

import fastrnn.onnx  # noqa: E402

pytestmark = pytest.mark.any_isa

T, B, I, H = 6, 4, 3, 5  # noqa: E741 - as in all the equations

CELLS = {
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu", "clip": 0.7}),
    "lstm": ("LSTM", {}),
    "peephole": ("LSTM", {"peephole": True, "clip": 0.5}),
    "coupled": ("LSTM", {"coupled": True}),
    "coupled peephole": (
        "LSTM",
        {"coupled": True, "peephole": True, "recurrent_activation": "hard_sigmoid_onnx"},
    ),
    "hard lstm": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    "gru": ("GRU", {}),
    "gru before": ("GRU", {"reset_after": False, "clip": 0.5}),
    "hard gru": ("GRU", {"recurrent_activation": "hard_sigmoid_onnx", "reset_after": False}),
    "other hard gru": ("GRU", {"recurrent_activation": "hard_sigmoid"}),
}
NETS = {
    "one layer": {},
    "no bias": {"bias": False, "num_layers": 2},
    "batch first": {"batch_first": True, "num_layers": 2},
    "reverse": {"reverse": True},
    "a stack in reverse, batch first": {"reverse": True, "num_layers": 2, "batch_first": True},
    "two directions": {"bidirectional": True},
    "a stack of both": {"bidirectional": True, "num_layers": 3, "batch_first": True},
    "sum": {"bidirectional": True, "merge": "sum"},
    "mean": {"bidirectional": True, "merge": "mean", "num_layers": 2},
    "mul": {"bidirectional": True, "merge": "mul", "batch_first": True},
    "pair": {"bidirectional": True, "merge": None, "batch_first": True},
}
INPUTS = list(itertools.product([False, True], [False, True]))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype("float32")


def layer_of(cell, net):
    name, options = CELLS[cell]
    layer = getattr(fastrnn, name)(I, H, rng=0, **options, **NETS[net])
    layer.flat[...] = draw(layer.flat.size)
    return layer


def arguments_of(layer, lengths, state):
    """x, the state and the lengths of a call, and the model's inputs that mean the same."""
    x = draw(*((B, T) if layer.batch_first else (T, B)), I, seed=1)
    arguments, feeds = {}, {"x": x}
    if lengths:
        arguments["lengths"] = [T, 1, 3, 5]
        feeds["lengths"] = np.array(arguments["lengths"], "int32")
    if state:
        shape = layer.num_layers * layer.num_directions, B, H
        h, c = draw(*shape, seed=2), draw(*shape, seed=3)
        is_lstm = isinstance(layer, fastrnn.LSTM)
        arguments["state"] = (h, c) if is_lstm else h
        feeds |= {"h0": h, "c0": c} if is_lstm else {"h0": h}
    return x, arguments, feeds


def flattened(y, state):
    """All arrays of y and the state, which may be pairs."""
    return [a for part in (y, state) for a in (part if isinstance(part, tuple) else (part,))]


def session_of(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("cell", CELLS)
def test_onnx_runtime_computes_the_layers_numbers(cell, net, tmp_path):
    layer = layer_of(cell, net)
    lengths, state = INPUTS[(len(cell) + len(net)) % 4]
    path = tmp_path / "layer.onnx"
    assert fastrnn.onnx.export(layer, path, lengths=lengths, state=state) is None
    onnx.checker.check_model(onnx.load(path), full_check=True)
    x, arguments, feeds = arguments_of(layer, lengths, state)
    wanted = flattened(*layer(x, **arguments))
    session = session_of(path)
    assert [value.name for value in session.get_inputs()] == list(feeds)
    for got, answer in zip(session.run(None, feeds), wanted, strict=True):
        np.testing.assert_allclose(got, answer, rtol=2e-5, atol=2e-6)
    if layer.merge == "concat":
        for got, answer in zip(fastrnn.onnx.run_model(path, feeds), wanted, strict=True):
            np.testing.assert_array_equal(got, answer)  # by the same kernels
