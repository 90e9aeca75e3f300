"""Parameters: names, shapes and views, first values, copies, load."""

import copy
import pickle

import numpy as np
import pytest
from decorators import every_cell, every_dtype
from nets import B, H, I, T, every_net
from problems import assert_same_bits, layer_of, parameter_name, weight_names, weight_shapes

import fastrnn
from fastrnn._cells.registry import CELLS

pytestmark = pytest.mark.any_isa


@every_cell
def test_parameters_have_the_names_and_shapes_of_pytorch(cell):
    layer = layer_of(cell, I, H, 2, bidirectional=True)
    assert {name: array.shape for name, array in layer.params.items()} == {
        parameter_name(weight, end): shape
        for end, inputs in (("_l0", I), ("_l0_reverse", I), ("_l1", 2 * H), ("_l1_reverse", 2 * H))
        for weight, shape in weight_shapes(CELLS[cell], inputs, H).items()
    }
    matrices = [weight for weight in weight_names(CELLS[cell]) if weight.startswith("w_")]
    wanted = [parameter_name(weight, end) for end in ("_l0", "_l1") for weight in matrices]
    assert list(layer_of(cell, I, H, 2, bias=False).params) == wanted


def test_the_parameters_of_an_lstm_by_name():
    assert {name: array.shape for name, array in fastrnn.LSTM(3, 5).params.items()} == {
        "weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,),
    }  # fmt: skip


def assert_views_of_flat(layer):
    """The parameters are views of flat, in order and without a gap."""
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
    rebuilt = eval(repr(layer), {"fastrnn": fastrnn})
    assert repr(rebuilt) == repr(layer)
    assert type(rebuilt) is type(layer)
    assert [p.shape for p in rebuilt.params.values()] == [p.shape for p in layer.params.values()]
    assert (rebuilt.batch_first, rebuilt.dtype) == (layer.batch_first, layer.dtype)


# ---- assignment ----------------------------------------------------------------------------------


def gradients_of(layer):
    """The gradients of a tape, which have `params` too."""
    y, _, tape = layer.forward(np.ones((T, B, I), layer.dtype))
    return tape.backward(np.ones_like(y))


OWNERS = {
    "layer": lambda: layer_of("lstm", I, H, 2),
    "gradients": lambda: gradients_of(layer_of("lstm", I, H, 2)),
    "Dense": lambda: fastrnn.train.Dense(5, 3, rng=0),
    "Embedding": lambda: fastrnn.train.Embedding(5, 3, rng=0),
}
every_owner = pytest.mark.parametrize("make", OWNERS.values(), ids=OWNERS)


@every_owner
def test_what_is_assigned_to_flat_is_copied_into_the_buffer(make):
    owner = make()
    flat, step = owner.flat, np.arange(owner.flat.size, dtype="f4")
    wanted = flat - step
    owner.flat = owner.flat - step
    assert owner.flat is flat
    assert_same_bits(flat, wanted)
    owner.flat -= step
    assert owner.flat is flat
    assert_same_bits(flat, wanted - step)
    owner.flat = owner.flat[::-1]
    assert_same_bits(flat, (wanted - step)[::-1])
    assert_views_of_flat(owner)


@every_owner
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda flat: flat[1:], ValueError, r"flat must be \(\d+,\), got"),
        (lambda flat: flat[None], ValueError, r"flat must be \(\d+,\), got"),
        (lambda flat: flat.astype("f8"), TypeError, "flat must be float32 .* got float64"),
        (lambda flat: 0.0, ValueError, r"flat must be .*to fill all of it use flat\[...\] = 0.0"),
        (lambda flat: None, TypeError, "flat must be an array"),
        (lambda flat: np.ma.masked_array(flat), TypeError, "masked array"),
    ],
)
def test_a_flat_that_does_not_fit_is_refused(make, value, error, message):
    owner = make()
    before = owner.flat.copy()
    with pytest.raises(error, match=message):
        owner.flat = value(owner.flat)
    assert_same_bits(owner.flat, before)


