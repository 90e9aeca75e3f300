"""The modes of merging two directions' outputs into one, each with its gradient.

It must not know: layers, axes.
"""

from typing import NamedTuple


class Merge(NamedTuple):
    """One mode.

    together : (forward, backward) arrays -> y.
    separate : gradient of y, the two arrays -> their gradients.
    """

    together: object
    separate: object


# "concat" has no entry: both directions write into one array.
MERGES = {
    "sum": Merge(lambda f, b: f + b, lambda dy, f, b: (dy, dy)),
    "mean": Merge(lambda f, b: (f + b) / 2, lambda dy, f, b: (dy / 2, dy / 2)),
    "mul": Merge(lambda f, b: f * b, lambda dy, f, b: (dy * b, dy * f)),
    None: Merge(lambda f, b: (f, b), lambda dy, f, b: dy),
}
