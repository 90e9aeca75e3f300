"""Frozen layers of lower precision: which layer's bits they have, and what they keep."""

import copy
import pickle

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_fused_isa, every_isa, outer_isas
from problems import FUSED_ISAS, assert_same_bits, layer_of
from variants import VARIANTS

import fastrnn
from fastrnn._engine import runtime
from fastrnn._layer.frozen_weights import PRECISIONS
from fastrnn.reference.precision import ROUND_WEIGHTS, int8_scales, to_bfloat16, to_int8

T, B, I, H = 7, 3, 5, 21  # noqa: E741 - as in all the equations

# Tiles of 1 to 8 rows, several tiles; x in the step and by a product; odd and even numbers of k.
SIZES = [(1, 1), (1, 2), (2, 3), (7, 4), (1, 5), (9, 6), (2, 7), (1, 8), (3, 13), (0, 2), (2, 0)]
LONG = [(1, 1), (20, 2), (9, 6)]  # with more inputs or units than a product takes at once
# Passes that widen their weights first: many steps, many rows, or both.
WIDENED = [(30, 3), (25, 7), (1, 150), (4, 40)]


def draw(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def with_rounded_weights(layer):
    """A copy of the layer, whose matrices are rounded."""
    other = copy.deepcopy(layer)
    other.load({k: to_bfloat16(v) if v.ndim == 2 else v for k, v in layer.params.items()})
    return other


def rows_of(layer, t, b):
    """Arguments by keyword that a call may get."""
    rng = np.random.default_rng(2)
    shape = (b, t) if layer.batch_first else (t, b)
    _, state = layer(draw(*((b, 2) if layer.batch_first else (2, b)), layer.input_size))
    return [
        {},
        {"state": state, "lengths": rng.integers(0, t + 1, b)},
        {"mask": rng.random(shape) < 0.7, "reset": rng.random(shape) < 0.3},
        {"return_gates": True},
    ]


def assert_calls_agree(layer, sizes):
    """Calls of the frozen layer are those of the layer with rounded weights, in every bit."""
    frozen, rounded = layer.freeze("bfloat16-weights"), with_rounded_weights(layer)
    for t, b in sizes:
        x = draw(*((b, t) if layer.batch_first else (t, b)), layer.input_size)
        for given in rows_of(layer, t, b):
            assert_same_bits(frozen(x, **given), rounded(x, **given))


# ---- bfloat16-weights ----------------------------------------------------------------------------


@every_isa
@every_cell
@pytest.mark.parametrize("inputs", [1, 4, 61])
@pytest.mark.parametrize("hidden", [1, 21, 32])
def test_a_call_is_that_of_the_layer_with_rounded_weights(cell, inputs, hidden, isa):
    layer = layer_of(cell, inputs, hidden)
    assert_calls_agree(layer, SIZES + WIDENED)


@every_fused_isa
@pytest.mark.parametrize("cell", ["lstm", "min_gru"])
def test_so_are_calls_with_many_inputs(cell, isa):
    assert_calls_agree(layer_of(cell, 2051, 5), LONG)


@every_fused_isa
def test_so_are_calls_of_a_projection_from_many_units(isa):
    assert_calls_agree(layer_of("lstm", 3, 1029, proj_size=5), [(2, 3)])


@every_backend
@every_cell
@pytest.mark.parametrize(
    "net",
    [
        {"num_layers": 3},
        {"num_layers": 2, "bidirectional": True},
        {"bidirectional": True, "merge": "mean", "batch_first": True},
        {"bias": False},
    ],
    ids=["stack", "directions", "merged", "no bias"],
)
def test_so_are_calls_of_stacks_and_directions(cell, net, backend):
    layer = layer_of(cell, I, H, **net)
    assert_calls_agree(layer, [(7, 3), (1, 1), (0, 2), (30, 4)])


@outer_isas
@pytest.mark.parametrize("name", VARIANTS)
def test_so_are_calls_of_variants(name, isa):
    cell, options = VARIANTS[name]
    assert_calls_agree(layer_of(cell, I, H, bidirectional=True, **options), [(7, 3), (30, 4)])


@every_isa
@pytest.mark.parametrize("hidden", [6, 40])
def test_so_are_calls_of_a_projection(hidden, isa):
    layer = layer_of("lstm", I, hidden, 2, proj_size=5)
    assert_calls_agree(layer, SIZES[:6] + WIDENED[:2])


@every_backend
@every_cell
def test_ids_have_rounded_weights_and_an_embedding_of_its_own_precision(cell, backend):
    layer = layer_of(cell, I, H, 2)
    frozen, rounded = layer.freeze("bfloat16-weights"), with_rounded_weights(layer)
    embedding = draw(9, I)
    for t, b in (7, 3), (1, 1), (30, 4):
        ids = np.random.default_rng(3).integers(0, I, (t, b))
        for more in {"one_hot": True}, {"embedding": embedding}:
            assert_same_bits(frozen(ids, **more), rounded(ids, **more))


@every_backend
@every_cell
def test_streams_and_steps_are_those_of_a_call(cell, backend):
    layer = layer_of(cell, I, H, 2)
    frozen, x = layer.freeze("bfloat16-weights"), draw(30, 4, I)
    y, last = with_rounded_weights(layer)(x)
    fed, stepped, state = frozen.stream(4), frozen.stream(4), None
    parts = [fed.feed(x[:3]), fed.feed(x[3:])]
    if backend == "core":  # NumPy's products depend on the number of steps
        assert_same_bits(np.concatenate(parts), y)
        assert_same_bits(fed.state, last)
    for t in range(30):
        one, state = frozen.step(x[t], state)
        assert_same_bits(stepped.step(x[t]), one)
        if backend == "core":
            assert_same_bits(one, y[t])


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_show(cell, threads):
    layer = layer_of(cell, 70, 130)
    wanted = with_rounded_weights(layer)
    for t, b in (5, 1), (6, 40), (40, 4):
        x = draw(t, b, 70)
        with fastrnn.threads(threads):
            assert_same_bits(layer.freeze("bfloat16-weights")(x), wanted(x))


@every_isa
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0, 3.4e38, 1e-40])
def test_numbers_that_are_hard_to_round(value, isa):
    layer = layer_of("rnn_relu", 3, 18)
    weights = {k: v.copy() for k, v in layer.params.items()}
    weights["weight_ih_l0"][::5, 1] = value
    weights["weight_hh_l0"][::7, 2] = value
    layer.load(weights)
    with np.errstate(all="ignore"):
        assert_calls_agree(layer, [(3, 1), (2, 4), (30, 4)])


