"""min_gru, min_lstm and their backward functions: cells whose gates depend on x alone.

It must not know: kernels, backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from fastrnn._cells.registry import CELLS
from fastrnn._functional.calls import Batch, Parameters, backward, forward

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, SupportsIndex

    from fastrnn._typing import Bytes, Flags, Floats, Lengths, ResetTo, X


def _forward(function, x, state, w_ih, b_ih, *batch):
    weights = Parameters(w_ih, None, b_ih)
    y, (h,), tape = forward(function, CELLS[function], x, state, weights, Batch(*batch), {})
    return (y, h) if tape is None else (y, h, tape)


def _backward(function, tape, x, y, state, weights, dy, dlast, embedding, need_x):
    if not isinstance(weights, Parameters):
        is_sequence = isinstance(weights, tuple | list)
        if not is_sequence or not 1 <= len(weights) <= 2:
            got = type(weights).__name__
            raise TypeError(
                "weights must be a tuple (w_ih, b_ih), of which b_ih may be left out, got a "
                + (f"{got} of {len(weights)}" if is_sequence else got)
            )
        weights = Parameters(weights[0], None, *weights[1:])
    dx, (dstate,), dweights = backward(
        function, tape, x, y, state, weights, dy, dlast, embedding, need_x
    )
    return dx, dstate, dweights


@overload
def min_gru(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: Literal[False] = False,
) -> tuple[Floats, Floats]: ...  # fmt: skip


@overload
def min_gru(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: Literal[True],
) -> tuple[Floats, Floats, Bytes]: ...  # fmt: skip


@overload
def min_gru(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: bool,
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]: ...  # fmt: skip


def min_gru(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: bool = False,
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]:  # fmt: skip
    """minGRU over a batch of sequences: a gate and a candidate that depend on x alone.

    z = sigmoid(W_iz x_t + b_z), h~ = W_ih x_t + b_h; h_t = (1 - z) h_{t-1} + z h~. Here z is
    the factor of the new value h~; in the GRU it is that of h_{t-1}.

    Each call packs the weights anew: for many short calls with the same ones use a layer and its
    `freeze`.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih : (2*H, I) array
        z and h~ are stacked in this order.
    b_ih : (2*H,) array or None
    reverse, lengths, mask, reset, reset_to, one_hot, embedding, checkpoint
        As for `fastrnn.gru`.
    return_tape : bool
        Also return the tape for `fastrnn.min_gru_backward`.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.
    tape : 1-D array of uint8
        Only with return_tape=True. A tape may be copied, moved and stored.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers, for masks and resets that are no booleans.

    Notes
    -----
    Feng et al., Were RNNs all we needed?, 2024; `fastrnn.reference` (M1) to (M3).

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> y, h = fastrnn.min_gru(np.ones((5, 1, 2)), None, np.ones((2 * 3, 2)))
    >>> y.shape, h.shape
    ((5, 1, 3), (1, 3))
    """
    return _forward(
        "min_gru", x, state, w_ih, b_ih, reverse, lengths, mask, reset, reset_to, one_hot,
        embedding, checkpoint, return_tape,
    )  # fmt: skip


def min_gru_backward(
    tape: Bytes, x: X, y: Floats, state: Floats | None, weights: Parameters | Sequence[Any],
    dy: Floats | None, dlast: Floats | None = None, *, embedding: Floats | None = None,
    need_x: bool = True,
) -> tuple[Floats | None, Floats, Parameters]:  # fmt: skip
    """Compute the gradients of a loss of the y and the final state of `fastrnn.min_gru`.

    Parameters
    ----------
    tape, x, y, state
        As for `fastrnn.gru_backward`.
    weights : tuple (w_ih, b_ih), or Parameters
        Those of that call; b_ih may be left out.
    dy, dlast, embedding, need_x
        As for `fastrnn.gru_backward`.

    Returns
    -------
    dx : array like x, or like the embedding; None for one_hot and without need_x
    dstate : (B, H) array
        The gradient with respect to the initial state.
    dweights : Parameters
        w_hh and b_hh are None, and so is b_ih if it was left out.

    Raises
    ------
    ValueError, TypeError
        As for `fastrnn.gru_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x, w_ih = np.ones((5, 1, 2)), np.ones((2 * 3, 2))
    >>> y, h, tape = fastrnn.min_gru(x, None, w_ih, return_tape=True)
    >>> _, _, dweights = fastrnn.min_gru_backward(tape, x, y, None, (w_ih,), np.ones_like(y))
    >>> dweights.w_ih.shape
    (6, 2)
    """
    return _backward("min_gru", tape, x, y, state, weights, dy, dlast, embedding, need_x)


@overload
def min_lstm(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: Literal[False] = False,
) -> tuple[Floats, Floats]: ...  # fmt: skip


@overload
def min_lstm(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: Literal[True],
) -> tuple[Floats, Floats, Bytes]: ...  # fmt: skip


@overload
def min_lstm(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: bool,
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]: ...  # fmt: skip


def min_lstm(
    x: X, state: Floats | None, w_ih: Floats, b_ih: Floats | None = None, *, reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    checkpoint: SupportsIndex | None = None, return_tape: bool = False,
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]:  # fmt: skip
    """minLSTM over a batch of sequences: two gates and a candidate that depend on x alone.

    f, i = sigmoid of W_ih x_t + b_ih, h~ = W_ih x_t + b_ih without an activation;
    h_t = f/(f + i) h_{t-1} + i/(f + i) h~. There is no c.

    Each call packs the weights anew: for many short calls with the same ones use a layer and its
    `freeze`.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih : (3*H, I) array
        f, i and h~ are stacked in this order.
    b_ih : (3*H,) array or None
    reverse, lengths, mask, reset, reset_to, one_hot, embedding, checkpoint
        As for `fastrnn.gru`.
    return_tape : bool
        Also return the tape for `fastrnn.min_lstm_backward`.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.
    tape : 1-D array of uint8
        Only with return_tape=True. A tape may be copied, moved and stored.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers, for masks and resets that are no booleans.

    Notes
    -----
    Feng et al., Were RNNs all we needed?, 2024; `fastrnn.reference` (M7) to (M9).

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> y, h = fastrnn.min_lstm(np.ones((5, 1, 2)), None, np.ones((3 * 3, 2)))
    >>> y.shape, h.shape
    ((5, 1, 3), (1, 3))
    """
    return _forward(
        "min_lstm", x, state, w_ih, b_ih, reverse, lengths, mask, reset, reset_to, one_hot,
        embedding, checkpoint, return_tape,
    )  # fmt: skip


def min_lstm_backward(
    tape: Bytes, x: X, y: Floats, state: Floats | None, weights: Parameters | Sequence[Any],
    dy: Floats | None, dlast: Floats | None = None, *, embedding: Floats | None = None,
    need_x: bool = True,
) -> tuple[Floats | None, Floats, Parameters]:  # fmt: skip
    """Compute the gradients of a loss of the y and the final state of `fastrnn.min_lstm`.

    Parameters
    ----------
    tape, x, y, state
        As for `fastrnn.gru_backward`.
    weights : tuple (w_ih, b_ih), or Parameters
        Those of that call; b_ih may be left out.
    dy, dlast, embedding, need_x
        As for `fastrnn.gru_backward`.

    Returns
    -------
    dx : array like x, or like the embedding; None for one_hot and without need_x
    dstate : (B, H) array
        The gradient with respect to the initial state.
    dweights : Parameters
        w_hh and b_hh are None, and so is b_ih if it was left out.

    Raises
    ------
    ValueError, TypeError
        As for `fastrnn.gru_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x, w_ih = np.ones((5, 1, 2)), np.ones((3 * 3, 2))
    >>> y, h, tape = fastrnn.min_lstm(x, None, w_ih, return_tape=True)
    >>> _, _, dweights = fastrnn.min_lstm_backward(tape, x, y, None, (w_ih,), np.ones_like(y))
    >>> dweights.w_ih.shape
    (9, 2)
    """
    return _backward("min_lstm", tape, x, y, state, weights, dy, dlast, embedding, need_x)
