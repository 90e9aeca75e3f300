"""sigmoid and softmax: against their definition in float64, for all sizes and dtypes."""

import numpy as np
import pytest
from training import draw, every_dtype

from fastrnn import train

pytestmark = pytest.mark.no_kernels


@every_dtype
def test_sigmoid_is_as_defined_and_never_overflows(dtype):
    x = np.concatenate([20 * draw(100), [0, 88, -88, 1e30, -1e30, np.inf, -np.inf]]).astype(dtype)
    with np.errstate(all="raise"):
        y = train.sigmoid(x)
    wide = np.clip(x.astype("float64"), -700, 700)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-wide)), rtol=4 * np.finfo(dtype).eps, atol=1e-45)
    assert y.dtype == dtype and (y[-4:] == [1, 0, 1, 0]).all()
    assert np.isnan(train.sigmoid(np.array([np.nan], dtype)))


@every_dtype
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_is_as_defined_along_an_axis(axis, dtype):
    x = 5 * draw(4, 3, 5, dtype=dtype)
    powers = np.exp(x.astype("float64"))
    wanted = powers / powers.sum(axis=axis, keepdims=True)
    y = train.softmax(x) if axis == -1 else train.softmax(x, axis=axis)
    np.testing.assert_allclose(y, wanted, rtol=8 * np.finfo(dtype).eps)
    assert y.dtype == dtype


@every_dtype
def test_softmax_never_overflows_and_leaves_out_what_is_minus_infinity(dtype):
    x = np.array([[1e30, -1e30, 1e30], [-1e30, -np.inf, -np.inf]], dtype)
    with np.errstate(all="raise"):
        assert (train.softmax(x) == np.array([[0.5, 0, 0.5], [1, 0, 0]])).all()
    assert train.softmax(x[:, :0]).shape == (2, 0)


@every_dtype
def test_softmax_of_the_largest_floats_and_of_nothing_but_minus_infinity_warns_of_nothing(dtype):
    most = np.finfo(dtype).max
    x = np.array([[most, -most], [-np.inf, -np.inf]], dtype)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(train.softmax(x), [[1, 0], [np.nan, np.nan]])


@pytest.mark.parametrize("order", "CF")
def test_softmax_over_many_classes_keeps_its_digits(order):
    x = np.zeros((2, 500_000), "float32", order=order)
    x[:, ::2] = np.log(np.float32(0.1))  # a chain of float32 sums would be off by 1e-3
    wide = np.exp(x.astype("float64"))
    np.testing.assert_allclose(train.softmax(x), wide / wide.sum(axis=-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("function", [train.sigmoid, train.softmax])
@pytest.mark.parametrize("x", [np.arange(3), np.ones(3, "f2"), "x", [1j]], ids=str)
def test_only_floats_are_taken(function, x):
    with pytest.raises(TypeError, match="x must be an array of float32 or float64"):
        function(x)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        train.softmax(draw(3, 2), axis=2)
    with pytest.raises(ValueError, match="x must have at least one axis"):
        train.softmax(0.5)
