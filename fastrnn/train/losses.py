"""Losses: the mean over all that is judged, and its gradient."""

import numpy as np

from fastrnn import checks


def _weighed(losses, gradient, weights):
    """Mean loss and its gradient, which has more axes where a target has many outputs."""
    if weights is None:
        share = np.full((), 1 / max(losses.size, 1), losses.dtype)
    else:
        weights = np.broadcast_to(
            checks.plain("weights", weights).astype(losses.dtype), losses.shape
        )
        total = weights.sum()
        share = weights / total if total else np.zeros_like(weights)
    loss = float((losses * share).sum(dtype=np.float64))
    return loss, gradient * share.reshape(share.shape + (1,) * (gradient.ndim - losses.ndim))


def cross_entropy(logits, targets, weights=None):
    """Softmax cross-entropy: the mean of log sum exp(logits) - logits[target].

    Parameters
    ----------
    logits : (..., K) array
    targets : (...) integers from 0 to K - 1
    weights : array that broadcasts to targets, or None
        0 for what does not count, such as steps after a sequence's end.

    Returns
    -------
    loss : float
    gradient : array like logits

    Raises
    ------
    ValueError, TypeError
        For shapes that do not agree and for targets that are no classes.
    """
    logits = checks.as_array("logits", logits)
    targets = checks.ids("targets", targets, logits.shape[-1] if logits.ndim else 0)
    checks.shaped("targets", targets, [str(n) for n in logits.shape[:-1]], logits.shape[:-1])
    shifted = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, targets[..., None], axis=-1)
    gradient = powers / total
    np.put_along_axis(
        gradient, targets[..., None], np.take_along_axis(gradient, targets[..., None], -1) - 1, -1
    )
    return _weighed((np.log(total) - chosen)[..., 0], gradient, weights)


def binary_cross_entropy(logits, targets, weights=None):
    """Cross-entropy of sigmoid(logits) with targets from 0 to 1, computed from the logits.

    log(1 + exp(logits)) - logits * targets, in a form that does not overflow. Parameters and
    returns as for `cross_entropy`, targets like logits.
    """
    logits, targets = _alike("logits", logits, "targets", targets)
    losses = np.logaddexp(0, logits) - logits * targets
    return _weighed(losses, np.exp(-np.logaddexp(0, -logits)) - targets, weights)


def mean_squared_error(y, targets, weights=None):
    """The mean of (y - targets)**2, and its gradient; targets and weights are like y."""
    y, targets = _alike("y", y, "targets", targets)
    error = y - targets
    return _weighed(error * error, 2 * error, weights)


def _alike(name, array, other_name, other):
    array = checks.as_array(name, array)
    other = checks.same_dtype(other_name, checks.as_array(other_name, other), array.dtype, name)
    checks.shaped(other_name, other, [str(n) for n in array.shape], array.shape)
    return array, other
