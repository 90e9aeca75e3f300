"""A read-out and an embedding: parts of a network that keep their parameters as layers do.

`params` are views into `flat`, one buffer, into which assignment copies (fastrnn/parameters.py); a
gradient comes as a buffer like it.
"""

from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.parameters import Trainable, size_of, views_of


class PartGradients(NamedTuple):
    """What a part's backward returns: of x, None where there is none, and of `flat`."""

    x: np.ndarray | None
    flat: np.ndarray


class _Part(Trainable):
    _fixed = frozenset({"inputs", "outputs", "ids", "features", "dtype"})

    def __init__(self, shapes, dtype):
        self.dtype = checks.dtype(dtype)
        self._hold(np.zeros(size_of(shapes), self.dtype), shapes)

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
    params : mapping
        weight and bias, views into flat; params[name] = values copies into it.
    flat : 1-D array
    """

    def __init__(self, inputs, outputs, *, dtype="float32", rng=None):
        self.inputs = checks.positive("inputs", inputs)
        self.outputs = checks.positive("outputs", outputs)
        super().__init__({"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}, dtype)
        bound = self.inputs**-0.5
        self.flat[...] = checks.generator("rng", rng).uniform(-bound, bound, self.flat.size)

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
    params : mapping
        weight, a view into flat; params[name] = values copies into it.
    flat : 1-D array
    """

    def __init__(self, ids, features, *, dtype="float32", rng=None):
        self.ids = checks.positive("ids", ids)
        self.features = checks.positive("features", features)
        super().__init__({"weight": (self.ids, self.features)}, dtype)
        self.flat[...] = checks.generator("rng", rng).standard_normal(self.flat.size)

    def __call__(self, x):
        """x (...), integers from 0 to ids - 1 -> y (..., features)."""
        return self.params["weight"][checks.ids("x", x, self.ids)]

    def backward(self, x, dy):
        """Gradient of a loss through y, x being the ids -> PartGradients, x None.

        An id that came many times gets the sum in the order in which it came.
        """
        x = checks.ids("x", x, self.ids)
        dy = checks.same_dtype("dy", checks.as_array("dy", dy), self.dtype)
        checks.shaped("dy", dy, None, (*x.shape, self.features))
        flat, _ = self._gradient()
        # Elements one by one, not rows: add.at has a fast loop for a single axis, about 4 times as
        # fast, in the same order; but for the largest tables faster than sums over sorted ids too.
        begins = x.reshape(-1, 1).astype(np.intp) * self.features
        np.add.at(flat, (begins + np.arange(self.features)).reshape(-1), dy.reshape(-1))
        return PartGradients(None, flat)
