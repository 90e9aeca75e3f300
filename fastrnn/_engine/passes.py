"""Passes: one direction of a layer over a whole batch, forward and backward, on either backend.

Their arrays have passed checks.py already. Python allocates every array, the kernels fill them.

It must not know: what users call, layers.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from fastrnn import checks, reference
from fastrnn._cells.registry import for_kernels, with_masks
from fastrnn._engine import ids, runtime
from fastrnn._engine.dropout_masks import drawn
from fastrnn._engine.ids import Ids
from fastrnn.reference import variants


class DirectionCall(NamedTuple):
    """One direction of a layer: what goes in, and the arrays that are written.

    slot : its index in the state arrays, (slots, B, H), which hold the states of all passes.
    state, last : tuples of such arrays, before the first step and after the last one.
    weights : w_ih, w_hh, b_ih, b_hh, and what a variant has besides, as its extras name them.
    y : (T, B, H) array of any strides with a dense last axis.
    tape : what the gradient needs besides, or None: the kernels' bytes, or the reference's own.
    dropout_masks : a `DropoutMasks`, with rows in the order in which the pass takes them, or None.
    """

    reverse: bool
    slot: int
    state: tuple
    weights: tuple
    y: np.ndarray
    last: tuple
    tape: object = None
    dropout_masks: object = None


# A DirectionCall from a tuple of its fields: its own call is Python code and takes twice as long.
call_of = partial(tuple.__new__, DirectionCall)


class BackwardBuffers(NamedTuple):
    """The gradients that come back to a pass, and where those that go out are written.

    dy : (T, B, H) array or None. dlast : tuple of state arrays, each may be None.
    dx : array like x, or None; for `Ids` like their embedding. dfirst : tuple of state arrays.
    dweights : dense arrays for the gradients of w_ih, w_hh, b_ih and b_hh, None for no bias, and
    of what a variant has besides.
    dstates : for each state an array (T, B, H) for its gradients after each step, or None. What
    steps that are not taken have there is left as it is.
    """

    dy: np.ndarray | None
    dlast: tuple
    dx: np.ndarray | None
    dfirst: tuple
    dweights: tuple
    dstates: tuple = (None, None)


def run_passes(cell, x, passes, keep=False, rows=None, checkpoint=0):
    """Passes (a tuple of them) over one x, at once -> the passes, with their tapes if keep.

    Of a plain cell, or as `_for_kernels` makes them.
    x : (T, B, I) array or `Ids`. rows : `ragged.Rows` or None. checkpoint : 0, or the steps
    between those of which a tape keeps something.
    """
    if not runtime.uses_core():
        return tuple([_run_reference(cell, x, p, keep, rows) for p in passes])
    if keep:
        tape = sizes_of(cell, x.itemsize, x.shape, passes[0].weights, checkpoint).tape
        passes = tuple([p._replace(tape=runtime.tape_buffer(tape)) for p in passes])
    kernels = None if rows is None else rows.kernels
    if isinstance(x, Ids):
        ids.forward(cell, x, passes, kernels, checkpoint)
    else:
        runtime.in_workspace(runtime.core.forward, cell.index, x, passes, kernels, None, checkpoint)
    return passes


def _for_kernels(cell, passes):
    """The cell and the passes for the kernels: a variant's parameters as the kernels take them.

    A plain cell without dropout masks and its passes are returned as they are.
    """
    if cell.options is None and passes[0].dropout_masks is None:
        return cell, passes
    cell = with_masks(cell)
    return cell, tuple([p._replace(weights=for_kernels(cell, p.weights)) for p in passes])


def units_of(cell, weights):
    """H, which c and the gates have; h and y too, unless they are projected."""
    return len(weights[0]) // cell.gates


def sizes_of(cell, itemsize, x_shape, weights, checkpoint=0, ids=False):
    """Bytes of the buffers that a pass takes, with ids for an x of no features."""
    hidden, projected = units_of(cell, weights), weights[1].shape[1] if cell.projects else 0
    try:
        return runtime.core.Sizes(
            cell.index, itemsize, *x_shape, hidden,
            checkpoint=checkpoint, ids=ids, projected=projected,
        )  # fmt: skip
    except OverflowError:
        steps, batch, inputs = x_shape
        checks.fits(itemsize, steps, batch, cell.gates + 1, hidden + inputs)
        checks.fits(itemsize, cell.gates + 1, hidden, hidden + inputs)
        raise


def run_variant(draw, cell, x, passes, keep=False, rows=None, checkpoint=0):
    """As `run_passes`, for any cell.

    draw : the generator and the recurrent dropout for the masks that are drawn, or None for none.
    """
    if draw is not None:
        rng, recurrent_dropout = draw
        zoneout = () if cell.options is None else cell.options.zoneout
        sort_order = None if rows is None or not runtime.uses_core() else rows.sort_order
        passes = tuple([
            p._replace(dropout_masks=drawn(
                rng, p.y.shape, p.y.dtype, recurrent_dropout, zoneout, sort_order
            ))
            for p in passes
        ])  # fmt: skip
    if not runtime.uses_core():
        return run_passes(cell, x, passes, keep, rows)
    kernel_cell, kernel_passes = _for_kernels(cell, passes)
    recorded = run_passes(kernel_cell, x, kernel_passes, keep, rows, checkpoint)
    return tuple([p._replace(tape=m.tape) for p, m in zip(passes, recorded, strict=True)])


def _run_reference(cell, x, p, keep, rows):
    tape, state, masks = None, [s[p.slot] for s in p.state], p.dropout_masks
    cell = variants.reference_cell(cell, masks is not None)
    if isinstance(x, Ids):
        x = x.ids if x.embedding is None else x.embedding[x.ids]
    options = {"reverse": p.reverse} | ({} if rows is None else rows.options)
    if keep:
        options["dropout_masks"] = masks
        y, last, tape = reference.forward(cell, x, state, *p.weights, **options)
    else:
        y, last = reference.infer(cell, x, state, *p.weights, **options)
    p.y[...] = y
    for target, source in zip(p.last, last, strict=True):
        target[p.slot] = source
    return p._replace(tape=tape)


def run_passes_backward(cell, x, passes, incoming, rows=None, checkpoint=0):
    """Gradients of passes over one x, at once: writes what `incoming`, one for each, names.

    It writes nothing else, so it may be run again.
    """
    kernels = None if rows is None else rows.kernels
    if isinstance(passes[0].tape, reference.Tape):
        for p, i in zip(passes, incoming, strict=True):
            _run_reference_backward(x, p, i)
        return
    cell, kernel_passes = _for_kernels(cell, passes)
    if kernel_passes is not passes:
        passes = kernel_passes
        incoming = [i._replace(dweights=for_kernels(cell, i.dweights)) for i in incoming]
    pairs = list(zip(passes, incoming, strict=True))
    if isinstance(x, Ids):
        ids.backward(cell, x, pairs, kernels, checkpoint)
    else:
        calls = tuple([(p, *i) for p, i in pairs])
        runtime.in_workspace(runtime.core.backward, cell.index, x, calls, kernels, None, checkpoint)


def _run_reference_backward(x, p, i):
    dlast = [None if d is None else d[p.slot] for d in i.dlast]
    dx, dfirst, *dweights = reference.backward(p.tape, i.dy, dlast, i.dstates)
    if isinstance(x, Ids) and i.dx is not None:
        dx = ids.scattered(x, dx)
    targets = (i.dx, *(d[p.slot] for d in i.dfirst), *i.dweights)
    for target, source in zip(targets, (dx, *dfirst, *dweights), strict=True):
        if target is not None:
            target[...] = source


def _unmark(gates):
    """Takes away, in place, the mark of gates whose pre-activation reached its bound."""
    bits = gates.view(f"i{gates.itemsize}")
    bits[np.abs(gates) > 1] &= ~(1 << (8 * gates.itemsize - 2))


def gates_of_pass(cell, p, dtype, rows=None):
    """What the gates of each step were, from a pass' tape of every step: name -> (T, B, H) array.

    Zero in steps that are not taken; c is carried over there.
    """
    (steps, batch, _), hidden = p.y.shape, units_of(cell, p.weights)
    if steps == 0:  # the reference knows the names of its gates from the first step on
        return {name: np.empty((0, batch, hidden), dtype) for name in cell.shown}
    if isinstance(p.tape, reference.Tape):
        return reference.gates(p.tape)
    kernels = cell if p.dropout_masks is None else with_masks(cell)
    slots = runtime.core.tape_slots(
        kernels.index, p.tape, int(dtype.itemsize == 8), steps, batch, hidden
    )
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
    (steps, batch, _), hidden = x.shape, weights[1].shape[1]
    checks.fits(x.itemsize, steps, batch, hidden)
    if y is None:
        y = np.empty((steps, batch, hidden), x.dtype)
    sizes = hidden, units_of(cell, weights)
    last = tuple([np.empty((batch, n), x.dtype) for n, _ in zip(sizes, cell.states, strict=False)])
    p = DirectionCall(reverse, 0, _one_slot(state), weights, y, _one_slot(last))
    (call,) = run_passes(cell, x, (p,), keep, rows)
    return y, last, Saved(cell, x, call, rows) if keep else None


def run_backward(saved, dy, dlast, dweights, need_x=True):
    """Gradients of one pass -> dx (None unless need_x) and the initial state's."""
    cell, x, call, rows = saved
    dx = gradient_of(x) if need_x else None
    dfirst = tuple([np.empty(s.shape[1:], x.dtype) for s in call.state])
    incoming = BackwardBuffers(dy, _one_slot(dlast), dx, _one_slot(dfirst), dweights)
    run_passes_backward(cell, x, (call,), (incoming,), rows)
    return dx, dfirst


def gradient_of(x):
    """An array for the gradient of x, or of its embedding; None for ids without one."""
    return x.gradient if isinstance(x, Ids) else np.empty(x.shape, x.dtype)


def _one_slot(state):
    return tuple([None if s is None else s[None] for s in state])
