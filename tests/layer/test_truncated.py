"""Truncated backpropagation through time: windows against the full sequence, and by hand."""

from itertools import pairwise

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import assert_close, assert_same_bits, layer_of

import fastrnn
from fastrnn._cells.registry import CELLS

T, B, I, H = 11, 3, 2, 5  # noqa: E741 - as in all the equations


def problem_of(cell, seed=0, lead=(T, B), **options):
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
    layer, x, _, state = problem_of(cell)
    y, last = layer(x, state)
    windows = list(fastrnn.tbptt(layer, x, k1, k2, state))
    assert [w.steps for w in windows] == [slice(t, min(t + k1, T)) for t in range(0, T, k1)]
    for w in windows:
        begin = w.steps.start if k2 == k1 else max(0, w.steps.stop - k2)
        assert w.past == slice(begin, w.steps.start)
    assert_close(np.concatenate([w.y for w in windows]), y, "float64")
    assert_close(windows[-1].state, last, "float64")


@every_backend
@every_cell
@pytest.mark.parametrize("k1", [1, 4, T])
def test_gradients_that_reach_back_to_the_begin_add_up_to_the_whole(cell, k1, backend):
    layer, x, dy, state = problem_of(cell)
    wanted = layer.forward(x, state)[2].backward(dy).flat
    assert_close(flat_of(fastrnn.tbptt(layer, x, k1, T + k1, state), dy), wanted, "float64", 256)


@every_backend
@every_cell
@pytest.mark.parametrize("k2", [3, 5])
def test_a_gradient_is_cut_after_k2_steps(cell, k2, backend):
    layer, x, dy, state = problem_of(cell)
    for window in fastrnn.tbptt(layer, x, 3, k2, state):
        begin, now, end = window.past.start, window.past.stop, window.steps.stop
        _, before = layer(x[:begin], state)
        _, _, tape = layer.forward(x[begin:end], before)
        padded = np.concatenate([np.zeros((now - begin, B, H)), dy[now:end]])
        got, wanted = window.backward(dy[window.steps]), tape.backward(padded)
        assert end - begin <= k2
        assert_close((got.x, got.flat, got.state), (wanted.x, wanted.flat, wanted.state), "float64")


def direct(layer, x, dy, k1, k2, state):
    """The sum that `tbptt` documents; each window has a tape from the sequence's begin on."""
    total = 0
    for now in range(0, len(x), k1):
        end = min(now + k1, len(x))
        begin = now if k2 == k1 else max(0, end - k2)
        _, before = layer(x[:begin], state)
        _, _, tape = layer.forward(x[begin:end], before)
        padded = np.concatenate([np.zeros_like(dy[begin:now]), dy[now:end]])
        total = total + tape.backward(padded).flat
    return total


