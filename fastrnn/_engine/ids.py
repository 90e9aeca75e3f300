"""x as ids: pre-activations gathered from a table, their gradients scattered into one.

With an embedding an id stands for a row of it, without for a one at that feature among zeros.
Either way bias + W_ih x is the same for every occurrence of an id, so the kernels take it from a
table with a row for each id, made before the pass; after it they bring the table's gradient back.

It must not know: layers, how gradients are merged.
"""

from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._engine import runtime


class Ids(NamedTuple):
    """A batch of ids.

    ids : (T, B) integers, those that no row takes being 0. used : (U,), the ids that the table has.
    idle : (U,) booleans, those of them that no row takes; None if there is no embedding.
    table_index : (T, B), the index of each id in the table. vocabulary : ids there are.
    embedding : (V, I) array or None. dtype : of the layer.
    """

    ids: np.ndarray
    used: np.ndarray
    idle: np.ndarray | None
    table_index: np.ndarray
    vocabulary: int
    embedding: np.ndarray | None
    dtype: np.dtype

    @property
    def shape(self):
        """Of x as arrays, were it such."""
        inputs = self.vocabulary if self.embedding is None else self.embedding.shape[1]
        return (*self.ids.shape, inputs)

    @property
    def gradient(self):
        """An array for the gradient of the embedding, or None."""
        return None if self.embedding is None else np.empty_like(self.embedding)

    @property
    def itemsize(self):
        return self.dtype.itemsize

    @property
    def rows(self):
        """(U, I) rows of the embedding, or None; zeros for idle ids, where NaN may stand."""
        if self.embedding is None:
            return None
        rows = self.embedding[self.used]
        rows[self.idle] = 0
        return rows


def wanted(one_hot, embedding):
    """Whether x is ids, as `one_hot` or an embedding says; integers alone say nothing."""
    if checks.flag("one_hot", one_hot) and embedding is not None:
        raise ValueError(
            "one_hot must be False where there is an embedding: ids stand for one or the other"
        )
    return one_hot or embedding is not None


def integers(name, value, axes):
    """Integers of so many axes, the caller's own; features in their place are told apart."""
    array = checks.converted(name, value, "ids, integers")
    if array.dtype.kind == "f" and (array.size or isinstance(value, np.ndarray)):
        raise TypeError(
            f"{name} must be ids, integers, where there is one_hot=True or an embedding, got "
            f"{array.dtype}: leave both out for features"
        )
    ids = checks.integers(name, value)
    if ids.ndim not in axes:
        shapes = " or ".join(("no axis", "one axis", "two axes")[number] for number in axes)
        raise ValueError(
            f"{name} as ids must have {shapes}, and none of features, got shape {ids.shape}"
        )
    return ids


def checked_embedding(embedding, input_size, dtype):
    """A (V, input_size) array."""
    array = checks.same_dtype("embedding", checks.as_array("embedding", embedding), dtype)
    if array.ndim != 2 or array.shape[1] != input_size:
        raise ValueError(
            f"embedding must be (vocabulary, input_size) with input_size = {input_size}, "
            f"got {array.shape}"
        )
    return array


def checked(name, ids, input_size, embedding, dtype, rows=None):
    """`Ids` of (T, B) integers that `integers` gave.

    rows : the `ragged.Rows` of the batch. Steps that count for nothing may hold any integer.

    Raises
    ------
    ValueError, TypeError
        For ids outside the vocabulary and values that are no integers.
    """
    if embedding is not None:
        embedding = checked_embedding(embedding, input_size, dtype)
    vocabulary = input_size if embedding is None else len(embedding)
    if vocabulary == 0 and ids.size:
        empty = "input_size is 0" if embedding is None else "embedding has no rows"
        raise ValueError(f"{name} must be ids, and there are none: {empty}")
    works = None if rows is None else rows.works(len(ids))
    if works is not None:
        ids = ids * works
    ids = np.ascontiguousarray(checks.within(name, ids, vocabulary - 1))
    used, idle, table_index = np.arange(vocabulary), None, ids
    if vocabulary > ids.size:  # most of the table would be for nothing
        there = np.zeros(vocabulary, bool)
        there[ids] = True
        used = np.flatnonzero(there)
        where = np.empty(vocabulary, np.int64)
        where[used] = np.arange(len(used))
        table_index = where[ids]
    if embedding is not None:
        idle = np.ones(vocabulary, bool)
        idle[ids if works is None else ids[np.broadcast_to(works, ids.shape)]] = False
        idle = idle[used]
    return Ids(ids, used, idle, table_index, vocabulary, embedding, dtype)


