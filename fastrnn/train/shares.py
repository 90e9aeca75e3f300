"""The weight of each element's loss in the mean of all that count.

It must not know: losses.
"""

import math
from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._engine import ragged


class Shares(NamedTuple):
    """The weight of each element's loss in the mean.

    share : float64 array that broadcasts to the losses, the weights; they add up to 1.
    counted : booleans of that shape, False where the weight is 0; None if all elements count.
    """

    share: np.ndarray
    counted: np.ndarray | None

    def zeroed(self, array, more_axes=0):
        """The array with 0 for elements that do not count."""
        if self.counted is None:
            return array
        return np.where(_widened(self.counted, more_axes), array, np.zeros((), array.dtype))

    def mean(self, losses):
        return float(np.multiply(losses, self.share, dtype=np.float64).sum())

    def weighted(self, gradient, more_axes=0, factor=1):
        """The gradient of the mean, from the gradients of the elements' losses."""
        return gradient * _widened(factor * self.share, more_axes).astype(gradient.dtype)


def _widened(array, more_axes):
    return array.reshape(array.shape + (1,) * more_axes)


def before_end(lengths, shape, batch_first):
    """Booleans, False for elements beyond their row's end, that broadcast to losses of this shape.

    None if all count.
    """
    batch_first = checks.flag("batch_first", batch_first)
    if lengths is None:
        return None
    given = checks.converted("lengths", lengths, "integers")
    several = given.ndim > 0
    axes = ("T",) if not several else ("B", "T") if batch_first else ("T", "B")
    if len(shape) < len(axes):
        hint = ": for one result of each row leave lengths out" if several else ""
        raise ValueError(
            f"lengths {given.shape} need losses of shape ({', '.join(axes)}, ...), got {shape}"
            + hint
        )
    sizes = dict(zip(axes, shape, strict=False))
    if several and given.shape != (sizes["B"],):
        hint = f": is batch_first {not batch_first}?" if given.shape == (sizes["T"],) else ""
        raise ValueError(
            f"lengths must be (B,) = ({sizes['B']},) for losses of shape {shape}, got "
            f"{given.shape}{hint}"
        )
    rows = ragged.rows(sizes["T"], sizes.get("B"), lengths)
    if rows is None:
        return None
    within = rows.within(sizes["T"])  # (T, B), or (T, 1) for a single sequence
    within = within.T if axes[0] == "B" else within
    return within.reshape(shape[: len(axes)] + (1,) * (len(shape) - len(axes)))


def both(counted, other):
    """Booleans that are True where both are; None is True everywhere."""
    if counted is None or other is None:
        return other if counted is None else counted
    return counted & other


def shares_of(weights, shape, counted=None):
    """The `Shares` for losses of this shape.

    counted : None, or booleans, False for an element of weight 0.
    """
    if weights is None:
        weights = np.ones((1,) * len(shape)) if counted is None else counted.astype(np.float64)
    else:
        weights = _weights(weights, shape)
        weights = weights if counted is None else np.where(counted, weights, 0)
    largest = weights.max(initial=0)
    weights = weights / (largest or 1)  # then their sum cannot overflow
    total = weights.sum() * (math.prod(shape) / max(weights.size, 1))
    share = weights / (total or 1)
    return Shares(share, None if share.all() else share != 0)


def _weights(weights, shape):
    """Weights in float64, with as many axes as the losses have."""
    weights = checks.plain("weights", weights)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"weights must be an array of numbers, got dtype {weights.dtype}")
    axes = weights.shape
    if 1 < len(axes) < len(shape):
        axes += (1,) * (len(shape) - len(axes))
    axes = (1,) * (len(shape) - len(axes)) + axes
    if len(axes) != len(shape) or any(n not in (1, of) for n, of in zip(axes, shape, strict=True)):
        hint = ": for one of each row use weights[:, None]" if weights.shape == shape[:1] else ""
        raise ValueError(
            f"weights must be like the losses, {shape}, or broadcast to them, got "
            f"{weights.shape}{hint}"
        )
    weights = weights.reshape(axes).astype(np.float64)
    wrong = weights[~((weights >= 0) & (weights < np.inf))]
    if wrong.size:
        raise ValueError(f"weights must be finite and at least 0, got {wrong.flat[0]}")
    return weights
