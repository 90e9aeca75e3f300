"""The recurrent networks in plain NumPy: forward, and backward through time.

The textbook of the package: the C kernels compute these equations and cite them by number, the
tests hold those kernels to this file, and this file to finite differences.

T time steps, B rows (sequences side by side), I inputs, H hidden units, G gates. ``dh`` is dL/dh,
the gradient of the loss. Products without a matrix are elementwise. A cell has two affine maps,

    (S1)  a_t = W_ih x_t + b_ih             input side, for all t in one matrix product
    (S2)  u_t = W_hh v_t + b_hh             recurrent side, v_t = h_{t-1} (but see (G3'))

and is a step ``(a_t, W_hh, state_{t-1}) -> state_t`` with its derivative. Backpropagation through
time [Werbos 1990] takes the steps in the opposite order; (S4) to (S6) wait for the end, and are one
product each over all T*B rows:

    (S3)  dh_t := dy_t + what the following step gives back
    (S4)  dx_t = W_ih^T da_t
    (S5)  dW_ih = sum_t da_t x_t^T          db_ih = sum_t da_t
    (S6)  dW_hh = sum_t du_t v_t^T          db_hh = sum_t du_t

Where x_t is all zeros but for a one at feature k_t, the products with it are columns of W_ih: x may
be the integers k_t, and dx_t is not computed.

    (S1') a_t = W_ih[:, k_t] + b_ih
    (S5') dW_ih[:, k] = sum over all t with k_t = k of da_t

    rnn_tanh, rnn_relu    Elman, Finding structure in time, 1990
    lstm                  Hochreiter and Schmidhuber, Long short-term memory, 1997; the forget
                          gate: Gers, Schmidhuber and Cummins, Learning to forget, 2000
    gru_before            Cho et al., Learning phrase representations using RNN encoder-decoder,
                          2014: the reset gate acts on h, before the product with W_hn
    gru_after             as in cuDNN and PyTorch: the reset gate acts on that product
    [Sak 2014]            Sak, Senior and Beaufays, Long short-term memory recurrent neural network
                          architectures for large scale acoustic modeling
    [Werbos 1990]         Backpropagation through time: what it does and how to do it

Conventions are PyTorch's. Gates are stacked along the rows of ``w_ih`` (G*H, I), ``w_hh`` (G*H, H),
``b_ih`` and ``b_hh`` (G*H,): i f g o in the LSTM, r z n in the GRU. x is (T, B, I), y (T, B, H), an
array of the state (B, H). A bias of None is no bias, a state of None is zeros. With reverse, time
runs from the last step to the first: y stays in the order of x, and the final state is the one
after t = 0. Sizes may be 0.

Sequences of a batch may end, pause and begin anew. For a row b, with m_t = 1 where t < lengths[b]
and mask[t, b], else 0, and r_t = reset[t, b] of the steps before its end,

    (S7)  state_{t-1} := (1 - r_t) state_{t-1} + r_t s    s = 0, or the state the call began with
    (S8)  state_t = m_t step(a_t, W_hh, state_{t-1}) + (1 - m_t) state_{t-1}

chosen, not multiplied. y_t is h_t, beyond the row's end 0.

A projection makes h of what the LSTM does (L6), with fewer features than that has units [Sak 2014]:

    (P1)  h_t := W_hr h_t
    (P2)  dW_hr = sum_t dh_t h_t^T  (h_t as in (L6));    dh_t := W_hr^T dh_t

A variant of a cell (variants.py: peepholes, layer normalisation and the like) is a row like those
here. Its parameters p besides these four are read by its step, and

    (S9)  dp = sum_t dp_t                   dp_t row by row from its derivative

All arrays have the dtype of ``w_ih``, float32 or float64; any other meets NumPy's TypeError. Sums
over many rows, (S5), (S6), (S9) and (P2), run in float64: float32 would lose a digit for every
tenfold of rows.
Infinities and NaN take their IEEE course without a warning. Masked arrays are refused. Nothing else
is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastrnn.checks import plain
from fastrnn.reference.variant_arguments import VariantArguments

__all__ = ["CELLS", "Tape", "backward", "forward", "gru", "infer", "lstm", "rnn"]


def _sigmoid(p):
    """1 / (1 + exp(-p)) with no positive exponent: it cannot overflow, small values keep digits."""
    return np.exp(np.minimum(p, 0)) / (1 + np.exp(-np.abs(p)))


def _by_gate(p, gates):
    """View (..., B, G*H) as (..., G, B, H), so that ``i, f, g, o = p`` reads the gates."""
    *lead, rows, width = p.shape
    return p.reshape(*lead, rows, gates, width // gates).swapaxes(-3, -2)


def _by_row(p):
    """View (G, B, H) as (B, G*H): the inverse of `_by_gate`, ready for a matrix product."""
    gates, rows, units = p.shape
    return p.swapaxes(0, 1).reshape(rows, gates * units)


# A step takes the input side a (G, B, H), the state before, a tuple of (B, H), and w_hh, b_hh. It
# returns the state after, the operands v_t of (S2), one (B, H) per phase of the cell, and whatever
# its derivative wants saved. The derivative takes dstate of the state after, saved, w_hh, and da
# and du (G, B, H) to fill in, one array for both where the cell reads only the sum a + u. It
# returns dstate of the state before. Those of a variant take two arguments more, its parameters and
# what was drawn for that time, and the derivative a third, the (B, n) arrays of dp_t to fill in.


def _rnn_tanh_step(a, state, w, b):
    """(R1) h_t = phi(a + u), phi = tanh."""
    (h_prev,) = state
    h = np.tanh(a[0] + (h_prev @ w.T + b))
    return (h,), (h_prev,), h


def _rnn_tanh_derivative(dstate, h, w, da, du):
    """(R2) da = dh_t phi'(a + u), phi' = 1 - h_t^2;    (R3) dh_{t-1} = W_hh^T du, where du = da."""
    (dh,) = dstate
    da[0] = dh * (1 - h * h)
    return (du[0] @ w,)


def _rnn_relu_step(a, state, w, b):
    """(R1) with phi(p) = max(p, 0), NaN for NaN."""
    (h_prev,) = state
    h = np.maximum(a[0] + (h_prev @ w.T + b), 0)
    return (h,), (h_prev,), h


def _rnn_relu_derivative(dstate, h, w, da, du):
    """(R2) with phi' = 0 where h_t <= 0, else 1, chosen, not multiplied: 0 inf is NaN;  (R3)."""
    (dh,) = dstate
    da[0] = np.where(h <= 0, 0, dh)
    return (du[0] @ w,)


