"""Passes: one direction of a layer over a batch, forward and backward, on either backend.

The callers have checked all arrays (checks.py). Python allocates every array, the kernels fill
them.

It must not know: what users call, layers.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from fastrnn._cells.registry import kernel_weights, with_masks
from fastrnn._engine import runtime
from fastrnn._engine.dropout_masks import DropoutMasks, drawn
from fastrnn._engine.ids import Ids
from fastrnn._engine.ragged import Rows


class DirectionCall(NamedTuple):
    """One direction of a layer: its inputs, and the arrays that the pass writes.

    slot : the index of the pass in the state arrays (slots, B, H), which hold all passes' states.
    state, last : tuples of such arrays, before the first step and after the last one.
    parameters : w_ih, w_hh, b_ih, b_hh, then the cell's extras.
    weights : the parameters as the kernels take them, from `registry.kernel_weights`.
    y : (T, B, H) array of any strides with a dense last axis.
    tape : None, or the values that the backward pass needs: bytes of the kernels, or a
        `reference.Tape`.
    dropout_masks : None, or a `DropoutMasks`. Its rows are sorted where kernels take a ragged
        batch.
    """

    reverse: bool
    slot: int
    state: tuple
    parameters: tuple
    weights: object
    y: np.ndarray
    last: tuple
    tape: object = None
    dropout_masks: object = None


# Makes a DirectionCall from a tuple of its fields. The class's own constructor takes twice as long.
call_of = partial(tuple.__new__, DirectionCall)


class BackwardBuffers(NamedTuple):
    """The gradients that a backward pass reads, dy and dlast, and arrays for those that it writes.

    dy : (T, B, H) array or None. dlast : tuple of state arrays, each may be None.
    dx : array like x, or None; for `Ids` like their embedding. dfirst : tuple of state arrays.
    dparameters : dense arrays for the gradients of `DirectionCall.parameters`; None for a bias that
    is None.
    dweights : dparameters as the kernels take them, from `registry.kernel_gradients`.
    dstates : for each state a (T, B, H) array for its gradients after each step, or None. Steps
    beyond a row's end are not written.
    """

    dy: np.ndarray | None
    dlast: tuple
    dx: np.ndarray | None
    dfirst: tuple
    dparameters: tuple
    dweights: object
    dstates: tuple


if runtime.core:  # the compiled module reads the fields by their index
    assert DirectionCall._fields == runtime.core.DIRECTION_CALL
    assert BackwardBuffers._fields == runtime.core.BACKWARD_BUFFERS
    assert Rows._fields == runtime.core.ROWS
    assert DropoutMasks._fields == runtime.core.DROPOUT_MASKS


def reference_backend():
    """Return the module of the reference backend."""
    # Imported here: with kernels few need it, and the reference takes a third of all imports' time.
    from fastrnn._engine import reference_backend

    return reference_backend


def run_passes(cell, x, passes, keep=False, rows=None, checkpoint=0):
    """Run a tuple of passes over one x, at once -> the passes, with their tapes if keep.

    x : (T, B, I) array or `Ids`. rows : `ragged.Rows` or None. checkpoint : 0, or the number of
    steps between two checkpoints of a tape.
    """
    if not runtime.uses_core():
        return reference_backend().run_passes(cell, x, passes, keep, rows)
    if keep:
        nbytes = runtime.core.tape_size(passes[0].weights, x.shape[0], x.shape[1], checkpoint)
        passes = tuple([p._replace(tape=runtime.tape_buffer(nbytes)) for p in passes])
    x, ids = (None, x) if isinstance(x, Ids) else (x, None)
    runtime.in_workspace(runtime.core.forward, x, passes, rows, ids, checkpoint)
    return passes


def run_with_masks(rng, recurrent_dropout, cell, x, passes, keep=False, rows=None, checkpoint=0):
    """Draw dropout masks from rng, then do the same as `run_passes`."""
    zoneout = () if cell.options is None else cell.options.zoneout
    sort_order = None if rows is None or not runtime.uses_core() else rows.sort_order
    passes = tuple([
        with_weights(cell, p._replace(dropout_masks=drawn(
            rng, p.y.shape, p.y.dtype, recurrent_dropout, zoneout, sort_order
        )))
        for p in passes
    ])  # fmt: skip
    return run_passes(cell, x, passes, keep, rows, checkpoint)


def with_weights(cell, p):
    """A pass with new `weights` for the kernels; with dropout masks they are those of a variant."""
    if p.dropout_masks is not None:
        cell = with_masks(cell)
    return p._replace(weights=kernel_weights(cell, p.parameters))


def without_addresses(p):
    """A pass without addresses of memory, for a copy or a pickle."""
    return p._replace(weights=None, tape=runtime.tape_content(p.tape))


def with_addresses(cell, p):
    """The pass from a result of `without_addresses`, with the addresses of its own memory."""
    return with_weights(cell, p._replace(tape=runtime.tape_with(p.tape)))


def run_passes_backward(x, passes, incoming, rows=None, checkpoint=0):
    """Compute the gradients of passes over one x, at once, into the arrays of `incoming`.

    incoming : a `BackwardBuffers` for each pass. Nothing else is written, so a second call gives
        the same gradients.
    """
    if not isinstance(passes[0].tape, np.ndarray):
        reference_backend().run_passes_backward(x, passes, incoming)
        return
    x, ids = (None, x) if isinstance(x, Ids) else (x, None)
    runtime.in_workspace(runtime.core.backward, x, passes, incoming, rows, ids, checkpoint)


def _unmark(gates):
    """Remove the clip marks from gates, in place.

    A kernels' tape marks a gate whose pre-activation reached clip: the highest bit of its exponent
    is set. So the absolute value of a marked gate is above 1.
    """
    bits = gates.view(f"i{gates.itemsize}")
    bits[np.abs(gates) > 1] &= ~(1 << (8 * gates.itemsize - 2))


def gates_of_pass(cell, p, dtype, rows=None):
    """The gates of every step from a pass' tape without checkpoints: name -> (T, B, H) array.

    Gates are zero in steps that a row does not take. c keeps its value there, and is zero beyond
    the row's end.
    """
    steps, batch, _ = p.y.shape
    hidden = p.last[-1].shape[2]  # of c, or of h, which is not projected without c
    if steps == 0:  # the reference knows the names of its gates from the first step on
        return {name: np.empty((0, batch, hidden), dtype) for name in cell.shown}
    if not isinstance(p.tape, np.ndarray):
        return reference_backend().gates(p.tape)
    slots = runtime.core.tape_slots(p.weights, p.tape, steps, batch)
    gates = {}
    for slot, name in enumerate(cell.shown):
        slot = -1 if name == "c" else slot
        values = np.empty((steps, batch, hidden), dtype)
        sort_order = None if rows is None else rows.sort_order
        in_order = slots[:, :, slot, :hidden]
        values[:, slice(None) if sort_order is None else sort_order] = in_order
        if name != "c" and cell.options is not None and cell.options.clip is not None:
            _unmark(values)
        gates[name] = values
        if rows is not None:
            there = rows.within(steps) if name == "c" else rows.works(steps)
            gates[name] = np.where(there[..., None], values, 0)
    return gates


def gradient_of(x):
    """An array for the gradient of x, or of its embedding; None for ids without one."""
    return x.gradient if isinstance(x, Ids) else np.empty(x.shape, x.dtype)
