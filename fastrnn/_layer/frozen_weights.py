"""FrozenWeights: the weights of a frozen layer, as the kernels and as the reference take them.

It must not know: calls, states, heads.
"""

import numpy as np

from fastrnn import checks
from fastrnn._cells.registry import packed_before, packed_weights
from fastrnn._engine import runtime

# The precisions of packed weights besides that of their dtype.
PRECISIONS = ("bfloat16-weights", "int8", "bfloat16")


def checked_precision(precision, dtype):
    """The precision, if weights of this dtype may have it."""
    if precision is None:
        return None
    if hasattr(precision, "params"):
        raise TypeError(f"precision got a {type(precision).__name__}: a head is freeze(head=...)")
    checks.choice("precision", precision, (None, *PRECISIONS))
    if dtype != np.float32:
        raise TypeError(
            f"precision={precision!r} is for float32 layers, got a layer of {dtype}: "
            'create it with dtype="float32", or convert its weights'
        )
    return precision


class FrozenWeights:
    """The parameters of a layer's passes at a precision. They do not change.

    Parameters
    ----------
    cell : registry.Cell
    parameters : list
        For each pass its parameters, as `Structure.parameters` returns them. They are copied.
    precision : str or None
        That of the matrices; None is that of their dtype.
    scales : list or None
        For each pass what `Packed.scales` returned, of int8 weights whose matrices are multiples of
        their scales. None computes them.
    whole : bool
        Whether W_ih is packed at once in all forms that passes read.

    Attributes
    ----------
    precision : str or None
    packed : list
        For each pass the compiled module's `Packed`; None without that module.
    kept : list
        For each pass its parameters. Where kernels have packed the matrices, None stands for them.
    """

    def __init__(self, cell, parameters, precision, scales=None, whole=False):
        # The kernels keep matrices packed, so only vectors are copied here.
        copied = [
            tuple([p.copy() if p is not None and p.ndim == 1 else p for p in of_pass])
            for of_pass in parameters
        ]
        given = scales or [None] * len(copied)
        self._cell, self.precision, self._scales = cell, precision, None
        self.packed = [
            packed_weights(cell, of_pass, precision, of_int8, whole)
            for of_pass, of_int8 in zip(copied, given, strict=True)
        ]
        if runtime.core is not None:
            self.kept = [_without_matrices(of_pass) for of_pass in copied]
            return
        if precision == "int8":
            self._scales = scales or [_int8_scales(of_pass) for of_pass in copied]
        to_keep = np.ndarray.copy
        if precision is not None and scales is None:
            to_keep = _reference().ROUND_WEIGHTS[precision]
        self.kept = [_with_each_matrix(of_pass, to_keep) for of_pass in copied]

    @classmethod
    def packed_before(cls, cell, hidden_size, kept, precision, contents):
        """Those of other ones' attributes `kept` and `precision`, and of their `contents`."""
        self = object.__new__(cls)
        self._cell, self.precision, self._scales, self.kept = cell, precision, None, kept
        self.packed = [
            packed_before(cell, hidden_size, vectors, precision, content)
            for vectors, content in zip(kept, contents, strict=True)
        ]
        return self

    def contents(self):
        """For each pass the packed weights as bytes, for another process."""
        return [packed.content for packed in self.packed]

    @property
    def nbytes(self):
        """The bytes of what is there now."""
        if runtime.core is None:
            return sum([p.nbytes for of_pass in self.kept for p in of_pass if p is not None])
        return sum([packed.nbytes for packed in self.packed])

    def parameters(self):
        """Each pass' parameters, with matrices that are unpacked for this call."""
        if runtime.core is None:
            return self.kept
        return [
            _with_matrices(kept, *packed.matrices())
            for kept, packed in zip(self.kept, self.packed, strict=True)
        ]

    def scales(self):
        """Each pass' scales of int8 weights; None at another precision."""
        if self.precision != "int8":
            return None
        if runtime.core is None:
            return self._scales
        return [packed.scales() for packed in self.packed]

    def for_reference(self):
        """Each pass' parameters as the reference takes them: matrices that multiply as kernels do.

        "bfloat16-weights" and full precision have ordinary arrays, for only the weights are
        rounded. "bfloat16" and "int8" round the rows that the matrices multiply, too.
        """
        parameters = self.parameters()
        if self.precision == "bfloat16":
            matrix = _reference().BFloat16Matrix
            return [_with_each_matrix(of_pass, matrix) for of_pass in parameters]
        if self.precision == "int8":
            return list(map(self._with_int8_matrices, parameters, self.scales()))
        return parameters

    def _with_int8_matrices(self, parameters, scales):
        matrix, cell = _reference().Int8Matrix, self._cell
        bounded = cell.name != "rnn_relu" and not cell.projects  # h is at most 1
        (w_ih, w_hh, *others), (s_ih, s_hh, s_hr) = parameters, scales
        w_ih = matrix(w_ih, s_ih)
        w_hh = None if w_hh is None else matrix(w_hh, s_hh, bounded)
        w_hr = None if s_hr is None else matrix(others[2], s_hr)
        return _with_matrices((None, None, *others), w_ih, w_hh, w_hr)


# ---- a pass' parameters: w_ih, w_hh, b_ih, b_hh, w_hr if the cell projects, other vectors --------


def _is_matrix(parameter):
    return parameter is not None and parameter.ndim == 2


def _without_matrices(parameters):
    return tuple([None if _is_matrix(p) else p for p in parameters])


def _with_each_matrix(parameters, change):
    """The parameters, with change(matrix) in place of each matrix."""
    return tuple([change(p) if _is_matrix(p) else p for p in parameters])


def _with_matrices(parameters, w_ih, w_hh, w_hr):
    """The parameters with these matrices; w_hr is None if the cell has no projection."""
    extras = parameters[4:] if w_hr is None else (w_hr, *parameters[5:])
    return w_ih, w_hh, *parameters[2:4], *extras


def _int8_scales(parameters):
    """The scales of w_ih, w_hh and w_hr; None for one that the cell does not have."""
    w_ih, w_hh, _, _, *extras = parameters
    w_hr = extras[0] if extras and _is_matrix(extras[0]) else None
    return tuple([None if w is None else _reference().int8_scales(w) for w in (w_ih, w_hh, w_hr)])


def _reference():
    """The module of lower precisions; imported on first use, because that takes time."""
    from fastrnn.reference import precision

    return precision
