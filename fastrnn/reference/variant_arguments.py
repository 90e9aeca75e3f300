"""The additional arguments of a variant's functions: extra parameters and dropout masks.

through_time.py passes them to each step, variants.py reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from typing import Protocol

    from numpy.typing import NDArray

    class DropoutMasks(Protocol):
        """The dropout masks of a pass, of which `at` gives those of a step."""

        def at(self, t: int, /) -> Any: ...


class VariantArguments(NamedTuple):
    """The additional arguments of one pass.

    params : dict from kinds to dense arrays; None for an absent bias.
    dropout_masks : `fastrnn._engine.dropout_masks.DropoutMasks` or None.
    """

    params: dict[str, NDArray[np.floating[Any]] | None]
    dropout_masks: DropoutMasks | None

    def at(self, t):
        """The arguments of a step."""
        return self.params, None if self.dropout_masks is None else self.dropout_masks.at(t)

    def gradients(self, steps, batch):
        """A (T, B, n) array for each parameter's gradient dp_t of each step and row."""
        return {
            kind: np.empty((steps, batch, p.size), p.dtype)
            for kind, p in self.params.items()
            if p is not None
        }
