"""rnn, lstm and gru with a tape, and their backward: gradients, options, sizes, refusals.

test_flat_tapes.py is about the tape itself.
"""

import doctest
import re
from dataclasses import replace

import numpy as np
import pytest
import variants
from decorators import both_ways, every_backend, every_layout
from flats import (
    CELLS,
    DRAWING,
    EMBEDDING,
    ONE_HOT,
    RAGGED,
    B,
    Call,
    H,
    I,
    P,
    T,
    alone,
    batch_of,
    both,
    call_of,
    every_cell,
    layer,
    options_of_function,
    ready_masks,
    some_or_all_batches,
    states_of,
)
from numpy.testing import assert_allclose
from problems import (
    BACKENDS,
    BIASES,
    DTYPES,
    assert_close,
    assert_same_bits,
    options_of,
    problem,
    unchanged,
)

import fastrnn
from fastrnn import functional, reference
from fastrnn._cells import registry
from fastrnn.functional import Parameters

PLAIN = list(registry.CELLS)
every_drawing_cell = pytest.mark.parametrize("name", DRAWING)
every_plain_cell = pytest.mark.parametrize("cell", PLAIN)
two_backends = pytest.mark.skipif(len(BACKENDS) < 2, reason="this build has no kernels")


def refuses(error, *words):
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


# ---- gradients -----------------------------------------------------------------------------------


def call_of_problem(p, **options):
    """The `Call` of a problem of variants.py; missing biases are None, extras are left out."""
    names = p.names[4:]
    extras = {name: p.arrays[name] for name in names if name in p.arrays}
    four = [p.arrays.get(name) for name in p.names[:4]]
    state = tuple(p.arrays[s] for s in p.cell.states)
    weights = Parameters(*four, extras)
    return Call(p.cell.function, p.arrays["x"], state, weights, options, p.dy, p.dstate)


def loss(call):
    without = {k: v for k, v in call.options.items() if k != "checkpoint"}
    y, last = replace(call, options=without).infer()
    return np.vdot(y, call.dy) + sum(np.vdot(s, d) for s, d in zip(last, call.dlast, strict=True))


STEP = 1e-5


def assert_slopes(call, array, gradient):
    """The gradient is that of the loss, by central differences."""
    assert gradient.shape == array.shape
    flat, slopes = array.reshape(-1), np.empty(array.size)
    for k, here in enumerate(flat.copy()):
        flat[k] = here + STEP
        above = loss(call)
        flat[k] = here - STEP
        slopes[k] = (above - loss(call)) / (2 * STEP)
        flat[k] = here
    assert_allclose(gradient, slopes.reshape(array.shape), rtol=1e-6, atol=2e-9)


def assert_all_slopes(call):
    """Every gradient of a call is that of its loss."""
    dx, dstate, dweights = call.gradients()
    pairs = list(zip(call.state, dstate, strict=True))
    pairs += [(call.weights.extras[name], d) for name, d in dweights.extras.items()]
    for array, gradient in zip(call.weights[:4], dweights[:4], strict=True):
        assert (array is None) == (gradient is None)
        pairs += [] if array is None else [(array, gradient)]
    assert dweights.extras.keys() == call.weights.extras.keys()
    x = call.options.get("embedding", call.x)
    if not call.options.get("one_hot"):
        pairs.append((x, dx))
    for array, gradient in pairs:
        assert_slopes(call, array, gradient)


def copied(p):
    """The problem with arrays of its own: those of `problem` are shared."""
    return replace(p, arrays={name: a.copy() for name, a in p.arrays.items()})


@every_plain_cell
@both_ways
@pytest.mark.parametrize("biases", BIASES.values(), ids=BIASES)
def test_gradients_of_plain_cells_are_finite_differences(cell, reverse, biases):
    p = problem(cell, 3, 2, 2, 3, biases=biases).map(np.copy)
    options = {"reverse": reverse, **options_of(p.cell)}
    call = Call(p.cell.function, p.x, p.state, Parameters(*p.weights), options, p.dy, p.dstate)
    assert_all_slopes(call)