def _lstm_step(a, state, w, b):
    """With p = a + u:

    (L1) i = sigmoid(p_i)    (L2) f = sigmoid(p_f)    (L3) g = tanh(p_g)    (L4) o = sigmoid(p_o)
    (L5) c_t = f c_{t-1} + i g
    (L6) h_t = o tanh(c_t)
    """
    h_prev, c_prev = state
    p = a + _by_gate(h_prev @ w.T + b, 4)
    i, f = _sigmoid(p[:2])
    g = np.tanh(p[2])
    o = _sigmoid(p[3])
    c = f * c_prev + i * g
    tanh_c = np.tanh(c)
    return (o * tanh_c, c), (h_prev,), (i, f, g, o, c_prev, tanh_c)


def _lstm_derivative(dstate, saved, w, da, du):
    """First c_t gathers what reaches it through h_t, then the gates; du = da.

    (L7)  dc_t := dc_t + dh_t o (1 - tanh(c_t)^2)
    (L8)  da_i = dc_t g i (1 - i)                (L9)  da_f = dc_t c_{t-1} f (1 - f)
    (L10) da_g = dc_t i (1 - g^2)                (L11) da_o = dh_t tanh(c_t) o (1 - o)
    (L12) dc_{t-1} = dc_t f                      (L13) dh_{t-1} = W_hh^T du
    """
    dh, dc = dstate
    i, f, g, o, c_prev, tanh_c = saved
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    da[0] = dc * g * i * (1 - i)
    da[1] = dc * c_prev * f * (1 - f)
    da[2] = dc * i * (1 - g * g)
    da[3] = dh * tanh_c * o * (1 - o)
    return _by_row(du) @ w, dc * f


