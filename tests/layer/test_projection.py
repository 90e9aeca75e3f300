"""proj_size: a projection of the LSTM's h, in both backends and in streams."""

import copy
import re

import numpy as np
import pytest
from decorators import every_backend, every_dtype, every_isa
from problems import assert_close, assert_same_bits

import fastrnn

# T, B, I, H, P: x in the step's tile or by a product, tile edges, chunks, groups of rows, slices.
SIZES = {
    "few": (5, 3, 2, 7, 3),
    "one feature": (4, 2, 3, 5, 1),
    "x by a product": (20, 2, 50, 33, 17),
    "several chunks": (90, 19, 5, 24, 16),
    "groups of rows": (12, 40, 6, 40, 20),
    "wide": (9, 4, 20, 130, 65),
}
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def layer_of(sizes, dtype="float64", **options):
    _, _, inputs, hidden, features = sizes
    return fastrnn.LSTM(inputs, hidden, proj_size=features, dtype=dtype, rng=0, **options)


def inputs_of(layer, sizes, seed=1):
    """x, a state, and gradients for y and the state."""
    steps, batch, inputs, hidden, features = sizes
    rng, passes = np.random.default_rng(seed), layer.num_layers * layer.num_directions

    def draw(*shape):
        return rng.standard_normal(shape).astype(layer.dtype)

    def state():
        return draw(passes, batch, features), draw(passes, batch, hidden)

    return (
        draw(steps, batch, inputs),
        state(),
        draw(steps, batch, features * layer.num_directions),
        state(),
    )


def answer(layer, case, **options):
    x, state, dy, dstate = case
    y, last, tape = layer.forward(x, state, **options)
    grads = tape.backward(dy, dstate)
    return y, last, grads.x, grads.state, grads.params


def ragged(sizes, seed=2):
    steps, batch = sizes[:2]
    rng = np.random.default_rng(seed)
    return {
        "lengths": rng.integers(0, steps + 1, batch),
        "mask": rng.random((steps, batch)) < 0.8,
        "reset": rng.random((steps, batch)) < 0.2,
        "reset_to": "initial",
    }


def test_shapes_and_names_are_pytorchs():
    layer = layer_of((0, 0, 3, 5, 2), num_layers=2, bidirectional=True)
    assert list(layer.params)[:5] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0",
    ]  # fmt: skip
    assert layer.params["weight_hh_l0"].shape == (20, 2)
    assert layer.params["weight_hr_l1_reverse"].shape == (2, 5)
    assert layer.params["weight_ih_l1"].shape == (20, 4)
    y, (h, c) = layer(np.ones((4, 3, 3)))
    assert y.shape == (4, 3, 4) and h.shape == (4, 3, 2) and c.shape == (4, 3, 5)
    assert "proj_size=2" in repr(layer)


