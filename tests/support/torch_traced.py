"""Modules for torch to compile, export and transform, and what tests draw for them."""

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch  # noqa: E402

T, B, I, H = 5, 3, 2, 6  # noqa: E741 - as in all the equations
KINDS = {"rnn": fastrnn.torch.RNN, "lstm": fastrnn.torch.LSTM, "gru": fastrnn.torch.GRU}
CELL_KINDS = {
    "rnn": fastrnn.torch.RNNCell, "lstm": fastrnn.torch.LSTMCell, "gru": fastrnn.torch.GRUCell,
}  # fmt: skip
NETS = {
    "one layer": {},
    "a stack of both, batch first": {
        "num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False,
    },
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)
every_net = pytest.mark.parametrize("net", NETS)


def draw(*shape, dtype=torch.float64, grad=False, seed=0):
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.rand(*shape, dtype=dtype, generator=rng) * 2 - 1).requires_grad_(grad)


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
