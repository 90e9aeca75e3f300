"""fastrnn's operators, and modules in the hands of torch.compile, torch.export and torch.func."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

import fastrnn  # noqa: E402
import fastrnn.torch  # noqa: E402
from fastrnn._cells import options  # noqa: E402
from fastrnn._cells.registry import CELLS, projected, variant  # noqa: E402
from fastrnn._layer.structure import Structure  # noqa: E402
from fastrnn.torch._operators import OPERATORS, spec_of  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),  # forward mode's own
]

T, B, I, H, P = 5, 3, 2, 6, 4  # noqa: E741 - as in all the equations
KINDS = {"rnn": fastrnn.torch.RNN, "lstm": fastrnn.torch.LSTM, "gru": fastrnn.torch.GRU}
CELL_KINDS = {
    "rnn": fastrnn.torch.RNNCell, "lstm": fastrnn.torch.LSTMCell, "gru": fastrnn.torch.GRUCell,
}  # fmt: skip
PLAIN = {
    "rnn_tanh": ("rnn_tanh", {}), "rnn_relu": ("rnn_relu", {}), "lstm": ("lstm", {}),
    "lstm, projected": ("lstm", {"proj_size": P}), "gru_after": ("gru_after", {}),
    "gru_before": ("gru_before", {}), "lstm, no bias": ("lstm", {"bias": False}),
}  # fmt: skip
VARIANTS = {
    "lstm, peephole": ("lstm", {"peephole": True, "clip": 2.0}),
    "lstm, coupled": ("lstm", {"coupled": True, "zoneout": (0.1, 0.2)}),
    "lstm, normalised": ("lstm", {"layer_norm": True, "bias": False}),
    "gru, normalised": ("gru_after", {"layer_norm": True}),
    "gru, hard": ("gru_before", {"recurrent_activation": "hard_sigmoid"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def draw(*shape, dtype=torch.float64, grad=False, seed=0):
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.rand(*shape, dtype=dtype, generator=rng) * 2 - 1).requires_grad_(grad)


class Problem:
    """The arguments of an operator, and of the function of the same cell."""

    def __init__(
        self, name, dtype=torch.float64, ragged=False, reverse=False, grad=True, keep=True
    ):
        self.name, given = (PLAIN | VARIANTS)[name]
        given = dict(given)
        proj_size, bias = given.pop("proj_size", 0), given.pop("bias", True)
        plain = CELLS[self.name]
        cell = variant(plain, options.checked(plain.states, **given))
        cell = projected(cell) if proj_size else cell
        np_dtype = np.dtype(str(dtype).removeprefix("torch."))
        sizes = (cell, I, H, proj_size, 1, bias, False, False, "concat", np_dtype, reverse)
        self.structure, self.given, self.reverse = Structure(*sizes), given, reverse
        self.operator = OPERATORS[cell.function]
        self.x = draw(T, B, I, dtype=dtype, grad=grad)
        self.state = [
            draw(B, size, dtype=dtype, grad=grad, seed=k)
            for k, size in enumerate(self.structure.state_sizes)
        ]
        shapes = self.structure.shapes.values()
        self.parameters = [draw(*s, dtype=dtype, grad=grad, seed=k) for k, s in enumerate(shapes)]
        self.rows = (None, None, None)
        if ragged:
            mask = torch.arange(T * B).reshape(T, B) % 3 > 0
            reset = torch.arange(T * B).reshape(T, B) % 4 == 1
            self.rows = torch.tensor([T, 2, 0]), mask, reset
        self.end = ("initial", reverse, keep, spec_of(cell, bias))

    def arguments(self):
        return (self.x, *self.state, self.parameters, *self.rows, *self.end)

    def tensors(self):
        return (self.x, *self.state, *self.parameters)

    def run(self, *tensors):
        """y and the final state as functions of `tensors()`."""
        x, *rest = tensors or self.tensors()
        count = len(self.state)
        found = self.operator(x, *rest[:count], rest[count:], *self.rows, *self.end)
        return found[:-1]

    def by_function(self, dys):
        """What `fastrnn.lstm` and its like return, and all gradients, as flat lists of arrays."""
        cell = self.structure.cell
        x, *rest = [t.detach().numpy() for t in self.tensors()]
        state, own = rest[: len(self.state)], rest[len(self.state) :]
        named = dict(zip(self.structure.names(0), own, strict=True))
        plain = [named.pop(kind, None) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        rows = [None if r is None else r.numpy() for r in self.rows]
        given = dict(zip(("lengths", "mask", "reset"), rows, strict=True)) | self.given
        if cell.function == "rnn":
            given["nonlinearity"] = self.name.removeprefix("rnn_")
        if cell.function == "gru":
            given["reset_after"] = self.name == "gru_after"
        state = tuple(state) if len(state) > 1 else state[0]
        y, last, tape = getattr(fastrnn, cell.function)(
            x, state, *plain, reverse=self.reverse, reset_to="initial", return_tape=True,
            extras=named or None, **given,
        )  # fmt: skip
        dy, *dlast = [d.numpy() for d in dys]
        dx, dstate, dweights = getattr(fastrnn, f"{cell.function}_backward")(
            tape, x, y, state, (*plain, named or None), dy,
            tuple(dlast) if len(dlast) > 1 else dlast[0],
        )  # fmt: skip
        extras = dict(dweights[4] or {}) if len(dweights) > 4 else {}
        of_weights = [a for a in (*dweights[:4], *extras.values()) if a is not None]
        return [y, *_arrays(last)], [dx, *_arrays(dstate), *of_weights]


def _arrays(state):
    return state if isinstance(state, tuple) else (state,)


def outer(problem):
    """Gradients of y and of the final state."""
    y, *last = problem.run()
    return [draw(*t.shape, dtype=t.dtype, seed=k) for k, t in enumerate((y, *last))]


def gradients_of(problem, dys):
    return torch.autograd.grad(problem.run(), problem.tensors(), dys)


every_problem = pytest.mark.parametrize("name", PLAIN | VARIANTS)
ragged = pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
reverse = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


# ---- the operators -------------------------------------------------------------------------------


@every_problem
@every_dtype
@ragged
@reverse
def test_an_operator_has_the_bits_of_the_function(name, dtype, ragged, reverse):
    problem = Problem(name, dtype, ragged, reverse)
    dys = outer(problem)
    results, gradients = problem.by_function(dys)
    for got, wanted in zip(problem.run(), results, strict=True):
        np.testing.assert_array_equal(got.detach(), wanted)
    for got, wanted in zip(gradients_of(problem, dys), gradients, strict=True):
        np.testing.assert_array_equal(got, wanted)


@every_problem
@ragged
def test_torchs_own_checks_of_operators(name, ragged):
    problem = Problem(name, ragged=ragged, reverse=ragged)
    torch.library.opcheck(problem.operator, problem.arguments())


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_and_their_gradients_agree_with_finite_differences(name):
    problem = Problem(name, ragged=True, reverse=True)
    if name == "rnn_relu":  # not at a kink: inputs far from it
        problem.parameters[2].data += 3
    assert torch.autograd.gradcheck(problem.run, problem.tensors())
    assert torch.autograd.gradgradcheck(problem.run, problem.tensors(), fast_mode=True)


@every_problem
def test_without_a_tape_backward_runs_forward_again(name):
    kept, other = (Problem(name, ragged=True, keep=keep) for keep in (True, False))
    assert kept.operator(*kept.arguments())[-1].numel() > 0
    assert other.operator(*other.arguments())[-1].numel() == 0
    dys = outer(kept)
    for a, b in zip(gradients_of(kept, dys), gradients_of(other, dys), strict=True):
        assert torch.equal(a, b)


@every_problem
@pytest.mark.parametrize("order", [("core", "reference"), ("reference", "core")])
def test_backward_may_run_on_another_backend_than_forward(name, order):
    problem = Problem(name, ragged=True)
    dys = outer(problem)
    wanted = gradients_of(problem, dys)
    with fastrnn.backend(order[0]):
        results = problem.run()
    with fastrnn.backend(order[1]):
        got = torch.autograd.grad(results, problem.tensors(), dys)
    torch.testing.assert_close(got, wanted)


def test_y_that_was_changed_before_backward_is_refused():
    problem = Problem("gru_after")
    y, _ = problem.run()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_of_gradients_of_options_are_refused():
    problem = Problem("lstm, peephole")
    y, *_ = problem.run()
    with pytest.raises(NotImplementedError, match="gradients of gradients need a cell without"):
        torch.autograd.grad(y.sum(), problem.x, create_graph=True)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({0: draw(T, B, I + 1)}, ValueError, r"x must be .* input_size = 2, got \(5, 3, 3\)"),
        ({0: draw(T, B, I).half()}, TypeError, "x must be float32 or float64, got torch.float16"),
        ({0: draw(T, B, I).float()}, TypeError, "h must be torch.float32, the dtype of x"),
        ({1: draw(B + 1, H)}, ValueError, r"h must be \(3, 6\), got \(4, 6\)"),
        ({3: [draw(4 * H, I)]}, ValueError, "parameters must be weight_ih_l0, .*, got 1"),
        ({4: torch.tensor([T + 1, 1, 1])}, ValueError, "lengths must be .* 0 to T = 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words):
    problem = Problem("lstm", grad=False)
    arguments = [change.get(k, a) for k, a in enumerate(problem.arguments())]
    with pytest.raises(error, match=words):
        problem.operator(*arguments)


# ---- torch.compile and torch.export --------------------------------------------------------------

NETS = {
    "one layer": {},
    "a stack of both, batch first": {
        "num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False,
    },
}  # fmt: skip
every_net = pytest.mark.parametrize("net", NETS)


def module_and_x(kind, net="a stack of both, batch first", **more):
    module = KINDS[kind](I, H, **(NETS[net] | more), dtype=torch.float64)
    for k, parameter in enumerate(module.parameters()):
        parameter.data = draw(*parameter.shape, seed=k)
    return module, draw(*((B, T) if module.batch_first else (T, B)), I, grad=True)


def state_for(module, rows=B):
    slots = module.num_layers * (1 + module.bidirectional)
    states = [draw(slots, rows, H, seed=k) for k in (5, 6)]
    return tuple(states) if module.mode == "LSTM" else states[0]


def leaves(value):
    return [value] if isinstance(value, torch.Tensor) else [t for v in value for t in leaves(v)]


def everything(module, call, *arguments, **given):
    """The results of a call, and the gradients of x and of all parameters."""
    results = leaves(call(*arguments, **given))
    loss = sum((r * draw(*r.shape, dtype=r.dtype)).sum() for r in results)
    return results, torch.autograd.grad(loss, [arguments[0], *module.parameters()])


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    yield lambda module, **given: torch.compile(
        module, fullgraph=True, **({"backend": "aot_eager"} | given)
    )
    torch._dynamo.reset()


@every_kind
@every_net
def test_compiled_modules_are_one_graph(kind, net, compiler):
    module, x = module_and_x(kind, net)
    compiled, hx = compiler(module), state_for(module)
    got, wanted = (everything(module, call, x, hx) for call in (compiled, module))
    torch.testing.assert_close(got, wanted)
    with torch.no_grad():
        torch.testing.assert_close(leaves(compiled(x)), leaves(module(x)))


@every_kind
@every_net
def test_compiled_modules_take_ragged_batches(kind, net, compiler):
    module, x = module_and_x(kind, net)
    flags = torch.arange(T * B).reshape(x.shape[:2])
    given = {
        "lengths": torch.tensor([T, 2, 0]), "mask": flags % 3 > 0, "reset": flags % 4 == 1,
        "reset_to": "initial",
    }  # fmt: skip
    hx = state_for(module)
    got, wanted = (everything(module, c, x, hx, **given) for c in (compiler(module), module))
    torch.testing.assert_close(got, wanted)


@every_kind
def test_compiled_modules_take_sequences_of_every_length(kind, compiler):
    module, _ = module_and_x(kind, "one layer")
    compiled = compiler(module, dynamic=True)
    for steps, rows in ((3, 2), (4, 5), (9, 1)):
        x = draw(steps, rows, I, grad=True)
        torch.testing.assert_close(everything(module, compiled, x), everything(module, module, x))
    x = draw(T, I, grad=True)
    torch.testing.assert_close(everything(module, compiled, x), everything(module, module, x))


@every_kind
def test_compiled_cells_are_one_graph(kind, compiler):
    cell = CELL_KINDS[kind](I, H, dtype=torch.float64)
    for x in (draw(B, I, grad=True), draw(I, grad=True)):
        got, wanted = (everything(cell, call, x) for call in (compiler(cell), cell))
        torch.testing.assert_close(got, wanted)


@every_kind
def test_variants_compile_too(kind, compiler):
    options = {"clip": 1.5, "zoneout": 0.2}
    module, x = module_and_x(kind, **options)
    module.eval()
    got, wanted = (everything(module, call, x) for call in (compiler(module), module))
    torch.testing.assert_close(got, wanted)


def test_compiled_modules_drop_out_in_training_alone(compiler):
    module, x = module_and_x("gru", dropout=0.5)
    compiled = compiler(module)
    assert not torch.equal(compiled(x)[0], compiled(x)[0])
    module.eval()
    torch.testing.assert_close(compiled(x), module(x))


def test_compiled_modules_follow_autocast(compiler):
    module, x = module_and_x("lstm")
    module, x = module.float(), x.detach().to(torch.bfloat16)
    compiled = compiler(module)
    with torch.autocast("cpu", torch.bfloat16):
        got, wanted = compiled(x), module(x)
    assert got[0].dtype is torch.bfloat16
    torch.testing.assert_close(leaves(got), leaves(wanted))


@every_net
def test_the_compiled_graph_may_change_y(net, compiler):
    module, x = module_and_x("lstm", net)

    def doubled(x):
        y, hx = module(x)
        return y.mul_(2), hx

    got, wanted = (everything(module, call, x) for call in (compiler(doubled), doubled))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("what", ["packed", "frozen", "zoneout"])
def test_what_torch_cannot_follow_runs_between_compiled_parts(what):
    module, x = module_and_x("gru", "one layer", zoneout=0.5 * (what == "zoneout"))
    if what == "packed":
        x = torch.nn.utils.rnn.pack_padded_sequence(x.detach(), [T, 3, 2])
    if what == "frozen":
        module.freeze()
        x = x.detach()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager")
    torch.manual_seed(0)
    got, h = compiled(x)
    torch.manual_seed(0)
    wanted, wanted_h = module(x)
    torch.testing.assert_close(h, wanted_h)
    if what == "packed":
        got, wanted = got.data, wanted.data
    torch.testing.assert_close(got, wanted)
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@every_kind
def test_the_inductor_compiles_modules(kind, compiler):
    module, x = module_and_x(kind)
    got, wanted = (
        everything(module, call, x) for call in (compiler(module, backend="inductor"), module)
    )
    torch.testing.assert_close(got, wanted)


@every_kind
@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_have_the_operators(kind, strict):
    module, x = module_and_x(kind)
    x, steps = x.detach(), torch.export.Dim("T", min=2, max=1000)
    program = torch.export.export(
        module.eval(), (x,), strict=strict, dynamic_shapes=({1: steps},)
    )  # fmt: skip
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count(f"fastrnn.{kind}.default") == 4  # two layers of two directions
    shorter = x[:, :3]
    torch.testing.assert_close(leaves(program.module()(shorter)), leaves(module(shorter)))


@pytest.mark.parametrize("traced", ["compiled", "mapped"])
@pytest.mark.parametrize(
    "x, hx, words",
    [
        ((T, B, I + 1), None, r"input must be .* input_size = 2, got"),
        ((T, B, I), (3, B, H), r"hx must be .* = \(1, 3, 6\), got \(3, 3, 6\)"),
        ((T, B, I), (1, 1, H), r"hx must be .* = \(1, 3, 6\), got \(1, 1, 6\)"),
        ((T, B, I), (1, B, H + 1), r"hx must be .* = \(1, 3, 6\), got \(1, 3, 7\)"),
    ],
)
def test_traced_modules_refuse_what_eager_ones_refuse(traced, x, hx, words, compiler):
    module, _ = module_and_x("gru", "one layer")
    given = [draw(*shape) for shape in (x, hx) if shape]
    with pytest.raises(ValueError, match=words):
        module(*given)
    call = compiler(module)
    if traced == "mapped":
        call, given = torch.func.vmap(module), [t[None] for t in given]
    with pytest.raises(Exception, match=words):
        call(*given)


def test_a_traced_call_of_one_sequence_takes_one_length():
    module, x = module_and_x("gru", "one layer")
    one = x.detach()[:, 0]
    got = torch.func.vmap(lambda x: module(x, lengths=3))(one[None])
    torch.testing.assert_close([t[0] for t in got], list(module(one, lengths=3)))
    for call in module, torch.func.vmap(module):
        with pytest.raises(ValueError, match="lengths must be"):
            call(one if call is module else one[None], lengths=[3])


# ---- torch.func ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("what", ["packed", "recurrent dropout"])
def test_a_backward_pass_within_a_compiled_function(what):
    """Of a call that torch.compile has left: its backward pass is left, too."""
    torch._dynamo.reset()
    module = fastrnn.torch.GRU(I, H, recurrent_dropout=0.4 * (what != "packed"))
    x = draw(T, B, I, dtype=torch.float32)
    x = pack_padded_sequence(x, [T, 3, 2]) if what == "packed" else x

    def step(x):
        module(x)[1].sum().backward()
        return module.weight_hh_l0.grad

    torch.manual_seed(0)
    wanted = step(x).clone()
    module.zero_grad()
    torch.manual_seed(0)
    torch.testing.assert_close(torch.compile(step, backend="eager")(x), wanted)
    torch._dynamo.reset()


@every_kind
@every_net
def test_compiled_transforms_are_one_graph(kind, net, compiler):
    module, x = module_and_x(kind, net)
    xs = torch.stack([x.detach(), 2 * x.detach()])

    def of_each(xs):
        return torch.func.vmap(torch.func.grad(lambda x: module(x)[0].square().sum()))(xs)

    torch.testing.assert_close(compiler(of_each)(xs), of_each(xs))


@pytest.mark.filterwarnings("ignore:.*Dynamo")  # it says what it cannot follow
@pytest.mark.parametrize("kinds", [KINDS, CELL_KINDS], ids=["modules", "cells"])
def test_modules_compile_after_a_transform_that_did_not(kinds):
    torch._dynamo.reset()
    module, other = (kinds["gru"](I, H, dtype=torch.float64) for _ in range(2))
    x = draw(T, B, I) if kinds is KINDS else draw(B, I)

    def loss(x):
        torch._dynamo.graph_break()
        return leaves(module(x))[0].sum()

    torch.compile(torch.func.grad(loss), backend="eager")(x)
    got = leaves(torch.compile(other, backend="eager")(x))
    torch.testing.assert_close(got, leaves(other(x)))
    torch._dynamo.reset()


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


def test_transforms_refuse_what_they_cannot_map():
    module, x = module_and_x("lstm", "one layer", peephole=True)
    with pytest.raises(NotImplementedError, match="without fastrnn's own options"):
        torch.func.vmap(lambda x: module(x)[0])(x[None])
    module, x = module_and_x("lstm", "one layer")
    with pytest.raises(NotImplementedError, match="lengths, mask and reset cannot be mapped"):
        torch.func.vmap(lambda n: module(x, lengths=n)[0])(torch.tensor([[T, 2, 1]]))


# ---- TorchScript and ONNX ------------------------------------------------------------------------


class Model(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.recurrent = module

    def forward(self, x):
        return self.recurrent(x)[0]


def scripted(model, x, folder):
    torch.jit.script(model)


def traced(model, x, folder):
    torch.jit.trace(model, (x,))


def exported(model, x, folder):
    pytest.importorskip("onnxscript")
    torch.onnx.export(model, (x,), folder / "model.onnx", dynamo=True, verbose=False)


def exported_by_tracing(model, x, folder):
    torch.onnx.export(model, (x,), folder / "model.onnx", dynamo=False)


@pytest.mark.parametrize("way", [scripted, traced, exported, exported_by_tracing])
@pytest.mark.parametrize("kind", ["lstm"])
def test_script_and_onnx_are_refused_with_the_way_back(way, kind, tmp_path):
    module, x = module_and_x(kind)
    model, x = Model(module).float().eval(), x.detach().float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated ways
        with pytest.raises(RuntimeError, match=r"fastrnn\.torch\.restore\(model\)"):
            way(model, x, tmp_path)
        fastrnn.torch.restore(model)
        way(model, x, tmp_path)
