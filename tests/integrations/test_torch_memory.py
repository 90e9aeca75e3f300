"""fastrnn.torch: parameters are read where they are, and changes before backward are seen."""

import copy
import io
import pickle

import pytest
from problems import at_once

torch = pytest.importorskip("torch")

from torch_modules import (  # noqa: E402
    CELLS,
    KINDS,
    B,
    H,
    I,
    T,
    assert_close,
    assert_equal,
    assert_same_as_new,
    draw,
    every_dtype,
    every_kind,
    gradients,
    leaves,
    own,
    pair,
    x_for,
)

from fastrnn.torch import LSTM  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

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


@every_kind
def test_storages_may_be_freed_and_filled_again_before_backward(kind):
    """As FSDP does with parameters, and offloading with what autograd saved."""
    _, module = pair(kind, num_layers=2)
    x = x_for(module)
    wanted = gradients(module, x)
    module.zero_grad()
    given = own(x)
    results = leaves(module(given))
    tensors = [given.data, *[p.data for p in module.parameters()]]  # changes are not counted
    copies = [t.clone() for t in tensors]
    for tensor in tensors:
        tensor.untyped_storage().resize_(0)
    filler = [torch.full_like(t, 1e9) for t in copies * 4]
    for tensor, values in zip(tensors, copies, strict=True):
        tensor.untyped_storage().resize_(values.nbytes)
        tensor.copy_(values)
    sum((r * draw(*r.shape, seed=i)).sum() for i, r in enumerate(results)).backward()
    assert filler
    got = results + [given.grad, *[p.grad for p in module.parameters()]]
    assert_equal(got, wanted)


@pytest.mark.parametrize("wanting", [False, True])
def test_parameters_can_be_swapped_after_a_call(wanting):
    _, module = pair("gru")
    module.requires_grad_(wanting)
    x = x_for(module)
    wanted = [t.detach() for t in leaves(module(x))]
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        module.float()(x.float())
        module.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    got = [t.detach() for t in leaves(module(x))]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_arguments_can_be_resized_after_a_call(compiled):
    module, x = pair("lstm")[1], draw(T, B, I)
    arguments = [x, draw(1, B, H), draw(1, B, H), torch.full((B,), 2), torch.ones(T, B).bool()]
    x, h, c, lengths, mask = arguments
    call = torch.compile(module, backend="eager") if compiled else module
    call(x, (h, c), lengths=lengths, mask=mask, reset=mask)[0].sum().backward()
    for tensor in *arguments, *module.parameters():
        assert tensor.untyped_storage().resizable()


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


@pytest.mark.parametrize("wants", [False, True], ids=["inference", "training"])
def test_changes_of_parameters_whose_sign_torch_keeps_apart_are_seen(wants):
    _, module = pair("lstm", torch.float32)
    x = draw(T, B, I, dtype=torch.float32)
    with torch.set_grad_enabled(wants):
        module.weight_hh_l0.data = torch._neg_view(module.weight_hh_l0.data)
        assert_same_as_new(module, "lstm", x)
        with torch.no_grad():
            module.weight_hh_l0.mul_(3)
        assert_same_as_new(module, "lstm", x)


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


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(
    "change, name",
    [
        (lambda module, x: module.float(), "weight_ih_l0 must stay float64"),
        (lambda module, x: module.half(), "got torch.float16"),
        (lambda module, x: setattr(x, "data", x.data[1:]), "input must stay"),
    ],
    ids=["float", "half", "shape"],
)
def test_a_tensor_of_another_kind_in_the_backward_pass_is_named(change, name, kind):
    _, module = pair(kind, torch.float64)
    x = x_for(module).detach()
    y, _ = module(x)
    change(module, x)
    with pytest.raises(RuntimeError, match=name):
        y.sum().backward()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "kinds, x, name",
    [(KINDS, draw(T, B, I), "weight_hh_l0"), (CELLS, draw(B, I), "weight_hh")],
    ids=["module", "cell"],
)
def test_a_parametrized_module_is_copied_after_a_call(frozen, kinds, x, name):
    _, module = pair("lstm", kinds=kinds)
    torch.nn.utils.parametrizations.weight_norm(module, name)
    with torch.no_grad():
        wanted = leaves((module.freeze() if frozen else module)(x))
        other = copy.deepcopy(module)
        assert_equal(leaves(other(x)), wanted)
        for parameter in other.parameters():
            parameter.mul_(2)
        assert not torch.equal(leaves(other(x))[0], wanted[0])
        assert_equal(leaves(module(x)), wanted)


def test_a_frozen_parametrized_module_is_copied_whose_weights_have_a_graph():
    _, module = pair("lstm")
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    module.freeze()  # where gradients are on: the weights are no leaves
    other, x = copy.deepcopy(module), x_for(module)
    with torch.no_grad():
        wanted = leaves(module(x))
        assert_equal(leaves(other(x)), wanted)
        other.parametrizations.weight_hh_l0.original1.mul_(2)
        other.bias_hh_l0.add_(1)
        assert not torch.equal(leaves(other(x))[0], wanted[0])
        assert_equal(leaves(other(x)), leaves(other.thaw()(x)))
        assert_equal(leaves(module(x)), wanted)


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
