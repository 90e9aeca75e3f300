"""Dropout between layers."""

import copy

import numpy as np
import pytest
from nets import Case, draw
from problems import BACKENDS, DTYPES, assert_same_bits

import fastrnn
from fastrnn.cells import CELLS

every_cell = pytest.mark.parametrize("cell", CELLS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


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
@pytest.mark.parametrize("shape", [(100, 100), (301, 701)], ids=["at once", "in parts"])
def test_dropout_keeps_the_mean_and_draws_from_rng(dtype, p, shape):
    layers = [fastrnn.GRU(2, 3, 2, dropout=p, dtype=dtype, rng=7) for _ in range(2)]
    ones = np.ones(shape, dtype)
    (x, factors), (again, _) = (layer._dropped(ones) for layer in layers)
    assert x.dtype == factors.dtype == dtype
    assert_same_bits(again, x)
    assert abs((x == 0).mean() - p) < 0.02
    assert p == 1 or abs(x.mean() - 1) < 0.02 / (1 - p)
    assert (layers[0]._dropped(ones)[0] != x).any() == (p not in (0, 1))


def test_each_part_of_a_large_draw_is_drawn():
    dropped = fastrnn.GRU(2, 3, 2, dropout=0.5, rng=7)._dropped(np.ones(5 * 65536 + 3, "f4"))[1]
    parts = dropped[: 5 * 65536].reshape(5, -1)
    assert np.isin(dropped, [0, 2]).all()
    assert all(abs(part.mean() - 1) < 0.02 for part in parts)
    assert not np.corrcoef(parts)[np.triu_indices(5, 1)].round(1).any()


@pytest.mark.parametrize(
    ("dropout", "error"),
    [(-0.1, ValueError), (1.1, ValueError), (np.nan, ValueError), (True, ValueError),
     ("much", TypeError), (None, TypeError)],
)  # fmt: skip
def test_a_dropout_that_is_no_probability_is_refused(dropout, error):
    with pytest.raises(error, match="dropout must be"):
        fastrnn.LSTM(2, 3, dropout=dropout)