@pytest.mark.parametrize("steps", [1, 5, 12, 17, 20])
def test_windows_add_up_to_the_documented_sum_for_all_k1_and_k2(steps):
    layer, x, dy, state = problem_of("lstm", lead=(steps, B))
    whole = layer.forward(x, state)[2].backward(dy).flat
    for k1 in range(1, steps + 2):
        for k2 in {k1, k1 + 1, (k1 + steps) // 2, steps - 1, steps, steps + 1} - set(range(k1)):
            got = flat_of(fastrnn.tbptt(layer, x, k1, k2, state), dy)
            assert_close(got, direct(layer, x, dy, k1, k2, state), "float64", 256)
            if k2 >= steps:
                assert_close(got, whole, "float64", 256)


@pytest.mark.slow
def test_windows_add_up_to_the_documented_sum_for_all_lengths_up_to_twenty():
    for steps in range(21):
        layer, x, dy, state = problem_of("gru_after", lead=(steps, B))
        for k1 in range(1, steps + 2):
            for k2 in range(k1, steps + 2):
                got = flat_of(fastrnn.tbptt(layer, x, k1, k2, state), dy)
                assert_close(got, direct(layer, x, dy, k1, k2, state), "float64", 256)


@every_backend
def test_the_axes_are_the_layers(backend):
    layer, x, dy, state = problem_of("lstm")
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


def test_a_window_says_which_steps_it_has():
    layer, x = fastrnn.GRU(I, H, rng=0), np.zeros((10, B, I), "float32")
    window = list(fastrnn.tbptt(layer, x, 4, 6))[1]
    assert repr(window) == "Window(past=2:4, steps=4:8, y=(4, 3, 5))"


def test_no_steps_are_no_windows():
    layer, _, _, _ = problem_of("lstm")
    assert list(fastrnn.tbptt(layer, np.zeros((0, B, I)), 3)) == []


def test_parameters_may_change_between_windows():
    layer, x, dy, _ = problem_of("gru_after")
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
        (
            {"k1": 2, "length": 3},
            TypeError,
            r"tbptt\(\) got an unexpected keyword argument 'length'",
        ),
        ({"k1": 3, "k2": 2}, ValueError, "k2 must be at least k1 = 3, got 2"),
        ({"k1": 3, "x": np.zeros((T, B, I + 1))}, ValueError, "x must be"),
        ({"k1": 3, "x": np.zeros((T, B, I), "f4")}, TypeError, "x must be float64"),
        ({"k1": 3, "state": np.zeros((2, B, H))}, ValueError, "state must be a pair"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(arguments, error, message):
    layer, x, _, _ = problem_of("lstm")
    with pytest.raises(error, match=message):
        fastrnn.tbptt(layer, **{"x": x, **arguments})


def test_a_layer_that_reads_the_end_first_is_refused():
    for kind, option in (("bidirectional", "bidirectional"), ("reversed", "reverse")):
        layer = layer_of("lstm", I, H, **{option: True})
        with pytest.raises(ValueError, match=f"{kind} layer cannot carry.*use {option}=False"):
            fastrnn.tbptt(layer, np.zeros((T, B, I), "f4"), 3)


@pytest.mark.parametrize("k2", [3, 5])
def test_a_gradient_that_is_not_like_y_is_refused(k2):
    layer, x, dy, _ = problem_of("lstm")
    for window in fastrnn.tbptt(layer, x, 3, k2):
        with pytest.raises(ValueError, match="dy must be"):
            window.backward(dy)
        with pytest.raises(ValueError, match="the gradient of a loss, got None for each"):
            window.backward(None, (None, None))


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
        ({"checkpoint": 0}, ValueError, "checkpoint must be"),
        ({"train": 1}, TypeError, "train must be"),
        ({"reset_to": "one"}, ValueError, "reset_to must be"),
        ({"dropout": 0.5}, TypeError, "dropout"),
        ({"mask": np.ma.masked_array(np.ones((11, 3), bool))}, TypeError, "masked array"),
    ],
    ids=str,
)
def test_options_of_windows_are_looked_at_at_once(options, error, message):
    layer = layer_of("lstm", 4, 5, dtype="float64")
    with pytest.raises(error, match=message):
        fastrnn.tbptt(layer, np.ones((11, 3, 4)), 3, **options)


# ---- resets, checkpoints, dropout ----------------------------------------------------------------


def reset_problem():
    """Inputs and gradients of a stack, with lengths, a mask and resets."""
    rng = np.random.default_rng(1)
    x, dy = (rng.uniform(-1, 1, (T, B, n)) for n in (I, H))
    state, dstate = (tuple(rng.uniform(-1, 1, (2, B, H)) for _ in "hc") for _ in range(2))
    reset = np.zeros((T, B), bool)
    reset[[4, 5, 9], 0] = reset[[0, 8, 10], 1] = True  # beyond the end of its row too
    rows = {"lengths": np.array([T, 9, 6]), "mask": rng.random((T, B)) < 0.7, "reset": reset}
    return x, dy, state, dstate, rows


def row_by_pieces(layer, x, dy, state, dstate, mask, reset, begin, now):
    """Gradients of one row's window, of flat and of `state`, from the pieces between resets."""
    flat, initial = np.zeros_like(layer.flat), [np.zeros_like(s) for s in state]
    for first, last in pairwise(sorted({0, min(begin, len(x)), len(x), *np.flatnonzero(reset)})):
        is_reset = first == 0 or reset[first]
        held = state if is_reset else held  # noqa: F821 - the first piece is reset
        _, held, tape = layer.forward(x[first:last], held, mask=mask[first:last])
        if first >= begin:
            judged = np.arange(first, last)[:, None] >= now
            of_last = dstate if last == len(x) else None
            grads = tape.backward(np.where(judged, dy[first:last], 0), of_last)
            flat += grads.flat
            initial = [i + g if is_reset else i for i, g in zip(initial, grads.state, strict=True)]
    return flat, initial


