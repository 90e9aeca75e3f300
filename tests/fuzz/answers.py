"""Answers: all results of a case, as a dict of arrays in one form; and the comparison of two.

A name begins with the source of the array: "call" for inference, "pass" for a training pass, "grad"
for its gradients, "gates" and "norms" for the other methods of a tape.

It must not know: relations.
"""

import contextlib
import copy

import numpy as np
from problems import assert_same_bits

import fastrnn
from fastrnn._engine import runtime

from .batches import Form


class Differs(AssertionError):
    """Two answers differ that should be equal."""


@contextlib.contextmanager
def machine(backend="core", isa=None, threads=None, **_):
    """Use the settings of a case in a block."""
    before = runtime.core.isa() if runtime.core else None
    try:
        if isa is not None:
            runtime.select_isa(isa)
        with fastrnn.backend(backend), fastrnn.threads(threads or 1):
            yield
    finally:
        if before is not None:
            runtime.select_isa(before)


def named(layer, prefix, states):
    """The arrays of a state, by name."""
    pairs = zip(layer._structure.cell.states, states, strict=True)
    return {f"{prefix} {name}": array for name, array in pairs}


def numbered(prefix, arrays):
    return {f"{prefix} {k}" if len(arrays) > 1 else prefix: a for k, a in enumerate(arrays)}


def call(layer, batch, **options):
    """The answer of inference."""
    form = Form(layer, batch)
    x, given = form.arguments(batch)
    y, last = layer(x, form.state("state", batch.state), **given, **options)
    form.check_given()
    return _outputs(layer, form, "call", y, last)


def _outputs(layer, form, prefix, y, last):
    return numbered(f"{prefix} y", form.ys_back(y)) | named(layer, prefix, form.states_back(last))


def train(layer, batch, checkpoint=None, looks=(), through=lambda tape: tape):
    """The answer of a training pass; a copy of the layer runs it, so that it draws the same.

    looks : "gates" and "norms", or some of them, to compute. through : a function from the tape to
    the one to use.
    """
    layer = copy.deepcopy(layer)
    form = Form(layer, batch)
    x, given = form.arguments(batch)
    state = form.state("state", batch.state)
    y, last, tape = layer.forward(x, state, checkpoint=checkpoint, **given)
    answer = _outputs(layer, form, "pass", y, last)
    answer |= of_tape(layer, batch, through(tape), looks)
    form.check_given()
    return answer


def of_tape(layer, batch, tape, looks=(), need_x=True):
    """The results of a tape."""
    form = Form(layer, batch)
    dy, dstate = form.gradient(batch.dy), form.state("dstate", batch.dstate)
    if dy is None and dstate is None:  # backward refuses to have no gradient at all
        count = layer.num_directions if layer.merge == "concat" else 1
        shape = batch.steps, batch.size, count * layer._structure.features
        dy = form.gradient([np.zeros(shape, layer.dtype)] * (1 + (layer.merge is None)))
    grads = tape.backward(dy, dstate, need_x=need_x)
    answer = {"grad flat": grads.flat}
    answer |= named(layer, "grad", form.states_back(grads.state))
    if grads.x is not None:
        answer["grad x"] = form.back(grads.x)
    if grads.embedding is not None:
        answer["grad embedding"] = grads.embedding
    if "norms" in looks:
        norms = tape.gradient_norms(dy, dstate)
        answer |= {f"norms {name}": array for name, array in norms.items()}
    if "gates" in looks:
        answer |= gates_of(batch, tape.gates())
    form.check_given()
    return answer


def gates_of(batch, gates):
    """(L*D, T, B, H) arrays, by name."""
    return {f"gates {n}": a[:, :, None] if batch.unbatched else a for n, a in gates.items()}


def by_row(answer):
    """The arrays with an axis for the batch; that axis comes first."""
    rows = {}
    for name, array in answer.items():
        if name in ("grad flat", "grad embedding") or name.startswith("norms"):
            continue
        rows[name] = np.moveaxis(array, 2 if name.startswith("gates") else 1, 0)
    return rows


def only(answer, *prefixes):
    """The arrays whose names begin with one of these."""
    return {name: array for name, array in answer.items() if name.startswith(prefixes)}


# ---- comparison ----------------------------------------------------------------------------------


def same(got, wanted):
    """Assert equality to the last bit; all NaN are equal."""
    if got.keys() != wanted.keys():
        raise Differs(f"{sorted(got)} rather than {sorted(wanted)}")
    for name, array in wanted.items():
        a, b = np.ascontiguousarray(got[name]), np.ascontiguousarray(array)
        if a.dtype != b.dtype or a.shape != b.shape:
            raise Differs(f"{name}: {a.dtype} {a.shape} rather than {b.dtype} {b.shape}")
        if a.tobytes() != b.tobytes():
            assert_same_bits({name: a}, {name: b})


overflowing = np.errstate(over="ignore", invalid="ignore")  # in our own sums of huge results


@overflowing
def added(a, b):
    return a + b


@overflowing
def near(got, wanted, case, moved=None):
    """Assert equality up to rounding, for sums in different orders.

    moved : name -> a known effect of rounding on the array.
    """
    if got.keys() != wanted.keys():
        raise Differs(f"{sorted(got)} rather than {sorted(wanted)}")
    t, b, i, h = case.sizes
    terms = 40 + np.sqrt(t * b) + np.sqrt(i + h)
    factor = 30 * case.layer.num_layers
    eps = float(np.finfo(case.layer.dtype).eps)
    for name, array in wanted.items():
        if got[name].shape != array.shape:
            raise Differs(f"{name}: {got[name].shape} rather than {array.shape}")
        finite = np.isfinite(array)  # both must have their infinities at the same elements
        if not np.array_equal(finite, np.isfinite(got[name])):
            raise Differs(f"{name}: other elements are finite")
        allowed = factor * eps * terms * np.abs(array[finite]).max(initial=1.0)
        allowed += 20 * (moved or {}).get(name, 0.0)
        error = np.abs(got[name][finite] - array[finite]).max(initial=0.0)
        if not error <= allowed:
            raise Differs(f"{name}: off by {error:.2e}, allowed are {allowed:.2e}")
