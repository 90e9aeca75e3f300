"""Checkpoints: a tape keeps little, and backward recomputes the rest, to the bit."""

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype
from problems import BACKENDS, assert_same_bits, layer_of, problem

import fastrnn
from fastrnn._cells.registry import CELLS
from fastrnn._engine import runtime

# T, B, I, H: x within the step's tile or in a product before it; chunks; groups of rows.
SIZES = {
    "few": (7, 3, 2, 5),
    "x by a product before": (30, 3, 40, 33),
    "several chunks": (150, 5, 4, 8),
    "groups of rows": (25, 33, 6, 40),
    "one row": (90, 1, 3, 20),
}


def gradients(layer, x, rows=None, checkpoint=None, **options):
    """y, the final state and all gradients, from an initial state and a final state's gradient."""
    p = np.random.default_rng(3)
    steps, batch = x.shape[:2]
    states = layer.num_layers * layer.num_directions, batch, layer.hidden_size
    draws = [p.standard_normal(states).astype(layer.dtype) for _ in range(4)]
    pair = len(layer._structure.cell.states) > 1
    state, dstate = (tuple(draws[:2]), tuple(draws[2:])) if pair else (draws[0], draws[2])
    y, last, tape = layer.forward(x, state, checkpoint=checkpoint, **(rows or {}), **options)
    grads = tape.backward(p.standard_normal(y.shape).astype(layer.dtype), dstate)
    return y, last, grads.x, grads.state, grads.flat, grads.embedding


def batch_of(sizes, dtype="float32"):
    steps, batch, inputs, _ = sizes
    return np.random.default_rng(1).standard_normal((steps, batch, inputs)).astype(dtype)


# The reference keeps everything all the same: one size is enough to test that.
CASES = [(b, sizes) for b in BACKENDS for sizes in (SIZES if b == "core" else ["few"])]


@pytest.mark.parametrize(("backend", "sizes"), CASES)
@every_dtype
@every_cell
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_gradients_are_the_same_bits(backend, cell, dtype, sizes, bidirectional):
    sizes = SIZES[sizes]
    _, _, inputs, hidden = sizes
    layer = layer_of(cell, inputs, hidden, 2, bidirectional=bidirectional, dtype=dtype)
    x = batch_of(sizes, dtype)
    with fastrnn.backend(backend):
        wanted = gradients(layer, x)
        for n in (1, 3, 10, 1000):
            assert_same_bits(gradients(layer, x, checkpoint=n), wanted)


@every_backend
@every_cell
@pytest.mark.parametrize("reset_to", ["zero", "initial"])
def test_ragged_batches_too(backend, cell, reset_to):
    sizes = (40, 19, 5, 17)
    layer = layer_of(cell, 5, 17, bidirectional=True)
    rng = np.random.default_rng(2)
    rows = {
        "lengths": rng.integers(0, 41, 19),
        "mask": rng.random((40, 19)) < 0.7,
        "reset": rng.random((40, 19)) < 0.1,
        "reset_to": reset_to,
    }
    x = batch_of(sizes)
    with fastrnn.backend(backend):
        wanted = gradients(layer, x, rows)
        ordered = rows | {"lengths": np.sort(rows["lengths"])[::-1]}
        wanted_in_order = gradients(layer, x, ordered)
        for n in (1, 4, 16):
            assert_same_bits(gradients(layer, x, rows, n), wanted)
            assert_same_bits(gradients(layer, x, ordered, n), wanted_in_order)


@every_backend
@every_cell
@pytest.mark.parametrize("embedded", [False, True], ids=["one-hot", "embedding"])
def test_ids_too(backend, cell, embedded):
    layer = layer_of(cell, 6, 17, bidirectional=True)
    ids = np.random.default_rng(2).integers(0, 6, (40, 9))
    embedding = np.random.default_rng(4).standard_normal((6, 6)).astype("float32")
    options = {"embedding": embedding} if embedded else {"one_hot": True}
    with fastrnn.backend(backend):
        wanted = gradients(layer, ids, **options)
        assert_same_bits(gradients(layer, ids, checkpoint=7, **options), wanted)


@pytest.mark.usefixtures("core")
@every_cell
@pytest.mark.parametrize("sizes", [(30, 37, 24, 40), (40, 6, 100, 96)], ids=str)
def test_threads_never_show(cell, sizes):
    layer = layer_of(cell, sizes[2], sizes[3], bidirectional=True)
    x = batch_of(sizes)
    with fastrnn.threads(1):
        wanted = gradients(layer, x, checkpoint=8)
    for n in (2, 3, 8):
        with fastrnn.threads(n):
            assert_same_bits(gradients(layer, x, checkpoint=8), wanted)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("cell", ["lstm", "gru_after", "gru_before"])
def test_the_tape_of_a_thousand_steps_is_a_fifth_at_most(cell):
    index, dtype = CELLS[cell].index, np.dtype("float32")
    sizes = [runtime.core.Sizes(index, dtype, 1000, 16, 64, 64, checkpoint=n) for n in (0, 32)]
    weights = layer_of(cell, 64, 64)._kernel_weights[0]
    for size, n in zip(sizes, (0, 32), strict=True):
        assert size.packed == sizes[0].packed
        assert size.tape == runtime.core.tape_size(weights, 1000, 16, n)
    full, little = (size.tape for size in sizes)
    workspace = sizes[1].backward - sizes[0].backward  # all calls use the same one
    assert little + workspace <= 0.2 * full


def test_a_checkpoint_is_a_number_of_steps():
    layer, x = layer_of("lstm", 2, 3), problem("lstm", 4, 3, 2, 3, dtype="float32").x
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, ValueError)):
        with pytest.raises(error, match="checkpoint must be an integer"):
            layer.forward(x, checkpoint=value)
