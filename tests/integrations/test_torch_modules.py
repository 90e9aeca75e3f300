"""fastrnn.torch: the numbers of torch.nn's modules, in calls and training, and its errors."""

import doctest
import pathlib
import re
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_modules import (  # noqa: E402
    CELLS,
    KINDS,
    NETS,
    B,
    H,
    I,
    T,
    assert_close,
    assert_equal,
    draw,
    every_dtype,
    every_kind,
    every_net,
    gradients,
    leaves,
    leaves_of_arrays,
    own,
    pair,
    state_for,
    x_for,
)

import fastrnn.torch  # noqa: E402
from fastrnn.torch import GRU, LSTM, RNN  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

# ---- torch.nn's numbers --------------------------------------------------------------------------


@every_kind
@every_net
def test_constructors_parameters_and_words_are_torchs(kind, net):
    theirs, ours = pair(kind, **NETS[net])
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert_equal(ours.parameters(), theirs.parameters())
    assert repr(ours) == repr(theirs)
    for theirs_of_pass, ours_of_pass in zip(theirs.all_weights, ours.all_weights, strict=True):
        assert_equal(ours_of_pass, theirs_of_pass)
    for name in "mode", "input_size", "hidden_size", "num_layers", "bias", "proj_size", "dropout":
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.flatten_parameters() is None


@every_kind
@every_net
@every_dtype
@pytest.mark.parametrize("with_state", [False, True])
def test_calls_and_gradients_are_torchs(kind, net, dtype, with_state):
    theirs, ours = pair(kind, dtype, **NETS[net])
    arguments = [x_for(ours, dtype=dtype)] + [state_for(ours)] * with_state
    assert_close(gradients(ours, *arguments), gradients(theirs, *arguments))


@every_kind
@every_net
def test_inference_is_torchs(kind, net):
    theirs, ours = pair(kind, **NETS[net])
    for module in theirs, ours:
        module.eval()
    x, state = x_for(ours), state_for(ours)
    with torch.no_grad():
        assert_close(leaves(ours(x, state)), leaves(theirs(x, state)))
    y = leaves(ours(x, state))[0]  # with gradients, but not training: nothing is dropped
    assert_close([y], [theirs(x, state)[0]])


@every_kind
@pytest.mark.parametrize("net", ["one layer", "a stack of both", "batch first"])
def test_a_single_sequence_is_torchs(kind, net):
    theirs, ours = pair(kind, **NETS[net])
    x, state = draw(T, I), state_for(ours)
    state = tuple(s[:, 0] for s in state) if isinstance(state, tuple) else state[:, 0]
    assert_close(gradients(ours, x, state), gradients(theirs, x, state))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("shape", [(B,), ()])
@every_dtype
def test_cells_are_torchs(kind, shape, dtype):
    theirs, ours = pair(kind, dtype, kinds=CELLS)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    x, h = draw(*shape, I, dtype=dtype), draw(*shape, H, dtype=dtype)
    state = (h, h + 1) if "LSTM" in type(ours).__name__ else h
    for arguments in [x], [x, state]:
        for module in theirs, ours:
            module.zero_grad()
        assert_close(gradients(ours, *arguments), gradients(theirs, *arguments))


@pytest.mark.parametrize("steps, batch", [(0, 3), (4, 0), (0, 0)])
def test_no_steps_and_no_rows(steps, batch):
    for kind in "lstm", "gru":
        _, ours = pair(kind)
        x = draw(steps, batch, I).requires_grad_()
        y, _ = ours(x)
        y.sum().backward()
        assert y.shape == (steps, batch, H) and x.grad.shape == x.shape


@every_kind
@every_net
@pytest.mark.parametrize("ordered", [True, False])
def test_packed_sequences_are_torchs(kind, net, ordered):
    theirs, ours = pair(kind, **{**NETS[net], "dropout": 0.0})
    lengths = torch.tensor([6, 4, 3, 1] if ordered else [3, 6, 1, 4])
    x, state = x_for(ours), state_for(ours)

    def run(module):
        given, first = own(x), own(state)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            given, lengths, module.batch_first, enforce_sorted=ordered
        )
        y, last = module(packed, first)
        results = leaves((y.data, last))
        sum((r * draw(*r.shape, seed=i)).sum() for i, r in enumerate(results)).backward()
        orders = [o for o in (y.batch_sizes, y.sorted_indices, y.unsorted_indices) if o is not None]
        return [*results, given.grad, *[s.grad for s in leaves(first)],
                *[p.grad for p in module.parameters()], *orders]  # fmt: skip

    assert_close(run(ours), run(theirs))


