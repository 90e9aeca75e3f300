"""x of ids: the results are those of the rows or one-hot vectors that ids stand for."""

import pickle

import numpy as np
import pytest
from decorators import both_ways, every_backend, every_cell, every_dtype, every_isa
from problems import (
    assert_close,
    assert_same_bits,
    call_function,
    layer_of,
    problem,
    unchanged,
)

import fastrnn
from fastrnn import reference

# T, B, H and the vocabulary, which is smaller or larger than the number of ids in the batch.
SIZES = {"many ids": (5, 4, 7, 50), "few ids": (9, 19, 33, 11), "one row": (40, 1, 20, 6)}
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def batch(sizes, seed=0):
    steps, rows, _, vocabulary = sizes
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, (steps, rows))
    return ids, rng.integers(0, steps + 1, rows)


def one_hot(ids, vocabulary, dtype):
    return np.eye(vocabulary, dtype=dtype)[ids]


def layer_for(cell, sizes, dtype, inputs=None, **options):
    _, _, hidden, vocabulary = sizes
    return layer_of(cell, inputs or vocabulary, hidden, dtype=dtype, **options)


def said(embedding=None):
    """The option that defines ids: one_hot or embedding."""
    return {"one_hot": True} if embedding is None else {"embedding": embedding}


def gradients(layer, x, sizes, **options):
    """y, the last state and the gradients of a run with fixed incoming gradients."""
    y, state, tape = layer.forward(x, **options)
    dy = np.random.default_rng(5).standard_normal(y.shape).astype(layer.dtype)
    return y, state, tape.backward(dy)


# ---- streams -------------------------------------------------------------------------------------


@every_backend
@every_cell
@every_dtype
@every_size
@pytest.mark.parametrize("embedded", [False, True], ids=["one-hot", "embedding"])
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_a_stream_of_ids_is_the_whole_sequence(backend, cell, dtype, sizes, embedded, first):
    steps, rows, _, vocabulary = sizes
    table = np.random.default_rng(2).uniform(-1, 1, (vocabulary, 5)).astype(dtype)
    embedding = table if embedded else None
    layer = layer_for(cell, sizes, dtype, 5 if embedded else None, num_layers=2, batch_first=first)
    ids = batch(sizes)[0]
    turned = ids.T if first else ids
    y, state = layer(turned, **said(embedding))
    stream = layer.stream(rows, **said(embedding))

    def agree(got, wanted):
        assert_same_bits(got, wanted) if backend == "core" else assert_close(got, wanted, dtype)

    agree(np.stack([stream.step(t) for t in ids], axis=int(first)), y)
    agree(stream.state, state)
    stream.reset()
    cut = steps // 2
    parts = (turned[:, :cut], turned[:, cut:]) if first else (turned[:cut], turned[cut:])
    agree(np.concatenate([stream.feed(part) for part in parts], axis=int(first)), y)
    agree(stream.state, state)


@every_backend
@pytest.mark.parametrize("kind", [np.int64, np.longlong, np.int8, np.uint16, ">i8", list])
def test_a_stream_takes_ids_of_any_kind(backend, kind):
    layer = layer_for("gru_after", SIZES["few ids"], "float32")
    stream, other = layer.stream(19, one_hot=True), layer.stream(19)
    for row in batch(SIZES["few ids"])[0]:
        wanted = other.step(one_hot(row, 11, "float32"))
        given = row.tolist() if kind is list else row.astype(kind)
        assert_same_bits(pickle.loads(pickle.dumps(stream)).step(given), wanted)
        assert_same_bits(stream.step(given), wanted)
    assert_same_bits(stream.state, other.state)


@every_backend
def test_a_stream_of_one_row_takes_a_number(backend):
    layer = layer_for("lstm", SIZES["few ids"], "float32")
    stream, other = (layer.stream(one_hot=True) for _ in range(2))
    for number in (3, 0, 10):
        assert_same_bits(stream.step(number), other.step(np.array([number])))


