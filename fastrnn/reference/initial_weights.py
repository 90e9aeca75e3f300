"""Weights for a cell, drawn as layers draw theirs.

It must not know: the equations of any cell, time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn.reference.cells import cell_of, weight_shapes

if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    from fastrnn._typing import DType, Seed
    from fastrnn.reference.cells import Cell, CellName


def weights(
    cell: Cell | CellName,
    inputs: SupportsIndex,
    hidden: SupportsIndex,
    *,
    dtype: DType = "float64",
    rng: Seed = None,
) -> list[Any]:  # of arrays; None for what the cell does not have
    """Draw weights for `forward`, uniform in +-1/sqrt(H) as those of PyTorch.

    Parameters
    ----------
    cell : Cell, or the name of one in `CELLS`
    inputs, hidden : int
        I and H.
    dtype : {"float64", "float32"}
    rng : None, int or numpy.random.Generator
        The generator, or its seed.

    Returns
    -------
    weights : list
        w_ih (G*H, I), w_hh (R*H, H), b_ih (G*H,) and b_hh (R*H,), then the cell's extra parameters.
        R is the number of gates that have a product with h. If there are none, w_hh and b_hh are
        None. An optimizer of `fastrnn.train` takes the list, if there is no None in it.

    Raises
    ------
    ValueError, TypeError
        For sizes and dtypes that do not fit, and for a cell with a projection.

    Examples
    --------
    Fit a cell to sequences, each of which asks for the sum of its numbers:

    >>> import numpy as np
    >>> from fastrnn import reference, train
    >>> rng, weights = np.random.default_rng(0), reference.weights("gru_before", 1, 8, rng=0)
    >>> head = train.Dense(8, 1, dtype="float64", rng=1)
    >>> adam = train.Adam([*weights, head], 0.02)
    >>> for _ in range(200):
    ...     x = rng.uniform(-1, 1, (6, 32, 1))
    ...     y, (h,), tape = reference.forward("gru_before", x, None, *weights)
    ...     loss, d = train.mean_squared_error(head(h), x.sum(axis=0))
    ...     of_head = head.backward(h, d)
    ...     dx, dstate, *gradients = reference.backward(tape, None, (of_head.x,))
    ...     adam.step([*gradients, of_head])
    >>> loss < 0.05
    True
    """
    cell = cell_of(cell)
    if cell.projects:
        raise ValueError("cell must have no projection, whose size is not known here")
    inputs = checks.positive("inputs", inputs)
    hidden = checks.positive("hidden", hidden)
    dtype, rng = checks.dtype(dtype), checks.generator("rng", rng)
    shapes = weight_shapes(cell, inputs, hidden, hidden)
    bound = hidden**-0.5
    drawn = {kind: rng.uniform(-bound, bound, n).astype(dtype) for kind, n in shapes.items()}
    own = [drawn.get(kind) for kind in ("w_ih", "w_hh", "b_ih", "b_hh")]
    return own + [drawn[kind] for kind, _ in cell.extras or ()]
