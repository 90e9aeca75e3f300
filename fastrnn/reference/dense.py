"""The dense layer in plain NumPy: what a head computes of h, and the derivative.

    (D1)  p = W h + b
    (D2)  y = p,  y = sigmoid(p),  or  y_i = exp(p_i) / sum_j exp(p_j)        (softmax)
    (D3)  dp = dy,  dp = dy y (1 - y),  or  dp_i = y_i (dy_i - sum_j dy_j y_j)

It must not know: cells, layers, time.
"""

import numpy as np

from fastrnn.reference.cells import sigmoid

ACTIVATIONS = (None, "sigmoid", "softmax")


def dense(h, weight, bias, activation=None):
    """Compute (D1) and (D2).

    Parameters
    ----------
    h : (..., inputs) array
    weight : (outputs, inputs) array
    bias : (outputs,) array
    activation : None, "sigmoid" or "softmax"

    Returns
    -------
    (..., outputs) array

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.reference.dense import dense
    >>> dense(np.ones(2), np.array([[1.0, 2.0]]), np.array([-3.0]), "sigmoid")
    array([0.5])
    """
    with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
        p = h @ weight.T + bias
        if activation == "sigmoid":
            return sigmoid(p)
        if activation == "softmax":
            y = np.exp(p - p.max(axis=-1, keepdims=True))
            return y / y.sum(axis=-1, keepdims=True)
    return p


def activation_backward(y, dy, activation=None):
    """Compute (D3).

    Parameters
    ----------
    y, dy : (..., outputs) arrays
        What `dense` returned, and the gradient of a loss of it.
    activation : None, "sigmoid" or "softmax"

    Returns
    -------
    (..., outputs) array
        The gradient of p.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.reference.dense import activation_backward
    >>> activation_backward(np.array([0.5]), np.array([2.0]), "sigmoid")
    array([0.5])
    """
    with np.errstate(all="ignore"):
        if activation == "sigmoid":
            return dy * y * (1 - y)
        if activation == "softmax":
            return y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dy