@pytest.mark.parametrize("name", variants.VARIANTS)
@pytest.mark.parametrize(
    "with_masks, ragged, bias",
    [(False, False, True), (True, True, True), (False, False, False)],
    ids=["full", "ragged, reverse, masks", "no bias"],
)
def test_gradients_of_options_are_finite_differences(name, with_masks, ragged, bias):
    p = copied(variants.problem(name, with_masks, bias, reverse=ragged, ragged=ragged))
    options = options_of_function(name) | (variants.RAGGED if ragged else {})
    if with_masks:
        masks = p.dropout_masks
        options |= {"recurrent_mask": masks.recurrent, "zoneout_masks": alone(masks.zoneout)}
    assert_all_slopes(call_of_problem(p, reverse=ragged, **options))


@pytest.mark.parametrize("batch", ["ragged", "embedding", "checkpoint, embedding, ragged"])
@pytest.mark.parametrize("name", ["lstm, projected: plain", "gru_before"])
def test_gradients_of_projections_and_embeddings_are_finite_differences(name, batch):
    assert_all_slopes(call_of(name, batch))


@every_backend
@every_plain_cell
def test_a_gradient_that_is_none_is_zero(cell, backend):
    call = call_of(cell)
    zeros = replace(call, dy=0 * call.dy, dlast=tuple(0 * d for d in call.dlast))
    y, _, tape = call.forward()
    assert_close(
        call.backward(tape, y, dy=None), replace(call, dy=0 * call.dy).gradients(), "float64"
    )
    function = getattr(fastrnn, f"{call.function}_backward")
    dx, _, _ = function(tape, call.x, y, alone(call.state), call.weights, call.dy)
    assert_close(dx, replace(call, dlast=zeros.dlast).gradients()[0], "float64")


@every_plain_cell
def test_backward_without_a_gradient_is_refused(cell):
    call = call_of(cell)
    y, _, tape = call.forward()
    pairs = [(None, None), [None, None]] if len(call.dlast) > 1 else []
    for dlast in (None, *pairs):
        with refuses(ValueError, "dy or dlast must be the gradient of a loss, got None for each"):
            call.backward(tape, y, dy=None, dlast=dlast)


@every_backend
def test_either_part_of_a_pair_may_be_none(backend):
    call = call_of("lstm")
    zero, (d_h, d_c) = 0 * call.dlast[0], call.dlast
    y, _, tape = call.forward()
    for given, filled in [((d_h, None), (d_h, zero)), ((None, d_c), (zero, d_c))]:
        assert_close(call.backward(tape, y, dlast=given), call.backward(tape, y, dlast=filled),
                     "float64")  # fmt: skip
    no_c = replace(call, state=(call.state[0], None))
    zero_c = replace(call, state=(call.state[0], zero))
    assert_close(no_c.gradients(), zero_c.gradients(), "float64")


@every_backend
@every_plain_cell
def test_a_state_of_none_is_zeros(cell, backend):
    call = call_of(cell)
    zeros = replace(call, state=tuple(0 * s for s in call.state))
    y, _, tape = zeros.forward()
    assert_close(zeros.backward(tape, y, state=None), zeros.gradients(), "float64")


@every_backend
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru_after", "gru_before"])
def test_without_zoneout_masks_zoneout_is_its_expectation(name, backend):
    """Also where there is a recurrent mask: here it keeps all units."""
    call = call_of(name)
    plain = replace(call, options=call.options | {"zoneout": 0.4})
    masked = replace(plain, options=plain.options | {"recurrent_mask": np.ones((B, H))})
    assert_close(masked.infer(), plain.infer(), "float64")
    assert_close(masked.gradients(), plain.gradients(), "float64")


# ---- the same as the layers and as the other backend ---------------------------------------------


