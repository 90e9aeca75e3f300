"""What is drawn anew for a training pass: recurrent dropout, zoneout.

It must not know: layers, cells.
"""

from typing import NamedTuple

import numpy as np


class Noise(NamedTuple):
    """Of one pass.

    recurrent : (B, H) factors of h in the recurrent products, the same for every step; or None.
    zoneout : for each array of the state (T, B, H) numbers, 1 where an element stays and 0 where
        it is renewed; () for none.
    """

    recurrent: np.ndarray | None
    zoneout: tuple

    def at(self, t):
        """What a step reads: the factors, and of zoneout one (B, H) for each array."""
        return self.recurrent, tuple([d[t] for d in self.zoneout])


def drawn(rng, shape, dtype, recurrent_dropout, zoneout, order=None):
    """`Noise` for a pass of this shape (T, B, H), with these probabilities.

    order : the rows in the order in which the noise is to have them; None is their own.
    """
    factors = kept_factors(rng, shape[1:], dtype, recurrent_dropout) if recurrent_dropout else None
    stays = tuple([(rng.random(shape, np.float32) < p).astype(dtype) for p in zoneout])
    if order is None:
        return Noise(factors, stays)
    factors = None if factors is None else factors[order]
    return Noise(factors, tuple([np.take(d, order, axis=1) for d in stays]))


def kept_factors(rng, shape, dtype, dropout):
    """0 with probability `dropout`, else 1 / (1 - dropout)."""
    kept = rng.random(shape, np.float32) >= dropout
    return kept * dtype.type(1 / (1 - dropout) if dropout < 1 else 0)