def flat_call(module):
    """A call as a function of x, the state and the parameters, with a tuple of tensors."""
    names = [name for name, _ in module.named_parameters()]

    def call(x, *others):
        states = 2 if module.mode == "LSTM" else 1
        state = others[:states] if states > 1 else others[0]
        named = dict(zip(names, others[states:], strict=True))
        return tuple(leaves(torch.func.functional_call(module, named, (x, state))))

    return call


@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "gru", "projected"])
def test_gradients_and_their_gradients_are_finite_differences(kind):
    _, ours = pair(kind, sizes=(2, 3))
    slots = 1
    x, h = draw(2, 2, 2), draw(slots, 2, ours.proj_size or 3)
    state = (h, draw(slots, 2, 3)) if ours.mode == "LSTM" else (h,)
    inputs = own((x, *state, *ours.parameters()))
    assert torch.autograd.gradcheck(flat_call(ours), inputs)
    assert torch.autograd.gradgradcheck(flat_call(ours), inputs)


@pytest.mark.parametrize("net", ["a stack of both", "dropout"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gradients_of_gradients_are_torchs(kind, net):
    def run(module):
        x = own(x_for(module))
        torch.manual_seed(2)
        y, _ = module(x)
        (dx,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        dx.square().sum().backward()
        return [dx, x.grad, *[p.grad for p in module.parameters()]]

    theirs, ours = pair(kind, **NETS[net])
    assert_close(run(ours), run(theirs))


# ---- what torch.nn has not -----------------------------------------------------------------------

OPTIONS = {
    "reset before": ("GRU", {"reset_after": False}),
    "clip": ("RNN", {"clip": 0.5}),
    "layer norm": ("GRU", {"layer_norm": True}),
    "peephole": ("LSTM", {"peephole": True, "cell_clip": 0.6}),
    "coupled": ("LSTM", {"coupled": True}),
    "projected": ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    "hard": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    "batch first": ("GRU", {"batch_first": True, "num_layers": 2}),
}
ROWS = {
    "all": {},
    "lengths": {"lengths": [3, 6, 0, 4]},
    "masks": {"mask": np.arange(T * B).reshape(T, B) % 3 > 0},
    "resets": {"reset": np.arange(T * B).reshape(T, B) % 5 == 0},
    "to the state": {
        "reset": np.arange(T * B).reshape(T, B) % 5 == 0,
        "reset_to": "initial",
        "lengths": [3, 6, 0, 4],
    },
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rows", ROWS)
def test_options_lengths_masks_and_resets_have_the_layers_bits(options, rows):
    name, given = OPTIONS[options]
    layer = getattr(fastrnn, name)(I, H, dtype="float64", rng=0, **given)
    module = getattr(fastrnn.torch, name)(I, H, dtype=torch.float64, **given)
    module.load_state_dict({n: torch.tensor(p) for n, p in layer.params.items()})
    rows = dict(ROWS[rows])
    if layer.batch_first:
        rows |= {n: rows[n].T for n in ("mask", "reset") if n in rows}
    x, state = own(x_for(module)), own(state_for(module))
    y, last = module(x, state, **{
        n: torch.tensor(v) if n != "reset_to" else v for n, v in rows.items()
    })  # fmt: skip
    arrays = [s.detach().numpy() for s in leaves(state)]
    wanted, final, tape = layer.forward(
        x.detach().numpy(), arrays[0] if len(arrays) == 1 else tuple(arrays), **rows
    )
    assert_equal(leaves((y, last)), leaves_of_arrays((wanted, final)))
    dy = draw(*y.shape, seed=5)
    y.backward(dy)
    grads = tape.backward(dy.numpy())
    assert_equal(
        [x.grad, *[s.grad for s in leaves(state)]], leaves_of_arrays((grads.x, grads.state))
    )
    assert_equal([p.grad for p in module.parameters()], leaves_of_arrays(grads.params.values()))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_gradients_of_gradients_with_rows(rows, kind):
    _, ours = pair(kind, sizes=(2, 3), bidirectional=True)
    rows = {
        "all": {},
        "lengths": {"lengths": [1, 3]},
        "masks": {"mask": [[True, False], [False, True], [True, True]]},
        "resets": {"reset": [[False, True], [True, False], [False, False]]},
        "to the state": {"reset": [[False, True], [True, False], [False, True]],
                         "reset_to": "initial", "lengths": [3, 2]},
    }[rows]  # fmt: skip
    rows = {n: np.array(v) if n != "reset_to" else v for n, v in rows.items()}

    def call(x, h):
        return tuple(leaves(ours(x, (h, h) if ours.mode == "LSTM" else h, **rows)))

    inputs = own((draw(3, 2, 2), draw(2, 2, 3)))
    loss = sum((r * draw(*r.shape, seed=i)).sum() for i, r in enumerate(call(*inputs)))
    by_kernels = torch.autograd.grad(loss, inputs, retain_graph=True)
    assert_close(torch.autograd.grad(loss, inputs, create_graph=True), by_kernels)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"recurrent_dropout": 0.4}])
def test_draws_follow_torchs_generator(options):
    module, x = LSTM(I, H, **options), draw(T, B, I, dtype=torch.float32)

    def run(seed):
        torch.manual_seed(seed)
        return module(x)[0]

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    module.eval()
    assert torch.equal(run(1), run(2))


@pytest.mark.parametrize("options", [{"num_layers": 2, "dropout": 0.5}, {"recurrent_dropout": 0.4}])
def test_draws_do_not_follow_torchs_default_device(options):
    module, x = LSTM(I, H, **options), draw(T, B, I, dtype=torch.float32)
    torch.manual_seed(1)
    wanted, _ = module(x)
    torch.manual_seed(1)
    with torch.device("meta"):  # as any device that is not the CPU
        assert torch.equal(module(x)[0], wanted)


def test_one_tensor_in_several_places_has_the_sum_of_their_gradients():
    _, module = pair("lstm", sizes=(H, H), num_layers=2)
    module.weight_hh_l1 = module.weight_hh_l0
    x, h = own((draw(T, B, H), draw(2, B, H)))
    y, (_, c) = module(x, (h, h))
    loss, of = y.square().sum() + c.sum(), (x, h, *module.parameters())
    by_kernels = torch.autograd.grad(loss, of, retain_graph=True)
    assert_close(torch.autograd.grad(loss, of, create_graph=True), by_kernels)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"recurrent_dropout": 0.4}])
