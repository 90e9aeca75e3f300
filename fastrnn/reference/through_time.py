"""The loop over time, forward and backward: (S1) to (S9), (P1), (P2).

It must not know: the equations of any cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn.checks import plain
from fastrnn.reference.cells import Cell, by_gate, cell_of
from fastrnn.reference.precision import NarrowMatrix
from fastrnn.reference.ragged import Rows, added, chosen, rows_of
from fastrnn.reference.variant_arguments import VariantArguments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.reference.cells import CellName, Floats, State
    from fastrnn.reference.variant_arguments import DropoutMasks


@dataclass(frozen=True)
class Tape:
    """The record of a `forward`, for `backward`.

    It has no copies of x and the weights: do not change them before `backward` has run.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((3 * 4, 2)), np.ones((3 * 4, 4))  # gates r z n of 4 units
    >>> y, state, tape = reference.forward("gru_after", np.ones((5, 1, 2)), None, w_ih, w_hh)
    >>> len(tape.saved), tape.biases
    (5, (False, False))
    """

    cell: Cell
    x: NDArray[Any]  # (T, B, I), or (T, B) integers
    w_ih: Floats  # (G*H, I)
    w_hh: Floats  # (G*H, H); of a cell without products with h (0, H)
    biases: tuple[bool, bool]  # True if there is a b_ih, a b_hh
    reverse: bool
    rows: Rows
    operands: tuple[Floats, ...]  # v_t of (S2): one (T, B, H) per phase
    saved: list[Any]  # T entries, saved by the step at that time
    variant_arguments: VariantArguments | None
    w_hr: Floats | None = None  # (P, H); then h has P features
    unprojected: Floats | None = None  # (T, B, H): h before (P1)


def _same(array, dtype):
    """The value as an array. NumPy raises TypeError if its dtype is not `dtype`."""
    if isinstance(array, NarrowMatrix):
        return array
    return plain("an array", array).astype(dtype, casting="equiv", copy=False)


def _own_state(arrays, batch, sizes, dtype):
    """Copies of a state's arrays (B, size), with zeros for each None."""
    arrays = (None,) * len(sizes) if arrays is None else arrays
    return tuple(
        np.zeros((batch, size), dtype) if a is None else _same(a, dtype).copy()
        for a, size in zip(arrays, sizes, strict=True)
    )


class _Call(NamedTuple):
    """The arguments of a call, in the dtype of its weights."""

    cell: Cell
    x: np.ndarray
    state: tuple
    w_ih: np.ndarray
    w_hh: np.ndarray
    biases: tuple  # b_ih and b_hh as (S1) and (S2) add them, or None
    w_hr: np.ndarray | None
    variant_arguments: VariantArguments | None  # None for a plain cell
    rows: Rows


