"""Problems for the tests, ways to solve them, and the tolerance between two answers.

A problem is one pass of one cell: x, the initial state, the weights, and the incoming gradients.
Its numbers are drawn in float32 and then widened, so that both dtypes have the same problem and one
answer in float64. The names of the cells come from the registry.
"""

import contextlib
import itertools
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import one_pass

import fastrnn
from fastrnn import reference
from fastrnn._cells.registry import CELLS, takes
from fastrnn._engine import ragged, runtime

ISAS = runtime.core.isas_available() if runtime.core else []
FUSED_ISAS = [isa for isa in ISAS if runtime.core.isa_is_fused(isa)]  # they give the same bits
BACKENDS = ["core", "reference"] if runtime.core else ["reference"]
DTYPES = ["float32", "float64"]
BIASES = {"both": (1, 1), "b_ih": (1, 0), "b_hh": (0, 1), "none": (0, 0)}
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")
RECURRENT = [name for name, cell in CELLS.items() if cell.recurrent]  # the cells with W_hh
VARIED = [name for name, cell in CELLS.items() if takes(cell, "recurrent_dropout")]
BOUNDED = [name for name in RECURRENT if name != "rnn_relu"]  # infinite inputs give a finite h


@dataclass(frozen=True)
class Problem:
    cell: object
    x: np.ndarray
    state: tuple
    weights: tuple
    dy: np.ndarray
    dstate: tuple

    def map(self, change):
        """The problem with `change` applied to every array."""

        def each(value):
            if type(value) is tuple:
                return tuple(each(v) for v in value)
            return change(value) if isinstance(value, np.ndarray) else value

        return Problem(**{f.name: each(getattr(self, f.name)) for f in fields(self)})

    def rows(self, index):
        """The problem for some rows of the batch."""
        return replace(
            self,
            x=self.x[:, index],
            dy=self.dy[:, index],
            state=tuple(np.ascontiguousarray(s[index]) for s in self.state),
            dstate=tuple(np.ascontiguousarray(s[index]) for s in self.dstate),
        )

    @property
    def longest_sum(self):
        steps, batch, inputs = self.x.shape
        rows, hidden = len(self.weights[0]), self.state[0].shape[1]
        return max(inputs + hidden, rows, steps * batch)

    def tolerance(self, dtype):
        """The allowed error of this problem, relative to the largest magnitude of an array.

        Rounding errors of a sum add up like a random walk, and so do those of the steps; the 6 is
        for the functions of a cell. In about 3000 problems on every instruction set the largest
        error was a third of this.
        """
        walk = np.sqrt(self.longest_sum * max(1, len(self.x)))
        return 3 * float(np.finfo(dtype).eps) * (6 + float(walk))


@lru_cache(maxsize=32)
def problem(cell, t=4, b=3, i=2, h=5, biases=(1, 1), dtype="float64", seed=0):
    """A problem without zeros, whose relus are so far from their kink that slopes are certain."""
    for attempt in itertools.count():
        p = _draw(CELLS[cell], t, b, i, h, biases, np.random.default_rng((seed, attempt)))
        if cell != "rnn_relu" or _distance_to_kink(p) > 1e-5:
            return p.map(lambda array: array.astype(dtype))


def _draw(cell, t, b, i, h, biases, rng):
    def draw(*shape, scale=1.0):
        values = rng.uniform(0.05, 1.0, shape) * rng.choice([-scale, scale], shape)
        return values.astype("float32").astype("float64")

    shapes, states = weight_shapes(cell, i, h), range(len(cell.states))
    scales = {"w_ih": max(1, i) ** -0.5, "w_hh": h**-0.5, "b_ih": 0.5, "b_hh": 0.5}
    given = dict(zip(WEIGHTS, (1, 1, *biases), strict=True))
    weights = tuple(
        draw(*shapes[w], scale=scales[w]) if w in shapes and given[w] else None for w in WEIGHTS
    )
    state, dstate = (tuple(draw(b, h) for _ in states) for _ in range(2))
    return Problem(cell, draw(t, b, i), state, weights, draw(t, b, h), dstate)


