"""RNN, LSTM, GRU: stacks, directions, shapes, and gradients by finite differences."""

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype, every_layout
from nets import B, Case, H, I, T, every_net
from problems import (
    BACKENDS,
    assert_close,
    assert_same_bits,
    at_once,
    layer_of,
    options_of,
    parameter_name,
    problem,
    weight_names,
)

import fastrnn
from fastrnn._cells.registry import CELLS


def everything(grads):
    return {"x": grads.x, "state": grads.state, "flat": grads.flat}


# ---- forward -------------------------------------------------------------------------------------


def by_hand(cell, layer, x, state):
    """The stack, computed by calls of the function, for x (T, B, I)."""
    cell = CELLS[cell]
    function, last = getattr(fastrnn, cell.function), []
    for index in range(layer.num_layers):
        sides = []
        for direction in range(layer.num_directions):
            end = f"_l{index}" + ("_reverse" if direction else "")
            weights = {w: layer.params.get(parameter_name(w, end)) for w in weight_names(cell)}
            row = index * layer.num_directions + direction
            backwards = layer.reverse or direction == 1
            first = tuple(s[row] for s in state) if len(cell.states) > 1 else state[row]
            y, final = function(x, first, **weights, reverse=backwards, **options_of(cell))
            sides.append(y)
            last.append(final if len(cell.states) > 1 else (final,))
        x = np.concatenate(sides, axis=2)
    last = tuple(np.stack(s) for s in zip(*last, strict=True))
    return x, last if len(cell.states) > 1 else last[0]


@every_backend
@every_cell
@every_dtype
@every_net
def test_a_layer_is_its_passes_one_after_another(cell, dtype, net, backend):
    case = Case(cell, net, dtype)
    first = case.layer.batch_first
    x = case.x.swapaxes(0, 1) if first else case.x
    y, state = by_hand(cell, case.layer, x, case.state)
    wanted = (y.swapaxes(0, 1) if first else y, state)
    got, trained = case.layer(case.x, case.state), case.layer.forward(case.x, case.state)[:2]
    for answer in (got, trained):
        if backend == "core":
            assert_same_bits(answer, wanted)
        else:
            assert_close(answer, wanted, dtype)


@every_cell
@every_dtype
@every_net
def test_the_backends_agree(cell, dtype, net):
    answers = []
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            case = Case(cell, net, dtype)
            answers.append((case.layer(case.x, case.state), everything(case.gradients())))
    for answer in answers[1:]:
        assert_close(answer, answers[0], dtype, factor=256)


@every_backend
@every_cell
@every_net
def test_shapes_are_as_documented(cell, net, backend):
    case = Case(cell, net)
    layer, passes = case.layer, case.layer.num_layers * case.layer.num_directions
    y, state = layer(case.x)
    assert y.shape == (*case.x.shape[:2], H * layer.num_directions)
    assert [s.shape for s in case.unpacked(state)] == [(passes, B, H)] * len(case.names)
    y, state = layer(case.x[0])
    assert y.shape == (len(case.x[0]), H * layer.num_directions)
    assert [s.shape for s in case.unpacked(state)] == [(passes, H)] * len(case.names)


@every_backend
@every_cell
@every_net
def test_a_state_of_none_is_zeros(cell, net, backend):
    case = Case(cell, net)
    zeros = case.packed([np.zeros_like(s) for s in case.unpacked(case.state)])
    assert_same_bits(case.layer(case.x), case.layer(case.x, zeros))


@every_backend
@every_cell
@every_net
def test_a_sequence_without_a_batch_is_a_batch_of_one(cell, net, backend):
    case = Case(cell, net)
    first = case.layer.batch_first
    one = (slice(1, 2), slice(None)) if first else (slice(None), slice(1, 2))
    row = (1, slice(None)) if first else (slice(None), 1)
    pick = [(s[:, 1:2], s[:, 1]) for s in case.unpacked(case.state)]
    dpick = [(s[:, 1:2], s[:, 1]) for s in case.unpacked(case.dstate)]
    answers = []
    for k, index in enumerate((one, row)):
        state, dstate = (case.packed([p[k] for p in part]) for part in (pick, dpick))
        y, last, tape = case.layer.forward(case.x[index], state)
        grads = tape.backward(case.dy[index], dstate)
        flat = (y, *case.unpacked(last), grads.x, *case.unpacked(grads.state), grads.flat)
        answers.append([np.squeeze(array) for array in flat])
    assert_close(answers[1], answers[0], "float64")


