"""Dropout masks of a training pass: recurrent dropout, zoneout.

It must not know: layers, cells.
"""

from typing import NamedTuple

import numpy as np

_AT_ONCE = 1 << 16  # elements; below that, the generator's calls take as long as the draws


class DropoutMasks(NamedTuple):
    """The masks of one pass.

    recurrent : (B, H) factors of h in the recurrent products, the same for every step; or None.
    zoneout : for each array of the state a (T, B, H) array, 1 where an element keeps its value and
        0 where it takes the new one; () for no zoneout.
    """

    recurrent: np.ndarray | None
    zoneout: tuple

    def at(self, t):
        """The masks of step t: `recurrent`, and a (B, H) array for each array of the state."""
        return self.recurrent, tuple([d[t] for d in self.zoneout])

    def sorted_by(self, sort_order):
        """The masks with their rows sorted, as the kernels read them."""
        factors = None if self.recurrent is None else self.recurrent[sort_order]
        return DropoutMasks(factors, tuple([np.take(d, sort_order, axis=1) for d in self.zoneout]))


def drawn(rng, shape, dtype, recurrent_dropout, zoneout, sort_order=None):
    """Draw `DropoutMasks` for a pass of shape (T, B, H), with these probabilities.

    sort_order : (B,) integers, the batch row of each row of the masks; None does not sort them.
    """
    factors = (
        dropout_factors(rng, shape[1:], dtype, recurrent_dropout) if recurrent_dropout else None
    )
    zoneout_masks = tuple([_zeros_and_ones(rng, shape, dtype, p) for p in zoneout])
    masks = DropoutMasks(factors, zoneout_masks)
    return masks if sort_order is None else masks.sorted_by(sort_order)


def dropout_factors(rng, shape, dtype, dropout):
    """An array of 0 with probability `dropout`, else of 1 / (1 - dropout)."""
    factor = dtype.type(1 / (1 - dropout) if dropout < 1 else 0)
    factors = _zeros_and_ones(rng, shape, dtype, 1 - dropout)
    return np.multiply(factors, factor, out=factors)


def _zeros_and_ones(rng, shape, dtype, probability):
    """An array whose elements are 1 with this probability, to within 2**-33, else 0.

    Each element takes half of a random 64-bit word. At most `_AT_ONCE` elements are drawn at a
    time, so the words fit the cache. This takes half the time of as many random floats.
    """
    few = round(probability * 2**32)
    if few == 0:
        return np.zeros(shape, dtype)
    elements = np.empty(shape, dtype)
    flat, last = elements.reshape(-1), np.uint32(few - 1)
    for begin in range(0, flat.size, _AT_ONCE):
        some = flat[begin : begin + _AT_ONCE]
        words = rng.integers(2**64 - 1, size=(some.size + 1) // 2, dtype=np.uint64, endpoint=True)
        np.less_equal(words.view(np.uint32)[: some.size], last, out=some, casting="unsafe")
    return elements
