"""fastrnn.torch's modules under torch.func, forward mode, mapped gradients, make_fx and fakes."""

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402
from torch_traced import (  # noqa: E402
    CELL_KINDS,
    B,
    H,
    I,
    T,
    draw,
    every_kind,
    every_net,
    leaves,
    module_and_x,
    state_for,
)

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),  # forward mode's own
]


@every_kind
@every_net
def test_vmap_maps_over_x_and_state(kind, net):
    module, x = module_and_x(kind, net)
    xs = torch.stack([x.detach(), 2 * x.detach()])
    hxs = [state_for(module), state_for(module)]
    stacked = (
        tuple(map(torch.stack, zip(*hxs, strict=True))) if kind == "lstm" else torch.stack(hxs)
    )
    got = torch.func.vmap(lambda x, hx: module(x, hx))(xs, stacked)
    for k in range(2):
        one = module(xs[k], hxs[k])
        torch.testing.assert_close([t[k] for t in leaves(got)], leaves(one))


@every_kind
@every_net
def test_gradients_of_each_row(kind, net):
    module, x = module_and_x(kind, net)
    axis, parameters = (0 if module.batch_first else 1), dict(module.named_parameters())

    def loss(parameters, x):
        y, _ = torch.func.functional_call(module, parameters, (x.unsqueeze(axis),))
        return y.square().sum()

    detached = {n: p.detach() for n, p in parameters.items()}
    got = torch.func.vmap(torch.func.grad(loss), (None, axis))(detached, x.detach())
    for b in range(B):
        one = loss(parameters, x.select(axis, b))
        wanted = torch.autograd.grad(one, list(parameters.values()))
        torch.testing.assert_close([got[n][b] for n in parameters], list(wanted))


@every_kind
def test_jacobians(kind):
    module, _ = module_and_x(kind, "one layer")
    x, flags = draw(T, 1, I), torch.tensor([False, True, False, False, True])[:, None]

    def y_of(x):
        return module(x, lengths=[4], reset=flags)[0]

    wanted = torch.autograd.functional.jacobian(y_of, x)
    for jacobian in (torch.func.jacrev(y_of)(x), torch.func.jacfwd(y_of)(x)):
        torch.testing.assert_close(jacobian, wanted)
    vectorized = torch.autograd.functional.jacobian(y_of, x, vectorize=True)
    torch.testing.assert_close(vectorized, wanted)


@every_kind
@every_net
def test_many_gradients_at_once(kind, net):
    module, x = module_and_x(kind, net)
    y, _ = module(x)
    dys = draw(3, *y.shape)
    tensors = [x, *module.parameters()]
    got = torch.autograd.grad(y, tensors, dys, retain_graph=True, is_grads_batched=True)
    for k, dy in enumerate(dys):
        wanted = torch.autograd.grad(y, tensors, dy, retain_graph=True)
        torch.testing.assert_close([g[k] for g in got], list(wanted))


def forward_mode(call, *arguments):
    """The tangents of a call's results, where each argument's tangent is the argument."""
    with forward_ad.dual_level():
        results = call(*[forward_ad.make_dual(a, a) for a in arguments])
        return [forward_ad.unpack_dual(r).tangent for r in leaves(results)]


@every_kind
@every_net
@pytest.mark.parametrize("wanting", [False, True])
def test_forward_mode_has_the_tangents_of_jvp(kind, net, wanting):
    module, x = module_and_x(kind, net)
    module.requires_grad_(wanting)
    x = x.detach()
    _, wanted = torch.autograd.functional.jvp(lambda x: tuple(leaves(module(x))), x, x)
    torch.testing.assert_close(forward_mode(module, x), list(wanted))


@every_kind
def test_forward_mode_of_cells_and_parameters(kind):
    cell = CELL_KINDS[kind](I, H, dtype=torch.float64).requires_grad_(False)
    x, given = draw(B, I), dict(cell.named_parameters())

    def of(*parameters):
        named = dict(zip(given, parameters, strict=True))
        return tuple(leaves(torch.func.functional_call(cell, named, (x,))))

    _, wanted = torch.autograd.functional.jvp(of, tuple(given.values()), tuple(given.values()))
    torch.testing.assert_close(forward_mode(of, *given.values()), list(wanted))


