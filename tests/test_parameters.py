"""Parameters: names, shapes and views, how they begin, copies, load."""

import copy
import pickle

import numpy as np
import pytest
from nets import B, H, I, T, every_net
from problems import DTYPES, assert_same_bits, layer_of

import fastrnn
from fastrnn.cells import CELLS

pytestmark = pytest.mark.any_isa

every_cell = pytest.mark.parametrize("cell", CELLS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_cell
def test_parameters_have_the_names_and_shapes_of_pytorch(cell):
    g = CELLS[cell].gates
    layer = layer_of(cell, I, H, 2, bidirectional=True)
    assert {name: array.shape for name, array in layer.params.items()} == {
        "weight_ih_l0": (g * H, I),
        "weight_hh_l0": (g * H, H),
        "bias_ih_l0": (g * H,),
        "bias_hh_l0": (g * H,),
        "weight_ih_l0_reverse": (g * H, I),
        "weight_hh_l0_reverse": (g * H, H),
        "bias_ih_l0_reverse": (g * H,),
        "bias_hh_l0_reverse": (g * H,),
        "weight_ih_l1": (g * H, 2 * H),
        "weight_hh_l1": (g * H, H),
        "bias_ih_l1": (g * H,),
        "bias_hh_l1": (g * H,),
        "weight_ih_l1_reverse": (g * H, 2 * H),
        "weight_hh_l1_reverse": (g * H, H),
        "bias_ih_l1_reverse": (g * H,),
        "bias_hh_l1_reverse": (g * H,),
    }
    names = layer_of(cell, I, H, 2, bias=False).params.keys()
    assert list(names) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]


def assert_views_of_flat(layer):
    """In order, without a gap: what is written into one is read in the other."""
    before = layer.flat.copy()
    layer.flat[...] = np.arange(layer.flat.size)
    assert_same_bits(np.concatenate([p.reshape(-1) for p in layer.params.values()]), layer.flat)
    for name in layer.params:
        layer.params[name][...] = 7
    assert (layer.flat == 7).all()
    layer.flat[...] = before


@every_cell
@every_dtype
@every_net
def test_parameters_are_views_into_flat(cell, dtype, net):
    layer = layer_of(cell, I, H, dtype=dtype, **net)
    assert layer.flat.ndim == 1 and layer.flat.dtype == dtype
    assert_views_of_flat(layer)


@every_cell
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)  # fmt: skip
def test_a_copy_of_a_layer_is_a_layer_of_its_own(cell, duplicate):
    layer = layer_of(cell, I, H, 2, bidirectional=True)
    other, x = duplicate(layer), np.ones((T, B, I), "float32")
    assert_same_bits(other(x), layer(x))
    assert not np.shares_memory(other.flat, layer.flat)
    assert_views_of_flat(other)


@every_cell
def test_parameters_begin_uniform_within_one_over_the_root_of_the_units(cell):
    flat = layer_of(cell, 30, 16, 2).flat
    assert np.abs(flat).max() <= 0.25
    assert np.histogram(flat, 8, (-0.25, 0.25))[0].min() > flat.size / 8 * 0.7
    assert abs(flat.mean()) < 0.02


@every_cell
@every_dtype
def test_the_same_rng_gives_the_same_parameters(cell, dtype):
    def flat(rng):
        return layer_of(cell, I, H, 2, dtype=dtype, rng=rng).flat

    assert_same_bits(flat(7), flat(7))
    assert_same_bits(flat(np.random.default_rng(7)), flat(7))
    for other in (8, None):
        assert (flat(other) != flat(7)).any()
    assert (flat(None) != flat(None)).any()
    generator = np.random.default_rng(7)
    assert (flat(generator) != flat(generator)).any()


@every_cell
def test_the_generator_of_numpy_is_left_alone(cell):
    before = np.random.get_state()[1].copy()
    layer_of(cell, I, H, rng=None)
    assert_same_bits(np.random.get_state()[1], before)


def test_repr_is_what_makes_the_layer():
    assert repr(fastrnn.LSTM(3, 5)) == 'fastrnn.LSTM(3, 5, dtype="float32")'
    assert repr(fastrnn.GRU(3, 5)) == 'fastrnn.GRU(3, 5, dtype="float32")'
    assert repr(fastrnn.RNN(3, 5)) == 'fastrnn.RNN(3, 5, nonlinearity="tanh", dtype="float32")'


@every_cell
@every_dtype
@every_net
def test_repr_evaluates_to_the_same_layer(cell, dtype, net):
    layer = layer_of(cell, I, H, dtype=dtype, **net)
    again = eval(repr(layer), {"fastrnn": fastrnn})
    assert repr(again) == repr(layer)
    assert type(again) is type(layer)
    assert [p.shape for p in again.params.values()] == [p.shape for p in layer.params.values()]
    assert (again.batch_first, again.dtype) == (layer.batch_first, layer.dtype)


# ---- load ----------------------------------------------------------------------------------------


@every_cell
@every_dtype
@every_net
def test_a_layer_loads_what_another_has(cell, dtype, net):
    one, other = (layer_of(cell, I, H, dtype=dtype, **{**net, "rng": seed}) for seed in (1, 2))
    other.load(one.params)
    assert_same_bits(other.flat, one.flat)
    assert_views_of_flat(other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: p.pop("bias_hh_l1"), ValueError, "missing are bias_hh_l1; unknown are none"),
        (lambda p: p.update(w=p["bias_hh_l1"]), ValueError, "missing are none; unknown are w"),
        (lambda p: p.update(bias_hh_l1=np.zeros(3, "f4")), ValueError, "bias_hh_l1 must be"),
        (lambda p: p.update(bias_hh_l1=np.zeros(4 * H)), TypeError, "bias_hh_l1 must be float32"),
        (lambda p: p.update(bias_hh_l1="b"), TypeError, "bias_hh_l1 must be an array"),
        (lambda p: p.update(weight_ih_l0=p["weight_ih_l0"].T), ValueError, "transposed"),
    ],
)
def test_what_does_not_fit_is_not_loaded(change, error, message):
    layer = layer_of("lstm", I, H, 2)
    params, before = dict(layer_of("lstm", I, H, 2, rng=1).params), layer.flat.copy()
    change(params)
    with pytest.raises(error, match=message):
        layer.load(params)
    assert_same_bits(layer.flat, before)
