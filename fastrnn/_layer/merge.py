"""The modes in which the outputs of two directions become one y, each with its gradient.

It must not know: layers, axes.
"""

from typing import NamedTuple


class Merge(NamedTuple):
    """One mode.

    together : function from the forward and the reverse direction's output to y.
    separate : function from the gradient of y and the two outputs to their gradients.
    """

    together: object
    separate: object


# "concat" has no entry, because both directions write into halves of one array.
MERGES = {
    "sum": Merge(lambda f, b: f + b, lambda dy, f, b: (dy, dy)),
    "mean": Merge(lambda f, b: (f + b) / 2, lambda dy, f, b: (dy / 2, dy / 2)),
    "mul": Merge(lambda f, b: f * b, lambda dy, f, b: (dy * b, dy * f)),
    None: Merge(lambda f, b: (f, b), lambda dy, f, b: dy),
}
