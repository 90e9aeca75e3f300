"""fastrnn.torch: frozen modules, whose weights are packed once."""

import pickle

import pytest

torch = pytest.importorskip("torch")

from torch_modules import (  # noqa: E402
    CELLS,
    NETS,
    B,
    H,
    I,
    T,
    assert_equal,
    assert_same_as_new,
    draw,
    every_kind,
    every_net,
    leaves,
    leaves_of_arrays,
    own,
    pair,
    state_for,
    x_for,
)

import fastrnn  # noqa: E402
import fastrnn.torch  # noqa: E402
from fastrnn.torch import GRU  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]


@every_kind
@every_net
def test_frozen_modules_give_the_same_bits(kind, net):
    _, module = pair(kind, torch.float32, **NETS[net])
    module.eval()
    x, state = x_for(module, dtype=torch.float32), state_for(module)
    lengths = {"lengths": [3, 6, 0, 4]}
    wanted = [leaves(module(x)), leaves(module(x, state)), leaves(module(x, **lengths))]
    assert module.freeze() is module
    assert_equal(leaves((module(x), module(x, state), module(x, **lengths))), leaves(wanted))
    with pytest.raises(RuntimeError, match=r"frozen module .* call thaw"):
        module(own(x))
    with torch.no_grad():
        assert_equal(leaves(module(own(x))), wanted[0])
    assert module.thaw()(own(x))[0].requires_grad


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_frozen_cells_give_the_same_bits(kind):
    _, cell = pair(kind, torch.float32, kinds=CELLS)
    x = draw(B, I, dtype=torch.float32)
    wanted = leaves(cell(x))
    assert_equal(leaves(cell.freeze()(x)), wanted)


@pytest.mark.parametrize("precision", ["bfloat16-weights", "bfloat16", "int8"])
def test_precisions_are_those_of_frozen_layers(precision):
    _, module = pair("lstm", torch.float32)
    layer = fastrnn.LSTM(I, H, rng=0)
    layer.load({name: p.detach().numpy() for name, p in module.named_parameters()})
    x = draw(T, B, I, dtype=torch.float32)
    wanted = layer.freeze(precision)(x.numpy())
    assert_equal(leaves(module.freeze(precision)(x)), leaves_of_arrays(wanted))
    copied = pickle.loads(pickle.dumps(module))
    assert_equal(leaves(copied(x)), leaves_of_arrays(wanted))
    with pytest.raises(TypeError, match="precision"):
        pair("lstm")[1].freeze(precision)
    with pytest.raises(ValueError, match="precision"):
        module.freeze("int4")


def test_autocast_of_a_frozen_module_computes_in_bfloat16():
    _, module = pair("gru", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    wanted = module.freeze("bfloat16")(x)[0]
    module.freeze()
    with torch.autocast("cpu", torch.bfloat16):
        got = module(x)[0]
    assert torch.equal(got, wanted.bfloat16())


def test_autocast_to_another_dtype_and_of_float64_computes_as_without():
    _, module = pair("gru", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    wanted = module.freeze()(x)[0]
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(module(x)[0], wanted.half())
    module.double().freeze()
    wanted = module(x.double())[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x.double())[0], wanted)


def test_a_frozen_module_takes_masks_and_resets():
    _, module = pair("lstm", torch.float32)
    x, state, flags = x_for(module, dtype=torch.float32), state_for(module), torch.arange(T * B)
    rows = {"mask": flags.reshape(T, B) % 3 > 0, "reset": flags.reshape(T, B) % 5 == 1}
    rows |= {"lengths": torch.tensor([3, 6, 0, 4]), "reset_to": "initial"}
    wanted = leaves(module(x, state, **rows))
    assert_equal(leaves(module.freeze()(x, state, **rows)), wanted)


def test_a_frozen_module_follows_batch_first():
    _, module = pair("gru", torch.float32)
    x = draw(B, T, I, dtype=torch.float32)
    module.freeze()(x)
    module.batch_first = True
    y, h = module(x)
    assert h.shape == (1, B, H)
    assert_equal([y, h], leaves(module.thaw()(x)))


def test_a_pickle_has_no_packed_weights():
    module, x = GRU(I, 64), draw(T, B, I, dtype=torch.float32)
    size = len(pickle.dumps(module))
    module.freeze()(x)
    assert len(pickle.dumps(module)) < 1.1 * size


def test_another_parameter_in_the_same_memory_is_packed_anew():
    """Torch may have counted as many changes of it as of the one before."""
    _, module = pair("gru", torch.float32)
    x, old = draw(T, B, I, dtype=torch.float32), module.weight_hh_l0
    module.freeze()(x)
    new = torch.nn.Parameter(old.data)
    with torch.no_grad():
        for _ in range(old._version - new._version):
            new.mul_(0.5)
    assert new._version == old._version and new.data_ptr() == old.data_ptr()
    module.weight_hh_l0 = new
    assert_same_as_new(module, "gru", x)


def test_parameters_of_inference_mode_are_packed_at_each_call():
    with torch.inference_mode():
        module = GRU(I, H).freeze()
        x = draw(T, B, I, dtype=torch.float32)
        before = module(x)[0]
        module.weight_hh_l0.zero_()
        assert not torch.equal(module(x)[0], before)


def test_a_frozen_module_sees_changes_that_torch_counts():
    _, module = pair("lstm", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    module.freeze()

    def in_place():
        with torch.no_grad():
            module.weight_hh_l0.mul_(1.5)

    def replaced():
        module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() * 2)

    for change in in_place, replaced, module.share_memory:
        change()
        assert_same_as_new(module, "lstm", x)
    module.double()
    assert_same_as_new(module, "lstm", x.double())
    with torch.no_grad():
        module.weight_hh_l0.data.mul_(2)
    module.freeze()  # this packs anew, whatever torch has counted
    assert_same_as_new(module, "lstm", x.double())
    held = module.freeze()._frozen[None][0]
    module(x.double())
    assert module._frozen[None][0] is held  # nothing is packed without a change


def test_training_mode_and_loading_thaw():
    _, module = pair("gru", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    for thaw in (
        module.train,
        lambda: module.load_state_dict(GRU(I, H).state_dict()),
        lambda: torch.nn.Sequential(module).train(),
    ):
        module.freeze()
        assert not module.training and not module(x)[0].requires_grad
        module.eval()
        assert not module(x)[0].requires_grad
        thaw()
        assert module(x)[0].requires_grad
