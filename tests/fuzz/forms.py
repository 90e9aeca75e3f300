"""Relations to the same batch in another form: layouts, axes, ids, lengths, masks and resets."""

from dataclasses import replace

import numpy as np

from . import answers, batches
from .relations import relation


@relation("other layouts", weight=3)
def other_layouts(run):
    batch = replace(run.batch, layouts=batches.drawn_layouts(run.rng, run.batch))
    run.same(run.recompute(batch=batch), run.answer)


@relation("other axes", weight=1)
def other_axes(run):
    """Batch first or time first; a batch of one with or without its axis."""
    layer = run.case.remade(batch_first=bool(run.rng.random() < 0.5))
    unbatched = run.batch.size == 1 and bool(run.rng.random() < 0.5)
    run.same(run.recompute(layer, replace(run.batch, unbatched=unbatched)), run.answer)


@relation("rows told what they are", weight=1)
def rows_told(run):
    """Lengths of T, masks of True and resets of False have no effect."""
    batch, shape = run.batch, (run.batch.steps, run.batch.size)
    nothing = {
        "lengths": np.full(shape[1], shape[0]),
        "mask": np.ones(shape, bool),
        "reset": np.zeros(shape, bool),
    }
    run.same(run.recompute(batch=replace(batch, rows=nothing | batch.rows)), run.answer)


@relation("zeros for None", weight=1)
def zeros_for_none(run):
    layer, batch = run.layer, run.batch
    rows = layer.num_layers * layer.num_directions

    def state(parts):
        parts = parts or [None] * len(layer._structure.state_sizes)
        return [
            np.zeros((rows, batch.size, n), layer.dtype) if a is None else a
            for n, a in zip(layer._structure.state_sizes, parts, strict=True)
        ]

    width = layer._structure.features * (layer.num_directions if layer.merge == "concat" else 1)
    shape, count = (batch.steps, batch.size, width), 1 + (layer.merge is None)
    dy = batch.dy or [np.zeros(shape, layer.dtype) for _ in range(count)]
    full = replace(batch, state=state(batch.state), dstate=state(batch.dstate), dy=dy)
    got = run.recompute(batch=full)
    # A product with 0 may be -0; adding 0 makes it +0.
    run.same({k: a + 0 for k, a in got.items()}, {k: a + 0 for k, a in run.answer.items()})


@relation("features for ids", lambda case: case.batch.are_ids, 6)
def features_for_ids(run):
    """Rows of the embedding, or ones among zeros, in place of ids."""
    batch, layer = run.batch, run.layer
    table = batch.embedding
    if table is None:
        table = np.eye(layer.input_size, dtype=layer.dtype)
    ids = np.where(batch.works(), batch.x, 0)
    if len(table) == 0:
        table = np.zeros((1, layer.input_size), layer.dtype)
    told = replace(batch, x=table[ids], embedding=None, layouts={})
    got, wanted = run.recompute(batch=told), dict(run.answer)
    dx = got.pop("grad x")
    if batch.embedding is not None:
        gradient = np.zeros_like(batch.embedding)
        np.add.at(gradient, ids, dx)
        got["grad embedding"] = gradient
    run.near(got, wanted)


@relation("lengths as a mask", lambda case: "lengths" in case.batch.rows, 4)
def lengths_as_mask(run):
    """A row that is masked up to T has the state, and before that the y, of a row that ended."""
    batch, rows = run.batch, dict(run.batch.rows)
    within = np.arange(batch.steps)[:, None] < rows.pop("lengths")
    rows["mask"] = batch.works()
    if "reset" in rows:
        rows["reset"] = rows["reset"] & within
    got = answers.call(run.layer, replace(batch, rows=rows))
    wanted = answers.only(run.answer, "call")
    for name in wanted:
        if name.startswith("call y"):
            got[name] = np.where(within[:, :, None], got[name], 0)
    run.same(got, wanted)


@relation("zeros for masked outputs", lambda case: "mask" in case.batch.rows, 4)
def zeros_for_masked(run):
    batch = run.batch
    shown = batch.rows["mask"][:, :, None]
    plain = answers.call(run.layer, replace(batch, rows={
        n: v for n, v in batch.rows.items() if n != "zero_output_for_mask"}))  # fmt: skip
    rows = batch.rows | {"zero_output_for_mask": True}
    zeros = answers.call(run.layer, replace(batch, rows=rows))
    wanted = {
        n: np.where(shown, a, 0) if n.startswith("call y") else a for n, a in plain.items()
    }  # fmt: skip
    run.same(zeros, wanted)


@relation("both directions separately", lambda case: case.layer.bidirectional, 3)
def separate_directions(run):
    layer = run.case.remade(merge=None)
    got = answers.call(layer, run.batch)
    a, b = got.pop("call y 0"), got.pop("call y 1")
    merged = {
        "concat": lambda: np.concatenate((a, b), -1), "sum": lambda: a + b,
        "mean": lambda: (a + b) / 2, "mul": lambda: a * b,
    }  # fmt: skip
    if run.layer.merge is None:
        got |= {"call y 0": a, "call y 1": b}
    else:
        got["call y"] = merged[run.layer.merge]()
    run.same(got, answers.only(run.answer, "call"))


def _turns(case):
    return not case.layer.bidirectional and "lengths" not in case.batch.rows


@relation("time turned round", _turns, 3)
def turned_round(run):
    """A reversed layer takes the last step first; a reversed layer on x turned round is plain."""
    batch, other = run.batch, run.case.remade(reverse=not run.layer.reverse)
    flags = {n: v[::-1] for n, v in batch.rows.items() if n in ("mask", "reset")}
    got = answers.call(other, replace(batch, x=batch.x[::-1], rows=batch.rows | flags))
    got["call y"] = got["call y"][::-1]
    run.same(got, answers.only(run.answer, "call"))
