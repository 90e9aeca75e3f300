"""A matrix for each gate, on h and x side by side, as lectures write it.

It must not know: files, passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, overload

import numpy as np

from fastrnn import checks
from fastrnn._interop.conventions import LECTURE, NATIVE, joined_biases, split_biases
from fastrnn._layer import initializers
from fastrnn.layers import CLASSES, GRU, LSTM, RNN

if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from fastrnn._typing import Floats

    Gate: TypeAlias = Floats | tuple[Floats, Floats | None]
    Order: TypeAlias = Literal["hx", "xh"]
    Update: TypeAlias = Literal["new", "old"] | None

_KINDS = {cell: CLASSES[cell] for cell in NATIVE}
_CANDIDATES = ": g (LSTM) and n (GRU) are the candidates, which lectures write as c or h with a ~"

# The options that change which parameters a layer has, with their values in this form.
_PLAIN = {
    "num_layers": 1, "bidirectional": False, "merge": "concat", "proj_size": 0, "peephole": False,
    "coupled": False, "layer_norm": False, "reset_after": False,
}  # fmt: skip


@overload
def from_gates(
    cell: Literal["lstm"], gates: Mapping[str, Gate], *, order: Order = "hx",
    by_columns: bool = False, update: Update = None, **options: Any,
) -> LSTM: ...  # fmt: skip


@overload
def from_gates(
    cell: Literal["gru"], gates: Mapping[str, Gate], *, order: Order = "hx",
    by_columns: bool = False, update: Update = None, **options: Any,
) -> GRU: ...  # fmt: skip


@overload
def from_gates(
    cell: Literal["rnn"], gates: Mapping[str, Gate], *, order: Order = "hx",
    by_columns: bool = False, update: Update = None, **options: Any,
) -> RNN: ...  # fmt: skip


def from_gates(
    cell: Literal["rnn", "lstm", "gru"], gates: Mapping[str, Gate], *, order: Order = "hx",
    by_columns: bool = False, update: Update = None, **options: Any,
) -> LSTM | GRU | RNN:  # fmt: skip
    """Make a layer from a matrix for each gate, as lectures write an LSTM, a GRU and an RNN.

    With v = [h_{t-1}, x_t], the state and the input side by side, an LSTM [1]_ [2]_ is

        i = sigmoid(W_i v + b_i)    f = sigmoid(W_f v + b_f)    o = sigmoid(W_o v + b_o)
        g = tanh(W_g v + b_g)       c_t = f c_{t-1} + i g       h_t = o tanh(c_t)

    a GRU [3]_ [4]_, whose reset gate acts before the product (the layer has reset_after=False),

        r = sigmoid(W_r v + b_r)    z = sigmoid(W_z v + b_z)    n = tanh(W_n [r h_{t-1}, x_t] + b_n)
        h_t = (1 - z) h_{t-1} + z n    with update="new", as in [1]_, [2]_ and [4]_
        h_t = z h_{t-1} + (1 - z) n    with update="old", as in [3]_

    and an RNN is h_t = tanh(W_h v + b_h).

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    gates : mapping
        i, f, g, o of an LSTM, r, z, n of a GRU, h of an RNN: each with a pair (W, b), or W alone if
        no gate has a bias. W is (H, H + I) and b (H,), of float32 or float64, which is the dtype of
        the layer. Other names: the update gate of [1]_ is i in an LSTM and z in a GRU, and its
        candidates c~ are g and n.
    order : {"hx", "xh"}
        v is [h, x], or [x, h].
    by_columns : bool
        Each W is (H + I, H) and multiplies from the right: v @ W + b.
    update : {"new", "old"}, or None
        The factor of which value z is. A GRU needs it, other cells have none.
    **options : arguments of the layer
        Those that add no parameters, such as `batch_first` and the RNN's `nonlinearity`.

    Returns
    -------
    layer : LSTM, GRU or RNN

    Raises
    ------
    ValueError, TypeError
        For other gates, for shapes, dtypes and options that do not fit.

    Notes
    -----
    z of the other sense is 1 - z, and 1 - sigmoid(p) = sigmoid(-p): with update="new" the layer has
    the matrix and the bias of z with the other sign. The biases become bias_ih; bias_hh is 0.

    ``np.hstack([W_h, W_x])`` is the matrix of a gate that has one for h and one for x. A program
    that keeps Wx (I, 4H), Wh (H, 4H) and b (4H,) for all gates together, as CS231n's does, has v =
    [x, h] and matrices that multiply from the right; "ifog" is its order of the gates::

        W = np.split(np.vstack([Wx, Wh]), 4, axis=1)
        gates = dict(zip("ifog", zip(W, np.split(b, 4))))
        layer = from_gates("lstm", gates, order="xh", by_columns=True, batch_first=True)

    No error tells that `order` is the wrong one: compare y with your program's once.

    References
    ----------
    .. [1] Ng, Sequence models (deeplearning.ai), week 1, 2018.
    .. [2] Olah, Understanding LSTM networks, 2015.
    .. [3] Cho et al., Learning phrase representations using RNN encoder-decoder, 2014.
    .. [4] Chung et al., Empirical evaluation of gated recurrent neural networks on sequence
       modeling, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import convert
    >>> rng = np.random.default_rng(0)
    >>> gates = {gate: (rng.normal(size=(5, 5 + 3)), np.zeros(5)) for gate in "rzn"}
    >>> convert.from_gates("gru", gates, update="new")
    fastrnn.GRU(3, 5, reset_after=False, dtype="float64")
    """
    kind = _KINDS[checks.choice("cell", cell, tuple(_KINDS))]
    by_columns = checks.flag("by_columns", by_columns)
    convention = _convention(cell, order, update, by_columns)
    checks.not_told_twice(options, ("input_size", "hidden_size", "bias", "dtype"))
    _check_plain(options)
    matrices, biases = _of_gates(cell, gates, by_columns)
    matrix = convention.to_native(cell, np.concatenate(matrices, axis=1 if by_columns else 0))
    hidden = len(matrix) // len(NATIVE[cell])
    if matrix.shape[1] == hidden:
        raise ValueError(
            f"W of {NATIVE[cell][0]} must have {'rows' if by_columns else 'columns'} for x beside "
            f"those for h, got {matrices[0].shape}: use np.hstack([W_h, W_x])"
        )
    inputs, dtype = matrix.shape[1] - hidden, matrix.dtype
    options |= {"reset_after": False} if cell == "gru" else {}
    with initializers.skipped():
        layer = kind(inputs, hidden, bias=bool(biases), dtype=dtype, **options)
    of_h, of_x = matrix[:, :hidden], matrix[:, hidden:]
    if order == "xh":
        of_x, of_h = matrix[:, :inputs], matrix[:, inputs:]
    params = {"weight_ih_l0": of_x, "weight_hh_l0": of_h}
    if biases:
        bias = convention.to_native(cell, np.concatenate(biases))
        b_ih, b_hh = split_biases(cell, bias, reset_after=False)
        params |= {"bias_ih_l0": b_ih, "bias_hh_l0": b_hh}
    layer.load(params)
    return layer


def to_gates(
    layer: LSTM | GRU | RNN, *, order: Order = "hx", by_columns: bool = False,
    update: Update = None,
) -> dict[str, tuple[Floats, Floats | None]]:  # fmt: skip
    """Return a matrix and a bias for each gate of a layer: the inverse of `from_gates`.

    Parameters
    ----------
    layer : LSTM, GRU with reset_after=False, or RNN
        Of one layer and one direction, without peepholes and other options that add parameters.
    order, by_columns, update : as for `from_gates`

    Returns
    -------
    gates : dict
        Name of a gate -> (W, b), new arrays. b is bias_ih + bias_hh, which may round it, or None
        for a layer without biases.

    Raises
    ------
    ValueError, TypeError
        For a layer that has no such form, such as a GRU with reset_after=True, where the reset gate
        multiplies W_hn h + b_hn.

    Examples
    --------
    >>> import fastrnn
    >>> from fastrnn import convert
    >>> layer = fastrnn.LSTM(3, 5, rng=0)
    >>> gates = convert.to_gates(layer)
    >>> {name: (W.shape, b.shape) for name, (W, b) in gates.items()}["f"]
    ((5, 8), (5,))
    >>> same = convert.from_gates("lstm", gates)
    >>> bool((same.params["weight_ih_l0"] == layer.params["weight_ih_l0"]).all())
    True
    """
    cell, by_columns = _cell_of(layer), checks.flag("by_columns", by_columns)
    convention = _convention(cell, order, update, by_columns)
    _check_plain(_options_of(layer))
    params, count = layer.params, len(NATIVE[cell])
    names = [f"weight_{'hh' if part == 'h' else 'ih'}_l0" for part in order]
    matrix = np.concatenate([params[name] for name in names], axis=1)
    matrices = np.split(convention.from_native(cell, matrix), count, axis=1 if by_columns else 0)
    biases = [None] * count
    if layer.bias:
        bias = joined_biases(cell, params["bias_ih_l0"], params["bias_hh_l0"], reset_after=False)
        biases = [part.copy() for part in np.split(convention.from_native(cell, bias), count)]
    return {
        gate: (matrix.copy(), bias)
        for gate, matrix, bias in zip(NATIVE[cell], matrices, biases, strict=True)
    }


def _cell_of(layer):
    """The name of a layer's cell."""
    for cell, kind in _KINDS.items():
        if type(layer) is kind:
            return cell
    raise TypeError(f"layer must be an LSTM, GRU or RNN, got {checks.no_layer(layer)}")


