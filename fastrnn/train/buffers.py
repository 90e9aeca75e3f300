"""Lists of arrays that are changed in place: parameters and gradients.

One array is a list of one, and a part stands for its `flat`. An error names the array and never
prints what is in it.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from fastrnn import checks


def listed(name, values):
    """What a caller means by an array, a part, or several of them -> list; not yet checked.

    TypeError for what is none of these: it would be walked through in silence.
    """
    if isinstance(values, np.ndarray) or _flat(values) is not None:
        values = [values]
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        hint = f": give list({name}.values())" if isinstance(values, Mapping) else ""
        raise TypeError(f"{name} must be a list of arrays, got {type(values).__name__}{hint}")
    return [value if _flat(value) is None else _flat(value) for value in values]


def _flat(value):
    """The buffer of a layer or a part, else None."""
    flat = None if isinstance(value, np.ndarray) else getattr(value, "flat", None)
    return flat if isinstance(flat, np.ndarray) else None


def writeable(name, values):
    """Arrays that can be changed in place, each apart from the others, as a list."""
    arrays = listed(name, values)
    if not arrays:
        raise ValueError(f"{name} must hold at least one array, got none")
    for index, array in enumerate(arrays):
        label, got = f"{name}[{index}]", _unfit(array)
        if got is not None:
            raise TypeError(f"{label} must be a writeable array of float32 or float64, got {got}")
        checks.plain(label, array)  # refuses masks
    for (first, array), (second, other) in combinations(enumerate(arrays), 2):
        if np.shares_memory(array, other):
            raise ValueError(
                f"{name}[{second}] must not share memory with {name}[{first}], or a step would "
                "change it twice: give each array once"
            )
    return arrays


def _unfit(array):
    """Why the array cannot be changed in place, in a word or two; None if it can."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    if array.dtype not in checks.DTYPES:
        return str(array.dtype)
    return None if array.flags.writeable else "a read-only one"
