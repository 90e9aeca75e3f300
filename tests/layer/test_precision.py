"""Frozen layers of lower precision: which layer's bits they have, and what they keep."""

import copy
import pickle

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_isa, outer_isas
from problems import assert_same_bits, layer_of
from variants import VARIANTS

import fastrnn
from fastrnn._layer.frozen import PRECISIONS
from fastrnn.reference.precision import ROUND_WEIGHTS, to_bfloat16

T, B, I, H = 7, 3, 5, 21  # noqa: E741 - as in all the equations

# Tiles of 1 to 8 rows, several tiles; x in the step and by a product; odd and even numbers of k.
SIZES = [(1, 1), (1, 2), (2, 3), (7, 4), (1, 5), (9, 6), (2, 7), (1, 8), (3, 13), (0, 2), (2, 0)]
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
@every_precision
@every_cell
def test_the_reference_runs_what_the_kernels_froze(cell, precision):
    layer = layer_of(cell, I, H)
    frozen, x = layer.freeze(precision), draw(T, B, I)
    rounded = copy.deepcopy(layer)
    rounded.load(
        {k: ROUND_WEIGHTS[precision](v) if v.ndim == 2 else v for k, v in layer.params.items()}
    )
    with fastrnn.backend("reference"):
        assert_same_bits(frozen(x), rounded(x))


@pytest.mark.usefixtures("core")
@every_cell
def test_it_takes_half_the_memory(cell):
    layer = layer_of(cell, 64, 256, 2)
    ratio = layer.freeze("bfloat16-weights").nbytes / layer.freeze().nbytes
    assert ratio < 0.53


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
    with pytest.raises(ValueError, match="precision must be one of None, 'bfloat16-weights'"):
        layer_of("lstm", 3, 4).freeze(wrong)


@pytest.mark.usefixtures("core")
def test_kernels_and_registry_have_the_same_precisions():
    from fastrnn._engine import runtime

    assert ("", *PRECISIONS) == runtime.core.precisions()
    assert ROUND_WEIGHTS.keys() == set(PRECISIONS)