def _gru_after_step(a, state, w, b):
    """Reset after the product, which u_n keeps until then, its bias included:

    (G1) r = sigmoid(a_r + u_r)    (G2) z = sigmoid(a_z + u_z)
    (G3) n = tanh(a_n + r u_n)
    (G4) h_t = (1 - z) n + z h_{t-1}
    """
    (h_prev,) = state
    u = _by_gate(h_prev @ w.T + b, 3)
    r, z = _sigmoid(a[:2] + u[:2])
    n = np.tanh(a[2] + r * u[2])
    return ((1 - z) * n + z * h_prev,), (h_prev,), (r, z, n, h_prev, u[2])


def _gru_before_step(a, state, w, b):
    """Reset before the product: (G1), (G2), (G4), and in two phases, as n waits for r,

    (G3') n = tanh(a_n + u_n),    u_n = W_hn (r h_{t-1}) + b_hn
    """
    (h_prev,) = state
    k = 2 * h_prev.shape[1]
    r, z = _sigmoid(a[:2] + _by_gate(h_prev @ w[:k].T + b[:k], 2))
    reset = r * h_prev
    n = np.tanh(a[2] + (reset @ w[k:].T + b[k:]))
    return ((1 - z) * n + z * h_prev,), (h_prev, reset), (r, z, n, h_prev)


def _gru_after_derivative(dstate, saved, w, da, du):
    """The reset gate scales u_n, so it scales the gradient of u_n:

    (G5) da_z = dh_t (h_{t-1} - n) z (1 - z)     (G6) da_n = dh_t (1 - z) (1 - n^2)
    (G7) da_r = da_n u_n r (1 - r)               (G8) du = (da_r, da_z, r da_n)
    (G9) dh_{t-1} = dh_t z + W_hh^T du
    """
    (dh,) = dstate
    r, z, n, h_prev, u_n = saved
    da[1] = dh * (h_prev - n) * z * (1 - z)
    da[2] = dh * (1 - z) * (1 - n * n)
    da[0] = da[2] * u_n * r * (1 - r)
    du[:2] = da[:2]
    du[2] = da[2] * r
    return (dh * z + _by_row(du) @ w,)


def _gru_before_derivative(dstate, saved, w, da, du):
    """The reset gate scales what W_hn reads, so it scales what W_hn^T gives back; du = da.

    (G5), (G6)
    (G7') dv = W_hn^T du_n                       (G8') da_r = dv h_{t-1} r (1 - r)
    (G9') dh_{t-1} = dh_t z + dv r + (W_hr, W_hz)^T (du_r, du_z)
    """
    (dh,) = dstate
    r, z, n, h_prev = saved
    k = 2 * h_prev.shape[1]
    da[1] = dh * (h_prev - n) * z * (1 - z)
    da[2] = dh * (1 - z) * (1 - n * n)
    dv = du[2] @ w[k:]
    da[0] = dv * h_prev * r * (1 - r)
    return (dh * z + dv * r + _by_row(du[:2]) @ w[:k],)


def no_gates(saved):
    """Of a cell that has none."""
    return {}, None


@dataclass(frozen=True)
class Cell:
    """A row of the table: the functions of a cell, and how (S2) is fed."""

    gates: int  # G
    states: int  # h, or h and c
    step: Callable
    derivative: Callable
    phases: tuple[tuple[int, int], ...]  # gates [first, last) that share one operand v_t
    added: bool = True  # the cell reads a + u only, so du = da
    # Of a variant the further parameters, as their kinds and sizes in units of H.
    further: tuple[tuple[str, int], ...] | None = None
    biased: bool = True  # (S1) and (S2) add the biases; if not, the step does, as of parameters
    projects: bool = False  # (P1): W_hr comes after the biases
    # All that reaches c_t, through h_t of the same step too, from dstate; None without a c.
    reaches_c: Callable | None = None
    # Of what a step saved the gates by name, and the c before the step if there is one.
    gates_of: Callable = no_gates


