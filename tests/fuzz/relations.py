"""Relations: another way to compute what a case gives, and how the two compare.

Each is a function of a `Run`. Bits are compared on the kernels, whose contract speaks of bits; on
the reference, whose sums NumPy orders as it likes, nearness.
"""

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
from problems import ISAS

from . import answers, batches, layouts

RELATIONS = {}  # name -> (whether it has a meaning for a case, its weight, the function)


def relation(name, has_meaning=lambda case: True, weight=2):
    def put(function):
        RELATIONS[name] = has_meaning, weight, function
        return function

    return put


@dataclass
class Run:
    """A case that is being run.

    answer : what it gives: a call, a training pass, its gradients, and what `looks` names.
    rng : for what a relation draws.
    """

    case: object
    answer: dict
    looks: tuple
    rng: object

    @property
    def layer(self):
        return self.case.layer

    @property
    def batch(self):
        return self.case.batch

    def again(self, layer=None, batch=None, **options):
        """All that `answer` has, computed anew."""
        layer, batch = layer or self.layer, batch or self.batch
        options = {"checkpoint": self.case.settings["checkpoint"], "looks": self.looks} | options
        return answers.call(layer, batch) | answers.train(layer, batch, **options)

    def same(self, got, wanted):
        if self.case.settings["backend"] == "core":
            answers.same(got, wanted)
        else:
            answers.near(got, wanted, self.case)

    def near(self, got, wanted, moved=None):
        answers.near(got, wanted, self.case, moved)


def compute(case, rng):
    """The `Run` of a case, with its answer."""
    looks = tuple(n for n in ("gates", "norms") if rng.random() < 0.25)
    if case.settings["checkpoint"] is not None:
        looks = tuple(n for n in looks if n != "gates")
    run = Run(case, {}, looks, rng)
    run.answer = run.again()
    return run


def _on_core(case):
    return case.settings["backend"] == "core"


def _quiet(case):
    """Whether a training pass is what it is for any other batch."""
    return not case.noisy


def _has_rows(case):
    return case.batch.size > 0


# ---- other machines ------------------------------------------------------------------------------


@relation("the reference", _on_core, 8)
def the_reference(run):
    plain = replace(run.batch, layouts={})
    _against(run, lambda: run.again(batch=plain), "reference")


@relation("another instruction set", _on_core, 2)
def another_set(run):
    isa = str(run.rng.choice(ISAS))
    with answers.machine(**run.case.settings | {"isa": isa}):
        if (isa == "generic") == (run.case.settings["isa"] == "generic"):
            answers.same(run.again(), run.answer)
            return
    _against(run, run.again, "core", isa)


def _against(run, compute_again, backend, isa=None):
    """Compares the answer with that of other settings, up to rounding."""
    settings = run.case.settings | {"backend": backend} | ({"isa": isa} if isa else {})
    with answers.machine(**settings):
        wanted = compute_again()
    try:
        run.near(run.answer, wanted)
    except answers.Differs:
        run.near(run.answer, wanted, _moved(run))


@answers.overflowing
def _distances(after, before):
    return {n: np.abs(after[n] - a).max(initial=0.0) for n, a in before.items()}


def _moved(run):
    """How far each array moves where everything that goes in moves by some roundings.

    A normalised row that hardly varies makes them larger, and they can decide a slope.
    """
    eps, moved = 8 * float(np.finfo(run.layer.dtype).eps), {}

    def rounded(array):
        if array is None or array.dtype.kind != "f":
            return array
        return array * (1 + run.rng.uniform(-eps, eps, array.shape)).astype(array.dtype)

    def all_rounded(arrays):
        return arrays and [rounded(a) for a in arrays]

    with answers.machine(**run.case.settings | {"backend": "reference"}):
        batch = replace(run.batch, layouts={})
        before = run.again(batch=batch)
        for _ in range(4):
            layer = copy.deepcopy(run.layer)
            layer.flat[...] = rounded(layer.flat)
            arrays = {name: rounded(getattr(batch, name)) for name in ("x", "embedding")}
            arrays |= {n: all_rounded(getattr(batch, n)) for n in ("state", "dy", "dstate")}
            after = run.again(layer, replace(batch, **arrays))
            for name, by in _distances(after, before).items():
                moved[name] = max(moved.get(name, 0.0), by)
    return moved


@relation("other threads", _on_core, 3)
def other_threads(run):
    threads = int(run.rng.choice((1, 2, 3, 5)))
    with answers.machine(**run.case.settings | {"threads": threads}):
        answers.same(run.again(), run.answer)