@every_owner
def test_what_is_assigned_to_a_name_is_copied_into_its_view(make):
    owner = make()
    for name, view in owner.params.items():
        value = np.full_like(view, 3)
        owner.params[name] = value
        assert owner.params[name] is view
        value[...] = 4
        assert (view == 3).all()
        owner.params[name] -= 1
        assert owner.params[name] is view and (view == 2).all()
    assert (owner.flat == 2).all()


@every_owner
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda a: a.astype("f8"), TypeError, "weight.* must be float32 .*got float64"),
        (lambda a: a.T, ValueError, "weight.* must be .*transposed"),
        (lambda a: a[0], ValueError, "weight.* must be"),
        (lambda a: 0, ValueError, r"to fill all of it use params\['weight\w*'\]\[...\] = 0"),
    ],
)
def test_what_does_not_fit_a_name_is_refused(make, value, error, message):
    owner = make()
    name, before = next(iter(owner.params)), owner.flat.copy()
    with pytest.raises(error, match=message):
        owner.params[name] = value(owner.params[name])
    assert_same_bits(owner.flat, before)


@every_cell
def test_calls_training_streams_and_copies_use_what_was_assigned(cell):
    layer, other = (layer_of(cell, I, H, 2, rng=seed) for seed in (0, 1))
    x = np.ones((T, B, I), "float32")
    for name, value in other.params.items():
        layer.params[name] = value
    wanted = other(x)[0]
    answers = [layer(x)[0], layer.forward(x)[0], copy.deepcopy(layer)(x)[0]]
    assert_same_bits(answers, [wanted] * 3)
    assert_same_bits(layer.stream(B).step(x[0]), other.stream(B).step(x[0]))


@every_owner
def test_names_can_be_neither_added_nor_removed(make):
    params = make().params
    names, name = list(params), next(iter(params))
    removals = [
        lambda: params.pop(name), lambda: params.pop("other", None), params.popitem, params.clear,
        lambda: params.__delitem__(name),
    ]  # fmt: skip
    for remove in removals:
        with pytest.raises(TypeError, match="parameters cannot be removed"):
            remove()
    value = params[name].copy()
    additions = [
        lambda: params.update(other=value), lambda: params.setdefault("other", value),
        lambda: params.__setitem__("other", value), lambda: params.__ior__({"other": value}),
    ]  # fmt: skip
    for add in additions:
        with pytest.raises(KeyError, match="no parameter is called 'other'.*weight"):
            add()
    assert list(params) == names
    assert params.setdefault(name) is params[name]


def test_an_update_is_of_some_parameters_and_of_all_of_these_or_none():
    layer = layer_of("lstm", I, H, 2)
    before = layer.flat.copy()
    ones = {n: np.ones_like(layer.params[n]) for n in ("bias_ih_l0", "weight_hh_l1")}
    with pytest.raises(ValueError, match="bias_hh_l0 must be"):
        layer.params.update(ones, bias_hh_l0=np.ones(3, "f4"))
    assert_same_bits(layer.flat, before)
    layer.params |= ones
    layer.params.update(bias_hh_l0=ones["bias_ih_l0"])
    assert sum(int((a == 1).all()) for a in layer.params.values()) == 3


def test_params_are_a_mapping_like_a_dict():
    params = layer_of("gru_after", I, H).params
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert list(params) == list(params.keys()) == names and len(params) == 4
    assert list(reversed(params)) == names[::-1]
    assert "weight_ih_l0" in params and "w" not in params and params.get("w") is None
    with pytest.raises(KeyError, match="no parameter is called 'w'"):
        params["w"]
    assert params == params and params.keys() == dict(params).keys()
    for views in (dict(params), {**params}, params.copy(), copy.copy(params), params | {}):
        assert type(views) is dict
        assert all(a is b for a, b in zip(views.values(), params.values(), strict=True))
    assert list(params | {"w": 1}) == [*names, "w"] and list({"w": 1} | params) == ["w", *names]
    for arrays in (copy.deepcopy(params), pickle.loads(pickle.dumps(params))):
        assert type(arrays) is dict
        assert_same_bits(arrays, params)
        assert not any(np.shares_memory(a, params[n]) for n, a in arrays.items())
    assert repr(params).startswith("Parameters of float32: {'weight_ih_l0': (15, 2), ")


