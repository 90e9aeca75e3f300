"""Truncated backpropagation through time: windows against the whole, and by hand."""

import numpy as np
import pytest
from problems import BACKENDS, assert_close, assert_same_bits, layer_of

import fastrnn
from fastrnn.cells import CELLS

every_cell = pytest.mark.parametrize("cell", CELLS)
every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
T, B, I, H = 11, 3, 2, 5  # noqa: E741 - as in all the equations


def made(cell, seed=0, lead=(T, B), **options):
    """A layer, x, dy and a state."""
    layer, rng = layer_of(cell, I, H, 2, dtype="float64", **options), np.random.default_rng(seed)
    state = tuple(rng.uniform(-1, 1, (2, B, H)) for _ in CELLS[cell].states)
    x, dy = (rng.uniform(-1, 1, (*lead, n)) for n in (I, H))
    return layer, x, dy, state if len(state) > 1 else state[0]


def flat_of(windows, dy):
    return sum(window.backward(dy[window.steps]).flat for window in windows)


@every_backend
@every_cell
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (3, 3), (3, 4), (3, 8), (4, 100), (T, T), (50, 50)])
def test_y_and_state_are_those_of_the_whole_sequence(cell, k1, k2, backend):
    layer, x, _, state = made(cell)
    y, last = layer(x, state)
    windows = list(fastrnn.tbptt(layer, x, k1, k2, state))
    assert [w.steps for w in windows] == [slice(t, min(t + k1, T)) for t in range(0, T, k1)]
    assert all(w.past == slice(max(0, w.steps.start + k1 - k2), w.steps.start) for w in windows)
    assert_close(np.concatenate([w.y for w in windows]), y, "float64")
    assert_close(windows[-1].state, last, "float64")


@every_backend
@every_cell
@pytest.mark.parametrize("k1", [1, 4, T])
def test_gradients_that_reach_back_to_the_begin_add_up_to_the_whole(cell, k1, backend):
    layer, x, dy, state = made(cell)
    wanted = layer.forward(x, state)[2].backward(dy).flat
    assert_close(flat_of(fastrnn.tbptt(layer, x, k1, T + k1, state), dy), wanted, "float64", 256)


@every_backend
@every_cell
@pytest.mark.parametrize("k2", [3, 5])
def test_a_gradient_is_cut_after_k2_steps(cell, k2, backend):
    layer, x, dy, state = made(cell)
    for window in fastrnn.tbptt(layer, x, 3, k2, state):
        begin, now, end = window.past.start, window.past.stop, window.steps.stop
        _, before = layer(x[:begin], state)
        _, _, tape = layer.forward(x[begin:end], before)
        padded = np.concatenate([np.zeros((now - begin, B, H)), dy[now:end]])
        got, wanted = window.backward(dy[window.steps]), tape.backward(padded)
        assert end - begin <= k2
        assert_close((got.x, got.flat, got.state), (wanted.x, wanted.flat, wanted.state), "float64")


@every_backend
def test_the_axes_are_the_layers(backend):
    layer, x, dy, state = made("lstm")
    other = layer_of("lstm", I, H, 2, dtype="float64", batch_first=True)
    wanted = flat_of(fastrnn.tbptt(layer, x, 3, 5, state), dy)
    windows = fastrnn.tbptt(other, x.swapaxes(0, 1), 3, 5, state)
    got = sum(w.backward(dy[w.steps].swapaxes(0, 1)).flat for w in windows)
    assert_close(got, wanted, "float64")
    one = tuple(s[:, 1] for s in state)
    for each in (layer, other):
        got = flat_of(fastrnn.tbptt(each, x[:, 1], 3, 5, one), dy[:, 1])
        wanted = flat_of(
            fastrnn.tbptt(layer, x[:, 1:2], 3, 5, tuple(s[:, 1:2] for s in state)), dy[:, 1:2]
        )
        assert_close(got, wanted, "float64")


def test_no_steps_are_no_windows():
    layer, _, _, _ = made("lstm")
    assert list(fastrnn.tbptt(layer, np.zeros((0, B, I)), 3)) == []


def test_parameters_may_change_between_windows():
    layer, x, dy, _ = made("gru_after")
    losses = []
    for _ in range(5):
        losses.append(0)
        for window in fastrnn.tbptt(layer, x, 3, 6):
            error = window.y - np.tanh(dy[window.steps])
            losses[-1] += np.square(error).sum()
            layer.flat -= 0.01 * window.backward(2 * error, need_x=False).flat
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k1": 0}, ValueError, "k1 must be an integer of at least 1, got 0"),
        ({"k1": 2.0}, TypeError, "k1 must be an integer, got float"),
        ({"k1": 3, "k2": 2}, ValueError, "k2 must be at least k1 = 3, got 2"),
        ({"k1": 3, "x": np.zeros((T, B, I + 1))}, ValueError, "x must be"),
        ({"k1": 3, "x": np.zeros((T, B, I), "f4")}, TypeError, "x must be float64"),
        ({"k1": 3, "state": np.zeros((2, B, H))}, ValueError, "state must be a pair"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(arguments, error, message):
    layer, x, _, _ = made("lstm")
    with pytest.raises(error, match=message):
        fastrnn.tbptt(layer, **{"x": x, **arguments})


def test_a_layer_that_reads_the_end_first_is_refused():
    layer = layer_of("lstm", I, H, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional layer cannot carry its state"):
        fastrnn.tbptt(layer, np.zeros((T, B, I), "f4"), 3)


@pytest.mark.parametrize("k2", [3, 5])
def test_a_gradient_that_is_not_like_y_is_refused(k2):
    layer, x, dy, _ = made("lstm")
    for window in fastrnn.tbptt(layer, x, 3, k2):
        with pytest.raises(ValueError, match="dy must be"):
            window.backward(dy)
        assert not window.backward(None).flat.any()


@pytest.mark.parametrize("k2", [3, 7])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}], ids=["time first", "batch first"])
def test_ragged_batches_and_ids_go_through_windows(k2, options):
    layer = layer_of("lstm", 4, 5, dtype="float64", **options)
    rng = np.random.default_rng(0)
    ids, embedding = rng.integers(0, 9, (11, 3)), rng.standard_normal((9, 4))
    given = {"mask": rng.random((11, 3)) < 0.8, "reset": rng.random((11, 3)) < 0.2}
    ids[6:, 1] = -1  # beyond a row's end
    if layer.batch_first:
        ids, given = ids.T, {name: flags.T for name, flags in given.items()}
    given |= {"lengths": [11, 6, 0], "embedding": embedding}
    wanted, last = layer(ids, **given)
    windows = list(fastrnn.tbptt(layer, ids, 3, k2, **given))
    assert_same_bits(np.concatenate([w.y for w in windows], int(layer.batch_first)), wanted)
    assert_same_bits(windows[-1].state, last)
    assert windows[1].backward(np.ones_like(windows[1].y)).embedding.shape == (9, 4)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"lengths": [12, 1, 1]}, ValueError, "lengths must be from 0 to T = 11"),
        ({"mask": np.ones((3, 11), bool)}, ValueError, "mask must be"),
        ({"embedding": np.ones((9, 4))}, TypeError, "x must be ids, integers, where"),
        ({"checkpoint": 3}, TypeError, "checkpoint"),
    ],
    ids=str,
)
def test_options_of_windows_are_looked_at_at_once(options, error, message):
    layer = layer_of("lstm", 4, 5, dtype="float64")
    with pytest.raises(error, match=message):
        fastrnn.tbptt(layer, np.ones((11, 3, 4)), 3, **options)
