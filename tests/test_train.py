"""What stands around layers in training: finite differences, PyTorch, and views that are none."""

import pickle

import numpy as np
import pytest
from problems import DTYPES, assert_same_bits

from fastrnn import train

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def assert_slopes(loss, x, gradient):
    """The gradient is the finite differences of loss(x), along some ways."""
    for seed in range(5):
        way, eps = draw(*x.shape, seed=seed + 10), 1e-6
        slope = (loss(x + eps * way) - loss(x - eps * way)) / (2 * eps)
        np.testing.assert_allclose(np.vdot(gradient, way), slope, rtol=1e-6, atol=1e-10)


# ---- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (3,), (4, 3), (0, 3)], ids=str)
def test_gradients_of_dense_are_finite_differences(lead):
    dense, x, dy = train.Dense(5, 2, dtype="float64", rng=0), draw(*lead, 5), draw(*lead, 2, seed=1)

    def loss_of(flat):
        dense.flat[...] = flat
        return np.vdot(dense(x), dy)

    flat, grads = dense.flat.copy(), dense.backward(x, dy)
    assert_slopes(lambda x: np.vdot(dense(x), dy), x, grads.x)
    assert_slopes(loss_of, flat, grads.flat)


def test_gradients_of_an_embedding_are_sums_over_its_ids():
    table, x = train.Embedding(6, 3, dtype="float64", rng=0), np.array([[1, 4], [4, 4], [0, 1]])
    dy, wanted = draw(3, 2, 3), np.zeros((6, 3))
    for index, of in zip(x.reshape(-1), dy.reshape(-1, 3), strict=True):
        wanted[index] += of
    assert_same_bits(table(x), table.params["weight"][x])
    assert_same_bits(table.backward(x, dy).flat, wanted.reshape(-1))


@every_dtype
@pytest.mark.parametrize("make", [lambda **o: train.Dense(5, 2, **o), lambda **o: train.Embedding(
    5, 2, **o)], ids=["Dense", "Embedding"])  # fmt: skip
def test_parameters_are_views_into_flat_and_stay_so_in_a_copy(make, dtype):
    for part in (make(dtype=dtype), pickle.loads(pickle.dumps(make(dtype=dtype)))):
        part.flat[...] = np.arange(part.flat.size)
        together = np.concatenate([p.reshape(-1) for p in part.params.values()])
        assert_same_bits(together, part.flat)
        assert part.flat.dtype == dtype


# ---- losses --------------------------------------------------------------------------------------

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


