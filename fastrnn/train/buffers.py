"""Lists of arrays that are changed in place: parameters and gradients.

A single array counts as a list of one, and a part stands for its `flat`. An error message names
the array and has none of its elements.
"""

from collections.abc import Mapping

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastrnn import checks


def listed(name, values, parts=True):
    """The arrays of an array, a part, or several of them, as a list; they are not yet checked.

    parts : whether a part stands for its parameters. Where gradients are wanted it does not: its
        own are what its `backward` returned, and to change its parameters would train nothing.
    """
    arrays = []
    for index, value in enumerate(items(name, values)):
        flat = _flat(value)
        if not parts and flat is not None and callable(value):  # gradients are not
            raise TypeError(
                f"{name}[{index}] must be what backward returned, got the {type(value).__name__} "
                "itself, whose arrays are parameters"
            )
        arrays.append(value if flat is None else flat)
    return arrays


def items(name, values):
    """A list from an array, a part, or several of them, as they are given.

    TypeError for anything else, because an iteration over it could yield wrong arrays.
    """
    if isinstance(values, np.ndarray) or _flat(values) is not None:
        values = [values]
    # The order of a set differs between processes.
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not hasattr(
        values, "__iter__"
    ):
        hint = f": give list({name}.values())" if isinstance(values, Mapping) else ""
        raise TypeError(f"{name} must be a list of arrays, got {type(values).__name__}{hint}")
    return list(values)


def _flat(value):
    """The buffer of a layer or a part; None for anything else."""
    flat = None if isinstance(value, np.ndarray) else getattr(value, "flat", None)
    return flat if isinstance(flat, np.ndarray) else None


def matrix_shape(value):
    """The shape of a part's only parameter, such as an embedding's table; None for all else."""
    params = None if _flat(value) is None else getattr(value, "params", None)
    if not isinstance(params, Mapping) or len(params) != 1:
        return None
    return np.shape(*params.values())


def writeable(name, values, parts=True, least=1):
    """A list of arrays that can be changed in place and share no memory.

    parts : as for `listed`. least : the number of arrays that are needed.
    """
    arrays = listed(name, values, parts)
    if len(arrays) < least:
        raise ValueError(f"{name} must hold at least one array, got none")
    for index, array in enumerate(arrays):
        label, got = f"{name}[{index}]", _unfit(array)
        if got is not None:
            raise TypeError(f"{label} must be a writeable array of float32 or float64, got {got}")
        checks.plain(label, array)  # refuses masks
    shared = min(_sharing(arrays), default=None)
    if shared is not None:
        raise ValueError(
            f"{name}[{shared[1]}] must not share memory with {name}[{shared[0]}], or a step would "
            "change it twice: give each array once"
        )
    return arrays


def _sharing(arrays):
    """The pairs of indices of arrays that share memory, the smaller index first.

    The arrays are sorted by address: each is compared only with those that end after it begins.
    """
    bounds = [byte_bounds(array) for array in arrays]
    reaching = []
    for index in sorted(range(len(arrays)), key=lambda index: bounds[index]):
        reaching = [other for other in reaching if bounds[other][1] > bounds[index][0]]
        for other in reaching:
            if np.shares_memory(arrays[index], arrays[other]):
                yield min(index, other), max(index, other)
        reaching.append(index)


def _unfit(array):
    """The reason why the array cannot be changed in place, in a few words; None if it can."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    if array.dtype not in checks.DTYPES:
        return str(array.dtype)
    if array.flags.writeable:
        return None
    return "a read-only one: of what another process shares train a copy.deepcopy"
