"""fastrnn.torch: the numbers of torch.nn's modules, in calls and training, and its errors."""

import copy
import doctest
import io
import pathlib
import pickle
import re
import warnings

import numpy as np
import pytest
from problems import at_once

torch = pytest.importorskip("torch")

import fastrnn  # noqa: E402
import fastrnn.torch  # noqa: E402
from fastrnn.torch import GRU, LSTM, RNN  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

T, B, I, H = 6, 4, 3, 5  # noqa: E741

KINDS = {
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "projected": ("LSTM", {"proj_size": 2}),
}
NETS = {
    "one layer": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True, "num_layers": 2},
    "two directions": {"bidirectional": True},
    "a stack of both": {"num_layers": 3, "bidirectional": True},
    "dropout": {"num_layers": 3, "bidirectional": True, "dropout": 0.4, "batch_first": True},
}
CELLS = {
    "rnn": ("RNNCell", {}),
    "relu": ("RNNCell", {"nonlinearity": "relu"}),
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
    "no bias": ("LSTMCell", {"bias": False}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_net = pytest.mark.parametrize("net", NETS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def pair(kind, dtype=torch.float64, sizes=(I, H), kinds=KINDS, **net):
    """torch.nn's module and ours, with equal parameters from the same seed."""
    name, options = kinds[kind]
    modules = []
    for library in (torch.nn, fastrnn.torch):
        torch.manual_seed(0)
        modules.append(getattr(library, name)(*sizes, dtype=dtype, **options, **net))
    return modules


def draw(*shape, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator)


def leaves(value):
    """All tensors of nested tuples."""
    return [value] if isinstance(value, torch.Tensor) else [t for v in value for t in leaves(v)]


def own(value):
    """Copies of a call's arguments that want gradients."""
    if isinstance(value, tuple):
        return tuple([own(v) for v in value])
    return value.detach().clone().requires_grad_()


def gradients(module, *arguments, **options):
    """The results of a call, and the gradients of everything for a loss of all of them."""
    arguments = own(arguments)
    torch.manual_seed(2)
    results = leaves(module(*arguments, **options))
    sum((r * draw(*r.shape, dtype=r.dtype, seed=i)).sum() for i, r in enumerate(results)).backward()
    tensors = [*leaves(arguments), *module.parameters()]
    return results + [t.grad for t in tensors]


def assert_close(got, wanted, factor=1):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        eps = factor * (2e-5 if b.dtype == torch.float32 else 1e-12)
        torch.testing.assert_close(a, b, rtol=eps, atol=eps)


def assert_equal(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b)


def x_for(module, *, batch=B, dtype=torch.float64):
    shape = (batch, T) if module.batch_first else (T, batch)
    return draw(*shape, I, dtype=dtype)


def state_for(module, batch=B):
    slots = module.num_layers * (2 if module.bidirectional else 1)
    dtype = module.weight_hh_l0.dtype
    h = draw(slots, batch, module.proj_size or H, dtype=dtype, seed=8)
    return (h, draw(slots, batch, H, dtype=dtype, seed=9)) if module.mode == "LSTM" else h


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


def leaves_of_arrays(value):
    if isinstance(value, np.ndarray):
        return [torch.tensor(value)]
    return [t for v in value for t in leaves_of_arrays(v)]


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


# ---- what changes between forward and backward ---------------------------------------------------


@every_kind
def test_a_change_in_place_is_an_error(kind):
    _, ours = pair(kind)
    x = x_for(ours)
    for changed in "input", "weight_hh_l0":
        given = own(x)
        given = given * 1  # a leaf that wants a gradient cannot be changed in place
        y, _ = ours(given)
        with torch.no_grad():
            (given if changed == "input" else getattr(ours, changed)).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@every_kind
@pytest.mark.parametrize(
    "change",
    [lambda y: y.mul_(2), torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.4, inplace=True)],
    ids=["product", "relu", "dropout"],
)
def test_y_may_be_changed_in_place(kind, change):
    def run(module):
        x = own(x_for(module))
        y, _ = module(x)
        torch.manual_seed(3)
        change(y).square().sum().backward()
        return [x.grad, *[p.grad for p in module.parameters()]]

    theirs, ours = pair(kind)
    assert_close(run(ours), run(theirs))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_state_of_cells_may_be_changed_in_place(kind):
    def run(module):
        x = own(draw(B, I))
        h = leaves(module(x))[0]
        torch.nn.functional.relu(h * 1, inplace=True)
        (h.mul_(2) if module is ours else h * 2).square().sum().backward()
        return [x.grad, *[p.grad for p in module.parameters()]]

    theirs, ours = pair(kind, kinds=CELLS)
    assert_close(run(ours), run(theirs))


@every_kind
@every_dtype
def test_memory_that_moved_before_backward_is_read_where_it_is(kind, dtype):
    _, module = pair(kind, dtype, num_layers=2)
    x = x_for(module, dtype=dtype)
    wanted = gradients(module, x)
    module.zero_grad()
    given = own(x)
    torch.manual_seed(2)
    results = leaves(module(given))
    module.share_memory()
    given.detach().share_memory_()
    for result in results:
        result.detach().share_memory_()
    filler = [torch.full_like(t, 1e9) for t in [*module.parameters(), *results] * 4]
    sum((r * draw(*r.shape, dtype=dtype, seed=i)).sum() for i, r in enumerate(results)).backward()
    assert filler
    got = results + [given.grad, *[p.grad for p in module.parameters()]]
    assert_equal(got, wanted)


@pytest.mark.parametrize("reentrant", [True, False])
@every_kind
def test_checkpoints_of_torchs_are_right(kind, reentrant):
    theirs, ours = pair(kind)

    def run(module):
        x, before = own(x_for(module)), torch.nn.Linear(I, I, dtype=torch.float64)
        torch.nn.init.constant_(before.weight, 0.3)
        torch.nn.init.zeros_(before.bias)
        y = torch.utils.checkpoint.checkpoint(
            lambda a: module(before(a))[0], x, use_reentrant=reentrant
        )
        y.square().sum().backward()
        return [y, x.grad, before.weight.grad, *[p.grad for p in module.parameters()]]

    assert_close(run(ours), run(theirs))


def test_saved_tensors_may_be_packed():
    _, module = pair("lstm")
    x = x_for(module)
    wanted = gradients(module, x)
    module.zero_grad()
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t)
    with hooks:
        assert_equal(gradients(module, x), wanted)


def test_backward_twice_and_parts_of_the_results():
    _, ours = pair("lstm")
    x = own(x_for(ours))
    y, (h, c) = ours(x)
    first = torch.autograd.grad(y.sum() + c.sum(), x, retain_graph=True)
    again = torch.autograd.grad(y.sum() + c.sum(), x, retain_graph=True)
    of_h = torch.autograd.grad(h.sum(), x)
    assert_equal(first, again)
    assert of_h[0].any()


# ---- parameters are where they are ---------------------------------------------------------------


def assert_same_as_new(module, kind, x, **net):
    """A module gives what a new one with its parameters gives."""
    name, options = KINDS[kind]
    new = getattr(fastrnn.torch, name)(I, H, dtype=x.dtype, **options, **net)
    new.load_state_dict(module.state_dict())
    assert_equal(leaves(module(x)), leaves(new(x)))


def test_every_change_of_parameters_is_seen():
    _, module = pair("lstm", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    module(x)

    def step():
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        module(x)[0].sum().backward()
        optimizer.step()

    def transpose():
        square = module.weight_hh_l0.data[:H]
        square.copy_(square.T.clone())

    def assign():
        module.load_state_dict(LSTM(I, H).state_dict(), assign=True)

    def replace():
        module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() * 2)

    def data():
        module.weight_ih_l0.data = module.weight_ih_l0.data * 3

    def array():
        module.bias_ih_l0.detach().numpy()[0] += 1

    for change in step, transpose, assign, replace, data, array, module.share_memory:
        change()
        assert_same_as_new(module, "lstm", x)
    module.double()
    assert_same_as_new(module, "lstm", x.double())


def test_parameters_of_any_layout_are_read():
    _, module = pair("gru")
    x = x_for(module)
    wanted = leaves(module(x))
    for name in "weight_ih_l0", "weight_hh_l0":
        tensor = getattr(module, name).detach()
        setattr(module, name, torch.nn.Parameter(tensor.T.contiguous().T))
    assert_equal(leaves(module(x)), wanted)
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    assert not torch.equal(module(x)[0], wanted[0])


def test_parameters_may_be_tied_parametrized_or_replaced_in_a_call():
    _, module = pair("lstm", num_layers=2, sizes=(H, H))
    x = draw(T, B, H)
    module.weight_hh_l1 = module.weight_hh_l0
    module(x)[0].sum().backward()
    tied = module.weight_hh_l0.grad.clone()
    theirs = torch.nn.LSTM(H, H, 2, dtype=torch.float64)
    theirs.load_state_dict(module.state_dict())
    theirs(x)[0].sum().backward()
    assert_close([tied], [theirs.weight_hh_l0.grad + theirs.weight_hh_l1.grad])
    doubled = {name: p.detach() * 2 for name, p in module.named_parameters()}
    got = torch.func.functional_call(module, doubled, (x,))
    again = module(x)
    assert not torch.equal(got[0], again[0])
    _, module = pair("gru", sizes=(H, H))
    torch.nn.utils.parametrizations.orthogonal(module, "weight_hh_l0")
    module(x)[0].sum().backward()
    assert module.parametrizations.weight_hh_l0.original.grad is not None


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_copies_compute_the_same_and_are_their_own(copied, kind):
    _, module = pair(kind)
    x = x_for(module)
    wanted = leaves(module(x))
    other = copied(module)
    assert_equal(leaves(other(x)), wanted)
    if copied is not copy.copy:
        with torch.no_grad():
            other.weight_hh_l0.mul_(2)
        assert_equal(leaves(module(x)), wanted)
        assert not torch.equal(other(x)[0], wanted[0])


def test_a_saved_module_is_loaded():
    _, module = pair("lstm")
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    x = x_for(module)
    assert_equal(leaves(torch.load(buffer, weights_only=False)(x)), leaves(module(x)))


def test_threads_share_a_module():
    _, module = pair("gru", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    wanted = gradients(module, x)

    def run():
        other = copy.deepcopy(module)
        other.zero_grad()
        return [*leaves(module(x)), *gradients(other, x)]

    with_y = [*leaves(module(x)), *wanted]
    for answers in at_once([run] * 4, 5):
        assert len(answers) == 5
        for answer in answers:
            assert_close(answer, with_y)


# ---- frozen --------------------------------------------------------------------------------------


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


# ---- words ---------------------------------------------------------------------------------------


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
    with pytest.raises(TypeError, match="input must be a Tensor, got a list"):
        GRU(I, H)([1.0])
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


@pytest.mark.parametrize("name", fastrnn.torch.__all__)
def test_the_docstrings_examples_run(name):
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(getattr(fastrnn.torch, name), name)
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
