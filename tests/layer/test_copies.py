"""Copies, pickles and objects in other processes give the results of the original, to the bit.

A copy has other addresses, with another alignment. So many copies are made, and all are kept alive,
to have addresses of all alignments.
"""

import copy
import pickle

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import VARIED, assert_close, assert_same_bits, layer_of

import fastrnn
from fastrnn import train
from fastrnn._cells import registry
from fastrnn._cells.registry import CELLS

MANY = 16
T, B, I, H = 5, 3, 4, 9  # noqa: E741 - as in all the equations


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


WAYS = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": pickled}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (T, B, I)).astype("float32")
IDS = rng.integers(0, I, (T, B))
OPTIONS = {
    "plain": (X, {}),
    "ragged": (X, {"lengths": [2, 5, 0], "reset": rng.random((T, B)) < 0.3}),
    "ids": (IDS, {"one_hot": True}),
    "embedding": (IDS, {"embedding": rng.uniform(-1, 1, (I, I)).astype("float32")}),
    "checkpoints": (X, {"checkpoint": 2}),
    "one row for all": (np.broadcast_to(X[0, 0], X.shape), {}),
    "time backwards": (X[::-1], {}),
}
VARIANTS = {
    "hard sigmoid, clip": ("gru_before", {"recurrent_activation": "hard_sigmoid", "clip": 0.5}),
    "layer norm": ("lstm", {"layer_norm": True, "peephole": True, "cell_clip": 1.0}),
    "dropout": ("gru_after", {"zoneout": 0.2, "recurrent_dropout": 0.3}),
    "coupled": ("lstm", {"coupled": True, "recurrent_activation": "hard_sigmoid_onnx"}),
    "dropout, relu": ("rnn_relu", {"zoneout": 0.2}),
    "projected": ("lstm", {"proj_size": 4}),
}
every_option = pytest.mark.parametrize("x, options", OPTIONS.values(), ids=OPTIONS)


def net(cell, **options):
    return layer_of(cell, I, H, num_layers=2, bidirectional=True, **options)


def variant_layer(name):
    cell, options = VARIANTS[name]
    return net(cell, **options)


def answers_of_tape(tape):
    """All results of a tape."""
    shape = tape._record.layers[-1][2][0].y.shape
    dy = np.random.default_rng(1).uniform(-1, 1, (*shape[:2], 2 * shape[2])).astype("float32")
    grads = tape.backward(dy)
    told = [grads.x, grads.embedding, grads.state, grads.flat, tape.gradient_norms(dy)]
    return told if tape._record.checkpoint else [*told, tape.gates()]


def answers_of_layer(layer):
    y, state = layer(X)
    return y, state, layer.flat


def answers_of_stream(stream):
    return stream.feed(X), stream.state


def answers_of_window(window):
    return window.y, window.state, window.backward(np.ones_like(window.y)).flat


def agree(copies, wanted, answers):
    for copied in copies:
        assert_same_bits(answers(copied), wanted)


def agree_closely(copied, wanted, answers):
    """The reference's products are NumPy's. Their last bits depend on the addresses of arrays."""
    assert_close(answers(copied), wanted, "float32")


@every_way
@every_cell
@every_option
def test_a_copied_tape_tells_the_same(core, way, cell, x, options):
    tape = net(cell).forward(x, **options)[2]
    wanted = answers_of_tape(tape)
    copies = [way(tape) for _ in range(MANY)]
    agree([*copies, *map(way, copies[:4])], wanted, answers_of_tape)


@every_way
@pytest.mark.parametrize("name", VARIANTS)
def test_a_copied_tape_of_a_variant_tells_the_same(core, way, name):
    tape = variant_layer(name).forward(X)[2]
    wanted = answers_of_tape(tape)
    agree([way(tape) for _ in range(MANY)], wanted, answers_of_tape)


@every_way
@every_cell
def test_a_copied_tape_of_the_reference_tells_the_same(way, cell):
    """Its results do not depend on alignment, so one copy is enough."""
    with fastrnn.backend("reference"):
        for x, options in OPTIONS.values():
            tape = net(cell).forward(x, **options)[2]
            agree_closely(way(tape), answers_of_tape(tape), answers_of_tape)


@every_way
@pytest.mark.parametrize("name", VARIANTS)
def test_a_copied_tape_of_the_references_variant_tells_the_same(way, name):
    with fastrnn.backend("reference"):
        tape = variant_layer(name).forward(X)[2]
        agree_closely(way(tape), answers_of_tape(tape), answers_of_tape)


@every_backend
@every_way
@every_cell
def test_a_copied_layer_and_stream_tell_the_same(backend, way, cell):
    layer = net(cell)
    agree([way(layer) for _ in range(MANY)], answers_of_layer(layer), answers_of_layer)
    stream = layer_of(cell, I, H, num_layers=2).stream(B)
    stream.feed(X)
    copies = [way(stream) for _ in range(MANY)]
    agree(copies, answers_of_stream(stream), answers_of_stream)


@every_backend
@every_way
def test_a_copied_window_tells_the_same(backend, way):
    for window in fastrnn.tbptt(layer_of("lstm", I, H), X, 2, 4):
        copies = [way(window) for _ in range(MANY)]
        agree(copies, answers_of_window(window), answers_of_window)


@every_way
def test_gradients_stay_views_of_their_buffer(way):
    grads = net("lstm").forward(X)[2].backward(np.ones((T, B, 2 * H), "float32"))
    copied = way(grads)
    assert_same_bits(copied.params, grads.params)
    copied.flat[...] = 7
    assert all((array == 7).all() for array in copied.params.values())