# ---- optimizers ----------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda p: train.SGD(p, 0.1), ("SGD", {"lr": 0.1})),
        (lambda p: train.SGD(p, 0.1, momentum=0.9), ("SGD", {"lr": 0.1, "momentum": 0.9})),
        (lambda p: train.Adam(p, 0.01), ("Adam", {"lr": 0.01})),
        (lambda p: train.Adam(p, 0.1, (0.8, 0.99), 1e-3),
         ("Adam", {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3})),
    ],
    ids=["SGD", "momentum", "Adam", "Adam otherwise"],
)  # fmt: skip
def test_optimizers_are_pytorchs(make, theirs, dtype):
    torch = pytest.importorskip("torch")
    ours = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
    other = [torch.from_numpy(p.copy()).requires_grad_() for p in ours]
    optimizer, theirs = make(ours), getattr(torch.optim, theirs[0])(other, **theirs[1])
    for step in range(20):
        gradients = [draw(p.size, dtype=dtype, seed=step + p.size) for p in ours]
        optimizer.step(gradients)
        for p, g in zip(other, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        theirs.step()
    for p, wanted in zip(ours, other, strict=True):
        tolerance = 100 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(p, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert p.dtype == dtype


@every_dtype
def test_gradients_are_clipped_to_a_common_norm_or_each_to_a_value(dtype):
    for largest in (0.5, 100):
        gradients = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
        before = np.concatenate(gradients)
        norm = train.clip_by_norm(gradients, largest)
        np.testing.assert_allclose(norm, np.linalg.norm(before), rtol=1e-6)
        wanted = before * min(1, largest / norm)
        np.testing.assert_allclose(np.concatenate(gradients), wanted, rtol=1e-6)
        assert all(g.dtype == dtype for g in gradients)
    train.clip_by_value(gradients, 0.25)
    assert_same_bits(np.concatenate(gradients), np.clip(before, -0.25, 0.25).astype(dtype))


@pytest.mark.parametrize("make", [lambda p: train.SGD(p, 0.1), train.Adam], ids=["SGD", "Adam"])
def test_gradients_that_do_not_fit_change_nothing(make):
    parameters = [draw(4), draw(3)]
    optimizer, before = make(parameters), pickle.dumps(parameters)
    for sizes in ((4,), (4, 3, 3), (3, 4), (4, 1)):
        with pytest.raises(ValueError, match="gradients must be like the parameters"):
            optimizer.step([draw(n) for n in sizes])
        assert pickle.dumps(parameters) == before
    wanted = [draw(4), draw(3)]
    make(wanted).step([draw(4), draw(3)])
    optimizer.step([draw(4), draw(3)])  # as if those had never come
    assert_same_bits(parameters, wanted)


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [None, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_are_views_of_all_that_a_series_has(features, batch_size):
    series = draw(20) if features is None else draw(20, features)
    wide, seen = series.reshape(20, -1), []
    for x, target in train.windows(series, 5, 2, batch_size, rng=0):
        assert np.shares_memory(x, series) and np.shares_memory(target, series)
        assert x.shape == (5, len(target), wide.shape[1]) and len(target) <= batch_size
        for b in range(len(target)):
            (begin,) = np.flatnonzero((wide == x[0, b]).all(axis=1))
            assert_same_bits(x[:, b], wide[begin : begin + 5])
            assert_same_bits(target[b], wide[begin + 6])
            seen.append(begin)
    assert sorted(seen) == list(range(14))


def test_the_order_of_minibatches_is_rngs():
    def orders(rng):
        return [target[0, 0] for _, target in train.windows(np.arange(50.0), 5, 1, 4, rng)]

    assert orders(3) == orders(3) != orders(None)
    assert sorted(orders(3)) == sorted(orders(None))


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.Dense(0, 2), ValueError, "inputs must be"),
        (lambda: train.Dense(3, 2)(draw(4, 2, dtype="f4")), ValueError, r"x must be \(..., 3\)"),
        (lambda: train.Dense(3, 2)(draw(4, 3)), TypeError, "x must be float32"),
        (lambda: train.Embedding(3, 2)([3]), ValueError, "x must be from 0 to 2, got 3"),
        (lambda: train.Embedding(3, 2)([-1]), ValueError, "x must be from 0 to 2, got -1"),
        (lambda: train.Embedding(3, 2)([1.0]), TypeError, "x must be an array of integers"),
        (lambda: train.Embedding(3, 2).backward([1], draw(2, dtype="f4")), ValueError, "dy must"),
        (lambda: train.cross_entropy(draw(4, 3), [0, 1, 3, 0]), ValueError, "targets must be from"),
        (lambda: train.cross_entropy(draw(4, 3), [0, 1]), ValueError, "targets must be"),
        (lambda: train.mean_squared_error(draw(4), draw(3)), ValueError, "targets must be"),
        (lambda: train.mean_squared_error(draw(4), draw(4, dtype="f4")), TypeError, "like y"),
        (lambda: train.windows(draw(5), 4, 2, 1), ValueError, "length \\+ horizon = 6 values"),
        (lambda: train.windows(draw(5), 4, 0, 1), ValueError, "horizon must be"),
        (lambda: train.windows(draw(5, 1, 1), 4, 1, 1), ValueError, "series must be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
