"""Weights of lower precision: what the kernels' packed weights stand for, in plain NumPy.

It must not know: cells, layers, time.
"""

import numpy as np


def to_bfloat16(x):
    """Round float32 numbers to bfloat16, to nearest even; the result is float32 again.

    A bfloat16 is the upper half of a float32: 8 bits of exponent and 8 significant bits. Numbers
    beyond the largest one become infinite.

    Parameters
    ----------
    x : float32 array

    Returns
    -------
    float32 array
        Of the shape of x. A NaN stays a NaN.

    References
    ----------
    Intel, BFLOAT16 - Hardware Numerics Definition, 2018 (subnormal numbers are rounded too here).

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.reference.precision import to_bfloat16
    >>> to_bfloat16(np.float32([1, 1.00390625, 1.01171875, 0.1])).tolist()
    [1.0, 1.0, 1.015625, 0.10009765625]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    nearest = np.where(np.isnan(x), bits | np.uint32(0x400000), nearest)
    return (nearest & np.uint32(0xFFFF0000)).view(np.float32)


ROUND_WEIGHTS = {"bfloat16-weights": to_bfloat16}
"""precision -> the function that rounds a matrix of weights."""
