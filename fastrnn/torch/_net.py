"""Net: a stack of layers whose parameters are the memory of tensors.

A `Net` runs as a layer does, but its weights are arrays over the tensors' own memory: nothing is
copied, so a change of a tensor in place is seen by the next call.

It must not know: modules, packed sequences.
"""

import numpy as np
import torch
from torch.utils.dlpack import to_dlpack

from fastrnn._cells.options import Options
from fastrnn._cells.registry import kernel_weights
from fastrnn._engine import runtime
from fastrnn._layer.running import Running

DTYPES = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


# Looks at tensors in compiled code; None without kernels, and with a torch before 2.10.
EXCHANGE = None
if runtime.core is not None and hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    EXCHANGE = runtime.core.Exchange(torch.Tensor)


class _Memory:
    """A tensor's memory for NumPy.

    ``Tensor.numpy()`` would forbid to resize the storage from then on, which FSDP does with
    parameters and ``out=`` with the input of the next call.
    """

    __slots__ = ("tensor",)

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **_):
        return to_dlpack(self.tensor)

    def __dlpack_device__(self):
        return 1, 0  # the CPU


def array_of(tensor):
    """A tensor's memory as an array; None stays None."""
    if tensor is None:
        return None
    if tensor.is_neg():  # a view whose sign torch keeps apart
        tensor = tensor.resolve_neg()
    if tensor.data_ptr() == 0 and tensor.numel() > 0:
        raise RuntimeError("a tensor must have memory, got one whose storage is empty")
    return np.from_dlpack(_Memory(tensor.detach() if tensor.requires_grad else tensor))


def view_of(tensor):
    """The same as `array_of`, for a caller that holds the tensor meanwhile, and made more quickly.

    The array is valid as long as the tensor is not given other memory.
    """
    view = None
    if EXCHANGE is not None and tensor is not None and not tensor.is_neg():
        view = EXCHANGE.array(tensor)
    return array_of(tensor) if view is None else view


def places(tensors):
    """The places of tensors in memory: equal as long as arrays over them are valid."""
    found = None if EXCHANGE is None else EXCHANGE.places(tuple(tensors))
    return [(t.data_ptr(), t.shape, t.stride()) for t in tensors] if found is None else found


class Net(Running):
    """The run of a stack over tensors' memory.

    structure : `Structure`, whose parameters `tensors` are, by name.
    where : the `places` of the tensors.
    """

    def __init__(self, structure, tensors, where):
        self.where = where
        # The arrays hold tensors of their own: torch.utils.swap_tensors wants the only reference.
        own = {name: t.detach() for name, t in tensors.items()}
        arrays = {name: np.ascontiguousarray(array_of(t)) for name, t in own.items()}
        self._structure, self.options = structure, structure.cell.options or Options()
        self._parameters = [structure.parameters(k, arrays) for k in range(structure.slots)]
        self._kernel_weights = [kernel_weights(structure.cell, own) for own in self._parameters]
        self._runner = self._new_runner()
        self._zeros = None
        self._dropout, self._recurrent_dropout, self._rng = 0.0, 0.0, None

    def __deepcopy__(self, memo):
        """None: the memory is not the copy's. A copied module, whose `_net` this is, makes its own.

        The module's `__getstate__` says so too, but a parametrized module is copied without it.
        """
        return None

    def drawing(self, dropout, recurrent_dropout):
        """This net with dropout for one call. It draws from torch's default generator."""
        net = object.__new__(type(self))
        net.__dict__.update(self.__dict__)
        net._dropout, net._recurrent_dropout = dropout, recurrent_dropout
        zoneout = self.options.zoneout
        if recurrent_dropout or zoneout:
            seed = torch.randint(2**62, (), device="cpu")  # torch's default may be another
            net._rng = np.random.default_rng(int(seed))
        return net

    def _with_dropout(self, x):
        """x after dropout, and its factors: those that torch.nn.LSTM draws."""
        ones = torch.from_numpy(np.ones(x.shape, x.dtype))
        factors = torch.nn.functional.dropout(ones, self._dropout, training=True).numpy()
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            return x * factors, factors
