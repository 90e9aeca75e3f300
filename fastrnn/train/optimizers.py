"""Clipping and optimizers: in place, on lists of flat buffers."""

import numpy as np


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
