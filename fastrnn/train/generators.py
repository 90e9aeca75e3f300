"""States of random generators as JSON and back, with a check of every number.

NumPy does not check all of them: if a state's index into a buffer is too large, NumPy reads beyond
the buffer.

It must not know: files, parts.
"""

import copy
import json
from reprlib import repr  # its texts have a bounded length

import numpy as np

# The largest integers in a state, by name, and for all other names. Arrays have a dtype as limit.
_MOST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "uinteger": 2**32 - 1}
_MOST_OF_OTHERS = 2**128 - 1


def states_of(generators):
    """Name -> the state of that numpy.random.Generator, for `restore`."""
    return {name: rng.bit_generator.state for name, rng in generators.items()}


def restore(states, generators):
    """Set the generators to their states; those without a state do not change."""
    for name, state in states.items():
        generators[name].bit_generator.state = state


def text_of(states):
    """The states as JSON."""
    return json.dumps(states, default=_plain)


def longest_text(generators):
    """The most characters that `text_of` gives for these generators or NumPy's other kinds."""
    return 4 * len(text_of(states_of(generators))) + 2**14 * len(generators)


def checked(states, generators, drawing):
    """The checked states from JSON, for the generators that have one.

    drawing : the names of generators that are drawn from. For another generator a state of another
    kind is left out, because it cannot be used there.

    Raises
    ------
    ValueError
        With the reason, for a value that is not the state of a generator of the same kind.
    """
    there = {name: rng for name, rng in generators.items() if name in states}
    return {
        name: _checked(name, states[name], rng)
        for name, rng in there.items()
        if name in drawing or _kind(states[name]) == _kind(rng.bit_generator.state)
    }


def _kind(state):
    return state.get("bit_generator") if isinstance(state, dict) else None


def _checked(name, state, rng):
    like, trial = rng.bit_generator.state, copy.deepcopy(rng.bit_generator)
    kind, got = _kind(like), _kind(state)
    if got != kind:
        raise ValueError(
            f"{name} must be the state of a {kind}, which the part has, got {repr(got)}"
        )
    state = _like(name, state, like)
    try:
        trial.state = state
    except Exception as error:  # a generator that is not NumPy's may raise anything
        raise ValueError(f"{name} must be a state that its generator takes: {error}") from None
    return state


def _like(where, value, like):
    """The value with arrays in place of lists, as in `like`; ValueError for other structures."""
    if isinstance(like, dict):
        if not isinstance(value, dict) or value.keys() != like.keys():
            raise ValueError(f"{where} must have {', '.join(like)} alone")
        return {key: _like(f"{where}.{key}", value[key], of) for key, of in like.items()}
    if isinstance(like, np.ndarray):
        most = np.iinfo(like.dtype).max
        if not isinstance(value, list) or len(value) != like.size:
            raise ValueError(f"{where} must be a list of {like.size} integers, got {value!r:.80}")
        numbers = [_integer(where, number, most) for number in value]
        return np.array(numbers, like.dtype).reshape(like.shape)
    if isinstance(like, str):
        if value != like:
            raise ValueError(f"{where} must be {like}, got {repr(value)}")
        return value
    return _integer(where, value, _MOST.get(where.rpartition(".")[2], _MOST_OF_OTHERS))


def _integer(where, value, most):
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{where} must be an integer from 0 to {most}, got {repr(value)}")
    return value


def _plain(value):
    """NumPy's arrays and numbers for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(
        f"rng must have a state of integers and arrays of them to be saved, got "
        f"{type(value).__name__} in it"
    )
