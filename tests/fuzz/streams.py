"""Relations to streams, windows and plain functions, which compute a batch in parts."""

import copy
import pickle

import numpy as np
from problems import parameter_name, weight_names

import fastrnn

from . import answers, batches, layouts
from .relations import relation


def _streams(case):
    return case.one_way and case.batch.size > 0 and not (
        case.batch.rows.keys() & {"lengths", "mask"}
        or case.batch.rows.get("reset_to") == "initial"
    )  # fmt: skip


@relation("a stream", _streams, 14)
def a_stream(run):
    """A stream takes steps and chunks, with resets of rows, and is copied on the way."""
    case, batch = run.case, run.batch
    stream = _new_stream(run)
    if batch.state is not None:
        held = stream.state if isinstance(stream.state, tuple) else (stream.state,)
        parts = [h if a is None else a for h, a in zip(held, batch.state, strict=True)]
        stream.state = tuple(parts) if len(parts) > 1 else parts[0]
    got, t = [np.zeros((0, *stream._y_shape), case.layer.dtype)], 0
    while t < batch.steps:
        end = _end_of_chunk(run, t)
        if "reset" in batch.rows and batch.rows["reset"][t].any():
            rows = np.flatnonzero(batch.rows["reset"][t])
            stream.reset(batch.rows["reset"][t] if run.rng.random() < 0.5 else rows)
        if run.rng.random() < 0.1:
            stream = pickle.loads(pickle.dumps(copy.deepcopy(stream)))
        got.append(_fed(run, stream, t, end))
        t = end
    last = stream.state if isinstance(stream.state, tuple) else (stream.state,)
    answer = {"call y": np.concatenate(got)} | answers.named(case.layer, "call", last)
    run.same(answer, answers.only(run.answer, "call"))


def _new_stream(run):
    batch = run.batch
    given = batches.ids_options(batch.are_ids, batch.embedding)
    return run.layer.stream(batch.size, **given)


def _end_of_chunk(run, t):
    """The end of the next chunk, before a step at which a row is reset."""
    batch = run.batch
    end = min(batch.steps, t + int(run.rng.choice((1, 1, 2, 7, 100))))
    if "reset" in batch.rows:
        later = np.flatnonzero(batch.rows["reset"][t + 1 : end].any(1))
        end = t + 1 + int(later[0]) if later.size else end
    return end


def _fed(run, stream, t, end):
    """y of some steps, by `step` if there is one."""
    batch, layer = run.batch, run.layer
    one = end == t + 1 and run.rng.random() < 0.7
    x = batch.x[t] if one else batch.x[t:end]
    shape = (*x.shape[: 1 if one else 2], stream._y_shape[1])
    turned = layer.batch_first and not one
    x, shape = (x.swapaxes(0, 1), (shape[1], shape[0], shape[2])) if turned else (x, shape)
    x, out = _arguments(run, x, shape)
    y = (stream.step if one else stream.feed)(x, out=out)
    if out is not None and y is not out:
        raise answers.Differs("out is not what was returned")
    y = np.array(y)  # a copy, because a later step may write to out
    return y[None] if one else y.swapaxes(0, 1) if turned else y


def _arguments(run, x, shape):
    """x and out for a call: in odd layouts, overlapping, or without out."""
    x, kind, ids = np.array(x, order="C"), run.rng.random(), run.batch.are_ids
    out = None if kind < 0.5 else np.empty(shape, run.layer.dtype)
    if kind > 0.9 and not ids:
        whole = np.empty(x.size + out.size, x.dtype)
        begin = int(run.rng.integers(0, x.size + 1))
        out = whole[begin : begin + out.size].reshape(shape)
        over = whole[: x.size].reshape(x.shape)
        over[...] = x
        return over, out
    if run.rng.random() < 0.2:
        table = layouts.INTEGERS if ids else layouts.ANY
        x = table[str(run.rng.choice(list(table)))](x)
        out = None if out is None else layouts.ANY[str(run.rng.choice(_WRITEABLE))](out)
    return x, out


