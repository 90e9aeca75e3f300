"""The values of gates, and the norms of the state's gradient after each step."""

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import BACKENDS, assert_close, assert_same_bits, layer_of, problem

import fastrnn
from fastrnn._cells.registry import CELLS

LAYERS = {
    "one": {},
    "a stack both ways": {"num_layers": 2, "bidirectional": True},
    "by batch": {"batch_first": True},
}
every_layer = pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)


def ragged(steps, batch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, steps + 1, batch)
    return {"lengths": lengths, "mask": rng.random((steps, batch)) < 0.7}


def x_of(layer, steps=6, batch=5):
    x = problem("lstm", steps, batch, layer.input_size, 3).x
    return x.swapaxes(0, 1) if layer.batch_first else x


def sigmoid(p):
    return 1 / (1 + np.exp(-p))


# ---- gates ---------------------------------------------------------------------------------------


@every_backend
def test_an_lstms_gates_are_its_equations(backend):
    layer = layer_of("lstm", 3, 4, dtype="float64")
    x, w = x_of(layer), layer.params
    with fastrnn.backend(backend):
        y, _, gates = layer(x, return_gates=True)
    h = np.concatenate([np.zeros((1, 5, 4)), y[:-1]])
    c = np.concatenate([np.zeros((1, 5, 4)), gates["c"][0, :-1]])
    a = x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
    i, f, g, o = np.split(a, 4, axis=2)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    wanted = {"i": i, "f": f, "g": g, "o": o, "c": f * c + i * g}
    assert_close(gates, {name: array[None] for name, array in wanted.items()}, "float64")


@every_backend
@pytest.mark.parametrize("cell", ["gru_after", "gru_before"])
def test_a_grus_gates_blend_to_its_outputs(backend, cell):
    layer = layer_of(cell, 3, 4, dtype="float64")
    with fastrnn.backend(backend):
        y, _, gates = layer(x_of(layer), return_gates=True)
    assert list(gates) == ["r", "z", "n"]
    h = np.concatenate([np.zeros((1, 5, 4)), y[:-1]])
    r, z, n = (gate[0] for gate in gates.values())
    assert_close((1 - z) * n + z * h, y, "float64")
    assert np.all((r > 0) & (r < 1))


def layer_and_rows(cell, options, rows):
    """A layer, and lengths and a mask for it, if wanted."""
    layer = layer_of(cell, 3, 17, dtype="float64", **options)
    rows = ragged(6, 5) if rows else {}
    if layer.batch_first and rows:
        rows["mask"] = rows["mask"].T
    return layer, rows


@pytest.mark.usefixtures("core")
@every_layer
@every_cell
@pytest.mark.parametrize("rows", [False, True], ids=["full", "ragged"])
def test_both_backends_tell_the_same(cell, options, rows):
    layer, rows = layer_and_rows(cell, options, rows)
    told = {}
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            y, state, gates = layer(x_of(layer), return_gates=True, **rows)
            assert_same_bits((y, state), layer(x_of(layer), **rows))
            told[backend] = gates
    assert_close(told["core"], told["reference"], "float64")


@every_backend
def test_gates_of_a_single_sequence_have_no_batch(backend):
    layer = layer_of("gru_after", 3, 4)
    x = problem("lstm", 6, 1, 3, 4, dtype="float32").x
    with fastrnn.backend(backend):
        _, _, gates = layer(x[:, 0], return_gates=True)
        _, _, wanted = layer(x, return_gates=True)
    assert_same_bits(gates, {name: gate[:, :, 0] for name, gate in wanted.items()})


@every_backend
def test_gates_stay_when_the_tape_is_gone(backend):
    layer = layer_of("lstm", 3, 64)
    x = problem("lstm", 60, 20, 3, 4, dtype="float32").x  # a tape that is used several times
    with fastrnn.backend(backend):
        _, _, gates = layer(x, return_gates=True)
        kept = {name: gate.copy() for name, gate in gates.items()}
        layer.forward(-x)
    assert_same_bits(gates, kept)


@every_backend
@every_cell
@pytest.mark.parametrize("steps, batch", [(0, 5), (6, 0), (0, 0)])
def test_gates_of_no_steps_and_of_no_rows_are_empty(cell, steps, batch, backend):
    layer = layer_of(cell, 3, 4, 2, bidirectional=True, dtype="float64")
    with fastrnn.backend(backend):
        y, state, gates = layer(np.ones((steps, batch, 3)), return_gates=True)
        tape = layer.forward(np.ones((steps, batch, 3)))[2]
        norms = tape.gradient_norms(np.ones_like(y), state)
    assert list(gates) == list(CELLS[cell].shown)
    for array in gates.values():
        assert (array.shape, array.dtype) == ((4, steps, batch, 4), "float64")
    assert_same_bits(tape.gates(), gates)
    assert all(norm.shape == (4, steps) for norm in norms.values())


@pytest.mark.usefixtures("core")
def test_checkpoints_have_no_gates_to_show():
    layer = layer_of("lstm", 3, 4, dtype="float64")
    _, _, tape = layer.forward(x_of(layer), checkpoint=2)
    with pytest.raises(ValueError, match="call forward without checkpoint"):
        tape.gates()


# ---- gradient norms ------------------------------------------------------------------------------


