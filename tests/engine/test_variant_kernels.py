"""The kernels of the variants against the reference, which test_variants.py tests.

The sizes are at the edges of vectors and tiles, and large enough for chunks, groups and threads.
Both backends have the same dropout masks, because copies of a layer draw the same ones.
"""

import copy

import numpy as np
import pytest
from decorators import every_dtype, outer_isas
from problems import BACKENDS, FUSED_ISAS, VARIED, assert_same_bits, layer_of
from variants import VARIANTS

import fastrnn
from fastrnn._engine import runtime

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")

every_variant = pytest.mark.parametrize("name", VARIANTS)
SIZES = [(3, 1, 5, 1), (4, 7, 3, 17), (3, 13, 40, 33), (70, 2, 9, 16), (9, 40, 2, 65)]  # T B I H
every_size = pytest.mark.parametrize("sizes", SIZES, ids=str)
KINDS = {
    "all rows alike": (),
    "lengths": ("lengths",),
    "all in order": ("in order", "mask", "reset"),
    "all": ("lengths", "mask", "reset"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def layer(name, sizes, dtype="float32", **net):
    cell, given = VARIANTS[name]
    one = layer_of(cell, *sizes[2:], dtype=dtype, **given | net)
    rng = np.random.default_rng(3)
    for param, values in one.params.items():  # none keeps a first value of 1 or 0
        if "_ln_" in param or "peephole" in param:
            values += rng.uniform(-0.5, 0.5, values.shape).astype(dtype)
    return one


def rows_of(kind, steps, batch):
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, steps + 1, batch)
    lengths[0] = steps
    drawn = {
        "lengths": lengths,
        "in order": np.sort(lengths)[::-1],
        "mask": rng.random((steps, batch)) < 0.7,
        "reset": rng.random((steps, batch)) < 0.2,
    }
    return {"lengths" if name == "in order" else name: drawn[name] for name in KINDS[kind]}


def all_of(layer, sizes, kind="all rows alike", checkpoint=None, ids=False):
    """The results of a training pass of a copy of the layer, with dropout masks, and of a call."""
    layer = copy.deepcopy(layer)
    (steps, batch, inputs, _), rng = sizes, np.random.default_rng(1)

    def draw(*shape):
        return rng.uniform(-1, 1, shape).astype(layer.dtype)

    x, rows = draw(steps, batch, inputs), rows_of(kind, steps, batch)
    state, dstate = (
        tuple(draw(*s.shape) for s in layer._structure.new_state(batch)) for _ in range(2)
    )
    if len(state) == 1:
        (state,), (dstate,) = state, dstate
    if ids:
        x, rows["one_hot"] = rng.integers(0, inputs, (steps, batch)), True
    y, last, tape = layer.forward(x, state, checkpoint=checkpoint, **rows)
    dy = draw(*y.shape)
    grads = tape.backward(dy, dstate)
    gates = {} if checkpoint else tape.gates()
    return [
        layer(x, state, **rows), y, last, grads.x, grads.state, grads.flat, gates,
        tape.gradient_norms(dy, dstate),
    ]  # fmt: skip


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves(branch)]
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [] if tree is None else [tree]


def assert_near(got, wanted, dtype, sizes):
    """Assert equality up to the roundings of the longest sums."""
    steps, batch, inputs, hidden = sizes
    terms = 40 + np.sqrt(steps * batch) + np.sqrt(inputs + hidden)
    for a, b in zip(leaves(got), leaves(wanted), strict=True):
        allowed = 8 * float(np.finfo(dtype).eps) * terms * np.abs(b).max(initial=1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=allowed)


def compare(layer, dtype, sizes, **options):
    got = all_of(layer, sizes, **options)
    with fastrnn.backend("reference"):
        wanted = all_of(layer, sizes, **options)
    assert_near(got, wanted, dtype, sizes)


@every_variant
@every_dtype
@every_size
def test_kernels_agree_with_the_reference(name, dtype, sizes):
    compare(layer(name, sizes, dtype, bidirectional=True), dtype, sizes)


@every_variant
@every_kind
def test_with_dropout_masks_and_gaps_too(name, kind):
    sizes = (6, 9, 3, 19)
    one = layer(name, sizes, "float64", recurrent_dropout=0.3, num_layers=2, bidirectional=True)
    compare(one, "float64", sizes, kind=kind)


@pytest.mark.parametrize("cell", VARIED)
@every_dtype
def test_plain_cells_with_recurrent_dropout_alone(cell, dtype):
    sizes = (6, 9, 3, 19)
    one = layer_of(cell, *sizes[2:], dtype=dtype, recurrent_dropout=0.3, bidirectional=True)
    compare(one, dtype, sizes, kind="all")


@every_variant
def test_without_biases(name):
    sizes = (6, 9, 3, 19)
    compare(layer(name, sizes, "float64", bias=False), "float64", sizes)


@every_variant
def test_of_ids(name):
    sizes = (6, 9, 30, 19)
    compare(layer(name, sizes, "float64"), "float64", sizes, ids=True, kind="lengths")


@pytest.mark.parametrize("name", [n for n, (c, g) in VARIANTS.items() if c == "lstm"])
def test_where_h_is_projected(name):
    sizes, given = (6, 9, 3, 19), {"recurrent_dropout": 0.3, "proj_size": 7, "zoneout": 0.0}
    compare(layer(name, sizes, "float64", **given), "float64", sizes, kind="all")
    compare(layer(name, sizes, "float64", **given, bidirectional=True), "float64", sizes)