def _distance_to_kink(p):
    """The smallest size of a pre-activation of a relu network, in either direction of time."""
    w_ih, w_hh, *biases = p.weights
    least = np.inf
    for x in (p.x, p.x[::-1]):
        h = p.state[0]
        for x_t in x:
            a = x_t @ w_ih.T + h @ w_hh.T + sum(b for b in biases if b is not None)
            least = min(least, np.abs(a).min(initial=np.inf))
            h = np.maximum(a, 0)
    return least


# ---- answers: name -> array ----------------------------------------------------------------------


def named(cell, y, last, dx, dfirst, dweights):
    states = cell.states
    out = {"y": y, **dict(zip(states, last, strict=True)), "dx": dx}
    out |= dict(zip((f"d{s}0" for s in states), dfirst, strict=True))
    out |= dict(zip((f"d{w}" for w in WEIGHTS), dweights, strict=True))
    return {name: array for name, array in out.items() if array is not None}


def by_reference(p, reverse=False, **rows):
    y, last, tape = reference.forward(
        p.cell.name, p.x, p.state, *p.weights, reverse=reverse, **rows
    )
    dx, dfirst, *dweights = reference.backward(tape, p.dy, p.dstate)
    return named(p.cell, y, last, dx, dfirst, dweights)


@lru_cache(maxsize=32)
def expected(cell, sizes, biases=(1, 1), reverse=False):
    """The reference's answer in float64 to a problem of these sizes."""
    return by_reference(problem(cell, *sizes, biases=biases), reverse)


def by_kernels(p, reverse=False, y=None, **rows):
    """The kernels' answer. All outputs begin as NaN, so that an element not written shows."""
    rows = ragged.rows(*p.x.shape[:2], **rows)
    if y is None:
        y = np.full(p.dy.shape, np.nan, p.x.dtype)
    dweights = tuple(None if w is None else np.full_like(w, np.nan) for w in p.weights)
    with fastrnn.backend("core"):
        y, last, saved = one_pass.run(
            p.cell, p.x, p.state, p.weights, reverse, y, keep=True, rows=rows
        )
        dx, dfirst = one_pass.run_backward(saved, p.dy, p.dstate, dweights)
    return named(p.cell, y, last, dx, dfirst, dweights)


def infer(p, reverse=False):
    """The public function of the cell -> y, state as a tuple."""
    y, last = call_function(p, reverse=reverse)
    return y, last if isinstance(last, tuple) else (last,)


def call_function(p, **changes):
    """What the public function of the cell returns, with some arguments changed."""
    state = p.state if len(p.state) > 1 else p.state[0]
    given = dict(zip(WEIGHTS, p.weights, strict=True))
    arguments = {"x": p.x, "state": state, **{w: given[w] for w in weight_names(p.cell)}}
    return getattr(fastrnn, p.cell.function)(**arguments | options_of(p.cell) | changes)


def weight_names(cell):
    """The names of the cell's weights and biases, in the order of its function's arguments."""
    return WEIGHTS if cell.recurrent else ("w_ih", "b_ih")


def weight_shapes(cell, inputs, hidden):
    """name -> shape of the cell's weights and biases, in the order of its function's arguments."""
    rows = cell.gates * hidden
    shapes = {"w_ih": (rows, inputs), "w_hh": (rows, hidden), "b_ih": (rows,), "b_hh": (rows,)}
    return {name: shapes[name] for name in weight_names(cell)}


def parameter_name(weight, end):
    """A layer's name of a weight or bias: weight_ih_l0 for w_ih and the end _l0."""
    return weight.replace("w_", "weight_").replace("b_", "bias_") + end


def options_of(cell):
    """The arguments that select this cell among those of the same function and layer."""
    kind = cell.name.removeprefix(cell.function).removeprefix("_")
    if cell.function == "rnn":
        return {"nonlinearity": kind}
    return {"reset_after": kind == "after"} if cell.function == "gru" else {}


def layer_of(cell, *args, **options):
    """A layer of the cell."""
    cell = CELLS[cell]
    names = {name.lower(): name for name in fastrnn.__all__ if name[0].isupper()}
    layer_class = getattr(fastrnn, names[cell.function.replace("_", "")])
    return layer_class(*args, **{"rng": 0, **options_of(cell), **options})


