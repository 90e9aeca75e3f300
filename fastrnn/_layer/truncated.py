"""Truncated backpropagation through time, by windows over a long sequence.

Each window begins with the state in which the one before it ended.

Williams and Peng, An efficient gradient-based algorithm for on-line training of recurrent network
trajectories, 1990: BPTT(h; h') with h = k2 and h' = k1.

A reset with reset_to="initial" sets the state to that before the sequence, but later windows begin
with another state. So a window with such a reset takes two runs of the layer: one over each row's
steps before its first reset, one over the steps from that reset on (`_Cut`).

It must not know: the mathematics of cells, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._engine.ids import Ids
from fastrnn._layer.structure import Structure
from fastrnn._typing import Given, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import SupportsIndex

    from fastrnn._layer.base import Recurrent
    from fastrnn._layer.tape import Gradients
    from fastrnn._typing import Flags, Floats, Lengths, ResetTo, X


class Window(Generic[State, Given]):
    """Some steps of a sequence, their outputs, and `backward` for a loss of these outputs.

    `tbptt` creates windows.

    Attributes
    ----------
    steps : slice
        The new steps, on the sequence's time axis. No other window has them as new steps.
    past : slice
        The steps before `steps` through which the gradient goes back too, if k2 > k1.
    y : array
        The layer's y of `steps`, read-only.
    state : array, or for the LSTM a pair
        The state after the last step of `steps`.

    Examples
    --------
    Windows of 4 new steps, with gradients through at most 6 steps:

    >>> import numpy as np
    >>> import fastrnn
    >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((10, 2, 3), "float32")
    >>> for window in fastrnn.tbptt(layer, x, 4, 6):
    ...     print(window.past, window.steps, window.y.shape)
    slice(0, 0, None) slice(0, 4, None) (4, 2, 5)
    slice(2, 4, None) slice(4, 8, None) (4, 2, 5)
    slice(4, 8, None) slice(8, 10, None) (2, 2, 5)
    """

    past: slice
    steps: slice
    y: Floats
    state: State

    def __init__(self, past, steps, axis, run):
        self.past, self.steps = past, steps
        self._axis = axis
        y, self.state, self._tape = run
        self._before = past.stop - past.start
        self._shape = y.shape
        self.y = y[self._new()]

    def __repr__(self) -> str:
        past, steps = (f"{cut.start}:{cut.stop}" for cut in (self.past, self.steps))
        return f"Window(past={past}, steps={steps}, y={self.y.shape})"

    def _new(self):
        return (slice(None),) * self._axis + (slice(self._before, None),)

    def backward(
        self, dy: Floats | None = None, dstate: Given | None = None, *, last: Floats | None = None,
        need_x: bool = True,
    ) -> Gradients[State]:  # fmt: skip
        """Compute the gradients of a loss of this window's y and state, through at most k2 steps.

        Parameters
        ----------
        dy, dstate, last, need_x
            As for `Tape.backward`. `last` is the gradient of `layer.last(window.state)`.

        Returns
        -------
        Gradients
            Its x is the gradient of x in the steps of `past` and `steps`. Its state is that of the
            state before these steps. Its initial is that of the state argument of `tbptt`, or None
            if the window has no path to it.

        Raises
        ------
        ValueError, TypeError
            As for `Tape.backward`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((10, 2, 3), "float32")
        >>> for window in fastrnn.tbptt(layer, x, 4, 6):
        ...     grads = window.backward(np.ones_like(window.y))
        ...     print(grads.x.shape, grads.initial is None)
        (4, 2, 3) False
        (6, 2, 3) True
        (6, 2, 3) True
        """
        if dy is not None:
            dy = checks.plain("dy", dy)
            if dy.shape != self.y.shape:
                raise ValueError(f"dy must be like y of the window, {self.y.shape}, got {dy.shape}")
            if self._before:
                padded = np.zeros(self._shape, dy.dtype)
                padded[self._new()] = dy
                dy = padded
        gradients = self._tape.backward(dy, dstate, last=last, need_x=need_x)
        if self.past.start == 0:
            gradients.initial = gradients.state
        return gradients


def tbptt(
    layer: Recurrent[State, Given], x: X, k1: SupportsIndex, k2: SupportsIndex | None = None,
    state: Given | None = None, *, lengths: Lengths | None = None, mask: Flags | None = None,
    reset: Flags | None = None, reset_to: ResetTo = "zero", zero_output_for_mask: bool = False,
    one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, train: bool = True,
) -> Iterator[Window[State, Given]]:  # fmt: skip
    """Windows over a sequence, for truncated backpropagation through time.

    Each window has k1 new steps, and the last window has the rest. The y and state of a window
    depend on all steps before. Its gradient goes back through its last k2 steps, or through fewer
    if the sequence begins later. If k2 is k1, it goes back through the new steps only.

    Parameters may change between windows. The state that a window begins with was computed with the
    parameters of that time. If k2 > k1, a window recomputes its past, so a pass over the sequence
    takes about k2 / k1 times as long. The past draws new masks of dropout and zoneout. The state
    before it is computed by inference: without dropout, and with the expectation of zoneout.

    Parameters
    ----------
    layer : any layer of one direction
    x : array
        As the layer takes it.
    k1 : int
        The number of new steps of a window.
    k2 : int or None
        The number of steps that a gradient goes back, k1 or more. None is k1.
    state : as the layer takes it
        The state before the first step.
    lengths, mask, reset, reset_to, zero_output_for_mask, one_hot, embedding
        As the layer takes them, for the full sequence.
    checkpoint, train
        As the layer's `forward` takes them.

    Yields
    ------
    window : Window

    Raises
    ------
    ValueError, TypeError
        At once, for arguments that do not fit.

    Notes
    -----
    If k2 is the sequence's length and the parameters do not change, the windows' gradients add up
    to the gradient over the full sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(1, 8, rng=0)
    >>> x, targets = np.ones((100, 2, 1), "float32"), np.zeros((100, 2, 8), "float32")
    >>> for window in fastrnn.tbptt(layer, x, 20):
    ...     error = window.y - targets[window.steps]
    ...     layer.flat -= 0.1 * window.backward(2 * error / error.size).flat
    """
    layer._structure.check_begins_first("carry its state from window to window")
    k1 = checks.positive("k1", k1)
    k2 = k1 if k2 is None else checks.positive("k2", k2)
    if k2 < k1:
        raise ValueError(
            f"k2 must be at least k1 = {k1}, got {k2}: the steps between would have no gradient"
        )
    call_options = {
        "one_hot": one_hot,
        "embedding": embedding,
        "zero_output_for_mask": checks.flag("zero_output_for_mask", zero_output_for_mask),
    }
    if checkpoint is not None:
        checks.positive("checkpoint", checkpoint)
    training = {"checkpoint": checkpoint, "train": checks.flag("train", train)}
    flags = lengths, mask, reset, reset_to
    return _windows(_sequence(layer, x, state, flags, call_options, training), k1, k2)


class _Sequence(NamedTuple):
    """The arguments of `tbptt`, checked.

    structure : the layer's. x : (T, B, ...) array. rows : `ragged.Rows` or None.
    initial : the state before the first step.
    call_options : arguments of every run. training : arguments of `forward` alone.
    """

    layer: object
    structure: Structure
    x: np.ndarray
    unbatched: bool
    rows: object
    initial: object
    call_options: dict
    training: dict

    @property
    def axis(self):
        """The axis of time in the user's arrays."""
        return int(self.structure.batch_first and not self.unbatched)

    def advance(self, steps, state):
        """Run inference over a slice of steps -> the state after them."""
        return self._run(self.layer, steps, state)[1]

    def forward(self, steps, state):
        """Run a training pass over a slice of steps -> y, the state and the tape."""
        return self._run(lambda *a, **o: self.layer.forward(*a, **o, **self.training), steps, state)

    def _run(self, call, steps, state):
        if self.rows is None:
            return self._call(call, steps, state)
        lengths, mask, reset = self._flags(steps)
        if self.rows.reset_to == "zero" or steps.start == 0 or not reset.any():
            to = self.rows.reset_to
            return self._call(call, steps, state, lengths, mask, reset, to)
        cut = _Cut.at_first(reset, lengths)
        before = self._call(call, steps, state, cut.first, mask)
        lengths = np.where(cut.has_reset, lengths, 0)
        after = self._call(call, steps, self.initial, lengths, mask & cut.steps, reset, "initial")
        return cut.together(self, before, after)

    def _call(self, call, steps, state, lengths=None, mask=None, reset=None, reset_to="zero"):
        """Call the layer for a slice of steps; mask and reset are (T, B), lengths (B,)."""
        given = {}
        if lengths is not None:
            given = {"mask": self.to_user(mask), "reset_to": reset_to}
            given["lengths"] = lengths[0] if self.unbatched else lengths
            given["reset"] = None if reset is None else self.to_user(reset)
        return call(self.to_user(self.x[steps]), state, **given, **self.call_options)

    def to_user(self, array):
        return self.structure.to_user(array, self.unbatched)

    def _flags(self, steps):
        """The lengths, mask and resets for a slice of steps; none of them is None."""
        rows, count, batch = self.rows, steps.stop - steps.start, self.x.shape[1]
        left = np.full(batch, count)
        if rows.lengths is not None:
            left = np.clip(rows.lengths - steps.start, 0, count)
        mask = np.ones((count, batch), bool) if rows.mask is None else rows.mask[steps]
        reset = np.zeros((count, batch), bool) if rows.reset is None else rows.reset[steps]
        return left, mask, reset