@every_backend
@every_cell
def test_batch_first_is_the_same_with_axes_exchanged(cell, backend):
    case, other = (Case(cell, {"num_layers": 2, "batch_first": f}) for f in (False, True))
    other.layer.flat[...] = case.layer.flat
    x = np.ascontiguousarray(case.x.swapaxes(0, 1))
    y, state, tape = case.layer.forward(case.x, case.state)
    y_other, state_other, tape_other = other.layer.forward(x, case.state)
    assert_close((y_other.swapaxes(0, 1), state_other), (y, state), "float64")
    grads = tape.backward(case.dy, case.dstate)
    grads_other = tape_other.backward(case.dy.swapaxes(0, 1), case.dstate)
    assert grads_other.x.shape == x.shape
    assert_close(grads_other.x.swapaxes(0, 1), grads.x, "float64")
    assert_close(grads_other.flat, grads.flat, "float64")


@every_backend
@every_cell
@every_net
@pytest.mark.parametrize("zero", ["T", "B", "I"])
def test_sizes_of_zero_are_defined(cell, net, zero, backend):
    sizes = [0 if name == zero else size for name, size in zip("TBIH", (T, B, I, H), strict=True)]
    case = Case(cell, net, sizes=sizes)
    y, last, tape = case.layer.forward(case.x, case.state)
    grads = tape.backward(case.dy, case.dstate)
    assert y.shape == case.dy.shape and grads.x.shape == case.x.shape
    if zero == "T":
        assert_same_bits((last, grads.state), (case.state, case.dstate))
    if zero in "TB":
        assert not grads.flat.any()
    else:
        assert grads.flat.any()
    assert_same_bits(case.layer(case.x, case.state), (y, last))


@every_backend
@every_cell
@every_layout
def test_arrays_may_lie_in_memory_as_they_like(cell, layout, backend):
    case = Case(cell, {"num_layers": 2, "bidirectional": True})
    wanted = (case.layer(case.x, case.state), everything(case.gradients()))
    case.x, case.dy = layout(case.x), layout(case.dy)
    case.state = case.packed([layout(s) for s in case.unpacked(case.state)])
    case.dstate = case.packed([layout(s) for s in case.unpacked(case.dstate)])
    assert_close((case.layer(case.x, case.state), everything(case.gradients())), wanted, "float64")


@every_backend
@every_cell
def test_a_new_array_put_in_the_place_of_a_parameter_is_used_or_refused(cell, backend):
    """The kernels must not read beyond its end."""
    case = Case(cell, {})
    g = CELLS[cell].gates
    before = case.layer(case.x)[0]
    case.layer.params["weight_ih_l0"] = np.zeros((g * H, I))
    changed = case.layer(case.x)[0]
    assert (changed != before).any()
    for name in list(case.layer.params):
        size, shape = case.layer.params[name].size, case.layer.params[name].shape
        for bad in (np.zeros((1, 1)), np.zeros(shape, "float32"), np.zeros(size + 1)):
            with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
                case.layer.params[name] = bad
    assert_same_bits(case.layer(case.x)[0], changed)


# ---- backward ------------------------------------------------------------------------------------

STEP = 1e-5


@every_backend
@every_cell
@every_net
def test_gradients_are_the_finite_differences_of_the_loss(cell, net, backend):
    case = Case(cell, net, sizes=(3, 2, 2, 3), seed=3)
    grads = case.gradients()
    pairs = [("x", case.x, grads.x), ("flat", case.layer.flat, grads.flat)]
    states = zip(case.unpacked(case.state), case.unpacked(grads.state), strict=True)
    pairs += [(name, *pair) for name, pair in zip(case.names, states, strict=True)]
    for name, array, gradient in pairs:
        assert gradient.shape == array.shape
        flat, slope = array.reshape(-1), np.empty(array.size)
        for k in range(flat.size):
            here = flat[k]
            flat[k] = here + STEP
            above = case.loss()
            flat[k] = here - STEP
            slope[k] = (above - case.loss()) / (2 * STEP)
            flat[k] = here
        np.testing.assert_allclose(gradient.reshape(-1), slope, rtol=1e-6, atol=2e-9, err_msg=name)
        assert np.abs(gradient).max() > 1e-3


