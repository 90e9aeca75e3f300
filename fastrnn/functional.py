"""The functions on plain arrays: one layer in one direction, forward and backward.

It must not know: kernels, backends, how arrays are checked (_functional).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from fastrnn import checks
from fastrnn._cells.registry import CELLS
from fastrnn._functional.calls import Batch, Parameters, backward, forward, size_of_tape
from fastrnn._functional.minimal import min_gru, min_gru_backward, min_lstm, min_lstm_backward

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal, SupportsIndex, TypedDict

    from typing_extensions import Unpack

    from fastrnn._typing import (
        Activation,
        Bytes,
        DType,
        Flags,
        Floats,
        GivenPair,
        Lengths,
        Nonlinearity,
        Pair,
        ResetTo,
        Seed,
        X,
    )

    class Options(TypedDict, total=False):
        """The options of every cell with recurrent gates."""

        clip: float | None
        zoneout: float | tuple[float, float]
        recurrent_dropout: float
        rng: Seed
        recurrent_mask: Floats | None
        zoneout_masks: Floats | Sequence[Floats] | None

    class GatedOptions(Options, total=False):
        recurrent_activation: Activation
        layer_norm: bool

    class LSTMOptions(GatedOptions, total=False):
        cell_clip: float | None
        peephole: bool
        coupled: bool


__all__ = [
    "Parameters",
    "gru",
    "gru_backward",
    "lstm",
    "lstm_backward",
    "min_gru",
    "min_gru_backward",
    "min_lstm",
    "min_lstm_backward",
    "rnn",
    "rnn_backward",
    "tape_size",
]


def tape_size(
    function: Literal["rnn", "lstm", "gru", "min_gru", "min_lstm"],
    steps: SupportsIndex, batch: SupportsIndex,
    hidden_size: SupportsIndex, dtype: DType = "float32", *, proj_size: SupportsIndex = 0,
    nonlinearity: Nonlinearity = "tanh", reset_after: bool = True,
    checkpoint: SupportsIndex | None = None, lengths: bool = False, mask: bool = False,
    reset: bool = False, recurrent_mask: bool = False, zoneout_masks: bool = False, **variant: Any,
) -> int:  # fmt: skip
    """Bytes of the tape that a function returns with return_tape=True, on this backend.

    The size does not depend on x (features or ids), reverse and reset_to.

    Parameters
    ----------
    function : {"rnn", "lstm", "gru", "min_gru", "min_lstm"}
    steps, batch, hidden_size : int
        T, B and H.
    dtype : {"float32", "float64"}
    proj_size : int
        P with weight_hr, else 0.
    nonlinearity, reset_after, checkpoint
        As for the function.
    lengths, mask, reset, recurrent_mask, zoneout_masks : bool
        True if the function gets such an array, or draws such masks. A mask that is all True, a
        reset that is all False and lengths that are all T count as False: a tape leaves them out.
    variant
        The function's options: clip, zoneout, layer_norm, and so on. In place of recurrent_dropout
        and rng, use recurrent_mask and zoneout_masks.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        For sizes and options out of range, and for more bytes than can be addressed.
    TypeError
        For sizes that are no integers, for another dtype and unknown options.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x, w_ih, w_hh = np.ones((5, 1, 2)), np.ones((3 * 3, 2)), np.ones((3 * 3, 3))
    >>> y, state, tape = fastrnn.gru(x, None, w_ih, w_hh, return_tape=True)
    >>> tape.size == fastrnn.tape_size("gru", 5, 1, 3, "float64")
    True
    """
    cell = _cell_named(function, nonlinearity, reset_after)
    flags = {"lengths": lengths, "mask": mask, "reset": reset, "recurrent_mask": recurrent_mask,
             "zoneout_masks": zoneout_masks}  # fmt: skip
    sizes = steps, batch, hidden_size, proj_size
    return size_of_tape(cell, dtype, sizes, checkpoint, flags, variant)


def _cell_named(function, nonlinearity="tanh", reset_after=True):
    checks.choice(
        "function", function, list(dict.fromkeys(cell.function for cell in CELLS.values()))
    )
    checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
    checks.flag("reset_after", reset_after)
    if nonlinearity != "tanh" and function != "rnn":
        raise ValueError(f"nonlinearity must be 'tanh', the default, for {function}")
    if not reset_after and function != "gru":
        raise ValueError(f"reset_after must be True, the default, for {function}")
    if function == "rnn":
        return CELLS[f"rnn_{nonlinearity}"]
    if function == "gru":
        return CELLS["gru_after" if reset_after else "gru_before"]
    return CELLS[function]


@overload
def rnn(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, nonlinearity: Nonlinearity = "tanh",
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[False] = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[Options],
) -> tuple[Floats, Floats]: ...  # fmt: skip


@overload
def rnn(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, nonlinearity: Nonlinearity = "tanh",
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[True], extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[Options],
) -> tuple[Floats, Floats, Bytes]: ...  # fmt: skip


@overload
def rnn(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, nonlinearity: Nonlinearity = "tanh",
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[Options],
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]: ...  # fmt: skip


def rnn(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, nonlinearity: Nonlinearity = "tanh",
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[Options],
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]:  # fmt: skip
    """Elman network over a batch of sequences: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Each call packs the weights anew: for many short calls with the same ones use a layer and its
    `freeze`.

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
        own last step. y is 0 beyond it; the final state is the one after the row's own last step.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: id k stands for a 1 at feature k among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: id k stands for embedding[k].
    return_tape : bool
        Also return the tape for `fastrnn.rnn_backward`.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.
    tape : 1-D array of uint8
        Only with return_tape=True. A tape may be copied, moved and stored. Only the same build of
        fastrnn reads it.

    Other Parameters
    ----------------
    extras : mapping of str to arrays, or None
        Parameters of variants; an rnn has none.
    checkpoint : int or None
        With n backward recomputes the steps, n at a time, and the tape has no gates. The tape of an
        rnn has gates only with some of the options, so without them n changes nothing.
    variant
        clip, zoneout and recurrent_dropout, as `fastrnn.RNN` has them.
        recurrent_dropout and zoneout draw masks from `rng`, a generator or a seed. Or give the
        masks: recurrent_mask (B, H) has the factors of h in the recurrent products, zoneout_masks
        (T, B, H) is 1 where an element of h keeps its value and 0 elsewhere. Without `rng` and
        masks, zoneout takes the expectation. The tape has the masks.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers; for masks and resets that are no booleans; for unknown options.

    Notes
    -----
    Elman, Finding structure in time, 1990; `fastrnn.reference` (R1).

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> w_ih, w_hh = np.ones((3, 2)), np.eye(3)
    >>> y, state, tape = fastrnn.rnn(np.ones((5, 1, 2)), None, w_ih, w_hh, return_tape=True)
    >>> y.shape, tape.dtype
    ((5, 1, 3), dtype('uint8'))
    """
    weights = Parameters(w_ih, w_hh, b_ih, b_hh, extras)
    batch = Batch(
        reverse, lengths, mask, reset, reset_to, one_hot, embedding, checkpoint, return_tape
    )
    cell = _cell_named("rnn", nonlinearity=nonlinearity)
    y, (h,), tape = forward("rnn", cell, x, state, weights, batch, variant)
    return (y, h) if tape is None else (y, h, tape)


def rnn_backward(
    tape: Bytes, x: X, y: Floats, state: Floats | None, weights: Parameters | Sequence[Any],
    dy: Floats | None, dlast: Floats | None = None, *, embedding: Floats | None = None,
    need_x: bool = True,
) -> tuple[Floats | None, Floats, Parameters]:  # fmt: skip
    """Compute the gradients of a loss of the y and the final state of `fastrnn.rnn`.

    Parameters
    ----------
    tape : 1-D array of uint8
        The tape that `fastrnn.rnn` returned, or a copy of it.
    x : (T, B, I) array, or (T, B) integers
        The x of that call.
    y : (T, B, H) array
        The y that the call returned.
    state : as in that call
        The initial state given to that call, not the state that it returned.
    weights : tuple (w_ih, w_hh, b_ih, b_hh, extras), or Parameters
        Those of that call; the last three may be left out. The tape has the other arguments of the
        call: options, lengths, mask, reset and dropout masks.
    dy : (T, B, H) array or None
        Gradient of the loss with respect to y; None is zero.
    dlast : (B, H) array, or None
        The same for the final state.
    embedding : (V, I) array, or None
        The embedding of that call.
    need_x : bool
        False leaves out the gradient of x.

    Returns
    -------
    dx : array like x, or like the embedding; None for one_hot and without need_x
    dstate : (B, H) array
        The gradient with respect to the initial state.
    dweights : Parameters
        Like weights, with None for a bias that is None; its extras are a dict.

    Raises
    ------
    ValueError
        For shapes other than those of the tape's call, if neither dy nor dlast has a gradient, for
        a tape of another build, and for a tape with impossible values. No tape, whatever its bytes,
        leads to memory beyond the arrays.
    TypeError
        For other dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x = np.ones((5, 1, 2))
    >>> w_ih, w_hh = np.ones((3, 2)), np.eye(3)
    >>> y, state, tape = fastrnn.rnn(x, None, w_ih, w_hh, return_tape=True)
    >>> weights, dy = (w_ih, w_hh), np.ones_like(y)
    >>> dx, dstate, dweights = fastrnn.rnn_backward(tape, x, y, None, weights, dy)
    >>> dx.shape == x.shape, dweights.w_hh.shape == w_hh.shape
    (True, True)
    """
    dx, dstate, dweights = backward("rnn", tape, x, y, state, weights, dy, dlast, embedding, need_x)
    return dx, dstate[0], dweights


@overload
def lstm(
    x: X, state: GivenPair | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[False] = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[LSTMOptions],
) -> tuple[Floats, Pair]: ...  # fmt: skip


@overload
def lstm(
    x: X, state: GivenPair | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[True], extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[LSTMOptions],
) -> tuple[Floats, Pair, Bytes]: ...  # fmt: skip


@overload
def lstm(
    x: X, state: GivenPair | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[LSTMOptions],
) -> tuple[Floats, Pair] | tuple[Floats, Pair, Bytes]: ...  # fmt: skip


def lstm(
    x: X, state: GivenPair | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[LSTMOptions],
) -> tuple[Floats, Pair] | tuple[Floats, Pair, Bytes]:  # fmt: skip
    """LSTM over a batch of sequences.

    i, f, o = sigmoid and g = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Each call packs the weights anew: for many short calls with the same ones use a layer and its
    `freeze`.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : pair (h, c) of (B, H) arrays, or None
        The state before the first step; None is zeros, also as one of the pair.
    w_ih, w_hh : (4*H, I) and (4*H, H) arrays
        The gates i, f, g, o are stacked in this order.
    b_ih, b_hh : (4*H,) arrays or None
    reverse : bool
        Run from the last step to the first; y keeps the order of x.
    lengths : (B,) array of integers from 0 to T, or None
        The number of steps of each row, in any order; None is T. With reverse a row begins at its
        own last step. y is 0 beyond it; the final state is the one after the row's own last step.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: id k stands for a 1 at feature k among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: id k stands for embedding[k].
    return_tape : bool
        Also return the tape for `fastrnn.lstm_backward`.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : pair (h, c) of (B, H) arrays
        The state after the last step that a row takes.
    tape : 1-D array of uint8
        Only with return_tape=True. A tape may be copied, moved and stored. Only the same build of
        fastrnn reads it.

    Other Parameters
    ----------------
    extras : mapping of str to arrays, or None
        weight_hr (P, H): h is projected, so h and y have P features, and w_hh is (4*H, P).
        weight_peephole (3*H,) with peephole=True. weight_ln_ih and weight_ln_hh (4*H,), weight_ln_c
        and bias_ln_c (H,) with layer_norm=True; bias_ln_c may be left out. With coupled=True there
        are three gates, i g o: each 4*H here is 3*H, and weight_peephole is (2*H,).
    checkpoint : int or None
        With n the tape has no gates, and only the c before every n-th step: without masks it is
        about 5 n times smaller (see `fastrnn.tape_size`). backward recomputes the steps, n at a
        time.
    variant
        clip, cell_clip, recurrent_activation, peephole, coupled, layer_norm, zoneout and
        recurrent_dropout, as `fastrnn.LSTM` has them.
        recurrent_dropout and zoneout draw masks from `rng`, a generator or a seed. Or give the
        masks: recurrent_mask, (B, H) or (B, P), has the factors of h in the recurrent products,
        zoneout_masks, a pair (of h, of c) of (T, B, H) arrays, is 1 where an element keeps its
        value and 0 elsewhere. Without `rng` and masks, zoneout takes the expectation. The tape
        has the masks.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers; for masks and resets that are no booleans; for unknown options.

    Notes
    -----
    Hochreiter and Schmidhuber, Long short-term memory, 1997; forget gate of Gers, Schmidhuber and
    Cummins, Learning to forget, 2000; `fastrnn.reference` (L1) to (L6).

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> w_ih, w_hh = np.ones((4 * 3, 2)), np.ones((4 * 3, 3))
    >>> y, state, tape = fastrnn.lstm(np.ones((5, 1, 2)), None, w_ih, w_hh, return_tape=True)
    >>> y.shape, tape.dtype
    ((5, 1, 3), dtype('uint8'))
    """
    weights = Parameters(w_ih, w_hh, b_ih, b_hh, extras)
    batch = Batch(
        reverse, lengths, mask, reset, reset_to, one_hot, embedding, checkpoint, return_tape
    )
    cell = CELLS["lstm"]
    y, state, tape = forward("lstm", cell, x, state, weights, batch, variant)
    return (y, state) if tape is None else (y, state, tape)


def lstm_backward(
    tape: Bytes, x: X, y: Floats, state: GivenPair | None, weights: Parameters | Sequence[Any],
    dy: Floats | None, dlast: GivenPair | None = None, *, embedding: Floats | None = None,
    need_x: bool = True,
) -> tuple[Floats | None, Pair, Parameters]:  # fmt: skip
    """Compute the gradients of a loss of the y and the final state of `fastrnn.lstm`.

    Parameters
    ----------
    tape : 1-D array of uint8
        The tape that `fastrnn.lstm` returned, or a copy of it.
    x : (T, B, I) array, or (T, B) integers
        The x of that call.
    y : (T, B, H) array
        The y that the call returned.
    state : as in that call
        The initial state given to that call, not the state that it returned.
    weights : tuple (w_ih, w_hh, b_ih, b_hh, extras), or Parameters
        Those of that call; the last three may be left out. The tape has the other arguments of the
        call: options, lengths, mask, reset and dropout masks.
    dy : (T, B, H) array or None
        Gradient of the loss with respect to y; None is zero.
    dlast : pair (h, c) of (B, H) arrays, or None
        The same for the final state.
    embedding : (V, I) array, or None
        The embedding of that call.
    need_x : bool
        False leaves out the gradient of x.

    Returns
    -------
    dx : array like x, or like the embedding; None for one_hot and without need_x
    dstate : pair (h, c) of (B, H) arrays
        The gradient with respect to the initial state.
    dweights : Parameters
        Like weights, with None for a bias that is None; its extras are a dict.

    Raises
    ------
    ValueError
        For shapes other than those of the tape's call, if neither dy nor dlast has a gradient, for
        a tape of another build, and for a tape with impossible values. No tape, whatever its bytes,
        leads to memory beyond the arrays.
    TypeError
        For other dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x = np.ones((5, 1, 2))
    >>> w_ih, w_hh = np.ones((4 * 3, 2)), np.ones((4 * 3, 3))
    >>> y, state, tape = fastrnn.lstm(x, None, w_ih, w_hh, return_tape=True)
    >>> weights, dy = (w_ih, w_hh), np.ones_like(y)
    >>> dx, dstate, dweights = fastrnn.lstm_backward(tape, x, y, None, weights, dy)
    >>> dx.shape == x.shape, dweights.w_hh.shape == w_hh.shape
    (True, True)
    """
    dx, dstate, dweights = backward(
        "lstm", tape, x, y, state, weights, dy, dlast, embedding, need_x
    )
    return dx, dstate, dweights


@overload
def gru(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, reset_after: bool = True,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[False] = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[GatedOptions],
) -> tuple[Floats, Floats]: ...  # fmt: skip


@overload
def gru(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, reset_after: bool = True,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: Literal[True], extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[GatedOptions],
) -> tuple[Floats, Floats, Bytes]: ...  # fmt: skip


@overload
def gru(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, reset_after: bool = True,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[GatedOptions],
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]: ...  # fmt: skip


def gru(
    x: X, state: Floats | None, w_ih: Floats, w_hh: Floats,
    b_ih: Floats | None = None, b_hh: Floats | None = None, *, reset_after: bool = True,
    reverse: bool = False,
    lengths: Lengths | None = None, mask: Flags | None = None, reset: Flags | None = None,
    reset_to: ResetTo = "zero", one_hot: bool = False, embedding: Floats | None = None,
    return_tape: bool = False, extras: Mapping[str, Floats] | None = None,
    checkpoint: SupportsIndex | None = None, **variant: Unpack[GatedOptions],
) -> tuple[Floats, Floats] | tuple[Floats, Floats, Bytes]:  # fmt: skip
    """GRU over a batch of sequences.

    r, z = sigmoid of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), or with reset_after=False
    n = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn); h_t = (1 - z) n + z h_{t-1}.

    Each call packs the weights anew: for many short calls with the same ones use a layer and its
    `freeze`.

    Parameters
    ----------
    x : (T, B, I) array, float32 or float64
        With `one_hot` or `embedding`: (T, B) integers, the ids.
    state : (B, H) array or None
        h before the first step; None is zeros.
    w_ih, w_hh : (3*H, I) and (3*H, H) arrays
        The gates r, z, n are stacked in this order.
    b_ih, b_hh : (3*H,) arrays or None
    reset_after : bool
        True: the reset gate acts after the recurrent product (PyTorch, cuDNN, Keras' default).
        False: before it.
    reverse : bool
        Run from the last step to the first; y keeps the order of x.
    lengths : (B,) array of integers from 0 to T, or None
        The number of steps of each row, in any order; None is T. With reverse a row begins at its
        own last step. y is 0 beyond it; the final state is the one after the row's own last step.
    mask : (T, B) array of booleans, or None
        False where a row keeps its state; y repeats it there.
    reset : (T, B) array of booleans, or None
        True where the state is reset before that step.
    reset_to : {"zero", "initial"}
        The value after a reset: zero, or `state`.
    one_hot : bool
        x is ids from 0 to I - 1: id k stands for a 1 at feature k among zeros.
    embedding : (V, I) array, or None
        x is ids from 0 to V - 1: id k stands for embedding[k].
    return_tape : bool
        Also return the tape for `fastrnn.gru_backward`.

    Returns
    -------
    y : (T, B, H) array
        h_t for every step.
    state : (B, H) array
        h after the last step that a row takes.
    tape : 1-D array of uint8
        Only with return_tape=True. A tape may be copied, moved and stored. Only the same build of
        fastrnn reads it.

    Other Parameters
    ----------------
    extras : mapping of str to arrays, or None
        weight_ln_ih and weight_ln_hh (3*H,) with layer_norm=True.
    checkpoint : int or None
        With n the tape has no gates, so without masks it is almost empty. backward recomputes the
        steps, n at a time.
    variant
        clip, recurrent_activation, layer_norm, zoneout and recurrent_dropout, as `fastrnn.GRU`
        has them.
        recurrent_dropout and zoneout draw masks from `rng`, a generator or a seed. Or give the
        masks: recurrent_mask (B, H) has the factors of h in the recurrent products, zoneout_masks
        (T, B, H) is 1 where an element of h keeps its value and 0 elsewhere. Without `rng` and
        masks, zoneout takes the expectation. The tape has the masks.

    Raises
    ------
    ValueError
        For shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and for mixed ones; for lengths that are no
        integers; for masks and resets that are no booleans; for unknown options.

    Notes
    -----
    Cho et al., Learning phrase representations using RNN encoder-decoder, 2014;
    `fastrnn.reference` (G1) to (G4).

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> w_ih, w_hh = np.ones((3 * 3, 2)), np.ones((3 * 3, 3))
    >>> y, state, tape = fastrnn.gru(np.ones((5, 1, 2)), None, w_ih, w_hh, return_tape=True)
    >>> y.shape, tape.dtype
    ((5, 1, 3), dtype('uint8'))
    """
    weights = Parameters(w_ih, w_hh, b_ih, b_hh, extras)
    batch = Batch(
        reverse, lengths, mask, reset, reset_to, one_hot, embedding, checkpoint, return_tape
    )
    cell = _cell_named("gru", reset_after=reset_after)
    y, (h,), tape = forward("gru", cell, x, state, weights, batch, variant)
    return (y, h) if tape is None else (y, h, tape)


def gru_backward(
    tape: Bytes, x: X, y: Floats, state: Floats | None, weights: Parameters | Sequence[Any],
    dy: Floats | None, dlast: Floats | None = None, *, embedding: Floats | None = None,
    need_x: bool = True,
) -> tuple[Floats | None, Floats, Parameters]:  # fmt: skip
    """Compute the gradients of a loss of the y and the final state of `fastrnn.gru`.

    Parameters
    ----------
    tape : 1-D array of uint8
        The tape that `fastrnn.gru` returned, or a copy of it.
    x : (T, B, I) array, or (T, B) integers
        The x of that call.
    y : (T, B, H) array
        The y that the call returned.
    state : as in that call
        The initial state given to that call, not the state that it returned.
    weights : tuple (w_ih, w_hh, b_ih, b_hh, extras), or Parameters
        Those of that call; the last three may be left out. The tape has the other arguments of the
        call: options, lengths, mask, reset and dropout masks.
    dy : (T, B, H) array or None
        Gradient of the loss with respect to y; None is zero.
    dlast : (B, H) array, or None
        The same for the final state.
    embedding : (V, I) array, or None
        The embedding of that call.
    need_x : bool
        False leaves out the gradient of x.

    Returns
    -------
    dx : array like x, or like the embedding; None for one_hot and without need_x
    dstate : (B, H) array
        The gradient with respect to the initial state.
    dweights : Parameters
        Like weights, with None for a bias that is None; its extras are a dict.

    Raises
    ------
    ValueError
        For shapes other than those of the tape's call, if neither dy nor dlast has a gradient, for
        a tape of another build, and for a tape with impossible values. No tape, whatever its bytes,
        leads to memory beyond the arrays.
    TypeError
        For other dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> x = np.ones((5, 1, 2))
    >>> w_ih, w_hh = np.ones((3 * 3, 2)), np.ones((3 * 3, 3))
    >>> y, state, tape = fastrnn.gru(x, None, w_ih, w_hh, return_tape=True)
    >>> weights, dy = (w_ih, w_hh), np.ones_like(y)
    >>> dx, dstate, dweights = fastrnn.gru_backward(tape, x, y, None, weights, dy)
    >>> dx.shape == x.shape, dweights.w_hh.shape == w_hh.shape
    (True, True)
    """
    dx, dstate, dweights = backward("gru", tape, x, y, state, weights, dy, dlast, embedding, need_x)
    return dx, dstate[0], dweights
