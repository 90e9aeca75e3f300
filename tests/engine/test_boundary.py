"""The functions of the compiled module: with any arguments they refuse or compute, without a crash.

Users meet the checks of Python first; these are the last ones before memory. Each argument of a
valid call, also deep in its tuples, is replaced by invalid objects, in a process of its own.
"""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from problems import run_python

from fastrnn._cells.registry import CELLS
from fastrnn._engine import runtime

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

SCRIPT = '''
import faulthandler
import itertools
import sys

import numpy as np

from fastrnn._engine._core import *
from fastrnn._engine import _core

faulthandler.dump_traceback_later(100, exit=True)
T, B, I, H = 3, 2, 4, 5
INDEX = {cell["name"]: index for index, cell in enumerate(_core.cells())}
CELL = INDEX["lstm"]
f4 = lambda *shape: np.ones(shape, "f4")
sizes = _core.Sizes(CELL, 4, T, B, I, H, ragged=True)
buffer = lambda n: np.zeros(n, "u1")
weights = f4(4 * H, I), f4(4 * H, H), f4(4 * H), f4(4 * H)
state = lambda: (f4(1, B, H), f4(1, B, H))
tape, work = buffer(sizes.tape), buffer(1 << 20)
one_pass = False, 0, state(), weights, f4(T, B, H), state(), tape, None
rows = (np.array([3, 1]), np.array([1, 0]), np.array([1, 0]), np.ones((T, B), bool),
        np.zeros((T, B), bool), False)
ids = np.zeros((T, B), "i8")
table = buffer(_core.table_size(CELL, 0, H, 4))
back = (one_pass, f4(T, B, H), state(), f4(T, B, I), state(), tuple(map(np.zeros_like, weights)),
        (f4(T, B, H), f4(T, B, H)))
no_x = f4(T, B, 0)
of_ids = (False, 0, state(), (f4(4 * H, 0), *weights[1:]), f4(T, B, H), state(), tape, None)
back_ids = (of_ids, f4(T, B, H), state(), None, state(), (None, *map(np.zeros_like, weights[1:])),
            (None, None))
extras = (None, None, None, None, f4(3 * H)), (0.0, 0.0, 0.0, 0.5, 0.5)
peephole = (False, 0, state(), (*weights, None, *extras), f4(T, B, H), state(),
            tape, (f4(B, H), (f4(T, B, H), f4(T, B, H))))
packed = buffer(_core.Sizes(CELL, 4, 1, B, H, H).packed)
layers = [(CELL, weights, packed), (CELL, (f4(4 * H, H), *weights[1:]), packed.copy())]
two = f4(2, B, H), f4(2, B, H)

def stepper(layers, batch, state, work, outputs, table=None, count=-1):
    return _core.Stepper(layers, batch, state, work, outputs, table, count)

def step(x, out):
    one_stepper = stepper(layers[:1], B, state(), work, [f4(B, H)])
    return one_stepper.step(x, out), one_stepper.feed(x, out)

def step_of_ids(x, out):
    one = [(CELL, (f4(4 * H, 0), *weights[1:]), packed)]
    one_stepper = stepper(one, B, state(), work, [f4(B, H)], table, 4)
    return one_stepper.step(x, out), one_stepper.feed(x, out)

CALLS = {
    "forward": (_core.forward, [CELL, f4(T, B, I), (one_pass,), rows, None, 0, work]),
    "forward of a variant": (
        _core.forward, [INDEX["lstm_peephole"], f4(T, B, I), (peephole,), None, None, 0, work]
    ),
    "forward of ids": (
        _core.forward, [CELL, no_x, (of_ids,), None, (ids, 4, (table,), None), 0, work]
    ),
    "backward": (_core.backward, [CELL, f4(T, B, I), (back,), rows, None, 2, work]),
    "backward of ids": (
        _core.backward, [CELL, no_x, (back_ids,), None, (ids, 4, None, (f4(4, 4 * H),)), 0, work]
    ),
    "Sizes": (_core.Sizes, [CELL, 4, T, B, I, H, True, 2, False, 3]),
    "tape_slots": (_core.tape_slots, [CELL, tape, 0, T, B, H]),
    "boundary": (_core.boundary, [tape]),
    "table_size": (_core.table_size, [CELL, 0, H, 4]),
    "tabulate": (_core.tabulate, [CELL, f4(4, I), weights, 4, table, work]),
    "product": (_core.product, [f4(2, 3), f4(3, 4), f4(2, 4), work]),
    "Stepper": (stepper, [layers, B, two, work, [f4(B, H), f4(B, H)]]),
    "step": (step, [f4(B, I), f4(B, H)]),
    "step of ids": (step_of_ids, [ids[0], f4(B, H)]),
    "select_isa": (_core.select_isa, ["none"]),
    "apply": (_core.apply, ["exp", f4(3)]),
    "probe_fma": (_core.probe_fma, [1, 0]),
    "probe_read": (_core.probe_read, [buffer(1024), 1]),
}
BAD = [
    None, -1, 0, 1, 2**31, 2**62 + 1, 2**63 - 1, 2**64, 0.5, "text", b"", (), [], {}, object(),
    (None,) * 9,
    f4(0), f4(1), f4(B, H), f4(T, B, H)[:, :, ::-1], f4(T, B, H).astype("f8"), np.zeros((), "f4"),
    np.broadcast_to(np.float32(1), (T, B, H)), np.ones((T, B), "i8") * 2**40, np.ones((T, B), "i4"),
    np.zeros((T, B, H), ">f4"), buffer(64), buffer(1)[1:], np.array(None), np.zeros((T, B), "U3"),
]

def places(tree, path=()):
    """Every place in nested tuples and lists, the whole ones too."""
    if isinstance(tree, (tuple, list)):
        for index, branch in enumerate(tree):
            yield (*path, index)
            yield from places(branch, (*path, index))

def replaced(tree, path, value):
    if not path:
        return value
    index, *rest = path
    return type(tree)(replaced(b, rest, value) if i == index else b for i, b in enumerate(tree))

def shortened(tree, path):
    if len(path) == 1:
        return type(tree)(b for i, b in enumerate(tree) if i != path[0])
    return type(tree)(shortened(b, path[1:]) if i == path[0] else b for i, b in enumerate(tree))

counts = {"refused": 0, "computed": 0}

def attempt(name, call, arguments):
    print(name, file=sys.stderr, flush=True)
    try:
        call(*arguments)
        counts["computed"] += 1
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError):
        counts["refused"] += 1

for name, (call, arguments) in CALLS.items():
    call(*arguments)
    for path in places(arguments):
        for number, bad in enumerate(BAD):
            if name.startswith("probe") and type(bad) is int and bad > 1:
                continue  # to run so long is what was asked for
            attempt((name, path, number), call, replaced(arguments, path, bad))
        if len(path) > 1:
            attempt((name, path, "shorter"), call, shortened(arguments, path))
LARGE = [0, 1, 2**20, 2**31, 2**40, 2**62, 2**63 - 1]
for sizes in itertools.product(LARGE, [1, 2**62], LARGE, [1, 2**31, 2**63 - 1]):
    for cell, ragged, checkpoint, ids in (
        ("lstm", 1, 0, 0), ("lstm_normalised", 0, 3, 0), ("gru_before", 1, 2**63 - 1, 1)
    ):
        attempt(sizes, _core.Sizes, [INDEX[cell], 4, *sizes, ragged, checkpoint, ids, 0])
print(counts["refused"], counts["computed"])
'''