# ---- the same once more --------------------------------------------------------------------------


@relation("again", weight=1)
def again(run):
    run.same(run.again(), run.answer)


@relation("checkpoints", _on_core, 4)
def checkpoints(run):
    n = int(run.rng.choice((1, 2, 3, 5, 8, max(1, run.batch.steps), run.batch.steps + 3)))
    looks = [name for name in run.looks if name != "gates"]
    got = run.again(checkpoint=n, looks=looks)
    answers.same(got, {k: a for k, a in run.answer.items() if not k.startswith("gates")})


@relation("a copied tape", weight=3)
def a_copied_tape(run):
    """Copies hold other addresses; the first is gone before the next is made."""
    through = _pickled if run.rng.random() < 0.5 else copy.deepcopy
    run.same(run.again(through=lambda tape: through(through(tape))), run.answer)


def _pickled(what):
    return pickle.loads(pickle.dumps(what))


@relation("a copied layer", weight=1)
def a_copied_layer(run):
    run.same(run.again(layer=_pickled(run.layer)), run.answer)
    other = copy.deepcopy(run.layer)
    other.flat[...] = 0
    layout = layouts.ANY[str(run.rng.choice(list(layouts.ANY)))]
    other.load({name: layout(array) for name, array in run.layer.params.items()})
    run.same(run.again(layer=other), run.answer)


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


@relation("a derivative", lambda case: case.layer.dtype == np.float64 and not case.kinked, 6)
def a_derivative(run):
    """Along some direction through all that has a gradient: it is that of the loss that is drawn.

    Both backends share what stands above them, so the one cannot be the other's witness there.
    """
    steps = {name: run.rng.uniform(-1, 1, a.shape) for name, a in _inputs(run).items()}
    terms = [np.ravel(run.answer[name] * step) for name, step in steps.items()]
    allowed = 1e-5 * sum(np.abs(t).sum() for t in terms) + 1e-8
    slopes = [(_loss(run, steps, h) - _loss(run, steps, -h)) / (2 * h) for h in (1e-5, 5e-6)]
    if abs(slopes[0] - slopes[1]) > allowed:
        return  # so uneven a loss has no slope that can be found in this way
    error = abs(slopes[1] - sum(t.sum() for t in terms))
    if not error <= allowed:
        raise answers.Differs(f"the slope is off by {error:.2e}, allowed are {allowed:.2e}")


def _inputs(run):
    """All that has a gradient, by the name of that."""
    batch = run.batch
    arrays = {"grad flat": run.layer.flat}
    if not batch.are_ids:
        arrays["grad x"] = batch.x
    if batch.embedding is not None:
        arrays["grad embedding"] = batch.embedding
    pairs = zip(run.layer._cell.states, batch.state or (), strict=False)
    return arrays | {f"grad {name}": a for name, a in pairs if a is not None}


def _loss(run, steps, h):
    """That whose gradients dy and dstate are, so many steps away."""
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


# ---- the same in another form --------------------------------------------------------------------


@relation("other layouts", weight=3)
def other_layouts(run):
    batch = replace(run.batch, layouts=batches.drawn_layouts(run.rng, run.batch))
    run.same(run.again(batch=batch), run.answer)


@relation("other axes", weight=1)
def other_axes(run):
    """Batch first or time first, with the axis of a batch of one or without it."""
    layer = run.case.remade(batch_first=bool(run.rng.random() < 0.5))
    unbatched = run.batch.size == 1 and bool(run.rng.random() < 0.5)
    run.same(run.again(layer, replace(run.batch, unbatched=unbatched)), run.answer)


@relation("rows told what they are", weight=1)
def rows_told(run):
    """Lengths of T, masks of true and resets of false say nothing."""
    batch, shape = run.batch, (run.batch.steps, run.batch.size)
    nothing = {
        "lengths": np.full(shape[1], shape[0]),
        "mask": np.ones(shape, bool),
        "reset": np.zeros(shape, bool),
    }
    run.same(run.again(batch=replace(batch, rows=nothing | batch.rows)), run.answer)


