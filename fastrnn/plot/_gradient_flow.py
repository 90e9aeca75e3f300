"""A picture of the norms of gradients over time.

It must not know: layers, how norms are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.plot._figures import drawn_in, label_ends

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray


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
        If norms is not such a dict, or is empty, or if axes are no axes.
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
    compared = norms if all(isinstance(n, Mapping) for n in norms.values()) else {"": norms}
    found = [
        (network, state, _lines(f"{network} {state}".strip(), lines))
        for network, states in compared.items()
        for state, lines in states.items()
    ]
    if not found:
        raise ValueError("norms must have at least one line to draw, got empty dicts")
    axes = drawn_in(axes, figsize=(8, 4), layout="constrained")
    for network, state, lines in found:
        for index, line in enumerate(lines):
            label = f"{network} d{state}" + (f", pass {index}" if len(lines) > 1 else "")
            positive = np.where(line > 0, line, np.nan)  # zero has no logarithm
            axes.semilogy(positive, label=label.strip(), ls="--" if state == "c" else "-")
    axes.set_xlabel("step")
    axes.set_ylabel("norm of the loss' gradient")
    axes.set_title("Gradient of the loss with respect to the state")
    label_ends(axes)
    return axes.figure


def _lines(name: str, lines: Any) -> NDArray[Any]:
    """Norms as (L*D, T) numbers; an error that names them for anything else."""
    array = np.atleast_2d(checks.converted(f"{name} of norms", lines, "an array of numbers"))
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"norms must be arrays of numbers, got {name} of dtype {array.dtype}: give what "
            "tape.gradient_norms returns, or a dict of such dicts alone"
        )
    if array.ndim > 2 or array.size == 0 or (array < 0).any():
        got = f"shape {array.shape}" if array.ndim > 2 or array.size == 0 else "negative numbers"
        raise ValueError(f"norms must be (L*D, T) arrays of numbers from 0, got {name} of {got}")
    return array
