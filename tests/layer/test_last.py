"""The last output of a layer, and `backward(last=...)`: the same bits as a dstate made by hand."""

import pickle

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import assert_close, assert_same_bits, layer_of

import fastrnn
from fastrnn import train
from fastrnn._cells.registry import CELLS
from fastrnn._layer.merge import MERGES

T, B, I, H = 6, 3, 2, 4  # noqa: E741 - as in all the equations
LENGTHS = [6, 2, 0]

every_merge = pytest.mark.parametrize("merge", ["concat", *MERGES], ids=str)


def draw(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def state_of(cell, *shape):
    parts = tuple(draw(*shape, seed=i) for i, _ in enumerate(CELLS[cell].states, 5))
    return parts if len(parts) > 1 else parts[0]


def h_of(state):
    return state[0] if isinstance(state, tuple) else state


def in_state(cell, dh, dstate=None):
    """A dstate with dh added to its h, or with dh alone."""
    if len(CELLS[cell].states) == 1:
        return dh if dstate is None else dstate + dh
    return (dh, None) if dstate is None else (dstate[0] + dh, dstate[1])


def assert_same_gradients(got, wanted):
    assert_same_bits((got.flat, got.state), (wanted.flat, wanted.state))
    for name in ("x", "embedding"):
        a, b = getattr(got, name), getattr(wanted, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert_same_bits(a, b)


# ---- the last output -----------------------------------------------------------------------------


@every_backend
@every_cell
def test_the_last_output_of_one_direction_is_y_at_each_rows_last_step(cell, backend):
    layer, x = layer_of(cell, I, H, 2, dtype="float64"), draw(T, B, I)
    y, state = layer(x, lengths=LENGTHS)
    output = layer.last(state)
    assert_same_bits(output[:2], y[[5, 1], [0, 1]])
    assert_same_bits(output[2], np.zeros(H))  # the initial state: the row has no steps
    y, state = layer(x[:, 0])
    assert_same_bits(layer.last(state), y[-1])


@every_cell
def test_the_last_output_keeps_h_of_the_last_step_that_the_mask_lets_through(cell):
    layer, x = layer_of(cell, I, H, dtype="float64"), draw(T, B, I)
    mask = np.arange(T)[:, None] < [6, 3, 1]
    y, state = layer(x, mask=mask)
    assert_same_bits(layer.last(state), y[[5, 2, 0], [0, 1, 2]])


@every_cell
def test_with_reverse_it_is_y_at_the_first_step(cell):
    layer = layer_of(cell, I, H, reverse=True, dtype="float64")
    y, state = layer(draw(T, B, I), lengths=[6, 2, 1])
    assert_same_bits(layer.last(state), y[0])


@every_merge
@every_cell
def test_two_directions_are_merged_as_y_is(cell, merge):
    layer = layer_of(cell, I, H, 2, bidirectional=True, merge=merge, dtype="float64")
    _, state = layer(draw(T, B, I), lengths=LENGTHS)
    f, b = h_of(state)[-2:]
    wanted = {"concat": np.concatenate([f, b], 1), "sum": f + b, "mean": (f + b) / 2, "mul": f * b}
    assert_same_bits(layer.last(state), wanted.get(merge, (f, b)))


def test_it_is_a_new_array():
    layer = fastrnn.GRU(I, H, rng=0)
    _, h = layer(draw(T, B, I, dtype="float32"))
    assert not np.shares_memory(layer.last(h), h)


def test_a_frozen_layer_has_it_too_and_its_head_reads_it():
    layer = fastrnn.LSTM(I, H, bidirectional=True, batch_first=True, rng=0)
    x, head = draw(B, T, I, dtype="float32"), train.Dense(2 * H, 5, activation="softmax", rng=1)
    _, state = layer(x)
    assert_same_bits(layer.freeze().last(state), layer.last(state))
    frozen = layer.freeze(head=head)
    np.testing.assert_allclose(frozen.last(frozen(x)[1]), head(layer.last(state)), rtol=1e-6)


# ---- its gradient --------------------------------------------------------------------------------

CALLS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "mask": {"mask": np.arange(T)[:, None] < LENGTHS},
    "checkpoint": {"checkpoint": 2},
    "checkpoint and lengths": {"checkpoint": 4, "lengths": LENGTHS},
    "reset": {"reset": draw(T, B) > 0.3, "reset_to": "initial"},
}


@every_backend
@every_cell
@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("need_x", [True, False], ids=["need_x", ""])
def test_the_gradients_are_those_of_a_dstate_by_hand(cell, options, need_x, backend):
    layer, last = layer_of(cell, I, H, 2, dtype="float64"), draw(B, H)
    state = state_of(cell, 2, B, H)
    _, _, tape = layer.forward(draw(T, B, I), state, **options)
    dh = np.zeros((2, B, H))
    dh[-1] = last
    wanted = tape.backward(None, in_state(cell, dh), need_x=need_x)
    assert_same_gradients(tape.backward(last=last, need_x=need_x), wanted)


@every_backend
@every_cell
def test_it_is_added_to_the_gradients_of_y_and_of_the_final_state(cell, backend):
    layer, last = layer_of(cell, I, H, 2, dtype="float64"), draw(B, H)
    y, _, tape = layer.forward(draw(T, B, I), lengths=LENGTHS)
    dy, dstate, dh = draw(*y.shape, seed=2), state_of(cell, 2, B, H), np.zeros((2, B, H))
    dh[-1] = last
    before = pickle.dumps((dstate, last))
    got = tape.backward(dy, dstate, last=last)
    assert_same_gradients(got, tape.backward(dy, in_state(cell, dh, dstate)))
    assert pickle.dumps((dstate, last)) == before
    norms = tape.gradient_norms(dy, dstate, last=last)
    assert_same_bits(norms["h"], tape.gradient_norms(dy, in_state(cell, dh, dstate))["h"])


@every_backend
@every_merge
@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}], ids=["", "lengths"])
def test_the_gradients_of_two_directions_are_finite_differences(merge, options, backend):
    layer = fastrnn.LSTM(
        I, H, 2, bidirectional=True, merge=merge, proj_size=3, batch_first=True, dtype="float64",
        rng=0,
    )  # fmt: skip
    x, state = draw(B, T, I), (draw(4, B, 3, seed=1), draw(4, B, H, seed=2))
    _, final, tape = layer.forward(x, state, **options)
    d = draw(*np.shape(layer.last(final)), seed=3)
    final[0][...] = np.nan  # the tape must not read an array that is the user's
    grads = tape.backward(last=tuple(d) if merge is None else d)

    def loss(x):
        return np.vdot(np.asarray(layer.last(layer(x, state, **options)[1])), d)

    for seed in range(3):
        way, eps = draw(*x.shape, seed=seed + 10), 1e-6
        slope = (loss(x + eps * way) - loss(x - eps * way)) / (2 * eps)
        np.testing.assert_allclose(np.vdot(grads.x, way), slope, rtol=1e-6, atol=1e-10)


