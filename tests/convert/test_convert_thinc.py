"""thinc's array of an LSTM, against thinc's own forward."""

import warnings

import numpy as np
import pytest

from fastrnn import LSTM, convert

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    api = pytest.importorskip("thinc.api")

pytestmark = pytest.mark.any_isa

T, I, H = 7, 3, 5  # noqa: E741 - as in all the equations


def theirs(depth, both):
    """thinc's LSTM with random weights."""
    model = api.LSTM(nO=H * (1 + both), nI=I, bi=both, depth=depth)
    model.initialize()
    size = model.get_param("LSTM").size
    model.set_param("LSTM", np.random.default_rng(0).uniform(-1, 1, size).astype("float32"))
    return model


def outputs(model, rows):
    padded = model.ops.list2padded(rows)
    return model.ops.padded2list(model.predict(padded))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("lengths", [[T, T], [T, 4, 1]])
def test_the_layer_computes_what_thinc_does(depth, both, lengths):
    model, rng = theirs(depth, both), np.random.default_rng(1)
    layer = convert.from_thinc(model.get_param("LSTM"), I, H, depth, bidirectional=both)
    x = rng.normal(size=(T, len(lengths), I)).astype("float32")
    y, _ = layer(x, lengths=lengths)
    for row, wanted in enumerate(outputs(model, [x[:n, row] for row, n in enumerate(lengths)])):
        np.testing.assert_allclose(y[: lengths[row], row], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("both", [False, True])
def test_thinc_computes_what_the_layer_does(both):
    layer, model = LSTM(I, H, 2, bidirectional=both, rng=0), theirs(2, both)
    model.set_param("LSTM", convert.to_thinc(layer))
    x = np.random.default_rng(1).normal(size=(T, 1, I)).astype("float32")
    np.testing.assert_allclose(
        outputs(model, [x[:, 0]])[0], layer(x)[0][:, 0], rtol=1e-5, atol=1e-6
    )