def test_whatever_comes_is_refused_or_computed():
    done = run_python(SCRIPT)
    assert done.returncode == 0, done.stderr[-2000:]
    refused, computed = map(int, done.stdout.split()[-2:])
    assert refused > 2000 and computed > 100


def call_of_gru(steps, batch, hidden, inputs=0):
    """A cell, a pass for `forward`, one for `backward`, and a workspace, of a GRU."""
    cell, zeros = CELLS["gru_after"].index, lambda *shape: np.zeros(shape, np.float32)
    sizes = runtime.core.Sizes(cell, 4, steps, batch, inputs, hidden, True, 0, inputs == 0)
    weights = zeros(3 * hidden, inputs), zeros(3 * hidden, hidden), None, None
    state, tape = (zeros(1, batch, hidden),), np.zeros(sizes.tape, np.uint8)
    y = zeros(steps, batch, hidden)
    one_pass = False, 0, state, weights, y, state, tape, None
    back = one_pass, y, state, None, state, (None, np.zeros_like(weights[1]), None, None), (None,)
    return cell, one_pass, back, np.zeros(sizes.backward + sizes.packed, np.uint8)


IN_ORDER = np.array([0, 1, 2])


@pytest.mark.parametrize(
    "lengths, sort_order, inverse_order",
    [
        ([5, 2, 1], None, None),
        ([2, 3, 1], None, None),
        ([2, 1, -1], None, None),
        ([3, 2, 1], [0, 1, 3], IN_ORDER),
        ([3, 2, 1], [0, 1, -1], IN_ORDER),
        ([3, 2, 1], [0, 0, 1], IN_ORDER),
        ([3, 2, 1], [1, 2, 0], IN_ORDER),
        ([3, 2, 1], [0, 1, 2], None),
    ],
)
def test_rows_that_would_lead_beyond_the_arrays_are_refused(lengths, sort_order, inverse_order):
    """The kernels do not check these arrays, so they are checked before."""
    cell, one_pass, back, work = call_of_gru(4, 3, 5, inputs=2)
    sort_order = sort_order if sort_order is None else np.array(sort_order)
    rows = np.array(lengths), sort_order, inverse_order, None, None, False
    x = np.zeros((4, 3, 2), np.float32)
    with pytest.raises(ValueError, match="lengths out of range|sort_order"):
        runtime.core.forward(cell, x, (one_pass,), rows, None, 0, work)
    with pytest.raises(ValueError, match="lengths out of range|sort_order"):
        runtime.core.backward(cell, x, (back,), rows, None, 0, work)


