"""rnn, lstm, gru: one layer, one direction, arrays in, arrays out.

It must not know: kernels, backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn._cells.registry import CELLS
from fastrnn._engine import ids, ragged
from fastrnn._engine.passes import run

if TYPE_CHECKING:
    from fastrnn._typing import Flags, Floats, GivenPair, Lengths, Nonlinearity, Pair, ResetTo, X


def _call(cell, x, state, weights, one_hot, embedding, reverse, *rows):
    weights = checks.weights(cell, *weights)
    (_, inputs), dtype = weights[0].shape, weights[0].dtype
    of_ids = ids.wanted(one_hot, embedding)
    x = ids.integers("x", x, (2,)) if of_ids else checks.sequence("x", x, dtype, inputs)
    rows = ragged.rows(*x.shape[:2], *rows)
    if of_ids:
        x = ids.checked("x", x, inputs, embedding, dtype, rows)
    state = checks.state(cell, state, x.shape[1], weights[1].shape[1], dtype)
    y, last, _ = run(cell, x, state, weights, checks.flag("reverse", reverse), rows=rows)
    return y, last


def rnn(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, nonlinearity: Nonlinearity = "tanh",
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Elman network over a batch of sequences: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih, w_hh : (H, I) and (H, H) arrays
    b_ih, b_hh : (H,) arrays or None
    nonlinearity : {"tanh", "relu"}
        phi.
    reverse : bool
        Run from the last step to the first; y keeps the order of x.
    lengths : (B,) array of integers from 0 to T, or None
        The number of steps of each row, in any order; None is T. With reverse a row begins at its
        own last step. y is 0 beyond that step; the final state is the row's own.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: an id stands for a 1 at that feature among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: an id stands for a row of this array.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers, for masks and resets that are no booleans.

    Notes
    -----
    Elman, Finding structure in time, 1990; `fastrnn.reference` (R1).
    """
    cell = CELLS["rnn_" + checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))]
    y, (h,) = _call(
        cell, x, state, (w_ih, w_hh, b_ih, b_hh), one_hot, embedding, reverse,
        lengths, mask, reset, reset_to,
    )  # fmt: skip
    return y, h


def lstm(
    x: X, state: GivenPair | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
) -> tuple[Floats, Pair]:  # fmt: skip
    """LSTM over a batch of sequences.

    i, f, o = sigmoid and g = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : pair (h, c) of (B, H) arrays, or None
        Before the first step; None is zeros, in place of either array too.
    w_ih, w_hh : (4*H, I) and (4*H, H) arrays
        Rows of the gates i, f, g, o, in this order.
    b_ih, b_hh : (4*H,) arrays or None
    reverse : bool
        Run from the last step to the first; y keeps the order of x.
    lengths : (B,) array of integers from 0 to T, or None
        The number of steps of each row, in any order; None is T. With reverse a row begins at its
        own last step. y is 0 beyond that step; the final state is the row's own.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: an id stands for a 1 at that feature among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: an id stands for a row of this array.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : pair (h, c) of (B, H) arrays
        After the last step that a row takes.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers, for masks and resets that are no booleans.

    Notes
    -----
    Hochreiter and Schmidhuber, Long short-term memory, 1997; forget gate of Gers, Schmidhuber and
    Cummins, Learning to forget, 2000; `fastrnn.reference` (L1) to (L6).
    """
    return _call(
        CELLS["lstm"], x, state, (w_ih, w_hh, b_ih, b_hh), one_hot, embedding, reverse,
        lengths, mask, reset, reset_to,
    )  # fmt: skip


def gru(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, reset_after: bool = True,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """GRU over a batch of sequences.

    r, z = sigmoid of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), or with the reset before the product
    n = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn); h_t = (1 - z) n + z h_{t-1}.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
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
    lengths : (B,) array of integers from 0 to T, or None
        The number of steps of each row, in any order; None is T. With reverse a row begins at its
        own last step. y is 0 beyond that step; the final state is the row's own.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: an id stands for a 1 at that feature among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: an id stands for a row of this array.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers, for masks and resets that are no booleans.

    Notes
    -----
    Cho et al., Learning phrase representations using RNN encoder-decoder, 2014;
    `fastrnn.reference` (G1) to (G4).
    """
    cell = CELLS["gru_after" if checks.flag("reset_after", reset_after) else "gru_before"]
    y, (h,) = _call(
        cell, x, state, (w_ih, w_hh, b_ih, b_hh), one_hot, embedding, reverse,
        lengths, mask, reset, reset_to,
    )  # fmt: skip
    return y, h
