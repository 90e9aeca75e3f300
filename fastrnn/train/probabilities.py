"""Sigmoid and softmax: probabilities from logits.

It must not know: losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.train.protocols import Floats


def sigmoid(x: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)), in a form that does not overflow.

    Parameters
    ----------
    x : array of float32 or float64

    Returns
    -------
    y : array like x
        Between 0 and 1.

    Raises
    ------
    TypeError
        For another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> train.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    x = checks.as_array("x", x)
    with np.errstate(under="ignore"):  # a tiny power is rounded, to 0 at last
        power = np.exp(-np.abs(x))
        return np.where(x >= 0, 1, power) / (1 + power)


def softmax(x: ArrayLike, axis: int = -1) -> Floats:
    """exp(x) / sum of exp(x) along an axis, in a form that does not overflow.

    Parameters
    ----------
    x : array of float32 or float64
    axis : int
        The axis of the classes.

    Returns
    -------
    y : array like x
        The sum along the axis is 1. An x of -inf has the probability 0. If all x along the axis are
        -inf, their probabilities are NaN.

    Raises
    ------
    ValueError, TypeError
        For another dtype, and for an axis that x does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> train.softmax(np.array([[0.0, 0.0], [1000.0, -1000.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = checks.as_array("x", x)
    if x.ndim == 0:
        raise ValueError("x must have at least one axis, got a single number")
    _, powers, total = shifted_powers(x, axis)
    with np.errstate(under="ignore"):
        powers /= total.astype(powers.dtype)
    return powers


def shifted_powers(x, axis=-1):
    """(largest, powers, total): the largest x, exp(x - largest), and the powers' float64 sum."""
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    # A difference beyond the range of floats is -inf, and its power is 0. If all x are -inf, the
    # difference is NaN.
    with np.errstate(all="ignore"):
        powers = np.exp(x - largest)
    return largest, powers, powers.sum(axis=axis, keepdims=True, dtype=np.float64)
