"""accelerate and restore: the same model, faster, and back."""

import copy

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import prune  # noqa: E402

import fastrnn.torch  # noqa: E402
from fastrnn.torch import accelerate, restore  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout"),
]

I, H = 3, 5  # noqa: E741

MODULES = {
    "rnn": lambda: torch.nn.RNN(I, H, nonlinearity="relu", batch_first=True),
    "lstm": lambda: torch.nn.LSTM(I, H, 2, dropout=0.4, bidirectional=True),
    "projected": lambda: torch.nn.LSTM(I, H, proj_size=2, bias=False),
    "gru": lambda: torch.nn.GRU(I, H, dropout=0.0, dtype=torch.float64),
    "one layer": lambda: torch.nn.GRU(I, H, dropout=0.5),
    "rnn cell": lambda: torch.nn.RNNCell(I, H, nonlinearity="relu"),
    "lstm cell": lambda: torch.nn.LSTMCell(I, H, bias=False),
    "gru cell": lambda: torch.nn.GRUCell(I, H),
}


class Model(torch.nn.Module):
    """A recurrent module with others around it."""

    def __init__(self, make):
        super().__init__()
        self.body = torch.nn.ModuleDict({"recurrent": make()})
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        y = self.body["recurrent"](x * self.scale)
        return y[0] if isinstance(y, tuple) else y


def model_of(kind):
    torch.manual_seed(0)
    return Model(MODULES[kind])


def x_for(model):
    recurrent = model.body["recurrent"]
    shape = (4, I) if "Cell" in type(recurrent).__name__ else (6, 4, I)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=recurrent.weight_ih_l0.dtype
                       if hasattr(recurrent, "weight_ih_l0") else torch.float32)  # fmt: skip


def gradients(model, x):
    model.zero_grad()
    torch.manual_seed(2)
    y = model(x)
    y.square().sum().backward()
    return [y, *[p.grad.clone() for p in model.parameters()]]


