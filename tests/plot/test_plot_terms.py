"""`memory_of`: the terms' sum is the state, for all cells, passes, rows, dtypes and options."""

import copy
import pickle

import numpy as np
import pytest
from decorators import both_ways, every_backend, every_dtype
from problems import layer_of

import fastrnn
from fastrnn import plot
from fastrnn.plot import _terms

GATED = ["lstm", "gru_after", "gru_before", "min_gru", "min_lstm"]
every_gated_cell = pytest.mark.parametrize("cell", GATED)
T, B, H = 9, 4, 5
LENGTHS = np.array([9, 4, 0, 7])


def batch(layer, seed=0):
    """x, and an initial state for each pass."""
    rng = np.random.default_rng(seed)
    passes = layer.num_layers * layer.num_directions
    x, *state = (
        rng.standard_normal(shape).astype(layer.dtype)
        for shape in [(T, B, 3), *((passes, B, size) for size in layer._structure.state_sizes)]
    )
    return x, tuple(state) if len(state) > 1 else state[0]


def flags(seed=1):
    rng = np.random.default_rng(seed)
    return {"mask": rng.random((T, B)) < 0.7, "reset": rng.random((T, B)) < 0.3}


def summed(state):
    """The state that is a sum: c, or h of a cell without c."""
    return state[-1] if isinstance(state, tuple) else state


def states(layer, x, state, **rows):
    """(T, B, H): the state after each step, from a run of a layer of one pass up to that step."""
    found = []
    for t in range(T):
        steps = slice(t, None) if layer.reverse else slice(t + 1)
        now = {name: a[steps] for name, a in rows.items()}
        found.append(summed(layer(x[steps], state, **now)[1])[0])
    return np.array(found)


def assert_is_sum(memory, wanted, dtype):
    """The sum of the terms is the state, up to rounding in the layer's dtype."""
    atol = 8 * float(np.finfo(dtype).eps) * max(1, np.abs(wanted).max(initial=0))
    terms = [memory.terms(t) for t in range(len(wanted))]
    sums = np.array([each.sum(0) for each in terms]).reshape(wanted.shape)
    np.testing.assert_allclose(sums, wanted, rtol=0, atol=atol)
    np.testing.assert_allclose(memory.state, wanted, rtol=0, atol=atol)
    if len(terms):
        sizes = np.array([np.abs(each).sum(1) for each in terms]).T
        np.testing.assert_allclose(memory.sizes, sizes, rtol=1e-12, atol=1e-300)


# ---- the sum is the state ------------------------------------------------------------------------


@every_backend
@every_gated_cell
@every_dtype
@both_ways
def test_the_terms_sum_to_the_state(cell, dtype, reverse, backend):
    layer = layer_of(cell, 3, H, dtype=dtype, reverse=reverse)
    x, state = batch(layer)
    with fastrnn.backend(backend):
        _, _, gates = layer(x, state, return_gates=True)
        wanted = states(layer, x, state)
    for row in range(B):
        memory = plot.memory_of(gates, row)
        assert memory.reverse == reverse
        assert_is_sum(memory, wanted[:, row], dtype)


@every_backend
@every_gated_cell
@both_ways
@pytest.mark.parametrize("reset_to", ["zero", "initial"])
def test_masks_and_resets_are_in_the_sum(cell, reset_to, reverse, backend):
    layer = layer_of(cell, 3, H, dtype="float64", reverse=reverse)
    x, state = batch(layer)
    with fastrnn.backend(backend):
        _, _, gates = layer(x, state, reset_to=reset_to, return_gates=True, **flags())
        wanted = []
        for t in range(T):
            steps = slice(t, None) if reverse else slice(t + 1)
            now = {name: a[steps] for name, a in flags().items()}
            wanted.append(summed(layer(x[steps], state, reset_to=reset_to, **now)[1])[0])
    for row in range(B):
        assert_is_sum(plot.memory_of(gates, row), np.array(wanted)[:, row], "float64")


