"""Clipping and optimizers: in place, on lists of arrays.

It must not know: networks. A parameter is an array that a step changes in place, most often the
`flat` of a layer or a part. An argument is refused if a step would not change the caller's array.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.train.buffers import items, listed, matrix_shape, writeable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.train.protocols import Buffers, Floats


@np.errstate(under="ignore")  # a tiny number is rounded, to 0 at last
def clip_by_norm(gradients: Buffers, largest: float) -> float:
    """Scale gradients, in place, to a common norm of at most `largest`.

    Parameters
    ----------
    gradients : list of arrays, or one array
        float32 or float64, not read-only.
    largest : float
        From 0 up. With infinity the gradients do not change, and only their norm is computed.

    Returns
    -------
    norm : float
        The norm before scaling, summed in float64, so that neither large nor small elements are
        lost. A norm beyond float64 is infinite; then finite elements are still scaled. If an
        element is NaN or infinite, the gradients do not change. Pascanu, Mikolov and Bengio, On the
        difficulty of training recurrent neural networks, 2013.

    Raises
    ------
    ValueError, TypeError
        For gradients that cannot be changed in place, a gradient that is in the list twice, and a
        `largest` that is no norm.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> gradient = np.array([3.0, 4.0])
    >>> train.clip_by_norm([gradient], 1.0), gradient
    (5.0, array([0.6, 0.8]))
    """
    gradients, largest = writeable("gradients", gradients, parts=False), _largest(largest)
    norm = math.hypot(*map(_norm, gradients))
    scaled, unit = norm, 1.0
    if norm == math.inf:  # the elements may still be finite
        unit = 2.0**-100
        scaled = math.hypot(*(_norm(np.multiply(g, unit, dtype=np.float64)) for g in gradients))
    if largest < norm and scaled < math.inf:
        for g in gradients:
            np.multiply(g, largest * unit / scaled, out=g, dtype=np.float64, casting="same_kind")
    return norm


def _norm(array):
    """The norm of an array, measured in units of its largest element."""
    top = np.abs(array).max(initial=0)
    if not 0 < top < math.inf:
        return float(top)
    parts = (array / top).reshape(-1)
    return float(top) * math.sqrt(np.einsum("i,i", parts, parts, dtype=np.float64))


def clip_by_value(gradients: Buffers, largest: float) -> None:
    """Limit every element of gradients, in place, to +-largest; NaN stays NaN.

    Parameters
    ----------
    gradients : list of arrays, or one array
        float32 or float64, not read-only.
    largest : float
        From 0 up; infinity changes nothing.

    Raises
    ------
    ValueError, TypeError
        As for `clip_by_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> gradient = np.array([3.0, -0.5])
    >>> train.clip_by_value(gradient, 1.0)
    >>> gradient
    array([ 1. , -0.5])
    """
    gradients, largest = writeable("gradients", gradients, parts=False), _largest(largest)
    for g in gradients:
        most = float(np.finfo(g.dtype).max)  # a larger number would overflow in the cast
        most = min(largest, most) if largest < math.inf else largest
        np.clip(g, -most, most, out=g)


def _largest(value):
    return checks.number("largest", value, "a number of at least 0", lambda n: n >= 0)


def _finite(name, value):
    """A finite float of at least 0."""
    wanted = "a finite number of at least 0"
    return checks.number(name, value, wanted, lambda n: 0 <= n < math.inf)


class _Optimizer:
    _numbers = {"learning_rate": "f8"}  # the numbers in a state, with their dtypes
    _buffers = ()  # the lists of arrays in a state; each has an array for each parameter

    def __init__(self, parameters: Buffers, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        given = items("parameters", parameters)
        self.parameters: list[Floats] = writeable("parameters", given)
        self._shapes = [matrix_shape(value) for value in given]  # a layer's gradient has this shape

    @property
    def learning_rate(self) -> float:
        """The factor of every step. Assignment checks the number."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate: float = _finite("learning_rate", value)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the state that training continues from, as a dict of arrays, all copies.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> sorted(train.SGD(np.ones(3), 0.1, momentum=0.9).state())
        ['learning_rate', 'velocity.0']
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load(self, state: Mapping[str, ArrayLike]) -> None:
        """Load the result of `state`, the learning rate included.

        Parameters
        ----------
        state : mapping
            The state of an optimizer of the same kind, with parameters of the same shapes and
            dtypes.

        Raises
        ------
        ValueError, TypeError
            For names, shapes and dtypes that are not those of this optimizer, and for numbers out
            of range; then the optimizer does not change.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> one, other = train.Adam(np.ones(3), 0.1), train.Adam(np.ones(3))
        >>> one.step(np.ones(3))
        >>> other.load(one.state())
        >>> other.learning_rate, other.updates
        (0.1, 1)
        """
        state = checks.arrays_like("state", state, self._state(), "the optimizer")
        numbers = {name: state[name].item() for name in self._numbers}
        _finite("learning_rate of state", numbers["learning_rate"])
        checks.positive("updates of state", numbers.get("updates", 0), least=0)
        arrays = self._arrays()
        for name, number in numbers.items():
            setattr(self, name, number)
        for name, array in arrays.items():
            array[...] = state[name]

    def _state(self):
        numbers = {n: np.array(getattr(self, n), dtype) for n, dtype in self._numbers.items()}
        return numbers | self._arrays()

    def _arrays(self):
        buffers = {name: getattr(self, name) for name in self._buffers}
        return {f"{name}.{i}": a for name, arrays in buffers.items() for i, a in enumerate(arrays)}

    def _zeros(self):
        return [np.zeros_like(p) for p in self.parameters]

    def __copy__(self):
        """A copy refers to the same parameters and has copies of the arrays in `_buffers`."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__.update({n: [a.copy() for a in getattr(self, n)] for n in self._buffers})
        return new

    # No value has the type NoReturn, so a type checker refuses an assignment to an unknown name.
    def __setattr__(self, name: str, value: NoReturn) -> None:  # type: ignore[override]
        """Refuse unknown names: an assigned `lr`, for example, would have no effect."""
        if self.__dict__.get("_closed") and not hasattr(self, name):
            names = ", ".join(n for n in self.__dict__ if not n.startswith("_"))
            raise AttributeError(
                f"{type(self).__name__} has no {name}: it has learning_rate, {names}"
            )
        super().__setattr__(name, value)

    def _fix(self, owner):
        """Refuse unknown names from now on; subclasses of `owner` may add attributes."""
        self.__dict__["_closed"] = type(self) is owner

    def _checked(self, gradients):
        """The gradients as arrays like the parameters, checked before anything changes."""
        gradients = [
            checks.as_array(f"gradients[{index}]", gradient)
            for index, gradient in enumerate(listed("gradients", gradients, parts=False))
        ]
        if len(gradients) == len(self.parameters):
            pairs = zip(gradients, self._shapes, strict=True)
            gradients = [g.reshape(-1) if g.shape == shape else g for g, shape in pairs]
        wanted, got = ([a.shape for a in arrays] for arrays in (self.parameters, gradients))
        if got != wanted:
            raise ValueError(
                f"gradients must be like the parameters, of shapes {wanted}, got {got}: "
                + _hint_of_shapes(wanted, got, self._shapes)
            )
        for index, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            checks.same_dtype(f"gradients[{index}]", g, p.dtype, f"parameters[{index}]")
        return gradients


def _hint_of_shapes(wanted, got, shapes):
    """The likely fix, for gradients of other shapes than the parameters."""
    if list(map(math.prod, wanted)) != list(map(math.prod, got)):
        return "compare their number and order"
    index = next(i for i, pair in enumerate(zip(wanted, got, strict=True)) if pair[0] != pair[1])
    if shapes[index] is not None:
        return f"gradients[{index}] may also be {shapes[index]}: transposed?"
    if len(wanted[index]) != 1:
        return f"give gradients[{index}].reshape({wanted[index]})"
    return f"give the optimizer the parts and not their flat, or gradients[{index}].ravel()"


class SGD(_Optimizer):
    """Gradient descent with momentum: v = momentum * v + g; p -= learning_rate * v.

    With weight_decay, g is the gradient + weight_decay * p, as in PyTorch's SGD.

    Parameters
    ----------
    parameters : list of arrays or parts, or one of them
        Arrays of float32 or float64 that a step changes in place, for example `layer.flat`. A layer
        or another part stands for its `flat`. No two may share memory.
    learning_rate : float
        Finite, from 0 up. The attribute of this name may be assigned.
    momentum : float
        From 0 to 1.
    weight_decay : float
        Finite, from 0 up. It acts on all parameters, biases too, as in PyTorch. To leave some out,
        give them an optimizer of their own.

    Raises
    ------
    ValueError, TypeError
        For parameters that cannot be trained in place, and for numbers out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> w = np.array([1.0, 2.0])
    >>> sgd = train.SGD([w], 0.5)
    >>> sgd.step([np.array([1.0, -1.0])])
    >>> w
    array([0.5, 2.5])
    """

    _buffers = ("velocity",)

    def __init__(
        self,
        parameters: Buffers,
        learning_rate: float,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate)
        self.weight_decay: float = _finite("weight_decay", weight_decay)
        self.momentum: float = checks.number(
            "momentum", momentum, "from 0 to 1", lambda n: 0 <= n <= 1
        )
        self.velocity: list[Floats] = self._zeros()
        self._fix(SGD)

    @np.errstate(under="ignore")
    def step(self, gradients: Buffers) -> None:
        """Update the parameters by gradients.

        Parameters
        ----------
        gradients : list of arrays, or one array
            Each is like its parameter, or has such an array `flat`, as results of `backward` do.
            For an `Embedding` it may also have the shape of its table, as the `embedding` of a
            layer's gradients has.

        Raises
        ------
        ValueError, TypeError
            For gradients that are not like the parameters; nothing is changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> w = np.array([1.0, 2.0])
        >>> train.SGD(w, 0.5).step(np.array([1.0, -1.0]))
        >>> w
        array([0.5, 2.5])
        """
        gradients = self._checked(gradients)
        for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            v *= v.dtype.type(self.momentum)
            v += g + p.dtype.type(self.weight_decay) * p if self.weight_decay else g
            p -= p.dtype.type(self.learning_rate) * v


def _betas(betas):
    """A pair of Python floats: with NumPy's float64 a float32 step would compute in float64."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        got = len(betas) if isinstance(betas, tuple | list) else type(betas).__name__
        raise TypeError(f"betas must be a pair of numbers, got {got}")
    wanted = "from 0 to below 1"
    return tuple(
        checks.number(f"betas[{index}]", beta, wanted, lambda n: 0 <= n < 1)
        for index, beta in enumerate(betas)
    )


class Adam(_Optimizer):
    """Adam: Kingma and Ba, 2015, algorithm 1; AdamW with weight_decay.

    Parameters
    ----------
    parameters, learning_rate
        As for `SGD`.
    betas : pair of floats
        The factors of the running means of the gradient and of its square; from 0 to below 1.
    epsilon : float
        Finite, above 0.
    weight_decay : float
        Finite, from 0 up. Before a step each parameter is multiplied by
        1 - learning_rate * weight_decay: Loshchilov and Hutter, Decoupled weight decay
        regularization, 2019, as in PyTorch's AdamW (whose default is 0.01). It acts on all
        parameters, biases too, as in PyTorch. To leave some out, give them an optimizer of their
        own.

    Raises
    ------
    ValueError, TypeError
        As for `SGD`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> head = train.Dense(3, 2, rng=0)
    >>> adam = train.Adam([head], 0.01)  # the same as train.Adam([head.flat], 0.01)
    >>> x = np.ones((4, 3), "float32")
    >>> loss, dy = train.mean_squared_error(head(x), np.zeros((4, 2)))
    >>> adam.step([head.backward(x, dy).flat])
    >>> train.mean_squared_error(head(x), np.zeros((4, 2)))[0] < loss
    True
    """

    _numbers = {**_Optimizer._numbers, "updates": "i8"}
    _buffers = ("mean", "square")

    def __init__(
        self,
        parameters: Buffers,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] | list[float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate)
        wanted = "a finite number above 0"  # with 0, a gradient of 0 would give 0 / 0
        self.epsilon: float = checks.number("epsilon", epsilon, wanted, lambda n: 0 < n < math.inf)
        self.betas: tuple[float, float] = _betas(betas)
        self.weight_decay: float = _finite("weight_decay", weight_decay)
        self.mean: list[Floats] = self._zeros()
        self.square: list[Floats] = self._zeros()
        self.updates = 0
        self._fix(Adam)

    def step(self, gradients: Buffers) -> None:
        """Update the parameters by gradients.

        Parameters
        ----------
        gradients : list of arrays, or one array
            Each is like its parameter, or has such an array `flat`, as results of `backward` do.
            For an `Embedding` it may also have the shape of its table, as the `embedding` of a
            layer's gradients has.

        Raises
        ------
        ValueError, TypeError
            For gradients that are not like the parameters; nothing is changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> w = np.array([1.0, 2.0])
        >>> train.Adam(w, 0.1).step(np.array([1.0, -1.0]))
        >>> w.round(3)
        array([0.9, 2.1])
        """
        gradients = self._checked(gradients)
        self.updates += 1
        pace = self.learning_rate
        rates = [1 - beta for beta in self.betas]
        corrections = [1 - beta**self.updates for beta in self.betas]
        for p, m, s, g in zip(self.parameters, self.mean, self.square, gradients, strict=True):
            with np.errstate(over="ignore", under="ignore"):
                squares = np.minimum(g * g, np.finfo(s.dtype).max)  # inf - inf would be NaN
                m += rates[0] * (g - m)
                s += rates[1] * (squares - s)
                root = np.sqrt(s / corrections[1]) + self.epsilon
                if self.weight_decay:
                    p *= 1 - pace * self.weight_decay
                p -= pace / corrections[0] * m / root