class _Cut(NamedTuple):
    """The step at which each row of a window is reset for the first time.

    first : (B,), that step, or the row's length if it has no reset. has_reset : (B,) booleans.
    steps : (T, B) booleans, True if the step is at or after `first`.
    """

    first: np.ndarray
    has_reset: np.ndarray
    steps: np.ndarray

    @classmethod
    def at_first(cls, reset, lengths):
        first = np.where(reset.any(axis=0), reset.argmax(axis=0), len(reset))
        first = np.minimum(first, lengths)
        return cls(first, first < lengths, np.arange(len(reset))[:, None] >= first)

    def of_user(self, sequence):
        """`steps` and `has_reset` in the layout of the user's y and state."""
        has_reset = self.has_reset[0] if sequence.unbatched else self.has_reset[:, None]
        return sequence.to_user(self.steps)[..., None], has_reset

    def together(self, sequence, before, after):
        """Combine the results of two runs: y, the state and, in training, the tape."""
        steps, has_reset = self.of_user(sequence)
        y = np.where(steps, after[0], before[0])
        y.flags.writeable = False
        if isinstance(before[1], tuple):
            pairs = zip(before[1], after[1], strict=True)
            state = tuple(np.where(has_reset, late, early) for early, late in pairs)
        else:
            state = np.where(has_reset, after[1], before[1])
        tapes = [run[2] for run in (before, after) if len(run) > 2]
        return (y, state, _CutTape(sequence, self, *tapes)) if tapes else (y, state)