def test_what_is_assigned_to_params_is_loaded():
    one, other = layer_of("lstm", I, H, rng=1), layer_of("lstm", I, H, rng=2)
    views = one.params
    one.params = other.params
    assert one.params is views
    assert_same_bits(one.flat, other.flat)
    one.params = {name: 2 * array for name, array in views.items()}
    assert_same_bits(one.flat, 2 * other.flat)
    with pytest.raises(ValueError, match="params must have the names of LSTM.params"):
        one.params = {"weight_ih_l0": views["weight_ih_l0"]}


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda owner: pickle.loads(pickle.dumps(owner))],
    ids=["copy", "deepcopy", "pickle"],
)  # fmt: skip
@every_owner
def test_views_of_a_copy_are_into_its_own_flat(make, duplicate):
    other = duplicate(make())
    for name in other.params:
        other.params[name] = np.full_like(other.params[name], 5)
    assert (other.flat == 5).all()


FIXED = {
    "input_size": 3, "hidden_size": 9, "num_layers": 1, "bias": False, "batch_first": True,
    "bidirectional": True, "merge": "sum", "dtype": "float64", "init": "glorot",
    "num_directions": 2, "reverse": True, "forget_bias": 1.0, "proj_size": 2, "options": None,
    "zoneout": 0.1, "clip": 1.0, "peephole": True, "recurrent_activation": "hard_sigmoid",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), FIXED.items())
def test_what_a_layer_was_made_as_cannot_be_changed(name, value):
    layer, missing = layer_of("lstm", I, H, 2), object()
    before = getattr(layer, name, missing)
    with pytest.raises(AttributeError, match=f"{name} cannot be changed .*make another LSTM"):
        setattr(layer, name, value)
    assert getattr(layer, name, missing) == before


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (lambda: fastrnn.GRU(I, H), "reset_after", "reset_after cannot be changed"),
        (lambda: fastrnn.RNN(I, H), "nonlinearity", "nonlinearity cannot be changed"),
        (lambda: fastrnn.RNN(I, H), "weight_hh_l0", r"use params\['weight_hh_l0'\] = value"),
        (OWNERS["Dense"], "outputs", "outputs cannot be changed after Dense was made"),
        (OWNERS["Dense"], "bias", r"use params\['bias'\] = value"),
        (OWNERS["Embedding"], "ids", "ids cannot be changed after Embedding was made"),
        (lambda: fastrnn.GRU(I, H).stream(), "batch_size", "batch_size"),
    ],
)
def test_an_assignment_that_would_do_nothing_is_refused(owner, name, message):
    with pytest.raises(AttributeError, match=message):
        setattr(owner(), name, 2)


def test_other_attributes_are_the_users():
    layer = fastrnn.GRU(I, H)
    layer.name = "encoder"
    layer.name = "decoder"
    assert copy.deepcopy(layer).name == "decoder"


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
        (lambda p: p.update(bias_hh_l1=np.zeros(4 * H, "f2")), TypeError, "got dtype float16"),
        (lambda p: p.update(bias_hh_l1=np.ma.zeros(4 * H, "f4")), TypeError, "masked array"),
    ],
)
def test_what_does_not_fit_is_not_loaded(change, error, message):
    layer = layer_of("lstm", I, H, 2)
    params, before = dict(layer_of("lstm", I, H, 2, rng=1).params), layer.flat.copy()
    change(params)
    with pytest.raises(error, match=message):
        layer.load(params)
    assert_same_bits(layer.flat, before)