def two_directions(name, batch, dtype, draw=None, **net):
    """The answer of a layer of two directions, and that of two calls, one for each.

    draw : a seed for masks of recurrent dropout and, as the options say, of zoneout; None: none.
    """
    one = layer(name, batch, dtype, **net, **({} if draw is None else {"recurrent_dropout": 0.4}))
    x, options = batch_of(one, batch)
    if draw is not None:
        one.rng = draw
    state, dstate = alone(states_of(one, 3)), alone(states_of(one, 4))
    y, last, tape = one.forward(x, state, train=draw is not None, **options)
    calls = [call_of(name, batch, dtype, reverse, **net) for reverse in (False, True)]
    dy = np.concatenate([call.dy for call in calls], axis=2)
    grads = tape.backward(dy, dstate)
    dx = grads.embedding if "embedding" in options else grads.x
    wanted = [y, both(last), dx, both(grads.state), dict(grads.params)]

    drawing = {} if draw is None else {
        "recurrent_dropout": 0.4, "rng": np.random.default_rng(draw)
    }  # fmt: skip
    ys, lasts, dxs, dstates, params = [], [], [], [], {}
    for call, end in zip(calls, ("_l0", "_l0_reverse"), strict=True):
        y, last, tape = call.forward(**drawing)
        dx, dstate, dweights = call.backward(tape, y)
        ys.append(y)
        lasts.append(last)
        dxs.append(dx)
        dstates.append(dstate)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        named = dict(zip(names, dweights[:4], strict=True)) | dweights.extras
        params |= {name + end: d for name, d in named.items() if d is not None}
    got = [
        np.concatenate(ys, axis=2), tuple(np.stack(s) for s in zip(*lasts, strict=True)),
        None if dxs[0] is None else dxs[0] + dxs[1],
        tuple(np.stack(s) for s in zip(*dstates, strict=True)), params,
    ]  # fmt: skip
    return got, wanted


def assert_the_layers(backend, dtype, got, wanted):
    """Bit for bit. The reference's products are NumPy's, whose last bits depend on addresses."""
    got[-1] = {name: got[-1][name] for name in wanted[-1]}
    if backend == "core":
        assert_same_bits(got, wanted)
    else:
        assert_close(got, wanted, dtype)


@every_backend
@every_cell
@some_or_all_batches
def test_every_option_and_every_batch_gives_the_layers_bits(name, batches, backend):
    for batch in batches(name):
        assert_the_layers(backend, "float64", *two_directions(name, batch, "float64"))


@every_backend
@every_drawing_cell
@some_or_all_batches
def test_what_is_drawn_from_a_seed_are_the_layers_masks(name, batches, backend):
    for batch in batches(name):
        got, wanted = two_directions(name, batch, "float32", draw=7)
        assert_the_layers(backend, "float32", got, wanted)


@every_backend
@every_cell
def test_without_biases_the_layers_bits_are_the_same_too(name, backend):
    assert_the_layers(backend, "float64", *two_directions(name, "ragged", "float64", bias=False))


@two_backends
@every_cell
@some_or_all_batches
def test_the_backends_agree(name, batches):
    for number, batch in enumerate(batches(name)):
        dtype, reverse = DTYPES[number % 2], number % 3 > 0
        call = call_of(name, batch, dtype, reverse)
        call = call.with_options(**ready_masks(call, 0.3, 5) if reverse else {})
        answers = []
        for backend in BACKENDS:
            with fastrnn.backend(backend):
                y, last, tape = call.forward()
                answers.append((y, last, *call.backward(tape, y)))
        assert_close(*answers, dtype, factor=256)


@every_backend
@every_cell
@some_or_all_batches
def test_a_tape_changes_nothing_in_y_and_the_state(name, batches, backend):
    compare = assert_same_bits if backend == "core" else close
    for batch in batches(name):
        call = call_of(name, batch, "float32")
        without = {k: v for k, v in call.options.items() if k != "checkpoint"}
        compare(call.forward()[:2], replace(call, options=without).infer())


def close(got, wanted):
    assert_close(got, wanted, "float32")


@every_cell
@some_or_all_batches
def test_checkpoints_change_no_bit_of_gradients(name, batches, core):
    for batch in batches(name):
        call = call_of(name, batch, "float32").with_options(checkpoint=None)
        wanted = call.gradients()
        for steps in (1, 2, T + 1, 2**62 - 1):
            assert_same_bits(call.with_options(checkpoint=steps).gradients(), wanted)


# ---- dropout and zoneout -------------------------------------------------------------------------


@every_backend
@every_drawing_cell
def test_ready_masks_are_those_that_a_seed_draws(name, backend):
    for batch in ("full", "ragged"):
        call = call_of(name, batch)
        drawn = call.with_options(recurrent_dropout=0.3, rng=5)
        ready = call.with_options(**ready_masks(call, 0.3, 5))
        assert_close(drawn.forward()[:2], ready.forward()[:2], "float64", factor=0)
        assert_close(drawn.gradients(), ready.gradients(), "float64")


