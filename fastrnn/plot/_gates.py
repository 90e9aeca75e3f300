"""A picture of the gates of one sequence.

It must not know: layers, how gates are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.plot import _pass
from fastrnn.plot._figures import label_steps, subplots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_TITLES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell state c",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}
_SIGNED = ("g", "n", "c")


def gates(
    values: Mapping[str, ArrayLike], row: int = 0, layer: int = 0,
    labels: Iterable[str] | None = None,
) -> Figure:  # fmt: skip
    """Draw each gate of one sequence: units upwards, time to the right.

    Light is high and dark is low. Steps beyond the row's length are left out.

    Parameters
    ----------
    values : dict
        As `tape.gates()` returns it: name -> (L*D, T, B, H) array, or (L*D, T, H).
    row : int
        The index of the sequence in the batch.
    layer : int
        The index of the pass on the first axis of a state.
    labels : sequence of str, or None
        A word for each step; None is the number of the step.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no gate or no step to draw, no such row or layer, or if there are more or fewer
        labels than steps.
    TypeError
        If values is no dict of arrays of numbers, or row or layer not an integer; for labels
        without an order, such as a set.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import plot
    >>> z = np.random.default_rng(0).random((1, 20, 2, 8))  # of 20 steps, 2 sequences, 8 units
    >>> figure = plot.gates({"z": z}, row=1)
    >>> figure.axes[0].get_title()
    'update gate z'
    """
    one = _pass.of(values, row, layer)
    n, words = len(one.works), _pass.labels_of(labels, one)
    panels = len(one.gates)
    figure, axes = subplots(
        panels, 1, sharex=True, figsize=(max(8, 0.18 * n) if words else 8, 1 + 1.5 * panels),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for axis, (name, array) in zip(axes[:, 0], one.gates.items(), strict=True):
        limit = max(1.0, float(np.abs(array).max(initial=0))) if name in _SIGNED else 1.0
        image = axis.imshow(
            array.T, aspect="auto", origin="lower", interpolation="nearest", cmap="viridis",
            vmin=-limit if name in _SIGNED else 0.0, vmax=limit,
        )  # fmt: skip
        axis.set_title(_TITLES.get(name, name), fontsize="medium")
        axis.set_ylabel("unit")
        label_steps(axis.yaxis, array.shape[1], most=5)
        figure.colorbar(image, ax=axis, label="value")
    label_steps(axes[-1, 0].xaxis, n, words, rotation=90 if words else 0)
    axes[-1, 0].set_xlabel("step")
    return figure
