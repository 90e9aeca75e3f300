"""For any layer and batch: backends agree, rows are independent, threads have no effect.

The default suite has a few hundred cases. FASTRNN_CASES sets the number for each property; all
cells and dtypes have equal parts of it.
"""

import copy
import os

import numpy as np
import pytest
from problems import BACKENDS, assert_same_bits, layer_of

import fastrnn
from fastrnn._cells.registry import CELLS, takes

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")

DTYPES = "float32", "float64"

_settings = hypothesis.settings(
    max_examples=-(-int(os.environ.get("FASTRNN_CASES", "84")) // (len(CELLS) * len(DTYPES))),
    deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip


def properties(test):
    """Run a test for every cell and dtype. It draws its cases from its argument ``data``."""
    test = _settings(hypothesis.given(data=st.data())(test))
    test = pytest.mark.parametrize("dtype", DTYPES)(test)
    return pytest.mark.parametrize("cell", list(CELLS))(test)


@st.composite
def variant_options(draw, cell):
    """Options that make a variant of a cell; in half of the cases none."""
    if not draw(st.booleans()):
        return {}
    bounds, rates = st.sampled_from([None, 0.2, 1.0, 50.0]), st.sampled_from([0.0, 0.0, 0.3, 1.0])
    activations = st.sampled_from(["sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"])
    options = {"clip": bounds, "cell_clip": bounds, "recurrent_dropout": rates, "zoneout": rates,
               "recurrent_activation": activations}  # fmt: skip
    options |= dict.fromkeys(("layer_norm", "peephole", "coupled"), st.booleans())
    return {name: draw(values) for name, values in options.items() if takes(CELLS[cell], name)}


@st.composite
def cases(draw, cell, dtype, **fixed):
    """A layer, the arguments of a call, and gradients for what it returns."""

    def some(name, strategy):
        return fixed[name] if name in fixed else draw(strategy, label=name)

    sizes = st.one_of(st.integers(0, 6), st.integers(0, 40))
    steps, batch, inputs = some("T", sizes), some("B", sizes), some("I", sizes)
    hidden, layers = (
        some("H", st.one_of(st.integers(1, 9), st.integers(1, 70))),
        draw(st.integers(1, 3)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bidirectional = some("bidirectional", st.booleans())
    merges = ["concat", "sum", "mean", "mul"] if bidirectional else ["concat"]
    variant = some("variant", variant_options(cell))
    if takes(CELLS[cell], "proj_size") and hidden > 1:
        variant["proj_size"] = draw(st.one_of(st.just(0), st.integers(1, hidden - 1)))
        variant |= {"zoneout": 0.0} if variant["proj_size"] else {}
    layer = layer_of(
        cell, inputs, hidden, layers, rng=rng,
        bias=draw(st.booleans()), batch_first=some("batch_first", st.booleans()),
        bidirectional=bidirectional, reverse=not bidirectional and some("reverse", st.booleans()),
        merge=some("merge", st.sampled_from(merges)),
        dtype=dtype, **variant,
    )  # fmt: skip
    x = rng.standard_normal((steps, batch, inputs)).astype(layer.dtype)
    options = {}
    if inputs and some("ids", st.booleans()):
        x = rng.integers(0, inputs, (steps, batch))
        options["one_hot"] = not draw(st.booleans())
        if not options["one_hot"]:
            words = draw(st.integers(1, 60))
            x = rng.integers(0, words, (steps, batch))
            options["embedding"] = rng.standard_normal((words, inputs)).astype(layer.dtype)
    if some("lengths", st.booleans()):
        options["lengths"] = rng.integers(0, steps + 1, batch)
    for name in ("mask", "reset"):
        if some(name, st.booleans()):
            options[name] = rng.random((steps, batch)) < draw(st.sampled_from([0.1, 0.7, 1.0]))
    options["reset_to"] = draw(st.sampled_from(["zero", "initial"]))
    if layer.batch_first:
        x = x.swapaxes(0, 1)
        options |= {n: options[n].T for n in ("mask", "reset") if n in options}
    return layer, x, options, rng


def answer(layer, x, options, seed, checkpoint=None):
    """All results of a training pass; the seed gives the state and the gradients.

    It runs on a copy of the layer, so that dropout masks are the same each time.
    """
    layer = copy.deepcopy(layer)
    rng = np.random.default_rng(seed)
    batch = x.shape[0 if layer.batch_first else 1]
    rows = layer.num_layers * layer.num_directions

    def drawn_state():
        sizes = [getattr(layer, "proj_size", 0) or layer.hidden_size, layer.hidden_size]
        parts = [rng.standard_normal((rows, batch, n)).astype(layer.dtype) for n in sizes]
        return tuple(parts) if len(layer._structure.cell.states) > 1 else parts[0]

    state, dstate = drawn_state(), drawn_state()
    y, last, tape = layer.forward(x, state, checkpoint=checkpoint, **options)
    dy = rng.standard_normal(y.shape).astype(layer.dtype)
    grads = tape.backward(dy, dstate)
    return y, last, grads.x, grads.state, grads.flat, grads.embedding


def rounded(layer, rng):
    """The layer with each parameter moved by one rounding error, up or down."""
    moved = copy.deepcopy(layer)
    moved.flat *= 1 + np.finfo(layer.dtype).eps * rng.choice([-1, 1], moved.flat.shape)
    return moved


def near(got, wanted, moved, dtype, terms):
    """Whether results are the same up to rounding.

    ``moved`` are the results of parameters that differ by one rounding error, several times. How
    far they lie from ``wanted`` says how much of a rounding error the problem itself makes: with
    layer_norm, two units and no bias each step can multiply it by thousands.
    """
    for a, b, *others in zip(flat(got), flat(wanted), *map(flat, moved), strict=True):
        hypothesis.assume(all(np.isfinite(c).all() for c in (b, *others)))
        allowed = (
            60 * float(np.finfo(dtype).eps) * (6 + np.sqrt(terms)) * np.abs(b).max(initial=1.0)
        )
        allowed += 10 * max(np.abs(b - c).max(initial=0.0) for c in others)
        if not np.allclose(a, b, rtol=0, atol=allowed):
            return False
    return True


def flat(tree):
    if isinstance(tree, tuple):
        return [array for branch in tree for array in flat(branch)]
    return [] if tree is None else [tree]


@properties
def test_both_backends_give_the_same_outputs_and_gradients(cell, dtype, data):
    layer, x, options, rng = data.draw(cases(cell, dtype))
    checkpoint = data.draw(st.one_of(st.none(), st.integers(1, 50)))
    threads = data.draw(st.integers(1, 5))
    seed = rng.integers(2**32)
    with fastrnn.threads(threads):
        got = answer(layer, x, options, seed, checkpoint)
    with fastrnn.backend("reference"):
        wanted = answer(layer, x, options, seed)
        moved = [answer(rounded(layer, rng), x, options, seed)]
        terms = x.shape[0] * x.shape[1] + layer.hidden_size + layer.input_size
        if not near(got, wanted, moved, layer.dtype, terms):  # one may be near by chance
            moved += [answer(rounded(layer, rng), x, options, seed) for _ in range(9)]
    assert near(got, wanted, moved, layer.dtype, terms)


@properties
def test_checkpoints_and_threads_change_no_bit(cell, dtype, data):
    layer, x, options, rng = data.draw(cases(cell, dtype))
    checkpoint = data.draw(st.integers(1, 50))
    seed = rng.integers(2**32)
    with fastrnn.threads(1):
        wanted = answer(layer, x, options, seed)
    for threads in (2, 5):
        with fastrnn.threads(threads):
            assert_same_bits(answer(layer, x, options, seed, checkpoint), wanted)
            assert_same_bits(answer(layer, x, options, seed), wanted)


@properties
def test_a_row_has_the_bits_it_has_alone(cell, dtype, data):
    layer, x, options, rng = data.draw(cases(cell, dtype, batch_first=False))
    y, state = layer(x, **options)
    if x.shape[1] == 0:
        return
    b = int(rng.integers(x.shape[1]))
    own = dict(options)
    for name in {"mask", "reset"} & own.keys():
        own[name] = own[name][:, b : b + 1]
    steps = len(x)
    if "lengths" in own:
        steps = int(own.pop("lengths")[b])
        own |= {name: own[name][:steps] for name in {"mask", "reset"} & own.keys()}
    alone, last = layer(x[:steps, b : b + 1], **own)
    assert_same_bits(y[:steps, b : b + 1], alone)
    assert not y[steps:, b].any()
    assert_same_bits([s[:, b : b + 1] for s in flat(state)], flat(last))


WITHOUT_ROWS = dict.fromkeys(
    ("batch_first", "bidirectional", "reverse", "lengths", "mask", "reset", "ids"), False
)


@properties
def test_streams_chunks_and_cuts_of_time_give_the_bits_of_the_whole(cell, dtype, data):
    layer, x, _, _ = data.draw(cases(cell, dtype, **WITHOUT_ROWS))
    cut = data.draw(st.integers(1, 40))
    if x.shape[1] == 0:
        return
    y, state = layer(x)
    stream, parts, before, passed = layer.stream(x.shape[1]), [], None, []
    for begin in range(0, len(x), cut):
        chunk = x[begin : begin + cut]
        parts.append(stream.feed(chunk))
        part, before = layer(chunk, before)
        passed.append(part)
    if parts:
        assert_same_bits(np.concatenate(parts), y)
        assert_same_bits(np.concatenate(passed), y)
        assert_same_bits(flat(before), flat(state))
        assert_same_bits(flat(stream.state), flat(state))