@every_backend
def test_a_seed_draws_for_inference_and_for_a_tape_alike(backend):
    call = call_of("lstm: zoneout").with_options(recurrent_dropout=0.3)
    assert_same_bits(call.infer(rng=3), call.forward(rng=3)[:2])
    assert_same_bits(call.infer(rng=3), call.infer(rng=np.random.default_rng(3)))
    assert np.abs(call.infer(rng=3)[0] - call.infer(rng=4)[0]).max() > 0


@every_backend
def test_without_rng_zoneout_takes_the_expectation(backend):
    call = call_of("gru_after").with_options(zoneout=0.25)
    half = np.full((T, B, H), 0.25)
    expected = call.with_options(zoneout=0, zoneout_masks=half)
    assert_close(call.forward()[:2], expected.forward()[:2], "float64")
    assert_close(call.gradients(), expected.gradients(), "float64")


@every_backend
def test_either_mask_may_be_given_alone(backend):
    call = call_of("lstm")
    ones, zeros = np.ones((B, H)), (np.zeros((T, B, H)),) * 2
    assert_close(call.gradients(), call.with_options(recurrent_mask=ones).gradients(), "float64")
    assert_close(call.gradients(), call.with_options(zoneout_masks=zeros).gradients(), "float64")
    kept = tuple(np.ones((T, B, H)) for _ in "hc")
    y, last, tape = call.forward(zoneout_masks=kept)
    assert_same_bits(y, np.broadcast_to(call.state[0], y.shape))
    assert_same_bits(last, call.state)


@every_backend
def test_masks_may_change_after_the_call(backend):
    call = call_of("lstm", "ragged")
    masks = ready_masks(call.with_options(zoneout=0.5), 0.5, 1)
    rows = {k: v.copy() for k, v in RAGGED.items() if k != "reset_to"}
    call = call.with_options(**masks, **rows)
    y, _, tape = call.forward()
    wanted = call.backward(tape, y)
    for array in (masks["recurrent_mask"], *masks["zoneout_masks"], *rows.values()):
        array[...] = 0
    assert_close(call.backward(tape, y), wanted, "float64", factor=0)


# ---- ids -----------------------------------------------------------------------------------------


@every_backend
@every_plain_cell
def test_one_hot_ids_are_ones_among_zeros(cell, backend):
    call = call_of(cell, "one_hot, ragged")
    dense = replace(call, x=np.eye(I)[call.x]).with_options(one_hot=False)
    assert_close(call.forward()[:2], dense.forward()[:2], "float64")
    (dx, *got), (_, *wanted) = call.gradients(), dense.gradients()
    assert dx is None
    assert_close(got, wanted, "float64")


@every_backend
@every_plain_cell
def test_an_embedding_is_its_rows_and_unused_ids_have_no_gradient(cell, backend):
    call = call_of(cell, "embedding of many ids, ragged")
    table = call.options["embedding"]
    dense = replace(call, x=table[call.x]).with_options(embedding=None)
    (dembedding, *got), (dx, *wanted) = call.gradients(), dense.gradients()
    assert_close(got, wanted, "float64")
    scattered = np.zeros_like(table)
    np.add.at(scattered, call.x, dx)
    assert_close(dembedding, scattered, "float64")
    unused = np.setdiff1d(np.arange(len(table)), call.x)
    assert unused.size and not dembedding[unused].any()


@every_backend
@pytest.mark.parametrize("batch", ["full", "one_hot", "embedding"])
def test_the_gradient_of_x_is_left_out_if_it_is_not_needed(batch, backend):
    call = call_of("gru_after", batch)
    y, _, tape = call.forward()
    dx, *wanted = call.backward(tape, y)
    nothing, *got = call.backward(tape, y, need_x=False)
    assert nothing is None and (dx is None) == (batch == "one_hot")
    assert_close(got, wanted, "float64", factor=0)


# ---- sizes ---------------------------------------------------------------------------------------


def sized(name, t, b, i, h, dtype="float64", **options):
    """A `Call` of these sizes with cells of no extras."""
    cell = registry.CELLS[name]
    p = problem(name, t, b, i, h, dtype=dtype)
    weights = Parameters(*p.weights)
    return Call(cell.function, p.x, p.state, weights, options_of(cell) | options, p.dy, p.dstate)


