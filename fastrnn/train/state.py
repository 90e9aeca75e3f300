"""All that training changes as one dict of arrays: `encoder.weight_ih_l0`, `optimizer.mean.0`.

A part is whatever has `params`, a dict of arrays. What `fit` keeps of its best epoch and what a
checkpoint holds are such dicts. Knows of no files and of no epochs.
"""

from collections.abc import Mapping

import numpy as np

from fastrnn import checks

OPTIMIZER, EXTRA = "optimizer", "extra"  # what a part cannot be called


def named(parts):
    """The parts as a dict from their names; those of a list are called 0, 1 and so on."""
    if isinstance(parts, list | tuple):
        parts = {str(index): part for index, part in enumerate(parts)}
    if not isinstance(parts, Mapping):
        raise TypeError(
            f"parts must be a dict from names to parts, or a list, got {type(parts).__name__}: "
            'for a single layer use {"layer": layer}'
        )
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


def put_back(state, parts, optimizer=None, name="state"):
    """Write what `state_of` gave into the same parts; nothing, unless all of it fits."""
    owner = "parts" if optimizer is None else "parts and optimizer"
    state = checks.arrays_like(name, state, state_of(parts, optimizer), owner)
    arrays = arrays_of(parts)
    if optimizer is not None:  # first, for it may refuse a number
        of_optimizer = {key for key in state if key not in arrays}
        optimizer.load({key.partition(".")[2]: state[key] for key in of_optimizer})
    for key, array in arrays.items():
        array[...] = state[key]
