"""fastrnn.torch: the numbers of torch.nn's modules, in calls and training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_modules import (  # noqa: E402
    CELLS,
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
from fastrnn.torch import GRU, LSTM  # noqa: E402

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


@pytest.mark.parametrize("steps, batch", [(0, 2), (T, 0), (0, 0)])
@every_kind
def test_gradients_that_can_be_differentiated_are_there_without_steps_or_rows(kind, steps, batch):
    _, module = pair(kind)
    of = [draw(steps, batch, I).requires_grad_(), *module.parameters()]
    y, state = module(of[0])
    loss = y.sum() + sum(s.sum() for s in (state if isinstance(state, tuple) else (state,)))
    by_kernels = torch.autograd.grad(loss, of, retain_graph=True)
    assert_equal(torch.autograd.grad(loss, of, create_graph=True), by_kernels)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"recurrent_dropout": 0.4}])
def test_gradients_of_gradients_that_are_not_there_are_refused(options):
    module, x = GRU(I, H, **options), draw(T, B, I, dtype=torch.float32).requires_grad_()
    y, _ = module(x)
    with pytest.raises(NotImplementedError, match="create_graph=True"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


class _Stopped(torch.autograd.Function):
    """The identity, without a gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return None


@pytest.mark.parametrize("module", [GRU, LSTM])
def test_no_gradient_of_any_result_is_no_gradient_of_x_and_parameters(module):
    net, x = module(3, 4), torch.ones(5, 2, 3, requires_grad=True)
    y, _ = net(x)
    _Stopped.apply(y).sum().backward()
    assert x.grad is None and all(p.grad is None for p in net.parameters())