def _prepare(cell, x, state, weights, dropout_masks, rows):
    cell = cell_of(cell)
    w_ih, w_hh, b_ih, b_hh, *params = weights
    x = plain("x", x)
    w_ih = w_ih if isinstance(w_ih, NarrowMatrix) else plain("w_ih", w_ih)
    dtype = w_ih.dtype
    w_hh, b_ih, b_hh, *params = (
        None if a is None else _same(a, dtype) for a in (w_hh, b_ih, b_hh, *params)
    )
    if w_hh is None:
        w_hh = np.empty((0, len(w_ih) // cell.gates), dtype)
    w_hr = params.pop(0) if cell.projects else None
    arguments = None
    if cell.extras is not None:
        named = {} if cell.biased else {"bias_ih": b_ih, "bias_hh": b_hh}
        named |= dict(zip((kind for kind, _ in cell.extras), params, strict=True))
        arguments = VariantArguments(named, dropout_masks)
    x = x if x.dtype.kind in "iu" else _same(x, dtype)
    (T, B, *inputs), H, P = x.shape, len(w_ih) // cell.gates, w_hh.shape[1]
    rows = rows_of(T, *rows)
    if rows.works is not None:
        works = rows.works if inputs else rows.works[..., 0]
        x = np.where(works, x, 0)  # x may have any values there, NaN too
    biases = (b_ih, b_hh) if cell.biased else (None, None)
    state = _own_state(state, B, (P, H)[: cell.states], dtype)
    return _Call(cell, x, state, w_ih, w_hh, biases, w_hr, arguments, rows)


def _input_side(call):
    """(S1) or (S1') for all steps: a (T, G, B, H)."""
    x, cell = call.x, call.cell
    (T, B, *inputs), (b_ih, _) = x.shape, call.biases
    x = x.reshape(T * B, *inputs)
    a = x @ call.w_ih.T if inputs else call.w_ih.T[x]
    if b_ih is not None:
        a += b_ih
    return by_gate(a.reshape(T, B, len(call.w_ih)), cell.gates)


class _Records:
    """The values of each step that a tape has for `backward`."""

    def __init__(self, call):
        (T, B, *_), cell, dtype = call.x.shape, call.cell, call.w_ih.dtype
        H, P = len(call.w_ih) // cell.gates, call.w_hh.shape[1]
        self.operands = tuple(np.empty((T, B, P), dtype) for _ in cell.phases)
        self.unprojected = np.empty((T, B, H), dtype) if cell.projects else None
        self.saved = [None] * T

    def add(self, t, state, operands, saved):
        """state : the state after the step, with h before its projection (P1)."""
        if self.unprojected is not None:
            self.unprojected[t] = state[0]
        for v, now in zip(self.operands, operands, strict=True):
            v[t] = now
        self.saved[t] = saved


def _unroll(call, reverse, records=None):
    """Run the loop over time -> y and the final state. It fills in `records`, if there are any."""
    cell, state, rows, (_, b_hh) = call.cell, call.state, call.rows, call.biases
    T, B, *_ = call.x.shape
    begin = state if rows.to_initial else tuple(np.zeros_like(s) for s in state)
    b = np.zeros(len(call.w_hh), call.w_ih.dtype) if b_hh is None else b_hh
    y = np.empty((T, B, call.w_hh.shape[1]), call.w_ih.dtype)
    with np.errstate(all="ignore"):
        a = _input_side(call)
        for t in range(T)[:: -1 if reverse else 1]:
            if rows.resets is not None:
                state = chosen(rows.resets[t], begin, state)  # (S7)
            more = () if call.variant_arguments is None else call.variant_arguments.at(t)
            before, (state, v_t, saved) = state, cell.step(a[t], state, call.w_hh, b, *more)
            if records is not None:
                records.add(t, state, v_t, saved)
            if cell.projects:
                state = (state[0] @ call.w_hr.T, *state[1:])  # (P1)
            if rows.works is not None:
                state = chosen(rows.works[t], state, before)  # (S8)
            y[t] = state[0] if rows.within is None else np.where(rows.within[t], state[0], 0)
    return y, state


def forward(
    cell: Cell | CellName,
    x: ArrayLike,
    state: Sequence[ArrayLike | None] | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *params: ArrayLike | None,
    dropout_masks: DropoutMasks | None = None,
    reverse: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    reset_to: Literal["zero", "initial"] = "zero",
) -> tuple[Floats, State, Tape]:
    """Run one layer in one direction -> y, the final state and the tape for `backward`.

    Parameters
    ----------
    cell : Cell, or the name of one in `CELLS`
    x : (T, B, I) array, or (T, B) integers from 0 to I - 1 as in (S1')
    state : tuple of (B, H) arrays or None
        ``(h,)``, or ``(h, c)`` for the LSTM. None is zeros, also in the tuple.
    w_ih, w_hh : (G*H, I) and (R*H, H) arrays
        R gates have a product with h: all G, or fewer. If none has, w_hh is None.
    b_ih, b_hh : (G*H,) and (R*H,) arrays, or None
    *params : the extra parameters, in the order of `cell.extras`. With a projection, W_hr (P, H)
        comes before them, w_hh is (R*H, P), and h and y have P features.
    dropout_masks : `fastrnn._engine.dropout_masks.DropoutMasks`, or None
        The masks of a variant. With None there is no recurrent dropout, and zoneout takes its
        expectation.
    reverse : bool
    lengths : (B,) array of integers or None
        The number of steps of each row; None is T.
    mask, reset : (T, B) arrays of booleans or None
        mask is False where a row keeps its state; reset is True where its state is reset.
    reset_to : {"zero", "initial"}

    Returns
    -------
    y : (T, B, H) array
    state : tuple of (B, H) arrays
    tape : Tape

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((4 * 3, 2)), np.ones((4 * 3, 3))  # gates i f g o of 3 units
    >>> x = np.ones((5, 2, 2))
    >>> y, (h, c), tape = reference.forward("lstm", x, None, w_ih, w_hh, lengths=[5, 3])
    >>> y.shape, h.shape, c.shape
    ((5, 2, 3), (2, 3), (2, 3))
    """
    weights, rows = (w_ih, w_hh, b_ih, b_hh, *params), (lengths, mask, reset, reset_to)
    call = _prepare(cell, x, state, weights, dropout_masks, rows)
    records = _Records(call)
    y, state = _unroll(call, reverse, records)
    tape = Tape(
        call.cell, call.x, call.w_ih, call.w_hh, tuple(b is not None for b in call.biases),
        reverse, call.rows, records.operands, records.saved, call.variant_arguments, call.w_hr,
        records.unprojected,
    )  # fmt: skip
    return y, tuple(s.copy() for s in state), tape  # copies: the tape may hold the arrays


def infer(
    cell: Cell | CellName,
    x: ArrayLike,
    state: Sequence[ArrayLike | None] | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *params: ArrayLike | None,
    dropout_masks: DropoutMasks | None = None,
    reverse: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    reset_to: Literal["zero", "initial"] = "zero",
) -> tuple[Floats, State]:
    """Like `forward`, without a tape -> y, state (a tuple).

    Parameters
    ----------
    cell, x, state, w_ih, w_hh, b_ih, b_hh, *params : as for `forward`
    dropout_masks, reverse, lengths, mask, reset, reset_to : as for `forward`

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> y, (h,) = reference.infer("rnn_relu", np.ones((3, 1, 2)), None, np.eye(2), np.eye(2))
    >>> y[:, 0, 0]
    array([1., 2., 3.])
    """
    weights, rows = (w_ih, w_hh, b_ih, b_hh, *params), (lengths, mask, reset, reset_to)
    return _unroll(_prepare(cell, x, state, weights, dropout_masks, rows), reverse)


def step(
    cell: Cell | CellName,
    x_t: ArrayLike,
    state: Sequence[ArrayLike | None] | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *params: ArrayLike | None,
) -> State:
    """Run one step of a cell: x_t and the state before it -> the state after it.

    Parameters
    ----------
    cell : as for `forward`
    x_t : (B, I) array, or (B,) integers from 0 to I - 1
    state : tuple of (B, H) arrays or None
        ``(h,)``, or ``(h, c)`` for the LSTM. None is zeros, also in the tuple.
    w_ih, w_hh, b_ih, b_hh, *params : as for `forward`

    Returns
    -------
    state : tuple of (B, H) arrays
        The h of the state is the step's output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((4 * 3, 2)), np.ones((4 * 3, 3))  # gates i f g o of 3 units
    >>> h, c = reference.step("lstm", np.ones((1, 2)), None, w_ih, w_hh)
    >>> h.shape, c.shape
    ((1, 3), (1, 3))
    """
    x = plain("x_t", x_t)[None]
    return infer(cell, x, state, w_ih, w_hh, b_ih, b_hh, *params)[1]


def gates(tape: Tape) -> dict[str, Floats]:
    """The gates of every step: name -> (T, B, H) array, i f g o c or r z n; none for rnn.

    Gates are zero in steps that a row did not take. c keeps its value there, and is 0 beyond the
    row's end.

    Parameters
    ----------
    tape : Tape
        As `forward` returns it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((3 * 4, 2)), np.ones((3 * 4, 4))  # gates r z n of 4 units
    >>> y, state, tape = reference.forward("gru_after", np.ones((5, 1, 2)), None, w_ih, w_hh)
    >>> {name: values.shape for name, values in reference.gates(tape).items()}
    {'r': (5, 1, 4), 'z': (5, 1, 4), 'n': (5, 1, 4)}
    """
    cell, rows, shown = tape.cell, tape.rows, {}
    for t, saved in enumerate(tape.saved):
        gates_now, c_prev = cell.gates_of(saved)
        for name, now in gates_now.items():
            if rows.works is not None:
                now = np.where(rows.works[t], now, c_prev if name == "c" else 0)
            if rows.within is not None:
                now = np.where(rows.within[t], now, 0)
            values = shown.setdefault(name, np.empty((len(tape.saved), *now.shape), now.dtype))
            values[t] = now
    return shown


def _show(target, values, rows, t):
    np.copyto(target, values, where=True if rows.within is None else rows.within[t])


_FEW_ROWS = 8192  # a float32 sum over at most this number of rows loses few digits


def _product_over_rows(a, b):
    """a^T b for (N, n) and (N, m): a sum over N rows."""
    if len(a) <= _FEW_ROWS:
        return a.T @ b
    return np.matmul(a.T, b, dtype=np.float64).astype(a.dtype)


def _sum_over_rows(a):
    return a.sum(0, dtype=np.float64).astype(a.dtype)


class _Steps:
    """Gradients of all steps: da and du (T, B, G*H), the dh that (P2) reads, dp_t by kind."""

    def __init__(self, tape):
        (T, B, *_), cell, dtype = tape.x.shape, tape.cell, tape.w_hh.dtype
        self.da = np.empty((T, B, len(tape.w_ih)), dtype)
        self.du = self.da if cell.added else np.empty_like(self.da)
        self.dh = np.empty((T, B, tape.w_hh.shape[1]), dtype) if cell.projects else None
        self.dp = {} if tape.variant_arguments is None else tape.variant_arguments.gradients(T, B)
        self._by_gate = by_gate(self.da, cell.gates), by_gate(self.du, cell.gates)

    def at(self, t):
        """The arrays to fill in at step t: da and du (G, B, H), and dp."""
        da, du = self._by_gate
        return da[t], du[t], {kind: d[t] for kind, d in self.dp.items()}


def _backward_through_time(tape, dy, dstate, dstates):
    """(S3), (S7), (S8) and the derivatives, step by step -> `_Steps`, initial dstate."""
    cell, rows, steps = tape.cell, tape.rows, _Steps(tape)
    begin = tuple(np.zeros(d.shape) for d in dstate)  # float64: a sum over time
    for t in range(len(tape.x))[:: 1 if tape.reverse else -1]:
        if dy is not None:
            dy_t = dy[t] if rows.within is None else np.where(rows.within[t], dy[t], 0)
            dstate = (dstate[0] + dy_t, *dstate[1:])  # (S3)
        after, (da, du, dp) = dstate, steps.at(t)
        shown_h, *shown_c = dstates
        if shown_h is not None:
            _show(shown_h[t], dstate[0], rows, t)
        more = () if tape.variant_arguments is None else (*tape.variant_arguments.at(t), dp)
        if cell.projects:  # (P2)
            steps.dh[t] = dstate[0] if rows.works is None else np.where(rows.works[t], dstate[0], 0)
            dstate = (dstate[0] @ tape.w_hr, *dstate[1:])
        if cell.states == 2 and shown_c[0] is not None:
            dc = cell.reaches_c(dstate, tape.saved[t], *more)
            dc = dc if rows.works is None else np.where(rows.works[t], dc, dstate[1])
            _show(shown_c[0][t], dc, rows, t)
        dstate = cell.derivative(dstate, tape.saved[t], tape.w_hh, da, du, *more)
        if rows.works is not None:  # (S8)
            dstate = chosen(rows.works[t], dstate, after)
            for d in (da, du, *dp.values()):
                d[...] = np.where(rows.works[t], d, 0)
        if rows.resets is not None:  # (S7)
            begin = chosen(rows.resets[t], added(begin, dstate), begin)
            dstate = chosen(rows.resets[t], (0,) * len(dstate), dstate)
    if rows.to_initial:
        dstate = tuple(d.astype(tape.w_hh.dtype) for d in added(dstate, begin))
    return steps, dstate


def _input_gradients(tape, da):
    """(S4) and (S5), or (S5') with dx None -> dx and dW_ih. da is (T*B, G*H)."""
    T, B, *inputs = tape.x.shape
    if inputs:
        dw_ih = _product_over_rows(da, tape.x.reshape(T * B, *inputs))
        return (da @ tape.w_ih).reshape(tape.x.shape), dw_ih
    sums = np.zeros(tape.w_ih.shape)
    np.add.at(sums.T, tape.x.reshape(T * B), da)
    return None, sums.astype(da.dtype)


def _recurrent_gradients(tape, du, dh):
    """(S6) and (P2) -> dW_hh, and a list with dW_hr if there is a projection. du is (T*B, G*H)."""
    works, H, P = tape.rows.works, len(tape.w_ih) // tape.cell.gates, tape.w_hh.shape[1]

    def counted(rows):  # NaN * 0 would be NaN
        return (rows if works is None else np.where(works, rows, 0)).reshape(-1, rows.shape[2])

    dw_hh = np.empty_like(tape.w_hh)
    for (first, last), v in zip(tape.cell.phases, tape.operands, strict=True):
        gates = slice(first * H, last * H)
        dw_hh[gates] = _product_over_rows(du[:, gates], counted(v))
    if dh is None:
        return dw_hh, []
    return dw_hh, [_product_over_rows(dh.reshape(-1, P), counted(tape.unprojected))]


def backward(
    tape: Tape,
    dy: ArrayLike | None,
    dstate: Sequence[ArrayLike | None] | None = None,
    dstates: Sequence[Floats | None] = (None, None),
) -> tuple[Any, ...]:  # six or more: mypy cannot unpack a typed open tuple into names
    """Compute the gradients of a loss of y and the final state. The tape does not change.

    Parameters
    ----------
    tape : Tape
    dy : (T, B, H) array or None
        Gradient of the loss with respect to y. None is zeros.
    dstate : tuple of (B, H) arrays or None
        The same for the final state. None is zeros, also in the tuple.
    dstates : for each state a (T, B, H) array or None
        An output: the full gradient of the state after each step. Steps beyond a row's end do not
        change.

    Returns
    -------
    dx : (T, B, I) array, None where x was integers
    dstate : tuple of (B, H) arrays
        With respect to the initial state.
    dw_ih, dw_hh : (G*H, I) and (G*H, H) arrays
    db_ih, db_hh : (G*H,) arrays, or None for a bias that was None
    *dparams : of W_hr, if there is one, and of a variant's extra parameters

    Examples
    --------
    The loss is the sum of all y, which are 1, 2 and 3 here:

    >>> import numpy as np
    >>> from fastrnn import reference
    >>> x, w_ih, w_hh = np.ones((3, 1, 1)), np.eye(1), np.eye(1)
    >>> y, state, tape = reference.forward("rnn_relu", x, None, w_ih, w_hh)
    >>> dx, dstate, dw_ih, dw_hh, db_ih, db_hh = reference.backward(tape, np.ones_like(y))
    >>> dx[:, 0, 0]
    array([3., 2., 1.])
    """
    cell, (T, B, *_), dtype = tape.cell, tape.x.shape, tape.w_hh.dtype
    H, P = len(tape.w_ih) // cell.gates, tape.w_hh.shape[1]
    dstate = _own_state(dstate, B, (P, H)[: cell.states], dtype)
    dy = None if dy is None else _same(dy, dtype)
    with np.errstate(all="ignore"):
        steps, dstate = _backward_through_time(tape, dy, dstate, dstates)
        da, du = (d.reshape(T * B, len(tape.w_ih)) for d in (steps.da, steps.du))
        dx, dw_ih = _input_gradients(tape, da)
        dw_hh, dw_hr = _recurrent_gradients(tape, du, steps.dh)
        dw_hh = dw_hh if cell.phases else None
        du = du[:, : cell.recurrent * H] if cell.phases else du
        db_ih, db_hh = (
            _sum_over_rows(d) if b else None for d, b in zip((da, du), tape.biases, strict=True)
        )
        dp = {k: _sum_over_rows(d.reshape(T * B, d.shape[2])) for k, d in steps.dp.items()}  # (S9)
    db_ih, db_hh = dp.pop("bias_ih", db_ih), dp.pop("bias_hh", db_hh)
    dparams = *dw_hr, *(dp.get(kind) for kind, _ in cell.extras or ())
    return dx, dstate, dw_ih, dw_hh, db_ih, db_hh, *dparams