def _convention(cell, order, update, by_columns):
    """The `Convention` of the user's matrices."""
    checks.choice("order", order, ("hx", "xh"))
    if cell == "gru":
        if update is None:
            raise ValueError(
                'update must be "new" for h_t = (1 - z) h_{t-1} + z n, or "old" for '
                "h_t = z h_{t-1} + (1 - z) n: look at your equations"
            )
        checks.choice("update", update, ("new", "old"))
    elif update is not None:
        raise ValueError(f"update must be None for the cell {cell}, which has no z, got {update!r}")
    return LECTURE._replace(z_is_new=update == "new", by_columns=by_columns)


def _options_of(layer):
    """The values of a layer's arguments that are in _PLAIN."""
    return {
        name: getattr(layer, name, getattr(layer.options, name, plain))
        for name, plain in _PLAIN.items()
    }


def _check_plain(options):
    """ValueError for options of a layer whose parameters have no such form."""
    for name, value in options.items():
        if name in _PLAIN and value != _PLAIN[name]:
            raise ValueError(
                f"{name} must be {_PLAIN[name]!r}, got {value!r}: a matrix on h and x for each "
                "gate has no other form"
            )


def _of_gates(cell, gates, by_columns):
    """The checked matrices and biases, in the order of NATIVE; without biases []."""
    letters = NATIVE[cell]
    if not isinstance(gates, Mapping) or set(gates) != set(letters):
        got = list(gates) if isinstance(gates, Mapping) else type(gates).__name__
        raise ValueError(
            f"gates must be a dict of {', '.join(letters)} for the cell {cell}, got {got}"
            f"{_CANDIDATES}"
        )
    pairs = {letter: _pair(letter, gates[letter]) for letter in letters}
    matrices, biases = [w for w, _ in pairs.values()], [b for _, b in pairs.values()]
    shape, first = _shape(letters[0], matrices[0], by_columns), f"W of {letters[0]}"
    symbols = ("hidden_size", "hidden_size + input_size")[:: -1 if by_columns else 1]
    without = [letter for letter, (_, b) in pairs.items() if b is None]
    if 0 < len(without) < len(letters):
        raise ValueError(f"{without[0]} must be a pair (W, b) like the other gates, got W alone")
    for letter, (matrix, bias) in pairs.items():
        checks.same_dtype(f"W of {letter}", matrix, matrices[0].dtype, first)
        checks.shaped(f"W of {letter}", matrix, symbols, shape)
        if bias is not None:
            checks.same_dtype(f"b of {letter}", bias, matrices[0].dtype, first)
            of_column = "use b.ravel()" if bias.ndim == 2 and 1 in bias.shape else None
            checks.shaped(f"b of {letter}", bias, ("hidden_size",), (min(shape),), of_column)
    return matrices, [] if without else biases