def test_gradients_of_gradients_that_are_not_there_are_refused(options):
    module, x = GRU(I, H, **options), draw(T, B, I, dtype=torch.float32).requires_grad_()
    y, _ = module(x)
    with pytest.raises(NotImplementedError, match="create_graph=True"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


# ---- words ---------------------------------------------------------------------------------------


def test_ids_need_an_embedding():
    with pytest.raises(TypeError, match=r"input must be torch.float32.* ids need a torch.nn.Embed"):
        fastrnn.torch.GRU(I, H)(torch.zeros(4, 2, dtype=torch.int64))


def test_mistakes_are_told_in_words():
    module = LSTM(I, H)
    x = draw(T, B, I, dtype=torch.float32)
    with pytest.raises(TypeError, match=r"input must be torch.float32.*input.to"):
        module(x.double())
    with pytest.raises(ValueError, match=r"input must be .* input_size = 3, got \(6, 4, 2\)"):
        module(x[..., :2])
    with pytest.raises(TypeError, match="hx must be a pair"):
        module(x, x)
    with pytest.raises(ValueError, match=r"h of hx must be .* = \(1, 4, 5\), got \(6, 4, 3\)"):
        module(x, (x, x))
    with pytest.raises(TypeError, match=r"hx must be torch.float32.* got torch.bfloat16"):
        GRU(I, H)(x, torch.zeros(1, B, H).bfloat16())
    with pytest.raises(ValueError, match=r"input must be \(B, input_size\)"):
        fastrnn.torch.GRUCell(I, H)(x[0, :, :2])
    with pytest.raises(ValueError, match=r"hx must be \(4, 5\), got \(3, 5\)"):
        fastrnn.torch.GRUCell(I, H)(x[0], torch.zeros(3, H))
    with pytest.raises(TypeError, match="hx must be a pair .* tuple of 3"):
        module(x, (x, x, x))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a tuple"):
        GRU(I, H)(x, (x,))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a tuple"):
        fastrnn.torch.GRUCell(I, H)(x[0], (x[0], x[0]))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a list"):
        fastrnn.torch.LSTMCell(I, H)(x[0], ([1.0], x[0]))
    with pytest.raises(TypeError, match="input must be a Tensor, got a list"):
        GRU(I, H)([1.0])
    with pytest.raises(TypeError, match="input must be dense.* got torch.sparse_coo: use input.to"):
        module(x.to_sparse())
    with pytest.raises(TypeError, match="c of hx must be dense.* got torch.sparse_coo"):
        module(x, (torch.zeros(1, B, H), torch.zeros(1, B, H).to_sparse()))
    with pytest.raises(RuntimeError, match="lengths must be on the CPU.* got meta"):
        module(x, lengths=torch.ones(B, dtype=torch.int64, device="meta"))
    with pytest.raises(TypeError, match="mask must be dense"):
        module(x, mask=torch.ones(T, B, dtype=torch.bool).to_sparse())
    with pytest.raises(TypeError, match="lengths must be integers, got dtype float32"):
        module(x, lengths=torch.ones(B, requires_grad=True))
    with pytest.raises(TypeError, match=r"LSTM\(\) got an unexpected keyword argument 'foo'"):
        LSTM(I, H, foo=1)
    with pytest.raises(RuntimeError, match=r"use module.float.*fastrnn.torch.restore"):
        module.half()(x.half())
    with pytest.raises(RuntimeError, match="must be on the CPU"):
        LSTM(I, H, device="meta")(x)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 5, 2, 1])
    with pytest.raises(ValueError, match="must be None with a PackedSequence"):
        RNN(I, H)(packed, lengths=[6, 5, 2, 1])
    with pytest.raises(ValueError, match="nonlinearity"):
        RNN(I, H, nonlinearity="sigmoid")
    with pytest.raises(ValueError, match="peephole has no meaning"):
        GRU(I, H, peephole=True)
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        GRU(I, H, dropout=0.5)


