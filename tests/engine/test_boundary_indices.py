"""Rows and ids of a call whose numbers would lead the kernels beyond its arrays are refused.

The kernels do not check lengths, sort orders and ids, so the compiled module does. Users meet the
checks of Python first.
"""

import numpy as np
import pytest

from fastrnn._cells.registry import CELLS, kernel_gradients, kernel_weights
from fastrnn._engine import runtime
from fastrnn._engine.ids import Ids
from fastrnn._engine.passes import BackwardBuffers, DirectionCall
from fastrnn._engine.ragged import Rows

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

CELL = CELLS["gru_after"]


class Gru:
    """A pass of a GRU forward and backward, of zeros."""

    def __init__(self, steps, batch, hidden, inputs, rows=None, ids=None, dx=None):
        def zeros(*shape):
            return np.zeros(shape, np.float32)

        parameters, gradients = (
            (zeros(3 * hidden, inputs), zeros(3 * hidden, hidden), None, None) for _ in range(2)
        )
        weights = kernel_weights(CELL, parameters)
        state, last, dfirst = ((zeros(1, batch, hidden),) for _ in range(3))
        tape = np.zeros(runtime.core.tape_size(weights, steps, batch), np.uint8)
        y = zeros(steps, batch, hidden)
        self.x = zeros(steps, batch, inputs) if ids is None else None
        self.call = DirectionCall(False, 0, state, parameters, weights, y, last, tape)
        dweights = kernel_gradients(CELL, weights, gradients)
        self.buffers = BackwardBuffers(y, last, dx, dfirst, gradients, dweights, (None,))
        self.rest = rows, ids, 0

    def forward(self):
        runtime.in_workspace(runtime.core.forward, self.x, (self.call,), *self.rest)

    def backward(self):
        given = self.x, (self.call,), (self.buffers,)
        runtime.in_workspace(runtime.core.backward, *given, *self.rest)


# ---- rows ----------------------------------------------------------------------------------------

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
    sort_order = sort_order if sort_order is None else np.array(sort_order)
    rows = Rows(None, None, None, "zero", np.array(lengths), sort_order, inverse_order)
    gru = Gru(4, 3, 5, 2, rows)
    for run in gru.forward, gru.backward:
        with pytest.raises(ValueError, match="lengths out of range|sort_order"):
            run()


@pytest.mark.parametrize("lengths, sort_order", [([4, 2, 0], None), ([3, 2, 1], [2, 0, 1])])
def test_rows_as_they_should_be_are_taken(lengths, sort_order):
    sort_order = sort_order if sort_order is None else np.array(sort_order)
    inverse_order = None if sort_order is None else np.argsort(sort_order)
    rows = Rows(None, None, None, "zero", np.array(lengths), sort_order, inverse_order)
    gru = Gru(4, 3, 5, 2, rows)
    gru.forward()
    gru.backward()


# ---- ids -----------------------------------------------------------------------------------------

# The ids' table has the rows 1, 4 and 5 of an embedding, or these features of x.
SUBSET = np.array([1, 4, 5])
EMBEDDED = Ids(None, SUBSET, np.zeros(3, bool), np.zeros((4, 3), np.int64), 9,
               np.zeros((9, 6), np.float32), np.dtype("f4"))  # fmt: skip
