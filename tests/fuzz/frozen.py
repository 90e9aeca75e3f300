"""Relations to frozen layers: packed weights, lower precisions, heads, steps of some rows."""

import copy
import pickle

import numpy as np

import fastrnn
from fastrnn import train
from fastrnn.reference.precision import to_bfloat16

from . import answers, batches
from .relations import on_core, relation


def _is_float32(case):
    return case.layer.dtype == np.float32


@relation("frozen", weight=3)
def frozen(run):
    """A frozen layer has the layer's bits, before and after a pickle."""
    layer, batch = run.layer, run.batch
    snapshot = layer.freeze()
    if run.rng.random() < 0.3:
        snapshot = pickle.loads(pickle.dumps(snapshot))
    wanted = answers.only(run.answer, "call")
    for _ in range(2):  # the second call has both forms of the weights
        run.same(answers.only(answers.call(snapshot, batch), "call"), wanted)


@relation("rounded weights", _is_float32, weight=3)
def rounded_weights(run):
    """A frozen layer of bfloat16 weights has the bits of the layer with rounded weights."""
    snapshot, rounded = run.layer.freeze("bfloat16-weights"), copy.deepcopy(run.layer)
    matrices = {name: to_bfloat16(w) for name, w in run.layer.params.items() if w.ndim == 2}
    rounded.load(run.layer.params | matrices)
    wanted = answers.only(answers.call(rounded, run.batch), "call")
    for _ in range(2):
        run.same(answers.only(answers.call(snapshot, run.batch), "call"), wanted)


@relation("rounded rows", lambda case: on_core(case) and _is_float32(case), 4)
def rounded_rows(run):
    """Where rows are rounded too, their bits do not depend on other rows, threads or a pickle."""
    batch = run.batch
    snapshot = run.layer.freeze(str(run.rng.choice(("bfloat16", "int8"))))
    whole = answers.call(snapshot, batch)
    with fastrnn.threads(int(run.rng.integers(1, 6))):
        answers.same(answers.call(pickle.loads(pickle.dumps(snapshot)), batch), whole)
    if batch.size > 0:
        index = run.rng.choice(batch.size, int(run.rng.integers(1, batch.size + 1)), replace=False)
        got = answers.by_row(answers.call(snapshot, batch.of_rows(index)))
        wanted = answers.by_row(answers.only(whole, "call"))
        answers.same(got, {name: array[index] for name, array in wanted.items()})


@relation("a head", lambda case: case.layer.merge is not None, 3)
def a_head(run):
    """The outputs of a head are near those that NumPy computes from y; the state is the layer's."""
    layer, rng = run.layer, run.rng
    structure = layer._structure
    width = structure.width if structure.merge == "concat" else structure.features
    dense = train.Dense(
        width, int(rng.choice((1, 2, 7, 8, 17, 70))), rng=int(rng.integers(99)), dtype=layer.dtype,
        activation=(None, "sigmoid", "softmax")[rng.integers(3)],
    )  # fmt: skip
    got = answers.call(layer.freeze(head=dense), run.batch)
    wanted = answers.only(run.answer, "call") | {"call y": dense(run.answer["call y"])}
    run.near(answers.only(got, "call y"), answers.only(wanted, "call y"))
    del got["call y"], wanted["call y"]
    run.same(got, wanted)


def _has_steps(case):
    return case.one_way and case.batch.size > 0 and not case.batch.rows


@relation("rows of a stream that come and go", _has_steps, 5)
def rows_of_a_stream(run):
    """Each row takes its steps in a call with rows that are drawn; the stream grows on the way."""
    layer, batch, rng = run.layer, run.batch, run.rng
    precisions = (
        (None, "bfloat16-weights", "bfloat16", "int8") if _is_float32(run.case) else (None,)
    )
    frozen = layer.freeze(precisions[rng.integers(len(precisions))])
    batch = copy.copy(batch)
    batch.state, size = None, batch.size
    wanted = answers.call(frozen, batch)["call y"]
    given = batches.ids_options(batch.are_ids, batch.embedding)
    first = int(rng.integers(1, size + 1))
    stream, taken = frozen.stream(first, **given), np.zeros(size, int)
    got = np.zeros_like(wanted)
    for _ in range(min(40, 3 * batch.steps)):
        if stream.batch_size < size and rng.random() < 0.2:
            stream.grow(size - first)
        there = np.flatnonzero(taken[: stream.batch_size] < batch.steps)
        if there.size == 0:
            break
        rows = rng.permutation(there)[: rng.integers(1, there.size + 1)]
        steps = int(min(rng.choice((1, 1, 3)), (batch.steps - taken[rows]).min()))
        times = taken[rows] + np.arange(steps)[:, None]
        x = batch.x[times, rows]
        if steps == 1:
            got[times, rows] = stream.step(x[0], rows=rows)
        else:
            y = stream.feed(x.swapaxes(0, 1) if layer.batch_first else x, rows=rows)
            got[times, rows] = y.swapaxes(0, 1) if layer.batch_first else y
        taken[rows] += steps
    came = np.arange(batch.steps)[:, None] < taken
    run.same({"y": got[came]}, {"y": wanted[came]})