@every_merge
def test_an_unbatched_sequence_has_no_axis_of_rows(merge):
    layer = fastrnn.GRU(I, H, bidirectional=True, merge=merge, dtype="float64", rng=0)
    x = draw(T, 1, I)
    _, state, tape = layer.forward(x)
    _, state_of_one, tape_of_one = layer.forward(x[:, 0])
    output, of_one = np.asarray(layer.last(state)), np.asarray(layer.last(state_of_one))
    assert_same_bits(of_one, output[..., 0, :])
    d = draw(*output.shape)
    last, last_of_one = (tuple(a) if merge is None else a for a in (d, d[..., 0, :]))
    got = tape_of_one.backward(last=last_of_one)
    assert_same_bits(got.flat, tape.backward(last=last).flat)


def test_one_of_the_pair_may_be_none():
    layer = fastrnn.GRU(I, H, bidirectional=True, merge=None, dtype="float64", rng=0)
    _, _, tape = layer.forward(draw(T, B, I))
    d, zeros = draw(B, H), np.zeros((B, H))
    assert_same_bits(tape.backward(last=(None, d)).flat, tape.backward(last=(zeros, d)).flat)


def test_a_copy_of_the_tape_gives_the_same():
    layer = fastrnn.LSTM(I, H, bidirectional=True, merge="mul", rng=0)
    _, _, tape = layer.forward(draw(T, B, I, dtype="float32"))
    d = draw(B, H, dtype="float32")
    wanted = tape.backward(last=d)
    assert_same_gradients(pickle.loads(pickle.dumps(tape)).backward(last=d), wanted)


@every_cell
@pytest.mark.parametrize("reset_to", ["zero", "initial"])
def test_the_last_window_takes_it(cell, reset_to):
    layer, x, last = layer_of(cell, I, H, dtype="float64"), draw(T, B, I), draw(B, H)
    state, reset = state_of(cell, 1, B, H), draw(T, B) > 0.5
    options = {"reset": reset, "reset_to": reset_to, "lengths": [6, 5, 4]}
    *_, window = fastrnn.tbptt(layer, x, 3, T, state, **options)
    _, _, tape = layer.forward(x, state, **options)
    wanted = tape.backward(last=last)
    got = window.backward(last=last)
    assert_close(layer.last(window.state), layer.last(layer(x, state, **options)[1]), "float64")
    assert_close(got.flat, wanted.flat, "float64", 256)
    assert_close(got.x, wanted.x, "float64", 256)


@every_cell
def test_a_window_that_is_cut_at_a_reset_to_the_initial_state_takes_it(cell):
    """Such a window is computed in two runs, and each row's last output comes from one of them."""
    layer, state = layer_of(cell, I, H, dtype="float64"), state_of(cell, 1, B, H)
    options = {"reset": np.zeros((T, B), bool), "reset_to": "initial"}
    options["reset"][4, 1] = True
    *_, window = fastrnn.tbptt(layer, draw(T, B, I), 3, state=state, **options)
    last = draw(B, H)
    got, wanted = window.backward(last=last), window.backward(None, in_state(cell, last[None]))
    assert_same_gradients(got, wanted)
    assert_same_bits(got.initial, wanted.initial)