@outer_isas
@every_variant
def test_every_instruction_set_agrees(name, isa):
    sizes = (6, 9, 3, 35)
    compare(layer(name, sizes, recurrent_dropout=0.2), "float32", sizes)


@every_variant
@every_dtype
def test_sets_with_fused_multiply_adds_give_the_same_bits(name, dtype):
    sizes, answers, before = (5, 7, 6, 37), [], runtime.core.isa()
    one = layer(name, sizes, dtype)
    try:
        for isa in FUSED_ISAS:
            runtime.select_isa(isa)
            answers.append(all_of(one, sizes))
    finally:
        runtime.select_isa(before)
    for answer in answers[1:]:
        assert_same_bits(leaves(answer), leaves(answers[0]))


@outer_isas
@every_variant
def test_what_stands_in_buffers_before_is_of_no_matter(name, isa, monkeypatch):
    sizes = (6, 9, 3, 19)
    one = layer(name, sizes, recurrent_dropout=0.2)

    def full_of_nan(shape, dtype=float, **options):
        array = np.zeros(shape, dtype, **options)
        array.view(np.uint8).fill(0xFF)
        return array

    wanted = all_of(one, sizes, "all")
    monkeypatch.setattr(np, "empty", full_of_nan)
    monkeypatch.setattr(runtime, "_workspaces", [])
    assert_same_bits(leaves(all_of(one, sizes, "all")), leaves(wanted))


@every_variant
@pytest.mark.parametrize("sizes", [(5, 2, 90, 200), (40, 24, 9, 33)], ids=str)
@pytest.mark.parametrize("kind", ["all rows alike", "all"])
def test_threads_never_show(name, sizes, kind):
    one, answers = layer(name, sizes, recurrent_dropout=0.2, bidirectional=True), []
    for n in (1, 2, 5):
        with fastrnn.threads(n):
            answers.append(all_of(one, sizes, kind))
    for answer in answers[1:]:
        assert_same_bits(leaves(answer), leaves(answers[0]))


@every_variant
@pytest.mark.parametrize("kind", ["all rows alike", "all"])
def test_checkpoints_give_the_same_bits(name, kind):
    sizes = (23, 9, 3, 19)
    one = layer(name, sizes, recurrent_dropout=0.2)
    wanted = all_of(one, sizes, kind)
    for n in (1, 5, 23):
        got = all_of(one, sizes, kind, checkpoint=n)
        assert_same_bits(leaves(got[:-2]), leaves(wanted[:-2]))


@every_variant
@every_dtype
def test_training_calls_and_streams_give_the_same_bits(name, dtype):
    sizes = steps, batch, inputs, _ = (7, 3, 5, 21)
    one = layer(name, sizes, dtype, num_layers=2)
    x = np.random.default_rng(0).uniform(-1, 1, (steps, batch, inputs)).astype(dtype)
    y, last = one(x)
    stream = one.stream(batch)
    assert_same_bits(np.concatenate([stream.step(x[0])[None], stream.feed(x[1:])]), y)
    assert_same_bits(leaves(stream.state), leaves(last))
    if not one.options.zoneout:
        assert_same_bits(one.forward(x)[0], y)
    alone = [one(x[:, b : b + 1])[0] for b in range(batch)]
    assert_same_bits(np.concatenate(alone, axis=1), y)


@every_variant
def test_a_value_that_is_not_finite_stays_in_its_row(name):
    sizes = steps, batch, inputs, _ = (4, 5, 3, 18)
    one = layer(name, sizes)
    x = np.random.default_rng(0).uniform(-1, 1, (steps, batch, inputs)).astype("f4")
    wanted = one(x)[0]
    x[1, 2] = np.nan
    y = one(x)[0]
    assert np.isnan(y[1:, 2]).all()
    others = np.arange(batch) != 2
    assert_same_bits(y[:, others], wanted[:, others])
    answers = []
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            answers.append(one.forward(x)[2].backward(np.ones_like(y)).x)
    assert np.isfinite(answers[0][:, others]).all()
    if not name.startswith("rnn_relu"):  # its slope is 1 there
        assert np.isnan(answers[0][1, 2]).all()
    for answer in answers[1:]:
        assert_same_bits(np.isnan(answer), np.isnan(answers[0]))


@pytest.mark.parametrize("clip", [0.3, 5.0, 30.0])
@every_dtype
def test_slopes_are_zero_where_a_bound_was_reached_and_nowhere_else(clip, dtype):
    """The last number below a bound still has a slope."""
    one = fastrnn.LSTM(1, 1, clip=clip, dtype=dtype, rng=0)
    one.flat[...] = 0
    one.params["weight_ih_l0"][0] = 1  # i sees x, which is about the bound
    one.params["bias_ih_l0"][2] = 0.2
    bound = np.array(-clip, dtype)
    below, beyond = np.nextafter(bound, bound * 0), np.nextafter(bound, bound * 2)
    for x, reached in ((below, False), (bound, True), (beyond, True)):
        _, _, tape = one.forward(np.full((1, 1, 1), x, dtype))
        assert (tape.backward(np.ones((1, 1, 1), dtype)).x.item() == 0) == reached