@every_backend
def test_a_stream_of_ids_keeps_the_embedding_of_when_it_was_made(backend):
    layer = layer_for("lstm", SIZES["few ids"], "float32", 5)
    table = np.random.default_rng(2).uniform(-1, 1, (11, 5)).astype("float32")
    stream, other = (layer.stream(3, embedding=table) for _ in range(2))
    wanted = other.step(np.array([0, 10, 3]))
    table.fill(np.nan)
    layer.flat.fill(np.nan)
    assert_same_bits(stream.step(np.array([0, 10, 3])), wanted)


@every_backend
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.array([0, 1, 11]), ValueError, "x must be from 0 to input_size - 1 = 10, got 11"),
        (np.array([0, -1, 1]), ValueError, "x must be from 0 to input_size - 1 = 10, got -1"),
        (np.array([0, 1]), ValueError, r"x must be \(B,\) = \(3,\), got \(2,\)"),
        (np.array([0.0, 1.0, 2.0]), TypeError, "x must be ids, integers, where .* got float64"),
        (np.ones((3, 11), "float32"), TypeError, "leave both out for features"),
        (np.array([True, False, True]), TypeError, "x must be integers, got dtype bool"),
        (np.zeros((3, 11), int), ValueError, "x as ids must have one axis, .* got shape .3, 11."),
    ],
)
def test_ids_that_do_not_fit_leave_a_stream_as_it_was(backend, x, error, message):
    stream = layer_for("lstm", SIZES["few ids"], "float32").stream(3, one_hot=True)
    stream.step(np.array([1, 2, 3]))
    before = stream.state
    with pytest.raises(error, match=message):
        stream.step(x)
    assert_same_bits(stream.state, before)
    with pytest.raises(error):
        stream.feed(np.array([x, x]))
    assert_same_bits(stream.state, before)


def test_a_streams_embedding_must_fit():
    layer = layer_for("lstm", SIZES["few ids"], "float32", 5)
    with pytest.raises(ValueError, match="embedding must be .vocabulary, input_size."):
        layer.stream(3, embedding=np.zeros((11, 4), "float32"))
    with pytest.raises(TypeError, match="embedding must be float32"):
        layer.stream(3, embedding=np.zeros((11, 5)))


# ---- the reference -------------------------------------------------------------------------------


@every_cell
@both_ways
def test_the_references_columns_are_its_one_hot_products(cell, reverse):
    p = problem(cell, 5, 4, 6, 3)
    ids, lengths = batch((5, 4, 3, 6))
    options = {"reverse": reverse, "lengths": lengths}
    y, last, tape = reference.forward(cell, ids, p.state, *p.weights, **options)
    dense, dense_last, dense_tape = reference.forward(
        cell, one_hot(ids, 6, "float64"), p.state, *p.weights, **options
    )
    assert_close((y, last), (dense, dense_last), "float64")
    dx, *got = reference.backward(tape, p.dy, p.dstate)
    assert dx is None
    assert_close(got, reference.backward(dense_tape, p.dy, p.dstate)[1:], "float64")


# ---- on either backend ---------------------------------------------------------------------------


@every_backend
@every_size
@every_dtype
@every_cell
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["one way", "both ways"])
def test_ids_are_one_hot_vectors(backend, cell, dtype, sizes, options):
    layer = layer_for(cell, sizes, dtype, **options)
    ids, _ = batch(sizes)
    dense = one_hot(ids, sizes[3], dtype)
    with fastrnn.backend(backend):
        y, state, got = gradients(layer, ids, sizes, one_hot=True)
        wanted_y, wanted_state, wanted = gradients(layer, dense, sizes)
        if backend == "core":
            assert_same_bits((y, state), (wanted_y, wanted_state))
            assert_same_bits(layer(ids, one_hot=True), (wanted_y, wanted_state))
        assert_close((y, state, got.params, got.state),
                     (wanted_y, wanted_state, wanted.params, wanted.state), dtype)  # fmt: skip
    assert got.x is None and got.embedding is None


@every_backend
@every_size
@every_dtype
@every_cell
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["one way", "both ways"])
def test_ids_are_rows_of_an_embedding(backend, cell, dtype, sizes, options):
    layer = layer_for(cell, sizes, dtype, inputs=3, **options)
    ids, _ = batch(sizes)
    embedding = np.random.default_rng(1).standard_normal((sizes[3], 3)).astype(dtype)
    with fastrnn.backend(backend):
        y, state, got = gradients(layer, ids, sizes, embedding=embedding)
        wanted_y, wanted_state, wanted = gradients(layer, embedding[ids], sizes)
        assert_same_bits((y, state), (wanted_y, wanted_state))
        assert_same_bits(layer(ids, embedding=embedding), (wanted_y, wanted_state))
    assert_close((got.params, got.state), (wanted.params, wanted.state), dtype)
    table = np.zeros(embedding.shape, dtype)
    np.add.at(table, ids, wanted.x)
    assert_close(got.embedding, table, dtype)
    assert got.x is None


