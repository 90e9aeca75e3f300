"""A cell's derivative against finite differences of its step.

It must not know: the equations of any cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.reference.cells import CELLS
from fastrnn.reference.through_time import backward, forward

if TYPE_CHECKING:
    from fastrnn.reference.cells import Cell, CellName

_STEP = 1e-5


def check(
    cell: Cell | CellName,
    *,
    steps: int = 3,
    batch: int = 2,
    inputs: int = 3,
    hidden: int = 4,
    rtol: float = 1e-6,
    rng: int | np.random.Generator = 0,
) -> dict[str, float]:
    """Compare a cell's derivative with finite differences of its step, in float64.

    `check` draws x, a state, weights, biases and the gradients dy and dstate of a loss, all
    uniform. It runs `forward` and `backward`, and compares each gradient with central differences
    of the loss L = sum(dy * y) + sum(dstate * state).

    Parameters
    ----------
    cell : Cell, or the name of one in `CELLS`
    steps, batch, inputs, hidden : int
        T, B, I and H.
    rtol : float
        Allowed error, relative to a gradient's largest element.
    rng : int or numpy.random.Generator
        The generator, or its seed. A cell with kinks, such as a relu, may need another one, because
        differences across a kink are no derivative.

    Returns
    -------
    errors : dict
        "x", "h0" (and "c0"), "w_ih", "w_hh", "b_ih", "b_hh" -> relative error.

    Raises
    ------
    ValueError
        If an error is larger than rtol. The message names the gradient and the element.

    Examples
    --------
    A cell without gates, h_t = a_t + u_t; its derivative is the identity:

    >>> from fastrnn.reference import Cell, check
    >>> def step(a, state, w, b):
    ...     (h,) = state
    ...     return (a[0] + h @ w.T + b,), (h,), None
    >>> def derivative(dstate, saved, w, da, du):
    ...     da[0] = dstate[0]  # du is the same array, for the cell reads a + u alone
    ...     return (du[0] @ w,)
    >>> max(check(Cell(1, 1, step, derivative, ((0, 1),))).values()) < 1e-6
    True
    """
    rng = np.random.default_rng(rng)
    arrays, dy, dlast = _problem(cell, steps, batch, inputs, hidden, rng)
    _, _, tape = _forward(cell, arrays)
    dx, dstate, *dweights = backward(tape, dy, dlast)
    gradients = [d for d in (dx, *dstate, *dweights) if d is not None]
    found = dict(zip(arrays, gradients, strict=True))
    errors = {}
    for name, gradient in found.items():
        wanted = _differences(lambda: _loss(cell, arrays, dy, dlast), arrays[name])
        error = np.abs(gradient - wanted) / max(np.abs(wanted).max(initial=0.0), 1e-8)
        errors[name] = float(error.max(initial=0.0))
        if not errors[name] <= rtol:
            place = np.unravel_index(
                np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape
            )
            place = tuple(int(i) for i in place)
            raise ValueError(
                f"the derivative of {name} must be {wanted[place]:.9g} at {place}, got "
                f"{gradient[place]:.9g}: off by {errors[name]:.1e} of its largest element, "
                f"allowed are {rtol:.1e}"
            )
    return errors


def _problem(cell, steps, batch, inputs, hidden, rng):
    """Arrays by name, in the order of `backward`'s results; dy; dstate."""
    cell = CELLS[cell] if isinstance(cell, str) else cell
    rows, states = cell.gates * hidden, ("h0", "c0")[: cell.states]
    shapes = {"x": (steps, batch, inputs)} | dict.fromkeys(states, (batch, hidden))
    shapes |= {"w_ih": (rows, inputs), "w_hh": (rows, hidden), "b_ih": rows, "b_hh": rows}
    if not cell.phases:
        del shapes["w_hh"], shapes["b_hh"]
    arrays = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
    dlast = tuple(rng.uniform(-1, 1, (batch, hidden)) for _ in states)
    return arrays, rng.uniform(-1, 1, (steps, batch, hidden)), dlast


def _forward(cell, arrays):
    state = tuple(arrays[name] for name in ("h0", "c0") if name in arrays)
    weights = [arrays.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    return forward(cell, arrays["x"], state, *weights)


def _loss(cell, arrays, dy, dlast):
    y, last, _ = _forward(cell, arrays)
    return np.vdot(dy, y) + sum(np.vdot(d, s) for d, s in zip(dlast, last, strict=True))


def _differences(loss, array):
    """Central differences of loss() with respect to each element of an array that it reads."""
    gradient, flat = np.empty(array.size), array.reshape(-1)
    for index, value in enumerate(flat.copy()):
        flat[index] = value + _STEP
        above = loss()
        flat[index] = value - _STEP
        gradient[index] = (above - loss()) / (2 * _STEP)
        flat[index] = value
    return gradient.reshape(array.shape)
