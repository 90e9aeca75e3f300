"""The first values of parameters. Each `init` has a function for each kind of parameter.

It must not know: layers.
"""

import contextlib
import math
from contextvars import ContextVar

import numpy as np

from fastrnn import checks


def _uniform(rng, shape, hidden):
    """PyTorch's distribution, for weights and biases alike."""
    bound = hidden**-0.5
    return rng.uniform(-bound, bound, shape)


def _glorot(rng, shape, hidden):
    """Glorot's uniform distribution for each gate's matrix, (hidden, shape[1])."""
    bound = math.sqrt(6 / (shape[1] + hidden))
    return rng.uniform(-bound, bound, shape)


def _orthogonal(rng, shape, hidden):
    """A random orthogonal matrix for each gate, or columns or rows of one. All are equally
    likely."""
    return np.concatenate([_rotation(rng, hidden, shape[1]) for _ in range(shape[0] // hidden)])


def _rotation(rng, rows, columns):
    if columns > rows:
        return _rotation(rng, columns, rows).T
    # A QR decomposition is unique up to signs. With a positive diagonal of R, all orthogonal
    # matrices are equally likely.
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.copysign(1, np.diagonal(r))


def _glorot_together(rng, shape, hidden):
    """Glorot's uniform distribution for the matrix of all gates, with shape[0] units."""
    return _glorot(rng, shape, shape[0])


def _orthogonal_together(rng, shape, hidden):
    """One matrix for all gates, with orthonormal columns, or orthonormal rows if it is wide."""
    return _rotation(rng, *shape)


def _zeros(rng, shape, hidden):
    return 0


_NO_BIAS = {"bias_ih": _zeros, "bias_hh": _zeros}

# A kind that is not listed here is drawn by _uniform.
_INITS = {
    "pytorch": {},
    "glorot": {"weight_ih": _glorot, "weight_hh": _glorot, **_NO_BIAS},
    "orthogonal": {"weight_ih": _orthogonal, "weight_hh": _orthogonal, **_NO_BIAS},
    "glorot_orthogonal": {"weight_ih": _glorot, "weight_hh": _orthogonal, **_NO_BIAS},
    "keras": {"weight_ih": _glorot_together, "weight_hh": _orthogonal_together, **_NO_BIAS},
}
_FORGET_BIASES = {"keras": 1.0}  # the default of each init: Keras' unit_forget_bias

INITS = tuple(_INITS)


_drawn = ContextVar("fastrnn._layer.initializers", default=True)


@contextlib.contextmanager
def skipped():
    """Layers that are made within get no first values, because others are loaded at once."""
    token = _drawn.set(False)
    try:
        yield
    finally:
        _drawn.reset(token)


def checked_init(init):
    """The name of a known init."""
    return checks.choice("init", init, INITS)


def checked_forget_bias(forget_bias, bias, coupled):
    """A float, or None.

    Raises
    ------
    ValueError, TypeError
        For a value that is no finite number, and for a layer without such a bias.
    """
    if forget_bias is None:
        return None
    number = checks.real("forget_bias", forget_bias, "a number or None")
    if not math.isfinite(number):
        raise ValueError(f"forget_bias must be finite, got {forget_bias}")
    if not bias or coupled:
        without = "bias=False has no biases" if not bias else "coupled=True has no forget gate"
        raise ValueError(f"forget_bias must be None where {without}, got {forget_bias}")
    return number


def begin(params, cell, init, forget_bias, rng):
    """Write the first values of a pass's parameters, in the order of the dict; not if `skipped`.

    Notes
    -----
    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
    2010; Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks, 2014; forget_bias: Jozefowicz, Zaremba and Sutskever, An empirical
    exploration of recurrent network architectures, 2015. "keras" is the default of the layers of
    Keras 3: glorot_uniform for the kernel (features, gates * hidden), orthogonal for the recurrent
    kernel (hidden, gates * hidden), zeros for biases, unit_forget_bias.
    """
    if not _drawn.get():
        return
    hidden, begins = len(params["weight_ih"]) // cell.gates, {e.kind: e.begins for e in cell.extras}
    for kind, array in params.items():
        if begins.get(kind) is not None:
            array[...] = begins[kind]
        else:
            array[...] = _INITS[init].get(kind, _uniform)(rng, array.shape, hidden)
    if forget_bias is None and _has_forget_bias(cell, params):
        forget_bias = _FORGET_BIASES.get(init)
    if forget_bias is not None:
        params["bias_ih"][hidden : 2 * hidden] += forget_bias  # gates i f g o


def _has_forget_bias(cell, params):
    coupled = cell.options is not None and cell.options.coupled
    return "c" in cell.states and not coupled and "bias_ih" in params