def _lstm_reaches_c(dstate, saved, *_):
    """(L7)."""
    dh, dc = dstate
    _, _, _, o, _, tanh_c = saved
    return dc + dh * o * (1 - tanh_c * tanh_c)


def _lstm_gates(saved):
    i, f, g, o, c_prev, _ = saved
    return {"i": i, "f": f, "g": g, "o": o, "c": f * c_prev + i * g}, c_prev


def _gru_gates(saved):
    return dict(zip("rzn", saved, strict=False)), None


CELLS = {
    "rnn_tanh": Cell(1, 1, _rnn_tanh_step, _rnn_tanh_derivative, ((0, 1),)),
    "rnn_relu": Cell(1, 1, _rnn_relu_step, _rnn_relu_derivative, ((0, 1),)),
    "lstm": Cell(
        4,
        2,
        _lstm_step,
        _lstm_derivative,
        ((0, 4),),
        gates_of=_lstm_gates,
        reaches_c=_lstm_reaches_c,
    ),
    "gru_after": Cell(
        3, 1, _gru_after_step, _gru_after_derivative, ((0, 3),), added=False, gates_of=_gru_gates
    ),
    "gru_before": Cell(
        3, 1, _gru_before_step, _gru_before_derivative, ((0, 2), (2, 3)), gates_of=_gru_gates
    ),
}


@dataclass(frozen=True)
class _Rows:
    """m_t, r_t and whether t is before a row's end, each (T, B, 1); None where all are alike."""

    works: np.ndarray | None
    resets: np.ndarray | None
    within: np.ndarray | None
    to_initial: bool


def _rows(steps, lengths, mask, reset, reset_to):
    lengths, mask, reset = (
        None if a is None else plain(name, a)
        for name, a in (("lengths", lengths), ("mask", mask), ("reset", reset))
    )
    within = None if lengths is None else np.arange(steps)[:, None] < lengths
    parts = [part for part in (within, mask) if part is not None]
    works = np.logical_and.reduce(parts) if parts else None
    resets = reset if within is None or reset is None else reset & within
    columns = (None if a is None else a[..., None] for a in (works, resets, within))
    return _Rows(*columns, reset_to == "initial")


def _chosen(where, arrays, others):
    """Of each pair of arrays the first one's elements where that is so, else the other's."""
    return tuple(np.where(where, a, b) for a, b in zip(arrays, others, strict=True))


def _sums(arrays, others):
    return tuple(a + b for a, b in zip(arrays, others, strict=True))


@dataclass(frozen=True)
class Tape:
    """What `backward` needs of a `forward`. Of x and the weights it has no copy: leave them be."""

    cell: Cell
    x: np.ndarray  # (T, B, I), or (T, B) integers
    w_ih: np.ndarray  # (G*H, I)
    w_hh: np.ndarray  # (G*H, H)
    biases: tuple[bool, bool]  # whether b_ih, b_hh were given
    reverse: bool
    rows: _Rows
    operands: tuple[np.ndarray, ...]  # v_t of (S2): one (T, B, H) per phase
    saved: list  # T entries, each what the step at that time saved
    further: VariantArguments | None
    w_hr: np.ndarray | None = None  # (P, H); then h has P features
    made: np.ndarray | None = None  # (T, B, H): what was projected


def _same(array, dtype):
    """An array of that dtype, as it is: NumPy raises TypeError rather than cast."""
    return plain("an array", array).astype(dtype, casting="equiv", copy=False)


def _own_state(arrays, batch, sizes, dtype):
    """A copy of a state's arrays (B, size), with zeros for each None."""
    arrays = (None,) * len(sizes) if arrays is None else arrays
    return tuple(
        np.zeros((batch, size), dtype) if a is None else _same(a, dtype).copy()
        for a, size in zip(arrays, sizes, strict=True)
    )


def _further(cell, b_ih, b_hh, params, noise, dtype):
    """None for what is no variant."""
    if cell.further is None:
        return None
    named = {} if cell.biased else {"bias_ih": b_ih, "bias_hh": b_hh}
    named |= dict(zip((kind for kind, _ in cell.further), params, strict=True))
    return VariantArguments(
        {k: None if p is None else _same(p, dtype) for k, p in named.items()}, noise
    )