@every_backend
@every_cell
@every_net
def test_gradients_of_parameters_are_views_in_the_order_of_flat(cell, net, backend):
    case = Case(cell, net)
    grads = case.gradients()
    assert grads.params.keys() == case.layer.params.keys()
    assert grads.flat.shape == case.layer.flat.shape and grads.flat.dtype == case.layer.flat.dtype
    for name, array in grads.params.items():
        assert array.shape == case.layer.params[name].shape
        assert np.shares_memory(array, grads.flat)
    assert_same_bits(np.concatenate([p.reshape(-1) for p in grads.params.values()]), grads.flat)


@every_backend
@every_cell
@every_net
def test_a_gradient_not_given_is_zero(cell, net, backend):
    case = Case(cell, net)
    _, _, tape = case.layer.forward(case.x, case.state)
    no_dy, zeros = np.zeros_like(case.dy), [np.zeros_like(s) for s in case.unpacked(case.dstate)]
    for given, whole in [
        ((case.dy,), (case.dy, case.packed(zeros))),
        ((None, case.dstate), (no_dy, case.dstate)),
        ((no_dy,), (no_dy, case.packed(zeros))),
    ]:
        assert_close(
            everything(tape.backward(*given)), everything(tape.backward(*whole)), "float64"
        )
    if len(case.names) == 2:
        for h, c in ((case.dstate[0], None), (None, case.dstate[1])):
            whole = (zeros[0] if h is None else h, zeros[1] if c is None else c)
            assert_close(
                everything(tape.backward(None, (h, c))), everything(tape.backward(None, whole)),
                "float64",
            )  # fmt: skip


@every_backend
@every_cell
@every_net
def test_backward_may_run_again(cell, net, backend):
    case = Case(cell, net)
    _, _, tape = case.layer.forward(case.x, case.state)
    first = everything(tape.backward(case.dy, case.dstate))
    tape.backward(2 * case.dy)
    assert_same_bits(everything(tape.backward(case.dy, case.dstate)), first)


@every_backend
@every_cell
@every_net
def test_the_gradient_of_x_is_left_out_if_not_needed(cell, net, backend):
    case = Case(cell, net)
    _, _, tape = case.layer.forward(case.x, case.state)
    with_x, without = (tape.backward(case.dy, case.dstate, need_x=n) for n in (True, False))
    assert without.x is None
    assert_same_bits((without.state, without.flat), (with_x.state, with_x.flat))


@every_backend
@every_cell
def test_tapes_of_two_calls_are_separate(cell, backend):
    case = Case(cell, {"num_layers": 2})
    wanted = everything(case.gradients())
    _, _, tape = case.layer.forward(case.x, case.state)
    case.layer.forward(2 * case.x)
    case.layer(3 * case.x)
    assert_same_bits(everything(tape.backward(case.dy, case.dstate)), wanted)


@every_backend
@every_cell
def test_a_tape_does_not_depend_on_the_state_and_gradients_it_was_given(cell, backend):
    case = Case(cell, {"num_layers": 2})
    wanted = everything(case.gradients())
    _, last, tape = case.layer.forward(case.x, case.state)
    for array in (*case.unpacked(case.state), *case.unpacked(last)):
        array.fill(np.nan)
    got = tape.backward(case.dy, case.dstate)
    case.dy.fill(np.nan)
    assert_same_bits(everything(got), wanted)


@every_backend
@every_cell
@every_net
def test_y_of_a_training_pass_is_read_only_and_of_inference_is_not(cell, net, backend):
    case = Case(cell, net)
    y, state, _ = case.layer.forward(case.x)
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 0
    assert all(s.flags.writeable for s in case.unpacked(state))
    assert case.layer(case.x)[0].flags.writeable


@every_cell
def test_a_tape_remembers_the_backend_that_made_it(cell):
    if len(BACKENDS) < 2:
        pytest.skip("one backend here")
    case = Case(cell, {"num_layers": 2, "bidirectional": True})
    for maker, other in (("core", "reference"), ("reference", "core")):
        with fastrnn.backend(maker):
            wanted = everything(case.gradients())
            _, _, tape = case.layer.forward(case.x, case.state)
        with fastrnn.backend(other):
            assert_same_bits(everything(tape.backward(case.dy, case.dstate)), wanted)