@relation("zeros for None", weight=1)
def zeros_for_none(run):
    layer, batch = run.layer, run.batch
    rows = layer.num_layers * layer.num_directions

    def state(parts):
        parts = parts or [None] * len(layer._state_sizes)
        return [
            np.zeros((rows, batch.size, n), layer.dtype) if a is None else a
            for n, a in zip(layer._state_sizes, parts, strict=True)
        ]

    width = layer._features * (layer.num_directions if layer.merge == "concat" else 1)
    shape, count = (batch.steps, batch.size, width), 1 + (layer.merge is None)
    dy = batch.dy or [np.zeros(shape, layer.dtype) for _ in range(count)]
    full = replace(batch, state=state(batch.state), dstate=state(batch.dstate), dy=dy)
    got = run.again(batch=full)
    # A product with 0 may have any sign; adding 0 takes it away.
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
    got, wanted = run.again(batch=told), dict(run.answer)
    dx = got.pop("grad x")
    if batch.embedding is not None:
        gradient = np.zeros_like(batch.embedding)
        np.add.at(gradient, ids, dx)
        got["grad embedding"] = gradient
    try:
        run.near(got, wanted)
    except answers.Differs:
        run.near(got, wanted, _moved(run))


@relation("lengths as a mask", lambda case: "lengths" in case.batch.rows, 4)
def lengths_as_mask(run):
    """A row that is masked to its end has the state, and until there the y, of one that ended."""
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


@relation("both directions apart", lambda case: not case.one_way, 3)
def directions_apart(run):
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


# ---- parts of the whole --------------------------------------------------------------------------


@relation("some of the rows", _has_rows, 4)
def some_rows(run):
    """A row has the bits that it has alone, or among others."""
    size = run.batch.size
    count = 1 if run.rng.random() < 0.4 else int(run.rng.integers(1, size + 2))
    index = run.rng.choice(size, count, replace=bool(count > size or run.rng.random() < 0.3))
    part = run.batch.of_rows(index)
    wanted = answers.by_row(run.answer)
    if run.case.noisy:
        got, wanted = answers.by_row(answers.call(run.layer, part)), answers.only(wanted, "call")
    else:
        got = answers.by_row(run.again(batch=part))
    run.same(got, {name: array[index] for name, array in wanted.items()})


@relation("a value that is not finite", _has_rows, 4)
def not_finite(run):
    """It stays in its row."""
    batch, bad = copy.deepcopy(run.batch), run.rng.choice((np.nan, np.inf, -np.inf))
    targets = [] if batch.are_ids else [batch.x]
    targets += [a for part in (batch.state, batch.dy, batch.dstate) for a in part or ()]
    targets = [a for a in targets if a is not None and a.size]
    if not targets:
        return
    target = targets[run.rng.integers(len(targets))]
    place = tuple(int(run.rng.integers(n)) for n in target.shape)
    target[place] = bad
    got = answers.by_row(run.again(batch=replace(batch, layouts={})))
    others = np.arange(batch.size) != place[1]
    wanted = answers.by_row(run.answer)
    run.same({n: a[others] for n, a in got.items()}, {n: a[others] for n, a in wanted.items()})


@relation("nonsense where nothing counts", lambda case: not case.batch.works().all(), 5)
def nonsense(run):
    """x of steps that are not taken, and dy of those beyond a row's end, are of no matter."""
    batch = copy.deepcopy(run.batch)
    idle = ~batch.works()
    batch.x[idle] = 77 if batch.are_ids else np.nan
    ended = np.zeros_like(idle)
    if "lengths" in batch.rows:
        ended = np.arange(batch.steps)[:, None] >= batch.rows["lengths"]
    for d in batch.dy or ():
        d[ended] = np.nan
    got = run.again(batch=replace(batch, layouts={}))
    run.same(got, run.answer)


@relation("a cut of time", lambda case: case.one_way, 4)
def a_cut(run):
    batch = run.batch
    k = int(run.rng.integers(0, batch.steps + 1))
    first, second = batch.of_steps(0, k), batch.of_steps(k, batch.steps)
    if batch.rows.get("reset_to") == "initial" and "reset" in batch.rows:
        return  # the state that the second part is given is not that which resets give
    layer, states = run.layer, run.layer._cell.states
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
    first.dstate = [of_second[f"grad {name}"] for name in run.layer._cell.states]
    of_first = answers.train(run.layer, first)
    if "grad x" in of_first:
        dx = np.concatenate([of_first["grad x"], of_second["grad x"]])
        run.same({"x": dx}, {"x": run.answer["grad x"]})
    run.same(
        {n: of_first[f"grad {n}"] for n in run.layer._cell.states},
        {n: run.answer[f"grad {n}"] for n in run.layer._cell.states},
    )
    flat = answers.added(of_first["grad flat"], of_second["grad flat"])
    run.near({"flat": flat}, {"flat": run.answer["grad flat"]})


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
