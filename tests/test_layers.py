"""RNN, LSTM, GRU: parameters, stacks, directions, shapes, and gradients by finite differences."""

import copy
import pickle
import threading

import numpy as np
import pytest
from problems import (
    BACKENDS,
    DTYPES,
    LAYOUTS,
    assert_close,
    assert_same_bits,
    layer_of,
    options_of,
    problem,
)

import fastrnn
from fastrnn.cells import CELLS

every_cell = pytest.mark.parametrize("cell", CELLS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
NETS = {
    "one": {},
    "stacked": {"num_layers": 3},
    "both ways": {"bidirectional": True},
    "stacked both ways": {"num_layers": 2, "bidirectional": True},
    "no bias": {"num_layers": 2, "bias": False},
    "batch first": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
T, B, I, H = 4, 3, 2, 5  # noqa: E741 - as in all the equations


def draw(rng, *shape, dtype="float64"):
    return rng.uniform(-1, 1, shape).astype(dtype)


class Case:
    """A layer with everything that goes into it and comes back to it."""

    def __init__(self, cell, net, dtype="float64", sizes=(T, B, I, H), seed=0):
        t, b, i, h = sizes
        rng = np.random.default_rng(seed)
        self.layer = layer_of(cell, i, h, dtype=dtype, rng=rng, **net)
        passes = self.layer.num_layers * self.layer.num_directions
        lead = (b, t) if self.layer.batch_first else (t, b)
        self.names = CELLS[cell].states
        self.x = draw(rng, *lead, i, dtype=dtype)
        self.dy = draw(rng, *lead, h * self.layer.num_directions, dtype=dtype)
        self.state, self.dstate = (
            self.packed([draw(rng, passes, b, h, dtype=dtype) for _ in self.names]) for _ in (0, 1)
        )

    def packed(self, arrays):
        return tuple(arrays) if len(self.names) > 1 else arrays[0]

    def unpacked(self, state):
        return state if len(self.names) > 1 else (state,)

    def gradients(self):
        _, _, tape = self.layer.forward(self.x, self.state)
        return tape.backward(self.dy, self.dstate)

    def loss(self):
        y, state = self.layer(self.x, self.state)
        pairs = zip(self.unpacked(state), self.unpacked(self.dstate), strict=True)
        return np.vdot(y, self.dy) + sum(np.vdot(s, d) for s, d in pairs)


def everything(grads):
    return {"x": grads.x, "state": grads.state, "flat": grads.flat}


# ---- parameters ----------------------------------------------------------------------------------


@every_cell
def test_parameters_have_the_names_and_shapes_of_pytorch(cell):
    g = CELLS[cell].gates
    layer = layer_of(cell, I, H, 2, bidirectional=True)
    assert {name: array.shape for name, array in layer.params.items()} == {
        "weight_ih_l0": (g * H, I),
        "weight_hh_l0": (g * H, H),
        "bias_ih_l0": (g * H,),
        "bias_hh_l0": (g * H,),
        "weight_ih_l0_reverse": (g * H, I),
        "weight_hh_l0_reverse": (g * H, H),
        "bias_ih_l0_reverse": (g * H,),
        "bias_hh_l0_reverse": (g * H,),
        "weight_ih_l1": (g * H, 2 * H),
        "weight_hh_l1": (g * H, H),
        "bias_ih_l1": (g * H,),
        "bias_hh_l1": (g * H,),
        "weight_ih_l1_reverse": (g * H, 2 * H),
        "weight_hh_l1_reverse": (g * H, H),
        "bias_ih_l1_reverse": (g * H,),
        "bias_hh_l1_reverse": (g * H,),
    }
    names = layer_of(cell, I, H, 2, bias=False).params.keys()
    assert list(names) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]


def assert_views_of_flat(layer):
    """In order, without a gap: what is written into one is read in the other."""
    before = layer.flat.copy()
    layer.flat[...] = np.arange(layer.flat.size)
    assert_same_bits(np.concatenate([p.reshape(-1) for p in layer.params.values()]), layer.flat)
    for name in layer.params:
        layer.params[name][...] = 7
    assert (layer.flat == 7).all()
    layer.flat[...] = before


@every_cell
@every_dtype
@every_net
def test_parameters_are_views_into_flat(cell, dtype, net):
    layer = layer_of(cell, I, H, dtype=dtype, **net)
    assert layer.flat.ndim == 1 and layer.flat.dtype == dtype
    assert_views_of_flat(layer)


@every_cell
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)  # fmt: skip
def test_a_copy_of_a_layer_is_a_layer_of_its_own(cell, duplicate):
    layer = layer_of(cell, I, H, 2, bidirectional=True)
    other, x = duplicate(layer), np.ones((T, B, I), "float32")
    assert_same_bits(other(x), layer(x))
    assert not np.shares_memory(other.flat, layer.flat)
    assert_views_of_flat(other)


