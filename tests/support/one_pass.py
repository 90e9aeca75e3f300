"""One pass of one cell through the engine, for tests that hand in the arrays to write to."""

from typing import NamedTuple

import numpy as np

from fastrnn._cells.registry import kernel_gradients, kernel_weights
from fastrnn._engine.passes import (
    BackwardBuffers,
    DirectionCall,
    gradient_of,
    run_passes,
    run_passes_backward,
)


class Saved(NamedTuple):
    """What the gradient of one pass needs."""

    cell: object
    x: np.ndarray
    call: DirectionCall
    rows: object


def run(cell, x, state, weights, reverse=False, y=None, keep=False, rows=None):
    """One pass -> y, final state (a tuple), and a `Saved` if keep.

    state : tuple of (B, H) arrays. y : an array to write to, or None for a new one.
    """
    steps, batch, _ = x.shape
    if y is None:
        y = np.empty((steps, batch, state[0].shape[1]), x.dtype)
    last = tuple([np.empty_like(s) for s in state])
    p = DirectionCall(
        reverse, 0, one_slot(state), weights, kernel_weights(cell, weights), y, one_slot(last)
    )
    (call,) = run_passes(cell, x, (p,), keep, rows)
    return y, last, Saved(cell, x, call, rows) if keep else None


def run_backward(saved, dy, dlast, dweights, need_x=True):
    """Gradients of one pass -> dx (None unless need_x) and the initial state's."""
    cell, x, call, rows = saved
    dx = gradient_of(x) if need_x else None
    dfirst = tuple([np.empty(s.shape[1:], x.dtype) for s in call.state])
    buffers = BackwardBuffers(
        dy, one_slot(dlast), dx, one_slot(dfirst), dweights,
        kernel_gradients(cell, call.weights, dweights), (None,) * len(dfirst),
    )  # fmt: skip
    run_passes_backward(x, (call,), (buffers,), rows)
    return dx, dfirst


def one_slot(state):
    """A state's arrays as those of a layer with one slot."""
    return tuple([None if s is None else s[None] for s in state])
