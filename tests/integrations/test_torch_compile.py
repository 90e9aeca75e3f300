"""fastrnn.torch's modules in torch.compile, torch.export, torch.jit and torch.onnx."""

import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402
from torch_traced import (  # noqa: E402
    CELL_KINDS,
    KINDS,
    B,
    H,
    I,
    T,
    draw,
    every_kind,
    every_net,
    everything,
    leaves,
    module_and_x,
    state_for,
)

import fastrnn.torch  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),  # forward mode's own
]

# ---- torch.compile and torch.export --------------------------------------------------------------


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
    elif torch.__version__ < "2.7":  # it compiles no words of exceptions
        words = None
    with pytest.raises(Exception, match=words):
        call(*given)


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