ONE_HOT = EMBEDDED._replace(idle=None, vocabulary=6, embedding=None)
BAD_IDS = {
    "beyond the table": (EMBEDDED, {"table_index": np.full((4, 3), 3)}, "ids out of range"),
    "negative": (EMBEDDED, {"table_index": np.full((4, 3), -1)}, "ids out of range"),
    "not dense": (EMBEDDED, {"table_index": np.zeros((3, 4), np.int64).T}, "dense ids"),
    "of 32 bits": (EMBEDDED, {"table_index": np.zeros((4, 3), "i4")}, "dense int64"),
    "other steps": (EMBEDDED, {"table_index": np.zeros((5, 3), np.int64)}, "array of 5 x 3"),
    "other rows": (EMBEDDED, {"table_index": np.zeros((4, 2), np.int64)}, "array of 4 x 2"),
    "one axis": (EMBEDDED, {"table_index": np.zeros(12, np.int64)}, "2 axes"),
    "a subset of 32 bits": (EMBEDDED, {"used": SUBSET.astype("i4")}, "dense int64"),
    "a subset beyond x": (ONE_HOT, {"used": SUBSET + 1}, "ids out of range"),
    "a negative subset": (ONE_HOT, {"used": SUBSET - 2}, "ids out of range"),
    "more features than x": (ONE_HOT, {"used": None, "vocabulary": 7}, "as many ids"),
    "fewer features than x": (ONE_HOT, {"used": None, "vocabulary": 5}, "as many ids"),
    "an embedding of other features": (
        EMBEDDED, {"embedding": np.zeros((9, 5), np.float32)}, "3 x 6 expected",
    ),
    "a whole embedding of other ids": (
        EMBEDDED, {"used": None, "idle": np.zeros(9, bool), "vocabulary": 8}, "8 x 6 expected",
    ),
}  # fmt: skip


def gru_of_ids(ids):
    dx = None if ids.embedding is None else np.zeros((9, 6), np.float32)
    return Gru(4, 3, 5, 6, ids=ids, dx=dx)


@pytest.mark.parametrize("ids, change, message", BAD_IDS.values(), ids=BAD_IDS)
def test_ids_that_would_lead_beyond_the_arrays_are_refused(ids, change, message):
    gru = gru_of_ids(ids._replace(**change))
    for run in gru.forward, gru.backward:
        with pytest.raises(ValueError, match=message):
            run()


class ThreeRows(Ids):
    """Ids whose table has three rows, whatever the vocabulary is."""

    count, rows = 3, np.zeros((3, 6), np.float32)


# What decides where gradients go; forward reads none of it.
BAD_TARGETS = {
    "a vocabulary beyond W_ih": (ONE_HOT, {"vocabulary": 7}, {}),
    "a vocabulary below W_ih": (ONE_HOT, {"vocabulary": 5}, {}),
    "a negative vocabulary": (EMBEDDED, {"vocabulary": -9}, {}),
    "a vocabulary beyond the gradient": (EMBEDDED, {"vocabulary": 10}, {}),
    "a vocabulary below a used id": (EMBEDDED, {"vocabulary": 5}, {"dx": None}),
    "a gradient of other ids": (EMBEDDED, {}, {"dx": np.zeros((8, 6), np.float32)}),
    "a gradient of other features": (EMBEDDED, {}, {"dx": np.zeros((9, 5), np.float32)}),
    "a gradient without an embedding": (ONE_HOT, {}, {"dx": np.zeros((6, 6), np.float32)}),
    "a table of less than the vocabulary": (ThreeRows(*EMBEDDED._replace(used=None)), {}, {}),
}


@pytest.mark.parametrize("ids, change, buffers", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_gradients_of_ids_go_nowhere_else(ids, change, buffers):
    gru = gru_of_ids(ids._replace(**change))
    gru.buffers = gru.buffers._replace(**buffers)
    with pytest.raises(ValueError, match="expected|out of range"):
        gru.backward()


@pytest.mark.parametrize("ids", [EMBEDDED, ONE_HOT, ONE_HOT._replace(used=None)])
def test_ids_as_they_should_be_are_taken(ids):
    gru = gru_of_ids(ids)
    gru.forward()
    gru.backward()


def test_ids_need_an_array_for_the_gradient_of_w_ih():
    gru = gru_of_ids(ONE_HOT)
    weights = gru.call.weights
    gru.buffers = gru.buffers._replace(dweights=runtime.core.Gradients(weights, None))
    with pytest.raises(ValueError, match="gradient of w_ih expected"):
        gru.backward()
