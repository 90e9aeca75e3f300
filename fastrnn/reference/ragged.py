"""Rows of a batch that end, pause and are reset: (S7) and (S8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn.checks import plain


@dataclass(frozen=True)
class Rows:
    """Booleans (T, B, 1), or None where a call has no such argument.

    works : m_t. resets : r_t. within : True before a row's end. to_initial : s in (S7) is the
    initial state.
    """

    works: np.ndarray | None
    resets: np.ndarray | None
    within: np.ndarray | None
    to_initial: bool


def rows_of(steps, lengths, mask, reset, reset_to):
    lengths, mask, reset = (
        None if a is None else plain(name, a)
        for name, a in (("lengths", lengths), ("mask", mask), ("reset", reset))
    )
    within = None if lengths is None else np.arange(steps)[:, None] < lengths
    parts = [part for part in (within, mask) if part is not None]
    works = np.logical_and.reduce(parts) if parts else None
    resets = reset if within is None or reset is None else reset & within
    columns = (None if a is None else a[..., None] for a in (works, resets, within))
    return Rows(*columns, reset_to == "initial")


def chosen(where, arrays, others):
    """For each pair of arrays: the first one's elements where `where` is True, else the other's."""
    return tuple(np.where(where, a, b) for a, b in zip(arrays, others, strict=True))


def added(arrays, others):
    return tuple(a + b for a, b in zip(arrays, others, strict=True))
