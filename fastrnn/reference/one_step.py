"""One step of a cell, and the gradients of its inputs: by its derivative, and by differences.

A `Probe` draws the inputs of a step. It runs the step, and differentiates it numerically with
respect to each input that the cell's derivative has a gradient of. The differences are kept for
each output, so that the gradient for any dstate is a sum over them.

It must not know: the equations of any cell, time, causes of mistakes.
"""

from __future__ import annotations

import numpy as np

from fastrnn.reference.cells import by_gate

STEP = 1e-5  # of central differences in float64


class Probe:
    """A step of a cell at random numbers.

    Attributes
    ----------
    a : (G, B, H) array. u : (R, B, H) array, the recurrent side of R gates, by the operands.
    before, after : tuples of state arrays
    operands : the v_t of each phase
    saved : what the step saved
    dstate : a random gradient of each array of `after`
    """

    def __init__(self, cell, batch, hidden, rng):
        features = max(1, hidden - 1) if cell.projects else hidden  # those of the h that it reads

        def draw(*shape):
            return rng.uniform(-1, 1, shape)

        self.cell, self.batch = cell, batch
        self.a = draw(cell.gates, batch, hidden)
        self.before = tuple(draw(batch, n) for n in (features, hidden)[: cell.states])
        self.w = draw(cell.recurrent * hidden, features)
        self.b = draw(len(self.w)) if cell.biased else np.zeros(len(self.w))
        self.params = self._drawn_params(draw, hidden)
        self.dstate = tuple(draw(batch, hidden) for _ in self.before)
        self.after, self.operands, self.saved = self._checked_step()
        self.u = self._recurrent_side(hidden)
        self._slopes = {}

    def _drawn_params(self, draw, hidden):
        cell = self.cell
        if cell.extras is None:
            return None
        params = {kind: draw(units * hidden) for kind, units in cell.extras}
        if not cell.biased:
            params |= {"bias_ih": draw(cell.gates * hidden), "bias_hh": draw(len(self.w))}
        return params

    def _recurrent_side(self, hidden):
        """(S2) with the operands that the step returned."""
        if not self.cell.phases:
            return np.zeros((0, self.batch, hidden))
        rows = [slice(first * hidden, last * hidden) for first, last in self.cell.phases]
        u = [v @ self.w[r].T + self.b[r] for v, r in zip(self.operands, rows, strict=True)]
        return by_gate(np.concatenate(u, axis=1), self.cell.recurrent)

    # ---- the step --------------------------------------------------------------------------------

    def _step(self, rows=slice(None)):
        """The step of some rows of the batch: state, operands, saved."""
        more = () if self.params is None else (self.params, None)
        before = tuple(s[rows] for s in self.before)
        with np.errstate(all="ignore"):
            return self.cell.step(self.a[:, rows], before, self.w, self.b, *more)

    def _checked_step(self):
        arrays = [self.a, *self.before, self.w, self.b]
        copies = [array.copy() for array in arrays]
        found = self._step()
        for array, copied in zip(arrays, copies, strict=True):
            if not np.array_equal(array, copied):
                raise ValueError(
                    "step must not change its arguments, but it wrote to one of a, state, w_hh and "
                    "b_hh: begin with a copy, as in p = a + u in place of a += u"
                )
        if not isinstance(found, tuple) or len(found) != 3:
            raise ValueError(
                f"step must return three things, (state, operands, saved), got {_kind(found)}"
            )
        state, operands, saved = found
        self._check_arrays("the state that step returns", state, [d.shape for d in self.dstate])
        shapes = [self.before[0].shape] * len(self.cell.phases)
        self._check_arrays("the operands that step returns", operands, shapes)
        for name, array in zip(("h", "c"), state, strict=False):
            if not np.isfinite(array).all():
                raise ValueError(f"step must return finite numbers, got NaN or inf in {name}")
        for row in range(self.batch):
            alone = self._step([row])[0]
            if not all(
                np.allclose(s[row], one[0], rtol=1e-9) for s, one in zip(state, alone, strict=True)
            ):
                raise ValueError(
                    f"step must treat each row of the batch alone, but row {row} alone has another "
                    "state than in the batch"
                )
        return found

    def _check_arrays(self, name, arrays, shapes):
        if not isinstance(arrays, tuple) or len(arrays) != len(shapes):
            wanted = f"a tuple of {len(shapes)}" + (": write (h,)" if len(shapes) == 1 else "")
            raise ValueError(f"{name} must be {wanted}, got {_kind(arrays)}")
        for index, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
            if type(array) is not np.ndarray or array.shape != shape:
                got = array.shape if type(array) is np.ndarray else _kind(array)
                raise ValueError(f"{name} must be (B, H) = {shape} arrays, got {got} at {index}")
            if array.dtype != np.float64:
                raise ValueError(
                    f"{name} must be in float64, as are the arrays that come in, got dtype "
                    f"{array.dtype} at {index}: differences of it would be too inexact"
                )

    # ---- gradients -------------------------------------------------------------------------------

    def derived(self, dstate):
        """The results of the cell's derivative: name -> array. What it leaves out is NaN.

        The names are "a", "u" if it is separate, "h", "c", and "p" with the kind of a parameter.
        """
        cell = self.cell
        da = np.full(self.a.shape, np.nan)
        du = da if cell.added else np.full(da.shape, np.nan)
        more, dparams = (), {}
        if self.params is not None:
            dparams = {k: np.full((self.batch, p.size), np.nan) for k, p in self.params.items()}
            more = self.params, None, dparams
        given = tuple(d.copy() for d in dstate)
        with np.errstate(all="ignore"):
            before = cell.derivative(given, self.saved, self.w, da, du, *more)
        if not all(np.array_equal(d, copied) for d, copied in zip(dstate, given, strict=True)):
            raise ValueError(
                "derivative must not change dstate, but it wrote to it: use dc = dc + ... in place "
                "of dc += ..."
            )
        self._check_arrays("dstate of derivative", before, [s.shape for s in self.before])
        found = {"a": da} | ({} if cell.added or not cell.phases else {"u": du[: cell.recurrent]})
        found |= dict(zip(("h", "c"), map(np.array, before), strict=False))
        return found | {f"p {kind}": d for kind, d in dparams.items()}

    def differences(self, name, dstate):
        """The gradient that `derived` should have under this name, by differences of the step."""
        array, of_all_rows = self._input(name)
        if name not in self._slopes:
            self._slopes[name] = slopes_of(lambda: self._step()[0], array)
        products = [s * d for s, d in zip(self._slopes[name], dstate, strict=True)]
        if not of_all_rows:
            return sum(p.sum(axis=(-2, -1)) for p in products)
        # Rows do not read one another, so a row's part of the loss gives this row's gradient.
        gradient = sum(p.sum(axis=-1) for p in products).T
        return by_gate(gradient, self.cell.recurrent) if name == "u" else gradient

    def _input(self, name):
        """The array to change, and True if all rows read it and have a gradient of it each."""
        if name == "u":
            return self.b, True
        if name == "w":
            return self.w, False
        if name.startswith("p "):
            return self.params[name.removeprefix("p ")], True
        return {"a": self.a, **dict(zip(("h", "c"), self.before, strict=False))}[name], False


def slopes_of(function, array):
    """Central differences of each output of a function by each element of an array that it reads.

    function : without arguments -> a tuple of outputs, numbers or arrays
    Returns for each output an array (*array.shape, *output.shape).
    """
    flat, slopes = array.reshape(-1), []
    for index, value in enumerate(flat.copy()):
        flat[index] = value + STEP
        above = function()
        flat[index] = value - STEP
        below = function()
        flat[index] = value
        slopes.append([(s - t) / (2 * STEP) for s, t in zip(above, below, strict=True)])
    found = [np.array(of_one) for of_one in zip(*slopes, strict=True)]
    return [s.reshape(*array.shape, *s.shape[1:]) for s in found]


def _kind(value):
    if type(value) is np.ndarray:
        return f"an array of shape {value.shape}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{len(value)} of them" if isinstance(value, tuple) else type(value).__name__
