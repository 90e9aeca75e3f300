"""Random modules and batches: fastrnn.torch against torch.nn, outputs and all gradients."""

import os

import pytest

torch = pytest.importorskip("torch")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import fastrnn.torch  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

CASES = int(os.environ.get("FASTRNN_CASES", 60))


@st.composite
def modules(draw):
    """The name of a class, its arguments, and sizes: steps, rows, inputs."""
    name = draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    hidden = draw(st.integers(1, 40))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.sampled_from([0.0, 0.5]))
    if name == "LSTM" and hidden > 1:
        options["proj_size"] = draw(st.sampled_from([0, 1, hidden - 1]))
    if name == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    sizes = draw(st.integers(1, 30)), draw(st.integers(1, 70)), draw(st.integers(1, 20))
    return name, hidden, options, sizes


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return [value.data]
    return [t for v in value for t in tensors(v)]


def run(module, x, state, lengths, seed):
    """The results, and the gradients of a loss that weighs every element anew."""
    x, state = x.clone().requires_grad_(), [s.clone().requires_grad_() for s in state]
    first = state[0] if len(state) == 1 else tuple(state)
    torch.manual_seed(seed)
    if lengths is None:
        results = tensors(module(x, first))
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, module.batch_first, enforce_sorted=False
        )
        results = tensors(module(packed, first))
    torch.manual_seed(seed)
    sum((r * torch.randn(r.shape, dtype=r.dtype)).sum() for r in results).backward()
    return results + [t.grad for t in (x, *state, *module.parameters())]


@settings(
    max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(modules(), st.sampled_from([torch.float32, torch.float64]), st.booleans(),
       st.integers(0, 2**31))  # fmt: skip
def test_results_and_gradients_are_torchs(made, dtype, ragged, seed):
    name, hidden, options, (steps, rows, inputs) = made
    if ragged:
        options = {**options, "dropout": 0.0}  # torch.nn draws it for the packed rows alone
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, name)(inputs, hidden, dtype=dtype, **options)
    ours = getattr(fastrnn.torch, name)(inputs, hidden, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    shape = (rows, steps) if ours.batch_first else (steps, rows)
    slots = ours.num_layers * (2 if ours.bidirectional else 1)
    x = torch.randn(*shape, inputs, dtype=dtype)
    state = [torch.randn(slots, rows, ours.proj_size or hidden, dtype=dtype)]
    if name == "LSTM":
        state.append(torch.randn(slots, rows, hidden, dtype=dtype))
    lengths = torch.randint(1, steps + 1, (rows,)) if ragged else None
    wanted = run(theirs, x, state, lengths, seed)
    for a, b in zip(run(ours, x, state, lengths, seed), wanted, strict=True):
        scale = max(1.0, float(b.detach().abs().max()))
        eps = (1e-4 if dtype is torch.float32 else 1e-11) * scale
        torch.testing.assert_close(a, b, rtol=0, atol=eps)