@every_backend
@every_plain_cell
@both_ways
@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 5), (4, 0, 2, 5), (4, 3, 0, 5), (0, 0, 0, 5), (1, 1, 1, 1), (4, 3, 2, 1)],
    ids=["T = 0", "B = 0", "I = 0", "all = 0", "all = 1", "one unit"],
)  # fmt: skip
def test_sizes_of_zero_and_one_are_defined(cell, reverse, sizes, backend):
    p = problem(cell, *sizes)
    for options in ({}, {"checkpoint": 2}):
        call = sized(cell, *sizes, reverse=reverse, **options)
        y, last, tape = call.forward()
        got = y, last, *call.backward(tape, y)
        wanted_y, wanted_last, saved = reference.forward(
            cell, p.x, p.state, *p.weights, reverse=reverse
        )
        dx, dstate, *dweights = reference.backward(saved, p.dy, p.dstate)
        wanted = wanted_y, wanted_last, dx, dstate, Parameters(*dweights)
        assert_close(got, wanted, "float64", factor=4096)


@every_backend
@every_plain_cell
def test_rows_that_are_all_empty_keep_their_state(cell, backend):
    for rows in ({"lengths": np.zeros(B, int)}, {"mask": np.zeros((T, B), bool)}):
        call = call_of(cell).with_options(**rows)
        y, last, tape = call.forward()
        assert_same_bits(last, call.state)
        dx, dstate, dweights = call.backward(tape, y)
        assert not dx.any() and not any(d.any() for d in dweights[:4] if d is not None)
        through_y = call.dy.sum(axis=0) if "mask" in rows else 0
        assert_close(dstate[0], call.dlast[0] + through_y, "float64")


@every_backend
@pytest.mark.parametrize("ids", [ONE_HOT, EMBEDDING], ids=["one_hot", "embedding"])
@pytest.mark.parametrize("empty", ["T", "B"])
def test_no_ids_at_all_are_defined(ids, empty, backend):
    call = call_of("gru_after", "one_hot" if ids == ONE_HOT else "embedding")
    cut = np.s_[:0] if empty == "T" else np.s_[:, :0]
    rows = np.s_[:] if empty == "T" else np.s_[:0]
    call = replace(call, x=call.x[cut], dy=call.dy[cut], state=(call.state[0][rows],),
                   dlast=(call.dlast[0][rows],))  # fmt: skip
    dx, dstate, dweights = call.gradients()
    assert dstate[0].shape == call.state[0].shape and not dweights.w_ih.any()
    assert dx is None or not dx.any()


@two_backends
@pytest.mark.parametrize(
    "cell, sizes, options",
    [
        ("lstm", (700, 3, 5, 33), {}),
        ("lstm", (300, 40, 3, 9), {"checkpoint": 50}),
        ("gru_after", (4500, 2, 3, 4), {}),
        ("gru_before", (3, 3000, 3, 5), {"reverse": True}),
        ("rnn_tanh", (9000, 1, 2, 3), {"checkpoint": 1000}),
        ("lstm", (40, 6, 130, 70), {"reverse": True}),
    ],
    ids=["chunks", "segments", "blocks of steps", "blocks of rows", "blocks of one row", "wide"],
)
def test_at_sizes_that_change_the_schedule_the_backends_agree(cell, sizes, options):
    call, answers = sized(cell, *sizes, **options), []
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            y, last, tape = call.forward()
            answers.append((y, last, *call.backward(tape, y)))
    assert_close(*answers, "float64", factor=4096)


@two_backends
def test_an_embedding_by_blocks_is_the_references():
    rng, answers = np.random.default_rng(0), []
    p = problem("gru_after", 3000, 3, 2, 4)
    options = {"embedding": rng.uniform(-1, 1, (7, 2)), "checkpoint": 500}
    call = Call("gru", rng.integers(0, 6, (3000, 3)), p.state, Parameters(*p.weights), options,
                p.dy, p.dstate)  # fmt: skip
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            answers.append(call.gradients())
    assert_close(*answers, "float64", factor=4096)


# ---- arrays --------------------------------------------------------------------------------------


