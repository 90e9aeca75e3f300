"""Relations to the same computation: repeated, with checkpoints, of copies."""

import copy
import pickle

import numpy as np

from . import answers, batches, layouts
from .relations import on_core, relation


@relation("recomputed", weight=1)
def recomputed(run):
    run.same(run.recompute(), run.answer)


@relation("checkpoints", on_core, 4)
def checkpoints(run):
    n = int(run.rng.choice((1, 2, 3, 5, 8, max(1, run.batch.steps), run.batch.steps + 3)))
    looks = [name for name in run.looks if name != "gates"]
    got = run.recompute(checkpoint=n, looks=looks)
    answers.same(got, {k: a for k, a in run.answer.items() if not k.startswith("gates")})


@relation("a copied tape", weight=3)
def a_copied_tape(run):
    """Copies have other addresses; the first copy is freed before the second one is made."""
    through = _pickled if run.rng.random() < 0.5 else copy.deepcopy
    run.same(run.recompute(through=lambda tape: through(through(tape))), run.answer)


def _pickled(what):
    return pickle.loads(pickle.dumps(what))


@relation("a copied layer", weight=1)
def a_copied_layer(run):
    run.same(run.recompute(layer=_pickled(run.layer)), run.answer)
    other = copy.deepcopy(run.layer)
    other.flat[...] = 0
    layout = layouts.ANY[str(run.rng.choice(list(layouts.ANY)))]
    other.load({name: layout(array) for name, array in run.layer.params.items()})
    run.same(run.recompute(layer=other), run.answer)


@relation("backward again")
def backward_again(run):
    layer, batch = copy.deepcopy(run.layer), run.batch
    form = batches.Form(layer, batch)
    x, given = form.arguments(batch)
    _, _, tape = layer.forward(x, form.state("state", batch.state), **given)
    first = answers.of_tape(layer, batch, tape)
    run.same(first, answers.only(run.answer, "grad"))
    run.same(answers.of_tape(layer, batch, tape), first)
    without = answers.of_tape(layer, batch, tape, need_x=False)
    if without.keys() & {"grad x", "grad embedding"}:
        raise answers.Differs("need_x=False gives a gradient of x")
    run.same(without, {name: first[name] for name in without})


@relation("the last output", weight=2)
def last_output(run):
    """layer.last, and its gradient: a dstate by hand, from the final h of the top layer."""
    layer, batch = copy.deepcopy(run.layer), run.batch
    form = batches.Form(layer, batch)
    x, given = form.arguments(batch)
    _, state, tape = layer.forward(x, form.state("state", batch.state), **given)
    h = state[0] if isinstance(state, tuple) else state
    ends, output, dh = h[-layer.num_directions :], layer.last(state), np.zeros_like(h)
    outputs = output if layer.merge is None else (output,)
    d = [run.rng.standard_normal(part.shape).astype(layer.dtype) for part in outputs]
    merged, parts = _by_hand(layer.merge, ends, d)
    answers.same(dict(enumerate(outputs)), dict(enumerate(merged)))
    dh[-layer.num_directions :] = parts
    wanted = tape.backward(dstate=(dh, None) if isinstance(state, tuple) else dh)
    got = tape.backward(last=tuple(d) if layer.merge is None else d[0])
    answers.same({"flat": got.flat}, {"flat": wanted.flat})
    if got.x is not None:
        answers.same({"x": got.x}, {"x": wanted.x})


def _by_hand(merge, ends, d):
    """The merged ends, and the gradient of each end."""
    if len(ends) == 1 or merge == "concat":
        return [np.concatenate(list(ends), -1)], np.split(d[0], len(ends), -1)
    if merge is None:
        return list(ends), d
    f, b = ends
    with np.errstate(all="ignore"):
        merged = {"sum": f + b, "mean": (f + b) / 2, "mul": f * b}[merge]
        parts = {"sum": [d[0]] * 2, "mean": [d[0] / 2] * 2, "mul": [d[0] * b, d[0] * f]}[merge]
    return [merged], parts