@every_cell
def test_one_layer_may_train_in_many_threads_at_once(cell):
    cases = [Case(cell, {"num_layers": 2}, seed=k) for k in range(3)]
    for case in cases:
        case.layer = cases[0].layer
    calls = [lambda case=case: everything(case.gradients()) for case in cases]
    wanted, got = [call() for call in calls], at_once(calls, 5)
    for answers, answer in zip(got, wanted, strict=True):
        assert len(answers) == 5
        for one in answers:
            assert_same_bits(one, answer)


@pytest.mark.parametrize("reads", range(1, 5))
def test_another_thread_may_call_the_layer_on_another_batch_at_any_point(reads):
    """The layer keeps one zero state. Here, after some reads, it becomes another thread's."""

    class Contended(fastrnn.GRU):
        left = reads

        @property
        def _zeros(self):
            found, self.left = self.kept, self.left - 1
            if self.left == 0:
                self.kept = self._structure.new_state(1, np.zeros)
            return found

        @_zeros.setter
        def _zeros(self, value):
            self.kept = value

    layer, x = Contended(3, 5, rng=0), np.ones((2, 4, 3), "float32")
    wanted = fastrnn.GRU(3, 5, rng=0)(x)
    for _ in range(3):
        assert_same_bits(layer(x), wanted)


@every_backend
@every_cell
def test_steps_against_the_gradient_make_the_loss_smaller(cell, backend):
    """A training loop as users write it."""
    p, layer, losses = problem(cell, 6, 4, 3, 8, dtype="float32"), layer_of(cell, 3, 8, 2), []
    for _ in range(10):
        y, _, tape = layer.forward(p.x)
        error = y - np.tanh(p.dy)
        losses.append(float(np.square(error).sum()))
        layer.flat -= 0.001 * tape.backward(2 * error, need_x=False).flat
    assert losses == sorted(losses, reverse=True)


# ---- reversed ------------------------------------------------------------------------------------


@every_backend
@every_cell
@every_dtype
def test_a_reversed_layer_is_the_layer_on_x_turned_round(cell, dtype, backend):
    case = Case(cell, {"num_layers": 2, "reverse": True}, dtype)
    plain = layer_of(cell, I, H, 2, dtype=dtype)
    plain.load(case.layer.params)
    y, state, tape = case.layer.forward(case.x, case.state)
    turned = plain.forward(case.x[::-1], case.state)
    assert_same_bits((y, state), (turned[0][::-1], turned[1]))
    assert_same_bits(case.layer(case.x, case.state), (y, state))
    got, wanted = (
        tape.backward(case.dy, case.dstate),
        turned[2].backward(case.dy[::-1], case.dstate),
    )
    assert_same_bits((got.x, got.state), (wanted.x[::-1], wanted.state))
    assert_close(got.flat, wanted.flat, dtype, factor=256)


@every_backend
@every_cell
def test_a_reversed_layer_begins_at_the_last_step_of_each_row(cell, backend):
    case = Case(cell, {"reverse": True})
    lengths = [T, 2, 0][:B]
    y, state = case.layer(case.x, case.state, lengths=lengths)
    for b, length in enumerate(lengths):
        first = case.packed([s[:, b] for s in case.unpacked(case.state)])
        alone, last = case.layer(case.x[:length, b], first)
        got = y[:length, b], *(s[:, b] for s in case.unpacked(state))
        assert_close(got, (alone, *case.unpacked(last)), "float64")
        assert not y[length:, b].any()


def test_a_layer_is_reversed_or_bidirectional():
    with pytest.raises(ValueError, match="reverse must be False with bidirectional=True"):
        fastrnn.LSTM(I, H, bidirectional=True, reverse=True)
    assert "reverse=True" in repr(fastrnn.GRU(I, H, reverse=True))
    assert "reverse=True" in repr(fastrnn.GRU(I, H, reverse=True).freeze())
    with pytest.raises(AttributeError, match="reverse cannot be changed"):
        fastrnn.GRU(I, H).reverse = True
