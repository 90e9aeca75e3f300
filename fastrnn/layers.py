"""RNN, LSTM, GRU: the layers that users make, their signatures and docstrings.

It must not know: passes, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn._cells import options
from fastrnn._cells.registry import CELLS
from fastrnn._layer.base import Recurrent
from fastrnn._typing import Floats, GivenPair, Pair

if TYPE_CHECKING:
    from typing import Final, SupportsIndex

    from fastrnn._typing import Activation, DropoutMask, DType, Init, Merge, Nonlinearity, Seed

_PARAMETERS = """
    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        The number of layers. Each layer above the first reads the y of the one below.
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States never are.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has none. With one layer it does nothing,
        and a UserWarning says so. It may be assigned later.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    dtype : {"float32", "float64"}
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        weight_ih_l0 (G*H, I), weight_hh_l0 (G*H, H), bias_ih_l0 and bias_hh_l0 (G*H,), then _l1
        and so on, with _reverse for the second direction: PyTorch's names and shapes. Each is a
        view into flat; params[name] = values copies into it. Some options add parameters, such as
        weight_ln_ih_l0.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        These may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.
"""


class RNN(Recurrent[Floats, Floats]):
    __doc__ = f"""Elman network [1]_: h_t = phi(W_ih x_t + b_ih + W_hh h_{{t-1}} + b_hh).

    nonlinearity : phi, "tanh" or "relu".
    {_PARAMETERS}{options.DOCUMENTS}{options.DOCUMENTS_END}

    References
    ----------
    .. [1] Elman, Finding structure in time, 1990. Equations: `fastrnn.reference`, (R1).
    """

    def __init__(
        self, input_size: SupportsIndex, hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1, *, nonlinearity: Nonlinearity = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, dropout_mask: DropoutMask = "step",
        bidirectional: bool = False, merge: Merge = "concat", dtype: DType = "float32",
        rng: Seed = None, clip: float | None = None, recurrent_dropout: float = 0.0,
        zoneout: float = 0.0, init: Init = "pytorch",
    ) -> None:  # fmt: skip
        self.nonlinearity: Final[Nonlinearity] = checks.choice(
            "nonlinearity", nonlinearity, ("tanh", "relu")
        )
        super().__init__(
            CELLS["rnn_" + nonlinearity], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, dtype=dtype, rng=rng, clip=clip,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, init=init,
        )  # fmt: skip

    def _options(self):
        return [f'nonlinearity="{self.nonlinearity}"']


class LSTM(Recurrent[Pair, GivenPair]):
    __doc__ = f"""LSTM [1]_ with a forget gate [2]_; gates i f g o, state (h, c).

    proj_size : P, less than hidden_size; 0 is no projection. The cell's h is projected by W_hr
    (P, H) [3]_: y and h have P features while c has H, weight_hh is (G*H, P), and weight_hr_l0
    (P, H) comes after the biases.
    {_PARAMETERS}{options.DOCUMENTS}{options.DOCUMENTS_OF_GATES}{options.DOCUMENTS_OF_LSTM}\
{options.DOCUMENTS_END}

    References
    ----------
    .. [1] Hochreiter and Schmidhuber, Long short-term memory, 1997.
    .. [2] Gers, Schmidhuber and Cummins, Learning to forget, 2000.
    .. [3] Sak, Senior and Beaufays, Long short-term memory recurrent neural network architectures
       for large scale acoustic modeling, 2014.
       Equations: `fastrnn.reference`, (L1) to (L6), (P1).
    """

    def __init__(
        self, input_size: SupportsIndex, hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1, *, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, dropout_mask: DropoutMask = "step", bidirectional: bool = False,
        merge: Merge = "concat", dtype: DType = "float32", rng: Seed = None,
        peephole: bool = False, coupled: bool = False, clip: float | None = None,
        cell_clip: float | None = None, recurrent_activation: Activation = "sigmoid",
        recurrent_dropout: float = 0.0, zoneout: float | tuple[float, float] = 0.0,
        layer_norm: bool = False, init: Init = "pytorch", forget_bias: float | None = None,
        proj_size: SupportsIndex = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["lstm"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, dtype=dtype, rng=rng, peephole=peephole,
            coupled=coupled, clip=clip, cell_clip=cell_clip,
            recurrent_activation=recurrent_activation,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, layer_norm=layer_norm, init=init,
            forget_bias=forget_bias, proj_size=proj_size,
        )  # fmt: skip


class GRU(Recurrent[Floats, Floats]):
    __doc__ = f"""GRU [1]_, gates r z n: h_t = (1 - z) n + z h_{{t-1}}.

    reset_after : True applies the reset gate after the recurrent product (PyTorch, cuDNN), False
    before it (the paper).
    {_PARAMETERS}{options.DOCUMENTS}{options.DOCUMENTS_OF_GATES}{options.DOCUMENTS_END}

    References
    ----------
    .. [1] Cho et al., Learning phrase representations using RNN encoder-decoder, 2014.
       Equations: `fastrnn.reference`, (G1) to (G4).
    """

    def __init__(
        self, input_size: SupportsIndex, hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1, *, reset_after: bool = True, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, dropout_mask: DropoutMask = "step",
        bidirectional: bool = False, merge: Merge = "concat", dtype: DType = "float32",
        rng: Seed = None, clip: float | None = None,
        recurrent_activation: Activation = "sigmoid", recurrent_dropout: float = 0.0,
        zoneout: float = 0.0, layer_norm: bool = False, init: Init = "pytorch",
    ) -> None:  # fmt: skip
        self.reset_after: Final[bool] = checks.flag("reset_after", reset_after)
        super().__init__(
            CELLS["gru_after" if reset_after else "gru_before"], input_size, hidden_size,
            num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            dropout_mask=dropout_mask, bidirectional=bidirectional, merge=merge, dtype=dtype,
            rng=rng, clip=clip, recurrent_activation=recurrent_activation,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, layer_norm=layer_norm, init=init,
        )  # fmt: skip

    def _options(self):
        return [] if self.reset_after else ["reset_after=False"]
