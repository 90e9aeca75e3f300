"""A head and an embedding: finite differences, and views into flat."""

import pickle

import numpy as np
import pytest
from problems import assert_same_bits
from training import assert_slopes, draw, every_dtype

from fastrnn import train

pytestmark = pytest.mark.no_kernels


@pytest.mark.parametrize("lead", [(), (3,), (4, 3), (0, 3)], ids=str)
def test_gradients_of_dense_are_finite_differences(lead):
    dense, x, dy = train.Dense(5, 2, dtype="float64", rng=0), draw(*lead, 5), draw(*lead, 2, seed=1)

    def loss_of(flat):
        dense.flat[...] = flat
        return np.vdot(dense(x), dy)

    flat, grads = dense.flat.copy(), dense.backward(x, dy)
    assert_slopes(lambda x: np.vdot(dense(x), dy), x, grads.x)
    assert_slopes(loss_of, flat, grads.flat)


@every_dtype
@pytest.mark.parametrize("kind", ["u1", "i2", "i8"])
def test_gradients_of_an_embedding_are_sums_over_its_ids_in_their_order(kind, dtype):
    table = train.Embedding(200, 3, dtype=dtype, rng=0)  # more elements than a u1 can count
    x = np.random.default_rng(0).integers(100, 200, (30, 20)).astype(kind)
    dy, wanted = draw(30, 20, 3, dtype=dtype), np.zeros((200, 3))
    for index, of in zip(x.reshape(-1), dy.reshape(-1, 3), strict=True):
        wanted[index] += of
    assert_same_bits(table(x), table.params["weight"][x])
    assert_same_bits(table.backward(x, dy).flat, wanted.reshape(-1).astype(dtype))


def assert_digits(times, error):
    """Assert that float32 gradients of 1,000 rows, repeated `times` times, grow by that factor."""
    x, dy = draw(1000, 2, dtype="float32"), draw(1000, 2, dtype="float32", seed=1)
    x[:, 0], dy[:, 0] = 0.7, 0.9  # equal, so that errors have one sign
    wide, d_wide = x.astype("float64"), dy.astype("float64")
    x, dy = np.tile(x, (times, 1)), np.tile(dy, (times, 1))
    of_dense = train.Dense(2, 2, rng=0).backward(x, dy).flat
    of_table = train.Embedding(2, 2, rng=0).backward(np.ones(len(dy), "i1"), dy).flat
    bias, of_biases = d_wide.sum(axis=0), abs(d_wide).sum(axis=0)
    wanted = np.concatenate([(d_wide.T @ wide).reshape(-1), bias, 0 * bias, bias])
    sizes = [(abs(d_wide).T @ abs(wide)).reshape(-1), of_biases, of_biases, of_biases]
    ours = np.concatenate([of_dense, of_table]) / times
    assert (abs(ours - wanted) <= error * np.concatenate(sizes)).all()


def test_gradients_over_many_rows_keep_their_digits():
    assert_digits(1_000, 1e-6)


@pytest.mark.slow
def test_gradients_over_very_many_rows_keep_their_digits():
    assert_digits(20_000, 1e-5)


@every_dtype
@pytest.mark.parametrize("rows", [4096, 4097, 9000])
def test_gradients_of_dense_over_blocks_of_rows_have_each_of_them_once(rows, dtype):
    x, dy = draw(rows, 3, dtype=dtype), draw(rows, 2, dtype=dtype, seed=1)
    flat = train.Dense(3, 2, dtype=dtype, rng=0).backward(x[::-1], dy[::-1]).flat
    wanted = np.append(dy.astype("f8").T @ x.astype("f8"), dy.sum(axis=0, dtype="f8"))
    np.testing.assert_allclose(flat, wanted, rtol=0, atol=100 * rows**0.5 * np.finfo(dtype).eps)
    assert flat.dtype == dtype


@pytest.mark.parametrize("features", [1, 7, 20_000])
def test_gradients_of_an_embedding_have_each_of_many_rows_once(features):
    rows = 70_000 // features + 2
    x, dy = np.arange(rows) % 3, np.ones((rows, features), "f4")
    flat = train.Embedding(4, features, rng=0).backward(x, dy).flat
    assert_same_bits(flat, np.repeat(np.bincount(x, minlength=4), features).astype("f4"))


@pytest.mark.parametrize("shape", [(0,), (4, 0), ()], ids=str)
def test_an_embedding_takes_no_ids_and_a_single_one(shape):
    table, x = train.Embedding(5, 2, rng=0), np.zeros(shape, int)
    assert table(x).shape == (*shape, 2)
    wanted = np.zeros((5, 2), "float32")
    wanted[0] = x.size
    assert_same_bits(table.backward(x, np.ones((*shape, 2), "f4")).flat, wanted.reshape(-1))


@every_dtype
@pytest.mark.parametrize("make", [lambda **o: train.Dense(5, 2, **o), lambda **o: train.Embedding(
    5, 2, **o)], ids=["Dense", "Embedding"])  # fmt: skip
def test_parameters_are_views_into_flat_and_stay_so_in_a_copy(make, dtype):
    for part in (make(dtype=dtype), pickle.loads(pickle.dumps(make(dtype=dtype)))):
        part.flat[...] = np.arange(part.flat.size)
        together = np.concatenate([p.reshape(-1) for p in part.params.values()])
        assert_same_bits(together, part.flat)
        assert part.flat.dtype == dtype


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.Dense(0, 2), ValueError, "inputs must be"),
        (lambda: train.Dense(3, 2)(draw(4, 2, dtype="f4")), ValueError, r"x must be \(..., 3\)"),
        (lambda: train.Dense(3, 2)(draw(4, 3)), TypeError, "x must be float32"),
        (lambda: train.Dense(3, 2).backward(draw(6, 4, 3, dtype="f4"), draw(4, 6, 2, dtype="f4")),
         ValueError, r"dy must be \(6, 4, 2\), got \(4, 6, 2\)"),
        (lambda: train.Dense(3, 2).backward(draw(9000, 3, dtype="f4"), draw(8999, 2, dtype="f4")),
         ValueError, r"dy must be \(9000, 2\), got \(8999, 2\)"),
        (lambda: train.Embedding(3, 2)([3]), ValueError, "x must be from 0 to 2, got 3"),
        (lambda: train.Embedding(3, 2)([-1]), ValueError, "x must be from 0 to 2, got -1"),
        (lambda: train.Embedding(3, 2)([1.0]), TypeError, "x must be integers"),
        (lambda: train.Embedding(3, 2).backward([1], draw(2, dtype="f4")), ValueError, "dy must"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@every_dtype
@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
@pytest.mark.parametrize("size", ["smallest_subnormal", "tiny", "max", "inf", "nan"])
def test_numbers_at_the_ends_of_a_dtype_propagate_without_a_warning(size, activation, dtype):
    """As in layers, also for users who make NumPy raise: `fit` names what is not finite."""
    value = float(size) if size in ("inf", "nan") else np.finfo(dtype)
    x = np.full((2, 3), getattr(value, size, value), dtype)
    x[0] *= -1
    head = train.Dense(3, 2, activation=activation, dtype=dtype, rng=0)
    table = train.Embedding(4, 3, dtype=dtype, rng=0)
    with np.errstate(all="raise"):
        y = head(x)
        gradients = head.backward(x, x[:, :2])
        table.backward([1, 1], np.abs(x))
        loss, _ = train.binary_cross_entropy(x, np.ones_like(x))
    assert np.isnan(loss) == (size == "nan") or size == "inf"
    assert y.dtype == gradients.x.dtype == dtype