@every_backend
@every_gated_cell
@every_dtype
def test_every_pass_of_a_stack_ends_in_its_final_state(cell, dtype, backend):
    layer = layer_of(cell, 3, H, 2, bidirectional=True, dtype=dtype)
    x, state = batch(layer)
    with fastrnn.backend(backend):
        _, last, gates = layer(x, state, lengths=LENGTHS, return_gates=True, **flags())
    for index in range(4):
        for row, n in enumerate(LENGTHS):
            memory = plot.memory_of(gates, row, index)
            assert memory.written.shape == (n, H) and memory.sizes.shape == (n + 1, n)
            assert memory.reverse == bool(index % 2)
            if n:
                end = memory.terms(0 if memory.reverse else -1).sum(0)
                atol = 32 * np.finfo(dtype).eps
                np.testing.assert_allclose(end, summed(last)[index, row], rtol=0, atol=atol)


VARIANTS = {
    "peepholes": ("lstm", {"peephole": True}),
    "coupled gates": ("lstm", {"coupled": True}),
    "normalised": ("lstm", {"layer_norm": True}),
    "normalised GRU": ("gru_after", {"layer_norm": True}),
    "clip": ("lstm", {"clip": 0.3}),
    "clip of a GRU": ("gru_before", {"clip": 0.3}),
    "hard sigmoid": ("lstm", {"recurrent_activation": "hard_sigmoid"}),
    "projected": ("lstm", {"proj_size": 2}),
    "recurrent dropout": ("lstm", {"recurrent_dropout": 0.5}),
    "recurrent dropout of a GRU": ("gru_after", {"recurrent_dropout": 0.5}),
    "by batch": ("lstm", {"batch_first": True}),
}


@every_backend
@pytest.mark.parametrize("cell, options", VARIANTS.values(), ids=VARIANTS)
def test_options_that_act_on_the_gates_leave_the_sum_exact(cell, options, backend):
    layer = layer_of(cell, 3, H, dtype="float64", **options)
    x, state = batch(layer)
    x = x.swapaxes(0, 1) if layer.batch_first else x
    with fastrnn.backend(backend):
        _, last, tape = layer.forward(x, state)
    for row in range(B):
        end = plot.memory_of(tape.gates(), row).terms(-1).sum(0)
        np.testing.assert_allclose(end, summed(last)[0, row], rtol=0, atol=1e-13)


def test_a_single_sequence_and_a_frozen_layer_have_it_too():
    layer = layer_of("lstm", 3, H, dtype="float64")
    x, state = batch(layer)
    _, (_, c), gates = layer(x[:, 0], tuple(s[:, 0] for s in state), return_gates=True)
    np.testing.assert_allclose(plot.memory_of(gates).terms(-1).sum(0), c[0], atol=1e-14)
    _, (_, c), gates = layer.freeze()(x, state, return_gates=True)
    np.testing.assert_allclose(plot.memory_of(gates, 3).terms(-1).sum(0), c[0, 3], atol=1e-14)


def test_a_pickled_dict_keeps_the_run():
    layer = layer_of("gru_after", 3, H, dtype="float64")
    x, state = batch(layer)
    _, _, gates = layer(x, state, return_gates=True, **flags())
    again = pickle.loads(pickle.dumps(gates))
    np.testing.assert_array_equal(plot.memory_of(again, 1).sizes, plot.memory_of(gates, 1).sizes)


def test_copies_of_the_dict_keep_the_run():
    layer = layer_of("gru_after", 3, H, dtype="float64")
    x, state = batch(layer)
    _, _, gates = layer(x, state, return_gates=True, **flags())
    for again in (gates.copy(), copy.copy(gates), copy.deepcopy(gates)):
        np.testing.assert_array_equal(
            plot.memory_of(again, 1).sizes, plot.memory_of(gates, 1).sizes
        )


