"""Losses: the mean over all elements that count, and its gradient.

An element counts if its weight is not 0. Each loss has three stages. It computes the weights
(`shares_of`). It replaces elements that do not count by zeros, so that a NaN there has no effect.
It computes the loss and the gradient of each element. The mean is a sum in float64, because a
float32 sum over many elements loses digits.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.train.probabilities import shifted_powers, sigmoid
from fastrnn.train.shares import before_end, both, shares_of

if TYPE_CHECKING:
    from typing import SupportsIndex

    from numpy.typing import ArrayLike

    from fastrnn._typing import Lengths
    from fastrnn.train.protocols import Floats


def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    ignore_index: SupportsIndex | None = None,
    lengths: Lengths | None = None,
    batch_first: bool = False,
) -> tuple[float, Floats]:
    """Softmax cross-entropy: the mean of log sum exp(logits) - logits[target].

    Parameters
    ----------
    logits : (..., K) array of float32 or float64
    targets : (...) array
        Classes from 0 to K - 1: integers of any dtype, booleans, or floats with integer values.
    weights : array, or None
        The weight of each target in the mean: numbers from 0 up, with any sum. A target of weight 0
        does not count, such as a step after a sequence's end: its logits and its target may have
        any value, NaN too. weights have the shape of targets or broadcast to it. Two or more axes
        are the first axes of targets: (T, B), (T, 1) and (1, B) weigh steps and rows, also if
        targets have more axes. One axis (n,) is the last axis of targets.
    ignore_index : int, or None
        Targets of this value do not count. The value need not be a class (PyTorch's default is
        -100).
    lengths : (B,) integers, or None
        The number of steps of each row, as a layer takes it. Steps beyond a row's end do not count,
        whatever their logits and targets are. The first two axes of targets are (T, B). For a
        single sequence lengths is a number, and the first axis is T. Elements count if weights and
        ignore_index let them count too.
    batch_first : bool
        The first two axes are (B, T), as in a layer with batch_first. Only lengths reads it.

    Returns
    -------
    loss : float
        0 if no element counts.
    gradient : array like logits
        0 for elements that do not count.

    Raises
    ------
    ValueError, TypeError
        For shapes that do not agree, for targets that are not classes, for weights that are
        negative or not finite, and for lengths beyond T.

    Examples
    --------
    Two sequences of three steps; the second one ends after one step:

    >>> import numpy as np
    >>> from fastrnn import train
    >>> logits = np.zeros((3, 2, 4), "float32")
    >>> targets, lengths = train.pad([[0, 1, 2], [3]])
    >>> loss, gradient = train.cross_entropy(logits, targets, lengths=lengths)
    >>> print(f"{loss:.4f}")
    1.3863
    >>> gradient[1, 0]
    array([ 0.0625, -0.1875,  0.0625,  0.0625], dtype=float32)
    >>> gradient.any(axis=-1)
    array([[ True,  True],
           [ True, False],
           [ True, False]])
    """
    logits, targets = checks.as_array("logits", logits), checks.plain("targets", targets)
    if logits.ndim == 0:
        raise ValueError("logits must be (..., K), got a single number")
    if targets.shape != logits.shape[:-1]:
        hint = ": for one-hot targets use targets.argmax(axis=-1)"
        raise ValueError(
            f"targets must be {logits.shape[:-1]} for logits of shape {logits.shape}, got "
            f"{targets.shape}{hint if targets.shape == logits.shape else ''}"
        )
    within = before_end(lengths, targets.shape, batch_first)
    shares = shares_of(weights, targets.shape, both(_not_ignored(targets, ignore_index), within))
    targets = _classes(shares.zeroed(targets), logits.shape[-1])[..., None]
    logits = shares.zeroed(logits, more_axes=1)
    largest, powers, total = shifted_powers(logits)
    with np.errstate(all="ignore"):  # as in shifted_powers
        below = np.subtract(largest, np.take_along_axis(logits, targets, -1), dtype=np.float64)
        losses = np.log(total) + below
        gradient = powers / total.astype(powers.dtype)
        np.put_along_axis(gradient, targets, np.take_along_axis(gradient, targets, -1) - 1, axis=-1)
        return shares.mean(losses[..., 0]), shares.weighted(gradient, more_axes=1)


def binary_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    lengths: Lengths | None = None,
    batch_first: bool = False,
) -> tuple[float, Floats]:
    """Cross-entropy of sigmoid(logits) with targets from 0 to 1, computed from the logits.

    log(1 + exp(logits)) - logits * targets, in a form that does not overflow and keeps its digits.

    Parameters
    ----------
    logits : array of float32 or float64
    targets : array of the shape of logits
        From 0 to 1: booleans, integers, or floats that the logits' dtype holds exactly.
    weights : array, or None
        As for `cross_entropy`, beside the logits' shape.
    lengths, batch_first
        As for `cross_entropy`; the first two axes are those of logits.

    Returns
    -------
    loss : float
        0 if no element counts.
    gradient : array like logits

    Raises
    ------
    ValueError, TypeError
        As for `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> loss, gradient = train.binary_cross_entropy(np.array([0.0, 20.0]), [True, True])
    >>> print(f"{loss:.4f}", gradient.round(4))
    0.3466 [-0.25 -0.  ]
    """
    logits, targets, shares = _alike("logits", logits, targets, weights, lengths, batch_first)
    outside = targets[(targets < 0) | (targets > 1)]
    if outside.size:
        raise ValueError(f"targets must be from 0 to 1, got {outside.flat[0]}")
    with np.errstate(all="ignore"):
        losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
        return shares.mean(losses), shares.weighted(sigmoid(logits) - targets)


def mean_squared_error(
    y: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    lengths: Lengths | None = None,
    batch_first: bool = False,
) -> tuple[float, Floats]:
    """The mean of (y - targets)**2, and its gradient.

    Parameters
    ----------
    y : array of float32 or float64
    targets : array of the shape of y
        Integers, or floats that y's dtype holds exactly.
    weights : array, or None
        As for `cross_entropy`, beside y's shape.
    lengths, batch_first
        As for `cross_entropy`; the first two axes are those of y.

    Returns
    -------
    loss : float
        0 if no element counts.
    gradient : array like y

    Raises
    ------
    ValueError, TypeError
        As for `cross_entropy`.

    Examples
    --------
    Missing measurements are NaN and do not count:

    >>> import numpy as np
    >>> from fastrnn import train
    >>> y, measured = np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 5.0])
    >>> train.mean_squared_error(y, measured, weights=~np.isnan(measured))
    (2.0, array([ 0.,  0., -2.]))
    """
    y, targets, shares = _alike("y", y, targets, weights, lengths, batch_first)
    error = y - targets
    with np.errstate(all="ignore"):
        return shares.mean(np.square(error, dtype=np.float64)), shares.weighted(error, factor=2)


# ---- targets -------------------------------------------------------------------------------------


def _alike(name, array, targets, weights, lengths, batch_first):
    """(array, targets, shares): array and targets of one shape and dtype, with 0 if not counted."""
    array, targets = checks.as_array(name, array), checks.plain("targets", targets)
    if targets.shape != array.shape:
        hint = ": [..., None] adds the last axis" if (*targets.shape, 1) == array.shape else ""
        raise ValueError(f"targets must be {array.shape} like {name}, got {targets.shape}{hint}")
    shares = shares_of(weights, array.shape, before_end(lengths, array.shape, batch_first))
    targets = checks.exact("targets", shares.zeroed(targets), array.dtype, name)
    return shares.zeroed(array), targets, shares


def _not_ignored(targets, ignore_index):
    """Booleans, False for targets to ignore; None if no class is ignored."""
    if ignore_index is None:
        return None
    try:
        return targets != operator.index(ignore_index)
    except TypeError:
        kind = type(ignore_index).__name__
        raise TypeError(f"ignore_index must be an integer or None, got {kind}") from None


def _classes(targets, count):
    """Classes from 0 to count - 1 as integers, from integers, booleans or floats."""
    if targets.dtype.kind == "f":
        wrong = targets[~((targets >= 0) & (targets < count) & (targets == np.floor(targets)))]
        if wrong.size:
            raise ValueError(f"targets must be integers from 0 to {count - 1}, got {wrong.flat[0]}")
    if targets.dtype.kind in "bf":
        targets = targets.astype(np.intp)
    return checks.ids("targets", targets, count).astype(np.intp, copy=False)
