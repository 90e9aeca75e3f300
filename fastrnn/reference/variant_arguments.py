"""What the functions of a variant take beyond those of a cell: parameters and dropout masks.

A part of the reference: through_time.py carries it through time, variants.py reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from typing import Protocol

    from numpy.typing import NDArray

    class DropoutMasks(Protocol):
        """The dropout masks of a pass, step by step."""

        def at(self, t: int, /) -> Any: ...


class VariantArguments(NamedTuple):
    """One pass'.

    params : dict from kinds to dense arrays, or None where there is no such bias.
    dropout_masks : `fastrnn._engine.dropout_masks.DropoutMasks` or None.
    """

    params: dict[str, NDArray[np.floating[Any]] | None]
    dropout_masks: DropoutMasks | None

    def at(self, t):
        """The arguments of a step."""
        return self.params, None if self.dropout_masks is None else self.dropout_masks.at(t)

    def gradients(self, steps, batch):
        """For each parameter that there is a (T, B, n) array for its gradient row by row."""
        return {
            kind: np.empty((steps, batch, p.size), p.dtype)
            for kind, p in self.params.items()
            if p is not None
        }