@pytest.mark.parametrize("part", [np.s_[:, :4], np.s_[:, :, 1:], np.s_[..., :2]], ids=str)
def test_parts_of_arrays_do_not_fit_the_run(part):
    layer = layer_of("gru_after", 3, H)
    x, state = batch(layer)
    _, _, gates = layer(x, state, return_gates=True, **flags())
    for name in gates:
        gates[name] = gates[name][part]
    with pytest.raises(ValueError, match="must be the arrays that .* must be a new dict"):
        plot.memory_of(gates)


# ---- what the terms mean -------------------------------------------------------------------------

HALF = np.full((1, 4, 1, 1), 0.5)


def test_half_is_forgotten_at_each_step():
    memory = plot.memory_of({"r": HALF, "z": HALF, "n": 2 * HALF})
    wanted = [[0.5, 0.25, 0.125, 0.0625], [0, 0.5, 0.25, 0.125], [0, 0, 0.5, 0.25], [0, 0, 0, 0.5]]
    np.testing.assert_array_equal(memory.sizes, [*wanted, [0, 0, 0, 0]])
    np.testing.assert_allclose(memory.shares.sum(0), 1)
    np.testing.assert_array_equal(memory.terms(1)[:, 0], [0.25, 0.5, 0, 0, 0])


def test_a_dict_of_ones_own_may_be_of_a_reverse_pass():
    memory = plot.memory_of({"r": HALF, "z": HALF, "n": 2 * HALF}, reverse=True)
    np.testing.assert_array_equal(memory.sizes[2], [0.125, 0.25, 0.5, 0])
    np.testing.assert_array_equal(memory.state[:, 0], [0.9375, 0.875, 0.75, 0.5])


def test_a_size_is_a_magnitude_where_a_factor_is_negative():
    memory = plot.memory_of({"z": 3 * HALF, "n": 2 * HALF})  # a MinGRU's 1 - z is -1/2
    for t in range(4):
        np.testing.assert_allclose(memory.sizes[:, t], abs(memory.terms(t)).sum(1))


def test_a_reset_begins_anew():
    layer = layer_of("lstm", 3, H)
    x, state = batch(layer)
    reset = np.zeros((T, B), bool)
    reset[4] = True
    _, _, gates = layer(x, state, reset=reset, return_gates=True)
    sizes = plot.memory_of(gates).sizes
    assert np.all(sizes[:4, 4:] == 0) and np.all(sizes[-1, 4:] == 0) and np.all(sizes[-1, :4] > 0)
    _, _, gates = layer(x, state, reset=reset, reset_to="initial", return_gates=True)
    sizes = plot.memory_of(gates).sizes
    assert np.all(sizes[:4, 4:] == 0) and sizes[-1, 4] > sizes[-1, 3]


def test_a_masked_step_writes_nothing_and_keeps_everything():
    layer = layer_of("gru_after", 3, H)
    x, state = batch(layer)
    mask = np.ones((T, B), bool)
    mask[4] = False
    sizes = plot.memory_of(layer(x, state, mask=mask, return_gates=True)[2]).sizes
    assert np.all(sizes[4] == 0)
    np.testing.assert_array_equal(sizes[:, 4], sizes[:, 3])


def test_shares_of_a_state_of_zeros_are_zero():
    assert np.all(plot.memory_of({"z": 0 * HALF, "n": 0 * HALF}).shares == 0)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, options",
    [("lstm", {"cell_clip": 3.0}), ("lstm", {"zoneout": 0.1}), ("gru_after", {"zoneout": 0.1})],
)
def test_options_that_break_the_sum_are_refused_by_name(cell, options):
    layer = layer_of(cell, 3, H, **options)
    x, state = batch(layer)
    _, _, gates = layer(x, state, return_gates=True)
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"a layer without {name}, got {name}={value}"):
        plot.memory_of(gates)


