"""fastrnn.torch on the inputs with which PyTorch tests its own RNN, LSTM, GRU and cells."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # torch.testing._internal needs it

from torch.testing._internal.common_modules import module_db  # noqa: E402
from torch.testing._internal.common_utils import noncontiguous_like  # noqa: E402

import fastrnn.torch  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout"),
]

NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
INFOS = {info.name.removeprefix("nn."): info for info in module_db}
every_module = pytest.mark.parametrize("name", NAMES)


def inputs(name, dtype, training=True):
    """Their inputs: a pair of modules with equal parameters, and arguments of a call."""
    torch.manual_seed(0)
    info = INFOS[name]
    given = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training
    )
    for one in given:
        arguments, options = one.constructor_input.args, one.constructor_input.kwargs
        theirs = getattr(torch.nn, name)(*arguments, dtype=dtype, **options)
        ours = getattr(fastrnn.torch, name)(*arguments, dtype=dtype, **options)
        ours.load_state_dict(theirs.state_dict())
        yield theirs.train(training), ours.train(training), one.forward_input


def leaves(value):
    """All tensors of nested tuples, lists, dicts and packed sequences."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return [value.data]
    if isinstance(value, dict):
        value = value.values()
    return [t for v in value for t in leaves(v)] if isinstance(value, tuple | list) else []


def gradients(module, call):
    """The results of a call, and the gradients of all that wants one."""
    call = copy.deepcopy(call)
    results = leaves(module(*call.args, **call.kwargs))
    sum(r.square().sum() for r in results).backward()
    tensors = [*leaves(call.args), *leaves(call.kwargs), *module.parameters()]
    return results + [t.grad for t in tensors if t.requires_grad and t.is_leaf]


def assert_close(got, wanted):
    eps = 1e-4 if wanted[0].dtype == torch.float32 else 1e-12
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=eps, atol=eps)


@every_module
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_results_gradients_and_words(name, dtype, training):
    for theirs, ours, call in inputs(name, dtype, training):
        assert repr(ours) == repr(theirs)
        assert_close(gradients(ours, call), gradients(theirs, call))


@every_module
def test_tensors_of_any_layout(name):
    for theirs, ours, call in inputs(name, torch.float64):
        x, *others = call.args
        if isinstance(x, torch.Tensor):
            x = noncontiguous_like(x)
        with torch.no_grad():
            got, wanted = (leaves(m(x, *others, **call.kwargs)) for m in (ours, theirs))
        assert_close(got, wanted)


@every_module
def test_copies_and_pickles(name):
    for _, ours, call in inputs(name, torch.float64):
        with torch.no_grad():
            wanted = leaves(ours(*call.args, **call.kwargs))
            for other in copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)):
                for a, b in zip(leaves(other(*call.args, **call.kwargs)), wanted, strict=True):
                    assert torch.equal(a, b)


@pytest.mark.slow
@every_module
def test_gradients_and_their_gradients(name):
    for _, ours, call in inputs(name, torch.float64):
        wanted = [t for t in leaves(call.args) + leaves(call.kwargs) if t.requires_grad]

        def run(*_, module=ours, call=call):
            return tuple(leaves(module(*call.args, **call.kwargs)))

        assert torch.autograd.gradcheck(run, wanted)
        assert torch.autograd.gradgradcheck(run, wanted)
