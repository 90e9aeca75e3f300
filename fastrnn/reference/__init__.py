"""The recurrent networks in plain NumPy: forward, and backward through time.

This is the textbook of the package. The C kernels compute these equations and cite them by number.
Tests compare the kernels with these functions, and these functions with finite differences.

There are T time steps, B rows (the sequences of a batch), I inputs, H hidden units and G gates.
``dh`` is dL/dh, the gradient of the loss L. Products without a matrix are elementwise. A cell has
two affine maps,

    (S1)  a_t = W_ih x_t + b_ih             input side, for all t in one matrix product
    (S2)  u_t = W_hh v_t + b_hh             recurrent side, v_t = h_{t-1} (but see (G3'))

and a step ``(a_t, W_hh, state_{t-1}) -> state_t`` with its derivative. Backpropagation through time
[Werbos 1990] takes the steps in the opposite order. After that, (S4) to (S6) are one product each,
over all T*B rows:

    (S3)  dh_t := dy_t + the dh_t that the derivative of step t+1 gives
    (S4)  dx_t = W_ih^T da_t
    (S5)  dW_ih = sum_t da_t x_t^T          db_ih = sum_t da_t
    (S6)  dW_hh = sum_t du_t v_t^T          db_hh = sum_t du_t

If x_t is all zeros except for a one at feature k_t, the products with it are columns of W_ih. Then
x may be the integers k_t, and dx_t is not computed.

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

Conventions are PyTorch's. Gates are stacked along the first axis of ``w_ih`` (G*H, I), ``w_hh``
(G*H, H), ``b_ih`` and ``b_hh`` (G*H,): i f g o in the LSTM, r z n in the GRU. x is (T, B, I), y is
(T, B, H), an array of the state is (B, H). A bias of None is no bias, a state of None is zeros.
With reverse, time runs from the last step to the first: y has the order of x, and the final state
is the one after t = 0. Sizes may be 0.

Sequences of a batch may end, pause and be reset. For a row b let m_t = 1 if t < lengths[b] and
mask[t, b], else 0, and let r_t = reset[t, b] for the steps before the row's end:

    (S7)  state_{t-1} := (1 - r_t) state_{t-1} + r_t s    s = 0, or the initial state of the call
    (S8)  state_t = m_t step(a_t, W_hh, state_{t-1}) + (1 - m_t) state_{t-1}

Both choose elements and do not multiply, so NaN does not spread. y_t is h_t, and 0 beyond the row's
end.

A projection reduces the h of the LSTM's (L6) to fewer than H features [Sak 2014]:

    (P1)  h_t := W_hr h_t
    (P2)  dW_hr = sum_t dh_t h_t^T  (h_t as in (L6));    dh_t := W_hr^T dh_t

A variant of a cell (variants.py: peepholes, layer normalisation and others) is a `Cell` too. Its
step may read extra parameters p. Its derivative gives dp_t for each row, and

    (S9)  dp = sum dp_t                     over all steps and rows

A cell of your own is a `Cell` with a step and its derivative, in NumPy. `check` compares the
derivative with finite differences and names what is wrong, `weights` draws weights, and `forward`,
`infer`, `backward` and `step` run it. `by_gate` and `by_row` lay out the gates of a product,
`sigmoid` does not overflow. The docstring of `Cell` has an example.

All arrays have the dtype of ``w_ih``, float32 or float64; NumPy raises TypeError for others. Sums
over many rows, (S5), (S6), (S9) and (P2), are computed in float64, because float32 would lose a
digit with each tenfold of rows. Infinities and NaN propagate as in IEEE arithmetic, without a
warning. Masked arrays are refused. Nothing else is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn.reference.cells import CELLS, Cell, by_gate, by_row, sigmoid
from fastrnn.reference.finite_differences import check
from fastrnn.reference.initial_weights import weights
from fastrnn.reference.report import Finding, Report
from fastrnn.reference.through_time import Tape, backward, forward, gates, infer, step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypedDict

    from numpy.typing import ArrayLike
    from typing_extensions import Unpack

    from fastrnn.reference.cells import Floats
    from fastrnn.reference.variant_arguments import DropoutMasks

    class Options(TypedDict, total=False):
        """The keywords of `infer`."""

        dropout_masks: DropoutMasks | None
        reverse: bool
        lengths: ArrayLike | None
        mask: ArrayLike | None
        reset: ArrayLike | None
        reset_to: Literal["zero", "initial"]


__all__ = [
    "CELLS",
    "Cell",
    "Finding",
    "Report",
    "Tape",
    "backward",
    "by_gate",
    "by_row",
    "check",
    "forward",
    "gates",
    "gru",
    "infer",
    "lstm",
    "rnn",
    "sigmoid",
    "step",
    "weights",
]


def rnn(
    x: ArrayLike,
    state: ArrayLike | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    **options: Unpack[Options],
) -> tuple[Floats, Floats]:
    """Elman network, nonlinearity "tanh" or "relu": like `infer`, with state h -> y, h.

    Parameters
    ----------
    x : (T, B, I) array
    state : (B, H) array or None
    w_ih, w_hh, b_ih, b_hh : as for `forward`
    nonlinearity : {"tanh", "relu"}
    **options : keywords of `infer`

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> x, w_ih, w_hh = np.ones((3, 1, 2)), np.eye(2), np.eye(2)
    >>> y, h = reference.rnn(x, None, w_ih, w_hh, nonlinearity="relu")
    >>> y[:, 0, 0], h
    (array([1., 2., 3.]), array([[3., 3.]]))
    """
    cell, state = "rnn_" + nonlinearity, None if state is None else (state,)
    y, (h,) = infer(cell, x, state, w_ih, w_hh, b_ih, b_hh, **options)
    return y, h


def lstm(
    x: ArrayLike,
    state: Sequence[ArrayLike | None] | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    **options: Unpack[Options],
) -> tuple[Floats, tuple[Floats, Floats]]:
    """LSTM: like `infer`, with state (h, c) -> y, (h, c).

    Parameters
    ----------
    x : (T, B, I) array
    state : pair of (B, H) arrays or None
    w_ih, w_hh, b_ih, b_hh : as for `forward`
    **options : keywords of `infer`

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((4 * 3, 2)), np.ones((4 * 3, 3))  # gates i f g o of 3 units
    >>> y, (h, c) = reference.lstm(np.ones((5, 1, 2)), None, w_ih, w_hh)
    >>> y.shape, bool((y[-1] == h).all())
    ((5, 1, 3), True)
    """
    return infer("lstm", x, state, w_ih, w_hh, b_ih, b_hh, **options)


def gru(
    x: ArrayLike,
    state: ArrayLike | None,
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    reset_after: bool = True,
    **options: Unpack[Options],
) -> tuple[Floats, Floats]:
    """GRU, reset gate after or before the product: like `infer`, with state h -> y, h.

    Parameters
    ----------
    x : (T, B, I) array
    state : (B, H) array or None
    w_ih, w_hh, b_ih, b_hh : as for `forward`
    reset_after : bool
    **options : keywords of `infer`

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import reference
    >>> w_ih, w_hh = np.ones((3 * 4, 2)), np.ones((3 * 4, 4))  # gates r z n of 4 units
    >>> y, h = reference.gru(np.ones((5, 1, 2)), None, w_ih, w_hh, reverse=True)
    >>> y.shape, bool((y[0] == h).all())
    ((5, 1, 4), True)
    """
    cell, state = "gru_after" if reset_after else "gru_before", None if state is None else (state,)
    y, (h,) = infer(cell, x, state, w_ih, w_hh, b_ih, b_hh, **options)
    return y, h
