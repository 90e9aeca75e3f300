"""The functions of the compiled module: with any arguments they refuse or compute, without a crash.

Users meet the checks of Python first; these are the last ones before memory. Each argument of a
valid call, also deep in its named tuples and in the arguments of the `Weights` and `Gradients`
among them, is replaced by invalid objects, in a process of its own.
"""

import copy
import pickle
import runpy
from functools import partial

import numpy as np
import pytest
from problems import run_python

from fastrnn._cells.registry import CELLS
from fastrnn._engine import passes, runtime
from fastrnn._engine.dropout_masks import DropoutMasks
from fastrnn._engine.passes import BackwardBuffers, DirectionCall
from fastrnn._engine.ragged import Rows

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

SCRIPT = '''
import faulthandler
import itertools
import sys
from types import SimpleNamespace

import numpy as np

from fastrnn._engine import _core
from fastrnn._engine.dropout_masks import DropoutMasks
from fastrnn._engine.ids import Ids
from fastrnn._engine.passes import BackwardBuffers, DirectionCall
from fastrnn._engine.ragged import Rows

faulthandler.dump_traceback_later(200, exit=True)


# ---- trees of arguments: named tuples, lists, dicts and calls ----

class Call:
    """A function and its arguments, by index and by name; those may contain calls too."""

    def __init__(self, function, *arguments, **options):
        self.function, self.parts = function, dict(enumerate(arguments)) | options


def parts_of(tree):
    """key -> what stands there; None of what has no parts."""
    if isinstance(tree, (tuple, list)):
        return dict(enumerate(tree))
    return tree.parts if isinstance(tree, Call) else tree if isinstance(tree, dict) else None


def with_parts(tree, parts):
    if isinstance(tree, Call):
        arguments = [part for key, part in parts.items() if isinstance(key, int)]
        options = {key: part for key, part in parts.items() if isinstance(key, str)}
        return Call(tree.function, *arguments, **options)
    if isinstance(tree, dict):
        return parts
    if isinstance(tree, tuple):  # a named one stays one, also with a part too few
        return tuple.__new__(type(tree), parts.values())
    return list(parts.values())


def result(tree):
    """The tree with the results of the calls in it."""
    parts = parts_of(tree)
    if parts is None:
        return tree
    tree = with_parts(tree, {key: result(part) for key, part in parts.items()})
    if not isinstance(tree, Call):
        return tree
    arguments = [part for key, part in tree.parts.items() if isinstance(key, int)]
    return tree.function(*arguments, **{k: p for k, p in tree.parts.items() if isinstance(k, str)})


def places(tree, path=()):
    """Paths to every place in the tree, whole branches too."""
    for key, part in (parts_of(tree) or {}).items():
        yield (*path, key)
        yield from places(part, (*path, key))


def changed(tree, path, change):
    """The tree after `change` of the parts in which the path's last key stands."""
    key, *rest = path
    parts = dict(parts_of(tree))
    if rest:
        parts[key] = changed(parts[key], rest, change)
    else:
        change(parts, key)
    return with_parts(tree, parts)


def replaced(tree, path, value):
    return changed(tree, path, lambda parts, key: parts.update({key: value}))


def shorter(tree, path):
    return changed(tree, path, lambda parts, key: parts.pop(key))


def longer(tree, path):
    """With one part more beside the one at the path."""
    return changed(tree, path, lambda parts, key: parts.update({
        "unknown" if isinstance(key, str) else len(parts): None}))


# ---- valid calls ----

T, B, I, H, P, V = 3, 2, 4, 5, 3, 6
ENTRIES = {cell["name"]: cell for cell in _core.cells()}
INDEX = {name: index for index, name in enumerate(ENTRIES)}
f4 = lambda *shape: np.ones(shape, "f4")
buffer = lambda n: np.zeros(n, "u1")


def weights_of(name, inputs=I, features=H, **options):
    """A call of Weights for a cell of four gates."""
    matrices = f4(4 * H, inputs), f4(4 * H, features)
    return Call(_core.Weights, INDEX[name], H, *matrices, f4(4 * H), f4(4 * H), **options)


def extras_of(name):
    return {kind: f4(units * H) for kind, units in ENTRIES[name]["extras"].items()}


LSTM = weights_of("lstm")
PROJECTED = weights_of("lstm", features=P, w_hr=f4(P, H))
OPTIONS = {"numbers": {"clip": 0.0, "cell_clip": 0.0, "recurrent_activation": 0.0},
           "zoneout": (0.5, 0.5)}
PEEPHOLE = weights_of("lstm_peephole", extras=extras_of("lstm_peephole"), **OPTIONS)
NORMALISED = weights_of("lstm_normalised", extras=extras_of("lstm_normalised"), **OPTIONS)
PACKED = Call(_core.Packed, *LSTM.parts.values())
NARROW = Call(_core.Packed, *LSTM.parts.values(), precision="bfloat16-weights")
INT8 = Call(_core.Packed, *LSTM.parts.values(), precision="int8",
            scales=(f4(4 * H), f4(4 * H), None))
MASKS = DropoutMasks(f4(B, H), (f4(T, B, H), f4(T, B, H)))
ROWS = Rows(None, np.ones((T, B), bool), np.zeros((T, B), bool), "zero", np.array([3, 1]),
            np.array([1, 0]), np.array([1, 0]))
EMBEDDED = Ids(None, np.array([1, 4, 5]), np.array([False, False, True]), np.zeros((T, B), "i8"), V,
               f4(V, I), np.dtype("f4"))
ONE_HOT = EMBEDDED._replace(used=np.array([0, 2, 3]), idle=None, vocabulary=I, embedding=None)
ALL_IDS = ONE_HOT._replace(used=None)
PACKED_IDS = ONE_HOT._replace(ids=np.ones((T, B), "i8"))
PACKED_EMBEDDED = EMBEDDED._replace(ids=np.ones((T, B), "i8"))
# The attributes that the compiled module reads of `Ids`, each of them by itself.
ATTRIBUTES = Call(SimpleNamespace, table_index=np.zeros((T, B), "i8"), used=np.array([1, 4, 5]),
                  count=3, rows=f4(3, I), vocabulary=V)


def direction(weights, features=H, checkpoint=0, masks=None, reverse=False):
    tape = buffer(_core.tape_size(result(weights), T, B, checkpoint))
    states = [(f4(1, B, features), f4(1, B, H)) for _ in range(2)]
    return DirectionCall(reverse, 0, states[0], (), weights, f4(T, B, features), states[1], tape,
                         masks)


def buffers(weights, dx, features=H):
    parts = weights.parts
    gradients = Call(_core.Gradients, weights, *(f4(*parts[i].shape) for i in range(2, 6)))
    if "w_hr" in parts:
        gradients.parts["w_hr"] = f4(P, H)
    if "extras" in parts:
        gradients.parts["extras"] = {k: f4(*a.shape) for k, a in parts["extras"].items()}
    dlast, dfirst = [(f4(1, B, features), f4(1, B, H)) for _ in range(2)]
    return BackwardBuffers(f4(T, B, features), dlast, dx, dfirst, (), gradients,
                           (f4(T, B, features), f4(T, B, H)))


def in_workspace(function, *arguments):
    """The call with the smallest workspace that it takes."""
    return Call(function, *arguments, buffer(result(Call(function, *arguments, buffer(0)))))


def forward(x, weights, rows=None, ids=None, checkpoint=0, directions=(False,), **options):
    given = tuple(direction(weights, checkpoint=checkpoint, reverse=reverse, **options)
                  for reverse in directions)
    return in_workspace(_core.forward, x, given, rows, ids, checkpoint)


def backward(x, weights, dx, rows=None, ids=None, checkpoint=0, features=H, masks=None):
    given = direction(weights, features, checkpoint, masks)
    back = [buffers(weights, dx, features)]
    return in_workspace(_core.backward, x, (given,), back, rows, ids, checkpoint)


x = f4(T, B, I)
STACK = [PACKED, Call(_core.Packed, *weights_of("lstm", H).parts.values())]
PLAIN_STACK = [LSTM, Call(_core.Weights, *weights_of("lstm", H).parts.values())]
work = buffer(_core.step_size(result(STACK), B))


SPARE = Call(_core.Workspaces, [buffer(3)], 100)


def stepped(layers, batch, state, work, outputs, workspaces, of_ids=False):
    stepper = _core.Stepper(layers, batch, state, work, outputs, workspaces, of_ids)
    inputs = np.zeros(B, "i8") if of_ids else f4(B, I)
    return stepper.step(inputs, f4(B, H)), stepper.feed(inputs[None], f4(1, B, H))


def step(x, out, sequence, outputs, of_ids=False):
    """A step, and one for each element of a sequence, of one layer of features or of ids."""
    state = f4(1, B, H), f4(1, B, H)
    stepper = _core.Stepper([result(PACKED)], B, state, work, [f4(B, H)], result(SPARE), of_ids)
    return stepper.step(x, out), stepper.feed(sequence, outputs)


def run(weights, directions, reverse, batch_first, workspaces, x, state, out):
    answer = _core.Runner(weights, directions, reverse, batch_first, workspaces).run(x, state, out)
    return answer is None or answer[0]


STATES = f4(2, B, H), f4(2, B, H)
CALLS = {
    "forward": forward(x, LSTM, ROWS),
    "forward of two directions": forward(x, LSTM, checkpoint=2, directions=(False, True)),
    "forward of a variant": forward(x, PEEPHOLE, masks=MASKS),
    "forward of a projection": forward(x, PROJECTED, features=P),
    "forward of ids": forward(None, LSTM, ids=ONE_HOT),
    "forward of all ids": forward(None, LSTM, ids=ALL_IDS),
    "forward of an embedding": forward(None, LSTM, ids=EMBEDDED),
    "forward of packed": forward(x, PACKED, ROWS, directions=(False, True)),
    "forward of narrow": forward(x, NARROW, ROWS),
    "forward of int8": forward(x, INT8, ROWS),
    "forward of packed, one-hot": forward(None, PACKED, ids=PACKED_IDS),
    "forward of packed, embedding": forward(None, PACKED, ids=PACKED_EMBEDDED),
    "forward of attributes": forward(None, LSTM, ids=ATTRIBUTES),
    "backward": backward(x, LSTM, f4(T, B, I), ROWS, checkpoint=2),
    "backward of a variant": backward(x, NORMALISED, f4(T, B, I), masks=MASKS),
    "backward of a projection": backward(x, PROJECTED, f4(T, B, I), features=P),
    "backward of ids": backward(None, LSTM, None, ids=ONE_HOT, checkpoint=2),
    "backward of all ids": backward(None, LSTM, None, ids=ALL_IDS),
    "backward of an embedding": backward(None, LSTM, f4(V, I), ids=EMBEDDED),
    "backward of attributes": backward(None, LSTM, f4(V, I), ids=ATTRIBUTES),
    "Sizes": Call(_core.Sizes, INDEX["lstm"], np.dtype("f4"), T, B, I, H, ragged=True, checkpoint=2,
                  ids=False, projected=P),
    "tape_size": Call(_core.tape_size, LSTM, T, B, 2),
    "tape_slots": Call(_core.tape_slots, LSTM, buffer(_core.tape_size(result(LSTM), T, B)), T, B),
    "boundary": Call(_core.boundary, buffer(100)),
    "step_size": Call(_core.step_size, STACK, B, True),
    "Stepper": Call(stepped, STACK, B, STATES, work, [f4(B, H), f4(B, H)], SPARE),
    "Stepper of ids": Call(stepped, [PACKED], B, (f4(1, B, H), f4(1, B, H)), work, [f4(B, H)],
                           SPARE, True),
    "Runner": Call(run, STACK, 1, True, False, SPARE, x, STATES, f4(T, B, H)),
    "Runner that packs": Call(run, PLAIN_STACK, 1, True, False, SPARE, x, STATES, f4(T, B, H)),
    "Runner of two directions": Call(run, [PACKED, PACKED], 2, False, True, SPARE, f4(B, T, I),
                                     STATES, f4(B, T, 2 * H)),
    "step": Call(step, f4(B, I), f4(B, H), f4(T, B, I), f4(T, B, H)),
    "step of ids": Call(step, np.zeros(B, "i8"), f4(B, H), np.zeros((T, B), "i8"), f4(T, B, H),
                        True),
    "select_isa": Call(_core.select_isa, "none"),
    "apply": Call(_core.apply, "exp", f4(3)),
    "probe_fma": Call(_core.probe_fma, 1, 0),
    "probe_read": Call(_core.probe_read, buffer(1024), 1),
}


# ---- invalid ones ----

GRU = _core.Weights(INDEX["gru_after"], H, f4(3 * H, I), f4(3 * H, H))
DOUBLES = _core.Weights(INDEX["lstm"], H, np.ones((4 * H, I)), np.ones((4 * H, H)))
BAD = [
    None, -1, 0, 1, 2**31, 2**62 + 1, 2**63 - 1, 2**64, 0.5, float("nan"), "text", "initial", b"",
    (), [], {}, {"weight_peephole": f4(3 * H)}, {1: None}, object(), SimpleNamespace(),
    (None,) * 2, (None,) * 7, (None,) * 9, result(direction(LSTM)), EMBEDDED, ROWS, MASKS,
    GRU, DOUBLES, result(LSTM), result(PACKED), result(PROJECTED), result(PEEPHOLE),
    _core.Gradients(GRU, f4(3 * H, I)), _core.Gradients(DOUBLES, None), np.dtype("f8"),
    f4(0), f4(1), f4(B, H), f4(0, I), f4(T, B, H)[:, :, ::-1], f4(T, B, H).astype("f8"),
    f4(4 * H, I).astype("f8"), f4(I, 4 * H).T, np.zeros((), "f4"), np.array([0, 2, 4, 6]),
    np.broadcast_to(np.float32(1), (T, B, H)), np.ones((T, B), "i8") * 2**40, np.ones((T, B), "i4"),
    np.full((T, B), -1), np.zeros((T, B, H), ">f4"), buffer(64), buffer(1)[1:], np.array(None),
    np.zeros((T, B), "U3"),
]
REFUSED = (TypeError, ValueError, LookupError, AttributeError, OverflowError, MemoryError)
counts = {"refused": 0, "computed": 0}


def attempt(name, call):
    print(name, file=sys.stderr, flush=True)
    try:
        answer = result(call)
    except REFUSED:
        counts["refused"] += 1
        return
    counts["computed"] += 1
    if isinstance(answer, np.ndarray):
        answer.copy()  # reads all of it


for name, call in CALLS.items():
    answer = result(call)
    assert not isinstance(answer, tuple) or answer == (True, True), name  # a stepper took its step
    for path in places(call):
        for number, bad in enumerate(BAD):
            if name.startswith("probe") and type(bad) is int and bad > 1:
                continue  # to run so long is what was asked for
            attempt((name, path, number), replaced(call, path, bad))
        attempt((name, path, "shorter"), shorter(call, path))
        attempt((name, path, "longer"), longer(call, path))
LARGE = [0, 1, 2**20, 2**31, 2**40, 2**62, 2**63 - 1]
for sizes in itertools.product(LARGE, [1, 2**62], LARGE, [1, 2**31, 2**63 - 1]):
    for cell, ragged, checkpoint, ids in (
        ("lstm", 1, 0, 0), ("lstm_normalised", 0, 3, 0), ("gru_before", 1, 2**63 - 1, 1)
    ):
        options = {"ragged": ragged, "checkpoint": checkpoint, "ids": ids}
        attempt(sizes, Call(_core.Sizes, INDEX[cell], np.dtype("f4"), *sizes, **options))
for steps, batch, checkpoint in itertools.product(LARGE, LARGE, LARGE):
    attempt((steps, batch, checkpoint), Call(_core.tape_size, LSTM, steps, batch, checkpoint))
print(counts["refused"], counts["computed"])
'''