def _unroll(cell, x, state, weights, noise, reverse, rows, record):
    """The loop over time -> y, state, and the tape if it is to be recorded, else None."""
    cell = CELLS[cell] if isinstance(cell, str) else cell
    w_ih, w_hh, b_ih, b_hh, *params = weights
    w_ih = plain("w_ih", w_ih)
    dtype = w_ih.dtype
    w_hr = _same(params.pop(0), dtype) if cell.projects else None
    further = _further(cell, b_ih, b_hh, params, noise, dtype)
    if not cell.biased:
        b_ih = b_hh = None
    x, w_hh = plain("x", x), _same(w_hh, dtype)
    x = x if x.dtype.kind in "iu" else _same(x, dtype)
    (T, B, *inputs), H, P = x.shape, len(w_hh) // cell.gates, w_hh.shape[1]
    state = _own_state(state, B, (P, H)[: cell.states], dtype)
    rows = _rows(T, *rows)
    begin = state if rows.to_initial else tuple(np.zeros_like(s) for s in state)
    if rows.works is not None:
        works = rows.works if inputs else rows.works[..., 0]
        x = np.where(works, x, 0)  # what stands in the gaps, NaN perhaps, is not looked at
    b = np.zeros(cell.gates * H, dtype) if b_hh is None else _same(b_hh, dtype)
    y = np.empty((T, B, P), dtype)
    operands = tuple(np.empty((T, B, P), dtype) for _ in cell.phases) if record else ()
    made = np.empty((T, B, H), dtype) if record and cell.projects else None
    saved = [None] * T if record else []
    with np.errstate(all="ignore"):
        x_rows = x.reshape(T * B, *inputs)
        a = x_rows @ w_ih.T if inputs else w_ih.T[x_rows]  # (S1), (S1')
        if b_ih is not None:
            a += _same(b_ih, dtype)
        a = _by_gate(a.reshape(T, B, cell.gates * H), cell.gates)
        for t in range(T)[:: -1 if reverse else 1]:
            if rows.resets is not None:
                state = _chosen(rows.resets[t], begin, state)  # (S7)
            more = () if further is None else further.at(t)
            before, (state, v_t, saved_t) = state, cell.step(a[t], state, w_hh, b, *more)
            if made is not None:
                made[t] = state[0]
            if cell.projects:
                state = (state[0] @ w_hr.T, *state[1:])  # (P1)
            if rows.works is not None:
                state = _chosen(rows.works[t], state, before)  # (S8)
            y[t] = state[0] if rows.within is None else np.where(rows.within[t], state[0], 0)
            if record:
                saved[t] = saved_t
                for v, now in zip(operands, v_t, strict=True):
                    v[t] = now
    if not record:
        return y, state, None
    biases = (b_ih is not None, b_hh is not None)
    tape = Tape(
        cell, x, w_ih, w_hh, biases, reverse, rows, operands, saved, further, w_hr, made
    )  # fmt: skip
    return y, tuple(s.copy() for s in state), tape  # copies: the tape may hold the arrays


def forward(
    cell, x, state, w_ih, w_hh, b_ih=None, b_hh=None, *params,
    noise=None, reverse=False, lengths=None, mask=None, reset=None, reset_to="zero",
):  # fmt: skip
    """Run one layer in one direction and keep what its gradient needs.

    Parameters
    ----------
    cell : {"rnn_tanh", "rnn_relu", "lstm", "gru_after", "gru_before"}, or a row of variants.py
    x : (T, B, I) array, or (T, B) integers from 0 to I - 1 as in (S1')
    state : tuple of (B, H) arrays or None
        ``(h,)``, or ``(h, c)`` for the LSTM. None, whole or within, is zeros.
    w_ih, w_hh : (G*H, I) and (G*H, H) arrays
    b_ih, b_hh : (G*H,) arrays or None
    *params : a variant's further parameters, in the order of its row; W_hr (P, H) before them if
        it projects: then w_hh is (G*H, P), and h and y have P features
    noise : `fastrnn._engine.dropout_masks.DropoutMasks`, or None
        What was drawn for a variant. None is none, but of zoneout the expectation.
    reverse : bool
    lengths : (B,) array of integers or None
        Steps of each row; None is T.
    mask, reset : (T, B) arrays of booleans or None
        Where a row steps, rather than keep its state, and where its state begins anew.
    reset_to : {"zero", "initial"}

    Returns
    -------
    y : (T, B, H) array
    state : tuple of (B, H) arrays
    tape : Tape
    """
    weights, rows = (w_ih, w_hh, b_ih, b_hh, *params), (lengths, mask, reset, reset_to)
    return _unroll(cell, x, state, weights, noise, reverse, rows, record=True)


