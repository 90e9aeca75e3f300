"""JSON from strangers: no name twice, and no more memory than was said.

It must not know: formats, arrays, parts.
"""

import json

# Bytes of memory that values and names take at most beside their characters. Each has one of these
# characters before or after it, so that they can be counted before anything is made. A name, with
# its value, is most of all: it is in a pair first, then in a dict that has just grown.
_COSTS = {",": 80, ":": 192, "[": 112, "{": 112}


class Twice(ValueError):
    """A name that an object has twice; its only argument."""


def memory_of(text):
    """Bytes of memory that JSON, str or bytes, takes at most while objects are made of it."""
    encoded = isinstance(text, bytes)
    found = {some: text.count(some.encode() if encoded else some) for some in (*_COSTS, "\\u")}
    # One character beyond Latin-1 makes all of its string four bytes wide.
    wide = found.pop("\\u") or not text.isascii()
    return (10 if wide else 2) * len(text) + sum(_COSTS[some] * n for some, n in found.items())


def object_of(text):
    """The object that JSON says, as a dict.

    Raises
    ------
    Twice
        Where a name comes twice.
    ValueError
        With a reason, for all else.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except Twice:
        raise
    except ValueError as error:  # bad JSON, bad UTF-8, a number of too many digits
        raise ValueError(f"its JSON is broken: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"its JSON must be an object, got {type(value).__name__}")
    return value


def _unique(pairs):
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise Twice(name)
            seen.add(name)
    return unique
