"""RNN, LSTM, GRU, MinGRU, MinLSTM: the classes of layers, their signatures and docstrings.

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
    """Elman network: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    The network is Elman's [1]_.

    Each call packs the weights anew. For many short calls, for several threads and for streams
    see `freeze`, which packs them once.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the hidden units.
    num_layers : int
        Each layer above the first reads the y of the layer below.
    nonlinearity : {"tanh", "relu"}
        phi.
    bias : bool
        False leaves out b_ih and b_hh.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States do not change.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has no dropout. With one layer, dropout does
        nothing, and a UserWarning says so. The attribute may be assigned.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    reverse : bool
        Every layer of the stack runs from the last step to the first. y keeps the order of x; the
        final state is the one after step 0. It must be False with bidirectional=True.
    dtype : {"float32", "float64"}
        The dtype of parameters, x, y and all results.
    rng : None, int or numpy.random.Generator
        The generator, or its seed. The first values of parameters are drawn from it (see `init`),
        and then dropout and zoneout.

    Attributes
    ----------
    params : mapping
        PyTorch's names and shapes. With G gates (1 in an RNN): weight_ih_l0 (G*H, I), weight_hh_l0
        (G*H, H), bias_ih_l0 and bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second
        direction. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        They may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    clip : float or None
        Each pre-activation is limited to +-clip (ONNX's clip); its gradient is 0 at the bounds.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, the same
        units in all steps; the others are divided by 1 - recurrent_dropout. A call has no recurrent
        dropout. Each row of the batch, layer and direction has a mask of its own.
    zoneout : float
        Probability with which an element of the state keeps its old value, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        The first values of parameters. "pytorch": all uniform in +-1/sqrt(hidden_size). In the
        others biases are 0. "glorot": weight_ih and weight_hh of each gate uniform in
        +-sqrt(6/(features+H)). "orthogonal": both orthogonal for each gate. "glorot_orthogonal":
        weight_ih as in "glorot", weight_hh as in "orthogonal". "keras": all gates of a matrix
        together, as in Keras: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of
        weight_hh orthonormal.

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
        bidirectional: bool = False, merge: Merge = "concat", reverse: bool = False,
        dtype: DType = "float32", rng: Seed = None, clip: float | None = None,
        recurrent_dropout: float = 0.0, zoneout: float = 0.0, init: Init = "pytorch",
    ) -> None:  # fmt: skip
        self.nonlinearity: Final[Nonlinearity] = checks.choice(
            "nonlinearity", nonlinearity, ("tanh", "relu")
        )
        super().__init__(
            CELLS["rnn_" + nonlinearity], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, reverse=reverse, dtype=dtype,
            rng=rng, clip=clip, recurrent_dropout=recurrent_dropout, zoneout=zoneout, init=init,
        )  # fmt: skip

    def _options(self):
        return [f'nonlinearity="{self.nonlinearity}"']