# ---- comparison ----------------------------------------------------------------------------------


def mismatches(got, wanted, tolerance):
    """The names whose arrays differ by more than the tolerance, relative to the largest magnitude.

    The inputs are about 1. So a magnitude below 1/4, of sums that cancel, counts as 1/4.
    """
    assert got.keys() == wanted.keys()
    wrong = {}
    for name, array in wanted.items():
        assert got[name].shape == array.shape, name
        error = np.abs(got[name] - array).max(initial=0.0)
        allowed = tolerance * np.abs(array).max(initial=0.25)
        if not error <= allowed:
            wrong[name] = f"error {error:.2e}, allowed {allowed:.2e}"
    return wrong


def leaves(tree):
    """Yields each array in nested tuples, lists and mappings, in order, with its path."""
    if isinstance(tree, Mapping):
        tree = list(tree.items())
    elif isinstance(tree, tuple | list):
        tree = list(enumerate(tree))
    else:
        return [] if tree is None else [("", np.asarray(tree))]
    return [(f"{key} {path}", a) for key, branch in tree for path, a in leaves(branch)]


def assert_same_bits(got, wanted):
    """Equal to the last bit, also in the sign of zero, for any strides. All NaN are equal."""
    got, wanted = leaves(got), leaves(wanted)
    assert [path for path, _ in got] == [path for path, _ in wanted]
    for (path, a), (_, b) in zip(got, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        if a.tobytes() == b.tobytes():  # 20 times as quick
            continue
        np.testing.assert_array_equal(a, b, err_msg=path)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b), err_msg=path)


def assert_close(got, wanted, dtype, factor=64):
    """Equal up to rounding, for answers of two backends to a small problem."""
    got, wanted = leaves(got), leaves(wanted)
    assert [path for path, _ in got] == [path for path, _ in wanted]
    for (path, a), (_, b) in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype, path
        atol = factor * float(np.finfo(dtype).eps) * np.abs(b).max(initial=0.0)
        with np.errstate(invalid="ignore"):  # infinities
            if a.shape == b.shape and np.abs(a - b).max(initial=0.0) <= atol:  # 5 times as quick
                continue
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=path)


# ---- array layouts -------------------------------------------------------------------------------


def misaligned(array):
    """A copy at an odd address."""
    copy = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def between_nans(array):
    """A copy with NaN between its elements along the last axis."""
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def within_nans(array):
    """A copy with NaN between its rows."""
    wide = np.full((*array.shape[:-1], array.shape[-1] + 3), np.nan, array.dtype)
    view = wide[..., 1 : array.shape[-1] + 1]
    view[...] = array
    return view


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "other axes first": lambda a: np.ascontiguousarray(a.swapaxes(0, -2)).swapaxes(0, -2),
    "time backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "rows backwards": lambda a: np.ascontiguousarray(a[..., ::-1, :])[..., ::-1, :],
    "features backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "part of wider rows": within_nans,
    "every other element": between_nans,
    "misaligned": misaligned,
    "read-only": read_only,
}


@contextlib.contextmanager
def unchanged(*arrays):
    """Assert that the bits of the arrays do not change in this block."""
    before = [(path, array.copy()) for path, array in leaves(arrays)]
    yield
    assert_same_bits(dict(leaves(arrays)), dict(before))


# ---- other threads -------------------------------------------------------------------------------


def at_once(functions, times):
    """The results of the functions, each called `times` times, all in threads of their own."""
    got, start = [[] for _ in functions], threading.Barrier(len(functions))

    def work(function, answers):
        start.wait()
        answers.extend(function() for _ in range(times))

    pairs = zip(functions, got, strict=True)
    workers = [threading.Thread(target=work, args=pair) for pair in pairs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return got


# ---- another process -----------------------------------------------------------------------------


def run_python(code, *arguments, timeout=120, **environment):
    """Run code in a new Python process that finds this package, without this one's settings."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("FASTRNN_", "PYTHONWARN"))}
    path = [str(pathlib.Path(fastrnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    keep["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        cwd=path[0],  # in a checkout, fastrnn/ without kernels would hide the installed package
        env=keep | environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
