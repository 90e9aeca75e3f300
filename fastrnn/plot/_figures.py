"""Parts of several pictures: new figures, and steps on an axis.

It must not know: what a picture shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.axis import Axis

MOST_WORDS, MOST_NUMBERS = 60, 12  # on an axis: more of them would lie on one another


def subplots(*args: Any, **options: Any) -> tuple[Any, Any]:
    """A new figure and its axes: matplotlib's `pyplot.subplots`."""
    try:
        from matplotlib import pyplot  # imported here: the rest of fastrnn works without it
    except ImportError:
        raise ImportError("fastrnn.plot needs matplotlib: pip install matplotlib") from None
    return pyplot.subplots(*args, **options)


def label_steps(
    axis: Axis, n: int, words: Sequence[str] | None = None,
    others: Mapping[int, str] | None = None, most: int = MOST_NUMBERS, **style: Any,
) -> None:  # fmt: skip
    """Write the words of n steps at 0, 1, ... of an axis, or their numbers; not all of many.

    others : place -> text, for places that are not steps. most : of numbers.
    """
    if words is None:
        words = [str(step) for step in range(n)]
        rounds = (e * 10**k for k in range(20) for e in (1, 2, 5))
        every = next(every for every in rounds if n <= most * every)
    else:
        every = -(-n // MOST_WORDS) or 1
    ticks = {step: words[step] for step in range(0, n, every)} | dict(others or {})
    axis.set_ticks(list(ticks), list(ticks.values()), **style)
