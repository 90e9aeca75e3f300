"""The user's inputs of a node or a model, by name or in order, as a dict from names to arrays.

It must not know: nodes, models, files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    Arrays: TypeAlias = Mapping[str, NDArray[Any]] | Sequence[NDArray[Any] | None]


def named_inputs(inputs, names, required, owner):
    """The inputs as a dict from names to arrays.

    names : of all inputs, "" for one that is left out. required : of those that must be given.
    """
    if hasattr(inputs, "keys"):
        named = {name: inputs[name] for name in inputs.keys()}  # noqa: SIM118
    elif isinstance(inputs, np.ndarray) or not hasattr(inputs, "__len__"):
        raise TypeError(
            "inputs must be a mapping from names to arrays, or a list or tuple of arrays, got "
            f"{type(inputs).__name__}"
        )
    else:
        named = _in_order([*inputs], names, required, owner)
    missing = [name for name in required if named.get(name) is None]
    unknown = [name for name in named if name not in names]
    if missing or unknown:
        words = [f"missing are {shown(', '.join(missing))}"] * bool(missing)
        words += [f"unknown are {shown(', '.join(map(str, unknown)))}"] * bool(unknown)
        raise ValueError(
            f"inputs must be those of {owner}, {shown(', '.join(required))}: {'; '.join(words)}"
        )
    return {name: np.asarray(array) for name, array in named.items()}


def _in_order(given, names, required, owner):
    """Name -> array or None, from a list in the order of all names, or of those required."""
    wanted = required if len(given) == len(required) else names
    if len(given) != len(wanted):
        raise ValueError(
            f"inputs of {owner} must be {len(required)} arrays, got {len(given)}: its inputs "
            f"are {shown(', '.join(required))}"
        )
    named = {}
    for name, array in zip(wanted, given, strict=True):
        if not name and array is not None:
            raise ValueError(
                f"inputs of {owner} have an array where it leaves out an input: use None there"
            )
        if name and named.setdefault(name, array) is not array:
            raise ValueError(
                f"inputs of {owner} have two arrays for {shown(name)!r}, which it reads twice"
            )
    return named
