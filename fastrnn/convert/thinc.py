"""The array in which thinc keeps the weights of an LSTM.

It must not know: files, passes, thinc itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._interop.conventions import THINC
from fastrnn._layer import initializers
from fastrnn.layers import LSTM

if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    from fastrnn._typing import Floats


def from_thinc(
    params: Floats, input_size: SupportsIndex, hidden_size: SupportsIndex,
    num_layers: SupportsIndex = 1, *, bidirectional: bool = False, **options: Any,
) -> LSTM:  # fmt: skip
    """Make an LSTM from the array in which thinc's LSTM keeps its weights.

    thinc.layers.LSTM [1]_ computes what `fastrnn.LSTM` does, with the gates in the order f i o g,
    where g is called c. Its array has for each layer, and in it for each direction, W_x (4*H, I),
    b_x, W_h (4*H, H) and b_h, one after another.

    Parameters
    ----------
    params : 1-D array
        `model.get_param("LSTM")`. Its dtype is that of the layer.
    input_size, hidden_size : int
        I and H: `model.get_dim("nI")`, and `model.get_dim("nO")` divided by the directions.
    num_layers : int
        `model.get_dim("depth")`.
    bidirectional : bool
        True if `model.get_dim("dirs")` is 2.
    **options : arguments of the layer
        Those that change no equations, such as `batch_first`. thinc's dropout, which drops weights
        and not activations, is not among them.

    Returns
    -------
    layer : LSTM

    Raises
    ------
    ValueError, TypeError
        For an array of another size or dtype, and for options that do not fit.

    Notes
    -----
    The array has no initial state. That is thinc's `HC0`, which is 0 unless you have set it.

    References
    ----------
    .. [1] thinc 9.1, thinc/layers/lstm.py and thinc/backends/ops.py, https://thinc.ai.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import convert
    >>> convert.from_thinc(np.zeros(4 * 5 * (3 + 1 + 5 + 1), "float32"), 3, 5)
    fastrnn.LSTM(3, 5, dtype="float32")
    """
    params = checks.as_array("params", params)
    checks.not_told_twice(options, ("dtype",))
    with initializers.skipped():
        layer = LSTM(
            input_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=params.dtype,
            **options,
        )  # fmt: skip
    _check(layer)
    checks.shaped("params", params, None, layer.flat.shape)
    at = 0
    for name in _thinc_order(layer):
        shape = layer.params[name].shape
        part = params[at : at + layer.params[name].size].reshape(shape)
        layer.params[name] = THINC.to_native("lstm", part)
        at += part.size
    return layer


def to_thinc(layer: LSTM) -> Floats:
    """Return a layer's parameters as thinc's LSTM keeps them: the inverse of `from_thinc`.

    Parameters
    ----------
    layer : LSTM
        With biases, without options that change its equations, such as peepholes or proj_size.

    Returns
    -------
    params : 1-D array
        For `model.set_param("LSTM", params)`. thinc computes in float32.

    Raises
    ------
    ValueError, TypeError
        For a layer that thinc does not have.

    Examples
    --------
    >>> import fastrnn
    >>> from fastrnn import convert
    >>> layer = fastrnn.LSTM(3, 5, num_layers=2, bidirectional=True, rng=0)
    >>> params = convert.to_thinc(layer)
    >>> same = convert.from_thinc(params, 3, 5, 2, bidirectional=True)
    >>> bool((same.flat == layer.flat).all())
    True
    """
    _check(layer)
    parts = [THINC.from_native("lstm", layer.params[name]) for name in _thinc_order(layer)]
    return np.concatenate([part.ravel() for part in parts])


def _thinc_order(layer):
    """The names of an LSTM's parameters, in the order of thinc's array."""
    kinds = "weight_ih", "bias_ih", "weight_hh", "bias_hh"
    ends = [name.removeprefix(kinds[0]) for name in layer.params if name.startswith(kinds[0])]
    return [kind + end for end in ends for kind in kinds]


def _check(layer):
    """ValueError or TypeError for a layer that thinc does not have."""
    if type(layer) is not LSTM:
        raise TypeError(f"layer must be an LSTM, got {checks.no_layer(layer)}")
    other = [*layer.options.non_default()]
    other += [name for name in ("proj_size", "reverse") if getattr(layer, name)]
    other += ["bias=False"] * (not layer.bias)
    other += [f"merge={layer.merge!r}"] * (layer.merge != "concat")
    if other:
        raise ValueError(f"thinc's LSTM has no {', no '.join(other)}: leave it out")
