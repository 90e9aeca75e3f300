"""Exchange: the memory of tensors, by the C exchange API of DLPack, which torch has since 2.10."""

import ctypes
import gc
import weakref

import numpy as np
import pytest
from decorators import every_dtype
from problems import assert_same_bits

from fastrnn._engine import runtime

torch = pytest.importorskip("torch")
_net = pytest.importorskip("fastrnn.torch._net")

has_api = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="torch is older than 2.10"
)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@pytest.fixture
def exchange(core):
    return core.Exchange(torch.Tensor)


def tensors_of(dtype):
    """name -> a tensor of floats with memory."""
    whole = torch.arange(24.0, dtype=dtype).reshape(2, 3, 4)
    return {
        "dense": whole,
        "transposed": whole.transpose(0, 2),
        "every other": whole[:, ::2, 1:],
        "one row for all": whole[0, 0].expand(5, 4),
        "a number": torch.tensor(3.0, dtype=dtype),
        "a parameter": torch.nn.Parameter(whole),
        "of a graph": whole.clone().requires_grad_() * 2,
        "of inference": torch.inference_mode()(torch.ones)(3, dtype=dtype),
    }


@has_api
@every_dtype
def test_an_array_has_the_numbers_of_the_tensor(exchange, dtype):
    for name, tensor in tensors_of(DTYPES[np.dtype(dtype).name]).items():
        array = exchange.array(tensor)
        assert_same_bits(array.copy(), tensor.detach().contiguous().numpy())
        assert array.shape == tuple(tensor.shape), name
        assert array.strides == tuple(n * array.itemsize for n in tensor.stride()), name
        assert not array.flags.writeable and array.flags.aligned, name


@has_api
def test_an_array_is_over_the_memory_and_keeps_it_alive(exchange):
    tensor = torch.zeros(1000)
    array, gone = exchange.array(tensor), weakref.ref(tensor)
    tensor[3] = 7
    del tensor
    gc.collect()
    assert gone() is not None and array[3] == 7
    del array
    gc.collect()
    assert gone() is None


def others():
    """name -> what is no tensor of floats with memory on the CPU."""
    return {
        "integers": torch.arange(3),
        "booleans": torch.ones(3, dtype=torch.bool),
        "half": torch.ones(3, dtype=torch.half),
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
        "complex": torch.ones(3, dtype=torch.complex64),
        "sparse": torch.eye(3).to_sparse(),
        "of no memory": torch.ones(3, device="meta"),
        "empty": torch.ones(0),
        "an array": np.ones(3, np.float32),
        "nothing": None,
        "the class": torch.Tensor,
    }


@has_api
@pytest.mark.parametrize("name", others())
def test_there_is_no_array_of_anything_else(exchange, name):
    assert exchange.array(others()[name]) is None


@has_api
def test_places_are_equal_as_long_as_arrays_are_valid(exchange):
    tensor, more = torch.zeros(4, 6), torch.zeros(4, 6)
    same = [tensor, tensor.detach(), tensor.view(4, 6), torch.nn.Parameter(tensor)]
    assert len({exchange.places((t, more)) for t in same}) == 1
    moved = [more, tensor[1:], tensor.view(6, 4), tensor.t(), tensor[:, :5], tensor.view(24)]
    kinds = [tensor.view(torch.int32), tensor.view(torch.float64)]
    different = {exchange.places((t, more)) for t in (tensor, *moved, *kinds)}
    assert len(different) == 1 + len(moved) + len(kinds)
    assert exchange.places((tensor,)) != exchange.places((tensor, more))
    assert exchange.places(()) == b""


@has_api
def test_places_of_any_number_of_tensors(exchange):
    tensors = tuple(torch.zeros((1,) * (n % 9)) for n in range(500))
    whole = exchange.places(tensors)
    assert whole == b"".join(exchange.places((t,)) for t in tensors)
    assert exchange.places((*tensors, None)) is None


@has_api
@pytest.mark.parametrize("name", ["sparse", "of no memory", "an array", "nothing", "the class"])
def test_there_are_no_places_without_memory(exchange, name):
    assert exchange.places((torch.ones(3), others()[name])) is None


NAME = b"dlpack_exchange_api"


def test_a_class_without_the_api_or_of_another_version_is_refused(core):
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
    for major in (2, 1):  # all functions are NULL
        table = (ctypes.c_uint32 * 16)(major, 0)
        capsule = make(ctypes.addressof(table), NAME, None)
        with pytest.raises(ValueError, match="C exchange API 1 expected"):
            core.Exchange(type("Other", (), {"__dlpack_c_exchange_api__": capsule}))
    for other in (int, None, 3):
        with pytest.raises(AttributeError):
            core.Exchange(other)
    with pytest.raises(ValueError):
        core.Exchange(type("Wrong", (), {"__dlpack_c_exchange_api__": 3}))


# ---- without it, as with an older torch, and without kernels -------------------------------------


@pytest.mark.parametrize("wants", [False, True], ids=["inference", "training"])
def test_modules_are_the_same_without_it(monkeypatch, wants):
    lstm = pytest.importorskip("fastrnn.torch").LSTM(3, 5, 2, bidirectional=True)
    x, state = torch.randn(7, 2, 3), (torch.randn(4, 2, 5), torch.randn(4, 2, 5))

    def answers():
        with torch.set_grad_enabled(wants):
            found = [lstm(x), lstm(x, state), lstm(x.transpose(0, 1).contiguous().transpose(0, 1))]
            lstm.weight_hh_l0.data = lstm.weight_hh_l0.data.clone()
            lstm.bias_ih_l1.data.mul_(2)
            found.append(lstm(x))
            lstm.bias_ih_l1.data.div_(2)
        return [t.detach().numpy() for y, (h, c) in found for t in (y, h, c)]

    wanted = answers()
    monkeypatch.setattr(_net, "EXCHANGE", None)
    for got, one in zip(answers(), wanted, strict=True):
        assert_same_bits(got, one)


@has_api
def test_the_modules_use_it(core):
    assert isinstance(_net.EXCHANGE, runtime.core.Exchange)
