"""A picture of the gates of one sequence.

It must not know: layers, how gates are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.plot._figures import subplots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


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
    figure, axes = subplots(
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
