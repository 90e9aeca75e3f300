"""Conversions between the arrays of a layer's user and those of its passes.

The user's arrays are (T, B, I), (B, T, I) or (T, I); those of passes are always (T, B, I).

It must not know: the mathematics of cells, kernels, tapes.
"""

import numpy as np

from fastrnn import checks
from fastrnn._engine import ids, ragged
from fastrnn._layer.merge import MERGES


class Conversions:
    """Checks and converts the arguments and results of a layer. It reads the layer's sizes."""

    def _from_user(self, array, unbatched):
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _to_user(self, array, unbatched):
        if unbatched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _state_to_user(self, state, unbatched):
        if unbatched:
            state = tuple([s[:, 0] for s in state])
        return state if len(state) > 1 else state[0]

    def _checked_x(self, x, of_ids=False):
        """x as (T, B, I) that a kernel can read, or ids (T, B); and whether it came unbatched."""
        if of_ids:
            x = ids.integers("x", x, (1, 2))
            unbatched = x.ndim == 1
            return self._from_user(x, unbatched), unbatched
        if type(x) is not np.ndarray or x.dtype is not self.dtype:
            x = checks.features("x", x, self.dtype)
        shape = x.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            batched = "(B, T, input_size)" if self.batch_first else "(T, B, input_size)"
            raise ValueError(
                f"x must be {batched} or (T, input_size) with input_size = {self.input_size}, "
                f"got {shape}"
            )
        unbatched = len(shape) == 2
        if unbatched or self.batch_first:
            x = self._from_user(x, unbatched)
        return (x if x.flags.carray else checks.rows(x)), unbatched

    def _checked_rows(self, x, unbatched, lengths, mask, reset, reset_to):
        """The `ragged.Rows` of a call."""
        steps, batch = x.shape[:2]
        batch = None if unbatched else batch
        return ragged.rows(steps, batch, lengths, mask, reset, reset_to, self.batch_first)

    def _ids(self, x, embedding, rows):
        """The `Ids` of x (T, B)."""
        return ids.checked("x", x, self.input_size, embedding, self.dtype, rows)

    def _checked_parts(self, name, value, batch, unbatched):
        """The arrays of a state or of its gradient, each (L*D, B, H) or None."""
        parts = checks.state_parts(self._cell, value, name)
        checked = []
        for label, part, size in zip(self._cell.states, parts, self._state_sizes, strict=True):
            symbol = "hidden_size" if size == self.hidden_size else "proj_size"
            shape, symbols = (self._slots, batch, size), ("layers*directions", "B", symbol)
            if unbatched:
                shape, symbols = shape[::2], symbols[::2]
            label = name if len(parts) == 1 else f"{label} of {name}"
            part = checks.optional(label, part, shape, symbols, self.dtype)
            checked.append(part[:, None] if unbatched and part is not None else part)
        return checked

    def _checked_state(self, state, batch, unbatched):
        parts = self._checked_parts("state", state, batch, unbatched)
        zeros = self._new_state(batch, np.zeros)
        return tuple(
            [z if p is None else checks.dense(p) for p, z in zip(parts, zeros, strict=True)]
        )

    def _checked_dstate(self, dstate, batch, unbatched):
        if dstate is None:
            return tuple(None for _ in self._cell.states)
        parts = self._checked_parts("dstate", dstate, batch, unbatched)
        return tuple(None if p is None else checks.dense(p) for p in parts)

    def _checked_gradient(self, name, dy, steps, batch, unbatched, directions):
        """A gradient of y, or of one direction's y, as (T, B, ...), or None."""
        width = directions * self._features
        symbol = "proj_size" if self._cell.projects else "hidden_size"
        symbol = f"directions*{symbol}" if directions > 1 else symbol
        shape, symbols = (steps, batch, width), ("T", "B", symbol)
        if unbatched:
            shape, symbols = (steps, width), ("T", symbol)
        elif self.batch_first:
            shape, symbols = (batch, steps, width), ("B", "T", symbol)
        dy = checks.optional(name, dy, shape, symbols, self.dtype)
        return None if dy is None else self._from_user(dy, unbatched)

    def _gradients_of_directions(self, dy, ys, unbatched):
        """The gradient of each direction's y from that of the layer's y; ys are the directions'."""
        steps, batch, _ = ys[0].shape
        if self.merge == "concat":
            dy = self._checked_gradient("dy", dy, steps, batch, unbatched, len(ys))
            return self._halves(dy, len(ys))
        if self.merge is None:
            if dy is None:
                return None, None
            if not isinstance(dy, tuple | list) or len(dy) != 2:
                raise ValueError("dy must be a pair, one for each direction, as y is (merge=None)")
            names = "dy of the forward direction", "dy of the backward direction"
            dy = tuple([
                self._checked_gradient(name, part, steps, batch, unbatched, 1)
                for name, part in zip(names, dy, strict=True)
            ])  # fmt: skip
        else:
            dy = self._checked_gradient("dy", dy, steps, batch, unbatched, 1)
            if dy is None:
                return None, None
        with np.errstate(all="ignore"):  # infinities take their course
            return MERGES[self.merge].separate(dy, *ys)

    def _halves(self, array, directions):
        """Each direction's part of an array (T, B, directions * H); None for each from None."""
        if array is None or directions == 1:
            return (array,) * directions
        return array[:, :, : self._features], array[:, :, self._features :]