def assert_close(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


every_module = pytest.mark.parametrize("kind", MODULES)


@every_module
def test_for_inference_only_the_modules_are_frozen(kind):
    model = model_of(kind).eval()
    x = x_for(model)
    with torch.no_grad():
        wanted = model(x)
        accelerate(model, inference_only=True)
        got = model(x)
    assert_close([got], [wanted])
    assert not model.body["recurrent"](x * 1)[0].requires_grad
    model.train().eval()
    assert model.body["recurrent"](x * 1)[0].requires_grad
    accelerate(model, inference_only=True)  # modules that are fastrnn's already, too
    assert not model.body["recurrent"](x * 1)[0].requires_grad


def test_a_model_in_training_mode_is_not_frozen():
    model = model_of("lstm")
    with pytest.raises(ValueError, match=r"^model must be in eval mode .* call model.eval\(\)"):
        accelerate(model, inference_only=True)
    assert type(model.body["recurrent"]) is torch.nn.LSTM


def test_a_whole_model_takes_a_precision():
    model = model_of("lstm").eval()
    x = x_for(model)
    with pytest.raises(ValueError, match=r"^precision must be None without inference_only, got 'i"):
        accelerate(model, precision="int8")
    with pytest.raises(ValueError, match=r"^precision must be .*, got 'int4'"):
        accelerate(model, inference_only=True, precision="int4")
    assert type(model.body["recurrent"]) is torch.nn.LSTM
    accelerate(model, inference_only=True, precision="int8")
    assert "frozen to int8)" in repr(model)
    with torch.no_grad():
        wanted = model.body["recurrent"].freeze("int8")(x * model.scale)[0]
        assert (model(x) == wanted).all()
    with pytest.raises(TypeError, match=r"^inference_only must be .*, got 'int8'"):
        accelerate(model, inference_only="int8")


@every_module
def test_repr_says_that_a_module_is_frozen(kind):
    model = model_of(kind).eval()
    accelerate(model)
    before = repr(model.body["recurrent"])
    accelerate(model, inference_only=True)
    assert repr(model.body["recurrent"]) == before[:-1] + ", frozen)"
    assert repr(model.body["recurrent"].thaw()) == before


def scripted():
    return torch.nn.Sequential(torch.jit.script(torch.nn.GRU(I, H)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [(lambda: torch.nn.Linear(2, 3), "it could swap$"),
     (lambda: torch.nn.LSTM(I, H), "could swap; model: .*: use a fastrnn.torch.LSTM"),
     (lambda: torch.nn.ModuleList([torch.nn.GRU(I, H).half()]), "swap; 0: weight_ih_l0 is torch.f"),
     (scripted, "could swap; 0: it is scripted: swap before torch.jit.script")],
)  # fmt: skip
def test_a_model_without_a_module_to_swap_gives_a_warning(make, says):
    with pytest.warns(UserWarning, match=says):
        report = accelerate(make())
    assert report.swapped == []


@pytest.mark.parametrize(
    ("model", "got"),
    [("m.pt", "str"), ([torch.nn.GRU(I, H)], "list"), (torch.nn.LSTM, "the class LSTM")],
)
@pytest.mark.parametrize("function", [accelerate, restore])
def test_what_is_no_module_is_named(function, model, got):
    with pytest.raises(TypeError, match=f"^model must be a torch.nn.Module, got {got}$"):
        function(model)


def test_for_inference_only_each_module_is_frozen_or_left():
    class Own(fastrnn.torch.GRU):
        pass

    model = torch.nn.ModuleDict(
        {
            "theirs": torch.nn.GRU(I, H),
            "low": fastrnn.torch.GRU(I, H).half(),
            "meta": fastrnn.torch.GRUCell(I, H, device="meta"),
            "int8": fastrnn.torch.GRU(I, H).freeze("int8"),
            "own": Own(I, H),
            "parametrized": fastrnn.torch.GRU(I, H),
        }
    )
    torch.nn.utils.parametrizations.weight_norm(model["parametrized"], "weight_hh_l0")
    report = accelerate(model.eval(), inference_only=True)
    assert report.swapped == ["theirs"] and report.left.keys() == {"low", "meta"}
    assert "got torch.float16" in report.left["low"] and "got meta" in report.left["meta"]
    assert {n for n, m in model.items() if m._is_frozen} == model.keys() - report.left.keys()
    assert model["int8"]._precision == "int8"


@every_module
def test_there_and_back_is_the_same_model(kind):
    model = model_of(kind)
    x, before = x_for(model), repr(model)
    wanted, parameters = gradients(model, x), list(model.parameters())
    report = accelerate(model)
    assert report == (["body.recurrent"], {})
    assert type(model.body["recurrent"]).__module__.startswith("fastrnn.")
    assert repr(model) == before
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert_close(gradients(model, x), wanted)
    assert restore(model) == (["body.recurrent"], {})
    assert type(model.body["recurrent"]).__module__.startswith("torch.")
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert_close(gradients(model, x), wanted)


@pytest.mark.parametrize("kind", ["lstm", "gru cell"])
def test_an_optimizer_and_the_mode_go_on(kind):
    trained = []
    for swaps in False, True:
        model = model_of(kind)
        optimizer, x = torch.optim.Adam(model.parameters(), 0.1), x_for(model)
        for step in range(4):
            if swaps:
                (accelerate if step % 2 == 0 else restore)(model)
            gradients(model, x)
            optimizer.step()
        trained.append(list(model.parameters()))
    assert_close(*trained)
    model.eval()
    accelerate(model)
    assert not model.body["recurrent"].training


def test_hooks_are_kept_and_can_be_removed():
    model, seen = model_of("gru"), []
    handle = model.body["recurrent"].register_forward_hook(lambda *_: seen.append(1))
    x = x_for(model)
    accelerate(model)
    model(x)
    restore(model)
    model(x)
    assert len(seen) == 2
    handle.remove()
    model(x)
    assert len(seen) == 2


def test_hooks_of_every_kind_are_kept():
    module, seen = torch.nn.GRU(I, H), []
    module.register_forward_pre_hook(lambda *a: seen.append("before"))
    module.register_forward_pre_hook(lambda *a: seen.append("before, named"), with_kwargs=True)
    module.register_forward_hook(lambda *a: seen.append("after"))
    module.register_forward_hook(lambda *a: seen.append("after, named"), with_kwargs=True)
    module.register_forward_hook(lambda *a: seen.append("always"), always_call=True)
    module.register_full_backward_pre_hook(lambda *a: seen.append("backward"))
    module.register_full_backward_hook(lambda *a: seen.append("after backward"))
    model, called = torch.nn.ModuleList([module]), []
    for swap in (lambda model: None, accelerate, restore):
        swap(model)
        seen.clear()
        model[0](torch.ones(6, 4, I, requires_grad=True))[0].sum().backward()
        called.append([*seen])
        seen.clear()
        with pytest.raises((ValueError, RuntimeError)):
            model[0](torch.ones(6, 4, I + 1))
        called[-1] += ["failed", *seen]
    assert called[0] == called[1] == called[2]
    assert len(set(called[0])) == 8


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_are_left():
    model = torch.nn.Sequential(torch.nn.LSTM(I, H))
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.LSTM})
    assert accelerate(quantised).left == {"0": "it is quantised"}


