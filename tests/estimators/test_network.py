"""The network of the estimators: the gradients of its step, and its outputs."""

import numpy as np
import pytest
from training import draw

from fastrnn import train
from fastrnn.estimators import RNNRegressor
from fastrnn.estimators.network import AT_ONCE, Network
from fastrnn.layers import CLASSES

pytestmark = pytest.mark.any_isa


def network(**params):
    """A network of 3 features and 2 outputs, whose head is not 0."""
    model = Network(RNNRegressor(4, **params), 3, 2, np.random.default_rng(0))
    model.head.flat[:] = draw(*model.head.flat.shape)
    return model


@pytest.mark.parametrize("cell", CLASSES)
@pytest.mark.parametrize("params", [{}, {"bidirectional": True, "dropout": 0.5}], ids=str)
def test_the_gradients_of_a_step_are_those_of_its_loss(cell, params):
    model = network(cell=cell, **params)
    x, lengths, targets = draw(5, 6, 3, dtype="float32"), np.arange(6), draw(6, 2, dtype="float32")

    def step():
        model.dropout.rng = 3  # each time the same elements are dropped
        return model._step(x, lengths, targets, train.mean_squared_error)

    _, gradients = step()
    for part, gradient in zip((model.layer, model.head), gradients, strict=True):
        way, kept, losses = draw(*part.flat.shape, dtype="float32"), part.flat.copy(), []
        for size in (1e-2, -1e-2):
            part.flat[...] = kept + np.float32(size) * way
            losses.append(step()[0])
        part.flat[...] = kept
        # float32 differences: enough to catch a wrong factor, sign or term
        slope = np.subtract(*losses) / 2e-2
        np.testing.assert_allclose(np.vdot(gradient.flat, way), slope, rtol=0.03, atol=1e-4)


def test_dropout_acts_in_training_and_not_in_outputs():
    model, x = network(dropout=0.5), draw(5, 6, 3, dtype="float32")
    wanted = model(lambda rows: (x[:, rows], None), np.arange(6))
    losses = {model._step(x, None, wanted, train.mean_squared_error)[0] for _ in range(9)}
    assert len(losses) > 1 and min(losses) > 0
    model.dropout.rate = 0
    assert model._step(x, None, wanted, train.mean_squared_error)[0] == 0


def test_many_outputs_are_those_of_the_rows_in_their_order():
    model, x = network(), draw(2, AT_ONCE + 5, 3, dtype="float32")
    sizes = []

    def inputs(rows):
        sizes.append(len(rows))
        return x[:, rows], None

    rows = np.random.default_rng(0).permutation(AT_ONCE + 5)
    _, state = model.layer(x)
    wanted = model.head(model.layer.last(state))
    np.testing.assert_allclose(model(inputs, rows), wanted[rows], rtol=1e-6)
    assert sizes == [AT_ONCE, 5]