def test_whatever_comes_is_refused_or_computed():
    done = run_python(SCRIPT, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    refused, computed = map(int, done.stdout.split()[-2:])
    assert refused > 30000 and computed > 5000


# ---- named tuples --------------------------------------------------------------------------------


FIELDS = {
    "DIRECTION_CALL": DirectionCall,
    "BACKWARD_BUFFERS": BackwardBuffers,
    "ROWS": Rows,
    "DROPOUT_MASKS": DropoutMasks,
}


@pytest.mark.parametrize("name, kind", FIELDS.items())
def test_named_tuples_have_the_order_in_which_they_are_read(name, kind, monkeypatch):
    """passes.py asserts it when it is imported, because another order would mix up addresses."""
    assert getattr(runtime.core, name) == kind._fields
    runpy.run_path(passes.__file__)
    monkeypatch.setattr(runtime.core, name, kind._fields[::-1])
    with pytest.raises(AssertionError):
        runpy.run_path(passes.__file__)


# ---- sizes and buffers ---------------------------------------------------------------------------


def weights_of_lstm(hidden=7, inputs=1):
    shapes = (4 * hidden, inputs), (4 * hidden, hidden)
    matrices = (np.zeros(shape, np.float32) for shape in shapes)
    return runtime.core.Weights(CELLS["lstm"].index, hidden, *matrices)


@pytest.mark.parametrize("size", [2**31, 2**62, 2**63 - 1])
def test_sizes_beyond_memory_are_told_apart_from_negative_ones(size):
    index, dtype = CELLS["lstm"].index, np.dtype("f4")
    message = f"T = {size} steps, B = {size} rows and 1 features with hidden_size = 7 needs more"
    with pytest.raises(ValueError, match=message):
        runtime.core.Sizes(index, dtype, size, size, 1, 7)
    weights = weights_of_lstm()
    with pytest.raises(ValueError, match=message):
        runtime.core.tape_size(weights, size, size)
    with pytest.raises(ValueError, match="hidden_size = 7 needs more bytes than can be addressed"):
        runtime.core.step_size([weights], max(size, 2**60))
    for negative in (-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1):
        with pytest.raises(ValueError, match="a negative size"):
            runtime.core.Sizes(index, dtype, *negative)


def test_a_runner_has_weights_of_one_kind(core):
    layers = [
        make(0, 5, np.ones((5, n)), np.ones((5, 5)))
        for n, make in ((4, core.Weights), (5, core.Packed))
    ]
    with pytest.raises(ValueError, match="some weights packed and some not"):
        core.Runner(layers, 1, False, False, runtime.workspaces)


@pytest.mark.parametrize("dtype", ["i4", "f2", "g", ">c8"])
def test_sizes_are_those_of_the_kernels_dtypes(dtype):
    with pytest.raises(TypeError, match="float32 or float64 expected"):
        runtime.core.Sizes(CELLS["lstm"].index, np.dtype(dtype), 1, 1, 1, 1)


def test_what_holds_addresses_or_sizes_of_this_build_is_not_pickled(core):
    sizes = core.Sizes(0, np.dtype("f8"), 3, 2, 4, 5)
    weights = core.Weights(0, 5, np.ones((5, 4)), np.ones((5, 5)))
    gradients = core.Gradients(weights, np.ones((5, 4)), np.ones((5, 5)))
    packed = core.Packed(0, 5, np.ones((5, 4)), np.ones((5, 5)))
    state, work = (np.zeros((1, 2, 5)),), np.zeros(1 << 16, "u1")
    stepper = core.Stepper([packed], 2, state, work, [np.zeros((2, 5))], runtime.workspaces)
    runner = core.Runner([packed], 1, False, False, runtime.workspaces)
    dense = core.Dense(np.ones((2, 5)), np.ones(2), 0)
    attempts = [copy.copy, copy.deepcopy, *(partial(pickle.dumps, protocol=n) for n in range(6))]
    for made in (sizes, weights, gradients, packed, stepper, runner, dense, runtime.workspaces):
        for attempt in attempts:
            with pytest.raises(TypeError, match="cannot pickle"):
                attempt(made)


def test_a_boundary_is_one_of_64_bytes():
    buffer = np.zeros(256, np.uint8)
    for start in range(70):
        part = buffer[start:]
        assert (part.ctypes.data + runtime.core.boundary(part)) % runtime.core.ALIGN == 0
        assert 0 <= runtime.core.boundary(part) < runtime.core.ALIGN == 64


def test_a_buffer_needs_slack_only_before_its_boundary():
    weights = weights_of_lstm()
    nbytes = runtime.core.tape_size(weights, 4, 3)
    memory = np.zeros(nbytes + 128, np.uint8)
    memory = memory[runtime.core.boundary(memory) :]
    for start in range(65):
        slack = runtime.core.boundary(memory[start:])
        assert slack == -start % 64
        tape = memory[start:][: nbytes - 64 + slack]
        slots = runtime.core.tape_slots(weights, tape, 4, 3)
        assert slots.ctypes.data == tape.ctypes.data + slack
        with pytest.raises(ValueError, match=f"a buffer of {nbytes} bytes expected"):
            runtime.core.tape_slots(weights, tape[:-1], 4, 3)


def test_steps_of_some_rows_refuse_what_is_not_there(core):
    packed = core.Packed(0, 5, np.ones((5, 4)), np.ones((5, 5)))
    shape, work = (1, 3, 5), np.zeros(1 << 16, "u1")

    def stepper_of(state, layers=(packed,)):
        outputs = [np.zeros((state.shape[1], 5)) for _ in layers]
        return core.Stepper(
            list(layers), state.shape[1], (state,), work, outputs, runtime.workspaces
        )

    state, x, out = np.ones(shape), np.ones((2, 4)), np.full((2, 5), 7.0)
    stepper, some = stepper_of(state), stepper_of(np.zeros(shape))
    for rows in (
        np.array([0, 3]),
        np.array([-1, 0]),
        np.array([1, 1]),
        np.array([0, 1], "i4"),
        np.array([0, 1, 2, 0])[::2],
        np.array([[0, 1]]),
        np.array([0]),
        np.array([], "i8"),
        np.array([0, 1, 2, 0]),
    ):
        assert not stepper.step_some(some, rows, x, out, False)
    rows = np.array([2, 0])
    for given, wanted in (x[:, :3], out), (x.astype("f4"), out), (x, out[:1]), (x, out[:, ::-1]):
        assert not stepper.step_some(some, rows, given, wanted, False)
    assert not stepper.step_some(some, rows, x, out, True)
    assert (state == 1).all() and (out == 7).all()
    others = core.Packed(0, 5, np.ones((5, 4)), np.ones((5, 5)))
    for other in stepper, stepper_of(np.zeros((1, 2, 5))), stepper_of(np.zeros(shape), [others]):
        with pytest.raises(ValueError, match="a stepper of the same layers expected"):
            stepper.step_some(other, rows, x, out, False)
    assert stepper.step_some(some, rows, x, out, False)
    assert (out != 7).all() and (state[0, 1] == 1).all() and (state[0, [2, 0]] == out).all()


def test_a_dense_layer_refuses_what_does_not_fit(core):
    weight, bias = np.ones((2, 5)), np.ones(2)
    dense, x, y = core.Dense(weight, bias, 0), np.ones((3, 5)), np.full((3, 2), 7.0)
    for given, wanted in (
        (x.astype("f4"), None),
        (x[:, :4], None),
        (x[:, ::-1], None),
        (x.tolist(), None),
        (x, y[:2]),
        (x, y.astype("f4")),
        (x, y[None]),
        (x, np.zeros((2, 3)).T),
        (x, np.broadcast_to(7.0, (3, 2))),
        (x, x.reshape(-1)[:6].reshape(3, 2)),
    ):
        assert dense.apply(given, wanted) is None
    assert (y == 7).all() and dense.apply(x, y) is y and (y == 6).all()
    for given in (
        (weight, bias[:1], 0),
        (weight, bias.astype("f4"), 0),
        (weight, bias, 3),
        (bias, bias, 0),
    ):
        with pytest.raises((TypeError, ValueError)):
            core.Dense(*given)