def test_a_module_in_two_places_stays_one():
    shared = torch.nn.GRU(H, H)
    model = torch.nn.ModuleList([shared, torch.nn.Sequential(shared)])
    report = accelerate(model)
    assert report.swapped == ["0", "1.0"] and model[0] is model[1][0]


def test_modules_that_may_be_something_else_are_left_with_a_reason():
    class Own(torch.nn.LSTM):
        pass

    replaced = torch.nn.LSTM(I, H)
    replaced.forward = lambda x: x
    model = torch.nn.ModuleDict(
        {
            "own": Own(I, H),
            "low": torch.nn.GRU(I, H).half(),
            "meta": torch.nn.GRU(I, H, device="meta"),
            "parametrized": torch.nn.GRU(H, H),
            "normed": torch.nn.GRU(I, H),
            "replaced": replaced,
            "buffered": torch.nn.GRU(I, H),
            "parent": torch.nn.GRU(I, H),
            "attributes": torch.nn.GRU(I, H),
            "hooks": torch.nn.GRU(I, H),
            "saved": torch.nn.GRU(I, H),
            "loaded": torch.nn.GRU(I, H),
            "to be saved": torch.nn.GRU(I, H),
            "fine": torch.nn.RNN(I, H),
        }
    )
    torch.nn.utils.parametrizations.orthogonal(model["parametrized"], "weight_hh_l0")
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(model["normed"], "weight_hh_l0")
    model["buffered"].register_buffer("scale", torch.ones(2))
    model["parent"].norm = torch.nn.LayerNorm(H)
    model["attributes"].output_dim = 5
    model["hooks"].register_load_state_dict_pre_hook(lambda *_: None)
    model["saved"].register_state_dict_post_hook(lambda *_: None)
    model["to be saved"].register_state_dict_pre_hook(lambda *_: None)
    model["loaded"].register_load_state_dict_post_hook(lambda *_: None)
    report = accelerate(model)
    assert report.swapped == ["fine"]
    for name, reason in {
        "own": "it is a Own",
        "low": "torch.float16",
        "meta": "on meta",
        "parametrized": "parametrizations",
        "normed": "not those of its class",
        "replaced": "forward was replaced",
        "buffered": "buffers: scale",
        "parent": "modules of its own: norm",
        "attributes": "attributes of its own: output_dim",
        "hooks": "hooks on its state_dict",
        "saved": "hooks on its state_dict",
        "to be saved": "hooks on its state_dict",
        "loaded": "hooks on its state_dict",
    }.items():
        assert reason in report.left[name]
    assert "use a torch.nn.LSTM" in restore(fastrnn.torch.LSTM(I, H)).left[""]


@pytest.mark.filterwarnings("ignore")
def test_modules_that_cannot_be_restored_are_left():
    names = "pruned", "normed", "parent"
    model = torch.nn.ModuleDict({name: fastrnn.torch.GRU(I, H) for name in names})
    prune.l1_unstructured(model["pruned"], "weight_hh_l0", 0.5)
    torch.nn.utils.weight_norm(model["normed"], "weight_hh_l0")
    model["parent"].norm = torch.nn.LayerNorm(H)
    report = restore(model)
    assert not report.swapped and report.left.keys() == set(names)


def test_options_that_torch_has_not_are_left():
    model = torch.nn.ModuleList([fastrnn.torch.GRU(I, H, clip=3.0, reset_after=False)])
    assert "torch.nn has no reset_after, clip" in restore(model).left["0"]


@pytest.mark.filterwarnings("ignore")
def test_a_swapped_model_is_not_traced_but_refused():
    model = model_of("gru")
    x = x_for(model)
    accelerate(model)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"fastrnn.torch.restore"):
            torch.jit.trace(model, x)
        model(x)  # a module that has run is refused, too
    restore(model)
    torch.jit.trace(model, x)


def test_a_copy_of_a_swapped_model_is_its_own():
    model = model_of("lstm")
    accelerate(model)
    x, other = x_for(model), copy.deepcopy(model)
    wanted = gradients(model, x)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    assert_close(gradients(model, x), wanted)