# ---- int8 ----------------------------------------------------------------------------------------

NEAR = 2e-6  # what the functions of a cell may differ by


def by_reference(frozen, *args, **options):
    """The call on NumPy, whose integer sums are those of the kernels."""
    with fastrnn.backend("reference"):
        return frozen(*args, **options)


def with_and_without_state(frozen, rows):
    """A state for such rows, so that W_hh multiplies more than zeros; and None."""
    return frozen(draw(3, rows, 12, seed=2))[1], None


def largest_difference(got, wanted):
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(got, wanted, strict=True))


def parts(result):
    y, state = result[:2]
    return [y, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.usefixtures("core")
@every_isa
@every_cell
@pytest.mark.parametrize("inputs, hidden", [(1, 1), (4, 21), (61, 32), (130, 70)])
def test_int8_sums_are_exact(cell, inputs, hidden, isa):
    layer = layer_of(cell, inputs, hidden)
    frozen = layer.freeze("int8")
    for b in 1, 2, 3, 6, 9, 40:
        x, state = draw(1, b, inputs), frozen(draw(3, b, inputs, seed=4))[1]
        wanted = by_reference(frozen, x, state)
        assert largest_difference(parts(frozen(x, state)), parts(wanted)) < NEAR


@pytest.mark.usefixtures("core")
@pytest.mark.skipif(len(FUSED_ISAS) < 2, reason="needs two instruction sets")
@every_cell
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_all_sets_with_fused_multiply_adds_give_the_same_bits(precision, cell, options):
    layer, results = layer_of(cell, 37, 45, **options), []
    before = runtime.core.isa()
    try:
        for isa in FUSED_ISAS:
            runtime.select_isa(isa)
            for extensions in 2, 0:
                runtime.core.use_extensions(extensions)
                frozen = layer.freeze(precision)
                results.append(
                    [frozen(draw(*size, 37)) for size in [(1, 1), (9, 5), (40, 2), (3, 50)]]
                )
    finally:
        runtime.select_isa(before)
        runtime.core.use_extensions(1)
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("steps, rows", [(43, 16), (43, 15), (42, 16), (9, 90)])
def test_large_matrices_in_large_batches_are_those_of_rounded_weights(steps, rows):
    """From 16 rows and 128 tiles on, a pass widens matrices of any size before its first step."""
    layer, x = layer_of("lstm", 300, 400), draw(steps, rows, 300)
    rounded = with_rounded_weights(layer)
    for threads in 1, 3:
        with fastrnn.threads(threads):
            assert_same_bits(layer.freeze("bfloat16-weights")(x), rounded(x))


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("net", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
def test_int8_is_near_the_layer(cell, net):
    layer = layer_of(cell, 40, 64, **net)
    for t, b in (1, 1), (30, 3), (5, 70):
        x = draw(*((b, t) if layer.batch_first else (t, b)), 40)
        for given in rows_of(layer, t, b)[:3]:
            got, wanted = layer.freeze("int8")(x, **given), layer(x, **given)
            assert largest_difference(parts(got), parts(wanted)) < 0.08


@every_backend
@pytest.mark.parametrize("name", VARIANTS)
def test_int8_runs_variants(name, backend):
    cell, options = VARIANTS[name]
    layer = layer_of(cell, 12, 33, **options)
    frozen, x = layer.freeze("int8"), draw(1, 4, 12)
    for state in with_and_without_state(frozen, 4):
        wanted = by_reference(frozen, x, state)
        assert largest_difference(parts(frozen(x, state)), parts(wanted)) < 1e-5
    assert largest_difference(parts(frozen(draw(9, 4, 12))), parts(layer(draw(9, 4, 12)))) < 0.3


@every_backend
@pytest.mark.parametrize("hidden", [6, 40])
def test_int8_runs_projections(hidden, backend):
    layer = layer_of("lstm", 12, hidden, 2, proj_size=5)
    frozen, x = layer.freeze("int8"), draw(1, 4, 12)
    for state in with_and_without_state(frozen, 4):
        wanted = by_reference(frozen, x, state)
        assert largest_difference(parts(frozen(x, state)), parts(wanted)) < NEAR
    assert largest_difference(parts(frozen(draw(9, 4, 12))), parts(layer(draw(9, 4, 12)))) < 0.1


@pytest.mark.usefixtures("core")
@every_cell
def test_int8_takes_ids(cell):
    layer = layer_of(cell, 12, 33)
    frozen, ids, embedding = layer.freeze("int8"), np.array([[3, 0, 11]]), draw(20, 12)
    for more in {"one_hot": True}, {"embedding": embedding}:
        for state in with_and_without_state(frozen, 3):
            wanted = by_reference(frozen, ids, state, **more)
            assert largest_difference(parts(frozen(ids, state, **more)), parts(wanted)) < NEAR
    assert_same_bits(frozen(ids, embedding=embedding), frozen(embedding[ids]))


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_streams_and_the_batch_do_not_show_in_int8(cell, threads):
    layer = layer_of(cell, 70, 130)
    frozen, x = layer.freeze("int8"), draw(7, 40, 70)
    with fastrnn.threads(1):
        y, last = frozen(x)
    with fastrnn.threads(threads):
        assert_same_bits(frozen(x), (y, last))
        assert_same_bits(frozen(x[:, 7:8])[0], y[:, 7:8])
        stream = frozen.stream(40)
        assert_same_bits(np.concatenate([stream.feed(x[:3]), stream.feed(x[3:6])]), y[:6])
        assert_same_bits(stream.step(x[6]), y[6])
        assert_same_bits(stream.state, last)


@every_backend
@outer_isas  # in C without vectors, a sanitizer sees sums that overflow
@pytest.mark.parametrize("cell", ["lstm", "gru_after", "rnn_relu"])
def test_a_row_that_is_not_finite_is_nan_in_int8_and_no_other(cell, isa, backend):
    frozen, x = layer_of(cell, 12, 33).freeze("int8"), draw(5, 4, 12)
    wanted, _ = frozen(x)
    for value in np.nan, np.inf, -np.inf:
        x[2, 1, 3] = value
        y, _ = frozen(x)
        assert np.isnan(y[2:, 1]).all()
        assert_same_bits(y[:, [0, 2, 3]], wanted[:, [0, 2, 3]])
        assert_same_bits(y[:2], wanted[:2])


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("scale", [0, 1e-42, 1e-30, 1e20, 3e38])
def test_int8_rows_may_have_any_size(cell, scale):
    layer = layer_of(cell, 12, 33)
    frozen, x = layer.freeze("int8"), draw(1, 4, 12) * np.float32(scale)
    h = draw(1, 4, 33) * 50
    state = (h, draw(1, 4, 33)) if cell == "lstm" else h
    got, wanted = frozen(x, state), by_reference(frozen, x, state)
    for a, b in zip(parts(got), parts(wanted), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-4)


@every_isa
@pytest.mark.parametrize("inputs", [131072, 131073, 140001])
def test_int8_sums_beyond_32_bits(inputs, isa):
    layer = layer_of("rnn_relu", inputs, 2)
    layer.load({name: np.ones_like(w) for name, w in layer.params.items()})
    y, _ = layer.freeze("int8")(np.ones((1, 1, inputs), "float32"))
    np.testing.assert_allclose(y, inputs + 2, 1e-6)
    y, _ = layer.freeze("int8")(-np.ones((1, 1, inputs), "float32"))
    assert (y == 0).all()


@every_backend
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_spoils_its_unit(value, backend):
    layer = layer_of("min_gru", 5, 33)
    weights = {k: v.copy() for k, v in layer.params.items()}
    weights["weight_ih_l0"][4, 1] = value
    layer.load(weights)
    y, _ = layer.freeze("int8")(draw(3, 2, 5))
    assert np.isnan(y[:, :, 4]).all() and np.isfinite(np.delete(y, 4, 2)).all()


@pytest.mark.usefixtures("core")
@every_isa
@pytest.mark.parametrize("inputs, hidden", [(1, 1), (5, 21), (64, 33), (300, 16)])
def test_weights_become_the_integers_of_the_reference(inputs, hidden, isa):
    layer = (
        layer_of("lstm", inputs, hidden, proj_size=hidden // 2)
        if hidden > 1
        else layer_of("lstm", 1, 1)
    )
    (packed,) = layer.freeze("int8")._kernel_weights
    w_ih, w_hh, _, _, *w_hr = layer._parameters[0]
    for w, matrix, scales in zip(
        [w_ih, w_hh, *w_hr], packed.matrices(), packed.scales(), strict=False
    ):
        assert_same_bits(scales, int8_scales(w))
        assert_same_bits(matrix, to_int8(w))


# ---- reports -------------------------------------------------------------------------------------


@every_backend
@every_cell
@pytest.mark.parametrize(
    "net",
    [{"num_layers": 3}, {"bidirectional": True, "merge": None}, {"batch_first": True}],
    ids=["stack", "pair", "batch_first"],
)
def test_a_report_has_the_differences_of_each_layer(cell, net, backend):
    layer = layer_of(cell, 12, 33, **net)
    x = draw(9, 4, 12)
    frozen = layer.freeze("int8")
    got = frozen.report(layer, x, lengths=[9, 3, 5, 0] if not net.get("batch_first") else None)
    assert len(got) == layer.num_layers
    assert all(0 < d.mean < d.largest < 0.2 for d in got)
    given = {} if net.get("batch_first") else {"lengths": [9, 3, 5, 0]}
    y, wanted = (np.asarray(net(x, **given)[0], float) for net in (frozen, layer))
    assert got[-1] == (abs(y - wanted).max(), pytest.approx(abs(y - wanted).mean()))
    assert layer.freeze().report(layer, x) == [(0, 0)] * layer.num_layers


def test_a_report_takes_ids_and_samples_without_elements():
    layer = layer_of("lstm", 12, 33)
    frozen = layer.freeze("int8")
    assert frozen.report(layer, np.array([[3, 4]]), one_hot=True)[0].largest > 0
    assert frozen.report(layer, np.array([[3, 4]]), embedding=draw(9, 12))[0].largest > 0
    assert frozen.report(layer, draw(0, 2, 12)) == [(0, 0)]
    assert np.isnan(frozen.report(layer, draw(2, 2, 12) * np.float32(np.nan))).all()
    relu = layer_of("rnn_relu", 1, 1, bias=False)
    relu.flat[...] = 1
    large = np.full((1, 1, 1), 3.4e38, "f4")  # it rounds to infinity
    assert np.isnan(relu.freeze("bfloat16").report(relu, large)).all()


def test_a_report_of_swapped_arguments_is_one_line():
    layer, x = layer_of("lstm", 12, 33), draw(50, 20, 12)
    with pytest.raises(ValueError, match=r"got ndarray: report\(layer, x\)$"):
        layer.freeze("int8").report(x, layer)


@pytest.mark.parametrize(
    "other", [layer_of("gru_after", 3, 4), layer_of("lstm", 3, 5), layer_of("lstm", 3, 4, 2), None]
)
def test_a_report_refuses_layers_of_another_kind(other):
    with pytest.raises(
        ValueError, match="layer must be one of the sizes of <fastrnn.Frozen lstm 3"
    ):
        layer_of("lstm", 3, 4).freeze("int8").report(other, draw(2, 1, 3))


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize(
    "precision, far", [("bfloat16-weights", 1e-4), ("bfloat16", 1e-4), ("int8", 1e-2)]
)
@pytest.mark.parametrize(
    "sizes", [(128, 128, 1), (40, 256, 3)], ids=["voice activity", "speaker encoder"]
)
def test_directions_of_outputs_are_kept(sizes, precision, far):
    layer = layer_of("lstm", *sizes)
    x = np.cumsum(draw(160, 4, sizes[0]) - 0.5, 0) / 10  # smooth, as features of sound are
    _, (h, _) = layer(x.astype("float32"))
    _, (narrow, _) = layer.freeze(precision)(x.astype("float32"))
    assert all(1 - cosine(narrow[-1, b], h[-1, b]) < far for b in range(4))


# ---- every precision -----------------------------------------------------------------------------

every_precision = pytest.mark.parametrize("precision", PRECISIONS)


@every_backend
@every_precision
@pytest.mark.parametrize("name", [*VARIANTS][::6])
def test_copies_and_pickles_have_the_same_bits(name, precision, backend):
    cell, options = VARIANTS[name]
    frozen, x = layer_of(cell, I, H, 2, **options).freeze(precision), draw(T, B, I)
    wanted = frozen(x)
    assert copy.deepcopy(frozen) is frozen
    loaded = pickle.loads(pickle.dumps(frozen))
    assert loaded.precision == precision
    assert_same_bits(loaded(x), wanted)
    assert_same_bits(pickle.loads(pickle.dumps(loaded))(x), wanted)


@pytest.mark.usefixtures("core")
@every_cell
def test_the_reference_runs_what_the_kernels_froze(cell):
    layer = layer_of(cell, I, H)
    frozen, x = layer.freeze("bfloat16-weights"), draw(T, B, I)
    assert_same_bits(by_reference(frozen, x), by_reference(with_rounded_weights(layer), x))


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize(
    "precision, most", [("bfloat16-weights", 0.53), ("bfloat16", 0.53), ("int8", 0.29)]
)
def test_it_takes_less_memory(cell, precision, most):
    layer = layer_of(cell, 256, 256, 2)
    assert layer.freeze(precision).nbytes < most * layer.freeze().nbytes


def test_its_name_is_told():
    frozen = layer_of("lstm", 3, 4).freeze("bfloat16-weights")
    assert frozen.precision == "bfloat16-weights"
    assert repr(frozen) == "<fastrnn.Frozen lstm 3, 4 bfloat16-weights>"
    assert layer_of("lstm", 3, 4).freeze().precision is None


@every_backend
@every_precision
def test_layers_of_float64_have_no_other_precision(precision, backend):
    message = f"precision='{precision}' is for float32 layers, got a layer"
    with pytest.raises(TypeError, match=message):
        layer_of("lstm", 3, 4, dtype="float64").freeze(precision)


@every_backend
@pytest.mark.parametrize("wrong", ["bf16", "float32", 16, np.float32])
def test_an_unknown_precision_is_refused(wrong, backend):
    with pytest.raises(
        ValueError, match="precision must be one of None, 'bfloat16-weights', 'int8'"
    ):
        layer_of("lstm", 3, 4).freeze(wrong)


@pytest.mark.usefixtures("core")
def test_kernels_and_registry_have_the_same_precisions():
    assert ("", *PRECISIONS) == runtime.core.precisions()
    assert ROUND_WEIGHTS.keys() == set(PRECISIONS)