@pytest.mark.parametrize("cell", ["gru_after", "lstm"])
def test_a_window_takes_lists_of_numbers_as_a_tape_does(cell):
    layer, x, last = layer_of(cell, I, H, dtype="float64"), draw(T, 1, I), draw(1, H)
    reset = np.arange(T)[:, None] == T - 2
    *_, window = fastrnn.tbptt(layer, x, 3, reset=reset, reset_to="initial")
    wanted = window.backward(last=last)
    assert_same_gradients(window.backward(last=last.tolist()), wanted)
    dh = last[None].tolist()
    dstate = dh if cell == "gru_after" else [dh, None]
    assert_same_gradients(window.backward(None, dstate), wanted)


def test_a_many_to_one_model_learns():
    """Which of two marked steps was the larger one: a head on the last output."""
    rng, layer = np.random.default_rng(0), fastrnn.GRU(1, 8, bidirectional=True, rng=0)
    head = train.Dense(16, 2, rng=1)
    adam = train.Adam([layer, head], 0.02)
    for _ in range(150):
        x = rng.uniform(-1, 1, (5, 32, 1)).astype("float32")
        _, state, tape = layer.forward(x)
        output = layer.last(state)
        target = (x[0] > x[-1])[:, 0].astype(int)
        loss, d = train.cross_entropy(head(output), target)
        of_head = head.backward(output, d)
        adam.step([tape.backward(last=of_head.x, need_x=False), of_head])
    assert loss < 0.2


# ---- errors --------------------------------------------------------------------------------------


def calls():
    layer = fastrnn.LSTM(I, H, bidirectional=True, dtype="float64", rng=0)
    pair = fastrnn.GRU(I, H, bidirectional=True, merge=None, dtype="float64", rng=0)
    y, (h, c), tape = layer.forward(draw(T, B, I))
    of_pair, one = pair.forward(draw(T, B, I))[2], layer.forward(draw(T, I))[2]
    return {
        "nothing": (
            lambda: tape.backward(), ValueError, "must be the gradient of a loss, got None for each"
        ),
        "a pair of nothing": (
            lambda: tape.backward(dstate=(None, None)), ValueError, "got None for each"
        ),
        "pairs of nothing": (
            lambda: of_pair.backward((None, None), last=[None, None]),
            ValueError, "got None for each",
        ),
        "no norms of a pair of nothing": (
            lambda: tape.gradient_norms(dstate=(None, None)), ValueError, "got None for each"
        ),
        "no norms of nothing": (lambda: tape.gradient_norms(), ValueError, "give dy"),
        "a gradient of y": (
            lambda: tape.backward(last=y),
            ValueError, r"last must be \(B, directions\*hidden_size\) = \(3, 8\), got \(6, 3, 8\)"
        ),
        "one direction": (
            lambda: tape.backward(last=draw(B, H)), ValueError, r"= \(3, 8\), got \(3, 4\)"
        ),
        "float32": (
            lambda: tape.backward(last=draw(B, 2 * H, dtype="float32")), TypeError, "last must"
        ),
        "a batch": (lambda: one.backward(last=draw(1, 2 * H)), ValueError, r"= \(8,\), got"),
        "no pair": (lambda: of_pair.backward(last=draw(B, H)), ValueError, "last must be a pair"),
        "one of the pair": (
            lambda: of_pair.backward(last=(draw(B, H), draw(H))),
            ValueError, "last of the backward direction must be",
        ),
        "y for the state": (lambda: layer.last(y), ValueError, "state must be"),
        "h for the state": (lambda: layer.last(h), ValueError, "state must be"),
        "c alone": (lambda: layer.last((None, c)), ValueError, "must have the final h, got None"),
        "a part of h": (lambda: layer.last((h[-1], c[-1])), ValueError, r"got \(3, 4\)"),
        "a vector": (lambda: pair.last(h[0, 0]), ValueError, "whose h is"),
        "y of a GRU": (lambda: pair.last(draw(T, B, 2 * H)), ValueError, r"got \(6, 3, 8\)"),
    }  # fmt: skip


@pytest.mark.parametrize("name", calls())
def test_what_does_not_fit_is_refused(name):
    call, error, message = calls()[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("need_x", ["False", None, 0, np.array([True])], ids=str)
def test_need_x_is_a_bool_as_in_the_functions(need_x):
    layer, x = fastrnn.GRU(2, 3, rng=0), np.ones((4, 1, 2), "float32")
    y, h, tape = layer.forward(x)
    for window in (tape, *fastrnn.tbptt(layer, x, 2)):
        with pytest.raises(TypeError, match="need_x must be True or False, got"):
            window.backward(last=layer.last(h), need_x=need_x)
