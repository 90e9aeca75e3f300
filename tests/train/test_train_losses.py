"""Losses: against finite differences and PyTorch; weights, ignored targets, kinds of targets."""

import math

import numpy as np
import pytest
from problems import assert_same_bits
from training import assert_slopes, draw, every_dtype

from fastrnn import train

pytestmark = pytest.mark.no_kernels

NAMES = ["cross_entropy", "binary_cross_entropy", "mean_squared_error"]
every_loss = pytest.mark.parametrize("name", NAMES)
WEIGHTS = (None, np.array([1.0, 0, 2]), np.array([[True], [False], [True], [True]]))
every_weight = pytest.mark.parametrize("weights", WEIGHTS, ids=["all alike", "rows", "steps"])


@every_weight
@every_loss
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
    with np.errstate(all="raise"):
        loss, gradient = train.cross_entropy(large, np.array([0, 1]))
        assert loss == 0 and not gradient.any() and gradient.dtype == dtype
        loss, gradient = train.binary_cross_entropy(large, (large > 0).astype(dtype))
        assert loss == 0 and not gradient.any() and gradient.dtype == dtype


def test_the_largest_logits_have_a_loss():
    logits = np.array([[3e38, -3e38]], "f4")
    with np.errstate(all="raise"):
        assert train.cross_entropy(logits, [0])[0] == 0
        loss, gradient = train.cross_entropy(logits, [1])
    assert loss == pytest.approx(6e38) and (gradient == [[1, -1]]).all()


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
        (lambda: train.mean_squared_error(draw(4, 1), draw(4)), ValueError, r"\[..., None\] adds"),
        (lambda: train.cross_entropy(draw(4, 3), np.eye(4, 3)), ValueError, "targets.argmax"),
        (lambda: train.cross_entropy(draw(4, 3), [0, 1.5, 0, 0]), ValueError, "integers.* got 1.5"),
        (lambda: train.cross_entropy(draw(4, 3), [0, np.nan, 0, 0]), ValueError, "got nan"),
        (lambda: train.cross_entropy(draw(2, 3), ["a", "b"]), TypeError, "must be integers"),
        (lambda: train.cross_entropy(np.array(1.0), 0), ValueError, "logits must be"),
        (lambda: train.cross_entropy(draw(1, 3), [0], ignore_index=0.5), TypeError, "ignore_index"),
        (lambda: train.binary_cross_entropy(draw(2), [-1, 1]), ValueError, "from 0 to 1, got -1"),
        (lambda: train.mean_squared_error(draw(2), ["a", "b"]), TypeError, "targets must be float"),
        (lambda: train.mean_squared_error(draw(1), [None]), TypeError, "integers, got dtype obj"),
        (lambda: train.mean_squared_error(draw(4), [0, 1, 2, 2**53 + 1]), TypeError, "like y"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1, -1, 1], ValueError, "weights must be finite and at least 0, got -1"),
        ([1, np.nan, 1], ValueError, "weights must be finite and at least 0, got nan"),
        ([1, np.inf, 1], ValueError, "weights must be finite and at least 0, got inf"),
        ([1, 1, 1, 1], ValueError, r"\(4,\): for one of each row use weights\[:, None\]"),
        (np.ones((3, 4)), ValueError, r"weights must be like the losses, \(4, 3\), or broadcast"),
        (np.ones((4, 3, 1)), ValueError, "weights must be like the losses"),
        (["a", "b", "c"], TypeError, "weights must be an array of numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, error, message):
    with pytest.raises(error, match=message):
        train.mean_squared_error(draw(4, 3), draw(4, 3), weights)


@every_loss
def test_masked_arrays_are_refused(name):
    loss, (y, targets) = getattr(train, name), problem(name)
    for given in (
        (np.ma.array(y), targets),
        (y, np.ma.array(targets)),
        (y, targets, np.ma.array(np.ones(()))),
    ):
        with pytest.raises(TypeError, match="must be an array without a mask"):
            loss(*given)


# ---- what counts ---------------------------------------------------------------------------------


def problem(name, dtype="float64"):
    """y (4, 3, 2) and targets for it."""
    targets = np.abs(draw(4, 3, 2, seed=1)).astype(dtype)
    targets = targets[..., 0] > 0.5 if name == "cross_entropy" else targets
    return draw(4, 3, 2, dtype=dtype), targets


def counts(name, *, of):
    """Weights of the elements, some of them 0."""
    weights = np.arange(24.0).reshape(4, 3, 2) % 5
    if name == "cross_entropy":
        weights = weights[..., 0]
    return {"elements": weights, "steps": weights[:, :1], "rows": weights[:1]}[of]


@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of", ["elements", "steps", "rows"])
@every_loss
def test_what_weighs_nothing_may_be_anything(name, of, bad, dtype):
    loss, (y, targets), weights = getattr(train, name), problem(name, dtype), counts(name, of=of)
    wanted = loss(y, targets, weights)
    nothing = np.broadcast_to(weights, targets.shape) == 0
    spoilt, other = y.copy(), targets.astype(dtype)
    spoilt[nothing], other[nothing] = bad, bad
    for given in ((spoilt, targets), (y, other), (spoilt, other)):
        ours = loss(*given, weights)
        assert_same_bits(ours[0], wanted[0])
        assert_same_bits(ours[1], wanted[1])
    assert not wanted[1][nothing].any() and wanted[0] > 0


@every_loss
def test_what_weighs_something_is_judged_whatever_it_is(name):
    loss, (y, targets) = getattr(train, name), problem(name)
    y[0, 0, 0] = np.nan
    value, gradient = loss(y, targets, counts(name, of="elements") + 1)
    assert math.isnan(value) and np.isnan(gradient[0, 0, 0]) and np.isfinite(gradient[1:]).all()


# ---- lengths -------------------------------------------------------------------------------------


@every_dtype
@every_loss
@pytest.mark.parametrize("weights", [None, "elements", "rows"], ids=str)
def test_steps_beyond_a_rows_length_count_neither_in_the_loss_nor_in_the_gradient(
    name, weights, dtype
):
    loss, (y, targets) = getattr(train, name), problem(name, dtype)
    lengths, within = [4, 0, 2], np.arange(4)[:, None] < [4, 0, 2]
    weights = 1 if weights is None else counts(name, of=weights)
    inside = within.reshape(4, 3, *(1,) * (targets.ndim - 2))
    wanted = loss(y, targets, np.where(inside, weights, 0))
    beyond, other = y.copy(), targets.astype(dtype)
    beyond[~within], other[~within] = np.nan, np.nan
    first = {"lengths": np.array(lengths), "batch_first": True}
    for ours in (
        loss(beyond, other, weights, lengths=lengths),
        loss(beyond, targets, weights, lengths=np.array(lengths, "u1")),
    ):
        assert_same_bits(ours, wanted)
    if np.ndim(weights) == 0:
        value, gradient = loss(beyond.swapaxes(0, 1), other.swapaxes(0, 1), **first)
        np.testing.assert_allclose(value, wanted[0], rtol=1e-12)  # the sum has another order
        assert_same_bits(gradient.swapaxes(0, 1), wanted[1])
    assert not wanted[1][~within].any() and wanted[0] > 0
    assert_same_bits(loss(y, targets, lengths=[4, 4, 4]), loss(y, targets))


@every_loss
def test_the_length_of_a_single_sequence_is_a_number(name):
    loss, (y, targets) = getattr(train, name), problem(name)
    value, gradient = loss(y[:, 0], targets[:, 0], lengths=3)
    wanted = loss(y[:3, 0], targets[:3, 0])
    assert value == pytest.approx(wanted[0], rel=1e-14)
    assert_same_bits(gradient[:3], wanted[1])
    assert not gradient[3:].any()


def test_lengths_and_ignored_classes_go_together():
    logits, targets = draw(4, 3, 5), np.arange(12).reshape(4, 3) % 5
    counted = (np.arange(4)[:, None] < [4, 1, 2]) & (targets != 2)
    assert_same_bits(
        train.cross_entropy(logits, targets, ignore_index=2, lengths=[4, 1, 2]),
        train.cross_entropy(logits, targets, counted),
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lengths": [4, 5, 1]}, ValueError, "lengths must be from 0 to T = 4, got 5"),
        ({"lengths": [4, -1, 1]}, ValueError, "lengths must be from 0 to T = 4, got -1"),
        ({"lengths": [4, 1]}, ValueError, r"lengths must be \(B,\) = \(3,\) .* got \(2,\)$"),
        ({"lengths": [4, 1, 1, 1]}, ValueError, r"got \(4,\): is batch_first True\?"),
        ({"lengths": [3, 1, 1], "batch_first": True}, ValueError, "is batch_first False"),
        ({"lengths": [4.0, 1.0, 1.0]}, TypeError, "lengths must be integers"),
        ({"lengths": [3, 1, 1], "batch_first": 1}, TypeError, "batch_first must be True or False"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        train.mean_squared_error(draw(4, 3, 2), draw(4, 3, 2), **options)


def test_lengths_for_one_result_of_each_row_are_refused():
    with pytest.raises(ValueError, match=r"lengths \(3,\) need losses .* leave lengths out"):
        train.cross_entropy(draw(3, 5), [0, 1, 2], lengths=[4, 1, 2])


# ---- kinds of weights ----------------------------------------------------------------------------


@every_dtype
@every_loss
def test_if_nothing_counts_loss_and_gradient_are_0(name, dtype):
    loss, (y, targets) = getattr(train, name), problem(name, dtype)
    value, gradient = loss(np.full_like(y, np.nan), targets, 0)
    assert value == 0 and not gradient.any() and gradient.shape == y.shape
    value, gradient = loss(y[:0], targets[:0])
    assert value == 0 and gradient.shape == (0, 3, 2) and gradient.dtype == dtype
    assert loss(y[:0], targets[:0], np.ones((0, 3)))[0] == 0


@pytest.mark.parametrize("shape", [(4, 3, 2), (3, 3, 3), (1, 3, 3)], ids=str)
@pytest.mark.parametrize("of", ["all", "steps", "rows"])
@pytest.mark.parametrize("name", NAMES[1:])
def test_weights_of_steps_and_rows_are_those_of_all_their_features(name, of, shape):
    loss, y, targets = getattr(train, name), draw(*shape), np.abs(draw(*shape, seed=1))
    weights = np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape[:2]) % 4
    weights = {"all": weights, "steps": weights[:, :1], "rows": weights[:1]}[of]
    wanted = loss(y, targets, np.array(np.broadcast_to(weights[..., None], shape)))
    ours = loss(y, targets, weights)
    np.testing.assert_allclose(ours[0], wanted[0], rtol=1e-14)
    np.testing.assert_allclose(ours[1], wanted[1], rtol=1e-14)


@pytest.mark.parametrize("largest", [1e-300, 1e308])
def test_weights_matter_by_their_ratios_alone(largest):
    y, targets, weights = draw(4, 3), draw(4, 3, seed=1), np.abs(draw(4, 3, seed=2))
    wanted = train.mean_squared_error(y, targets, weights)
    loss, gradient = train.mean_squared_error(y, targets, weights * largest)
    np.testing.assert_allclose(loss, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, wanted[1], rtol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS[:2], ids=["all alike", "rows"])
@pytest.mark.parametrize(
    ("kind", "ignored"), [("i1", -100), ("i8", -1), ("u1", 255), ("u8", 2**64 - 1), ("f8", -1)]
)
def test_classes_that_are_ignored_weigh_nothing(kind, ignored, weights):
    logits, targets = draw(4, 3, 5), np.arange(12).reshape(4, 3) % 5
    counted = targets != 2
    wanted = train.cross_entropy(logits, targets, counted * (1 if weights is None else weights))
    other = np.where(counted, targets, 0).astype(kind)
    other[~counted] = ignored
    logits[~counted] = np.nan
    ours = train.cross_entropy(logits, other, weights, ignore_index=ignored)
    assert_same_bits(ours[0], wanted[0])
    assert_same_bits(ours[1], wanted[1])


def test_a_class_may_be_ignored_and_classes_that_are_not_are_checked():
    logits = draw(3, 2)
    wanted = train.cross_entropy(logits[1:], [1, 1])
    loss, gradient = train.cross_entropy(logits, [0, 1, 1], ignore_index=0)
    assert_same_bits(loss, wanted[0])
    assert_same_bits(gradient[1:], wanted[1])
    assert train.cross_entropy(logits, [9, 9, 9], ignore_index=9)[0] == 0
    with pytest.raises(ValueError, match="targets must be from 0 to 1, got -1"):
        train.cross_entropy(logits, [-1, 1, 9], ignore_index=9)


def test_ignored_classes_are_pytorchs():
    torch = pytest.importorskip("torch")
    logits, targets = draw(8, 4), np.array([0, -100, 3, 2, -100, 1, 1, 0])
    given = torch.from_numpy(logits.copy()).requires_grad_()
    loss = torch.nn.functional.cross_entropy(given, torch.from_numpy(targets))
    loss.backward()
    ours = train.cross_entropy(logits, targets, ignore_index=-100)
    np.testing.assert_allclose(ours[0], loss.item(), rtol=1e-12)
    np.testing.assert_allclose(ours[1], given.grad.numpy(), rtol=1e-10, atol=1e-15)


# ---- what targets may be -------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", ">f8", list])
@every_loss
def test_targets_are_taken_from_whatever_holds_them_exactly(name, kind, dtype):
    y, targets = draw(4, 2, dtype=dtype), np.array([0, 1, 1, 0])
    targets = targets if name == "cross_entropy" else np.stack([targets, 1 - targets], axis=1)
    loss = getattr(train, name)
    wanted = loss(y, targets if name == "cross_entropy" else targets.astype(dtype))
    value, gradient = loss(y, targets.tolist() if kind is list else targets.astype(kind))
    assert_same_bits(value, wanted[0])
    assert_same_bits(gradient, wanted[1])
    assert gradient.dtype == dtype


@pytest.mark.parametrize(
    "targets",
    [
        np.array([0.5, 0.1]),
        np.array([1.0, 1e300]),
        np.array([0, 2**24 + 1]),
        np.array([0, 2**31 - 1], "i4"),
        np.array([0, 2**63 - 1]),
        np.array([0, -(2**63) + 1]),
        np.array([0, 2**64 - 1], "u8"),
    ],
    ids=str,
)
def test_targets_that_a_cast_would_change_are_refused(targets):
    y = draw(2, dtype="float32")
    cast = r'targets must be float32 like y, .* cast it with targets.astype\("float32"\)'
    with pytest.raises(TypeError, match=cast):
        train.mean_squared_error(y, targets)
    assert np.isfinite(train.mean_squared_error(y, targets, [1, 0])[0])  # what does not count


@pytest.mark.parametrize("targets", [[0.5, np.nan], [2**24 + 2, -(2**61)], [2.0**100, 1]], ids=str)
def test_targets_that_a_cast_leaves_as_they_are_are_taken(targets):
    y = draw(2, dtype="float32")
    ours = train.mean_squared_error(y, np.array(targets))
    wanted = train.mean_squared_error(y, np.array(targets, "float32"))
    np.testing.assert_array_equal(ours[0], wanted[0])
    np.testing.assert_array_equal(ours[1], wanted[1])


# ---- digits --------------------------------------------------------------------------------------


def assert_digits(steps, error):
    """Assert that a float32 mean over two rows of so many steps is near the float64 mean."""
    y = np.full((steps, 2), np.float32(0.1))
    y[:, 1] = draw(steps, dtype="float32")
    targets, weights = np.zeros_like(y), np.array([0.1, 0.7], "float32")
    for given in (None, weights):
        loss, gradient = train.mean_squared_error(y, targets, given)
        share = np.full(2, 0.5) if given is None else weights / weights.sum(dtype="float64")
        wanted = (np.square(y, dtype="float64").mean(axis=0) * share).sum()
        assert abs(loss - wanted) <= error * wanted
        np.testing.assert_allclose(gradient[0], 2 * y[0] * share / steps, rtol=1e-6)


def test_means_keep_their_digits():
    assert_digits(500_000, 1e-7)


@pytest.mark.slow
def test_means_over_many_steps_keep_their_digits():
    assert_digits(10_000_000, 1e-5)


def test_errors_whose_squares_are_no_float32_have_a_mean():
    y = np.array([1e20, -1e-30, 3e38], "float32")
    loss, gradient = train.mean_squared_error(y, np.zeros(3, "float32"))
    np.testing.assert_allclose(loss, np.square(y, dtype="float64").mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 / 3 * y.astype("float64"), rtol=1e-6)


@pytest.mark.parametrize("logit", [3, 10, 20, 80])
def test_small_binary_losses_keep_their_digits(logit):
    logits = np.array([logit, -logit], "float32")
    loss, _ = train.binary_cross_entropy(logits, [1, 0])
    np.testing.assert_allclose(loss, np.log1p(np.exp(-float(logit))), rtol=1e-6)