@every_backend
@every_layout
def test_arrays_may_lie_in_memory_as_they_like(layout, backend):
    def strange(array):
        if array.dtype.kind == "i":  # between ids there can be no NaN
            return np.repeat(array, 2, axis=-1)[..., ::2]
        return layout(array.reshape((1,) * (3 - array.ndim) + array.shape)).reshape(array.shape)

    for batch in ("ragged", "embedding", "embedding of many ids, ragged"):
        call = call_of("lstm: layer norm, peephole", batch)
        call = call.with_options(**ready_masks(call, 0.5, 1))
        odd = call.map(strange)
        y, last, tape = odd.forward()
        with unchanged(odd.x, odd.state, odd.weights, odd.dy, odd.dlast, y, tape):
            got = odd.backward(tape, strange(y))
        assert_close((y, last), call.forward()[:2], "float64")
        assert_close(got, call.gradients(), "float64")


@every_backend
def test_weights_may_be_a_tuple_a_list_or_parameters(backend):
    call = call_of("lstm: peephole")
    w_ih, w_hh, b_ih, b_hh, extras = call.weights
    y, _, tape = call.forward()
    wanted = call.backward(tape, y)
    for weights in (tuple(call.weights), list(call.weights)):
        assert_close(call.backward(tape, y, weights=weights), wanted, "float64", factor=0)
    bare = call_of("lstm")
    zeros = replace(bare, weights=Parameters(*bare.weights[:2]))
    y, _, tape = zeros.forward()
    for weights in ((w_ih, w_hh), (w_ih, w_hh, None), (w_ih, w_hh, None, None),
                    (w_ih, w_hh, None, None, {}), (w_ih, w_hh, None, None, None)):  # fmt: skip
        dweights = zeros.backward(tape, y, weights=weights)[2]
        assert dweights.b_ih is dweights.b_hh is None and dweights.extras == {}


def test_parameters_share_no_default():
    one = Parameters(np.ones((1, 1)), np.ones((1, 1)))
    one.extras["mine"] = np.ones(1)
    assert Parameters(one.w_ih, one.w_hh).extras == {}


# ---- refusals ------------------------------------------------------------------------------------


def zeros(*shape):
    return np.zeros(shape)


def run(function="lstm", **changes):
    g = {"lstm": 4, "gru": 3, "rnn": 1}[function]
    arguments = {"x": zeros(T, B, I), "state": None, "w_ih": zeros(g * H, I),
                 "w_hh": zeros(g * H, H)}  # fmt: skip
    return getattr(fastrnn, function)(**arguments | changes)


@pytest.mark.parametrize("function", ["rnn", "lstm", "gru"])
def test_an_unknown_option_is_refused_as_by_any_function(function):
    with refuses(TypeError, f"{function}() got an unexpected keyword argument 'zonout'"):
        run(function, zonout=0.1)
    with refuses(TypeError, "tape_size() got an unexpected keyword argument 'zonout'"):
        fastrnn.tape_size(function, 1, 1, 1, zonout=0.1)


@pytest.mark.parametrize(
    "function, option",
    [("rnn", {"layer_norm": True}), ("rnn", {"recurrent_activation": "hard_sigmoid"}),
     ("gru", {"peephole": True}), ("gru", {"cell_clip": 1.0}), ("gru", {"coupled": True})],
    ids=str,
)  # fmt: skip
def test_an_option_of_another_function_is_refused(function, option):
    (name,) = option
    with refuses(ValueError, name, "has no meaning for the cell"):
        run(function, **option)


@pytest.mark.parametrize("name", [n for n in CELLS if call_of(n).weights.extras])
def test_extras_are_all_there_and_no_others(name):
    call = call_of(name)
    *four, extras = call.weights
    for missing in extras:
        fewer = {k: v for k, v in extras.items() if k != missing}
        if missing == "weight_hr":  # without it the cell is another one, in which w_hh does not fit
            with refuses(ValueError, "w_hh must be"):
                call.forward(extras=fewer)
        elif missing != "bias_ln_c":
            with refuses(ValueError, "extras must have", f"missing are {missing}; unknown"):
                call.forward(extras=fewer)
        y, _, tape = call.forward()
        if missing != "bias_ln_c":
            with refuses(ValueError, "extras must have", f"missing are {missing}; unknown"):
                call.backward(tape, y, weights=(*four, fewer))
    with refuses(ValueError, "extras must have", "unknown are w_ih"):
        call.forward(extras=extras | {"w_ih": four[0]})
    with refuses(TypeError, "extras must be a mapping", "got a list"):
        call.forward(extras=list(extras))
    with refuses(TypeError, "extras must be a mapping", "got a ndarray"):
        call.backward(tape, y, weights=(*four, np.ones(3)))