@every_backend
@every_cell
@pytest.mark.parametrize("embedded", [False, True], ids=["one-hot", "embedding"])
def test_ragged_ids_may_hold_anything_beyond_their_ends(backend, cell, embedded):
    sizes = SIZES["few ids"]
    layer = layer_for(cell, sizes, "float32", inputs=3 if embedded else None, bidirectional=True)
    ids, lengths = batch(sizes)
    embedding = np.random.default_rng(1).standard_normal((sizes[3], 3)).astype("float32")
    dense = embedding[ids] if embedded else one_hot(ids, sizes[3], "float32")
    options = said(embedding if embedded else None)
    mask = np.random.default_rng(2).random(ids.shape) < 0.7
    beyond = (np.arange(sizes[0])[:, None] >= lengths) | ~mask
    ids[beyond] = -100
    with fastrnn.backend(backend):
        y, state, got = gradients(layer, ids, sizes, lengths=lengths, mask=mask, **options)
        wanted_y, wanted_state, wanted = gradients(layer, dense, sizes, lengths=lengths, mask=mask)
    if backend == "core":
        assert_same_bits((y, state), (wanted_y, wanted_state))
    assert_close((y, state), (wanted_y, wanted_state), "float32")
    assert_close((got.params, got.state), (wanted.params, wanted.state), "float32")


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "longlong", ">i4"])
def test_any_integers_in_any_layout_will_do(kind):
    sizes = SIZES["few ids"]
    layer = layer_for("lstm", sizes, "float32")
    by_batch = layer_for("lstm", sizes, "float32", batch_first=True)
    ids, _ = batch(sizes)
    wanted, _ = layer(ids, one_hot=True)
    assert_same_bits(layer(ids.astype(kind), one_hot=True)[0], wanted)
    assert_same_bits(layer(np.asfortranarray(ids.astype(kind)), one_hot=True)[0], wanted)
    assert_same_bits(layer(ids.tolist(), one_hot=True)[0], wanted)
    assert_same_bits(by_batch(ids.T, one_hot=True)[0], wanted.swapaxes(0, 1))
    assert_same_bits(layer(ids[:, 3], one_hot=True)[0], wanted[:, 3])


@every_cell
def test_the_functions_take_ids_too(cell):
    p = problem(cell, 5, 4, 6, 3, dtype="float32")
    ids, _ = batch((5, 4, 3, 6))
    wanted = call_function(p, x=one_hot(ids, 6, "float32"))
    assert_close(call_function(p, x=ids, one_hot=True), wanted, "float32")
    embedding = np.random.default_rng(1).standard_normal((20, 6)).astype("float32")
    assert_same_bits(
        call_function(p, x=ids, embedding=embedding), call_function(p, x=embedding[ids])
    )


@every_backend
@pytest.mark.parametrize("sizes", [(0, 3), (4, 0)], ids=str)
def test_no_steps_and_no_rows(backend, sizes):
    layer = layer_of("gru_after", 5, 4)
    with fastrnn.backend(backend):
        y, _, tape = layer.forward(np.zeros(sizes, int), one_hot=True)
        grads = tape.backward(np.ones_like(y))
    assert y.shape == (*sizes, 4) and not grads.flat.any()


# ---- the kernels ---------------------------------------------------------------------------------


@every_backend
def test_infinite_gradients_of_an_embedding_are_summed_without_a_warning(backend):
    layer, dy = fastrnn.RNN(3, 1, nonlinearity="relu"), np.array([[[np.inf], [-np.inf]]], "f4")
    layer.flat[...] = 1
    with fastrnn.backend(backend):
        _, _, tape = layer.forward(np.array([[1, 1]]), embedding=np.ones((4, 3), "f4"))
        embedding = tape.backward(dy).embedding
    assert np.isnan(embedding[1]).all() and not embedding[[0, 2, 3]].any()