def gates(tape):
    """What the gates were: name -> (T, B, H) array, i f g o c or r z n; none for rnn.

    Zero where a row took no step; c is carried over there, and 0 beyond the row's end.
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


_FEW_ROWS = 8192  # of which a sum in float32 loses few digits


def _product_over_rows(a, b):
    """a^T b for (N, n) and (N, m), a sum over N rows."""
    if len(a) <= _FEW_ROWS:
        return a.T @ b
    return np.matmul(a.T, b, dtype=np.float64).astype(a.dtype)


def _sum_over_rows(a):
    return a.sum(0, dtype=np.float64).astype(a.dtype)


def backward(tape, dy, dstate=None, dstates=(None, None)):
    """Gradients of a loss of y and the final state. The tape is only read; it may be used again.

    Parameters
    ----------
    tape : Tape
    dy : (T, B, H) array or None
        Gradient of the loss with respect to y. None is zeros.
    dstate : tuple of (B, H) arrays or None
        The same for the final state. None, whole or within, is zeros.
    dstates : for each state a (T, B, H) array or None
        Written: all that reaches it, but for steps beyond a row's end.

    Returns
    -------
    dx : (T, B, I) array, None where x was integers
    dstate : tuple of (B, H) arrays
        With respect to the initial state.
    dw_ih, dw_hh : (G*H, I) and (G*H, H) arrays
    db_ih, db_hh : (G*H,) arrays, or None for a bias that was None
    *dparams : of a variant's further parameters, W_hr first
    """
    cell, (T, B, *inputs) = tape.cell, tape.x.shape
    H, P, dtype = len(tape.w_hh) // cell.gates, tape.w_hh.shape[1], tape.w_hh.dtype
    dstate = _own_state(dstate, B, (P, H)[: cell.states], dtype)
    dh = np.empty((T, B, P), dtype) if cell.projects else None
    dy = None if dy is None else _same(dy, dtype)
    da = np.empty((T, B, cell.gates * H), dtype)
    du = da if cell.added else np.empty_like(da)
    da_t, du_t = _by_gate(da, cell.gates), _by_gate(du, cell.gates)
    dw_hh = np.empty_like(tape.w_hh)
    dp = {} if tape.further is None else tape.further.gradients(T, B)
    rows, begin = tape.rows, tuple(np.zeros(d.shape) for d in dstate)  # a sum over time
    with np.errstate(all="ignore"):
        for t in range(T)[:: 1 if tape.reverse else -1]:
            if dy is not None:
                dy_t = dy[t] if rows.within is None else np.where(rows.within[t], dy[t], 0)
                dstate = (dstate[0] + dy_t, *dstate[1:])  # (S3)
            after, dp_t = dstate, {kind: d[t] for kind, d in dp.items()}
            shown_h, *shown_c = dstates
            if shown_h is not None:
                _show(shown_h[t], dstate[0], rows, t)
            more = () if tape.further is None else (*tape.further.at(t), dp_t)
            if cell.projects:  # (P2)
                dh[t] = dstate[0] if rows.works is None else np.where(rows.works[t], dstate[0], 0)
                dstate = (dstate[0] @ tape.w_hr, *dstate[1:])
            if cell.states == 2 and shown_c[0] is not None:
                dc = cell.reaches_c(dstate, tape.saved[t], *more)
                dc = dc if rows.works is None else np.where(rows.works[t], dc, dstate[1])
                _show(shown_c[0][t], dc, rows, t)
            dstate = cell.derivative(dstate, tape.saved[t], tape.w_hh, da_t[t], du_t[t], *more)
            if rows.works is not None:  # (S8)
                dstate = _chosen(rows.works[t], dstate, after)
                for d in (da_t[t], du_t[t], *dp_t.values()):
                    d[...] = np.where(rows.works[t], d, 0)
            if rows.resets is not None:  # (S7)
                begin = _chosen(rows.resets[t], _sums(begin, dstate), begin)
                dstate = _chosen(rows.resets[t], (0,) * len(dstate), dstate)
        if rows.to_initial:
            dstate = tuple(d.astype(dtype) for d in _sums(dstate, begin))
        da, du = da.reshape(T * B, cell.gates * H), du.reshape(T * B, cell.gates * H)
        if inputs:
            dx = (da @ tape.w_ih).reshape(tape.x.shape)  # (S4)
            dw_ih = _product_over_rows(da, tape.x.reshape(T * B, *inputs))  # (S5)
        else:
            dx, sums = None, np.zeros(tape.w_ih.shape)
            np.add.at(sums.T, tape.x.reshape(T * B), da)  # (S5')
            dw_ih = sums.astype(dtype)
        for (first, last), v in zip(cell.phases, tape.operands, strict=True):  # (S6)
            gates = slice(first * H, last * H)
            v = v if rows.works is None else np.where(rows.works, v, 0)  # NaN * 0 would be NaN
            dw_hh[gates] = _product_over_rows(du[:, gates], v.reshape(T * B, P))
        dw_hr = []
        if cell.projects:
            made = tape.made if rows.works is None else np.where(rows.works, tape.made, 0)
            dw_hr = [_product_over_rows(dh.reshape(T * B, P), made.reshape(T * B, H))]
        db_ih, db_hh = (
            _sum_over_rows(d) if b else None for d, b in zip((da, du), tape.biases, strict=True)
        )
        dp = {kind: _sum_over_rows(d.reshape(T * B, d.shape[2])) for kind, d in dp.items()}  # (S9)
    db_ih, db_hh = dp.pop("bias_ih", db_ih), dp.pop("bias_hh", db_hh)
    dparams = *dw_hr, *(dp.get(kind) for kind, _ in cell.further or ())
    return dx, dstate, dw_ih, dw_hh, db_ih, db_hh, *dparams


def infer(
    cell, x, state, w_ih, w_hh, b_ih=None, b_hh=None, *params,
    noise=None, reverse=False, lengths=None, mask=None, reset=None, reset_to="zero",
):  # fmt: skip
    """As `forward`, but nothing is kept -> y, state (a tuple)."""
    weights, rows = (w_ih, w_hh, b_ih, b_hh, *params), (lengths, mask, reset, reset_to)
    y, state, _ = _unroll(cell, x, state, weights, noise, reverse, rows, record=False)
    return y, state


def rnn(x, state, w_ih, w_hh, b_ih=None, b_hh=None, *, nonlinearity="tanh", **options):
    """Elman network, nonlinearity "tanh" or "relu": as `infer`, with state h -> y, h."""
    cell, state = "rnn_" + nonlinearity, None if state is None else (state,)
    y, (h,) = infer(cell, x, state, w_ih, w_hh, b_ih, b_hh, **options)
    return y, h


def lstm(x, state, w_ih, w_hh, b_ih=None, b_hh=None, **options):
    """LSTM: as `infer`, with state (h, c) -> y, (h, c)."""
    return infer("lstm", x, state, w_ih, w_hh, b_ih, b_hh, **options)


def gru(x, state, w_ih, w_hh, b_ih=None, b_hh=None, *, reset_after=True, **options):
    """GRU, reset gate after or before the product: as `infer`, with state h -> y, h."""
    cell, state = "gru_after" if reset_after else "gru_before", None if state is None else (state,)
    y, (h,) = infer(cell, x, state, w_ih, w_hh, b_ih, b_hh, **options)
    return y, h
