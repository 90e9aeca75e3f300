"""The first values of parameters."""

import numpy as np
import pytest
from decorators import every_cell, every_dtype
from numpy.testing import assert_allclose
from problems import assert_same_bits, layer_of

from fastrnn._layer import initializers

pytestmark = pytest.mark.any_isa

I, H = 6, 8  # noqa: E741 - as in all the equations


@every_cell
@every_dtype
def test_like_pytorchs_they_are_one_uniform_draw_in_the_order_of_flat(cell, dtype):
    flat = layer_of(cell, I, H, 2, bidirectional=True, dtype=dtype, rng=3).flat
    wanted = np.random.default_rng(3).uniform(-(H**-0.5), H**-0.5, flat.size)
    assert_same_bits(flat, wanted.astype(dtype))


def assert_glorot(array):
    bound = np.sqrt(6 / (array.shape[1] + H))
    assert 0.9 * bound < np.abs(array).max() <= bound * (1 + 1e-7)
    assert abs(array.mean()) < 0.2 * bound


def assert_orthogonal(array):
    for gate in array.astype(float).reshape(-1, H, array.shape[1]):
        gate = gate.T if len(gate) < len(gate.T) else gate  # the rows of a wide matrix
        assert_allclose(gate.T @ gate, np.eye(len(gate.T)), atol=1e-6)


INITS = {
    "glorot": (assert_glorot, assert_glorot),
    "orthogonal": (assert_orthogonal, assert_orthogonal),
    "glorot_orthogonal": (assert_glorot, assert_orthogonal),
}
every_init = pytest.mark.parametrize("init", initializers.INITS)


@every_cell
@every_dtype
@pytest.mark.parametrize("init", INITS)
def test_the_weights_of_each_gate_begin_as_the_name_says(init, cell, dtype):
    layer = layer_of(cell, I, H, 2, bidirectional=True, dtype=dtype, init=init)
    of_ih, of_hh = INITS[init]
    for name, array in layer.params.items():
        if name.startswith("bias"):
            assert not array.any()
        elif name.startswith("weight_hh"):
            of_hh(array)
        else:
            of_ih(array)


def test_rotations_are_drawn_without_a_preferred_sign():
    layer = layer_of("lstm", 1, 2, 100, init="glorot_orthogonal", dtype="float64")
    gates = np.concatenate([a for name, a in layer.params.items() if "hh" in name and a.ndim > 1])
    assert np.abs((gates > 0).mean(0) - 0.5).max() < 0.07


@every_cell
@every_init
def test_the_same_rng_begins_the_same(cell, init):
    def flat(seed):
        return layer_of(cell, I, H, init=init, rng=seed).flat

    assert_same_bits(flat(1), flat(1))
    assert (flat(1) != flat(2)).any()


@every_init
def test_a_forget_bias_is_added_to_one_bias_of_its_gate(init):
    plain, layer = (
        layer_of("lstm", I, H, 2, init=init, forget_bias=b, dtype="float64") for b in (0.0, 1.5)
    )
    for name in plain.params:
        difference = layer.params[name] - plain.params[name]
        if name.startswith("bias_ih"):
            assert_allclose(difference[H : 2 * H], 1.5)
            difference[H : 2 * H] = 0
        assert not difference.any()


@every_cell
@every_dtype
@pytest.mark.parametrize("inputs", [3, 40])
def test_as_in_keras_the_gates_of_a_matrix_begin_together(cell, dtype, inputs):
    """glorot_uniform for the kernel (I, G*H), orthogonal for the recurrent one (H, G*H), biases."""
    layer = layer_of(cell, inputs, H, 2, bidirectional=True, dtype=dtype, init="keras")
    for name, array in layer.params.items():
        if name.startswith("weight_ih"):
            limit = np.sqrt(6 / sum(array.T.shape))
            assert 0.9 * limit < np.abs(array).max() <= limit * (1 + 1e-7)
            assert abs(array.std() - limit / np.sqrt(3)) < 0.15 * limit
        elif name.startswith("weight_hh"):
            kernel = array.T.astype(float)
            assert_allclose(kernel @ kernel.T, np.eye(H), atol=1e-6)
        else:
            forget = np.zeros_like(array)
            if cell == "lstm" and name.startswith("bias_ih"):
                forget[H : 2 * H] = 1  # gates i f g o: unit_forget_bias
            assert_same_bits(array, forget)


def test_a_forget_bias_given_takes_the_place_of_keras_own():
    for given, wanted in ((None, 1), (0.0, 0), (2.5, 2.5)):
        params = layer_of("lstm", I, H, init="keras", forget_bias=given).params
        assert_same_bits(params["bias_ih_l0"], np.repeat(np.array([0, wanted, 0, 0], "f4"), H))
    for options in ({"coupled": True}, {"bias": False}):
        params = layer_of("lstm", I, H, init="keras", **options).params
        assert not any(array.any() for name, array in params.items() if "bias" in name)


@every_init
def test_what_options_add_begins_neutral_but_for_peepholes(init):
    params = layer_of("lstm", I, H, init=init, layer_norm=True, peephole=True).params
    for name in ("weight_ln_ih_l0", "weight_ln_hh_l0", "weight_ln_c_l0"):
        assert (params[name] == 1).all()
    assert not params["bias_ln_c_l0"].any()
    assert 0 < np.abs(params["weight_peephole_l0"]).max() <= H**-0.5


@every_init
def test_no_inputs_are_no_trouble(init):
    layer = layer_of("lstm", 0, H, init=init)
    assert layer.params["weight_ih_l0"].shape == (4 * H, 0)