@pytest.mark.usefixtures("core")
@every_isa
@every_cell
def test_every_instruction_set_gathers_what_it_would_compute(isa, cell):
    sizes = (6, 5, 37, 40)
    layer = layer_for(cell, sizes, "float32")
    ids, _ = batch(sizes)
    assert_same_bits(layer(ids, one_hot=True), layer(one_hot(ids, 40, "float32")))


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("inputs", [None, 24], ids=["one-hot", "embedding"])
def test_threads_never_show(cell, inputs):
    sizes = (40, 37, 40, 60)
    layer = layer_for(cell, sizes, "float32", inputs=inputs, bidirectional=True)
    ids, lengths = batch(sizes)
    embedding = np.random.default_rng(1).standard_normal((60, 24)).astype("float32")
    options = {"lengths": lengths} | said(embedding if inputs else None)

    def answer(threads):
        with fastrnn.threads(threads):
            y, state, grads = gradients(layer, ids, sizes, **options)
        return y, state, grads.flat, grads.embedding

    wanted = answer(1)
    for n in (2, 3, 8):
        assert_same_bits(answer(n), wanted)


FEW, MANY = 11, 500  # a batch of 9 steps and 6 rows has more ids than the one, fewer than the other
every_checkpoint = pytest.mark.parametrize(
    "checkpoint", [None, 4], ids=["every step", "checkpoints"]
)


@pytest.mark.usefixtures("core")
@every_cell
@every_dtype
@every_checkpoint
def test_a_table_of_the_ids_that_occur_gives_the_bits_of_one_of_all(cell, dtype, checkpoint):
    sizes = (9, 6, 17, FEW)
    ids, _ = batch(sizes)
    small, large = (layer_of(cell, n, 17, bidirectional=True, dtype=dtype) for n in (FEW, MANY))

    def columns(name, array):
        """Those of the ids, and the others."""
        return (array[:, :FEW], array[:, FEW:]) if "weight_ih" in name else (array, array[:0])

    for name, array in small.params.items():
        columns(name, large.params[name])[0][...] = array
    options = {"one_hot": True, "checkpoint": checkpoint}
    *wanted, of_small = gradients(small, ids, sizes, **options)
    *got, of_large = gradients(large, ids, sizes, **options)
    assert_same_bits((got, of_large.state), (wanted, of_small.state))
    for name, array in of_small.params.items():
        same, others = columns(name, of_large.params[name])
        assert_same_bits(same, array)
        assert not others.any()


@pytest.mark.usefixtures("core")
@every_cell
@every_dtype
@every_checkpoint
def test_a_table_of_the_rows_that_occur_gives_the_bits_of_one_of_all(cell, dtype, checkpoint):
    sizes = (9, 6, 17, FEW)
    ids, _ = batch(sizes)
    layer = layer_of(cell, 5, 17, bidirectional=True, dtype=dtype)
    embedding = np.random.default_rng(1).standard_normal((MANY, 5)).astype(dtype)
    options = {"checkpoint": checkpoint}
    *wanted, small = gradients(layer, ids, sizes, embedding=embedding[:FEW], **options)
    *got, large = gradients(layer, ids, sizes, embedding=embedding, **options)
    assert_same_bits((got, large.state, large.flat), (wanted, small.state, small.flat))
    assert_same_bits(large.embedding[:FEW], small.embedding)
    assert not large.embedding[FEW:].any()


@pytest.mark.usefixtures("core")
def test_sums_over_repeated_ids_have_one_order():
    """It is the order of the dense product in the backward pass, so the bits are the same."""
    sizes = (30, 2, 9, 4)
    layer = layer_for("lstm", sizes, "float32")
    ids, _ = batch(sizes)
    _, _, got = gradients(layer, ids, sizes, one_hot=True)
    _, _, wanted = gradients(layer, one_hot(ids, 4, "float32"), sizes)
    assert_same_bits(got.params, wanted.params)


# ---- bad input -----------------------------------------------------------------------------------