_WRITEABLE = ["plain", "Fortran", "first axis backwards", "every other element", "unaligned"]


@relation("windows", lambda case: case.one_way, 6)
def windows(run):
    """Truncated backpropagation: the y of the full sequence, and its gradient if k2 allows."""
    layer, batch = copy.deepcopy(run.layer), run.batch
    form = batches.Form(layer, batch)
    x, given = form.arguments(batch)
    state, steps = form.state("state", batch.state), batch.steps
    k1 = int(run.rng.integers(max(1, -(-steps // 12)), max(1, steps) + 2))
    k2 = None if run.rng.random() < 0.4 else k1 + int(run.rng.integers(0, steps + 2))
    whole = k2 is not None and k2 >= steps
    axis = int(form.swapped)
    dy = np.zeros((steps, batch.size, layer._structure.features), layer.dtype)
    dy = form.sequence("dy", batch.dy[0] if batch.dy else dy)
    y, flat = [], np.zeros_like(layer.flat)
    checkpoint = None if run.rng.random() < 0.5 else int(run.rng.integers(1, steps + 2))
    for window in fastrnn.tbptt(layer, x, k1, k2, state, checkpoint=checkpoint, **given):
        index = (slice(None),) * axis + (window.steps,)
        y.append(form.back(window.y))
        flat = answers.added(flat, window.backward(dy[index]).flat)
    if run.case.draws or not y:
        return
    run.same({"pass y": np.concatenate(y)}, answers.only(run.answer, "pass y"))
    if whole:
        batch = copy.copy(batch)
        batch.dstate = None
        wanted = answers.only(answers.train(run.layer, batch), "grad flat")
        run.near({"grad flat": flat}, wanted)


def _has_function(case):
    layer = case.layer
    plain = layer._structure.cell.options is None and not layer.proj_size
    return plain and layer.num_layers == 1 and layer.merge in ("concat", None)


@relation("the function", _has_function, 5)
def the_function(run):
    """The cell's function, one direction after the other."""
    layer, batch = run.layer, run.batch
    form = batches.Form(layer, batch)
    form.swapped = form.unbatched = False
    x, given = form.arguments(batch)
    zeros = given.pop("zero_output_for_mask", False)
    ys, lasts = [], []
    for slot in range(layer.num_directions):
        state = batch.state and [None if a is None else a[slot : slot + 1] for a in batch.state]
        state = form.state("state", state)
        state = None if state is None else _of_slot(state)
        end = "_l0" + ("_reverse" if slot else "")
        names = {
            weight: parameter_name(weight, end) for weight in weight_names(layer._structure.cell)
        }
        weights = {weight: _laid(run, layer.params.get(name)) for weight, name in names.items()}
        y, last = getattr(fastrnn, layer._structure.cell.function)(
            x, state, **weights, reverse=layer.reverse or slot == 1, **given, **_own(layer)
        )
        shown = batch.rows["mask"][:, :, None] if zeros else True
        ys.append(np.where(shown, y, 0) if zeros else y)
        lasts.append(last if isinstance(last, tuple) else (last,))
    last = [np.stack(parts) for parts in zip(*lasts, strict=True)]
    got = ys if layer.merge is None else [np.concatenate(ys, -1)]
    answer = answers.numbered("call y", got) | answers.named(layer, "call", last)
    run.same(answer, answers.only(run.answer, "call"))


def _laid(run, weights):
    """The weights, in some cases in an odd layout."""
    if weights is None or run.rng.random() < 0.8:
        return weights
    return layouts.ANY[str(run.rng.choice(list(layouts.ANY)))](weights)


def _of_slot(state):
    if isinstance(state, tuple):
        return tuple(None if a is None else a[0] for a in state)
    return state[0]


def _own(layer):
    if layer._structure.cell.function == "rnn":
        return {"nonlinearity": layer.nonlinearity}
    return {"reset_after": layer.reset_after} if layer._structure.cell.function == "gru" else {}
