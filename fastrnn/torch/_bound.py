"""Bound: the base of all modules, whose parameters a `Net` reads where they are.

It must not know: sequences, packed or not.
"""

from __future__ import annotations

import math
from operator import itemgetter

import torch
from torch import nn

from fastrnn._layer.structure import Structure
from fastrnn.torch._freezing import Freezing
from fastrnn.torch._net import DTYPES, Net, places
from fastrnn.torch._traced import plan_of
from fastrnn.torch._tracing import NO_SCRIPT, is_jit_traced, must_be_alone

_FIXED = frozenset({
    "mode", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size",
    "nonlinearity", "reset_after", "recurrent_dropout",
})  # fmt: skip


def structure_of(cell, dtype, sizes, *, num_layers=1, bias=True, batch_first=False,
                 bidirectional=False):  # fmt: skip
    """The `Structure` of a stack; sizes : input_size, hidden_size and proj_size."""
    return Structure(cell, *sizes, num_layers, bias, batch_first, bidirectional, "concat", dtype)


class Bound(Freezing):
    """A module whose parameters a `Net` reads where they are.

    A subclass has `_cell`, `hidden_size` and `_new_structure`, which makes the `Structure` for a
    dtype. A call that torch follows goes to its `_traced`, any other to `_forward`. Its `_answer`
    takes a call again once torch.compile no longer watches.
    """

    def __init__(self):
        super().__init__()
        self._structures = {}  # by dtype
        self._net = None  # the `Net` of the last call

    def __getstate__(self):
        """The attributes for a copy, which makes a `Net` and a `Frozen` of its own."""
        return {**self.__dict__, "_net": None, "_frozen": {}}

    def __setattr__(self, name, value):
        """Set an attribute; those that decide parameters or the cell are fixed."""
        if name in _FIXED and vars(self).get(name, value) != value:
            raise AttributeError(f"{name} is fixed: make a new {type(self).__name__}")
        if name == "batch_first":
            vars(self).update(_structures={}, _net=None, _frozen={})
        super().__setattr__(name, value)

    def _structure(self, dtype):
        if dtype not in self._structures:
            self._structures[dtype] = self._new_structure(dtype)
        return self._structures[dtype]

    def _shapes(self):
        return self._structure(DTYPES[torch.float32]).shapes

    def _make_parameters(self, names, device, dtype):
        """Register all parameters. names : a dict from a structure's names to this module's."""
        shapes = self._shapes()
        for name, own in names.items():
            empty = torch.empty(shapes[name], device=device, dtype=dtype)
            self.register_parameter(own, nn.Parameter(empty))
        self._names, self._own = names, itemgetter(*names.values())
        self._plan = plan_of(self._structure(DTYPES[torch.float32]), names)

    def reset_parameters(self) -> None:
        """Draw all parameters from +-1/sqrt(hidden_size), as torch.nn does.

        Examples
        --------
        >>> import torch
        >>> from fastrnn.torch import GRU
        >>> gru, _ = GRU(3, 4), torch.manual_seed(0)
        >>> gru.reset_parameters()
        >>> bool((gru.weight_ih_l0.abs() <= 0.5).all())
        True
        """
        bound = 1 / math.sqrt(self.hidden_size)
        begins = {extra.kind: extra.begins for extra in self._cell.extras}
        for name, own in self._names.items():
            begin = begins.get(name.rpartition("_l")[0])
            if begin is None:
                nn.init.uniform_(getattr(self, own), -bound, bound)
            else:
                nn.init.constant_(getattr(self, own), begin)

    def _check_parameters(self, tensors):
        for own, shape, tensor in zip(
            self._names.values(), self._shapes().values(), tensors, strict=True
        ):
            if not isinstance(tensor, torch.Tensor):
                raise TypeError(f"{own} must be a parameter, got {type(tensor).__name__}")
            check_place(own, tensor)
            if tensor.dtype not in DTYPES or tensor.dtype is not tensors[0].dtype:
                raise RuntimeError(
                    f"parameters must all be float32, or all float64, got {tensor.dtype} for "
                    f"{own}: use module.float(), or fastrnn.torch.restore(model)"
                )
            if tensor.shape != shape:
                raise ValueError(f"{own} must be {shape}, got {tuple(tensor.shape)}")
            if tensor.numel() > 0 and tensor.data_ptr() == 0:
                raise RuntimeError(f"{own} must have memory, got a tensor whose storage is empty")

    def __prepare_scriptable__(self):
        """Refuse torch.jit.script, which calls this first."""
        raise RuntimeError(NO_SCRIPT)

    # ---- where parameters are --------------------------------------------------------------------

    def _tensors(self):
        """The parameters, or what stands in their place (functional_call, parametrizations)."""
        try:
            return self._own(self._parameters)
        except KeyError:
            return tuple([getattr(self, n) for n in self._names.values()])

    def _ready(self, tensors):
        """The `Net` or `Frozen` for an ordinary call, and the parameters; or None.

        tensors : the input, and the state without Nones.

        It takes a few microseconds, which short calls notice. For all other calls it returns None:
        `_bound` takes every call, and has the words for those that are refused.
        """
        net, frozen = self._net, self._is_frozen
        if net is None or torch.is_autocast_enabled("cpu") or is_jit_traced():
            return None
        own = self._tensors()
        try:
            for t in tensors:
                if (
                    type(t) is not torch.Tensor or t.dtype is not own[0].dtype or not t.is_cpu
                    or t.is_neg() or t.data_ptr() == 0 or (frozen and t.requires_grad)
                ):  # fmt: skip
                    return None
            if frozen:
                return self._packed(own, self._precision), own
            return (net, own) if places(own) == net.where else None
        except (AttributeError, RuntimeError):  # of a parameter or a tensor without memory
            return None

    def _bound(self, input, state):
        """The `Net` of the parameters as they are now, the parameters, the input and the state.

        With autocast the input and the state are cast to the parameters' dtype.
        """
        if is_jit_traced():
            raise RuntimeError(NO_SCRIPT)
        for name, tensor in ("input", input), *[("hx", s) for s in state if s is not None]:
            must_be_tensor(name, tensor)
        tensors = self._tensors()
        if any([t is None for t in tensors]):
            self._check_parameters(tensors)
        input, *state = from_autocast((input, *state), tensors[0].dtype)
        net, where = self._net, places(tensors)
        if net is None or net.where != where or input.dtype is not tensors[0].dtype:
            net = self._new_net(tensors, where, input, state)
        self._check_tensors(input, state, tensors[0].dtype)
        return net, tensors, input, state

    def _check_tensors(self, input, state, dtype):
        """Raise unless the input and the state have the parameters' dtype, and are on the CPU."""
        for name, tensor in zip(("input", *state_names(state)), (input, *state), strict=True):
            if tensor is None:
                continue
            check_place(name, tensor)
            if tensor.dtype is not dtype:
                ids = "" if tensor.is_floating_point() else "; ids need a torch.nn.Embedding before"
                raise TypeError(
                    f"{name} must be {dtype}, the parameters' dtype, got {tensor.dtype}: use "
                    f"{name.split()[0]}.to({dtype}){ids}"
                )

    def _new_net(self, tensors, where, input, state):
        dtype = tensors[0].dtype
        self._check_parameters(tensors)
        self._check_tensors(input, state, dtype)
        named = dict(zip(self._names, tensors, strict=True))
        net = Net(self._structure(DTYPES[dtype]), named, where)
        if all(t.is_contiguous() and not t.is_neg() for t in tensors):  # else the net has copies
            self._net = net
        return net


