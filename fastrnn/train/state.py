"""Everything that training changes: arrays by name, as `encoder.weight_ih_l0`, and generators.

A part is any object with `params`, a mapping of arrays. `fit` keeps a `State` of its best epoch,
and a checkpoint has one.

It must not know: files, epochs.
"""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.train import generators

# Names that no part may have. Behind LAST a file has the last epoch, beside the best one.
OPTIMIZER, EXTRA, LAST = "optimizer", "extra", "last_epoch"
GENERATORS = "rng"  # the name of the generators' states in a file
TEXTS = (EXTRA, GENERATORS)  # names in a file that are not arrays


class Like(NamedTuple):
    """The shape and dtype that an array must have."""

    dtype: np.dtype
    shape: tuple


def named(parts):
    """A dict from names to parts; the parts of a list are called 0, 1 and so on."""
    if isinstance(parts, list | tuple):
        parts = {str(index): part for index, part in enumerate(parts)}
    if not isinstance(parts, Mapping):
        raise TypeError(
            f"parts must be a dict from names to parts, or a list, got {type(parts).__name__}: "
            'for a single layer use {"layer": layer}'
        )
    seen = set()
    for name, part in parts.items():
        if not isinstance(name, str) or name.partition(".")[0] in ("", OPTIMIZER, EXTRA, LAST):
            raise ValueError(
                f"parts must have names other than {OPTIMIZER!r}, {EXTRA!r} and {LAST!r}, got "
                f"{name!r}"
            )
        params = getattr(part, "params", None)
        if not isinstance(params, Mapping) or not all(
            isinstance(array, np.ndarray) for array in params.values()
        ):
            raise TypeError(
                f"part {name!r} must have params, a mapping of arrays, as layers, Dense and "
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
    """The text "part.parameter" -> the array."""
    return {f"{name}.{key}": a for name, part in parts.items() for key, a in part.params.items()}


def generators_of(parts):
    """Name of a part -> its numpy.random.Generator, for the parts that have one."""
    found = {name: getattr(part, "rng", None) for name, part in parts.items()}
    return {name: rng for name, rng in found.items() if isinstance(rng, np.random.Generator)}


def drawing(parts):
    """The names of parts that now draw from their generators in training."""
    return {name for name in generators_of(parts) if getattr(parts[name], "draws", True)}


class State(NamedTuple):
    """Copies of everything that training changes.

    arrays : of the parts, and of the optimizer if there is one
    generators : name of a part -> state of its generator
    """

    arrays: dict
    generators: dict


def state_of(parts, optimizer=None):
    """The `State` of named parts and of an optimizer.

    With an optimizer the result has the states of all generators, because dropout may be turned on
    later in training. Without one it has those of parts that draw now.
    """
    arrays = {name: array.copy() for name, array in arrays_of(parts).items()}
    if optimizer is not None:
        arrays |= {f"{OPTIMIZER}.{key}": array for key, array in optimizer.state().items()}
    found = generators_of(parts)
    kept = drawing(parts) if optimizer is None else found
    return State(arrays, generators.states_of({name: found[name] for name in kept}))


def wanted_of(parts, optimizer=None):
    """The dtype and shape that each array of `state_of` must have: name -> `Like`."""
    arrays = arrays_of(parts)
    if optimizer is not None:
        arrays |= {f"{OPTIMIZER}.{key}": array for key, array in optimizer.state().items()}
    return {name: Like(array.dtype, array.shape) for name, array in arrays.items()}


def put_back(state, parts, optimizer=None, name="state"):
    """Set parts and optimizer to a `State` of them.

    After an error or an interrupt, parts and optimizer are as before. A second interrupt, while
    they are restored, is not covered. Generators' states that are not from `state_of` must have
    been checked.
    """
    owner = "parts" if optimizer is None else "parts and optimizer"
    new = checks.arrays_like(name, state.arrays, wanted_of(parts, optimizer), owner)
    arrays = arrays_of(parts)
    for key, array in arrays.items():
        if not array.flags.writeable:
            raise ValueError(f"{name} cannot be loaded into {key}, whose array is read-only")
    own, found = None if optimizer is None else optimizer.state(), generators_of(parts)
    states, before = generators.states_of(found), {key: a.copy() for key, a in arrays.items()}
    try:
        if optimizer is not None:
            _load_optimizer(optimizer, new, name)
        generators.restore(state.generators, found)
        for key, array in arrays.items():
            array[...] = new[key]
    except BaseException:
        for key, array in arrays.items():
            array[...] = before[key]
        generators.restore(states, found)
        if optimizer is not None:
            with contextlib.suppress(Exception):  # a user's optimizer may refuse this state too
                optimizer.load(own)
        raise


def _load_optimizer(optimizer, arrays, name):
    """Load the optimizer's arrays of a state; name is for messages."""
    prefix = f"{OPTIMIZER}."
    own = {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
    try:
        optimizer.load(own)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} does not fit the optimizer: {error}") from error
