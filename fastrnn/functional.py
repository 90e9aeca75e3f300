"""rnn, lstm, gru: one layer, one direction, arrays in, arrays out.

The public functions check and run one pass. `run` and `run_backward` are what layers are made of:
the arrays they take have passed checks.py already. Python allocates every array here; the kernels
fill them.
"""

from dataclasses import dataclass

import numpy as np

from fastrnn import checks, reference, runtime
from fastrnn.cells import CELLS


@dataclass(frozen=True)
class Saved:
    """What the gradient of one pass needs: its arrays, by reference, and the kernels' tape.

    `tape` is the reference's own tape where that made the pass. A backward pass alters nothing.
    """

    cell: object
    reverse: bool
    x: np.ndarray
    state: tuple
    weights: tuple
    y: np.ndarray
    tape: object


def run(cell, x, state, weights, reverse=False, y=None, keep=False):
    """One pass -> y, final state (a tuple), and a `Saved` if keep.

    y : (T, B, H) array to write to, of any strides with a dense last axis; None makes one.
    """
    (steps, batch, inputs), hidden = x.shape, weights[1].shape[1]
    checks.fits(x.itemsize, steps, batch, hidden)
    if not runtime.uses_core():
        return _run_reference(cell, x, state, weights, reverse, y, keep)
    sizes = _sizes(cell, x.itemsize, steps, batch, inputs, hidden)
    if y is None:
        y = np.empty((steps, batch, hidden), x.dtype)
    last = tuple(np.empty((batch, hidden), x.dtype) for _ in cell.states)
    tape = np.empty(sizes.tape, np.uint8) if keep else None
    work = runtime.workspace(sizes.packed + sizes.forward)
    runtime.core.forward(cell.index, reverse, x, state, weights, y, last, tape, work)
    return y, last, Saved(cell, reverse, x, state, weights, y, tape) if keep else None


def _run_reference(cell, x, state, weights, reverse, y, keep):
    tape = None
    if keep:
        made, last, tape = reference.forward(cell.name, x, state, *weights, reverse=reverse)
    else:
        made, last = reference.infer(cell.name, x, state, *weights, reverse=reverse)
    if y is None:
        y = made
    else:
        y[...] = made
    return y, last, Saved(cell, reverse, x, state, weights, y, tape) if keep else None


def _sizes(cell, itemsize, steps, batch, inputs, hidden):
    try:
        return runtime.core.Sizes(cell.index, itemsize, steps, batch, inputs, hidden)
    except OverflowError:
        checks.fits(itemsize, steps, batch, cell.gates + 1, hidden + inputs)
        checks.fits(itemsize, cell.gates + 1, hidden, hidden + inputs)
        raise


def run_backward(saved, dy, dlast, dweights, need_x=True):
    """Gradients of one pass -> dx (None unless need_x) and the initial state's.

    dy : (T, B, H) array or None. dlast : tuple of (B, H) arrays, each may be None.
    dweights : arrays for the gradients of w_ih, w_hh, b_ih and b_hh, dense; None for no bias.
    """
    x = saved.x
    if isinstance(saved.tape, reference.Tape):
        dx, dfirst, *made = reference.backward(saved.tape, dy, dlast)
        for target, source in zip(dweights, made, strict=True):
            if target is not None:
                target[...] = source
        return (dx if need_x else None), dfirst
    (steps, batch, inputs), hidden = x.shape, saved.weights[1].shape[1]
    sizes = _sizes(saved.cell, x.itemsize, steps, batch, inputs, hidden)
    dx = np.empty(x.shape, x.dtype) if need_x else None
    dfirst = tuple(np.empty((batch, hidden), x.dtype) for _ in saved.cell.states)
    work = runtime.workspace(sizes.backward)
    runtime.core.backward(
        saved.cell.index, saved.reverse, x, saved.state, saved.weights, saved.y, saved.tape,
        dy, dlast, dx, dfirst, dweights, work,
    )  # fmt: skip
    return dx, dfirst


def _call(cell, x, state, w_ih, w_hh, b_ih, b_hh, reverse):
    weights = checks.weights(cell, w_ih, w_hh, b_ih, b_hh)
    x = checks.sequence("x", x, weights[0].dtype, weights[0].shape[1])
    state = checks.state(cell, state, x.shape[1], weights[1].shape[1], x.dtype)
    y, last, _ = run(cell, x, state, weights, checks.flag("reverse", reverse))
    return y, last


def rnn(x, state, w_ih, w_hh, b_ih=None, b_hh=None, *, nonlinearity="tanh", reverse=False):
    """Elman network over a batch of sequences: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih, w_hh : (H, I) and (H, H) arrays
    b_ih, b_hh : (H,) arrays or None
    nonlinearity : {"tanh", "relu"}
        phi.
    reverse : bool
        Run from the last step to the first; y keeps the order of x.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step of the run.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones.

    Notes
    -----
    Elman, Finding structure in time, 1990; `fastrnn.reference` (R1).
    """
    cell = CELLS["rnn_" + checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))]
    y, (h,) = _call(cell, x, state, w_ih, w_hh, b_ih, b_hh, reverse)
    return y, h


def lstm(x, state, w_ih, w_hh, b_ih=None, b_hh=None, *, reverse=False):
    """LSTM over a batch of sequences.

    i, f, o = sigmoid and g = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
    state : pair (h, c) of (B, H) arrays, or None
        Before the first step; None is zeros.
    w_ih, w_hh : (4*H, I) and (4*H, H) arrays
        Rows of the gates i, f, g, o, in this order.
    b_ih, b_hh : (4*H,) arrays or None
    reverse : bool
        Run from the last step to the first; y keeps the order of x.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : pair (h, c) of (B, H) arrays
        After the last step of the run.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones.

    Notes
    -----
    Hochreiter and Schmidhuber, Long short-term memory, 1997; forget gate of Gers, Schmidhuber and
    Cummins, Learning to forget, 2000; `fastrnn.reference` (L1) to (L6).
    """
    return _call(CELLS["lstm"], x, state, w_ih, w_hh, b_ih, b_hh, reverse)


def gru(x, state, w_ih, w_hh, b_ih=None, b_hh=None, *, reset_after=True, reverse=False):
    """GRU over a batch of sequences.

    r, z = sigmoid of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), or with the reset before the product
    n = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn); h_t = (1 - z) n + z h_{t-1}.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih, w_hh : (3*H, I) and (3*H, H) arrays
        Rows of the gates r, z, n, in this order.
    b_ih, b_hh : (3*H,) arrays or None
    reset_after : bool
        Whether the reset gate acts after the recurrent product (PyTorch, cuDNN, Keras' default)
        or before it.
    reverse : bool
        Run from the last step to the first; y keeps the order of x.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step of the run.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones.

    Notes
    -----
    Cho et al., Learning phrase representations using RNN encoder-decoder, 2014;
    `fastrnn.reference` (G1) to (G4).
    """
    cell = CELLS["gru_after" if checks.flag("reset_after", reset_after) else "gru_before"]
    y, (h,) = _call(cell, x, state, w_ih, w_hh, b_ih, b_hh, reverse)
    return y, h
