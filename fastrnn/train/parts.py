"""A head and an embedding: parts of a network that keep their parameters as layers do.

`params` are views into `flat`, one buffer; assignment copies into it
(fastrnn/_layer/parameters.py). A gradient is a buffer of the same layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._layer.parameters import Trainable, size_of, views_of
from fastrnn.reference.dense import ACTIVATIONS, activation_backward, dense

if TYPE_CHECKING:
    from typing import SupportsIndex

    from numpy.typing import ArrayLike

    from fastrnn._typing import HeadActivation
    from fastrnn.train.protocols import FloatDType, Floats, Seed

# The most rows of a float32 product of NumPy. Such a product sums hundreds of terms in a chain,
# then the chains. If the terms are similar, the errors of all chains have the same sign: then the
# error is 3e-5 of the sum at 4,096 rows, and more with more rows.
_FEW_ROWS = 4096
_AT_ONCE = 2**14  # elements that are cast to float64 at a time; they fit the caches


class PartGradients(NamedTuple):
    """The gradients that a part's backward returns: of x, None for an embedding, and of `flat`.

    Examples
    --------
    >>> from fastrnn import train
    >>> embedding = train.Embedding(5, 2, dtype="float64", rng=0)
    >>> gradients = embedding.backward([1, 1], [[1.0, 2.0], [3.0, 4.0]])
    >>> gradients.x, gradients.flat[2:4]
    (None, array([4., 6.]))
    """

    x: Floats | Any  # None for an embedding; Any spares users of a head an assert
    flat: Floats


class _Part(Trainable):
    _fixed = frozenset({"inputs", "outputs", "activation", "ids", "features", "dtype"})

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: FloatDType) -> None:
        self.dtype: np.dtype[np.floating[Any]] = checks.dtype(dtype)
        self._hold(np.zeros(size_of(shapes), self.dtype), shapes)

    def _gradient(self):
        flat = np.zeros(self.flat.size, self.dtype)
        return flat, views_of(flat, self._shapes)


class Dense(_Part):
    """y = activation(x W^T + b) over the last axis: a head on hidden states.

    `layer.freeze(head=...)` computes it together with a layer.

    Parameters
    ----------
    inputs, outputs : int
    activation : None, "sigmoid" or "softmax"
        None for losses that take logits, as those of this package do.
    dtype : {"float32", "float64"}
    rng : None, int or numpy.random.Generator
        weight (outputs, inputs) and bias (outputs,) begin uniform in +-1/sqrt(inputs), like
        PyTorch's.

    Attributes
    ----------
    params : mapping
        weight and bias, views into flat; params[name] = values copies into it.
    flat : 1-D array

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> head, hidden = train.Dense(3, 2, rng=0), np.ones((5, 4, 3), "float32")
    >>> y = head(hidden)
    >>> y.shape
    (5, 4, 2)
    >>> gradients = head.backward(hidden, np.ones_like(y))
    >>> gradients.x.shape, gradients.flat.shape
    ((5, 4, 3), (8,))
    """

    def __init__(
        self,
        inputs: SupportsIndex,
        outputs: SupportsIndex,
        *,
        activation: HeadActivation = None,
        dtype: FloatDType = "float32",
        rng: Seed = None,
    ) -> None:
        self.inputs: int = checks.positive("inputs", inputs)
        self.outputs: int = checks.positive("outputs", outputs)
        self.activation: HeadActivation = activation
        if activation is not None:
            checks.choice("activation", activation, ACTIVATIONS)
        super().__init__({"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}, dtype)
        bound = self.inputs**-0.5
        self.flat[...] = checks.generator("rng", rng).uniform(-bound, bound, self.flat.size)

    def __call__(self, x: ArrayLike) -> Floats:
        """x (..., inputs) -> y (..., outputs).

        Parameters
        ----------
        x : array of the part's dtype

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> head = train.Dense(3, 2, rng=0)
        >>> head.params["bias"] = np.array([1.0, 2.0], "float32")
        >>> head(np.zeros(3, "float32"))
        array([1., 2.], dtype=float32)
        """
        return self._outputs(self._checked("x", x, self.inputs))

    def _outputs(self, x):
        return dense(x, self.params["weight"], self.params["bias"], self.activation)

    def backward(self, x: ArrayLike, dy: ArrayLike) -> PartGradients:
        """Compute the gradients of a loss of y.

        Parameters
        ----------
        x : (..., inputs) array
            The x that y was computed from.
        dy : (..., outputs) array

        Returns
        -------
        PartGradients

        Raises
        ------
        ValueError, TypeError
            For shapes and dtypes that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> head, x = train.Dense(2, 1, dtype="float64", rng=0), np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> head.backward(x, np.ones((2, 1))).flat  # of weight, then of bias
        array([4., 6., 2.])
        """
        x, dy = self._checked("x", x, self.inputs), self._checked("dy", dy, self.outputs)
        checks.shaped("dy", dy, None, (*x.shape[:-1], self.outputs))
        if self.activation is not None:
            dy = activation_backward(self._outputs(x), dy, self.activation)
        rows, d_rows = x.reshape(-1, self.inputs), dy.reshape(-1, self.outputs)
        flat, views = self._gradient()
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            views["weight"][...] = _products(d_rows, rows)
            views["bias"][...] = d_rows.sum(axis=0, dtype=np.float64)
            return PartGradients(dy @ self.params["weight"], flat)

    def _checked(self, name, array, features):
        array = checks.of_dtype(name, array, self.dtype)
        if array.ndim < 1 or array.shape[-1] != features:
            raise ValueError(f"{name} must be (..., {features}), got {array.shape}")
        return array


class Embedding(_Part):
    """A table of features: y has the features of each id in x.

    Parameters
    ----------
    ids, features : int
        The number of ids, and of features for each id.
    dtype : {"float32", "float64"}
    rng : None, int or numpy.random.Generator
        weight (ids, features) begins normal with standard deviation 1, like PyTorch's.

    Attributes
    ----------
    params : mapping
        weight, a view into flat; params[name] = values copies into it.
    flat : 1-D array

    Examples
    --------
    >>> from fastrnn import train
    >>> table = train.Embedding(100, 8, rng=0)
    >>> table([[3, 1], [4, 1]]).shape
    (2, 2, 8)

    A layer reads ids through the table itself, and computes the table's gradient:

    >>> import numpy as np
    >>> import fastrnn
    >>> layer, ids = fastrnn.GRU(8, 5, rng=0), np.array([[3, 1], [4, 1]])
    >>> adam = train.Adam([layer, table], 0.01)
    >>> y, h, tape = layer.forward(ids, embedding=table.params["weight"])
    >>> grads = tape.backward(np.ones_like(y))
    >>> adam.step([grads, grads.embedding])
    """

    def __init__(
        self,
        ids: SupportsIndex,
        features: SupportsIndex,
        *,
        dtype: FloatDType = "float32",
        rng: Seed = None,
    ) -> None:
        self.ids: int = checks.positive("ids", ids)
        self.features: int = checks.positive("features", features)
        super().__init__({"weight": (self.ids, self.features)}, dtype)
        self.flat[...] = checks.generator("rng", rng).standard_normal(self.flat.size)

    def __call__(self, x: ArrayLike) -> Floats:
        """x (...), integers from 0 to ids - 1 -> y (..., features).

        Parameters
        ----------
        x : array of integers

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> table = train.Embedding(3, 2)
        >>> table.flat = np.arange(6, dtype="float32")
        >>> table([2, 0])
        array([[4., 5.],
               [0., 1.]], dtype=float32)
        """
        return self.params["weight"][checks.ids("x", x, self.ids)]

    def backward(self, x: ArrayLike, dy: ArrayLike) -> PartGradients:
        """Compute the gradient of a loss of y.

        For an id that occurs several times, its gradients are added in float64, in the order of x.

        Parameters
        ----------
        x : (...) array of ids
            The x that y was computed from.
        dy : (..., features) array

        Returns
        -------
        PartGradients
            The field x is None.

        Raises
        ------
        ValueError, TypeError
            For shapes and dtypes that do not fit.

        Examples
        --------
        >>> from fastrnn import train
        >>> table = train.Embedding(3, 1, dtype="float64", rng=0)
        >>> table.backward([2, 0, 2], [[1.0], [10.0], [100.0]]).flat
        array([ 10.,   0., 101.])
        """
        x = checks.ids("x", x, self.ids)
        dy = checks.of_dtype("dy", dy, self.dtype)
        checks.shaped("dy", dy, None, (*x.shape, self.features))
        # add.at gets single elements, because its loop over one axis is about 4 times as fast as
        # that over vectors, in the same order. Sums over sorted ids are slower than add.at, unless
        # the table is very large.
        begins = x.reshape(-1, 1).astype(np.intp) * self.features
        d_rows, total = dy.reshape(-1, self.features), np.zeros(self.flat.size)
        at_once = max(1, _AT_ONCE // self.features)
        with np.errstate(all="ignore"):
            for rows in (slice(i, i + at_once) for i in range(0, len(begins), at_once)):
                elements = (begins[rows] + np.arange(self.features)).reshape(-1)
                np.add.at(total, elements, d_rows[rows].astype(np.float64).reshape(-1))
            return PartGradients(None, total.astype(self.dtype))


def _products(left, right):
    """left^T right, a sum over rows; in float64 if there are many rows."""
    if len(left) <= _FEW_ROWS:
        return left.T @ right
    total = np.zeros((left.shape[1], right.shape[1]))
    for begin in range(0, len(left), _FEW_ROWS):
        rows = slice(begin, begin + _FEW_ROWS)
        total += left[rows].T.astype(np.float64) @ right[rows].astype(np.float64)
    return total
