"""Losses: finite differences, and PyTorch's."""

import numpy as np
import pytest
from training import assert_slopes, draw, every_dtype

from fastrnn import train

pytestmark = pytest.mark.no_kernels

WEIGHTS = (None, np.array([1.0, 0, 2]), np.array([[True], [False], [True], [True]]))
every_weight = pytest.mark.parametrize("weights", WEIGHTS, ids=["all alike", "rows", "steps"])


@every_weight
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "mean_squared_error"])
def test_gradients_of_losses_are_finite_differences(name, weights):
    loss, y = getattr(train, name), draw(4, 3, 5) if name == "cross_entropy" else draw(4, 3)
    targets = np.abs(draw(4, 3, seed=2))
    targets = (5 * targets).astype(int) if name == "cross_entropy" else targets
    assert_slopes(lambda y: loss(y, targets, weights)[0], y, loss(y, targets, weights)[1])


@every_weight
def test_what_weighs_nothing_does_not_count(weights):
    y, targets = draw(4, 3), draw(4, 3, seed=1)
    loss, gradient = train.mean_squared_error(y, targets, weights)
    counted = np.broadcast_to(1.0 if weights is None else weights, y.shape)
    np.testing.assert_allclose(loss, (counted * (y - targets) ** 2).sum() / counted.sum())
    assert ((gradient == 0) == (counted == 0)).all()
    assert train.mean_squared_error(y, targets, np.zeros(3))[0] == 0


@every_dtype
def test_large_logits_do_not_overflow(dtype):
    large = np.array([[1e30, -1e30], [-1e30, 1e30]], dtype)
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = train.cross_entropy(large, np.array([0, 1]))
        assert loss == 0 and not gradient.any() and gradient.dtype == dtype
        loss, gradient = train.binary_cross_entropy(large, (large > 0).astype(dtype))
        assert loss == 0 and not gradient.any() and gradient.dtype == dtype


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    logits, y, targets = draw(6, 4, seed=seed), draw(6, seed=seed), np.abs(draw(6, seed=seed + 1))
    classes = (4 * targets).astype(int)
    for ours, theirs in [
        (train.cross_entropy(logits, classes), (f.cross_entropy, logits, classes)),
        (train.binary_cross_entropy(y, targets), (f.binary_cross_entropy_with_logits, y, targets)),
        (train.mean_squared_error(y, targets), (f.mse_loss, y, targets)),
    ]:
        function, given, wanted = theirs
        given = torch.from_numpy(given.copy()).requires_grad_()
        loss = function(given, torch.from_numpy(wanted))
        loss.backward()
        np.testing.assert_allclose(ours[0], loss.item(), rtol=1e-12)
        np.testing.assert_allclose(ours[1], given.grad.numpy(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.cross_entropy(draw(4, 3), [0, 1, 3, 0]), ValueError, "targets must be from"),
        (lambda: train.cross_entropy(draw(4, 3), [0, 1]), ValueError, "targets must be"),
        (lambda: train.mean_squared_error(draw(4), draw(3)), ValueError, "targets must be"),
        (lambda: train.mean_squared_error(draw(4), draw(4, dtype="f4")), TypeError, "like y"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
