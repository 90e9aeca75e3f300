"""Modules of torch.nn and of fastrnn.torch with equal parameters, and what tests draw for them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch  # noqa: E402

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


def leaves_of_arrays(value):
    if isinstance(value, np.ndarray):
        return [torch.tensor(value)]
    return [t for v in value for t in leaves_of_arrays(v)]


def assert_same_as_new(module, kind, x, **net):
    """A module gives what a new one with its parameters gives."""
    name, options = KINDS[kind]
    new = getattr(fastrnn.torch, name)(I, H, dtype=x.dtype, **options, **net)
    new.load_state_dict(module.state_dict())
    assert_equal(leaves(module(x)), leaves(new(x)))
