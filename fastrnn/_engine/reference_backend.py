"""The reference backend: passes and steps of streams by `fastrnn.reference`.

It must not know: kernels, layers.
"""

import weakref

import numpy as np

from fastrnn import reference
from fastrnn._engine import ids
from fastrnn._engine.ids import Ids
from fastrnn.reference import gates as gates
from fastrnn.reference import variants


def run_passes(cell, x, passes, keep, rows):
    """As `passes.run_passes`."""
    return tuple([_run(cell, x, p, keep, rows) for p in passes])


def run_passes_backward(x, passes, incoming):
    """As `passes.run_passes_backward`."""
    for p, i in zip(passes, incoming, strict=True):
        _run_backward(x, p, i)


def _run(cell, x, p, keep, rows):
    tape, state, masks = None, [s[p.slot] for s in p.state], p.dropout_masks
    cell = variants.reference_cell(cell, masks is not None)
    if isinstance(x, Ids):
        x = x.ids if x.embedding is None else x.embedding[x.ids]
    options = {"reverse": p.reverse} | ({} if rows is None else rows.options)
    options["dropout_masks"] = masks
    if keep:
        y, last, tape = reference.forward(cell, x, state, *p.parameters, **options)
    else:
        y, last = reference.infer(cell, x, state, *p.parameters, **options)
    p.y[...] = y
    for target, source in zip(p.last, last, strict=True):
        target[p.slot] = source
    return p._replace(tape=tape)


def _run_backward(x, p, i):
    dlast = [None if d is None else d[p.slot] for d in i.dlast]
    dx, dfirst, *dparameters = reference.backward(p.tape, i.dy, dlast, i.dstates)
    if isinstance(x, Ids) and i.dx is not None:
        dx = ids.scattered(x, dx)
    targets = (i.dx, *(d[p.slot] for d in i.dfirst), *i.dparameters)
    for target, source in zip(targets, (dx, *dfirst, *dparameters), strict=True):
        if target is not None:
            target[...] = source


class _Call:
    """A call of a stepper, as long as it runs."""


class Stepper:
    """The stepper of the NumPy path, with the compiled stepper's methods."""

    def __init__(self, cell, weights, state):
        self._cell, self._parameters, self._state = variants.reference_cell(cell), weights, state
        self._here = []  # weak references to the calls that have begun; only the first one may run
        self._last = None  # the call that `replaced` leaves there

    def alone(self, function):
        """Call function() while no step can run, as the compiled stepper does.

        There is no lock, because a signal handler may raise at any point, also between taking a
        lock and the `try` that would release it, or before a line of `finally`. What such a call
        leaves behind is a reference that is dead.
        """
        me = _Call()
        reference = weakref.ref(me)
        try:
            self._here.append(reference)
            # Of a copy: without the global lock a loop over a list that others change skips some.
            if next(call for r in self._here[:] if (call := r()) is not None) is not me:
                raise RuntimeError(
                    "another thread is stepping this stream, or the code that a signal's handler "
                    "has interrupted: give each thread a stream of its own, or let them take turns"
                )
            return function()
        finally:
            if reference in self._here:
                self._here.remove(reference)

    def replaced(self, function):
        """Call function() alone; if it returns, all later calls raise RuntimeError."""

        def run():
            result = function()
            self._last = _Call()
            self._here.append(weakref.ref(self._last))
            return result

        return self.alone(run)

    def step(self, x, out):
        """Do nothing and return False: the stream then checks x and calls `feed`."""
        return False

    def feed(self, x, out):
        self.alone(lambda: self._advance(x, out))
        return True

    def _advance(self, x, out):
        y, states = x, []
        for index, weights in enumerate(self._parameters):
            state = tuple(s[index] for s in self._state)
            y, last = reference.infer(self._cell, y, state, *weights)
            states.append(last)
        after = [np.stack(parts) for parts in zip(*states, strict=True)]
        out[...] = y
        for held, value in zip(self._state, after, strict=True):
            held[...] = value
