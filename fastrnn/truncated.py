"""Truncated backpropagation through time: a long sequence in windows, the state carried along.

Williams and Peng, An efficient gradient-based algorithm for on-line training of recurrent network
trajectories, 1990: BPTT(h; h') with h = k2 and h' = k1.

It must not know: cells, kernels.
"""

import numpy as np

from fastrnn import checks, tokens


class Window:
    """Some steps of a sequence and what a loss of them needs; made by `tbptt`.

    Attributes
    ----------
    steps : slice
        Of the sequence's time axis, those that are new: no other window has them.
    past : slice
        Those before, of which the gradient reaches back through as many as k2 says.
    y : array
        The layer's y of `steps`, read-only.
    state : array, or for the LSTM a pair
        After the last of them.
    """

    def __init__(self, past, steps, axis, made):
        self.past, self.steps = past, steps
        self._axis = axis
        y, self.state, self._tape = made
        self._before = past.stop - past.start
        self._shape = y.shape
        self.y = y[self._new()]

    def _new(self):
        return (slice(None),) * self._axis + (slice(self._before, None),)

    def backward(self, dy, dstate=None, *, need_x=True):
        """Gradients of a loss of this window's y and final state, through at most k2 steps.

        As `Tape.backward`; the gradient of x is that of the steps of `past` and `steps` together,
        that of the state of the state before them.
        """
        if dy is not None and self._before:
            dy = np.asarray(dy)
            if dy.shape != self.y.shape:
                raise ValueError(f"dy must be like y of the window, {self.y.shape}, got {dy.shape}")
            whole = np.zeros(self._shape, dy.dtype)
            whole[self._new()] = dy
            dy = whole
        return self._tape.backward(dy, dstate, need_x=need_x)


def tbptt(layer, x, k1, k2=None, state=None, **options):
    """Windows over a sequence, for truncated backpropagation through time.

    Each window has k1 new steps (the last one what is left). Its y and state follow from all steps
    before; its gradient goes back through at most k2 steps, these k1 among them.

        for window in fastrnn.tbptt(layer, x, 20):
            dy = ...  # the loss' gradient for window.y, against targets[window.steps]
            layer.flat -= 0.1 * window.backward(dy).flat

    Parameters may change from window to window; the state that is carried is that of the
    parameters it was computed with. Where k2 > k1, a window computes its past anew: a pass costs
    about k2 / k1 times as much.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one direction.
    x : array as the layer takes it
    k1 : int
        New steps of a window.
    k2 : int or None
        Steps that a gradient goes back, k1 or more. None is k1.
    state : as the layer takes it
        Before the first step.
    **options
        lengths, mask, reset, zero_output_for_mask, one_hot and embedding, as the layer takes them
        for the whole sequence.

    Yields
    ------
    Window

    Raises
    ------
    ValueError, TypeError
        At once, for arguments that do not fit.

    Notes
    -----
    With k2 at the sequence's length and parameters that stay, the windows' gradients add up to that
    of the whole sequence.
    """
    if layer.bidirectional:
        raise ValueError(
            "a bidirectional layer cannot carry its state from window to window, for it reads the "
            "sequence's end first: use bidirectional=False"
        )
    k1 = checks.positive("k1", k1)
    k2 = k1 if k2 is None else checks.positive("k2", k2)
    if k2 < k1:
        raise ValueError(
            f"k2 must be at least k1 = {k1}, got {k2}: the steps between would have no gradient"
        )
    of_ids = tokens.wanted(options.get("one_hot", False), options.get("embedding"))
    x, unbatched = layer._checked_x(x, of_ids)
    axis = int(layer.batch_first and not unbatched)
    _check_options(layer, x, unbatched, of_ids, **options)
    if state is not None:
        layer._checked_state(state, x.shape[1], unbatched)
    return _windows(layer, layer._to_user(x, unbatched), axis, k1, k2, state, options)


def _check_options(
    layer, x, unbatched, of_ids, *, lengths=None, mask=None, reset=None, one_hot=False,
    embedding=None, zero_output_for_mask=False,
):  # fmt: skip
    rows = layer._checked_rows(x, unbatched, lengths, mask, reset, "zero")
    if of_ids:
        layer._tokens(x, embedding, rows)
    checks.flag("zero_output_for_mask", zero_output_for_mask)


def _windows(layer, x, axis, k1, k2, state, options):
    by_step = {name: options[name] for name in ("mask", "reset") if options.get(name) is not None}
    whole = {n: o for n, o in options.items() if n not in ("lengths", "mask", "reset")}

    def part(steps):
        """x and the options of some steps."""
        index = (slice(None),) * axis + (steps,)
        given = whole | {name: np.asarray(flags)[index] for name, flags in by_step.items()}
        if options.get("lengths") is not None:
            left = np.asarray(options["lengths"]).astype(np.int64) - steps.start
            given["lengths"] = np.clip(left, 0, steps.stop - steps.start)
        return x[index], given

    def run(call, steps, before):
        x_part, given = part(steps)
        return call(x_part, before, **given)

    begin, steps, last = 0, x.shape[axis], state  # state is that before step `begin`
    for now in range(0, steps, k1):
        first = max(0, now + k1 - k2)
        if first == now:
            state = last
        elif first > begin:
            _, state = run(layer, slice(begin, first), state)
        begin, new = first, slice(now, min(now + k1, steps))
        made = run(layer.forward, slice(begin, new.stop), state)
        window = Window(slice(begin, now), new, axis, made)
        last = window.state
        yield window
