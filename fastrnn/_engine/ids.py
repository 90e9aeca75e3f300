"""An x of ids: the kernels read pre-activations from an id table.

With an embedding id k stands for embedding[k], without one for a 1 at feature k among zeros.
Either way bias + W_ih x is the same for every occurrence of an id. So the kernels compute it once
for each id, before the pass, and write it into the id table. After a backward pass they turn the
gradient of the id table into those of W_ih and of the embedding.

It must not know: layers, how gradients are merged.
"""

from typing import NamedTuple

import numpy as np

from fastrnn import checks


class Ids(NamedTuple):
    """A batch of ids.

    ids : (T, B) integers, 0 in steps that a row does not take. used : (U,), the ids that the table
    has; None if it has the complete vocabulary.
    idle : (U,) booleans, True for ids of the table that occur in no step that a row takes; None if
    there is no embedding.
    table_index : (T, B), the index of each id in the table. vocabulary : V, the number of
    different ids. embedding : (V, I) array or None. dtype : that of the layer.
    """

    ids: np.ndarray
    used: np.ndarray | None
    idle: np.ndarray | None
    table_index: np.ndarray
    vocabulary: int
    embedding: np.ndarray | None
    dtype: np.dtype

    @property
    def shape(self):
        """The shape (T, B, I) that x would have as features."""
        inputs = self.vocabulary if self.embedding is None else self.embedding.shape[1]
        return (*self.ids.shape, inputs)

    @property
    def gradient(self):
        """An array for the gradient of the embedding, or None."""
        return None if self.embedding is None else np.empty(self.embedding.shape, self.dtype)

    @property
    def itemsize(self):
        return self.dtype.itemsize

    @property
    def count(self):
        """U, the number of ids that the table has."""
        return self.vocabulary if self.used is None else len(self.used)

    @property
    def rows(self):
        """The embedding of each used id, (U, I), or None; 0 for idle ids, whose own may be NaN."""
        if self.embedding is None:
            return None
        rows = self.embedding.copy() if self.used is None else self.embedding[self.used]
        rows[self.idle] = 0
        return rows


def wanted(one_hot, embedding):
    """Return whether x is ids: with `one_hot` or an embedding, whatever the dtype of x."""
    if checks.flag("one_hot", one_hot) and embedding is not None:
        raise ValueError(
            "one_hot must be False with an embedding: an id stands for embedding[id] then"
        )
    return one_hot or embedding is not None


def integers(name, value, axes):
    """A copy of an array of integers, whose number of axes is in `axes`; TypeError for features."""
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
    if not isinstance(embedding, np.ndarray) and hasattr(embedding, "params"):
        raise TypeError(
            f"embedding must be an array, got a {type(embedding).__name__}: of a train.Embedding "
            'that is embedding.params["weight"]'
        )
    array = checks.of_dtype("embedding", embedding, dtype)
    if array.ndim != 2 or array.shape[1] != input_size:
        raise ValueError(
            f"embedding must be (vocabulary, input_size) with input_size = {input_size}, "
            f"got {array.shape}"
        )
    return array


def vocabulary_of(input_size, embedding):
    """The number of ids, and a text for messages that says of what the largest id is one less."""
    if embedding is None:
        return input_size, "input_size - 1 = "
    return len(embedding), "len(embedding) - 1 = "


def checked(name, ids, input_size, embedding, dtype, rows=None):
    """`Ids` of (T, B) integers that `integers` gave.

    rows : the `ragged.Rows` of the batch, or None. Steps that a row does not take may have any
        integer.

    Raises
    ------
    ValueError, TypeError
        For ids outside the vocabulary and values that are no integers.
    """
    if embedding is not None:
        embedding = checked_embedding(embedding, input_size, dtype)
    vocabulary, largest = vocabulary_of(input_size, embedding)
    if vocabulary == 0 and ids.size:
        empty = "input_size is 0" if embedding is None else "embedding is empty"
        raise ValueError(f"{name} must be empty, because there are no ids: {empty}")
    works = None if rows is None else rows.works(len(ids))
    if works is not None:
        ids = ids * works
    ids = np.ascontiguousarray(checks.within(name, ids, vocabulary - 1, largest))
    used, idle, table_index = None, None, ids
    if vocabulary > ids.size:  # then some ids of the vocabulary do not occur in x
        there = np.zeros(vocabulary, bool)
        there[ids] = True
        used = np.flatnonzero(there)
        where = np.empty(vocabulary, np.int64)
        where[used] = np.arange(len(used))
        table_index = where[ids]
    if embedding is not None:
        idle = np.ones(vocabulary, bool)
        idle[ids if works is None else ids[np.broadcast_to(works, ids.shape)]] = False
        idle = idle if used is None else idle[used]
    return Ids(ids, used, idle, table_index, vocabulary, embedding, dtype)


def scattered(x, dx):
    """The embedding's gradient (V, I) from dx (T, B, I), the gradient of embedding[x.ids]."""
    gradient = np.zeros(x.embedding.shape)  # float64: an id may occur many times
    with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
        np.add.at(gradient, x.ids, dx)
        return gradient.astype(x.dtype)
