"""Sums over many rows: gradients of parameters keep their digits, and the order of sums is fixed.

Here every step is reset to one initial state, so that each (step, row) is of one of a few kinds. A
batch of one kind alone gives this kind's term of a gradient. The number of its occurrences is
counted. So the sum is known in float64, and so is the sum of its terms' sizes.
"""

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype, every_fused_isa
from problems import FUSED_ISAS, assert_same_bits, layer_of
from sanitizers import SANITIZED

import fastrnn
from fastrnn._engine import passes, runtime

INPUTS, HIDDEN = 1, 3
AT_MOST = {10**5: 1e-6, 10**6: 1e-6, 2 * 10**7: 1e-5}
KINDS = {"equal": 1, "of fifty kinds": 50}
VARIANTS = {
    "peephole": ("lstm", {"peephole": True}),
    "coupled": ("lstm", {"coupled": True, "peephole": True, "layer_norm": True}),
    "lstm_norm": ("lstm", {"layer_norm": True}),
    "gru_norm": ("gru_after", {"layer_norm": True}),
    "projected": ("lstm", {"proj_size": 2}),
}


class Kinds:
    """Rows of some kinds: their x or ids, and dy; the layer and the initial state."""

    def __init__(self, layer, count, embedding=None, one_hot=False):
        rng = np.random.default_rng(0)
        self.layer, self.count, self.embedding = layer, count, embedding
        self.ids, self.one_hot = embedding is not None or one_hot, one_hot
        self.x = np.arange(count)
        if not self.ids:
            self.x = rng.uniform(0.5, 1, (count, INPUTS)).astype("float32")
        features = getattr(layer, "proj_size", 0) or layer.hidden_size
        self.dy = rng.uniform(0.5, 1, (count, features)).astype("float32")
        states = layer.forward(self.x[None, :1], **self.given())[1]
        states = states if isinstance(states, tuple) else (states,)
        self.state = [rng.uniform(-1, 1, s.shape).astype("float32") for s in states]

    def given(self):
        return {"one_hot": self.one_hot, "embedding": self.embedding}

    def gradients(self, which, **options):
        """Gradients of a batch of these kinds (T, B), with all steps reset -> named arrays."""
        state = [np.repeat(s, which.shape[1], axis=1) for s in self.state]
        _, _, tape = self.layer.forward(
            self.x[which], tuple(state) if len(state) > 1 else state[0],
            reset=np.ones(which.shape, bool), reset_to="initial", **self.given(), **options,
        )  # fmt: skip
        grads = tape.backward(self.dy[which], need_x=self.embedding is not None)
        out = dict(grads.params)
        first = grads.state if isinstance(grads.state, tuple) else (grads.state,)
        out |= {f"d{k}": s.sum(1, dtype="float64") for k, s in enumerate(first)}
        return out | ({} if self.embedding is None else {"embedding": grads.embedding})

    def expected(self, which):
        """The gradients in float64, and the sums of the terms' sizes."""
        counts = np.bincount(which.reshape(-1), minlength=self.count)
        sums, sizes = {}, {}
        for kind, n in enumerate(counts):
            for name, term in self.gradients(np.full((1, 1), kind)).items():
                sums[name] = sums.get(name, 0) + n * term.astype("float64")
                sizes[name] = sizes.get(name, 0) + n * np.abs(term.astype("float64"))
        return sums, sizes


def worst(got, sums, sizes):
    """The largest error of an element, relative to the size of its terms."""
    return max(
        np.max(np.abs(got[name] - wanted) / np.maximum(sizes[name], 1e-30))
        for name, wanted in sums.items()
    )


def check(kinds, steps, batch, **options):
    """The reference may be off by four times as much: NumPy computes a row alone differently, and
    how differently depends on the processor, for which its BLAS has kernels of its own."""
    which = np.random.default_rng(1).integers(0, kinds.count, (steps, batch))
    allowed = AT_MOST[which.size] * (1 if runtime.uses_core() else 4)
    assert worst(kinds.gradients(which, **options), *kinds.expected(which)) <= allowed


every_count = pytest.mark.parametrize("count", KINDS.values(), ids=KINDS)
slow = pytest.mark.slow