class LSTM(Recurrent[Pair, GivenPair]):
    """LSTM with a forget gate: gates i f g o, state (h, c).

    The LSTM is from [1]_, its forget gate from [2]_.

    Each call packs the weights anew. For many short calls, for several threads and for streams
    see `freeze`, which packs them once.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the hidden units.
    num_layers : int
        Each layer above the first reads the y of the layer below.
    bias : bool
        False leaves out b_ih and b_hh.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States do not change.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has no dropout. With one layer, dropout does
        nothing, and a UserWarning says so. The attribute may be assigned.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    reverse : bool
        Every layer of the stack runs from the last step to the first. y keeps the order of x; the
        final state is the one after step 0. It must be False with bidirectional=True.
    dtype : {"float32", "float64"}
        The dtype of parameters, x, y and all results.
    rng : None, int or numpy.random.Generator
        The generator, or its seed. The first values of parameters are drawn from it (see `init`),
        and then dropout and zoneout.

    Attributes
    ----------
    params : mapping
        PyTorch's names and shapes. With G gates (1 in an RNN): weight_ih_l0 (G*H, I), weight_hh_l0
        (G*H, H), bias_ih_l0 and bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second
        direction. Each is a view into flat; params[name] = values copies into it.
        Options add weight_ln_ih_l0 and the like.
    flat : 1-D array
        The buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        They may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    peephole : bool
        i and f read the c before the step, o the c after it, through weight_peephole_l0 (3*H,):
        i, f, o.
    coupled : bool
        The forget gate is 1 - i: gates i g o, so G = 3 and weight_peephole_l0 is (2*H,): i, o.
    clip : float or None
        Each pre-activation is limited to +-clip (ONNX's clip); its gradient is 0 at the bounds.
    cell_clip : float or None
        c is limited to +-cell_clip; its gradient is 0 at the bounds.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"}
        The activation of the gates. hard_sigmoid(p) = clip(p/6 + 0.5, 0, 1) as in PyTorch and
        Keras 3, hard_sigmoid_onnx(p) = clip(0.2 p + 0.5, 0, 1) as in ONNX and Keras 2.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, the same
        units in all steps; the others are divided by 1 - recurrent_dropout. A call has no recurrent
        dropout. Each row of the batch, layer and direction has a mask of its own.
    zoneout : float or a pair (of h, of c)
        Probability with which an element of the state keeps its old value, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    layer_norm : bool
        Normalise W_ih x and W_hh h over each row's features, scale them by weight_ln_ih_l0 and
        weight_ln_hh_l0 (G*H,), and add the biases. The c that h is computed from is normalised too,
        with weight_ln_c_l0 and bias_ln_c_l0 (H,). The scales begin as 1, bias_ln_c_l0 as 0.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        The first values of parameters. "pytorch": all uniform in +-1/sqrt(hidden_size). In the
        others biases are 0. "glorot": weight_ih and weight_hh of each gate uniform in
        +-sqrt(6/(features+H)). "orthogonal": both orthogonal for each gate. "glorot_orthogonal":
        weight_ih as in "glorot", weight_hh as in "orthogonal". "keras": all gates of a matrix
        together, as in Keras: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of
        weight_hh orthonormal, bias_ih of the forget gate 1. Peepholes and weight_hr are always
        drawn as in "pytorch".
    forget_bias : float or None
        The number that is added to the first values of the forget gate's bias_ih. None is 1 with
        init="keras", else 0.
    proj_size : int
        P, less than hidden_size: h is the product of W_hr (P, H) and the cell's output [3]_. So y
        and h have P features and c has H, weight_hh is (G*H, P), and weight_hr_l0 (P, H) comes
        after the biases. 0 is no projection.

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
    One step of training with the loss mean((y - 1)**2):

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
        merge: Merge = "concat", reverse: bool = False, dtype: DType = "float32", rng: Seed = None,
        peephole: bool = False, coupled: bool = False, clip: float | None = None,
        cell_clip: float | None = None, recurrent_activation: Activation = "sigmoid",
        recurrent_dropout: float = 0.0, zoneout: float | tuple[float, float] = 0.0,
        layer_norm: bool = False, init: Init = "pytorch", forget_bias: float | None = None,
        proj_size: SupportsIndex = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["lstm"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, reverse=reverse, dtype=dtype,
            rng=rng, peephole=peephole, coupled=coupled, clip=clip, cell_clip=cell_clip,
            recurrent_activation=recurrent_activation,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, layer_norm=layer_norm, init=init,
            forget_bias=forget_bias, proj_size=proj_size,
        )  # fmt: skip


class GRU(Recurrent[Floats, Floats]):
    """GRU, gates r z n: h_t = (1 - z) n + z h_{t-1}.

    The GRU is from [1]_.

    Each call packs the weights anew. For many short calls, for several threads and for streams
    see `freeze`, which packs them once.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the hidden units.
    num_layers : int
        Each layer above the first reads the y of the layer below.
    reset_after : bool
        True: the reset gate acts after the recurrent product (PyTorch, cuDNN). False: before it
        (the paper).
    bias : bool
        False leaves out b_ih and b_hh.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States do not change.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has no dropout. With one layer, dropout does
        nothing, and a UserWarning says so. The attribute may be assigned.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    reverse : bool
        Every layer of the stack runs from the last step to the first. y keeps the order of x; the
        final state is the one after step 0. It must be False with bidirectional=True.
    dtype : {"float32", "float64"}
        The dtype of parameters, x, y and all results.
    rng : None, int or numpy.random.Generator
        The generator, or its seed. The first values of parameters are drawn from it (see `init`),
        and then dropout and zoneout.

    Attributes
    ----------
    params : mapping
        PyTorch's names and shapes. With G gates (1 in an RNN): weight_ih_l0 (G*H, I), weight_hh_l0
        (G*H, H), bias_ih_l0 and bias_hh_l0 (G*H,), then _l1 and so on, with _reverse for the second
        direction. Each is a view into flat; params[name] = values copies into it.
        Options add weight_ln_ih_l0 and the like.
    flat : 1-D array
        The buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout and zoneout draw from it. A Generator or a seed may be assigned. Copies and pickles
        of the layer have its state.
    dropout, dropout_mask, recurrent_dropout
        They may be assigned; the next `forward` uses the new value. All else is fixed.
    options : record
        The checked values of clip, zoneout and the other options of variants.

    Other Parameters
    ----------------
    clip : float or None
        Each pre-activation is limited to +-clip (ONNX's clip); its gradient is 0 at the bounds.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"}
        The activation of the gates. hard_sigmoid(p) = clip(p/6 + 0.5, 0, 1) as in PyTorch and
        Keras 3, hard_sigmoid_onnx(p) = clip(0.2 p + 0.5, 0, 1) as in ONNX and Keras 2.
    recurrent_dropout : float
        Probability with which a unit of h is 0 in the recurrent products of a `forward`, the same
        units in all steps; the others are divided by 1 - recurrent_dropout. A call has no recurrent
        dropout. Each row of the batch, layer and direction has a mask of its own.
    zoneout : float
        Probability with which an element of the state keeps its old value, at each step of a
        `forward`. A call takes the expectation, zoneout * old + (1 - zoneout) * new.
    layer_norm : bool
        Normalise W_ih x and W_hh h over each row's features, for r and z together and for n alone.
        Then scale them by weight_ln_ih_l0 and weight_ln_hh_l0 (G*H,), which begin as 1, and add the
        biases.
    init : {"pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"}
        The first values of parameters. "pytorch": all uniform in +-1/sqrt(hidden_size). In the
        others biases are 0. "glorot": weight_ih and weight_hh of each gate uniform in
        +-sqrt(6/(features+H)). "orthogonal": both orthogonal for each gate. "glorot_orthogonal":
        weight_ih as in "glorot", weight_hh as in "orthogonal". "keras": all gates of a matrix
        together, as in Keras: weight_ih uniform in +-sqrt(6/(features+G*H)), the columns of
        weight_hh orthonormal.

    Raises
    ------
    ValueError, TypeError
        For arguments of the wrong kind or size.

    Notes
    -----
    Equations: `fastrnn.reference`, (G1) to (G4); of the options, with their sources:
    `fastrnn.reference.variants`.

    There is no forget_bias, as of an LSTM. A larger z keeps more of the past, and the rows of z are
    the second third of each matrix and bias. So `layer.params["bias_ih_l0"][H : 2 * H] = 1` begins
    with a z of 0.73 where the other terms are 0.

    References
    ----------
    .. [1] Cho et al., Learning phrase representations using RNN encoder-decoder, 2014.

    Examples
    --------
    Two directions, and sequences of 7 and 4 steps:

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
        bidirectional: bool = False, merge: Merge = "concat", reverse: bool = False,
        dtype: DType = "float32", rng: Seed = None, clip: float | None = None,
        recurrent_activation: Activation = "sigmoid", recurrent_dropout: float = 0.0,
        zoneout: float = 0.0, layer_norm: bool = False, init: Init = "pytorch",
    ) -> None:  # fmt: skip
        self.reset_after: Final[bool] = checks.flag("reset_after", reset_after)
        super().__init__(
            CELLS["gru_after" if reset_after else "gru_before"], input_size, hidden_size,
            num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            dropout_mask=dropout_mask, bidirectional=bidirectional, merge=merge, reverse=reverse,
            dtype=dtype, rng=rng, clip=clip, recurrent_activation=recurrent_activation,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, layer_norm=layer_norm, init=init,
        )  # fmt: skip

    def _options(self):
        return [] if self.reset_after else ["reset_after=False"]


