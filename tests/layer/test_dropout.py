"""Random numbers in training: dropout between layers, its masks, the generator, train=False."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype, every_varied_cell
from nets import Case, draw
from problems import assert_same_bits

import fastrnn
from fastrnn._engine.dropout_masks import dropout_factors


@every_backend
@every_cell
def test_dropout_acts_between_layers_and_in_training_alone(cell, backend):
    net = {"num_layers": 2, "bidirectional": True}
    plain, case = Case(cell, net), Case(cell, net | {"dropout": 0.5})
    assert_same_bits(case.layer(case.x, case.state), plain.layer(plain.x, plain.state))
    assert (case.layer.forward(case.x)[0] != plain.layer.forward(plain.x)[0]).any()
    with pytest.warns(UserWarning, match="num_layers = 1"):
        one = Case(cell, {"dropout": 0.5})
    assert_same_bits(one.layer.forward(one.x)[0], one.layer(one.x)[0])


def test_dropout_with_nothing_between_layers_is_warned_of_where_the_user_says_it():
    with pytest.warns(UserWarning, match="dropout = 0.5 does nothing .*: use more") as told:
        layer = fastrnn.LSTM(2, 3, dropout=0.5)
        layer.dropout = 0.5
    assert [w.filename for w in told] == [__file__] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.dropout = 0
        fastrnn.LSTM(2, 3, 2, dropout=0.5)


@every_backend
@every_cell
@pytest.mark.parametrize("mask", ["step", "sequence"])
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_gradients_through_dropout_are_finite_differences(cell, first, mask, backend):
    net = {"num_layers": 3, "dropout": 0.4, "dropout_mask": mask, "batch_first": first}
    case = Case(cell, net)
    start, eps = copy.deepcopy(case.layer), 1e-6

    def loss(x, flat):
        layer = copy.deepcopy(start)  # the copy draws the same numbers
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
@pytest.mark.parametrize("shape", [(100, 100), (301, 701)], ids=["at once", "in parts"])
def test_dropout_keeps_the_mean_and_draws_from_rng(dtype, p, shape):
    layers = [fastrnn.GRU(2, 3, 2, dropout=p, dtype=dtype, rng=7) for _ in range(2)]
    ones = np.ones(shape, dtype)
    (x, factors), (other, _) = (layer._with_dropout(ones) for layer in layers)
    assert x.dtype == factors.dtype == dtype
    assert_same_bits(other, x)
    assert abs((x == 0).mean() - p) < 0.02
    assert p == 1 or abs(x.mean() - 1) < 0.02 / (1 - p)
    assert (layers[0]._with_dropout(ones)[0] != x).any() == (p not in (0, 1))


def test_each_part_of_a_large_draw_is_drawn():
    layer = fastrnn.GRU(2, 3, 2, dropout=0.5, rng=7)
    _, factors = layer._with_dropout(np.ones(5 * 65536 + 3, "f4"))
    parts = factors[: 5 * 65536].reshape(5, -1)
    assert np.isin(factors, [0, 2]).all()
    assert all(abs(part.mean() - 1) < 0.02 for part in parts)
    assert not np.corrcoef(parts)[np.triu_indices(5, 1)].round(1).any()


@pytest.mark.parametrize(
    ("dropout", "error"),
    [(-0.1, ValueError), (1.1, ValueError), (np.nan, ValueError), (True, ValueError),
     (np.True_, ValueError), ("much", TypeError), ("0.5", TypeError), (b"0.5", TypeError),
     (None, TypeError)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "zoneout"])
def test_a_dropout_that_is_no_probability_is_refused(name, dropout, error):
    with pytest.raises(error, match=f"{name} must be"):
        fastrnn.LSTM(2, 3, 2, **{name: dropout})
    layer = fastrnn.LSTM(2, 3, 2)
    with pytest.raises((error, AttributeError), match=f"{name} (must be|cannot be changed)"):
        setattr(layer, name, dropout)


# ---- masks for whole sequences -------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_a_mask_of_a_sequence_is_the_same_in_all_its_steps(first, ragged, backend):
    net = {"bidirectional": True, "batch_first": first}
    net |= {"num_layers": 2, "dropout": 0.5, "dropout_mask": "sequence"}
    layer = fastrnn.GRU(3, 7, **net, dtype="float64", rng=0)
    lower = fastrnn.GRU(3, 7, bidirectional=True, batch_first=first, dtype="float64")
    upper = fastrnn.GRU(14, 7, bidirectional=True, batch_first=first, dtype="float64")
    lower.load({n: a for n, a in layer.params.items() if "_l0" in n})
    upper.load({n.replace("l1", "l0"): a for n, a in layer.params.items() if "_l1" in n})
    rows = {"lengths": [6, 0, 3, 1, 6]} if ragged else {}
    x = draw(np.random.default_rng(0), *((5, 6) if first else (6, 5)), 3)
    factors = dropout_factors(copy.deepcopy(layer.rng), (1, 5, 14), np.dtype("f8"), 0.5)
    factors = factors.swapaxes(0, 1) if first else factors
    y, _, tape = layer.forward(x, **rows)
    below, _, tape_below = lower.forward(x, **rows)
    wanted, _, tape_above = upper.forward(below * factors, **rows)
    assert_same_bits(y, wanted)
    of_above = tape_above.backward(np.ones_like(y))
    of_below = tape_below.backward(of_above.x * factors)
    got = tape.backward(np.ones_like(y))
    assert_same_bits((got.x, got.flat), (of_below.x, np.append(of_below.flat, of_above.flat)))


def test_masks_of_sequences_differ_between_rows_and_calls():
    layer = fastrnn.LSTM(2, 3, 2, dropout=0.5, dropout_mask="sequence", rng=0)
    ones = np.ones((9, 40, 30), "f4")
    (x, factors), (other, _) = layer._with_dropout(ones), layer._with_dropout(ones)
    assert (x == x[0]).all() and set(np.unique(x)) == {0, 2}
    assert len(np.unique(x[0], axis=0)) == 40 and (other != x).any()
    assert abs(x[0].mean() - 1) < 0.1 and factors.shape == (1, 40, 30)


def test_the_kind_of_mask_is_told_by_repr_and_others_are_refused():
    layer = fastrnn.LSTM(2, 3, 2, dropout=0.5, dropout_mask="sequence")
    assert "dropout=0.5, dropout_mask='sequence'" in repr(layer)
    assert "dropout_mask" not in repr(fastrnn.LSTM(2, 3))
    for wrong in ("all", None):
        with pytest.raises(ValueError, match="dropout_mask must be one of 'step', 'sequence'"):
            fastrnn.LSTM(2, 3, 2, dropout_mask=wrong)
        with pytest.raises(ValueError, match="dropout_mask must be one of 'step', 'sequence'"):
            layer.dropout_mask = wrong


# ---- what may be changed -------------------------------------------------------------------------


def test_what_is_assigned_acts_on_the_next_forward():
    layer, x = fastrnn.LSTM(2, 3, 2, rng=0), np.ones((5, 4, 2), "f4")
    plain = layer(x)[0]

    def changed():
        return bool((layer.forward(x)[0] != plain).any())

    assert not changed()
    for name in ("dropout", "recurrent_dropout"):
        setattr(layer, name, 0.5)
        assert changed() and getattr(layer, name) == 0.5
        setattr(layer, name, 0)
        assert not changed()
    layer.dropout, layer.dropout_mask = 0.5, "sequence"
    assert layer._with_dropout(x)[1].shape == (1, 4, 2)
    assert_same_bits(layer(x)[0], plain)


DROPOUT = {"num_layers": 2, "dropout": 0.5, "recurrent_dropout": 0.4, "zoneout": 0.3}


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)  # fmt: skip
def test_the_generator_is_public_and_its_state_goes_with_copies(duplicate):
    generator = np.random.default_rng(3)
    layer, x = fastrnn.LSTM(2, 3, rng=generator, **DROPOUT), np.ones((5, 4, 2), "f4")
    assert layer.rng is generator
    layer.forward(x)
    state, other = layer.rng.bit_generator.state, duplicate(layer)
    y = layer.forward(x)[0]
    assert_same_bits(other.forward(x)[0], y)
    assert (layer.forward(x)[0] != y).any()
    layer.rng.bit_generator.state = state
    assert_same_bits(layer.forward(x)[0], y)
    for seed in (7, np.random.default_rng(7)):
        layer.rng = seed
        drawn = layer.forward(x)[0]
        layer.rng = 7
        assert_same_bits(layer.forward(x)[0], drawn)


@pytest.mark.parametrize("wrong", [-1, "0", 1.5])
def test_what_is_no_generator_and_no_seed_is_refused(wrong):
    layer = fastrnn.LSTM(2, 3, rng=0)
    makers = [
        lambda: fastrnn.LSTM(2, 3, rng=wrong), lambda: setattr(layer, "rng", wrong),
        lambda: fastrnn.train.Dense(2, 3, rng=wrong),
    ]  # fmt: skip
    for make in makers:
        with pytest.raises((TypeError, ValueError), match=f"rng must be None, .* got {wrong!r}"):
            make()


# ---- train=False ---------------------------------------------------------------------------------


@every_backend
@every_varied_cell
@pytest.mark.parametrize("checkpoint", [None, 2])
def test_without_train_nothing_is_drawn_and_gradients_are_those_of_a_call(
    cell, checkpoint, backend
):
    case = Case(cell, {**DROPOUT, "bidirectional": True, "batch_first": True}, sizes=(3, 2, 2, 3))
    rows = {"lengths": [3, 2], "reset": np.array([[False, False, True]] * 2)}
    before = case.layer.rng.bit_generator.state
    wanted = case.layer(case.x, case.state, **rows)
    options = {**rows, "train": False, "checkpoint": checkpoint}
    y, state, tape = case.layer.forward(case.x, case.state, **options)
    assert_same_bits((y, state), wanted)
    assert case.layer.rng.bit_generator.state == before
    grads, rng, eps = tape.backward(case.dy), np.random.default_rng(0), 1e-5
    way_x, way = draw(rng, *case.x.shape), draw(rng, case.layer.flat.size)
    start = case.layer.flat.copy()

    def loss(e):
        case.layer.flat = start + e * way
        return np.vdot(case.layer(case.x + e * way_x, case.state, **rows)[0], case.dy)

    along = np.vdot(grads.x, way_x) + np.vdot(grads.flat, way)
    np.testing.assert_allclose(along, (loss(eps) - loss(-eps)) / (2 * eps), rtol=1e-6)
    case.layer.flat = start
    assert (case.layer.forward(case.x, case.state, **rows)[0] != wanted[0]).any()
    with pytest.raises(TypeError, match="train must be True or False, got 0"):
        case.layer.forward(case.x, train=0)


@every_backend
@every_varied_cell
def test_a_call_that_returns_gates_draws_nothing(cell, backend):
    case = Case(cell, DROPOUT)
    before, wanted = case.layer.rng.bit_generator.state, case.layer(case.x, case.state)
    y, state, gates = case.layer(case.x, case.state, return_gates=True)
    assert_same_bits((y, state), wanted)
    assert case.layer.rng.bit_generator.state == before
    tape = case.layer.forward(case.x, case.state, train=False)[2]
    assert_same_bits(gates, tape.gates())
