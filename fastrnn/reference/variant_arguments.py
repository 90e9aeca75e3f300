"""What the functions of a variant take beyond those of a cell: parameters, and what was drawn.

A part of the reference: through_time.py carries it through time, variants.py reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from typing import Protocol

    from numpy.typing import NDArray

    class Noise(Protocol):
        """What was drawn for a pass, by the step's time."""

        def at(self, t: int, /) -> Any: ...


class VariantArguments(NamedTuple):
    """One pass'.

    params : dict from kinds to dense arrays, or None where there is no such bias.
    noise : `fastrnn._engine.dropout_masks.DropoutMasks` or None.
    """

    params: dict[str, NDArray[np.floating[Any]] | None]
    noise: Noise | None

    def at(self, t):
        """The arguments of a step."""
        return self.params, None if self.noise is None else self.noise.at(t)

    def gradients(self, steps, batch):
        """For each parameter that there is a (T, B, n) array for its gradient row by row."""
        return {
            kind: np.empty((steps, batch, p.size), p.dtype)
            for kind, p in self.params.items()
            if p is not None
        }
