"""Relations to other backends, instruction sets and numbers of threads, and to derivatives."""

import copy
from dataclasses import replace

import numpy as np
from problems import FUSED_ISAS, ISAS

from . import answers, batches
from .relations import on_core, relation


@relation("the reference", on_core, 8)
def the_reference(run):
    plain = replace(run.batch, layouts={})
    _against(run, lambda: run.recompute(batch=plain), "reference")


@relation("another instruction set", on_core, 2)
def another_set(run):
    isa = str(run.rng.choice(ISAS))
    with answers.machine(**run.case.settings | {"isa": isa}):
        if (isa in FUSED_ISAS) == (run.case.settings["isa"] in FUSED_ISAS):
            answers.same(run.recompute(), run.answer)
            return
    _against(run, run.recompute, "core", isa)


def _against(run, recompute, backend, isa=None):
    """Compare the answer with that of other settings, up to rounding."""
    settings = run.case.settings | {"backend": backend} | ({"isa": isa} if isa else {})
    with answers.machine(**settings):
        wanted = recompute()
    run.near(run.answer, wanted)


@relation("other threads", on_core, 3)
def other_threads(run):
    threads = int(run.rng.choice((1, 2, 3, 5, 8)))
    with answers.machine(**run.case.settings | {"threads": threads}):
        answers.same(run.recompute(), run.answer)


@relation("a derivative", lambda case: case.layer.dtype == np.float64 and not case.kinked, 6)
def a_derivative(run):
    """The gradients agree with a difference of the loss, along a random direction of all inputs.

    Both backends have the code above them in common, so they cannot check each other there.
    """
    steps = {name: run.rng.uniform(-1, 1, a.shape) for name, a in _inputs(run).items()}
    terms = [np.ravel(run.answer[name] * step) for name, step in steps.items()]
    allowed = 1e-5 * sum(np.abs(t).sum() for t in terms) + 1e-8
    slopes = [(_loss(run, steps, h) - _loss(run, steps, -h)) / (2 * h) for h in (1e-5, 5e-6)]
    if abs(slopes[0] - slopes[1]) > allowed:
        return  # the loss is too uneven for a difference
    error = abs(slopes[1] - sum(t.sum() for t in terms))
    if not error <= allowed:
        raise answers.Differs(f"the slope is off by {error:.2e}, allowed are {allowed:.2e}")


def _inputs(run):
    """name of a gradient -> the array it belongs to."""
    batch = run.batch
    arrays = {"grad flat": run.layer.flat}
    if not batch.are_ids:
        arrays["grad x"] = batch.x
    if batch.embedding is not None:
        arrays["grad embedding"] = batch.embedding
    pairs = zip(run.layer._structure.cell.states, batch.state or (), strict=False)
    return arrays | {f"grad {name}": a for name, a in pairs if a is not None}


def _loss(run, steps, h):
    """The loss whose gradients are dy and dstate, at inputs moved by h times `steps`."""
    layer, batch = copy.deepcopy(run.layer), copy.deepcopy(run.batch)
    other = replace(run, case=replace(run.case, layer=layer, batch=batch))
    for name, array in _inputs(other).items():
        array += h * steps[name]
    form = batches.Form(layer, batch)
    x, given = form.arguments(batch)
    y, last, _ = layer.forward(x, form.state("state", batch.state), **given)
    pairs = [*zip(form.ys_back(y), batch.dy or (), strict=False)]
    pairs += zip(form.states_back(last), batch.dstate or (), strict=False)
    return sum(np.vdot(a, d) for a, d in pairs if d is not None)
