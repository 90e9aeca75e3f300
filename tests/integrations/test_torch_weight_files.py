"""Weight files of PyTorch: the layers that are loaded compute what torch.nn does, and back."""

import warnings

import numpy as np
import pytest
from decorators import every_dtype

import fastrnn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")

T, B, I, H = 5, 3, 4, 7  # noqa: E741 - as in all the equations

MODULES = {
    "rnn": lambda: torch.nn.RNN(I, H, 2, bidirectional=True, nonlinearity="relu", bias=False),
    "lstm": lambda: torch.nn.LSTM(I, H, 3, bidirectional=True, batch_first=True),
    "lstm, projected": lambda: torch.nn.LSTM(I, H, 2, bidirectional=True, proj_size=2),
    "gru": lambda: torch.nn.GRU(I, H, 2, batch_first=True, dropout=0.5),
}


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def saved(path, module):
    """Write a module's parameters as a user of PyTorch does."""
    if path.suffix == ".npz":
        np.savez(path, **{name: p.numpy() for name, p in module.state_dict().items()})
    else:
        files.save_file(module.state_dict(), path)


def options_of(module):
    own = {"nonlinearity": "relu"} if isinstance(module, torch.nn.RNN) else {}
    return own | {"batch_first": module.batch_first, "dropout": module.dropout}


def assert_same_results(layer, module, dtype):
    shape = (B, T, I) if module.batch_first else (T, B, I)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    slots, hidden = layer.num_layers * layer.num_directions, (layer.proj_size or H, H)
    hidden = hidden if isinstance(layer, fastrnn.LSTM) else hidden[:1]
    rng = np.random.default_rng(1)
    state = [rng.normal(size=(slots, B, size)).astype(dtype) for size in hidden]
    given = [torch.tensor(part) for part in state]
    y, last = layer(x, tuple(state) if len(hidden) > 1 else state[0])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # projections are not in oneDNN
        wanted, wanted_last = module.eval()(
            torch.tensor(x), tuple(given) if len(hidden) > 1 else given[0]
        )
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    pairs = [(y, wanted)]
    pairs += (
        zip(last, wanted_last, strict=True) if isinstance(last, tuple) else [(last, wanted_last)]
    )
    for own, theirs in pairs:
        np.testing.assert_allclose(own, theirs.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODULES)
@every_dtype
def test_a_module_of_pytorch_is_loaded(name, dtype, path):
    module = MODULES[name]().to(getattr(torch, dtype))
    saved(path, module)
    layer = fastrnn.load(path, **options_of(module))
    assert layer.dtype == dtype and layer.draws == bool(module.dropout)
    assert_same_results(layer, module, dtype)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, I)
        self.encoder = torch.nn.ModuleDict(
            {"lstm": torch.nn.LSTM(I, H), "norm": torch.nn.LayerNorm(H)}
        )
        self.decoder = torch.nn.GRUCell(H, H)
        self.head = torch.nn.Linear(H, 2)


def test_a_whole_model_gives_a_dict_of_its_recurrent_layers(path):
    model = Model()
    saved(path, model)
    layers = fastrnn.load(path)
    assert set(layers) == {"encoder.lstm", "decoder"}
    assert_same_results(layers["encoder.lstm"], model.encoder["lstm"], "float32")
    x, h = np.random.default_rng(0).normal(size=(2, B, H)).astype("float32")
    y, _ = layers["decoder"](x[None], h[None])
    with torch.no_grad():
        wanted = model.decoder(torch.tensor(x), torch.tensor(h)).numpy()
    np.testing.assert_allclose(y[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_has_the_numbers_of_pytorch(half, tmp_path):
    model, path = torch.nn.LSTM(I, H).to(getattr(torch, half)), tmp_path / "model.safetensors"
    files.save_file(model.state_dict(), path)
    with pytest.raises(TypeError, match='give dtype="float32"'):
        fastrnn.load(path)
    layer = fastrnn.load(path, dtype="float32")
    for name, parameter in model.state_dict().items():
        np.testing.assert_array_equal(layer.params[name], parameter.float().numpy())


@pytest.mark.parametrize("name", MODULES)
def test_pytorch_reads_what_is_saved(name, path):
    module = MODULES[name]()
    saved(path, MODULES[name]())
    layer = fastrnn.load(path, **options_of(module))
    fastrnn.save(path, layer)
    if path.suffix == ".npz":
        with np.load(path) as file:
            state = {key: torch.tensor(file[key]) for key in file if key != "fastrnn"}
    else:
        state = files.load_file(path)
    module.load_state_dict(state)
    assert_same_results(layer, module, "float32")


def test_a_file_of_torch_save_is_refused(tmp_path):
    for path in (tmp_path / "model.pt", tmp_path / "model.npz"):
        torch.save(torch.nn.LSTM(I, H).state_dict(), path)
        with pytest.raises(ValueError, match="pickled files are never read: save as safetensors"):
            fastrnn.load(path)
