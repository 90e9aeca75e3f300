"""Head: a dense layer that a frozen layer applies to its outputs.

It must not know: training, cells, time.
"""

import numpy as np

from fastrnn import checks
from fastrnn._engine import runtime
from fastrnn.reference.dense import ACTIVATIONS, dense


class Head:
    """activation(W y + b) over the last axis of y. It does not change: it copies its arrays.

    Parameters
    ----------
    weight : (outputs, inputs) array
    bias : (outputs,) array
    activation : None, "sigmoid" or "softmax"

    Attributes
    ----------
    inputs, outputs : int
    activation : str or None
    dense : core.Dense or None
        What the kernels run; None without them.
    nbytes : int
        The bytes of the weights.
    """

    def __init__(self, weight, bias, activation):
        weight, bias = np.array(weight, order="C"), np.array(bias, order="C")
        if runtime.core is not None:
            self._run_by(runtime.core.Dense(weight, bias, ACTIVATIONS.index(activation)))
            return
        self.outputs, self.inputs = weight.shape
        self.activation, self._dtype = activation, weight.dtype
        self.dense, self._weights = None, (weight, bias)
        self.nbytes = weight.nbytes + bias.nbytes

    @classmethod
    def packed_before(cls, content, outputs, activation, structure):
        """A head of what another one packed, its `dense.content`, maybe in another process."""
        head = object.__new__(cls)
        head._run_by(runtime.core.Dense(content=content))
        found = head.inputs, head.outputs, head.activation, head._dtype
        wanted = _width_of_y(structure), outputs, activation, structure.dtype
        runtime.check_packed("head", found, wanted)
        return head

    def _run_by(self, dense):
        self.inputs, self.outputs, activation, self._dtype = dense.facts
        self.activation, self.dense, self._weights = ACTIVATIONS[activation], dense, None
        self.nbytes = dense.nbytes

    def arrays(self):
        """The weight and the bias."""
        return self._weights if self.dense is None else self.dense.arrays()

    def __reduce__(self):
        return Head, (*self.arrays(), self.activation)

    def __call__(self, y, out=None, by_kernels=None):
        """The head's outputs, in `out` if it is not None.

        by_kernels : whether the kernels compute them; None for the backend that is chosen.
        """
        if runtime.uses_core() if by_kernels is None else by_kernels:
            result = self.dense.apply(y, out)
            if result is not None:
                return result
            result = self.dense.apply(np.ascontiguousarray(y), None)
        else:
            with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
                result = dense(y, *self.arrays(), self.activation)
        if out is None:
            return result
        out[...] = result
        return out

    def check_out(self, out, symbols, lead):
        """ValueError or TypeError if `out`, unless None, cannot take outputs of `lead` rows."""
        if out is not None:
            shape = (*lead, self.outputs)
            checks.output("out", out, (*symbols, "outputs of head"), shape, self._dtype)


def _width_of_y(structure):
    """The features of one y, which are a head's inputs."""
    return structure.width if structure.merge == "concat" else structure.features


def head_of(dense, structure):
    """The `Head` of a user's dense layer that fits the outputs of a layer; None for None."""
    if dense is None:
        return None
    params = getattr(dense, "params", None)
    activation = getattr(dense, "activation", None)
    try:
        weight, bias = params["weight"], params["bias"]
    except (TypeError, KeyError):
        raise TypeError(
            f"head must be a train.Dense, with params weight and bias, got {type(dense).__name__}: "
            "make a train.Dense(inputs, outputs) and load the weights into it"
        ) from None
    if callable(dense) and not type(dense).__call__.__module__.startswith("fastrnn."):
        raise TypeError(
            f"head must be a train.Dense, got a {type(dense).__name__} with a __call__ of its own, "
            "which a frozen layer would not run: apply it to y yourself"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"head must have an activation of {ACTIVATIONS}, got {activation!r}")
    if structure.merge is None:
        raise ValueError("head needs one y: use merge='concat', 'sum', 'mean' or 'mul', not None")
    width = _width_of_y(structure)
    weight = checks.of_dtype("weight of head", weight, structure.dtype)
    bias = checks.of_dtype("bias of head", bias, structure.dtype)
    if weight.ndim != 2 or weight.shape[1] != width:
        raise ValueError(
            f"weight of head must be (outputs, features of y) with {width} features, got "
            f"{weight.shape}: make it by train.Dense({width}, outputs)"
        )
    checks.shaped("bias of head", bias, ("outputs",), weight.shape[:1])
    return Head(weight, bias, activation)