@every_backend
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (3, 5), (4, 4), (2, 9), (3, T)])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}], ids=["time first", "batch first"])
def test_resets_lead_to_the_state_that_the_sequence_began_with(k1, k2, options, backend):
    layer = layer_of("lstm", I, H, 2, dtype="float64", **options)
    x, dy, state, dstate, rows = reset_problem()

    def turned(array):
        return array.swapaxes(0, 1) if layer.batch_first else array

    given = {n: a if n == "lengths" else turned(a) for n, a in rows.items()}
    given["reset_to"] = "initial"
    y, last = layer(turned(x), state, **given)
    windows = list(fastrnn.tbptt(layer, turned(x), k1, k2, state, **given))
    assert_close(np.concatenate([turned(w.y) for w in windows]), turned(y), "float64")
    assert_close(windows[-1].state, last, "float64")
    for w in windows:
        end = w.steps.stop
        got = w.backward(turned(dy[w.steps]), dstate)
        wanted = [
            row_by_pieces(
                layer, x[:until, b], dy[:until, b], *(tuple(s[:, b] for s in p) for p in ends),
                rows["mask"][:until, b], rows["reset"][:until, b], w.past.start, w.steps.start,
            )
            for b, until in enumerate(np.minimum(end, rows["lengths"]))
            for ends in [(state, dstate)]
        ]  # fmt: skip
        assert_close(got.flat, sum(flat for flat, _ in wanted), "float64", 256)
        if got.initial is not None:
            initial = tuple(np.stack(s, 1) for s in zip(*(i for _, i in wanted), strict=True))
            assert_close(got.initial, initial, "float64", 256)
        alone = w.backward(None, (dstate[0], None), need_x=False)
        assert alone.x is None and np.isfinite(alone.flat).all()


@pytest.mark.parametrize("k2", [2, 3])
@pytest.mark.parametrize("cell", ["gru_after", "lstm"])
def test_a_windows_state_may_be_written_to(cell, k2):
    """The next window does not begin with it."""
    layer, x = layer_of(cell, I, H), np.ones((7, B, I), "float32")
    wanted = [w.y for w in fastrnn.tbptt(layer, x, 2, k2)]
    for window, y in zip(fastrnn.tbptt(layer, x, 2, k2), wanted, strict=True):
        assert_same_bits(window.y, y)
        for array in window.state if cell == "lstm" else (window.state,):
            array[...] = 9


@every_backend
@pytest.mark.parametrize("row", [slice(None), 0], ids=["batch", "unbatched"])
def test_resets_lead_to_an_initial_state_of_zeros_if_none_is_given(row, backend):
    """`initial` is then its gradient, as a tape's `state` is for the full sequence."""
    layer = layer_of("lstm", I, H, dtype="float64")
    x, dy, state, _, rows = reset_problem()
    given = {"reset": rows["reset"][:, row], "reset_to": "initial"}
    zeros = tuple(np.zeros_like(s[:1, row]) for s in state)
    for k1, k2 in ((T, T), (3, 4)):
        pairs = zip(
            fastrnn.tbptt(layer, x[:, row], k1, k2, **given),
            fastrnn.tbptt(layer, x[:, row], k1, k2, zeros, **given),
            strict=True,
        )
        for window, wanted in pairs:
            got, right = (w.backward(dy[w.steps, row]) for w in (window, wanted))
            assert_same_bits((window.y, window.state), (wanted.y, wanted.state))
            assert_same_bits((got.flat, got.initial), (right.flat, right.initial))
    _, _, tape = layer.forward(x[:, row], **given)
    (window,) = fastrnn.tbptt(layer, x[:, row], T, **given)
    initial = window.backward(dy[:, row]).initial
    assert_same_bits(initial, tape.backward(dy[:, row]).state)


