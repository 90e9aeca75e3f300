"""What parameters are before training: a row of functions for each way to begin.

It must not know: layers.
"""

import math

import numpy as np

from fastrnn import checks
from fastrnn.options import real


def _uniform(rng, shape, hidden):
    """PyTorch's, for weights and biases alike."""
    bound = hidden**-0.5
    return rng.uniform(-bound, bound, shape)


def _glorot(rng, shape, hidden):
    """Each gate's matrix, from shape[1] features to `hidden` units."""
    bound = math.sqrt(6 / (shape[1] + hidden))
    return rng.uniform(-bound, bound, shape)


def _orthogonal(rng, shape, hidden):
    """Each gate's matrix a random rotation or reflection, or columns or rows of one, all equally
    likely."""
    return np.concatenate([_rotation(rng, hidden, shape[1]) for _ in range(shape[0] // hidden)])


def _rotation(rng, rows, columns):
    if columns > rows:
        return _rotation(rng, columns, rows).T
    # Of the decomposition's many results the one with a positive diagonal: else not all are
    # equally likely.
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.copysign(1, np.diagonal(r))


def _zeros(rng, shape, hidden):
    return 0


_NO_BIAS = {"bias_ih": _zeros, "bias_hh": _zeros}

# What a row does not name begins uniform.
_INITS = {
    "pytorch": {},
    "glorot": {"weight_ih": _glorot, "weight_hh": _glorot, **_NO_BIAS},
    "orthogonal": {"weight_ih": _orthogonal, "weight_hh": _orthogonal, **_NO_BIAS},
    "glorot_orthogonal": {"weight_ih": _glorot, "weight_hh": _orthogonal, **_NO_BIAS},
}

INITS = tuple(_INITS)


def checked_init(init):
    """The name of a way to begin."""
    return checks.choice("init", init, INITS)


def checked_forget_bias(forget_bias, bias, coupled):
    """A float, or None.

    Raises
    ------
    ValueError, TypeError
        For what is no finite number, and where there is no such bias.
    """
    if forget_bias is None:
        return None
    number = real("forget_bias", forget_bias, "a number or None")
    if not math.isfinite(number):
        raise ValueError(f"forget_bias must be finite, got {forget_bias}")
    if not bias or coupled:
        without = "bias=False has no biases" if not bias else "coupled=True has no forget gate"
        raise ValueError(f"forget_bias must be None where {without}, got {forget_bias}")
    return number


def begin(params, cell, init, forget_bias, rng):
    """Write the first values of the parameters of a pass, by kind, in their order.

    Notes
    -----
    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
    2010; Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks, 2014; forget_bias: Jozefowicz, Zaremba and Sutskever, An empirical
    exploration of recurrent network architectures, 2015.
    """
    hidden, begins = len(params["weight_hh"]) // cell.gates, {e.kind: e.begins for e in cell.extras}
    for kind, array in params.items():
        if begins.get(kind) is not None:
            array[...] = begins[kind]
        else:
            array[...] = _INITS[init].get(kind, _uniform)(rng, array.shape, hidden)
    if forget_bias is not None:
        params["bias_ih"][hidden : 2 * hidden] += forget_bias  # gates i f g o
