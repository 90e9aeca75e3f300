"""Merging two directions into one y: against NumPy on the two sides, and finite differences."""

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import assert_close, assert_same_bits, layer_of

from fastrnn._layer.merge import MERGES

every_merge = pytest.mark.parametrize("merge", MERGES, ids=str)
T, B, I, H = 5, 3, 2, 4  # noqa: E741 - as in all the equations
BY_NUMPY = {
    "sum": lambda f, b: f + b,
    "mean": lambda f, b: (f + b) / 2,
    "mul": lambda f, b: f * b,
    None: lambda f, b: (f, b),
}


def pair(cell, merge, **options):
    """The layer, and one with the same parameters whose y has both directions side by side."""
    layers = [
        layer_of(cell, I, H, 2, bidirectional=True, dtype="float64", merge=m, **options)
        for m in (merge, "concat")
    ]
    return layers


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


@every_backend
@every_cell
@every_merge
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_y_is_what_the_mode_makes_of_both_directions(cell, merge, first, backend):
    layer, whole = pair(cell, merge, batch_first=first)
    for x in (draw(T, B, I), draw(T, I)):
        both, last = whole(x)
        wanted = BY_NUMPY[merge](both[..., :H], both[..., H:])
        assert_same_bits(layer(x), (wanted, last))
        assert_same_bits(layer.forward(x)[:2], (wanted, last))


@every_backend
@every_cell
@every_merge
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
def test_gradients_are_finite_differences(cell, merge, first, backend):
    layer, x = pair(cell, merge, batch_first=first)[0], draw(T, B, I)
    dy = draw(2, T, B, H, seed=1) if merge is None else draw(T, B, H, seed=1)
    given = tuple(dy) if merge is None else dy

    def loss(x, flat):
        layer.flat[...] = flat
        return np.vdot(np.asarray(layer(x)[0]), dy)

    flat, eps = layer.flat.copy(), 1e-6
    grads = layer.forward(x)[2].backward(given)
    for seed in range(5):
        way_x, way = draw(*x.shape, seed=seed), draw(flat.size, seed=seed + 10)
        sides = [loss(x + e * way_x, flat + e * way) for e in (eps, -eps)]
        layer.flat[...] = flat
        along = np.vdot(grads.x, way_x) + np.vdot(grads.flat, way)
        np.testing.assert_allclose(along, (sides[0] - sides[1]) / (2 * eps), rtol=1e-6)


@every_backend
@every_merge
def test_a_gradient_not_given_is_zero(merge, backend):
    layer, x = pair("lstm", merge)[0], draw(T, B, I)
    _, (h, _), tape = layer.forward(x)
    zeros, dstate = np.zeros((T, B, H)), (draw(*h.shape, seed=1), None)
    wanted = tape.backward((zeros, zeros) if merge is None else zeros, dstate).flat
    assert_close(tape.backward(None, dstate).flat, wanted, "float64")
    if merge is None:
        half = draw(T, B, H)
        assert_close(tape.backward((half, None)).flat, tape.backward((half, zeros)).flat, "float64")


def test_the_pair_of_a_training_pass_is_read_only():
    y, _, _ = pair("lstm", None)[0].forward(draw(T, B, I))
    assert not any(part.flags.writeable for part in y)


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.zeros((T, B, H)), ValueError, "dy must be a pair, one for each direction"),
        ((np.zeros((T, B, H)),) * 3, ValueError, "dy must be a pair"),
        ((np.zeros((T, B, H)), np.zeros((T, H, B))), ValueError, "dy of the backward direction"),
        ((np.zeros((T, B, H), "f4"), None), TypeError, "dy of the forward direction must be float"),
    ],
)
def test_a_wrong_gradient_of_a_pair_is_refused(dy, error, message):
    _, _, tape = pair("lstm", None)[0].forward(draw(T, B, I))
    with pytest.raises(error, match=message):
        tape.backward(dy)


@pytest.mark.parametrize("merge", ["ave", 1, "None"])
def test_a_mode_that_is_none_is_refused(merge):
    with pytest.raises(ValueError, match="merge must be one of 'concat', 'sum', 'mean', 'mul'"):
        layer_of("gru_after", I, H, bidirectional=True, merge=merge)


@pytest.mark.parametrize(
    ("merge", "ours"),
    [("ave", "mean"), ("average", "mean"), ("add", "sum"), ("cat", "concat"), ("Mean", "mean")],
)
def test_for_a_name_of_others_the_message_has_ours(merge, ours):
    with pytest.raises(ValueError, match=f"'mul', None, got '{merge}': did you mean '{ours}'"):
        layer_of("gru_after", I, H, bidirectional=True, merge=merge)


def test_one_direction_has_nothing_to_merge():
    with pytest.raises(ValueError, match="merge must be 'concat'.* use bidirectional=True"):
        layer_of("gru_after", I, H, merge="sum")


def test_the_mode_is_shown():
    assert "merge='sum'" in repr(pair("lstm", "sum")[0])
    assert "merge=None" in repr(pair("lstm", None)[0])