def test_attributes_that_decide_parameters_are_fixed():
    theirs, ours = pair("lstm")
    x = draw(B, T, I)
    ours(x.transpose(0, 1))
    theirs.batch_first = ours.batch_first = True
    assert_close(leaves(ours(x)), leaves(theirs(x)))
    ours.dropout = 0.3
    for name, value in {"num_layers": 3, "hidden_size": 9, "bidirectional": True}.items():
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(ours, name, value)
    with pytest.raises(AttributeError, match="nonlinearity is fixed: make a new RNNCell"):
        fastrnn.torch.RNNCell(I, H).nonlinearity = "relu"


def test_a_parameter_of_another_shape_is_refused():
    module, x = GRU(I, H), draw(T, B, I, dtype=torch.float32)
    module(x)
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.data[:H])
    with pytest.raises(ValueError, match=r"weight_hh_l0 must be \(15, 5\), got \(5, 5\)"):
        module(x)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_parameter_that_is_none_is_refused(frozen):
    module, x = GRU(I, H), draw(T, B, I, dtype=torch.float32)
    module(x)
    (module.freeze() if frozen else module).weight_hh_l0 = None
    with torch.no_grad(), pytest.raises(TypeError, match="weight_hh_l0 must be a parameter, got N"):
        module(x)


def test_tensors_whose_sign_is_kept_apart():
    _, module = pair("gru")
    x = draw(T, B, I)
    negative = torch.complex(x, x).conj().imag
    assert negative.is_neg()
    assert_equal(leaves(module(negative)), leaves(module(-x)))


def test_parameters_without_memory_are_refused():
    module = GRU(I, H)
    x = draw(T, B, I, dtype=torch.float32)
    module.weight_hh_l0.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="weight_hh_l0 must have memory"):
        module(x)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="must have memory"):
        GRU(I, H)(x)


def test_autocast_gives_its_dtype():
    module, x = LSTM(I, H), draw(T, B, I, dtype=torch.float32).requires_grad_()
    wanted = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h, c) = module(x)
        low, _ = module(x.bfloat16())
        wide, _ = module.double()(x.double())
        module.float()
    assert {t.dtype for t in (y, h, c, low)} == {torch.bfloat16} and wide.dtype == torch.float64
    torch.testing.assert_close(y, wanted[0].bfloat16())
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32


def test_the_pages_examples_run():
    page = pathlib.Path(__file__).parents[2] / "docs/torch.md"
    names = {}
    for block in re.findall("```python\n(.*?)```", page.read_text(), re.S):
        exec(block, names)
    assert names["y"].shape == (100, 3, 64)


METHODS = ["forward", "freeze", "thaw", "train", "reset_parameters", "options"]


@pytest.mark.parametrize("name", [*fastrnn.torch.__all__, *(f"LSTM.{m}" for m in METHODS)])
def test_the_docstrings_examples_run(name):
    value = fastrnn.torch
    for part in name.split("."):
        value = getattr(value, part)
    (found,) = doctest.DocTestFinder(recurse=False).find(value, name)
    assert found.examples
    assert doctest.DocTestRunner().run(found).failed == 0


def test_no_call_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            _, module = pair(kind, batch_first=True, bidirectional=True)
            x = own(x_for(module))
            module(x)[0].sum().backward()
            with torch.no_grad():
                module(x)
