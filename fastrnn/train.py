"""What stands around recurrent layers in training: a read-out, an embedding, losses, optimizers.

All of it is NumPy, for it is little beside the layers. Parts keep their parameters as layers do:
`params`, a dict of views into `flat`, one buffer; gradients come as buffers like it. So an
optimizer is made of a list of buffers, and a step takes a list of gradients.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn import checks
from fastrnn.parameters import size_of, views_of


class PartGradients(NamedTuple):
    """What a part's backward returns: of x, None where there is none, and of `flat`."""

    x: np.ndarray | None
    flat: np.ndarray


class _Part:
    def __init__(self, shapes, dtype):
        self._shapes = shapes
        self.dtype = checks.dtype(dtype)
        self.flat = np.zeros(size_of(shapes), self.dtype)
        self.params = views_of(self.flat, shapes)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "params"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.params = views_of(self.flat, self._shapes)

    def _gradient(self):
        flat = np.zeros(self.flat.size, self.dtype)
        return flat, views_of(flat, self._shapes)


class Dense(_Part):
    """y = x W^T + b over the last axis: a read-out of hidden states.

    Parameters
    ----------
    inputs, outputs : int
    dtype : {"float32", "float64"}
    rng : None, int or numpy.random.Generator
        weight (outputs, inputs) and bias (outputs,) begin uniform in +-1/sqrt(inputs), like
        PyTorch's.

    Attributes
    ----------
    params : dict
        weight and bias, views into flat.
    flat : 1-D array
    """

    def __init__(self, inputs, outputs, *, dtype="float32", rng=None):
        self.inputs = checks.positive("inputs", inputs)
        self.outputs = checks.positive("outputs", outputs)
        super().__init__({"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}, dtype)
        bound = self.inputs**-0.5
        self.flat[...] = np.random.default_rng(rng).uniform(-bound, bound, self.flat.size)

    def __call__(self, x):
        """x (..., inputs) -> y (..., outputs)."""
        return self._checked("x", x, self.inputs) @ self.params["weight"].T + self.params["bias"]

    def backward(self, x, dy):
        """Gradients of a loss through y, x being what y was made of -> PartGradients."""
        x, dy = self._checked("x", x, self.inputs), self._checked("dy", dy, self.outputs)
        rows, d_rows = x.reshape(-1, self.inputs), dy.reshape(-1, self.outputs)
        flat, views = self._gradient()
        np.matmul(d_rows.T, rows, out=views["weight"])
        np.sum(d_rows, axis=0, out=views["bias"])
        return PartGradients(dy @ self.params["weight"], flat)

    def _checked(self, name, array, features):
        array = checks.same_dtype(name, checks.as_array(name, array), self.dtype)
        if array.ndim < 1 or array.shape[-1] != features:
            raise ValueError(f"{name} must be (..., {features}), got {array.shape}")
        return array


class Embedding(_Part):
    """A row of a table for each id.

    Parameters
    ----------
    ids, features : int
        Rows and columns of the table.
    dtype : {"float32", "float64"}
    rng : None, int or numpy.random.Generator
        weight (ids, features) begins normal with standard deviation 1, like PyTorch's.

    Attributes
    ----------
    params : dict
        weight, a view into flat.
    flat : 1-D array
    """

    def __init__(self, ids, features, *, dtype="float32", rng=None):
        self.ids = checks.positive("ids", ids)
        self.features = checks.positive("features", features)
        super().__init__({"weight": (self.ids, self.features)}, dtype)
        self.flat[...] = np.random.default_rng(rng).standard_normal(self.flat.size)

    def __call__(self, x):
        """x (...), integers from 0 to ids - 1 -> y (..., features)."""
        return self.params["weight"][checks.ids("x", x, self.ids)]

    def backward(self, x, dy):
        """Gradient of a loss through y, x being the ids -> PartGradients, x None.

        An id that came many times gets the sum in the order in which it came.
        """
        x = checks.ids("x", x, self.ids)
        dy = checks.same_dtype("dy", checks.as_array("dy", dy), self.dtype)
        checks.shaped("dy", dy, [str(n) for n in (*x.shape, self.features)],
                      (*x.shape, self.features))  # fmt: skip
        flat, views = self._gradient()
        np.add.at(views["weight"], x.reshape(-1), dy.reshape(-1, self.features))
        return PartGradients(None, flat)


# ---- losses: the mean over all that is judged, and its gradient ---------------------------------


def _weighed(losses, gradient, weights):
    """Mean loss and its gradient, which has more axes where a target has many outputs."""
    if weights is None:
        share = np.full((), 1 / max(losses.size, 1), losses.dtype)
    else:
        weights = np.broadcast_to(np.asarray(weights, losses.dtype), losses.shape)
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


# ---- optimizers: in place, on lists of flat buffers ----------------------------------------------


def clip_by_norm(gradients, largest):
    """Scale gradients (a list of arrays), in place, to a common norm of at most `largest`.

    Returns
    -------
    norm : float
        Before. Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013.
    """
    norm = float(np.sqrt(sum(np.vdot(g, g) for g in gradients)))
    if norm > largest:
        for g in gradients:
            g *= g.dtype.type(largest / norm)
    return norm


def clip_by_value(gradients, largest):
    """Bring every element of gradients (a list of arrays), in place, to within +-largest."""
    for g in gradients:
        np.clip(g, -largest, largest, out=g)


class _Optimizer:
    def __init__(self, parameters, learning_rate):
        self.parameters = list(parameters)
        self.learning_rate = learning_rate

    def _zeros(self):
        return [np.zeros_like(p) for p in self.parameters]

    def _checked(self, gradients):
        """The gradients as a list, each of its parameter's shape; else nothing is changed."""
        gradients = list(gradients)
        wanted, got = ([np.shape(a) for a in arrays] for arrays in (self.parameters, gradients))
        if got != wanted:
            raise ValueError(
                f"gradients must be like the parameters, of shapes {wanted}, got {got}: "
                "compare their number and order"
            )
        return gradients


class SGD(_Optimizer):
    """Gradient descent with momentum: v = momentum * v + g; p -= learning_rate * v.

    Parameters
    ----------
    parameters : list of arrays
        Changed in place; `layer.flat`, for example.
    learning_rate : float
        An attribute too, which may be assigned.
    momentum : float
    """

    def __init__(self, parameters, learning_rate, momentum=0.0):
        super().__init__(parameters, learning_rate)
        self.momentum = momentum
        self.velocity = self._zeros()

    def step(self, gradients):
        """One update by gradients in the order of the parameters."""
        gradients = self._checked(gradients)
        for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            v *= v.dtype.type(self.momentum)
            v += g
            p -= p.dtype.type(self.learning_rate) * v


class Adam(_Optimizer):
    """Adam: Kingma and Ba, 2015, algorithm 1.

    Parameters
    ----------
    parameters : list of arrays
        Changed in place; `layer.flat`, for example.
    learning_rate : float
        An attribute too, which may be assigned.
    betas : pair of floats
        Of the running means of the gradient and of its square.
    epsilon : float
    """

    def __init__(self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), epsilon=1e-8):
        super().__init__(parameters, learning_rate)
        self.betas, self.epsilon = betas, epsilon
        self.mean, self.square = self._zeros(), self._zeros()
        self.updates = 0

    def step(self, gradients):
        """One update by gradients in the order of the parameters."""
        gradients = self._checked(gradients)
        self.updates += 1
        rates = [1 - beta for beta in self.betas]
        corrections = [1 - beta**self.updates for beta in self.betas]
        for p, m, s, g in zip(self.parameters, self.mean, self.square, gradients, strict=True):
            m += rates[0] * (g - m)
            s += rates[1] * (g * g - s)
            root = np.sqrt(s / corrections[1]) + self.epsilon
            p -= self.learning_rate / corrections[0] * m / root


# ---- windows -------------------------------------------------------------------------------------


def windows(series, length, horizon, batch_size, rng=None):
    """Minibatches of windows of a series and of the values that follow them, without copies.

    A minibatch's windows are evenly spread over the series, so each sees all of it.

    Parameters
    ----------
    series : (N,) or (N, F) array
    length : int
        T, steps of a window.
    horizon : int
        The target is the value so many steps after a window's last one; from 1.
    batch_size : int
        At most so many windows.
    rng : None, int or numpy.random.Generator
        Shuffles the order of the minibatches; None leaves it.

    Yields
    ------
    x : (T, B, F) view of series
    target : (B, F) view

    Raises
    ------
    ValueError, TypeError
        At once, for arguments that do not fit and a series too short for one window.
    """
    series = checks.as_array("series", series)
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2:
        raise ValueError(f"series must be (N,) or (N, F), got {series.shape}")
    length, horizon = checks.positive("length", length), checks.positive("horizon", horizon)
    count = len(series) - length - horizon + 1
    if count < 1:
        raise ValueError(
            f"series must have at least length + horizon = {length + horizon} values, got "
            f"{len(series)}: use a shorter window or horizon"
        )
    batches = -(-count // checks.positive("batch_size", batch_size))
    x = sliding_window_view(series, length, axis=0)[:count].transpose(2, 0, 1)
    order = np.arange(batches) if rng is None else np.random.default_rng(rng).permutation(batches)
    targets = series[length + horizon - 1 :]
    return ((x[:, i::batches], targets[i::batches]) for i in order)