def small(cell, **options):
    return layer_of(cell, INPUTS, HIDDEN, **options)


# ---- how many digits are kept --------------------------------------------------------------------


@every_backend
@every_count
@every_cell
def test_a_hundred_thousand_rows(cell, count, backend):
    check(Kinds(small(cell), count), 10, 10_000)


@every_count
@pytest.mark.parametrize("name", VARIANTS)
def test_a_hundred_thousand_rows_of_variants(name, count, core):
    cell, options = VARIANTS[name]
    check(Kinds(small(cell, **options), count), 20, 5000)


@pytest.mark.parametrize("name", ["coupled", "projected"])
def test_a_hundred_thousand_rows_of_variants_by_the_reference(name):
    cell, options = VARIANTS[name]
    with fastrnn.backend("reference"):
        check(Kinds(small(cell, **options), 1), 10, 10_000)


@every_backend
@every_count
def test_a_hundred_thousand_ids(count, backend):
    embedding = np.random.default_rng(2).uniform(0.5, 1, (50, INPUTS)).astype("float32")
    check(Kinds(small("gru_after"), count, embedding), 20, 5000)
    check(Kinds(layer_of("gru_after", 50, HIDDEN), count, one_hot=True), 20, 5000)


@every_backend
def test_a_large_vocabulary(backend):
    """Every id occurs, so that dW_ih is a sum over many ids."""
    rng, layer, size = np.random.default_rng(3), small("rnn_relu", bias=False), 100_000
    layer.params["weight_ih_l0"][...] = 1
    embedding = np.full((size, INPUTS), np.pi / 4, "float32")
    _, _, tape = layer.forward(np.arange(size)[None], embedding=embedding)
    dy = np.broadcast_to(rng.uniform(0.5, 1, HIDDEN).astype("float32"), (1, size, HIDDEN))
    got = tape.backward(dy).params["weight_ih_l0"]
    wanted = dy[0].T.astype("float64") @ embedding
    assert np.max(np.abs(got - wanted) / wanted) <= 1e-6


@pytest.mark.skipif(SANITIZED, reason="counts digits; smaller cases reach the same memory")
@pytest.mark.parametrize("cell", ["rnn_relu", "lstm"])
def test_a_million_rows(cell, core):
    check(Kinds(small(cell), 1), 100, 10_000, checkpoint=20)


