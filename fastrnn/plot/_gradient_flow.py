"""A picture of the norms of gradients over time.

It must not know: layers, how norms are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.plot._figures import label_ends, subplots

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def gradient_flow(
    norms: Mapping[str, ArrayLike] | Mapping[str, dict[str, Any]], axes: Axes | None = None
) -> Figure:
    """Draw the gradient's norm over time on a logarithmic scale: a line for each pass and state.

    Each line has its name at its end; c's are dashed.

    Parameters
    ----------
    norms : dict
        As `tape.gradient_norms(dy)` returns it: "h" and perhaps "c" -> (L*D, T) arrays. Or a dict
        of such dicts by name, to compare networks.
    axes : matplotlib axes, or None for a new figure

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ValueError, TypeError
        If norms is not such a dict, or is empty.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import plot
    >>> figure = plot.gradient_flow({"h": 0.9 ** np.arange(20.0, 0, -1)[None]})
    >>> figure.axes[0].get_yscale()
    'log'
    """
    if not isinstance(norms, Mapping):
        raise TypeError(
            f"norms must be a dict, as tape.gradient_norms returns it, got {type(norms).__name__}"
        )
    if not norms:
        raise ValueError("norms must have at least one line to draw, got an empty dict")
    if axes is None:
        _, axes = subplots(figsize=(8, 4), layout="constrained")
    compared = norms if all(isinstance(n, Mapping) for n in norms.values()) else {"": norms}
    for network, states in compared.items():
        for state, lines in states.items():
            lines = np.atleast_2d(lines)
            for index, line in enumerate(lines):
                label = f"{network} d{state}" + (f", pass {index}" if len(lines) > 1 else "")
                positive = np.where(line > 0, line, np.nan)  # zero has no logarithm
                axes.semilogy(positive, label=label.strip(), ls="--" if state == "c" else "-")
    axes.set_xlabel("step")
    axes.set_ylabel("norm of the loss' gradient")
    axes.set_title("Gradient of the loss with respect to the state")
    label_ends(axes)
    return axes.figure
