"""RNN, LSTM, GRU, MinGRU, MinLSTM: the layers that users make, their signatures and docstrings.

It must not know: passes, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn._cells.registry import CELLS
from fastrnn._layer.base import Recurrent
from fastrnn._typing import Floats, GivenPair, Pair

if TYPE_CHECKING:
    from typing import Final, SupportsIndex

    from fastrnn._typing import Activation, DropoutMask, DType, Init, Merge, Nonlinearity, Seed


class RNN(Recurrent[Floats, Floats]):
    """Elman network [1]_: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        Each layer above the first reads the y of the one below.
    nonlinearity : {"tanh", "relu"}
        phi.
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
        Of parameters, x, y and all that is computed.
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        Of G gates, in an RNN 1: weight_ih_l0 (G*H, I), weight_hh_l0 (G*H, H), bias_ih_l0 and
        bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second direction: PyTorch's
        names and shapes. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        These may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    clip : float or None
        Each pre-activation is kept within +-clip (ONNX's clip); its gradient is 0 at the bounds.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, in all
        steps alike; the others are divided by 1 - recurrent_dropout. A call has none. Each row
        of the batch, layer and direction has a mask of its own.
    zoneout : float
        Probability with which an element of the state stays as it was, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        How parameters begin: all uniform in +-1/sqrt(hidden_size); or with biases of 0 and, for
        each gate, weight_ih and weight_hh uniform in +-sqrt(6/(features+H)), or both orthogonal, or
        weight_ih so uniform and weight_hh orthogonal. "keras" takes the gates of a matrix together,
        as Keras does: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of weight_hh
        orthonormal, biases 0.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    Equations: `fastrnn.reference`, (R1); of the options, with their sources:
    `fastrnn.reference.variants`.

    References
    ----------
    .. [1] Elman, Finding structure in time, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.RNN(3, 5, nonlinearity="relu", rng=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"))  # 7 steps of 2 sequences
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
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
    """LSTM [1]_ with a forget gate [2]_; gates i f g o, state (h, c).

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        Each layer above the first reads the y of the one below.
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
        Of parameters, x, y and all that is computed.
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        Of G gates, in an RNN 1: weight_ih_l0 (G*H, I), weight_hh_l0 (G*H, H), bias_ih_l0 and
        bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second direction: PyTorch's
        names and shapes. Each is a view into flat; params[name] = values copies into it.
        Options add weight_ln_ih_l0 and the like.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        These may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    peephole : bool
        i and f see c before the step, o after it, by weight_peephole_l0 (3*H,): i, f, o.
    coupled : bool
        The forget gate is 1 - i: gates i g o, so G = 3 and weight_peephole_l0 is (2*H,): i, o.
    clip : float or None
        Each pre-activation is kept within +-clip (ONNX's clip); its gradient is 0 at the bounds.
    cell_clip : float or None
        c is kept within +-cell_clip; its gradient is 0 at the bounds.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"}
        Of the gates: hard_sigmoid(p) = clip(p/6 + 0.5, 0, 1) as in PyTorch and Keras 3,
        hard_sigmoid_onnx(p) = clip(0.2 p + 0.5, 0, 1) as in ONNX and Keras 2.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, in all
        steps alike; the others are divided by 1 - recurrent_dropout. A call has none. Each row
        of the batch, layer and direction has a mask of its own.
    zoneout : float or a pair (of h, of c)
        Probability with which an element of the state stays as it was, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    layer_norm : bool
        Normalise W_ih x and W_hh h over each row's features, then scale by weight_ln_ih_l0 and
        weight_ln_hh_l0 (G*H,) and add the biases; also c where h is made of it, by weight_ln_c_l0
        and bias_ln_c_l0 (H,). They begin as 1 and 0.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        How parameters begin: all uniform in +-1/sqrt(hidden_size); or with biases of 0 and, for
        each gate, weight_ih and weight_hh uniform in +-sqrt(6/(features+H)), or both orthogonal, or
        weight_ih so uniform and weight_hh orthogonal. "keras" takes the gates of a matrix together,
        as Keras does: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of weight_hh
        orthonormal, biases 0, and 1 for the forget gate. Peepholes and weight_hr begin as in
        "pytorch".
    forget_bias : float or None
        Added to the first values of the forget gate's bias_ih. None is 1 with init="keras", else
        0.
    proj_size : int
        P, less than hidden_size: h is W_hr (P, H) times what the cell makes [3]_, so y and h have
        P features while c has H, weight_hh is (G*H, P), and weight_hr_l0 (P, H) comes after the
        biases. 0 is no projection.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    Equations: `fastrnn.reference`, (L1) to (L6), (P1); of the options, with their sources:
    `fastrnn.reference.variants`.

    References
    ----------
    .. [1] Hochreiter and Schmidhuber, Long short-term memory, 1997.
    .. [2] Gers, Schmidhuber and Cummins, Learning to forget, 2000.
    .. [3] Sak, Senior and Beaufays, Long short-term memory recurrent neural network architectures
       for large scale acoustic modeling, 2014.

    Examples
    --------
    A step of training: from the loss mean((y - 1)**2), through all of time, to the parameters.

    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(3, 5, num_layers=2, rng=0)
    >>> x = np.ones((7, 2, 3), "float32")  # 7 steps of 2 sequences
    >>> y, (h, c), tape = layer.forward(x)
    >>> y.shape, h.shape, c.shape
    ((7, 2, 5), (2, 2, 5), (2, 2, 5))
    >>> layer.flat -= 0.1 * tape.backward(2 * (y - 1) / y.size).flat
    >>> better, _ = layer(x)
    >>> bool(np.square(better - 1).mean() < np.square(y - 1).mean())
    True
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
    """GRU [1]_, gates r z n: h_t = (1 - z) n + z h_{t-1}.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        Each layer above the first reads the y of the one below.
    reset_after : bool
        Whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before it (the
        paper).
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
        Of parameters, x, y and all that is computed.
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        Of G gates, in an RNN 1: weight_ih_l0 (G*H, I), weight_hh_l0 (G*H, H), bias_ih_l0 and
        bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second direction: PyTorch's
        names and shapes. Each is a view into flat; params[name] = values copies into it.
        Options add weight_ln_ih_l0 and the like.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        These may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    clip : float or None
        Each pre-activation is kept within +-clip (ONNX's clip); its gradient is 0 at the bounds.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"}
        Of the gates: hard_sigmoid(p) = clip(p/6 + 0.5, 0, 1) as in PyTorch and Keras 3,
        hard_sigmoid_onnx(p) = clip(0.2 p + 0.5, 0, 1) as in ONNX and Keras 2.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, in all
        steps alike; the others are divided by 1 - recurrent_dropout. A call has none. Each row
        of the batch, layer and direction has a mask of its own.
    zoneout : float
        Probability with which an element of the state stays as it was, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    layer_norm : bool
        Normalise W_ih x and W_hh h over each row's features, of r and z together and of n alone,
        then scale by weight_ln_ih_l0 and weight_ln_hh_l0 (G*H,), which begin as 1, and add the
        biases.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        How parameters begin: all uniform in +-1/sqrt(hidden_size); or with biases of 0 and, for
        each gate, weight_ih and weight_hh uniform in +-sqrt(6/(features+H)), or both orthogonal, or
        weight_ih so uniform and weight_hh orthogonal. "keras" takes the gates of a matrix together,
        as Keras does: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of weight_hh
        orthonormal, biases 0.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    Equations: `fastrnn.reference`, (G1) to (G4); of the options, with their sources:
    `fastrnn.reference.variants`.

    References
    ----------
    .. [1] Cho et al., Learning phrase representations using RNN encoder-decoder, 2014.

    Examples
    --------
    Both directions side by side, and sequences of 7 and of 4 steps:

    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.GRU(3, 5, bidirectional=True, rng=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"), lengths=[7, 4])
    >>> y.shape, h.shape, bool(y[4:, 1].any())
    ((7, 2, 10), (2, 2, 5), False)
    >>> layer.params["weight_ih_l0_reverse"].shape
    (15, 3)
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


class MinGRU(Recurrent[Floats, Floats]):
    """minGRU [1]_: h_t = (1 - z) h_{t-1} + z h~, where z and h~ see x alone.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        Each layer above the first reads the y of the one below.
    bias : bool
        Whether there is b_ih.
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
        Of parameters, x, y and all that is computed.
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        weight_ih_l0 (2*H, I) and bias_ih_l0 (2*H,), then _l1 and so on, with _reverse for the
        second direction. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask
        May be assigned: the next `forward` acts on them. All else is fixed when the layer is made.

    Other Parameters
    ----------------
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        The first values of parameters, as for `fastrnn.GRU`.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    z takes the new, the opposite of the GRU's; h~ has no activation. Equations:
    `fastrnn.reference`, (M1) to (M3).

    References
    ----------
    .. [1] Feng et al., Were RNNs all we needed?, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.MinGRU(3, 5, rng=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"))  # 7 steps of 2 sequences
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: SupportsIndex, hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1, *, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, dropout_mask: DropoutMask = "step", bidirectional: bool = False,
        merge: Merge = "concat", dtype: DType = "float32", rng: Seed = None,
        init: Init = "pytorch",
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["min_gru"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, dtype=dtype, rng=rng, init=init,
        )  # fmt: skip


class MinLSTM(Recurrent[Floats, Floats]):
    """minLSTM [1]_: h_t = f/(f+i) h_{t-1} + i/(f+i) h~, where f, i and h~ see x alone.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the units.
    num_layers : int
        Each layer above the first reads the y of the one below.
    bias : bool
        Whether there is b_ih.
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
        Of parameters, x, y and all that is computed.
    rng : None, int or numpy.random.Generator
        It draws the first values of parameters, uniform in +-1/sqrt(hidden_size) as in PyTorch, or
        as `init` says. Then dropout and zoneout draw from it.

    Attributes
    ----------
    params : mapping
        weight_ih_l0 (3*H, I) and bias_ih_l0 (3*H,), then _l1 and so on, with _reverse for the
        second direction. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The one buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask
        May be assigned: the next `forward` acts on them. All else is fixed when the layer is made.

    Other Parameters
    ----------------
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        The first values of parameters, as for `fastrnn.GRU`.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    There is no c, and h~ has no activation. Equations: `fastrnn.reference`, (M7) to (M9).

    References
    ----------
    .. [1] Feng et al., Were RNNs all we needed?, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.MinLSTM(3, 5, rng=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"))  # 7 steps of 2 sequences
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: SupportsIndex, hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1, *, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, dropout_mask: DropoutMask = "step", bidirectional: bool = False,
        merge: Merge = "concat", dtype: DType = "float32", rng: Seed = None,
        init: Init = "pytorch",
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["min_lstm"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, dtype=dtype, rng=rng, init=init,
        )  # fmt: skip