@slow
@every_count
@every_cell
@pytest.mark.parametrize("batch", [1, 8, 1000])
def test_a_million_rows_however_they_are_cut(cell, batch, count, core):
    for options in ({}, {"checkpoint": 25}):
        check(Kinds(small(cell), count), 10**6 // batch, batch, **options)


@slow
@every_count
@every_cell
def test_twenty_million_rows(cell, count, core):
    check(Kinds(small(cell), count), 2000, 10_000, checkpoint=50)


# ---- in which order ------------------------------------------------------------------------------


def by_blocks(rows):
    """The sum of rows as csrc/internal/sums.h has it, in their own dtype."""
    total, lost = np.zeros_like(rows[0]), np.zeros_like(rows[0])
    for begin in range(0, len(rows), 1536):
        blocks = np.zeros_like(total)
        for first in range(begin, min(begin + 1536, len(rows)), 32):
            block = np.zeros_like(total)
            for row in rows[first : min(first + 32, begin + 1536)]:
                block = block + row
            blocks = blocks + block
        wanted = blocks + lost
        before, total = total, total + wanted
        lost = wanted - (total - before)
    return total


def in_a_chain(rows):
    total = np.zeros_like(rows[0])
    for row in rows:
        total = total + row
    return total


@every_fused_isa
@every_dtype
@pytest.mark.parametrize("steps, batch", [(8192, 1), (8193, 1), (1, 9001), (1301, 7), (50, 200)])
def test_the_order_follows_from_the_shape(steps, batch, dtype, isa):
    """The gradient of relu is dy if nothing comes back through time, so it shows the order."""
    layer = layer_of("rnn_relu", 1, 3, dtype=dtype)  # too small for groups of rows
    layer.flat[...] = 1
    layer.params["weight_hh_l0"][...] = 0
    dy = np.random.default_rng(steps).uniform(-1, 1, (steps, batch, 3)).astype(dtype)
    _, _, tape = layer.forward(np.ones((steps, batch, 1), dtype))
    grads = tape.backward(dy).params
    rows = dy[::-1, ::-1].reshape(-1, 3)
    wanted = by_blocks(rows) if len(rows) > 8192 else in_a_chain(rows)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        assert_same_bits(grads[name], wanted)
    assert_same_bits(grads["weight_ih_l0"][:, 0], wanted)


@every_fused_isa
@every_dtype
@pytest.mark.parametrize("hidden", range(1, 7))
def test_a_wide_x_has_the_same_order(hidden, dtype, isa):
    """Tiles of one to six rows; those of few rows are up to eight vectors wide."""
    layer = layer_of("rnn_relu", 110, hidden, dtype=dtype)
    layer.flat[...] = 1
    layer.params["weight_hh_l0"][...] = 0
    dy = np.random.default_rng(hidden).uniform(-1, 1, (1301, 7, hidden)).astype(dtype)
    _, _, tape = layer.forward(np.ones((1301, 7, 110), dtype))
    made = tape.backward(dy).params["weight_ih_l0"]
    wanted = by_blocks(dy[::-1, ::-1].reshape(-1, hidden))
    assert_same_bits(made, np.repeat(wanted[:, None], 110, axis=1))


def gradients(layer, x, dy, threads=1, **options):
    with fastrnn.threads(threads):
        _, _, tape = layer.forward(x, **options)
        return tape.backward(dy).flat


@pytest.mark.parametrize(
    "sizes, options",
    [((1030, 32, 2, 57), {}), ((420, 21, 3, 9), {"bidirectional": True})],
    ids=["groups", "both ways"],
)
def test_nothing_but_the_shape_shows(sizes, options, core):
    """Threads, checkpoints, full lengths and a mask of True have no effect."""
    steps, batch, inputs, hidden = sizes
    rng = np.random.default_rng(0)
    layer = layer_of("gru_after", inputs, hidden, **options)
    x = rng.standard_normal((steps, batch, inputs)).astype("float32")
    dy = rng.standard_normal((steps, batch, hidden * layer.num_directions)).astype("float32")
    wanted, full = gradients(layer, x, dy), np.full(batch, steps)
    for checkpoint, threads in ((None, 2), (None, 8), (7, 3), (1000, 8)):
        got = gradients(layer, x, dy, threads, checkpoint=checkpoint)
        assert_same_bits(got, wanted)
    assert_same_bits(gradients(layer, x, dy, 3, lengths=full), wanted)
    assert_same_bits(gradients(layer, x, dy, 1, mask=np.ones((steps, batch), bool)), wanted)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm"])
def test_ragged_rows_and_checkpoints_and_threads(cell, core):
    rng = np.random.default_rng(1)
    layer = layer_of(cell, 3, 9)
    x, dy = (rng.standard_normal((600, 21, n)).astype("float32") for n in (3, 9))
    lengths, mask = rng.integers(0, 601, 21), rng.random((600, 21)) < 0.9
    wanted = gradients(layer, x, dy, lengths=lengths, mask=mask)
    for checkpoint, threads in ((None, 2), (None, 8), (7, 1), (100, 3)):
        options = {"lengths": lengths, "mask": mask, "checkpoint": checkpoint}
        assert_same_bits(gradients(layer, x, dy, threads, **options), wanted)


@pytest.mark.parametrize("cell, hidden", [("rnn_relu", 120), ("lstm", 57), ("gru_before", 64)])
def test_groups_of_ragged_rows_that_end_after_one_another(cell, hidden, core):
    """More threads than groups take all groups chunk by chunk; groups that ended must not go on."""
    rng = np.random.default_rng(2)
    layer, (steps, batch) = layer_of(cell, 2, hidden), (1030, 32)
    x, dy = (rng.standard_normal((steps, batch, n)).astype("float32") for n in (2, hidden))
    lengths = rng.integers(1, steps + 1, batch)
    wanted = gradients(layer, x, dy, lengths=lengths)
    assert_same_bits(gradients(layer, x, dy, 8, lengths=lengths), wanted)


@pytest.mark.parametrize("kind", ["features", "one_hot", "embedding"])
def test_directions_whose_steps_are_recomputed_end_after_one_another(kind, core):
    rng = np.random.default_rng(3)
    layer, (steps, batch) = layer_of("gru_after", 6, 16, bidirectional=True), (735, 32)
    x, dy = (rng.standard_normal((steps, batch, n)).astype("float32") for n in (6, 32))
    options = {"lengths": rng.integers(1, steps + 1, batch), "checkpoint": 70}
    if kind != "features":
        x = rng.integers(0, 6, (steps, batch))
    if kind == "embedding":
        options["embedding"] = rng.standard_normal((6, 6)).astype("float32")
    options["one_hot"] = kind == "one_hot"

    def all_gradients(threads):
        with fastrnn.threads(threads):
            grads = layer.forward(x, **options)[2].backward(dy)
        return [
            grads.flat,
            *grads.params.values(),
            grads.state,
            grads.x if kind == "features" else grads.embedding,
        ]

    for got, wanted in zip(all_gradients(8), all_gradients(1), strict=True):
        if wanted is not None:
            assert_same_bits(got, wanted)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "both ways"])