def test_names_that_are_all_unknown_are_said_to_be_those_of_another_system():
    flax = {name: {"kernel": np.zeros((H, H), "f4")} for name in ("ii", "if", "hi", "hf")}
    with pytest.raises(ValueError, match="unknown are hf, .*: names of another system"):
        layer_of("lstm", I, H).load(flax)


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ("gru_after", "lstm", "these are 4 gates, an LSTM's; here are 3 gates, a GRU's"),
        ("lstm", "gru_before", "these are 3 gates, a GRU's or a coupled LSTM's; here are 4"),
        ("lstm", "rnn_tanh", "these are 1 gate, an RNN's; here are 4 gates, an LSTM's"),
        ("min_gru", "min_lstm", "these are 3 gates, a MinLSTM's; here are 2 gates, a MinGRU's"),
    ],
)
def test_the_parameters_of_another_cell_are_refused_by_its_name(own, other, message):
    layer, params = layer_of(own, I, H), layer_of(other, I, H).params
    before = layer.flat.copy()
    with pytest.raises(ValueError, match=message):
        layer.load(params)
    with pytest.raises(ValueError, match=message):
        layer.params = params
    assert_same_bits(layer.flat, before)


@pytest.mark.parametrize("size", [1, 3, 4, 8, 12])
def test_the_parameters_of_another_size_are_not_taken_for_another_cell(size):
    with pytest.raises(ValueError, match=r"weight_ih_l0 must be .*, got \(\d+, 2\)$"):
        layer_of("gru_after", 2, 6).load(layer_of("gru_after", 2, size).params)


def test_directions_may_be_swapped_by_a_load_of_their_own_views():
    layer = layer_of("lstm", I, H, bidirectional=True)
    before = copy.deepcopy(layer.params)

    def other(name):
        return name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse"

    layer.load({name: layer.params[other(name)] for name in before})
    assert_same_bits(layer.params, {name: before[other(name)] for name in before})
    layer.params.update({name: layer.params[other(name)] for name in before})
    assert_same_bits(layer.params, before)
    layer.params["weight_hh_l0"] = layer.params["weight_hh_l0"][::-1]
    assert_same_bits(layer.params["weight_hh_l0"], before["weight_hh_l0"][::-1])


class Module:
    """An object with a state_dict of tensors, which have the methods of PyTorch's."""

    def __init__(self, arrays):
        self.arrays = arrays

    def state_dict(self):
        return self.arrays


def test_whatever_has_a_state_dict_is_loaded():
    one, other = layer_of("lstm", I, H, rng=1), layer_of("lstm", I, H, rng=2)
    one.load(Module(dict(other.params)))
    assert_same_bits(one.flat, other.flat)
    dense = fastrnn.train.Dense(5, 3)
    dense.load(Module({"weight": np.ones((3, 5), "f4"), "bias": np.zeros(3, "f4")}))
    assert dense.flat.sum() == 15


def test_a_prefix_takes_the_names_that_begin_with_it_alone():
    layer, other = layer_of("gru_after", I, H, rng=1), layer_of("gru_after", I, H, rng=2)
    whole = {"encoder." + name: array for name, array in other.params.items()}
    whole |= {"head.bias": np.zeros(3)}
    layer.load(whole, prefix="encoder.")
    assert_same_bits(layer.flat, other.flat)
    for prefix, message in [
        ("", "unknown are encoder.*: use prefix='encoder.'"),
        ("encoder", "behind 'encoder': missing are weight_ih_l0.*use prefix='encoder.'"),
        ("decoder.", "behind 'decoder.': missing are weight_ih_l0.*unknown are none"),
        ("head.", "missing are weight_ih_l0, .*unknown are bias: compare the arguments"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer.load(whole, prefix=prefix)
    with pytest.raises(TypeError, match="prefix must be a text, got NoneType"):
        layer.load(whole, prefix=None)
    with pytest.raises(TypeError, match="params must be a mapping .* got GRU: .*layer.params"):
        layer.load(other)