class MinGRU(Recurrent[Floats, Floats]):
    """minGRU: h_t = (1 - z) h_{t-1} + z h~, where z and h~ depend on x alone.

    The minGRU is from [1]_.

    Each call packs the weights anew. For many short calls, for several threads and for streams
    see `freeze`, which packs them once.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the hidden units.
    num_layers : int
        Each layer above the first reads the y of the layer below.
    bias : bool
        False leaves out b_ih.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States do not change.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has no dropout. With one layer, dropout does
        nothing, and a UserWarning says so. The attribute may be assigned.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    reverse : bool
        Every layer of the stack runs from the last step to the first. y keeps the order of x; the
        final state is the one after step 0. It must be False with bidirectional=True.
    dtype : {"float32", "float64"}
        The dtype of parameters, x, y and all results.
    rng : None, int or numpy.random.Generator
        The generator, or its seed. The first values of parameters are drawn from it (see `init`),
        and then dropout.

    Attributes
    ----------
    params : mapping
        weight_ih_l0 (2*H, I) and bias_ih_l0 (2*H,), then _l1 and so on, with _reverse for the
        second direction. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout draws from it. A Generator or a seed may be assigned. Copies and pickles of the
        layer have its state.
    dropout, dropout_mask
        They may be assigned; the next `forward` uses the new value. All else is fixed.

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
    z is the factor of the new value; in the GRU it is that of the old one. h~ has no activation.
    Equations: `fastrnn.reference`, (M1) to (M3).

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
        merge: Merge = "concat", reverse: bool = False, dtype: DType = "float32", rng: Seed = None,
        init: Init = "pytorch",
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["min_gru"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, reverse=reverse, dtype=dtype,
            rng=rng, init=init,
        )  # fmt: skip


class MinLSTM(Recurrent[Floats, Floats]):
    """minLSTM: h_t = f/(f+i) h_{t-1} + i/(f+i) h~, where f, i and h~ depend on x alone.

    The minLSTM is from [1]_.

    Each call packs the weights anew. For many short calls, for several threads and for streams
    see `freeze`, which packs them once.

    Parameters
    ----------
    input_size, hidden_size : int
        I, the features of x, and H, the hidden units.
    num_layers : int
        Each layer above the first reads the y of the layer below.
    bias : bool
        False leaves out b_ih.
    batch_first : bool
        x and y are (B, T, ...) rather than (T, B, ...). States do not change.
    dropout : float
        Probability with which an element of y between two layers is zero in `forward`; the others
        are divided by 1 - dropout. A call (inference) has no dropout. With one layer, dropout does
        nothing, and a UserWarning says so. The attribute may be assigned.
    dropout_mask : {"step", "sequence"}
        "step": each step has a mask of its own. "sequence": each `forward` draws one mask for all
        steps of a row of the batch (Gal and Ghahramani, 2016; "locked" in Merity et al., 2017).
    bidirectional : bool
        A second direction runs from the last step to the first.
    merge : {"concat", "sum", "mean", "mul", None}
        The form of the top layer's y: "concat" puts the two directions side by side, (T, B, 2*H);
        "sum", "mean" and "mul" make one array (T, B, H); None gives the pair of them. Between
        layers they are always side by side.
    reverse : bool
        Every layer of the stack runs from the last step to the first. y keeps the order of x; the
        final state is the one after step 0. It must be False with bidirectional=True.
    dtype : {"float32", "float64"}
        The dtype of parameters, x, y and all results.
    rng : None, int or numpy.random.Generator
        The generator, or its seed. The first values of parameters are drawn from it (see `init`),
        and then dropout.

    Attributes
    ----------
    params : mapping
        weight_ih_l0 (3*H, I) and bias_ih_l0 (3*H,), then _l1 and so on, with _reverse for the
        second direction. Each is a view into flat; params[name] = values copies into it.
    flat : 1-D array
        The buffer that all of params are views into. flat = values copies into it.
    rng : numpy.random.Generator
        Dropout draws from it. A Generator or a seed may be assigned. Copies and pickles of the
        layer have its state.
    dropout, dropout_mask
        They may be assigned; the next `forward` uses the new value. All else is fixed.

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
    minLSTM has no c, and h~ has no activation. Equations: `fastrnn.reference`, (M7) to (M9).

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
        merge: Merge = "concat", reverse: bool = False, dtype: DType = "float32", rng: Seed = None,
        init: Init = "pytorch",
    ) -> None:  # fmt: skip
        super().__init__(
            CELLS["min_lstm"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, dropout_mask=dropout_mask,
            bidirectional=bidirectional, merge=merge, reverse=reverse, dtype=dtype,
            rng=rng, init=init,
        )  # fmt: skip


# Every class of layers, by the name of its cell.
CLASSES = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "min_gru": MinGRU, "min_lstm": MinLSTM}
