"""Pictures of a network's gates over time, and of the norms of its gradients.

The functions need matplotlib: pip install matplotlib. Each returns a figure and does not save it;
use `figure.savefig("gates.png")`.

It must not know: layers, how gates and norms are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def _pyplot():
    try:
        from matplotlib import pyplot  # imported here: the rest of fastrnn works without it
    except ImportError:
        raise ImportError("fastrnn.plot needs matplotlib: pip install matplotlib") from None
    return pyplot


def gates(values: Mapping[str, ArrayLike], row: int = 0, layer: int = 0) -> Figure:
    """Draw each gate of one sequence as colours: units upwards, time to the right.

    Parameters
    ----------
    values : dict
        As `tape.gates()` returns it: name -> (L*D, T, B, H) array, or (L*D, T, H).
    row : int
        The index of the sequence in the batch.
    layer : int
        The index of the pass on the first axis of a state.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no gate to draw.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import plot
    >>> z = np.random.default_rng(0).random((1, 20, 2, 8))  # of 20 steps, 2 sequences, 8 units
    >>> figure = plot.gates({"z": z}, row=1)
    >>> figure.axes[0].get_ylabel()
    'z: unit'
    """
    if not values:
        raise ValueError("values must have at least one gate, got none: an RNN has no gates")
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        len(values), 1, sharex=True, figsize=(8, 1 + 1.4 * len(values)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis, (name, array) in zip(axes[:, 0], values.items(), strict=True):
        array = np.asarray(array)[layer]
        array = array[:, row] if array.ndim == 3 else array
        signed = name in ("g", "n", "c")
        limit = max(1.0, float(np.abs(array).max(initial=0))) if signed else 1.0
        image = axis.imshow(
            array.T, aspect="auto", origin="lower", interpolation="nearest",
            cmap="RdBu_r" if signed else "viridis", vmin=-limit if signed else 0.0, vmax=limit,
        )  # fmt: skip
        axis.set_ylabel(f"{name}: unit")
        figure.colorbar(image, ax=axis)
    axes[-1, 0].set_xlabel("step")
    return figure


def gradient_flow(
    norms: Mapping[str, ArrayLike] | Mapping[str, dict[str, Any]], axes: Axes | None = None
) -> Figure:
    """Draw the gradient's norm over time on a logarithmic scale: a line for each pass and state.

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
    if axes is None:
        _, axes = _pyplot().subplots(figsize=(8, 4), layout="constrained")
    compared = norms if all(isinstance(n, dict) for n in norms.values()) else {"": norms}
    for network, states in compared.items():
        for state, lines in states.items():
            for index, line in enumerate(np.atleast_2d(lines)):
                label = f"{network} d{state}" + (f", pass {index}" if len(lines) > 1 else "")
                positive = np.where(line > 0, line, np.nan)  # zero has no logarithm
                axes.semilogy(positive, label=label.strip(), ls="--" if state == "c" else "-")
    axes.set_xlabel("step")
    axes.set_ylabel("norm of the loss' gradient")
    axes.legend()
    return axes.figure