HOT = {"one_hot": True}
ROWS = {"embedding": np.ones((9, 6), "float32")}
FEATURES = np.ones((3, 2, 6), "float32")
BAD = {
    "too large": (np.full((3, 2), 6), HOT, ValueError, "from 0 to input_size - 1 = 5, got 6"),
    "negative": (np.full((3, 2), -1), HOT, ValueError, "from 0 to input_size - 1 = 5, got -1"),
    "beyond 64 bits": (
        np.full((3, 2), 2**64 - 1, np.uint64), HOT, ValueError, f"got {2**64 - 1}",
    ),
    "beyond the embedding": (np.full((3, 2), 9), ROWS, ValueError, "len.embedding. - 1 = 8"),
    "an embedding of other features": (
        np.zeros((3, 2), int), {"embedding": np.ones((9, 5), "float32")}, ValueError,
        r"embedding must be \(vocabulary, input_size\) with input_size = 6, got \(9, 5\)",
    ),
    "an embedding of another dtype": (
        np.zeros((3, 2), int), {"embedding": np.ones((9, 6))}, TypeError, "must be float32",
    ),
    "an embedding for features": (FEATURES, ROWS, TypeError, "x must be ids, integers, where"),
    "one_hot for features": (FEATURES, HOT, TypeError, "got float32: leave both out for features"),
    "lists of unequal lengths": ([[0, 1], [0]], HOT, ValueError, "x must be ids, integers: "),
    "a masked array": (np.ma.zeros((3, 2)), HOT, TypeError, "x must be an array without a mask"),
    "both": (np.zeros((3, 2), int), HOT | ROWS, ValueError, "one_hot must be False with an"),
    "one_hot of 1": (np.zeros((3, 2), int), {"one_hot": 1}, TypeError, "one_hot must be True or"),
    "a last axis": (np.zeros((3, 2, 6), int), HOT, ValueError, "and none of features, got shape"),
    # Counts in a batch of 3 and 2 steps, for a layer without one_hot or embedding.
    "integers": (np.zeros((3, 2), int), {}, TypeError, r"give one_hot=True or embedding="),
    "integers of features": (
        np.zeros((3, 2, 6), int), {}, TypeError,
        r"x must be float32, got int64: cast it with x.astype\('float32'\), or, if these are ids",
    ),
    "a list of integers": ([[[0] * 6] * 2] * 3, {}, TypeError, "x must be float32, got int64"),
}  # fmt: skip


@pytest.mark.parametrize("x, options, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_told_so_and_changes_nothing(x, options, error, message):
    layer = layer_of("lstm", 6, 4)
    weights = [layer.params[n] for n in ("weight_ih_l0", "weight_hh_l0")]
    calls = layer, layer.forward, lambda x, **o: fastrnn.lstm(x, None, *weights, **o)
    with unchanged(x, layer.flat):
        for call in (*calls, lambda x, **o: fastrnn.tbptt(layer, x, 2, **o)):
            with pytest.raises(error, match=message):
                call(x, **options)
        with pytest.raises(error):
            layer.stream(2, **options).feed(x)


@every_backend
@pytest.mark.parametrize("vocabulary", [5, 1000], ids=["few ids", "many ids"])
@pytest.mark.parametrize(
    "rows",
    [{}, {"lengths": [6, 2]}, {"mask": np.arange(6)[:, None] < [6, 2]}, {"lengths": [0, 0]}],
    ids=["full", "lengths", "mask", "nothing"],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_of_an_embedding_that_count_for_nothing_may_hold_anything(
    bad, rows, vocabulary, backend
):
    """The row for padding, and rows that no id names, have no effect on gradients."""
    rng = np.random.default_rng(0)
    layer = fastrnn.GRU(3, 4, rng=0)
    embedding = rng.standard_normal((vocabulary, 3)).astype("float32")
    ids = rng.integers(1, 4, (6, 2))
    if rows:
        ids[2:, 1] = 4  # beyond the row's end; no id names row 0
    gradients = []
    for value in (0, bad):
        embedding[[0, 4]] = value
        y, _, tape = layer.forward(ids, embedding=embedding, **rows)
        grads = tape.backward(np.ones_like(y) * (np.isfinite(y)))
        gradients.append((y, grads.flat, grads.embedding, grads.state))
    assert_same_bits(gradients[1], gradients[0])
    assert np.isfinite(gradients[1][1]).all()