@every_backend
@pytest.mark.parametrize("reverse", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("rows", [False, True], ids=["full", "ragged"])
def test_gradients_are_finite_differences(backend, reverse, rows):
    sizes = (4, 3, 2, 4, 2)
    layer = layer_of(sizes, bidirectional=reverse)
    case = x, state, dy, dstate = inputs_of(layer, sizes)
    options = ragged(sizes) if rows else {}

    def loss():
        y, last = layer(x, state, **options)
        return np.vdot(y, dy) + sum(np.vdot(a, d) for a, d in zip(last, dstate, strict=True))

    with fastrnn.backend(backend):
        _, _, dx, dfirst, params = answer(layer, case, **options)
        pairs = [(x, dx), *zip(state, dfirst, strict=True)]
        pairs += [(layer.params[name], params[name]) for name in layer.params]
        for array, gradient in pairs:
            for index in np.ndindex(array.shape):
                kept, step = array[index], 1e-6
                array[index] = kept + step
                above = loss()
                array[index] = kept - step
                difference = (above - loss()) / (2 * step)
                array[index] = kept
                np.testing.assert_allclose(gradient[index], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("core")
@every_size
@every_dtype
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("rows", [False, True], ids=["full", "ragged"])
def test_kernels_agree_with_the_reference(sizes, dtype, options, rows):
    layer = layer_of(sizes, dtype, **options)
    case, rows = inputs_of(layer, sizes), ragged(sizes) if rows else {}
    got = answer(layer, case, **rows)
    with fastrnn.backend("reference"):
        assert_close(got, answer(layer, case, **rows), dtype, 300)


@pytest.mark.usefixtures("core")
@every_size
def test_checkpoints_and_threads_change_no_bit(sizes):
    layer = layer_of(sizes, "float32", bidirectional=True)
    case, rows = inputs_of(layer, sizes), ragged(sizes)
    for given in ({}, rows):
        with fastrnn.threads(1):
            wanted = answer(layer, case, **given)
        for n in (2, 3, 8):
            with fastrnn.threads(n):
                assert_same_bits(answer(layer, case, **given), wanted)
                assert_same_bits(answer(layer, case, checkpoint=3, **given), wanted)


@pytest.mark.usefixtures("core")
@every_isa
def test_every_instruction_set_agrees(isa):
    sizes = SIZES["several chunks"]
    layer = layer_of(sizes, "float32")
    case = inputs_of(layer, sizes)
    got = answer(layer, case)
    with fastrnn.backend("reference"):
        assert_close(got, answer(layer, case), "float32", 300)


@every_backend
def test_ids_and_gates_know_projections_too(backend):
    sizes = (6, 5, 9, 8, 3)
    layer = layer_of(sizes, "float32")
    ids = np.random.default_rng(0).integers(0, 9, (6, 5))
    with fastrnn.backend(backend):
        y, _, tape = layer.forward(ids, one_hot=True)
        dense, _, dense_tape = layer.forward(np.eye(9, dtype="float32")[ids])
        if backend == "core":
            assert_same_bits(y, dense)
        assert_close(y, dense, "float32")
        dy = np.ones_like(y)
        assert_close(tape.backward(dy).params, dense_tape.backward(dy).params, "float32")
        assert tape.gates()["c"].shape == (1, 6, 5, 8)
        assert tape.gradient_norms(dy)["h"].shape == (1, 6)


@every_backend
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_gives_the_bits_of_the_whole(backend, layers):
    sizes = (7, 3, 4, 20, 9)
    layer = layer_of(sizes, "float32", num_layers=layers)
    x = inputs_of(layer, sizes)[0]
    with fastrnn.backend(backend):
        y, state = layer(x)
        stream = layer.stream(3)
        stepped = np.stack([stream.step(x_t) for x_t in x])
        fed = copy.deepcopy(layer.stream(3)).feed(x)
        if backend == "core":
            assert_same_bits((stepped, fed, stream.state), (y, y, state))
        # NumPy's products of one step and of all steps may round differently.
        assert_close((stepped, fed, stream.state), (y, y, state), "float32")
        stream.state = tuple(s * 2 for s in state)
        assert_same_bits(stream.state, tuple(s * 2 for s in state))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"proj_size": 5}, ValueError, "proj_size must be less than hidden_size = 5, got 5"),
        ({"proj_size": -1}, ValueError, "proj_size must be an integer of at least 0"),
        ({"proj_size": 1.5}, TypeError, "proj_size must be an integer"),
        ({"proj_size": 2, "zoneout": 0.1}, ValueError, "zoneout must be 0 with proj_size"),
    ],
)
def test_bad_sizes_are_told_so(options, error, message):
    with pytest.raises(error, match=message):
        fastrnn.LSTM(3, 5, **options)


def test_messages_name_the_size_of_a_projected_h():
    layer = fastrnn.LSTM(3, 5, proj_size=2)
    stream, x = layer.stream(4), np.ones((6, 4, 3), "float32")
    h, c = stream.state

    def state(value):
        stream.state = value

    def gradient(dy, dstate=None):
        layer.forward(x)[2].backward(dy, dstate)

    five = np.zeros((4, 5), "float32")
    for call, sizes in [
        (lambda: stream.step(x[0], out=five), "out must be (B, proj_size) = (4, 2)"),
        (lambda: stream.feed(x[:1], out=five[None]), "out must be (T, B, proj_size) = (1, 4, 2)"),
        (lambda: state((c, c)), "h of state must be (num_layers, B, proj_size) = (1, 4, 2)"),
        (lambda: state((h, h)), "c of state must be (num_layers, B, hidden_size) = (1, 4, 5)"),
        (lambda: layer(x, (c, c)), "h of state must be (layers*directions, B, proj_size)"),
        (lambda: layer(x, (h, h)), "c of state must be (layers*directions, B, hidden_size)"),
        (lambda: gradient(c), "dy must be (T, B, proj_size) = (6, 4, 2)"),
        (lambda: gradient(None, (c, c)), "h of dstate must be (layers*directions, B, proj_size)"),
    ]:
        with pytest.raises(ValueError, match=re.escape(sizes)):
            call()
    plain = fastrnn.LSTM(3, 5).stream(4)
    with pytest.raises(ValueError, match=re.escape("out must be (B, hidden_size) = (4, 5)")):
        plain.step(x[0], out=five[:, :2])


def test_a_variant_may_be_projected():
    sizes = (5, 3, 2, 6, 3)
    layer = layer_of(sizes, peephole=True, layer_norm=True, recurrent_dropout=0.3)
    case = inputs_of(layer, sizes)
    y, last, dx, dfirst, params = answer(layer, case)
    assert y.shape == (5, 3, 3) and params["weight_hr_l0"].shape == (3, 6)
    assert np.isfinite(layer.stream(3).feed(case[0])).all()
