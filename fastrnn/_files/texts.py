"""JSON from strangers: it refuses repeated names, and computes the needed memory in advance.

It must not know: formats, arrays, parts.
"""

import json

# The most bytes of memory of a value or a name, without its characters. Each has one of these
# characters before or after it, so all can be counted before parsing. A name with its value takes
# the most memory: it is in a pair first, then in a dict that has just grown.
_COSTS = {",": 80, ":": 192, "[": 112, "{": 112}


class Twice(ValueError):
    """The error for a name that an object has twice. The name is its only argument."""


def memory_of(text):
    """The most bytes of memory that parsing takes; text : JSON, a str or bytes."""
    encoded = isinstance(text, bytes)
    found = {some: text.count(some.encode() if encoded else some) for some in (*_COSTS, "\\u")}
    # One character beyond Latin-1 makes all characters of its string up to four bytes wide.
    wide = found.pop("\\u") or not text.isascii()
    return (10 if wide else 2) * len(text) + sum(_COSTS[some] * n for some, n in found.items())


def object_of(text):
    """The object from JSON, as a dict.

    Raises
    ------
    Twice
        If a name is in an object twice.
    ValueError
        With a reason, for a text that is no such JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except Twice:
        raise
    except ValueError as error:  # invalid JSON, invalid UTF-8, a number with too many digits
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