def forward(cell, x, passes, rows, checkpoint):
    """As the compiled module's `forward`, for `Ids`."""
    without = tuple(p._replace(weights=without_inputs(p.weights)) for p in passes)
    ids = x.table_index, len(x.used), _tables(cell, x, passes), None
    call = runtime.core.forward, cell.index, _nothing(x), without, rows, ids, checkpoint
    runtime.in_workspace(*call)


def _tables(cell, x, passes):
    """For each pass the table of the ids that occur."""
    inputs, tables = x.rows, []
    for p in passes:
        w_ih, *others = p.weights
        if inputs is None and len(x.used) < x.vocabulary:
            w_ih = np.take(w_ih, x.used, axis=1)
        tables.append(table(cell, inputs, (w_ih, *others), len(x.used)))
    return tuple(tables)


def table(cell, inputs, weights, count):
    """bias + W_ih x for each row of inputs, (count, I), or for each feature if that is None."""
    itemsize, hidden = weights[0].itemsize, len(weights[0]) // cell.gates
    size = runtime.core.table_size(cell.index, int(itemsize == 8), hidden, count)
    buffer = np.empty(size, np.uint8)
    runtime.in_workspace(runtime.core.tabulate, cell.index, inputs, weights, count, buffer)
    return buffer


def backward(cell, x, pairs, rows, checkpoint):
    """As the compiled module's `backward`, for `Ids`; pairs of passes and what comes back.

    dx of a pass is the gradient of the embedding, or None.
    """
    gradients, calls = [], []
    by_blocks = runtime.core.goes_by_blocks(x.ids.size)
    for p, i in pairs:
        gradient = np.zeros((3 if by_blocks else 1, len(x.used), len(p.weights[0])), x.dtype)
        gradients.append((gradient, np.zeros(len(x.used), np.int64)) if by_blocks else gradient)
        p = p._replace(weights=without_inputs(p.weights))
        calls.append((p, *i._replace(dx=None, dweights=(None, *i.dweights[1:]))))
    tables = _tables(cell, x, [p for p, _ in pairs]) if checkpoint else None  # to recompute steps
    ids = x.table_index, len(x.used), tables, tuple(gradients)
    call = runtime.core.backward, cell.index, _nothing(x), tuple(calls), rows, ids, checkpoint
    runtime.in_workspace(*call)
    for (p, i), gradient in zip(pairs, gradients, strict=True):
        table = gradient[0][0] if by_blocks else gradient[0]
        _bring_back(x, table, p.weights[0], i.dweights[0], i.dx)


def scattered(x, dx):
    """The gradient of the embedding from that of its rows as they stood in x, (T, B, I)."""
    gradient = np.zeros(x.embedding.shape)  # float64, for an id may occur in many rows
    with np.errstate(all="ignore"):  # infinities take their course
        np.add.at(gradient, x.ids, dx)
        return gradient.astype(x.dtype)


def _bring_back(x, table, w_ih, dw_ih, dx):
    """From the table's gradient (U, G*H) that of W_ih, and of the embedding unless dx is None."""
    if x.embedding is None:
        if len(x.used) < x.vocabulary:
            dw_ih[...] = 0
        dw_ih[:, x.used] = table.T
        return
    runtime.in_workspace(runtime.core.product, table.T, x.rows, dw_ih)
    if dx is None:
        return
    rows = np.empty((len(x.used), w_ih.shape[1]), x.dtype)
    runtime.in_workspace(runtime.core.product, table, w_ih, rows)
    dx[...] = 0
    dx[x.used] = rows


def _nothing(x):
    return np.empty((*x.ids.shape, 0), x.dtype)


def without_inputs(weights):
    """The weights of a pass over ids."""
    w_ih, *others = weights
    return (np.empty((len(w_ih), 0), w_ih.dtype), *others)
