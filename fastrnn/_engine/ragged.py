"""Lengths, masks and resets of a batch: they say which rows take which steps.

It must not know: layers, cells.
"""

from typing import NamedTuple

import numpy as np

from fastrnn import checks


class Rows(NamedTuple):
    """The lengths, masks and resets of a batch; None for each that the user did not give.

    The arrays are copies, because the user may write to the originals before the gradient of this
    batch is computed, for example to prepare the next batch.

    lengths : (B,) integers, the steps of each row. mask : (T, B) booleans, False where a row keeps
    its state. reset : (T, B) booleans, True where a row's state is reset before that step.
    reset_to : "zero" or "initial".
    sorted_lengths : the lengths from the longest to the shortest. sort_order : (B,) integers, the
    rows sorted by length, or None if the batch is sorted. inverse_order : its inverse, the sorted
    index of each row.
    """

    lengths: np.ndarray | None
    mask: np.ndarray | None
    reset: np.ndarray | None
    reset_to: str
    sorted_lengths: np.ndarray | None
    sort_order: np.ndarray | None
    inverse_order: np.ndarray | None

    @property
    def options(self):
        """The arguments of `fastrnn.reference.forward`."""
        return {name: getattr(self, name) for name in ("lengths", "mask", "reset", "reset_to")}

    @property
    def shown(self):
        """The mask as a (T, B, 1) array, or None."""
        return None if self.mask is None else self.mask[:, :, None]

    def within(self, steps):
        """Booleans (T, B), True before a row's end; (T, 1) if no row ends before T."""
        return np.arange(steps)[:, None] < (steps if self.lengths is None else self.lengths)

    def works(self, steps):
        """Booleans (T, B) or (T, 1), True where a row takes a step, so its state changes."""
        return self.within(steps) if self.mask is None else self.within(steps) & self.mask


def rows(steps, batch, lengths=None, mask=None, reset=None, reset_to="zero", batch_first=False):
    """The `Rows` of a batch, or None if each row takes every step and none is reset.

    With batch_first, masks and resets are (B, T). With batch=None x is a single sequence: masks and
    resets are (T,), and lengths is a number.
    """
    checks.choice("reset_to", reset_to, ("zero", "initial"))
    if lengths is not None:
        lengths = _lengths(lengths, steps, batch)
    mask, reset = (
        _flags(name, value, steps, batch, batch_first)
        for name, value in (("mask", mask), ("reset", reset))
    )
    if lengths is not None and (lengths == steps).all():
        lengths = None
    if mask is not None and mask.all():
        mask = None
    if reset is not None and not reset.any():
        reset = None
    if lengths is None and mask is None and reset is None:
        return None
    return Rows(lengths, mask, reset, reset_to, *_sorted(lengths))


def _sorted(lengths):
    """The lengths from the longest to the shortest, the sort order and its inverse."""
    if lengths is None or (lengths[1:] <= lengths[:-1]).all():
        return lengths, None, None
    sort_order = np.argsort(-lengths, kind="stable")
    inverse_order = np.empty_like(sort_order)
    inverse_order[sort_order] = np.arange(len(sort_order))
    return lengths[sort_order], sort_order, inverse_order


def _lengths(value, steps, batch):
    shape, symbols = ((), ()) if batch is None else ((batch,), ("B",))
    hint = ": use lengths.astype(int)" if hasattr(value, "astype") else ": use integers"
    lengths = checks.integers("lengths", value, hint)
    exchanged = batch is not None and lengths.shape == (steps,)
    hint = checks.EXCHANGED if exchanged else None
    checks.shaped("lengths", lengths, symbols, shape, hint)
    return checks.within("lengths", lengths, steps, "T = ").reshape(-1)


def _flags(name, value, steps, batch, batch_first):
    """A dense (T, B) copy of an array of booleans; None for None."""
    if value is None:
        return None
    array = checks.flags(name, value)
    if batch is None:
        return checks.own_flags(checks.shaped(name, array, ("T",), (steps,)))[:, None]
    if batch_first:
        array = checks.shaped(name, array, ("B", "T"), (batch, steps)).T
    return checks.own_flags(checks.shaped(name, array, ("T", "B"), (steps, batch)))