@every_cell
def test_parameters_begin_uniform_within_one_over_the_root_of_the_units(cell):
    flat = layer_of(cell, 30, 16, 2).flat
    assert np.abs(flat).max() <= 0.25
    assert np.histogram(flat, 8, (-0.25, 0.25))[0].min() > flat.size / 8 * 0.7
    assert abs(flat.mean()) < 0.02


@every_cell
@every_dtype
def test_the_same_rng_gives_the_same_parameters(cell, dtype):
    def flat(rng):
        return layer_of(cell, I, H, 2, dtype=dtype, rng=rng).flat

    assert_same_bits(flat(7), flat(7))
    assert_same_bits(flat(np.random.default_rng(7)), flat(7))
    for other in (8, None):
        assert (flat(other) != flat(7)).any()
    assert (flat(None) != flat(None)).any()
    generator = np.random.default_rng(7)
    assert (flat(generator) != flat(generator)).any()


@every_cell
def test_the_generator_of_numpy_is_left_alone(cell):
    before = np.random.get_state()[1].copy()
    layer_of(cell, I, H, rng=None)
    assert_same_bits(np.random.get_state()[1], before)


def test_repr_is_what_makes_the_layer():
    assert repr(fastrnn.LSTM(3, 5)) == 'fastrnn.LSTM(3, 5, dtype="float32")'
    assert repr(fastrnn.GRU(3, 5)) == 'fastrnn.GRU(3, 5, dtype="float32")'
    assert repr(fastrnn.RNN(3, 5)) == 'fastrnn.RNN(3, 5, nonlinearity="tanh", dtype="float32")'


@every_cell
@every_dtype
@every_net
def test_repr_evaluates_to_the_same_layer(cell, dtype, net):
    layer = layer_of(cell, I, H, dtype=dtype, **net)
    again = eval(repr(layer), {"fastrnn": fastrnn})
    assert repr(again) == repr(layer)
    assert type(again) is type(layer)
    assert [p.shape for p in again.params.values()] == [p.shape for p in layer.params.values()]
    assert (again.batch_first, again.dtype) == (layer.batch_first, layer.dtype)


# ---- forward -------------------------------------------------------------------------------------


def by_hand(cell, layer, x, state):
    """The stack from calls of the function, for (T, B, I)."""
    cell = CELLS[cell]
    function, last = getattr(fastrnn, cell.function), []
    for index in range(layer.num_layers):
        sides = []
        for direction in range(layer.num_directions):
            end = f"_l{index}" + ("_reverse" if direction else "")
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [layer.params.get(name + end) for name in names]
            row = index * layer.num_directions + direction
            first = tuple(s[row] for s in state) if len(cell.states) > 1 else state[row]
            y, final = function(x, first, *weights, reverse=direction == 1, **options_of(cell))
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


@pytest.mark.usefixtures("core")
@every_cell
def test_a_new_array_put_in_the_place_of_a_parameter_is_used_or_refused(cell):
    """Never read beyond its end."""
    case = Case(cell, {})
    g = CELLS[cell].gates
    case.layer.params["weight_ih_l0"] = np.zeros((g * H, I))
    case.layer(case.x)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        kept = case.layer.params[name]
        for bad in (np.zeros((1, 1)), np.zeros(kept.shape, "float32"), np.zeros(kept.size + 1)):
            case.layer.params[name] = bad
            with pytest.raises((TypeError, ValueError, IndexError)):
                case.layer(case.x)
        case.layer.params[name] = kept


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
        ((None,), (no_dy, case.packed(zeros))),
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
def test_tapes_of_two_calls_are_apart(cell, backend):
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
    wanted, got = [everything(case.gradients()) for case in cases], [[] for _ in cases]

    def work(k):
        got[k].extend(everything(cases[k].gradients()) for _ in range(5))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(cases))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for answers, answer in zip(got, wanted, strict=True):
        assert len(answers) == 5
        for one in answers:
            assert_same_bits(one, answer)


@every_backend
@every_cell
def test_steps_against_the_gradient_make_the_loss_smaller(cell, backend):
    """Training, as it is meant to be written."""
    p, layer, losses = problem(cell, 6, 4, 3, 8, dtype="float32"), layer_of(cell, 3, 8, 2), []
    for _ in range(10):
        y, _, tape = layer.forward(p.x)
        error = y - np.tanh(p.dy)
        losses.append(float(np.square(error).sum()))
        layer.flat -= 0.001 * tape.backward(2 * error, need_x=False).flat
    assert losses == sorted(losses, reverse=True)


