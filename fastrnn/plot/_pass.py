"""One sequence in one pass: its part of the dict of gates, and how the pass ran.

It must not know: what a picture shows.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._gates import Gates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike

    from fastrnn._typing import Bools, Floats


class Pass(NamedTuple):
    """One sequence of n steps and H units. The arrays are in the order of x.

    gates : name -> (n, H) array.
    steps : T, the steps of the array that the sequence comes from; n is at most T.
    first : (H,) array, the state before the first step.
    reverse : True if the pass takes the steps from the last to the first.
    works : (n,) booleans, True where the state changes.
    reset : (n,) booleans, True where the state is reset before that step.
    reset_to : "zero" or "initial", the state after a reset.
    options : the options of the cell that are not the default: name -> value.
    """

    gates: dict[str, Floats]
    steps: int
    first: Floats
    reverse: bool
    works: Bools
    reset: Bools
    reset_to: str
    options: dict[str, object]


def of(values: Mapping[str, ArrayLike], row: int, layer: int, reverse: bool | None = None) -> Pass:
    """The pass `layer` over the sequence `row`; reverse: None, or what `memory` was given."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"values must be a dict of gates, as tape.gates() returns it, got "
            f"{type(values).__name__}"
        )
    if not values:
        raise ValueError("values must have at least one gate, got none: an RNN has no gates")
    arrays = {name: _array(name, array) for name, array in values.items()}
    (shape, *others) = [array.shape for array in arrays.values()]
    if any(other != shape for other in others):
        raise ValueError(
            "values must be arrays of one shape, got "
            + ", ".join(f"{name}: {array.shape}" for name, array in arrays.items())
        )
    layer, row = _index("layer", layer, shape[0]), _index("row", row, shape[2])
    gates = {name: array[layer, :, row] for name, array in arrays.items()}
    if isinstance(values, Gates):
        _check_run(values.run, shape)
        return _of_run(gates, values.run, row, layer, reverse)
    steps, hidden = shape[1], shape[3]
    reverse = reverse is not None and checks.flag("reverse", reverse)
    never = np.zeros(steps, bool)
    return Pass(gates, steps, np.zeros(hidden), reverse, ~never, never, "zero", {})


def _check_run(run, shape):
    """ValueError if the arrays of a `Gates` are no longer those of its run."""
    passes, steps, batch, hidden = shape
    flags = [len(flags) for flags in (run.mask, run.reset) if flags is not None]
    lengths = 0 if run.lengths is None else run.lengths.max(initial=0)
    fits = (passes, batch, hidden) == run.first.shape and lengths <= steps
    if not fits or any(length != steps for length in flags):
        raise ValueError(
            f"values must be the arrays that tape.gates() returned, got some of shape {shape} in "
            "their place: a dict of parts of them must be a new dict, as in "
            "{name: gate[:, :9] for name, gate in gates.items()}"
        )


def _of_run(gates, run, row, layer, reverse):
    """The same for the `Run` of the gates."""
    backwards = run.reverse[layer]
    if reverse is not None and checks.flag("reverse", reverse) != backwards:
        passes = ", ".join(
            f"{i}: {'reverse' if r else 'forward'}" for i, r in enumerate(run.reverse)
        )
        raise ValueError(
            f"reverse must be {backwards} for layer={layer}, got {reverse}: layer= is the index of "
            f"a pass, on the first axis of a state, and these are the passes: {passes}"
        )
    steps = len(next(iter(gates.values())))
    n = steps if run.lengths is None else int(run.lengths[row])
    works, reset = (
        np.full(n, otherwise) if flags is None else flags[:n, row].astype(bool)
        for flags, otherwise in ((run.mask, True), (run.reset, False))
    )
    gates = {name: array[:n] for name, array in gates.items()}
    first = run.first[layer, row]
    return Pass(gates, steps, first, backwards, works, reset, run.reset_to, run.options)


def _array(name: str, value: ArrayLike) -> np.ndarray[Any, Any]:
    """An (L*D, T, B, H) array; the batch axis of a single sequence is added."""
    array = checks.plain(f"{name} of values", value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"values must be arrays of numbers, got {name} of dtype {array.dtype}")
    if array.ndim not in (3, 4):
        raise ValueError(
            f"values must be (L*D, T, B, H) arrays, or (L*D, T, H) of a single sequence, got "
            f"{name}: {array.shape}: give all that tape.gates() returns, and choose with layer= "
            "and row="
        )
    return array if array.ndim == 4 else array[:, :, None]


def _index(name, value, size):
    """An index from 0 to size - 1."""
    try:
        index = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if not 0 <= index < size:
        raise ValueError(f"{name} must be from 0 to {size - 1}, got {index}")
    return index


def labels_of(labels: Iterable[str] | None, one: Pass) -> list[str] | None:
    """The labels of the sequence's own steps; ValueError if it has no step to draw."""
    if not len(one.works):
        raise ValueError("row must be a sequence of at least one step, got one of length 0")
    if labels is None:
        return None
    # The order of a set differs between processes, and the elements of bytes are numbers.
    if isinstance(labels, Set | bytes) or not hasattr(labels, "__iter__"):
        raise TypeError(f"labels must be a list of words, got {type(labels).__name__}")
    labels, n = [str(label) for label in labels], len(one.works)
    if len(labels) not in (n, one.steps):
        padded = f" or, with those of the padding, {one.steps}" if n != one.steps else ""
        raise ValueError(f"labels must be one for each step, {n} in all{padded}, got {len(labels)}")
    return labels[:n]
