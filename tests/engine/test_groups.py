"""Groups of rows in backward: each adds its own terms to every gradient, once.

Backward divides a batch into 2, 4 or 8 groups, by the shape alone (csrc/backward/layout.c). Every
row has other values here, states and gradients of states are not zero, and all kinds of gradients
are compared with the reference in float64. The last group has more rows than the others.
"""

import numpy as np
import pytest
from problems import assert_same_bits, layer_of

import fastrnn

pytestmark = pytest.mark.usefixtures("core")

T, I, H = 3, 5, 40  # noqa: E741 - as in all the equations
NETS = {
    "rnn": ("rnn_tanh", {}),
    "lstm": ("lstm", {}),
    "gru": ("gru_after", {}),
    "projected": ("lstm", {"proj_size": 24}),
    "normalised, peepholes": ("lstm", {"layer_norm": True, "peephole": True}),
    "dropout": ("gru_before", {"recurrent_dropout": 0.4, "zoneout": 0.3}),
    "two directions": ("lstm", {"bidirectional": True}),
}


def rows_of(kind, batch, rng):
    """Arguments by keyword: lengths that need a sort order, flags of (T, B), or nothing."""
    if kind == "lengths":
        return {"lengths": rng.integers(0, T + 1, batch)}
    if kind == "flags":
        return {"mask": rng.random((T, batch)) < 0.7, "reset": rng.random((T, batch)) < 0.3}
    return {}


def gradients(cell, options, batch, rows, checkpoint=None):
    """All gradients of a random problem, in float64."""
    layer = layer_of(cell, I, H, dtype="float64", **options)
    layer.rng = 7  # both backends draw the same masks
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((T, batch, I))
    given = rows_of(rows, batch, rng)
    _, last = layer(x[:1])
    pair = isinstance(last, tuple)
    first, dlast = (
        tuple([rng.uniform(-1, 1, s.shape) for s in (last if pair else (last,))]) for _ in range(2)
    )
    y, _, tape = layer.forward(x, first if pair else first[0], checkpoint=checkpoint, **given)
    grads = tape.backward(rng.standard_normal(y.shape), dlast if pair else dlast[0])
    return [grads.x, *(grads.state if pair else [grads.state]), *grads.params.values()]


@pytest.mark.parametrize("batch", [301, 1030])  # four and eight groups
@pytest.mark.parametrize("rows", ["all steps", "lengths", "flags"])
@pytest.mark.parametrize(("cell", "options"), NETS.values(), ids=NETS)
def test_every_gradient_has_the_terms_of_all_groups_once(cell, options, batch, rows):
    with fastrnn.backend("reference"):
        wanted = gradients(cell, options, batch, rows)
    got = gradients(cell, options, batch, rows)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * (1 + np.abs(other).max()))
    for threads, checkpoint in (1, 2), (3, None), (9, None):
        with fastrnn.threads(threads):
            assert_same_bits(gradients(cell, options, batch, rows, checkpoint), got)
