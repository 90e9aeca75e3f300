"""Relations to parts of a batch: some rows, some steps, all but a row that is not finite."""

import copy
from dataclasses import replace

import numpy as np

from . import answers, batches
from .relations import relation


def _quiet(case):
    """Whether a training pass draws nothing, so that rows do not depend on the batch."""
    return not case.draws


def _has_rows(case):
    return case.batch.size > 0


@relation("some of the rows", _has_rows, 4)
def some_rows(run):
    """A row's bits do not depend on the other rows."""
    size = run.batch.size
    count = 1 if run.rng.random() < 0.4 else int(run.rng.integers(1, size + 2))
    index = run.rng.choice(size, count, replace=bool(count > size or run.rng.random() < 0.3))
    part = run.batch.of_rows(index)
    wanted = answers.by_row(run.answer)
    if run.case.draws:
        got, wanted = answers.by_row(answers.call(run.layer, part)), answers.only(wanted, "call")
    else:
        got = answers.by_row(run.recompute(batch=part))
    run.same(got, {name: array[index] for name, array in wanted.items()})


@relation("a value that is not finite", _has_rows, 4)
def not_finite(run):
    """A value that is not finite has no effect on other rows."""
    batch, bad = copy.deepcopy(run.batch), run.rng.choice((np.nan, np.inf, -np.inf))
    targets = [] if batch.are_ids else [batch.x]
    targets += [a for part in (batch.state, batch.dy, batch.dstate) for a in part or ()]
    targets = [a for a in targets if a is not None and a.size]
    if not targets:
        return
    target = targets[run.rng.integers(len(targets))]
    place = tuple(int(run.rng.integers(n)) for n in target.shape)
    target[place] = bad
    got = answers.by_row(run.recompute(batch=replace(batch, layouts={})))
    others = np.arange(batch.size) != place[1]
    wanted = answers.by_row(run.answer)
    run.same({n: a[others] for n, a in got.items()}, {n: a[others] for n, a in wanted.items()})


@relation("nonsense where nothing counts", lambda case: not case.batch.works().all(), 5)
def nonsense(run):
    """x of steps that are not taken, and dy beyond a row's end, have no effect."""
    batch = copy.deepcopy(run.batch)
    idle = ~batch.works()
    batch.x[idle] = 77 if batch.are_ids else np.nan
    ended = np.zeros_like(idle)
    if "lengths" in batch.rows:
        ended = np.arange(batch.steps)[:, None] >= batch.rows["lengths"]
    for d in batch.dy or ():
        d[ended] = np.nan
    got = run.recompute(batch=replace(batch, layouts={}))
    run.same(got, run.answer)


@relation("a cut of time", lambda case: case.one_way, 4)
def a_cut(run):
    batch = run.batch
    k = int(run.rng.integers(0, batch.steps + 1))
    first, second = batch.of_steps(0, k), batch.of_steps(k, batch.steps)
    if batch.rows.get("reset_to") == "initial" and "reset" in batch.rows:
        return  # a reset in the second part would give another state than in the full batch
    layer, states = run.layer, run.layer._structure.cell.states
    first.state = batch.state
    of_first = answers.call(layer, first)
    second.state = [of_first[f"call {name}"] for name in states]
    of_second = answers.call(layer, second)
    y = np.concatenate([of_first["call y"], of_second["call y"]])
    run.same(of_second | {"call y": y}, answers.only(run.answer, "call"))
    if _quiet(run.case):
        _gradients_of_cut(run, first, second)


def _gradients_of_cut(run, first, second):
    second.dstate = run.batch.dstate
    of_second = answers.train(run.layer, second)
    first.dstate = [of_second[f"grad {name}"] for name in run.layer._structure.cell.states]
    of_first = answers.train(run.layer, first)
    if "grad x" in of_first:
        dx = np.concatenate([of_first["grad x"], of_second["grad x"]])
        run.same({"grad x": dx}, answers.only(run.answer, "grad x"))
    names = [f"grad {name}" for name in run.layer._structure.cell.states]
    run.same({n: of_first[n] for n in names}, {n: run.answer[n] for n in names})
    flat = answers.added(of_first["grad flat"], of_second["grad flat"])
    run.near({"grad flat": flat}, answers.only(run.answer, "grad flat"))


@relation("gates of a call", _quiet)
def gates_of_a_call(run):
    layer, batch = run.layer, run.batch
    form = batches.Form(layer, batch)
    x, given = form.arguments(batch)
    state = form.state("state", batch.state)
    y, last, gates = layer(x, state, return_gates=True, **given)
    got = answers._outputs(layer, form, "call", y, last)
    wanted = answers.only(run.answer, "call")
    run.same(got, wanted)
    kept = answers.train(layer, batch, looks=("gates",))
    run.same(answers.gates_of(batch, gates), answers.only(kept, "gates"))