@every_kind
def test_a_backward_pass_is_mapped_and_has_tangents(kind):
    module, x = module_and_x(kind, "one layer")
    y, _ = module(x)
    dys = draw(3, *y.shape)

    def backward(dy):
        return torch.autograd.grad(y, (x, module.weight_hh_l0), dy, retain_graph=True)

    wanted = list(map(torch.stack, zip(*map(backward, dys), strict=True)))
    torch.testing.assert_close(list(torch.func.vmap(backward)(dys)), wanted)
    # The gradients are linear in dy, so their tangents are the gradients of dy's tangent.
    torch.testing.assert_close(forward_mode(backward, dys[0]), [w[0] for w in wanted])


@every_kind
def test_a_record_of_make_fx_computes_with_other_inputs(kind):
    module, x = module_and_x(kind, "one layer")
    cell, other = CELL_KINDS[kind](I, H, dtype=torch.float64), draw(T, B, I, seed=9, grad=True)

    def call(x):
        y, _ = module(x)
        return [cell(x[0]), y, *torch.autograd.grad(y.sum(), [x, *module.parameters()])]

    torch.testing.assert_close(make_fx(call)(x)(other), call(other))


def test_fake_tensors_have_the_shapes():
    module, _ = module_and_x("lstm")
    with FakeTensorMode(allow_non_fake_inputs=True):
        y, (h, c) = module(torch.empty(B, T, I, dtype=torch.float64))
    assert y.shape == (B, T, 2 * H) and h.shape == c.shape == (4, B, H)


@pytest.mark.parametrize("what", ["packed", "frozen", "frozen cell", "zoneout"])
@pytest.mark.parametrize(
    "follow",
    [
        lambda call, x: torch.func.vmap(call)(x[None]),
        lambda call, x: torch.func.grad(lambda x: leaves(call(x))[0].sum())(x),
        forward_mode,
        lambda call, x: make_fx(call)(x),
    ],
    ids=["vmap", "grad", "forward mode", "make_fx"],
)
def test_what_torch_cannot_follow_is_refused_where_nothing_runs_between(what, follow):
    module, x = module_and_x("gru", "one layer", zoneout=0.5 * (what == "zoneout"))
    call, x = module, x.detach()
    if what == "packed":
        packed, x = pack_padded_sequence(x, [T, 3, 2]), draw(1, B, H)
        call = lambda hx: module(packed, hx)[1]  # noqa: E731
    if what == "frozen":
        module.freeze()
    if what == "frozen cell":
        call, x = CELL_KINDS["gru"](I, H, dtype=torch.float64).freeze(), x[0]
    with torch.no_grad(), pytest.raises(NotImplementedError, match="cannot follow a frozen module"):
        follow(call, x)


@every_kind
def test_what_stands_beyond_the_length_is_not_read(kind):
    module, x = module_and_x(kind, "one layer")
    wanted = leaves(module(x.detach(), lengths=[T, 2, 0]))
    padded = x.detach().clone()
    padded[2:, 1] = padded[:, 2] = torch.nan
    padded.requires_grad_()
    got = torch.func.vmap(lambda x: module(x, lengths=[T, 2, 0]))(padded[None])
    torch.testing.assert_close([t[0] for t in leaves(got)], wanted)
    y, _ = module(padded, lengths=[T, 2, 0])
    for dx in torch.autograd.grad(
        y.square().sum(), [padded, module.weight_ih_l0], create_graph=True
    ):
        assert dx.isfinite().all()


def test_transforms_check_reset_to():
    module, x = module_and_x("gru", "one layer")
    with pytest.raises(ValueError, match="reset_to must be one of 'zero', 'initial', got 'one'"):
        torch.func.vmap(lambda x: module(x, reset_to="one")[0])(x[None])


def test_transforms_refuse_what_they_cannot_map():
    module, x = module_and_x("lstm", "one layer", peephole=True)
    with pytest.raises(NotImplementedError, match="without fastrnn's own options"):
        torch.func.vmap(lambda x: module(x)[0])(x[None])
    module, x = module_and_x("lstm", "one layer")
    with pytest.raises(NotImplementedError, match="lengths, mask and reset cannot be mapped"):
        torch.func.vmap(lambda n: module(x, lengths=n)[0])(torch.tensor([[T, 2, 1]]))


def test_a_traced_call_of_one_sequence_takes_one_length():
    module, x = module_and_x("gru", "one layer")
    one = x.detach()[:, 0]
    got = torch.func.vmap(lambda x: module(x, lengths=3))(one[None])
    torch.testing.assert_close([t[0] for t in got], list(module(one, lengths=3)))
    for call in module, torch.func.vmap(module):
        with pytest.raises(ValueError, match="lengths must be"):
            call(one if call is module else one[None], lengths=[3])
