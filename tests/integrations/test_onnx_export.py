"""fastrnn.onnx.export: ONNX Runtime computes the layer's numbers, and load gives it back."""

import itertools
import os
import warnings

import numpy as np
import pytest
from problems import at_once

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

import fastrnn.onnx  # noqa: E402

pytestmark = pytest.mark.any_isa

T, B, I, H = 6, 4, 3, 5  # noqa: E741 - as in all the equations

CELLS = {
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu", "clip": 0.75}),
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


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("cell", CELLS)
def test_load_gives_the_layers_back(cell, net, tmp_path):
    layer = layer_of(cell, net)
    path = tmp_path / "layer.onnx"
    fastrnn.onnx.export(layer, path)
    loaded = list(fastrnn.onnx.load(path).values())
    assert len(loaded) == layer.num_layers
    directions = layer.num_directions
    for index, own in enumerate(loaded):
        assert type(own) is type(layer) and own.options == layer.options
        assert own.bidirectional == layer.bidirectional and own.reverse == layer.reverse
        for name in ("nonlinearity", "reset_after"):
            assert getattr(own, name, None) == getattr(layer, name, None)
        inputs = I if index == 0 else directions * H
        assert (own.input_size, own.hidden_size, own.bias) == (inputs, H, layer.bias)
        for name, array in own.params.items():
            wanted = layer.params[name.replace("_l0", f"_l{index}")]
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("cell", ["rnn", "coupled peephole", "gru before"])
def test_rows_of_no_steps_and_sizes_of_zero(cell, tmp_path):
    layer = layer_of(cell, "a stack of both")
    path = tmp_path / "layer.onnx"
    fastrnn.onnx.export(layer, path, lengths=True)
    prepared = fastrnn.onnx.prepare(path)
    x, arguments, feeds = arguments_of(layer, True, True)
    feeds["lengths"] = np.array([T, 0, 0, 5], "int32")
    arguments["lengths"] = feeds["lengths"]
    for got, wanted in zip(prepared.run(feeds), flattened(*layer(x, **arguments)), strict=True):
        np.testing.assert_array_equal(got, wanted)
    fastrnn.onnx.export(layer, path, state=False)
    prepared = fastrnn.onnx.prepare(path)
    for x in (np.zeros((B, 0, I), "float32"), np.zeros((0, T, I), "float32")):
        for got, wanted in zip(prepared.run([x]), flattened(*layer(x)), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_prepared_model_runs_in_several_threads(tmp_path):
    layer = layer_of("lstm", "a stack of both")
    fastrnn.onnx.export(layer, tmp_path / "layer.onnx", state=False)
    prepared = fastrnn.onnx.prepare(tmp_path / "layer.onnx")
    batches = [draw(B, T, I, seed=seed) for seed in range(4)]
    answers = at_once([lambda x=x: prepared.run([x])[0] for x in batches], 20)
    for got, x in zip(answers, batches, strict=True):
        assert (np.array(got) == layer(x)[0]).all()


def test_the_model_names_nodes_inputs_and_outputs(tmp_path):
    path = tmp_path / "layer.onnx"
    layer = fastrnn.LSTM(I, H, 2, rng=0)
    fastrnn.onnx.export(layer, path, lengths=True)
    model = onnx.load(path)
    named = [node.name for node in model.graph.node if node.op_type == "LSTM"]
    assert named == ["lstm_l0", "lstm_l1"] and model.producer_name == "fastrnn"
    prepared = fastrnn.onnx.prepare(path)
    assert prepared.input_names == ["x", "lengths", "h0", "c0"]
    assert prepared.output_names == ["y", "h", "c"]


def test_dropout_is_no_part_of_it(tmp_path):
    layer = fastrnn.GRU(I, H, 2, dropout=0.5, recurrent_dropout=0.5, rng=0)
    fastrnn.onnx.export(layer, tmp_path / "gru.onnx", state=False)
    x = draw(T, B, I)
    (y, _) = fastrnn.onnx.run_model(tmp_path / "gru.onnx", [x])
    np.testing.assert_array_equal(y, layer(x)[0])


def test_weights_of_2_gib_are_refused(tmp_path, monkeypatch):
    layer = fastrnn.GRU(I, H, rng=0)
    monkeypatch.setattr(fastrnn.onnx._export, "_LARGEST", layer.flat.nbytes - 1)
    with pytest.raises(ValueError, match=f"less than 2 GiB, got {layer.flat.nbytes} bytes"):
        fastrnn.onnx.export(layer, tmp_path / "gru.onnx")


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / "gru.onnx"
    fastrnn.onnx.export(fastrnn.GRU(I, H, rng=0), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="layer_norm"):
        fastrnn.onnx.export(fastrnn.GRU(I, H, layer_norm=True), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["gru.onnx"]
    with pytest.raises(FileNotFoundError):
        fastrnn.onnx.export(fastrnn.GRU(I, H), tmp_path / "absent" / "gru.onnx")


@pytest.mark.parametrize(
    "layer, words, error",
    [
        (fastrnn.LSTM(I, H, layer_norm=True), "layer_norm must not be set, got True", ValueError),
        (fastrnn.GRU(I, H, zoneout=0.1), "zoneout must not be set", ValueError),
        (fastrnn.LSTM(I, H, cell_clip=2.0), "cell_clip must not be set, got 2.0", ValueError),
        (fastrnn.LSTM(I, H, proj_size=2), "proj_size must not be set, got 2", ValueError),
        (fastrnn.GRU(I, H, dtype="float64"), "must be float32, got float64, which ONNX Runtime",
         TypeError),
        (fastrnn.MinGRU(I, H), "got MinGRU: ONNX has no such operator", TypeError),
        (fastrnn.GRU(I, H).freeze(), "got Frozen: use the layer that was frozen", TypeError),
        (3, "layer must be a fastrnn.RNN, LSTM or GRU, got int", TypeError),
    ],
)  # fmt: skip
def test_what_onnx_cannot_say_is_refused(layer, words, error, tmp_path):
    with pytest.raises(error, match=words):
        fastrnn.onnx.export(layer, tmp_path / "layer.onnx")
    assert not os.listdir(tmp_path)
    with pytest.raises(TypeError, match="lengths must be True or False"):
        fastrnn.onnx.export(fastrnn.GRU(I, H), tmp_path / "layer.onnx", lengths=3)
