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


_LARGEST = 127  # of the integers of int8


def _in_units(w, scale):
    """Numbers of rows in units of a scale for each row, as integers from -127 to 127."""
    with np.errstate(all="ignore"):
        q = np.where(scale[:, None] > 0, w / scale[:, None], 0)
        return np.rint(np.clip(q, -_LARGEST, _LARGEST)) + 0.0  # no -0


def _in_order(terms):
    """The sum of each row, term after term, as the kernels add them up."""
    return np.cumsum(terms, axis=1)[:, -1]


def int8_scales(w):
    """The scale of each row of a float32 matrix whose numbers become integers from -127 to 127.

    A scale minimises the squared error of its row [least squares], for the integers that it gives.
    It begins with the row's largest number, or cuts that by an eighth or by a quarter; the best one
    is taken. It is NaN if a number is not finite, and 0 for a row of zeros.

    Parameters
    ----------
    w : (N, K) float32 array

    Returns
    -------
    (N,) float32 array

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.reference.precision import int8_scales
    >>> bool(np.isclose(int8_scales(np.float32([[0.5, -1.27, 0.02]]))[0], 0.01))
    True
    """
    w = np.asarray(w, np.float32)
    if w.shape[1] == 0:
        return np.zeros(len(w), np.float32)
    largest = np.abs(w).max(1).astype(float)
    wide, best, least = w.astype(float), np.zeros(len(w)), np.full(len(w), np.finfo(float).max)
    with np.errstate(all="ignore"):
        for part in (1, 0.875, 0.75):
            scale = largest / _LARGEST * part
            for _ in range(2):
                q = _in_units(wide, scale)
                square = _in_order(q * q)
                scale = np.where(square > 0, _in_order(wide * q) / square, scale)
            error = _in_order((wide - scale[:, None] * _in_units(wide, scale)) ** 2)
            best, least = np.where(error < least, scale, best), np.minimum(error, least)
    best[largest / _LARGEST < np.finfo(np.float32).tiny] = 0
    best[~np.isfinite(w).all(1)] = np.nan
    return best.astype(np.float32)


def to_int8(w):
    """Round a float32 matrix to multiples of the scales of its rows; the result is float32."""
    scales = int8_scales(w)
    return scales[:, None] * _in_units(np.asarray(w, np.float32), scales)


class NarrowMatrix:
    """A matrix that converts the rows that it multiplies, as far as forward passes need one."""

    __array_ufunc__ = None  # NumPy leaves products to __rmatmul__
    dtype = np.dtype(np.float32)

    def __init__(self, w):
        self._w = w

    @property
    def shape(self):
        return self._w.shape

    def __len__(self):
        return len(self._w)

    @property
    def T(self):
        return _Transposed(self)


class _Transposed:
    __array_ufunc__ = None

    def __init__(self, matrix):
        self._matrix = matrix

    def __getitem__(self, columns):
        return self._matrix._w.T[columns]

    def __rmatmul__(self, rows):
        return self._matrix.products_of(rows)


class BFloat16Matrix(NarrowMatrix):
    """A matrix of weights rounded to bfloat16, whose products round rows too.

    Parameters
    ----------
    w : (N, K) float32 array
        Rounded numbers.
    """

    def __getitem__(self, rows):
        return BFloat16Matrix(self._w[rows])

    def products_of(self, rows):
        return to_bfloat16(rows) @ self._w.T


class Int8Matrix(NarrowMatrix):
    """A matrix of int8 weights.

    A product with it sums integers exactly: each row that it multiplies becomes integers with a
    scale of their own, so that its largest number is 127.

    Parameters
    ----------
    w : (N, K) float32 array
        Multiples of `scales`.
    scales : (N,) float32 array
    bounded : bool
        True gives rows of numbers of at most 1 the scale 1/127.
    """

    def __init__(self, w, scales, bounded=False):
        super().__init__(w)
        self._scales, self._bounded = scales, bounded
        self._integers = _in_units(w, scales)

    def __getitem__(self, rows):
        return Int8Matrix(self._w[rows], self._scales[rows], self._bounded)

    def products_of(self, rows):
        most = np.abs(rows).max(1, initial=0)
        if self._bounded:
            most[most <= 1] = 1
        most[~np.isfinite(rows).all(1)] = np.nan
        with np.errstate(all="ignore"):
            scale, inverse = most / np.float32(_LARGEST), np.float32(_LARGEST) / most
        zero = scale < np.finfo(np.float32).tiny
        scale[zero] = inverse[zero] = 0
        q = np.rint(np.nan_to_num(rows * inverse[:, None])).astype(float)
        sums = (q @ self._integers.T.astype(float)).astype(np.float32)  # exact in float64
        return scale[:, None] * self._scales * sums


ROUND_WEIGHTS = {"bfloat16-weights": to_bfloat16, "int8": to_int8, "bfloat16": to_bfloat16}
"""precision -> the function that rounds a matrix of weights."""