def test_ids_that_occur_often_and_seldom(reverse, core):
    """A table's gradient has blocks for each id; threads and checkpoints have no effect."""
    rng = np.random.default_rng(4)
    layer = layer_of("gru_after", 500, 9, bidirectional=reverse)
    ids = np.minimum(rng.geometric(0.02, (420, 21)) - 1, 499)
    dy = rng.standard_normal((420, 21, 9 * (1 + reverse))).astype("float32")
    wanted, lengths = gradients(layer, ids, dy, one_hot=True), np.full(21, 420)
    for checkpoint, threads in ((None, 2), (None, 8), (7, 3)):
        assert_same_bits(
            gradients(layer, ids, dy, threads, one_hot=True, checkpoint=checkpoint), wanted
        )
    assert_same_bits(gradients(layer, ids, dy, one_hot=True, lengths=lengths), wanted)
    dense = gradients(layer, np.eye(500, dtype="float32")[ids], dy)
    np.testing.assert_allclose(wanted, dense, rtol=0, atol=1e-5 * np.abs(dense).max())


@every_dtype
@pytest.mark.parametrize("sizes", [(130, 70, 17, 33), (9000, 1, 2, 70)], ids=str)
def test_sets_with_fma_agree(sizes, dtype, core):
    steps, batch, inputs, hidden = sizes
    rng, before, answers = np.random.default_rng(2), core.isa(), []
    layer = layer_of("lstm", inputs, hidden, dtype=dtype)
    x, dy = (rng.standard_normal((steps, batch, n)).astype(dtype) for n in (inputs, hidden))
    try:
        for isa in FUSED_ISAS:
            runtime.select_isa(isa)
            answers.append(gradients(layer, x, dy))
    finally:
        runtime.select_isa(before)
    for answer in answers[1:]:
        assert_same_bits(answer, answers[0])


def test_what_stands_in_a_workspace_before_is_of_no_matter(core, monkeypatch):
    rng = np.random.default_rng(3)
    layer = layer_of("lstm", 3, 9)
    x, dy = (rng.standard_normal((431, 21, n)).astype("float32") for n in (3, 9))
    wanted = gradients(layer, x, dy)

    def in_nans(call, *arguments):
        assert call(*arguments, np.full(2**20, np.nan, "float32").view(np.uint8)) == 0

    monkeypatch.setattr(passes.runtime, "in_workspace", in_nans)
    assert_same_bits(gradients(layer, x, dy), wanted)


def test_a_sum_that_is_not_finite_says_so(core):
    layer = layer_of("rnn_relu", 1, 1)
    layer.flat[...] = 1
    layer.params["weight_hh_l0"][...] = 0
    dy = np.ones((1, 9000, 1), "float32")
    for value, wanted in ((np.inf, np.inf), (3e38, np.inf), (np.nan, np.nan)):
        dy[:, :3000] = value
        _, _, tape = layer.forward(np.ones((1, 9000, 1), "float32"))
        np.testing.assert_array_equal(tape.backward(dy).params["bias_ih_l0"], [wanted])