def test_a_c_that_is_not_the_sum_is_refused():
    layer = layer_of("lstm", 3, H)
    x, state = batch(layer)
    _, _, gates = layer(x, state, return_gates=True)
    with pytest.raises(ValueError, match="differs from it by .* at step 0. A dict of your own"):
        plot.memory_of(dict(gates))
    _, _, gates = layer(x, return_gates=True)
    assert plot.memory_of(dict(gates)).name == "c"


def test_an_rnn_has_no_sum():
    _, _, gates = fastrnn.RNN(3, H, rng=0)(np.ones((T, B, 3), "float32"), return_gates=True)
    with pytest.raises(ValueError, match="an RNN has no gates"):
        plot.memory_of(gates)


def test_long_sequences_have_terms_and_no_sizes(monkeypatch):
    monkeypatch.setattr(_terms, "MOST", 3)
    memory = plot.memory_of({"z": HALF, "n": HALF})
    with pytest.raises(ValueError, match=r"at most 3 steps, got n = 4: use terms\(t\)"):
        memory.sizes  # noqa: B018
    assert memory.terms(-1).shape == (5, 1)


Z = {"z": HALF, "n": HALF}


@pytest.mark.parametrize(
    "values, arguments, error, message",
    [
        (Z, {"row": 1}, ValueError, "row must be from 0 to 0, got 1"),
        (Z, {"row": False}, TypeError, "row must be an integer, got bool"),
        (Z, {"layer": -1}, ValueError, "layer must be from 0 to 0, got -1"),
        (Z, {"layer": 0.5}, TypeError, "layer must be an integer, got float"),
        (Z, {"reverse": 1}, TypeError, "reverse must be True or False"),
        ({"z": 1j * HALF, "n": HALF}, {}, TypeError, "of numbers, got z of dtype complex128"),
        ({"z": np.ma.array(HALF), "n": HALF}, {}, TypeError, "z of values must be .* a mask"),
        ({"z": HALF}, {}, ValueError, "the gates i f g of an LSTM.* got z"),
        ({"z": HALF, "n": HALF[:, :2]}, {}, ValueError, "arrays of one shape"),
        ({"z": HALF[0, 0], "n": HALF[0, 0]}, {}, ValueError, r"got z: \(1, 1\)"),
    ],
)
def test_wrong_arguments_are_named(values, arguments, error, message):
    with pytest.raises(error, match=message):
        plot.memory_of(values, **arguments)


def test_reverse_must_be_that_of_the_pass():
    layer = layer_of("gru_after", 3, H, bidirectional=True)
    _, _, gates = layer(np.ones((T, B, 3), "float32"), return_gates=True)
    assert plot.memory_of(gates, layer=1, reverse=True).reverse
    with pytest.raises(ValueError, match="reverse must be False for layer=0.* 1: reverse"):
        plot.memory_of(gates, reverse=True)


def test_there_is_no_step_beyond_the_end():
    with pytest.raises(ValueError, match="t must be a step, from 0 to 3, got 4"):
        plot.memory_of(Z).terms(4)


@pytest.mark.parametrize("names", ["ifgo", "rzn", "zn", "fin"])
@pytest.mark.parametrize("value", [5e-324, 1e-200, 1e300, np.inf, np.nan])
def test_any_number_propagates_without_a_warning(names, value):
    gates = {name: np.full((1, 3, 1, 2), value) for name in names}
    with np.errstate(all="raise"):
        memory = plot.memory_of(gates)
        assert memory.sizes.shape == memory.shares.shape == (4, 3)
        assert memory.state.shape == memory.terms(1)[:3].shape == (3, 2)


def test_sizes_are_kept_so_they_cannot_be_written_to():
    memory = plot.memory_of({"z": np.full((1, 3, 1, 2), 0.5), "n": np.ones((1, 3, 1, 2))})
    with pytest.raises(ValueError, match="read-only"):
        memory.sizes[0] = 0
    memory.shares[...] = 0
    assert memory.sizes.any() and memory.shares.any()