def test_extras_of_a_cell_that_has_none_are_refused():
    with refuses(ValueError, "extras must have", "missing are none; unknown are weight_peephole"):
        run("lstm", extras={"weight_peephole": zeros(3 * H)})
    for function, cell in [("rnn", "rnn_tanh"), ("gru", "gru_after")]:
        with refuses(ValueError, f"weight_hr or proj_size has no meaning for the cell {cell}"):
            run(function, extras={"weight_hr": zeros(P, H)})


@pytest.mark.parametrize(
    "array, words",
    [(zeros(3 * H + 1), ["(3*hidden_size,) = (18,), got (19,)"]), (zeros(1, 3 * H), ["(1, 18)"])],
    ids=str,
)
def test_an_extra_of_another_shape_is_refused(array, words):
    with refuses(ValueError, "weight_peephole must be", *words):
        run(peephole=True, extras={"weight_peephole": array})


def test_an_extra_of_another_dtype_is_refused():
    with refuses(TypeError, "weight_peephole must be float64 like the weights, got float32"):
        run(peephole=True, extras={"weight_peephole": zeros(3 * H).astype("f4")})
    with refuses(TypeError, "weight_peephole must be an array of float32", "got NoneType"):
        run(peephole=True, extras={"weight_peephole": None})


@pytest.mark.parametrize("shape", [(), (H,), (0, H), (H, H), (H + 1, H), (1, P, H)], ids=str)
def test_a_projection_that_is_none_is_refused(shape):
    with refuses(ValueError, "weight_hr must be (proj_size, hidden_size)", f"got {shape}"):
        run(extras={"weight_hr": zeros(*shape)})


def test_a_generator_is_wanted_where_something_is_drawn_and_nowhere_else():
    with refuses(ValueError, "rng must be a generator or a seed", "got None"):
        run(recurrent_dropout=0.5)
    with refuses(ValueError, "rng must be None", "both recurrent_dropout and zoneout"):
        run(rng=1)
    with refuses(ValueError, "rng must be None with recurrent_mask"):
        run(rng=1, recurrent_dropout=0.5, recurrent_mask=zeros(B, H))
    with refuses(ValueError, "rng must be None", "zoneout_masks"):
        run(rng=1, zoneout=0.5, zoneout_masks=(zeros(T, B, H),) * 2)
    with refuses(TypeError, "rng must be None, an integer from 0 or", "got 'seed'"):
        run(rng="seed", zoneout=0.5)
    with refuses(ValueError, "recurrent_dropout must be from 0 to 1, got 2"):
        run(rng=1, recurrent_dropout=2)


