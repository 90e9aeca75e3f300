"""ONNX's operators around recurrent nodes, in NumPy: they arrange arrays, and multiply sizes.

Programs that write models use them to arrange weights, states and outputs.

It must not know: recurrent nodes, files.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import AttributeProto

from fastrnn.checks import shown
from fastrnn.onnx._attributes import has_type, value_of
from fastrnn.onnx._tensors import array_of, dtype_of

_INT, _INTS, _FLOAT, _FLOATS, _TENSOR = (
    AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.FLOATS,
    AttributeProto.TENSOR,
)  # fmt: skip

# The attributes of all these operators; one name has one type in all of them.
_TYPES = {
    "allowzero": _INT, "axes": _INTS, "axis": _INT, "end": _INT, "ends": _INTS,
    "num_outputs": _INT, "perm": _INTS, "saturate": _INT, "split": _INTS, "start": _INT,
    "starts": _INTS, "to": _INT, "value": _TENSOR, "value_float": _FLOAT,
    "value_floats": _FLOATS, "value_int": _INT, "value_ints": _INTS,
}  # fmt: skip

# The operators of which inputs after the first may be left out.
_OPTIONAL = {"Slice", "Split", "Squeeze", "Unsqueeze"}


def known(node):
    """Return whether there is an `Operation` for this node."""
    return node.domain in ("", "ai.onnx") and node.op_type in _OPERATORS


class Operation:
    """A node, as a function from its inputs to a list of its outputs.

    node : NodeProto, of an operator that is known
    source : the model's `Source`, which bounds the bytes of new arrays

    A call raises ValueError for inputs that do not fit; the message names the operator, and not the
    node. An input that is left out is None.
    """

    def __init__(self, node, source):
        self.source, self.spend, self.count = source, source.spend, len(node.output)
        self._name = node.op_type
        self._function, known = _OPERATORS[node.op_type]
        self.attributes = {}
        for attribute in node.attribute:
            name = attribute.name
            if name not in known or not has_type(attribute, _TYPES[name]):
                raise ValueError(
                    f"{self._name} has an attribute {shown(name)!r} that is not known, or of "
                    "another type"
                )
            self.attributes[name] = value_of(attribute)
        self.get = self.attributes.get

    def __call__(self, inputs):
        needed = inputs[:1] if self._name in _OPTIONAL else inputs
        if any(array is None for array in needed):
            raise ValueError(f"{self._name} must have all of its inputs")
        try:
            # NumPy makes scalars of some arrays without axes.
            return [np.asarray(array) for array in self._function(self, *inputs)]
        except KeyError as error:  # of `attributes`
            raise ValueError(f"{self._name} must have the attribute {error}") from None
        except (IndexError, ArithmeticError) as error:
            raise ValueError(f"{self._name}: {error}") from None
        except TypeError as error:  # a number of inputs that does not fit
            raise ValueError(f"inputs or attributes of {self._name} do not fit: {error}") from None

    def ints(self, name, array):
        """Integers that later opsets have as an input and earlier ones as an attribute."""
        return self.get(name) if array is None else _ints(array)


def _ints(array):
    """A list of ints, from a 1-D array of integers, or a 0-D one."""
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 64:
        raise ValueError(
            f"sizes and axes must be a list of at most 64 integers, got {array.dtype} of shape "
            f"{array.shape}"
        )
    return [int(value) for value in array.reshape(-1)]


def _constant(call):
    given = call.attributes
    if len(given) != 1:
        raise ValueError("a Constant must have one value")
    ((name, value),) = given.items()
    if name == "value":
        return [array_of(value, call.source, "a Constant")]
    dtype = {"value_int": "i8", "value_ints": "i8", "value_float": "f4", "value_floats": "f4"}[name]
    return [np.array(value, dtype)]


def _reshape(call, x, shape):
    wanted = _ints(shape)
    if not call.get("allowzero", 0):
        wanted = [x.shape[k] if size == 0 else size for k, size in enumerate(wanted)]
    call.spend(x.nbytes)
    return [x.reshape(wanted)]


def _squeeze(call, x, axes=None):
    axes = call.ints("axes", axes)
    return [x.squeeze(None if axes is None else tuple(axes))]


def _unsqueeze(call, x, axes=None):
    return [np.expand_dims(x, tuple(call.ints("axes", axes)))]


def _transpose(call, x):
    return [x.transpose(call.get("perm"))]


def _slice(call, x, *inputs):
    names = ("starts", "ends", "axes", "steps")
    inputs = (*inputs, *[None] * (4 - len(inputs)))
    starts, ends, axes, steps = [call.ints(n, a) for n, a in zip(names, inputs, strict=True)]
    axes = [*range(len(starts))] if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Of a negative step, a start before the first element is that element here, and an end
        # before it, which Python writes as None, is behind that element.
        size = x.shape[axis]
        if step < 0:
            start, end = start if start >= -size else 0, end if end >= -size else None
        cut[axis] = slice(start, end, step)
    return [x[tuple(cut)]]


def _concat(call, *arrays):
    call.spend(sum(array.nbytes for array in arrays))
    return [np.concatenate(arrays, axis=call.attributes["axis"])]


def _split(call, x, split=None):
    axis = call.get("axis", 0)
    sizes = call.ints("split", split)
    if sizes is None:
        count = call.count
        if call.get("num_outputs", count) != count:
            raise ValueError(f"num_outputs of Split must be {count}, the number of its outputs")
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if min(sizes) < 0 or sum(sizes) != x.shape[axis] or len(sizes) != call.count:
        raise ValueError(f"split must be sizes that sum to {x.shape[axis]}, got {sizes}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _gather(call, x, indices):
    axis = call.get("axis", 0)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices must be integers, got {indices.dtype}")
    call.spend(x.itemsize * indices.size * math.prod(x.shape) // max(x.shape[axis], 1))
    return [x.take(indices, axis)]


def _expand(call, x, shape):
    sizes = np.broadcast_shapes(x.shape, tuple(_ints(shape)))
    call.spend(x.itemsize * math.prod(sizes))
    return [np.broadcast_to(x, sizes)]


def _constant_of_shape(call, shape):
    value = np.zeros(1, "f4")
    if "value" in call.attributes:
        value = array_of(call.attributes["value"], call.source, "ConstantOfShape")
    sizes = _ints(shape)
    call.spend(value.itemsize * math.prod(sizes))
    return [np.broadcast_to(value.reshape(()), sizes)]


def _shape(call, x):
    return [np.array(x.shape[slice(call.get("start", 0), call.get("end"))], "i8")]


def _cast(call, x):
    dtype = dtype_of(call.attributes["to"], "Cast")
    call.spend(x.size * dtype.itemsize)
    return [x.astype(dtype)]


def _mul(call, a, b):
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        raise ValueError(f"only integers are multiplied, got {a.dtype} and {b.dtype}")
    call.spend(a.itemsize * math.prod(np.broadcast_shapes(a.shape, b.shape)))
    return [np.multiply(a, b)]


# The function of each operator, and the names of its attributes.
_OPERATORS = {
    "Cast": (_cast, ("to", "saturate")),
    "Concat": (_concat, ("axis",)),
    "Constant": (_constant, ("value", "value_int", "value_ints", "value_float", "value_floats")),
    "ConstantOfShape": (_constant_of_shape, ("value",)),
    "Expand": (_expand, ()),
    "Gather": (_gather, ("axis",)),
    "Identity": (lambda call, x: [x], ()),
    "Mul": (_mul, ()),
    "Reshape": (_reshape, ("allowzero",)),
    "Shape": (_shape, ("start", "end")),
    "Slice": (_slice, ("starts", "ends", "axes")),
    "Split": (_split, ("axis", "split", "num_outputs")),
    "Squeeze": (_squeeze, ("axes",)),
    "Transpose": (_transpose, ("perm",)),
    "Unsqueeze": (_unsqueeze, ("axes",)),
}