def norms_by_pieces(layer, x, dy):
    """The norms from one run for each step, for a layer of one direction."""
    state, tapes = None, []
    for t in range(len(x)):
        _, state, tape = layer.forward(x[t : t + 1], state)
        tapes.append(tape)
    dstate, rows = None, []
    for t in range(len(x))[::-1]:
        parts = [np.zeros((1, x.shape[1], layer.hidden_size))] * len(layer._structure.cell.states)
        if dstate is not None:
            parts = list(dstate) if isinstance(dstate, tuple) else [dstate]
        parts[0] = parts[0] + dy[t]
        if len(parts) == 2:  # (L7): c_t reaches the loss through h_t too
            gates = tapes[t].gates()
            parts[1] = parts[1] + parts[0] * gates["o"][:, 0] * (1 - np.tanh(gates["c"][:, 0]) ** 2)
        rows.append([np.linalg.norm(p) for p in parts])
        dstate = tapes[t].backward(dy[t : t + 1], dstate).state
    return np.array(rows[::-1]).T


@every_backend
@every_cell
def test_gradient_norms_are_those_of_states_between_pieces(backend, cell):
    layer = layer_of(cell, 3, 4, dtype="float64")
    x, dy = x_of(layer), problem("lstm", 6, 5, 3, 4).dy
    with fastrnn.backend(backend):
        got = layer.forward(x)[2].gradient_norms(dy)
        wanted = norms_by_pieces(layer, x, dy)
    for name, line in zip(layer._structure.cell.states, wanted, strict=True):
        np.testing.assert_allclose(got[name], line[None], rtol=1e-12)


@pytest.mark.usefixtures("core")
@every_layer
@every_cell
@pytest.mark.parametrize("rows", [False, True], ids=["full", "ragged"])
def test_both_backends_have_the_same_norms(cell, options, rows):
    layer, rows = layer_and_rows(cell, options, rows)
    told = []
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            y, state, tape = layer.forward(x_of(layer), **rows)
            told.append(tape.gradient_norms(np.ones_like(y), state))
    assert_close(*told, "float64")
    assert told[0]["h"].shape == (layer.num_layers * layer.num_directions, 6)


@every_backend
def test_norms_are_those_of_the_rows_together(backend):
    layer, rng = layer_of("lstm", 3, 7, dtype="float64"), np.random.default_rng(0)
    x, dy = rng.standard_normal((6, 9, 3)), rng.standard_normal((6, 9, 7))
    lengths = np.array([6, 2, 6, 0, 5, 6, 1, 6, 4])
    with fastrnn.backend(backend):
        got = layer.forward(x, lengths=lengths)[2].gradient_norms(dy)
        for name in "hc":
            rows = [
                layer.forward(x[:, b], lengths=n)[2].gradient_norms(dy[:, b])[name]
                for b, n in enumerate(lengths)
            ]
            assert_close(got[name], np.sqrt(np.square(rows).sum(0)), "float64")


@every_backend
@every_cell
@pytest.mark.parametrize("power", [-900, -600, 600, 900])
def test_norms_whose_squares_are_beyond_float64(backend, cell, power):
    """Powers of 2 change no digit, and the squares of these numbers are 0 or infinite."""
    layer = layer_of(cell, 3, 4, dtype="float64")
    dy = problem("lstm", 6, 5, 3, 4).dy
    with fastrnn.backend(backend):
        tape = layer.forward(x_of(layer))[2]
        wanted, got = (tape.gradient_norms(dy * 2.0**of) for of in (0, power))
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name] * 2.0**power, rtol=1e-12)


@every_backend
def test_norms_of_infinite_gradients_and_of_nan_are_such(backend):
    layer = layer_of("rnn_tanh", 3, 4, dtype="float64")
    with fastrnn.backend(backend), np.errstate(all="raise"):
        y, _, tape = layer.forward(x_of(layer))
        dy = np.zeros_like(y)
        dy[4, 0, 0], dy[5, 1, 1] = np.nan, np.inf
        norms = tape.gradient_norms(dy)["h"][0]
    assert np.isnan(norms[:5]).all() and norms[5] == np.inf


@every_backend
def test_looking_at_norms_changes_no_gradient(backend):
    layer = layer_of("lstm", 3, 4, 2)
    x = x_of(layer).astype("float32")
    with fastrnn.backend(backend):
        y, _, tape = layer.forward(x, checkpoint=2)
        before = tape.backward(np.ones_like(y)).flat
        tape.gradient_norms(np.ones_like(y))
        assert_same_bits(tape.backward(np.ones_like(y)).flat, before)


@every_cell
@pytest.mark.parametrize("steps", [1, 16, 17])
def test_norms_of_many_rows_are_those_of_each_row(cell, steps):
    """64 rows of 64 units are taken 8 steps at a time, a single row all at once."""
    layer, rng = layer_of(cell, 3, 64, dtype="float64"), np.random.default_rng(0)
    x, dy = rng.standard_normal((steps, 64, 3)), rng.standard_normal((steps, 64, 64))
    norms = layer.forward(x)[2].gradient_norms(dy)
    rows = [slice(b, b + 1) for b in range(64)]
    alone = [layer.forward(x[:, b])[2].gradient_norms(dy[:, b]) for b in rows]
    for name, of_batch in norms.items():
        squares = sum(of_row[name] ** 2 for of_row in alone)
        np.testing.assert_allclose(of_batch, np.sqrt(squares), rtol=1e-12)