@pytest.mark.parametrize("lengths, sort_order", [([4, 2, 0], None), ([3, 2, 1], [2, 0, 1])])
def test_rows_as_they_should_be_are_taken(lengths, sort_order):
    cell, one_pass, back, work = call_of_gru(4, 3, 5, inputs=2)
    sort_order = sort_order if sort_order is None else np.array(sort_order)
    inverse_order = None if sort_order is None else np.argsort(sort_order)
    rows = np.array(lengths), sort_order, inverse_order, None, None, False
    x = np.zeros((4, 3, 2), np.float32)
    assert runtime.core.forward(cell, x, (one_pass,), rows, None, 0, work) == 0
    assert runtime.core.backward(cell, x, (back,), rows, None, 0, work) == 0


def test_ids_that_are_not_dense_are_refused():
    cell, one_pass, back, work = call_of_gru(4, 3, 5)
    ids, x = np.zeros((3, 4), np.int64).T, np.zeros((4, 3, 0), np.float32)
    with pytest.raises(ValueError, match="dense ids"):
        runtime.core.backward(cell, x, (back,), None, (ids, 2, None, None), 0, work)


@pytest.mark.parametrize("bad", [None, "read-only", "short", "of another dtype", "missing"])
def test_the_gradient_of_a_large_table_has_counts_that_can_be_written(bad):
    steps, batch, hidden, count = 8193, 1, 2, 3
    cell, _, back, work = call_of_gru(steps, batch, hidden)
    seen = np.zeros(count - (bad == "short"), "i4" if bad == "of another dtype" else "i8")
    seen.flags.writeable = bad != "read-only"
    gradient = np.zeros((3 * count, 3 * hidden), np.float32)
    ids = np.zeros((steps, batch), np.int64)
    given = gradient if bad == "missing" else (gradient, seen)
    x = np.zeros((steps, batch, 0), np.float32)
    call = cell, x, (back,), None, (ids, count, None, (given,)), 0, work
    if bad is None:
        assert runtime.core.backward(*call) == 0
        return
    with pytest.raises((ValueError, TypeError)):
        runtime.core.backward(*call)


@pytest.mark.parametrize("size", [2**31, 2**62, 2**63 - 1])
def test_sizes_beyond_memory_are_told_apart_from_negative_ones(size):
    with pytest.raises(OverflowError, match="sizes too large"):
        runtime.core.Sizes(CELLS["lstm"].index, 4, size, size, 1, 1)
    with pytest.raises(ValueError, match="a negative size"):
        runtime.core.Sizes(CELLS["lstm"].index, 4, -1, 1, 1, 1)


def test_what_holds_addresses_or_sizes_of_this_build_is_not_pickled(core):
    sizes = core.Sizes(0, 4, 3, 2, 4, 5)
    layers = [(0, (np.ones((5, 4)), np.ones((5, 5)), None, None), np.zeros(1 << 16, "u1"))]
    state, work = (np.zeros((1, 2, 5)),), np.zeros(1 << 16, "u1")
    stepper = core.Stepper(layers, 2, state, work, [np.zeros((2, 5))])
    attempts = [copy.copy, copy.deepcopy, *(partial(pickle.dumps, protocol=n) for n in range(6))]
    for made in (sizes, stepper):
        for attempt in attempts:
            with pytest.raises(TypeError, match="cannot pickle"):
                attempt(made)


def test_a_boundary_is_one_of_64_bytes():
    buffer = np.zeros(256, np.uint8)
    for start in range(70):
        part = buffer[start:]
        assert (part.ctypes.data + runtime.core.boundary(part)) % runtime.core.ALIGN == 0
        assert 0 <= runtime.core.boundary(part) < runtime.core.ALIGN == 64
