"""All that training changes as one dict of arrays: `encoder.weight_ih_l0`, `optimizer.mean.0`.

A part is whatever has `params`, a dict of arrays. What `fit` keeps of its best epoch and what a
checkpoint holds are such dicts. Knows of no files and of no epochs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastrnn import checks

OPTIMIZER, EXTRA = "optimizer", "extra"  # what a part cannot be called
TEXTS = (EXTRA,)  # what is no array in a file


class Like(NamedTuple):
    """What an array must be."""

    dtype: np.dtype
    shape: tuple


def named(parts):
    """The parts as a dict from their names; those of a list are called 0, 1 and so on."""
    if isinstance(parts, list | tuple):
        parts = {str(index): part for index, part in enumerate(parts)}
    if not isinstance(parts, Mapping):
        raise TypeError(
            f"parts must be a dict from names to parts, or a list, got {type(parts).__name__}: "
            'for a single layer use {"layer": layer}'
        )
    seen = set()
    for name, part in parts.items():
        if not isinstance(name, str) or name.partition(".")[0] in ("", OPTIMIZER, EXTRA):
            raise ValueError(
                f"parts must have names other than {OPTIMIZER!r} and {EXTRA!r}, got {name!r}"
            )
        params = getattr(part, "params", None)
        if not isinstance(params, Mapping) or not all(
            isinstance(array, np.ndarray) for array in params.values()
        ):
            raise TypeError(
                f"part {name!r} must have params, a dict of arrays, as layers, Dense and "
                f"Embedding do, got {type(part).__name__}"
            )
        names = {f"{name}.{key}" for key in params}
        if seen & names:
            raise ValueError(
                f"parts must have parameters of one name each, got {min(seen & names)} twice"
            )
        seen |= names
    return dict(parts)


def arrays_of(parts):
    """name.parameter -> the array itself."""
    return {f"{name}.{key}": a for name, part in parts.items() for key, a in part.params.items()}


def state_of(parts, optimizer=None):
    """Copies of all arrays of named parts, and of the state of an optimizer if there is one."""
    state = {name: array.copy() for name, array in arrays_of(parts).items()}
    if optimizer is not None:
        state |= {f"{OPTIMIZER}.{key}": array for key, array in optimizer.state().items()}
    return state


def wanted_of(parts, optimizer=None):
    """Name -> `Like`, of what `state_of` would give."""
    arrays = arrays_of(parts)
    if optimizer is not None:
        arrays |= {f"{OPTIMIZER}.{key}": array for key, array in optimizer.state().items()}
    return {name: Like(array.dtype, array.shape) for name, array in arrays.items()}


def put_back(state, parts, optimizer=None, name="state"):
    """Write what `state_of` gave into the same parts; nothing, unless all of it fits."""
    owner = "parts" if optimizer is None else "parts and optimizer"
    state = checks.arrays_like(name, state, wanted_of(parts, optimizer), owner)
    arrays = arrays_of(parts)
    for key, array in arrays.items():
        if not array.flags.writeable:
            raise ValueError(f"{name} cannot be loaded into {key}, whose array is read-only")
    if optimizer is not None:
        # First, for one of a stranger's may refuse its state.
        prefix = f"{OPTIMIZER}."
        optimizer.load(
            {k.removeprefix(prefix): a for k, a in state.items() if k.startswith(prefix)}
        )
    for key, array in arrays.items():
        array[...] = state[key]
