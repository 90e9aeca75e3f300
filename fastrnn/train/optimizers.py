"""Clipping and optimizers: in place, on lists of flat buffers."""

import numpy as np

from fastrnn import checks


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
    _numbers = {"learning_rate": "f8"}  # what goes on with training, and its dtype in a state
    _buffers = ()  # likewise: lists of arrays, one for each parameter

    def __init__(self, parameters, learning_rate):
        self.parameters = list(parameters)
        self.learning_rate = learning_rate

    def state(self):
        """What training goes on from: a dict of arrays, copies."""
        return {name: array.copy() for name, array in self._state().items()}

    def load(self, state):
        """Go on from what `state` gave: its learning rate too.

        Raises
        ------
        ValueError, TypeError
            For names, shapes and dtypes that are not those of this optimizer, which is left as it
            was.
        """
        state = checks.arrays_like("state", state, self._state(), "the optimizer")
        for name in self._numbers:
            setattr(self, name, state[name].item())
        for name, array in self._arrays().items():
            array[...] = state[name]

    def _state(self):
        numbers = {n: np.array(getattr(self, n), dtype) for n, dtype in self._numbers.items()}
        return numbers | self._arrays()

    def _arrays(self):
        buffers = {name: getattr(self, name) for name in self._buffers}
        return {f"{name}.{i}": a for name, arrays in buffers.items() for i, a in enumerate(arrays)}

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

    _buffers = ("velocity",)

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

    _numbers = {**_Optimizer._numbers, "updates": "i8"}
    _buffers = ("mean", "square")

    def __init__(self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), epsilon=1e-8):
        super().__init__(parameters, learning_rate)
        self.betas, self.epsilon = betas, epsilon
        self.mean, self.square = self._zeros(), self._zeros()
        self.updates = 0

    def step(self, gradients):
        """One update by gradients in the order of the parameters."""
        gradients = self._checked(gradients)
        self.updates += 1
        pace = float(self.learning_rate)  # a float64 of NumPy's would make float32 wider
        rates = [1 - beta for beta in self.betas]
        corrections = [1 - beta**self.updates for beta in self.betas]
        for p, m, s, g in zip(self.parameters, self.mean, self.square, gradients, strict=True):
            m += rates[0] * (g - m)
            s += rates[1] * (g * g - s)
            root = np.sqrt(s / corrections[1]) + self.epsilon
            p -= pace / corrections[0] * m / root