def one_step(layer, optimizer):
    """A step of the optimizer on the layer's own parameters."""
    y, _, tape = layer.forward(X)
    optimizer.step([tape.backward(y).flat])
    return layer.flat.copy()


@pytest.mark.parametrize("way", [copy.deepcopy, WAYS["pickle"]], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", [train.Adam, lambda p, lr: train.SGD(p, lr, momentum=0.9)])
def test_a_layer_copied_with_its_optimizer_trains_on_as_they_do(way, make):
    layer = net("gru_after")
    optimizer = make([layer.flat], 0.1)
    one_step(layer, optimizer)
    copies = [way((layer, optimizer)) for _ in range(MANY)]
    wanted = one_step(layer, optimizer)
    for pair in copies:
        assert_same_bits(one_step(*pair), wanted)


def test_a_tape_of_other_kernels_is_refused(core, monkeypatch):
    tape = net("lstm").forward(X)[2]
    sent = pickle.dumps(tape)
    monkeypatch.setattr("fastrnn._version.__version__", "0.0.1")
    with pytest.raises(ValueError, match="a tape made by the kernels of fastrnn .* run forward"):
        pickle.loads(sent)


# ---- sent to other processes ---------------------------------------------------------------------


def answered(sent):
    """Results of objects in another process, by the names of the functions to call."""
    return [globals()[name](thing) for name, thing in sent]


def test_what_is_sent_to_other_processes_tells_the_same_there(processes):
    things = []
    for cell in CELLS:
        stream = layer_of(cell, I, H).stream(B)
        stream.feed(X)
        (window, *_) = fastrnn.tbptt(layer_of(cell, I, H), X, 3)
        things += [
            ("answers_of_layer", net(cell)),
            ("answers_of_stream", stream),
            ("answers_of_window", window),
            *[("answers_of_tape", net(cell).forward(x, **o)[2]) for x, o in OPTIONS.values()],
        ]
    sent = pickle.dumps(things)
    wanted = answered(things)
    for got in processes.map(answered, [pickle.loads(sent) for _ in range(4)]):
        assert_same_bits(got, wanted)


@every_cell
def test_a_pickled_cell_is_the_one_of_its_name(cell, monkeypatch):
    """The index of a cell depends on the build."""
    kinds = [CELLS[cell]]
    kinds += [registry.with_masks(CELLS[cell])] if cell in VARIED else []
    kinds += [registry.projected(CELLS[cell])] if cell == "lstm" else []
    for kind in kinds:
        assert pickled(kind) == copy.deepcopy(kind) == kind
    data = pickle.dumps(CELLS[cell])
    monkeypatch.setitem(CELLS, cell, CELLS[cell]._replace(index=77))
    assert pickle.loads(data).index == 77


def sent_separately(thing, at, writeable=False):
    """The thing after a pickle whose buffers are `at` bytes behind aligned addresses."""
    buffers = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    assert buffers
    placed = []
    for buffer in buffers:
        memory = np.empty(buffer.raw().nbytes + 128, "u1")
        begin = -memory.ctypes.data % 64 + at
        memory[begin : begin + buffer.raw().nbytes] = np.frombuffer(buffer.raw(), "u1")
        memory.flags.writeable = writeable
        placed.append(memory[begin : begin + buffer.raw().nbytes])
    return pickle.loads(data, buffers=placed)


@pytest.mark.parametrize("at", [0, 1, 2, 8])
def test_buffers_of_a_pickle_may_be_anywhere_and_read_only(at, core):
    layer = layer_of("lstm", I, H)
    frozen, tape, dy = layer.freeze(), layer.forward(X)[2], np.ones((T, B, H), "f4")
    embedding = rng.uniform(-1, 1, (9, I)).astype("f4")
    (window,) = fastrnn.tbptt(layer, X, T)
    assert_same_bits(answers_of_layer(sent_separately(layer, at)), answers_of_layer(layer))
    assert_same_bits(sent_separately(frozen, at)(X), frozen(X))
    assert_same_bits(sent_separately(tape, at).backward(dy).flat, tape.backward(dy).flat)
    assert_same_bits(answers_of_window(sent_separately(window, at)), answers_of_window(window))
    for stream, x in [(layer.stream(B), X), (layer.stream(B, embedding=embedding), IDS)]:
        stream.feed(x)
        sent = sent_separately(stream, at)
        assert_same_bits((sent.feed(x), sent.state), (stream.feed(x), stream.state))


@pytest.mark.parametrize("at", [1, 8])
@pytest.mark.parametrize("precision", [None, "int8", "bfloat16", "bfloat16-weights"])
def test_buffers_of_a_frozen_layer_with_a_head_may_be_anywhere(at, precision):
    layer = layer_of("lstm", I, H, num_layers=2, bidirectional=True)
    frozen = layer.freeze(precision, head=train.Dense(2 * H, 3, rng=0))
    assert_same_bits(sent_separately(frozen, at)(X), frozen(X))


@pytest.mark.parametrize("name", VARIANTS)
def test_buffers_of_a_variant_may_be_anywhere(core, name):
    layer = variant_layer(name)
    tape, sent = layer.forward(X)[2], sent_separately(layer, 1)
    assert_same_bits(sent(X), layer(X))
    assert_same_bits(sent_separately(layer.freeze(), 1)(X), layer.freeze()(X))
    assert_same_bits(answers_of_tape(sent_separately(tape, 1)), answers_of_tape(tape))


def test_a_layer_and_its_optimizer_stay_together_where_buffers_are_unaligned():
    layer = net("gru_after")
    optimizer = train.SGD([layer.flat], 0.1)
    copied = sent_separately((layer, optimizer), 1, writeable=True)
    assert_same_bits(one_step(*copied), one_step(layer, optimizer))