def test_a_window_without_a_batch_and_one_of_ids_are_cut_at_resets_too():
    layer = layer_of("gru_after", I, H, 2, dtype="float64")
    x, dy, (state, _), _, rows = reset_problem()
    ids = np.random.default_rng(0).integers(0, 5, (T, B))
    embedding = x[0, 0] + np.arange(5)[:, None] / 5
    given = {"reset": rows["reset"], "reset_to": "initial"}
    of_rows, of_x = [], 0
    for b in range(B):
        one = {"reset": rows["reset"][:, b], "reset_to": "initial"}
        windows = list(fastrnn.tbptt(layer, embedding[ids[:, b]], 2, 5, state[:, b], **one))
        of_rows.append([(w.y, w.state, w.backward(dy[w.steps, b])) for w in windows])
    for w, ones in zip(
        fastrnn.tbptt(layer, ids, 2, 5, state, embedding=embedding, **given),
        zip(*of_rows, strict=True),
        strict=True,
    ):
        got = w.backward(dy[w.steps])
        assert_close(w.y, np.stack([y for y, *_ in ones], 1), "float64")
        assert_close(w.state, np.stack([s for _, s, _ in ones], 1), "float64")
        assert_close(got.flat, sum(g.flat for *_, g in ones), "float64", 256)
        of_x = np.zeros_like(embedding)
        of_window = ids[w.past.start : w.steps.stop]
        np.add.at(of_x, of_window, np.stack([g.x for *_, g in ones], 1))
        assert_close(got.embedding, of_x, "float64", 256)


def test_a_gradient_that_does_not_fit_a_cut_window_is_refused():
    layer = layer_of("lstm", I, H, 2, dtype="float64")
    x, dy, state, dstate, rows = reset_problem()
    _, window, *_ = fastrnn.tbptt(layer, x, 3, 3, state, reset_to="initial", **rows)
    for wrong in (dstate[0], (dstate[0][:1], None), (dstate[0], dstate[1], None)):
        with pytest.raises(ValueError, match="dstate must be"):
            window.backward(dy[window.steps], wrong)
    with pytest.raises(ValueError, match="the gradient of a loss, got None for each"):
        window.backward(dstate=(None, None))
    with pytest.raises(ValueError, match="dy must be"):
        window.backward(dy[:1])
    with pytest.raises(TypeError, match="dy must be float64"):
        window.backward(dy[window.steps].astype("f4"))


@pytest.mark.parametrize("checkpoint", [1, 2, 50])
def test_checkpoints_give_the_same_bits(checkpoint):
    layer, x, dy, state = problem_of("lstm")
    plain = flat_of(fastrnn.tbptt(layer, x, 3, 5, state), dy)
    got = flat_of(fastrnn.tbptt(layer, x, 3, 5, state, checkpoint=checkpoint), dy)
    assert_same_bits(got, plain)


def test_the_state_that_resets_lead_to_is_the_windows_own():
    layer = layer_of("lstm", I, H, 2, dtype="float64")
    x, _, state, _, rows = reset_problem()
    options = {**rows, "reset_to": "initial", "zero_output_for_mask": True}
    wanted, last = layer(x, state, **options)
    windows = fastrnn.tbptt(layer, x, 3, 4, state, **options)
    state[0][...] = state[1][...] = np.nan
    windows = list(windows)
    assert_close(np.concatenate([w.y for w in windows]), wanted, "float64")
    assert_close(windows[-1].state, last, "float64")


def test_dropout_is_drawn_in_windows_unless_train_is_false():
    layer, x, _, state = problem_of("lstm", dropout=0.5)
    wanted, _ = layer(x, state)
    for train in (True, False):
        windows = fastrnn.tbptt(layer, x, 3, state=state, train=train)
        y = np.concatenate([w.y for w in windows])
        assert (np.abs(y - wanted).max() > 1e-3) == train


def test_gradients_of_a_cut_window_overflow_without_a_warning():
    layer, x, _, _ = problem_of("min_gru")
    reset = np.arange(T)[:, None] == [7, 7, 7]
    _, window, _ = fastrnn.tbptt(layer, x, 5, reset=reset, reset_to="initial")
    ones = np.ones_like(window.y)
    largest = np.abs(window.backward(ones).flat).max()
    with np.errstate(all="raise"):  # both parts are below 1.8e308, and their sum is not
        gradients = window.backward(ones * (1.7e308 * (1.2 / largest)))
    assert np.isinf(gradients.flat).any() and not np.isnan(gradients.flat).any()
