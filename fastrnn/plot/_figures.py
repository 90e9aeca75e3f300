"""Parts of several pictures: new figures, steps on an axis, names at the ends of lines.

It must not know: what a picture shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_WORDS, MOST_NUMBERS = 60, 12  # on an axis: more of them would lie on one another
_ENDS = "fastrnn: names at the ends of lines"


def subplots(*args: Any, **options: Any) -> tuple[Any, Any]:
    """A new figure and its axes: matplotlib's `pyplot.subplots`."""
    try:
        from matplotlib import pyplot  # imported here: the rest of fastrnn works without it
    except ImportError:
        raise ImportError("fastrnn.plot needs matplotlib: pip install matplotlib") from None
    return pyplot.subplots(*args, **options)


def drawn_in(axes: Axes | None, **options: Any) -> Any:
    """The axes to draw in: those given, or for None new ones; TypeError for anything else."""
    if axes is None:
        return subplots(**options)[1]
    if not hasattr(axes, "imshow"):
        kind = type(axes).__name__
        raise TypeError(f"axes must be one of matplotlib's axes, as figure.axes[0], got {kind}")
    return axes


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
    # A word may be "$", which matplotlib would read as the begin of a formula.
    axis.set_ticks(list(ticks), list(ticks.values()), parse_math=False, **style)


def label_ends(axes: Axes, fontsize: float = 8) -> None:
    """Write each line's label to the right of its end, in place of a legend over the lines.

    Labels of ends that lie on one another are moved apart, and thin strokes lead to them. Each
    label is one line of text. Call it last, because it reads the limits of the axes. Called again,
    for more lines, it writes all labels anew.
    """
    for text in [text for text in axes.texts if text.get_gid() == _ENDS]:
        text.remove()
    axes.margins(x=0)
    to_axes = axes.transScale + axes.transLimits  # the limits are those of the data
    ends = []
    for line in axes.lines:
        label, values = line.get_label(), np.asarray(line.get_ydata(), float)
        finite = values[np.isfinite(values)]
        if len(finite) and not label.startswith("_child"):  # no name
            left = axes.get_xlim()[0]  # any x: only y is read
            ends.append((to_axes.transform((left, finite[-1]))[1], label, line.get_color()))
    ends.sort(key=lambda end: end[0])
    height = 72 * axes.figure.get_figheight() * axes.get_position().height
    places = _apart([y for y, *_ in ends], 1.25 * fontsize / height)
    for (y, label, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            label, (1, y), (1.04, place), xycoords="axes fraction", color=colour, fontsize=fontsize,
            va="center", annotation_clip=False, gid=_ENDS, parse_math=False,
            arrowprops={
                "arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkA": 1, "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Sorted places, moved as little as needed to be `gap` apart: each group around its mean."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _span(groups[-2], gap)[1] + gap > _span(groups[-1], gap)[0]:
            last = groups.pop()
            groups[-1] += last
    return [_span(group, gap)[0] + i * gap for group in groups for i in range(len(group))]


def _span(group: list[float], gap: float) -> tuple[float, float]:
    """The first and the last place of a group."""
    middle, half = sum(group) / len(group), gap * (len(group) - 1) / 2
    return middle - half, middle + half