def _pair(letter, value):
    """W and b of a gate as arrays; b is None if there is none."""
    if isinstance(value, tuple | list) and len(value) > 2 and np.ndim(value[0]) == 2:
        raise TypeError(
            f"{letter} must be W, or a pair (W, b), got {len(value)} arrays: a matrix for h and "
            "one for x become W = np.hstack([W_h, W_x])"
        )
    if isinstance(value, list) and len(value) == 2 and np.ndim(value[0]) == 2:
        raise TypeError(f"{letter} must be a tuple (W, b) or W alone, got a list: use a tuple")
    matrix, bias = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    bias = None if bias is None else checks.as_array(f"b of {letter}", bias)
    return checks.as_array(f"W of {letter}", matrix), bias


def _shape(letter, matrix, by_columns):
    """The shape of the matrices, from the first one."""
    shape = matrix.shape
    if len(shape) == 2 and shape[0] and shape[1]:
        hidden, both = shape[::-1] if by_columns else shape
        if hidden <= both:
            return shape
    wanted = ("(hidden_size + input_size, hidden_size)", "(hidden_size, hidden_size + input_size)")
    hint = f": transposed? Then by_columns={not by_columns}" if len(shape) == 2 else ""
    raise ValueError(
        f"W of {letter} must be {wanted[not by_columns]} with by_columns={by_columns}, got {shape}"
        f"{hint}"
    )
