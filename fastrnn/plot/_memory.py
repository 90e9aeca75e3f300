"""A picture of what is left of each step in the state.

It must not know: layers, how the terms are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.plot import _pass
from fastrnn.plot._figures import drawn_in, label_steps
from fastrnn.plot._terms import memory_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_MOST_NUMBERS = 40  # of steps, so that numbers fit into the squares
_LEAST_NUMBER = 5  # percent


def memory(
    values: Mapping[str, ArrayLike], labels: Iterable[str] | None = None, row: int = 0,
    layer: int = 0, reverse: bool | None = None, *, share: bool = True, axes: Axes | None = None,
) -> Figure:  # fmt: skip
    """Draw how much of each step is still in the state, one square for each pair of steps.

    A column is the state after a step, a row is what a step wrote; `memory_of` has the formula.
    The initial state has a row of its own, unless it is zero. Dark is much, by the square root, and
    white is nothing. Of up to 40 steps, squares of 5 % and more have their number.

    Parameters
    ----------
    values : dict
        As for `memory_of`.
    labels : sequence of str, or None
        A word for each step, for both axes; None is the number of the step. Labels of padding after
        the row's end are left out.
    row, layer, reverse : as for `memory_of`
    share : bool
        True: each column in percent of its sum. False: the size of the terms, that is the sum of
        the magnitudes of their units.
    axes : matplotlib axes, or None for a new figure

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        As for `memory_of`; for no steps and for more than 4096; and if there are more or fewer
        labels than steps.
    TypeError
        As for `memory_of`; if share is not a bool, or axes are no axes; for labels without an
        order, such as a set.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> from fastrnn import plot
    >>> words = "Ada lives in Oslo".split()
    >>> layer = fastrnn.LSTM(4, 8, rng=0)
    >>> y, state, gates = layer(np.arange(4)[:, None], one_hot=True, return_gates=True)
    >>> figure = plot.memory(gates, words)
    >>> figure.axes[0].get_xlabel()
    'c after this step'
    """
    share = checks.flag("share", share)
    words = _pass.labels_of(labels, _pass.of(values, row, layer, reverse))
    found = memory_of(values, row, layer, reverse)
    n, sizes = len(found.written), 100 * found.shares if share else found.sizes
    side = min(max(0.22 * n, 2.5), 10)
    axes = drawn_in(axes, figsize=(side + 2, side + 1), layout="constrained")
    top, bottom = -0.5, n - 0.5
    if not found.initial.any():
        sizes = sizes[:-1]
    elif found.reverse:
        bottom += 1
    else:
        top, sizes = top - 1, np.roll(sizes, 1, axis=0)
    image = axes.imshow(
        np.ma.masked_equal(sizes, 0), extent=(-0.5, n - 0.5, bottom, top), cmap="Blues",
        norm=_square_root(100 if share else None), interpolation="nearest", aspect="auto",
    )  # fmt: skip
    _write_numbers(axes, sizes, top, share)
    _name_steps(axes, words, found)
    axes.figure.colorbar(image, ax=axes, label=_unit(found.name, share))
    return axes.figure


def _square_root(most):
    """Colours by the square root: small terms, of which a long sequence has many, are seen too."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=most)


def _unit(name, share):
    return f"% of the terms of {name}" if share else "sum of the units' magnitudes"


def _write_numbers(axes, sizes, top, share):
    """The percentages of the squares, if there is room for them."""
    if not share or sizes.shape[1] > _MOST_NUMBERS:
        return
    for i, t in np.argwhere(sizes >= _LEAST_NUMBER):
        colour = "white" if sizes[i, t] > 30 else "black"
        axes.text(
            t, i + top + 0.5, f"{sizes[i, t]:.0f}", color=colour, fontsize=6, ha="center",
            va="center",
        )  # fmt: skip


def _name_steps(axes, words, found):
    """Labels, units and the title."""
    n, others = len(found.written), {}
    if found.initial.any():
        others = {n if found.reverse else -1: "initial state"}
    label_steps(axes.xaxis, n, words, rotation=0 if words is None else 90)
    label_steps(axes.yaxis, n, words, others)
    axes.set_xlabel(f"{found.name} after this step")
    axes.set_ylabel("written at this step")
    axes.set_title(f"How much of each step is still in {found.name}")