class _CutTape(NamedTuple):
    """The tapes of the two runs of a window: before its cut, and from the cut on."""

    sequence: _Sequence
    cut: _Cut
    before: object
    after: object

    def backward(self, dy=None, dstate=None, *, last=None, need_x=True):
        sequence, (steps, has_reset) = self.sequence, self.cut.of_user(self.sequence)
        batch = sequence.x.shape[1]
        structure = sequence.structure
        structure.checked_dstate(dstate, last, (None,), batch, sequence.unbatched)
        of_state = _masked_pair if len(structure.cell.states) > 1 else _masked
        early, late = (
            tape.backward(
                _masked(where_y, dy), of_state(where_state, dstate),
                last=_masked(where_state, last), need_x=need_x,
            )
            for tape, where_y, where_state in (
                (self.before, ~steps, ~has_reset),
                (self.after, steps, has_reset),
            )
        )  # fmt: skip
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            early.flat += late.flat
            for name in ("x", "embedding"):
                if getattr(early, name) is not None:
                    setattr(early, name, getattr(early, name) + getattr(late, name))
        early.initial = late.state
        return early


def _masked(where, gradient):
    """A gradient, maybe as lists of numbers, with 0 where `where` is False; None stays None."""
    return None if gradient is None else np.where(where, gradient, 0)


def _masked_pair(where, gradients):
    """The same for a pair of gradients."""
    return None if gradients is None else tuple(_masked(where, part) for part in gradients)


def _sequence(layer, x, state, flags, call_options, training):
    """The `_Sequence`; flags are lengths, mask, reset and reset_to."""
    structure = layer._structure
    options = call_options["one_hot"], call_options["embedding"]
    x, unbatched, rows = structure.checked_input(x, flags, *options)
    x = x.ids if isinstance(x, Ids) else x
    resets_to_initial = rows is not None and rows.reset is not None and rows.reset_to == "initial"
    if state is not None or resets_to_initial:  # a copy, which later windows read at such a reset
        if state is None:
            parts = structure.new_state(x.shape[1], np.zeros)
        else:
            parts = structure.checked_state(state, x.shape[1], unbatched, len(x))
        state = structure.state_to_user(tuple(part.copy() for part in parts), unbatched)
    return _Sequence(layer, structure, x, unbatched, rows, state, call_options, training)


def _windows(sequence, k1, k2):
    begin, steps, last = 0, len(sequence.x), sequence.initial
    state = last  # before step `begin`
    for now in range(0, steps, k1):
        new = slice(now, min(now + k1, steps))
        first = now if k2 == k1 else max(0, new.stop - k2)
        if first == now:
            state = last
        elif first > begin:
            state = sequence.advance(slice(begin, first), state)
        begin = first
        run = sequence.forward(slice(begin, new.stop), state)
        window = Window(slice(begin, now), new, sequence.axis, run)
        last = _copied(window.state)  # the user may write to the window's
        yield window


def _copied(state):
    return tuple([s.copy() for s in state]) if isinstance(state, tuple) else state.copy()
