"""A cell's derivative against finite differences of its step, first one step, then through time.

It must not know: the equations of any cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.reference.cells import cell_of, weight_shapes
from fastrnn.reference.one_step import Probe, slopes_of
from fastrnn.reference.report import Report, compared
from fastrnn.reference.step_check import findings_of_step
from fastrnn.reference.through_time import backward, forward

if TYPE_CHECKING:
    from fastrnn.reference.cells import Cell, CellName

_THROUGH_TIME = (
    "one step is right, but several are not: does `saved` hold an array that a later step changes?"
)


def check(
    cell: Cell | CellName,
    *,
    steps: int = 3,
    batch: int = 2,
    inputs: int = 3,
    hidden: int = 4,
    rtol: float = 1e-6,
    rng: int | np.random.Generator = 0,
    strict: bool = True,
) -> Report:
    """Compare a cell's derivative with finite differences of its step, and say what is wrong.

    All numbers are float64 and are drawn uniformly. First `check` looks at one step. It compares
    each result of the derivative with central differences of the loss L = sum(dstate * state). If
    all are right, it runs `forward` and `backward` and compares each gradient with differences of
    L = sum(dy * y) + sum(dstate * state).

    For a wrong one the report has the element with the largest error and, if it is a usual mistake,
    the likely cause: a wrong sign, a factor such as 1 - tanh^2 that is missing or too many, a
    constant factor, a missing path or term, a transposed matrix, two gates or h and c exchanged.

    Parameters
    ----------
    cell : Cell, or the name of one in `CELLS`
    steps, batch, inputs, hidden : int
        T, B, I and H. The single step has at least 2 rows of 3 units.
    rtol : float
        Allowed error, relative to a gradient's largest element.
    rng : int or numpy.random.Generator
        The generator, or its seed. A cell with kinks, such as a relu, may need another one, because
        differences across a kink are no derivative.
    strict : bool
        Raise ValueError if a derivative is wrong. With False the report is returned.

    Returns
    -------
    report : Report
        A mapping from names to relative errors; ``print(report)`` shows it as a table. Of one step:
        "v" for the operands, "da" for each gate ("da_f" with the cell's names), "du" likewise if
        `added` is False, "dh_prev", "dc_prev", and "dp" with the kind of each extra parameter.
        Through time: "dx", "dh0", "dc0", "dw_ih", "dw_hh", "db_ih", "db_hh".

    Raises
    ------
    ValueError
        If a derivative is wrong, with the report as message. Also if step or derivative return
        something else than a `Cell` describes.
    TypeError
        If cell is neither a Cell nor the name of one, or rtol is no number.

    Examples
    --------
    A cell h_t = tanh(a_t + u_t) whose derivative lacks the factor 1 - h_t^2:

    >>> import numpy as np
    >>> from fastrnn import reference
    >>> def step(a, state, w, b):
    ...     (h,) = state
    ...     h_t = np.tanh(a[0] + h @ w.T + b)
    ...     return (h_t,), (h,), h_t
    >>> def derivative(dstate, h_t, w, da, du):
    ...     da[0] = dstate[0]  # du is the same array, for the cell reads a + u alone
    ...     return (du[0] @ w,)
    >>> cell = reference.Cell(1, 1, step, derivative, phases=((0, 1),))
    >>> report = reference.check(cell, strict=False)
    >>> report.ok, report.wrong["da"].cause
    (False, 'the factor (1 - h_t^2) is missing')
    """
    cell, rng = cell_of(cell), checks.generator("rng", rng)
    sizes = [
        checks.positive(name, size)
        for name, size in (("steps", steps), ("batch", batch), ("inputs", inputs),
                           ("hidden", hidden))
    ]  # fmt: skip
    strict = checks.flag("strict", strict)
    rtol = checks.number("rtol", rtol, "a finite number of at least 0", lambda n: 0 <= n < np.inf)
    findings = findings_of_step(Probe(cell, max(2, batch), max(3, hidden), rng), rtol)
    if all(found.right for found in findings.values()):
        findings |= _through_time(cell, *sizes, rng, rtol)
    report = Report(findings)
    if strict and not report.ok:
        raise ValueError(str(report))
    return report


def _through_time(cell, steps, batch, inputs, hidden, rng, rtol):
    """Name -> `Finding`."""
    arrays, dy, dlast = _problem(cell, steps, batch, inputs, hidden, rng)
    _, _, tape = _forward(cell, arrays)
    dx, dstate, *dweights = backward(tape, dy, dlast)
    gradients = [d for d in (dx, *dstate, *dweights) if d is not None]
    found = {}
    for name, gradient in zip(arrays, gradients, strict=True):
        (wanted,) = slopes_of(lambda: (_loss(cell, arrays, dy, dlast),), arrays[name])
        finding = compared(gradient, wanted, rtol)
        found["d" + name] = finding if finding.right else finding._replace(cause=_THROUGH_TIME)
    return found


def _problem(cell, steps, batch, inputs, hidden, rng):
    """Arrays by name, in the order of `backward`'s results; dy; dstate."""
    features = max(1, hidden - 1) if cell.projects else hidden
    states = dict(zip(("h0", "c0"), (features, hidden)[: cell.states], strict=False))
    shapes = {"x": (steps, batch, inputs)} | {name: (batch, n) for name, n in states.items()}
    shapes |= weight_shapes(cell, inputs, hidden, features)
    arrays = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
    dlast = tuple(rng.uniform(-1, 1, (batch, n)) for n in states.values())
    return arrays, rng.uniform(-1, 1, (steps, batch, features)), dlast


def _forward(cell, arrays):
    state = tuple(arrays[name] for name in ("h0", "c0") if name in arrays)
    weights = [arrays.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    more = (["w_hr"] if cell.projects else []) + [kind for kind, _ in cell.extras or ()]
    return forward(cell, arrays["x"], state, *weights, *(arrays[name] for name in more))


def _loss(cell, arrays, dy, dlast):
    y, last, _ = _forward(cell, arrays)
    return np.vdot(dy, y) + sum(np.vdot(d, s) for d, s in zip(dlast, last, strict=True))