# ---- dropout -------------------------------------------------------------------------------------


@every_backend
@every_cell
def test_dropout_acts_between_layers_and_in_training_alone(cell, backend):
    net = {"num_layers": 2, "bidirectional": True}
    plain, case = Case(cell, net), Case(cell, net | {"dropout": 0.5})
    assert_same_bits(case.layer(case.x, case.state), plain.layer(plain.x, plain.state))
    assert (case.layer.forward(case.x)[0] != plain.layer.forward(plain.x)[0]).any()
    one = Case(cell, {"dropout": 0.5})
    assert_same_bits(one.layer.forward(one.x)[0], one.layer(one.x)[0])


@every_backend
@every_cell
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_gradients_through_dropout_are_finite_differences(cell, first, backend):
    case = Case(cell, {"num_layers": 3, "dropout": 0.4, "batch_first": first})
    start, eps = copy.deepcopy(case.layer), 1e-6

    def loss(x, flat):
        layer = copy.deepcopy(start)  # which draws the same
        layer.flat[...] = flat
        return np.vdot(layer.forward(x, case.state)[0], case.dy)

    grads = case.layer.forward(case.x, case.state)[2].backward(case.dy)
    rng = np.random.default_rng(5)
    for _ in range(5):
        way_x, way = draw(rng, *case.x.shape), draw(rng, start.flat.size)
        sides = [loss(case.x + e * way_x, start.flat + e * way) for e in (eps, -eps)]
        along = np.vdot(grads.x, way_x) + np.vdot(grads.flat, way)
        np.testing.assert_allclose(along, (sides[0] - sides[1]) / (2 * eps), rtol=1e-6)


@every_dtype
@pytest.mark.parametrize("p", [0.0, 0.1, 0.75, 1.0])
def test_dropout_keeps_the_mean_and_draws_from_rng(dtype, p):
    layers = [fastrnn.GRU(2, 3, 2, dropout=p, dtype=dtype, rng=7) for _ in range(2)]
    ones = np.ones((100, 100), dtype)
    (x, factors), (again, _) = (layer._dropped(ones) for layer in layers)
    assert x.dtype == factors.dtype == dtype
    assert_same_bits(again, x)
    assert abs((x == 0).mean() - p) < 0.02
    assert p == 1 or abs(x.mean() - 1) < 0.02 / (1 - p)
    assert (layers[0]._dropped(ones)[0] != x).any() == (p not in (0, 1))


@pytest.mark.parametrize(
    ("dropout", "error"),
    [(-0.1, ValueError), (1.1, ValueError), (np.nan, ValueError), (True, ValueError),
     ("much", TypeError), (None, TypeError)],
)  # fmt: skip
def test_a_dropout_that_is_no_probability_is_refused(dropout, error):
    with pytest.raises(error, match="dropout must be"):
        fastrnn.LSTM(2, 3, dropout=dropout)


# ---- load ----------------------------------------------------------------------------------------


@every_cell
@every_dtype
@every_net
def test_a_layer_loads_what_another_has(cell, dtype, net):
    one, other = (layer_of(cell, I, H, dtype=dtype, **{**net, "rng": seed}) for seed in (1, 2))
    other.load(one.params)
    assert_same_bits(other.flat, one.flat)
    assert_views_of_flat(other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: p.pop("bias_hh_l1"), ValueError, "missing are bias_hh_l1; unknown are none"),
        (lambda p: p.update(w=p["bias_hh_l1"]), ValueError, "missing are none; unknown are w"),
        (lambda p: p.update(bias_hh_l1=np.zeros(3, "f4")), ValueError, "bias_hh_l1 must be"),
        (lambda p: p.update(bias_hh_l1=np.zeros(4 * H)), TypeError, "bias_hh_l1 must be float32"),
        (lambda p: p.update(bias_hh_l1="b"), TypeError, "bias_hh_l1 must be an array"),
        (lambda p: p.update(weight_ih_l0=p["weight_ih_l0"].T), ValueError, "transposed"),
    ],
)
def test_what_does_not_fit_is_not_loaded(change, error, message):
    layer = layer_of("lstm", I, H, 2)
    params, before = dict(layer_of("lstm", I, H, 2, rng=1).params), layer.flat.copy()
    change(params)
    with pytest.raises(error, match=message):
        layer.load(params)
    assert_same_bits(layer.flat, before)
