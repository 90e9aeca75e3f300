"""exp, sigmoid and tanh as the kernels compute them: 3 ULP, exact at 0 and +-inf, NaN for NaN.

tests/c/exhaustive.c tests all 2^32 floats. Here it is every 1021st bit pattern, the numbers around
each change of behaviour, and a sample of doubles.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.any_isa

core = pytest.importorskip("fastrnn._engine._core", reason="this build has no kernels")

FUNCTIONS = ("exp", "sigmoid", "tanh")
ULP = 3
STRIDE = 1021  # a prime: all exponents, both signs, all low bits
DOUBLES = 200_000

every_isa_there_is = pytest.mark.parametrize("isa", core.isas_available())
every_function = pytest.mark.parametrize("function", FUNCTIONS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


@pytest.fixture(autouse=True)
def chosen(isa):
    """Use one instruction set in a block, then the one before."""
    before = core.isa()
    assert core.select_isa(isa)
    yield
    core.select_isa(before)


def oracle(function, x):
    """The function in x's format, which is wider than the tested one."""
    with np.errstate(all="ignore"):
        if function == "exp":
            return np.exp(x)
        if function == "tanh":
            return np.tanh(x)
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)


def largest_error(got, exact):
    """The error in units in the last place of `exact`, at least a subnormal's; inf is 2^maxexp."""
    info = np.finfo(got.dtype)
    wide = exact.dtype.type
    top = np.ldexp(wide(1), info.maxexp)
    exact, value = np.minimum(exact, top), np.minimum(got.astype(wide), top)
    _, exponent = np.frexp(exact)
    exponent = np.clip(exponent - 1, info.minexp, info.maxexp - 1)
    return np.max(np.ldexp(np.abs(value - exact), info.nmant - exponent))


def neighbours(points, dtype, reach=50):
    """The numbers of a dtype around each point, the point included."""
    integer = np.int32 if dtype == np.float32 else np.int64
    bits = np.asarray(points, dtype).view(integer)
    x = np.add.outer(bits, np.arange(-reach, reach + 1, dtype=integer)).view(dtype).ravel()
    return x[np.isfinite(x)]


def edges(dtype):
    """Points where results leave 1, become subnormal, vanish or overflow, or k changes."""
    info = np.finfo(dtype)
    small = [info.smallest_subnormal, info.tiny, info.eps / 2, info.eps]
    powers = np.array([info.minexp - info.nmant - 1, info.minexp - info.nmant, info.minexp])
    halves = np.arange(1, 2 * info.maxexp + 1) / 2
    places = np.log(2) * np.concatenate([-powers, -powers / 2, halves])
    places = np.concatenate([small, [0.25, 0.5, 1, 20, 40, 80], places])
    return neighbours(np.concatenate([places, -places]), dtype)


@every_isa_there_is
@every_function
def test_float32_within_3_ulp(isa, function):
    x = np.arange(0, 2**32, STRIDE, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], edges(np.float32)])
    got = core.apply(function, x)
    assert largest_error(got, oracle(function, x.astype(np.float64))) <= ULP


@every_isa_there_is
@every_function
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="long double is double here")
def test_float64_within_3_ulp(isa, function):
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**64, DOUBLES, np.uint64).view(np.float64)
    near, nearer = rng.uniform(-750, 712, DOUBLES), rng.uniform(-45, 45, DOUBLES)
    any_size = np.ldexp(rng.uniform(-2, 2, DOUBLES), rng.integers(-1074, 11, DOUBLES))
    x = np.concatenate([bits[np.isfinite(bits)], near, nearer, any_size, edges(np.float64)])
    got = core.apply(function, x)
    assert largest_error(got, oracle(function, x.astype(np.longdouble))) <= ULP


@every_isa_there_is
@both_dtypes
def test_exact_at_zeros_and_infinities(isa, dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf], dtype)
    want = {"exp": [1, 1, np.inf, 0], "sigmoid": [0.5, 0.5, 1, 0], "tanh": [0.0, -0.0, 1, -1]}
    for function in FUNCTIONS:
        got, right = core.apply(function, x), np.array(want[function], dtype)
        np.testing.assert_array_equal(got, right)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(right))


@every_isa_there_is
@both_dtypes
@every_function
def test_nan_stays_in_its_lane(isa, dtype, function):
    x = np.linspace(-3, 3, 67).astype(dtype)
    clean = core.apply(function, x)
    for place in range(x.size):
        with_nan = x.copy()
        with_nan[place] = np.copysign(np.nan, (-1) ** place)
        got = core.apply(function, with_nan)
        assert np.isnan(got[place])
        got[place] = clean[place]
        np.testing.assert_array_equal(got, clean)


@every_isa_there_is
@both_dtypes
@every_function
def test_results_do_not_depend_on_the_length(isa, dtype, function):
    """Full vectors and tails give the same results, and numbers past the end have no effect."""
    x = np.random.default_rng(2).normal(0, 4, 71).astype(dtype)
    whole = core.apply(function, x)
    for n in range(x.size):
        np.testing.assert_array_equal(core.apply(function, x[:n]), whole[:n])
        np.testing.assert_array_equal(core.apply(function, x[n:]), whole[n:])