def state_names(state):
    """The names of a state's tensors in messages."""
    return ("hx",) if len(state) == 1 else ("h of hx", "c of hx")


def from_autocast(tensors, dtype):
    """With autocast, the tensors in the dtype of the parameters; a None stays None."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return [None if t is None else t.to(dtype) for t in tensors]


def as_autocast(tensors):
    """Tensors in the dtype of autocast, if it is on; float64 stays, as in torch."""
    if not torch.is_autocast_enabled("cpu") or tensors[0].dtype is torch.float64:
        return tensors
    return tuple([t.to(torch.get_autocast_dtype("cpu")) for t in tensors])


def must_be_tensor(name, value):
    """TypeError unless it is a tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a Tensor, got a {type(value).__name__}")


def check_place(name, tensor):
    """Raise unless it is a tensor on the CPU, and dense."""
    must_be_tensor(name, tensor)
    if tensor.device.type != "cpu":
        raise RuntimeError(
            f"{name} must be on the CPU, where fastrnn computes, got {tensor.device}: use "
            "torch.nn's module there, or fastrnn.torch.restore(model)"
        )
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} must be dense, got {tensor.layout}: use {name}.to_dense()")


@torch.compiler.disable
def unwatched(module, *arguments):
    """The answer of a call that torch.compile watches and does not follow."""
    return module._answer(*arguments)


@torch.compiler.disable
def untraced(module, *arguments):
    """The answer of a call that has no operations for torch to follow."""
    must_be_alone()
    return module._forward(*arguments)