@pytest.mark.parametrize(
    "error, words, options",
    [
        (ValueError, ["recurrent_mask must be (B, hidden_size) = (4, 6), got (6, 4)"],
         {"recurrent_mask": zeros(H, B)}),
        (TypeError, ["recurrent_mask must be float64", "got float32"],
         {"recurrent_mask": zeros(B, H).astype("f4")}),
        (ValueError, ["zoneout_masks must be a pair (h, c)", "got ndarray"],
         {"zoneout_masks": zeros(T, B, H)}),
        (ValueError, ["c of zoneout_masks must be (T, B, hidden_size) = (5, 4, 6), got (5, 4, 5)"],
         {"zoneout_masks": (zeros(T, B, H), zeros(T, B, 5))}),
        (TypeError, ["h of zoneout_masks must be an array", "got NoneType"],
         {"zoneout_masks": (None, zeros(T, B, H))}),
        (ValueError, ["zoneout must be 0, and zoneout_masks None, with weight_hr"],
         {"zoneout": 0.1, "w_hh": zeros(4 * H, P), "extras": {"weight_hr": zeros(P, H)}}),
        (ValueError, ["recurrent_mask must be (B, proj_size) = (4, 2), got (4, 6)"],
         {"recurrent_mask": zeros(B, H), "w_hh": zeros(4 * H, P),
          "extras": {"weight_hr": zeros(P, H)}}),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_masks_that_do_not_fit_are_refused(error, words, options):
    with refuses(error, *words):
        run(**options)


def test_checkpoints_belong_to_a_tape():
    with refuses(ValueError, "checkpoint must be None without return_tape=True"):
        run(checkpoint=2)
    for steps in (0, -1, True):
        with refuses(ValueError, f"checkpoint must be an integer of at least 1, got {steps}"):
            run(checkpoint=steps, return_tape=True)
    with refuses(TypeError, "checkpoint must be an integer, got float"):
        run(checkpoint=2.0, return_tape=True)
    with refuses(TypeError, "return_tape must be True or False, got 1"):
        run(return_tape=1)


@every_plain_cell
def test_backward_refuses_gradients_of_other_shapes(cell):
    call = call_of(cell)
    y, _, tape = call.forward()
    with refuses(ValueError, "dy must be (T, B, hidden_size) = (5, 4, 6), got (5, 4, 7)"):
        call.backward(tape, y, dy=zeros(T, B, H + 1))
    with refuses(TypeError, "dy must be float64 like the weights, got float32"):
        call.backward(tape, y, dy=call.dy.astype("f4"))
    with refuses(ValueError, "y must be (T, B, hidden_size) = (5, 4, 6), got (4, 5, 6)"):
        call.backward(tape, y.swapaxes(0, 1))
    with refuses(TypeError, "y must be an array of float32 or float64, got NoneType"):
        call.backward(tape, None)
    wrong = tuple(zeros(B, H + 1) for _ in call.dlast)
    label = "h of dlast" if cell == "lstm" else "dlast"
    with refuses(ValueError, f"{label} must be (B, hidden_size) = (4, 6), got (4, 7)"):
        call.backward(tape, y, dlast=alone(wrong))
    with refuses(TypeError, "need_x must be True or False, got 0"):
        call.backward(tape, y, need_x=0)


def test_where_h_is_projected_messages_say_so():
    call = call_of("lstm, projected: plain")
    y, _, tape = call.forward()
    for name in ("y", "dy"):
        with refuses(ValueError, f"{name} must be (T, B, proj_size) = (5, 4, 2), got (5, 4, 6)"):
            call.backward(**{"tape": tape, "y": y, name: zeros(T, B, H)})
    with refuses(ValueError, "h of dlast must be (B, proj_size) = (4, 2), got (4, 6)"):
        call.backward(tape, y, dlast=(zeros(B, H), zeros(B, H)))


def test_a_pair_for_one_state_and_one_array_for_a_pair_are_refused():
    lstm, gru = call_of("lstm"), call_of("gru_after")
    (y, _, tape), (y_gru, _, tape_gru) = lstm.forward(), gru.forward()
    with refuses(ValueError, "dlast must be a pair (h, c)", "got ndarray"):
        lstm.backward(tape, y, dlast=zeros(B, H))
    with refuses(ValueError, "dlast must be one array h, got a tuple of 2"):
        gru.backward(tape_gru, y_gru, dlast=(zeros(B, H), zeros(B, H)))
    with refuses(ValueError, "state must be one array h, got a tuple of 2"):
        gru.backward(tape_gru, y_gru, state=(zeros(B, H), zeros(B, H)))


@pytest.mark.parametrize("count", [0, 1, 6])
def test_weights_are_two_to_five(count):
    call = call_of("lstm")
    y, _, tape = call.forward()
    weights = (*call.weights, None)[:count]
    with refuses(TypeError, "weights must be a tuple (w_ih, w_hh,", f"got a tuple of {count}"):
        call.backward(tape, y, weights=weights)
    with refuses(TypeError, "weights must be a tuple (w_ih, w_hh,", "got a ndarray"):
        call.backward(tape, y, weights=call.weights.w_ih)


@pytest.mark.parametrize("function", ["min_gru", "min_lstm"])
def test_weights_of_a_minimal_function_are_one_or_two(function):
    backward = getattr(fastrnn, f"{function}_backward")
    for weights, got in [((), "tuple of 0"), ([None] * 3, "list of 3"), (None, "NoneType")]:
        with refuses(TypeError, "weights must be a tuple (w_ih, b_ih)", f"got a {got}"):
            backward(None, None, None, None, weights, None)


# ---- examples ------------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize(
    "function",
    [*(getattr(functional, name) for name in functional.__all__)],
    ids=functional.__all__,
)
def test_examples_run(function, backend):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    (example,) = finder.find(function, function.__name__, globs={})
    assert example.examples
    assert runner.run(example).failed == 0
