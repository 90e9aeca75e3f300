"""The cells: a step of each cell and its derivative, equations (R1) to (M13).

fastrnn/reference/__init__.py defines the symbols and names the sources.
It must not know: time, sequences, variants.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import checks

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from numpy.typing import NDArray

    CellName: TypeAlias = Literal[
        "rnn_tanh", "rnn_relu", "lstm", "gru_after", "gru_before", "min_gru", "min_lstm"
    ]
    Floats: TypeAlias = NDArray[np.floating[Any]]  # of float32 or float64
    State: TypeAlias = tuple[Floats, ...]  # h, or h and c


def sigmoid(p: Floats) -> Floats:
    """1 / (1 + exp(-p)) without positive exponents, so nothing overflows or loses digits.

    Parameters
    ----------
    p : array

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> reference.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    with np.errstate(under="ignore"):  # a tiny power is rounded, to 0 at last
        return np.exp(np.minimum(p, 0)) / (1 + np.exp(-np.abs(p)))


def by_gate(p: Floats, gates: int) -> Floats:
    """View (..., B, G*H) as (..., G, B, H), so that ``i, f, g, o = p`` reads the gates.

    Parameters
    ----------
    p : (..., B, G*H) array
        A product such as ``h @ w_hh.T``.
    gates : int
        G.

    Raises
    ------
    ValueError
        If p has no such shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> z, n = reference.by_gate(np.array([[1, 2, 3, 4]]), 2)
    >>> z, n
    (array([[1, 2]]), array([[3, 4]]))
    """
    if p.ndim < 2 or gates < 1 or p.shape[-1] % gates:
        raise ValueError(f"p must be (..., B, G*H) with G = {gates}, got {p.shape}")
    *lead, rows, width = p.shape
    return p.reshape(*lead, rows, gates, width // gates).swapaxes(-3, -2)


def by_row(p: Floats) -> Floats:
    """View (G, B, H) as (B, G*H): the inverse of `by_gate`, ready for a matrix product.

    Parameters
    ----------
    p : (G, B, H) array
        The gates' gradients, as in ``by_row(du) @ w_hh``, which is W_hh^T du.

    Raises
    ------
    ValueError
        If p has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> reference.by_row(np.array([[[1, 2]], [[3, 4]]]))
    array([[1, 2, 3, 4]])
    """
    if p.ndim != 3:
        raise ValueError(f"p must be (G, B, H), got {p.shape}")
    gates, rows, units = p.shape
    return p.swapaxes(0, 1).reshape(rows, gates * units)


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
    """(R2) with phi' = 0 where h_t <= 0, else 1, by choosing: 0 times inf would be NaN;  (R3)."""
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
    p = a + by_gate(h_prev @ w.T + b, 4)
    i, f = sigmoid(p[:2])
    g = np.tanh(p[2])
    o = sigmoid(p[3])
    c = f * c_prev + i * g
    tanh_c = np.tanh(c)
    return (o * tanh_c, c), (h_prev,), (i, f, g, o, c_prev, tanh_c)


def _lstm_derivative(dstate, saved, w, da, du):
    """First dc_t adds the gradient through h_t, then the gates' gradients follow; du = da.

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
    return by_row(du) @ w, dc * f


def _gru_after_step(a, state, w, b):
    """The reset acts after the product: on u_n, which includes its bias.

    (G1) r = sigmoid(a_r + u_r)    (G2) z = sigmoid(a_z + u_z)
    (G3) n = tanh(a_n + r u_n)
    (G4) h_t = (1 - z) n + z h_{t-1}
    """
    (h_prev,) = state
    u = by_gate(h_prev @ w.T + b, 3)
    r, z = sigmoid(a[:2] + u[:2])
    n = np.tanh(a[2] + r * u[2])
    return ((1 - z) * n + z * h_prev,), (h_prev,), (r, z, n, h_prev, u[2])


def _gru_before_step(a, state, w, b):
    """The reset acts before the product: (G1), (G2), (G4), and in a second phase, after r,

    (G3') n = tanh(a_n + u_n),    u_n = W_hn (r h_{t-1}) + b_hn
    """
    (h_prev,) = state
    k = 2 * h_prev.shape[1]
    r, z = sigmoid(a[:2] + by_gate(h_prev @ w[:k].T + b[:k], 2))
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
    return (dh * z + by_row(du) @ w,)


def _gru_before_derivative(dstate, saved, w, da, du):
    """The reset gate scales the operand of W_hn, so it scales the gradient by W_hn^T; du = da.

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
    return (dh * z + dv * r + by_row(du[:2]) @ w[:k],)


def _min_gru_step(a, state, w, b):
    """Gates depend on x alone, there is no tanh, and z is the factor of h~, not of h_{t-1}:

    (M1) z = sigmoid(a_z)    (M2) h~ = a_h
    (M3) h_t = (1 - z) h_{t-1} + z h~
    """
    (h_prev,) = state
    z, new = sigmoid(a[0]), a[1]
    return ((1 - z) * h_prev + z * new,), (), (z, new, h_prev)


def _min_gru_derivative(dstate, saved, w, da, du):
    """(M4) da_z = dh_t (h~ - h_{t-1}) z (1 - z)    (M5) da_h = dh_t z

    (M6) dh_{t-1} = dh_t (1 - z)
    """
    (dh,) = dstate
    z, new, h_prev = saved
    da[0] = dh * (new - h_prev) * z * (1 - z)
    da[1] = dh * z
    return (dh * (1 - z),)


def _log_sigmoid(p):
    return np.minimum(p, 0) - np.log1p(np.exp(-np.abs(p)))


def _min_lstm_step(a, state, w, b):
    """Gates depend on x alone and are divided by their sum; there is no c:

    (M7) f' = f / (f + i) = sigmoid(log f - log i),  i' = i / (f + i) = sigmoid(log i - log f),
         f, i = sigmoid(a_f), sigmoid(a_i)
    (M8) h~ = a_h
    (M9) h_t = f' h_{t-1} + i' h~
    """
    (h_prev,) = state
    log_ratio = _log_sigmoid(a[0]) - _log_sigmoid(a[1])
    f, i = sigmoid(log_ratio), sigmoid(-log_ratio)
    return (f * h_prev + i * a[2],), (), (f, i, a[2], h_prev, a[0], a[1])


def _min_lstm_derivative(dstate, saved, w, da, du):
    """With ds = dh_t (h_{t-1} - h~) f' i':

    (M10) da_f = ds (1 - f)     (M11) da_i = -ds (1 - i)
    (M12) da_h = dh_t i'        (M13) dh_{t-1} = dh_t f'
    """
    (dh,) = dstate
    f, i, new, h_prev, a_f, a_i = saved
    ds = dh * (h_prev - new) * f * i
    da[0] = ds * sigmoid(-a_f)
    da[1] = -ds * sigmoid(-a_i)
    da[2] = dh * i
    return (dh * f,)


def no_gates(saved):
    """`gates_of` for a cell without gates."""
    return {}, None


@dataclass(frozen=True)
class Cell:
    """A cell: its step, the derivative of the step, and the operands of (S2).

    `forward`, `infer`, `backward` and `step` run a cell of your own as they run those of `CELLS`.
    `weights` draws its weights, and `check` names the derivative that is wrong.

    Attributes
    ----------
    gates : int
        G.
    states : int
        1 for h, 2 for h and c.
    step : function
        ``step(a, state, w_hh, b_hh) -> state, operands, saved``. a is the input side (G, B, H), so
        a[k] is that of gate k. state is a tuple of (B, H) arrays, before and after. operands are
        the v_t of (S2), a (B, H) array for each of `phases`. saved is any object that the
        derivative needs. b_hh is zeros if there is no bias.
    derivative : function
        ``derivative(dstate, saved, w_hh, da, du) -> dstate``: from the gradient of the state after
        the step to that of the state before. It fills in da and du (G, B, H), the gradients of a
        and u: it assigns to da[0], da[1] and so on.
    phases : tuple of pairs
        Gates [first, last) that have the same operand v_t, from gate 0 on; () for a cell without
        products with h. Gates behind the last phase read x alone: w_hh and b_hh have no rows for
        them.
    added : bool
        True if the step reads only the sum a + u. Then da and du are one array.
    extras : tuple of (str, int), or None
        A variant's extra parameters, as pairs of a kind and a size in units of H. Then step and
        derivative take two more arguments: the parameters and the dropout masks of that time. The
        derivative takes a third one: the (B, n) arrays of dp_t to fill in.
    biased : bool
        True if (S1) and (S2) add the biases. If not, the step takes them as parameters.
    projects : bool
        True if the cell has (P1). Then W_hr comes after the biases.
    reaches_c : function or None
        ``reaches_c(dstate, saved) -> dc``: the full gradient of c_t, including that through h_t.
    gates_of : function
        ``gates_of(saved) -> gates, c``: the gates by name, and the c before the step or None.
    names : tuple of str, or None
        The gates' names for the report of `check`: with ("f", "n") it says da_f and da_n.

    Raises
    ------
    ValueError, TypeError
        For sizes, phases and names that do not fit together.

    Examples
    --------
    A cell of your own with two gates, of which n reads x alone: f = sigmoid(a_f + u_f),
    n = tanh(a_n), h_t = f h_{t-1} + (1 - f) n.

    >>> import numpy as np
    >>> from fastrnn import reference
    >>> from fastrnn.reference import by_gate, by_row, sigmoid
    >>> def step(a, state, w, b):
    ...     (h,) = state
    ...     (u_f,) = by_gate(h @ w.T + b, 1)
    ...     f, n = sigmoid(a[0] + u_f), np.tanh(a[1])
    ...     return (f * h + (1 - f) * n,), (h,), (f, n, h)
    >>> def derivative(dstate, saved, w, da, du):
    ...     (dh,), (f, n, h) = dstate, saved
    ...     da[0] = dh * (h - n) * f * (1 - f)
    ...     da[1] = dh * (1 - f) * (1 - n * n)
    ...     return (dh * f + by_row(du[:1]) @ w,)
    >>> cell = reference.Cell(2, 1, step, derivative, phases=((0, 1),), names=("f", "n"))
    >>> reference.check(cell).ok
    True

    Forward and backward through time:

    >>> weights = reference.weights(cell, inputs=3, hidden=4, rng=0)
    >>> y, state, tape = reference.forward(cell, np.ones((5, 2, 3)), None, *weights)
    >>> dx, dstate, *gradients = reference.backward(tape, np.ones_like(y))
    >>> [g.shape for g in gradients]
    [(8, 3), (4, 4), (8,), (4,)]
    """

    gates: int
    states: int
    step: Callable[..., tuple[State, tuple[Floats, ...], Any]]
    derivative: Callable[..., State]
    phases: tuple[tuple[int, int], ...]
    added: bool = True
    extras: tuple[tuple[str, int], ...] | None = None
    biased: bool = True
    projects: bool = False
    reaches_c: Callable[..., Floats] | None = None
    gates_of: Callable[[Any], tuple[dict[str, Floats], Floats | None]] = no_gates
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        checks.positive("gates", self.gates)
        if checks.positive("states", self.states) > 2:
            raise ValueError(f"states must be 1 for h or 2 for h and c, got {self.states}")
        for name in ("step", "derivative"):
            if not callable(getattr(self, name)):
                got = type(getattr(self, name)).__name__
                raise TypeError(f"{name} must be a function, got {got}")
        self._check_phases()
        names = self.names
        if names is None:
            return
        if not isinstance(names, tuple | list | str) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"names must be a tuple of str, one for each gate, got {names!r}")
        if not len(set(names)) == len(names) == self.gates:
            raise ValueError(f"names must be a name for each of {self.gates} gates, got {names}")

    def _check_phases(self) -> None:
        wanted = (
            "phases must be pairs (first, last) of gates that follow one another from 0 to at "
            f"most {self.gates}, as in ((0, {self.gates}),), got {self.phases}"
        )
        try:
            pairs = tuple((operator.index(i), operator.index(j)) for i, j in self.phases)
        except (TypeError, ValueError):
            # ((0, 3)) is (0, 3): one pair, and not a tuple with one pair.
            raise TypeError(f"{wanted}: a tuple of one pair ends with a comma") from None
        begins = [0, *(last for _, last in pairs)]
        follow = zip(begins, pairs, strict=False)
        if not all(begin == first < last for begin, (first, last) in follow):
            raise ValueError(wanted)
        if begins[-1] > self.gates:
            raise ValueError(wanted)
        object.__setattr__(self, "phases", pairs)  # of lists and arrays too

    @property
    def recurrent(self) -> int:
        """The number of gates that have a product with h."""
        return self.phases[-1][1] if self.phases else 0


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


def _min_gru_gates(saved):
    return dict(zip("zn", saved, strict=False)), None


def _min_lstm_gates(saved):
    return dict(zip("fin", saved, strict=False)), None


CELLS: dict[CellName, Cell] = {
    "rnn_tanh": Cell(1, 1, _rnn_tanh_step, _rnn_tanh_derivative, ((0, 1),)),
    "rnn_relu": Cell(1, 1, _rnn_relu_step, _rnn_relu_derivative, ((0, 1),)),
    "lstm": Cell(
        4, 2, _lstm_step, _lstm_derivative, ((0, 4),), gates_of=_lstm_gates,
        reaches_c=_lstm_reaches_c, names=("i", "f", "g", "o"),
    ),
    "gru_after": Cell(
        3, 1, _gru_after_step, _gru_after_derivative, ((0, 3),), added=False, gates_of=_gru_gates,
        names=("r", "z", "n"),
    ),
    "gru_before": Cell(
        3, 1, _gru_before_step, _gru_before_derivative, ((0, 2), (2, 3)), gates_of=_gru_gates,
        names=("r", "z", "n"),
    ),
    "min_gru": Cell(
        2, 1, _min_gru_step, _min_gru_derivative, (), gates_of=_min_gru_gates, names=("z", "h")
    ),
    "min_lstm": Cell(
        3, 1, _min_lstm_step, _min_lstm_derivative, (), gates_of=_min_lstm_gates,
        names=("f", "i", "h"),
    ),
}  # fmt: skip


def cell_of(cell: Cell | CellName) -> Cell:
    """The cell of this name, or a Cell as it is; ValueError or TypeError for anything else."""
    if isinstance(cell, str):
        return CELLS[checks.choice("cell", cell, tuple(CELLS))]
    if not isinstance(cell, Cell):
        raise TypeError(f"cell must be a Cell or the name of one, got {type(cell).__name__}")
    return cell


def weight_shapes(cell, inputs, hidden, features):
    """Name -> shape of each weight that a cell has, in the order in which `forward` takes them.

    features : those of h, which are fewer than `hidden` with a projection
    """
    rows, recurrent = cell.gates * hidden, cell.recurrent * hidden
    shapes = {"w_ih": (rows, inputs), "w_hh": (recurrent, features)}
    shapes |= {"b_ih": (rows,), "b_hh": (recurrent,)}
    if not recurrent:
        del shapes["w_hh"], shapes["b_hh"]
    if cell.projects:
        shapes["w_hr"] = (features, hidden)
    return shapes | {kind: (units * hidden,) for kind, units in cell.extras or ()}
