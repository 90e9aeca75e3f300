"""Bound: the base of all modules, whose parameters a `Net` reads where they are.

It must not know: sequences, packed or not.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from fastrnn._layer.structure import Structure
from fastrnn.torch._net import Net, places

_DTYPES = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


def structure_of(cell, dtype, sizes, *, num_layers=1, bias=True, batch_first=False,
                 bidirectional=False):  # fmt: skip
    """The `Structure` of a stack; sizes : input_size, hidden_size and proj_size."""
    return Structure(cell, *sizes, num_layers, bias, batch_first, bidirectional, "concat", dtype)


class Bound(nn.Module):
    """A module whose parameters a `Net` reads where they are.

    A subclass has `_cell`, `hidden_size` and `_new_structure`, which makes the `Structure` for a
    dtype.
    """

    def __init__(self):
        super().__init__()
        self._structures = {}  # by dtype
        self._net = None  # a `Net`, and where its tensors were when it was made

    def __getstate__(self):
        """The attributes for a copy, which makes a `Net` of its own."""
        return {**self.__dict__, "_net": None}

    def _structure(self, dtype):
        if dtype not in self._structures:
            self._structures[dtype] = self._new_structure(dtype)
        return self._structures[dtype]

    def _shapes(self):
        return self._structure(_DTYPES[torch.float32]).shapes

    def _make_parameters(self, names, device, dtype):
        """Register all parameters. names : a dict from a structure's names to this module's."""
        shapes = self._shapes()
        for name, own in names.items():
            empty = torch.empty(shapes[name], device=device, dtype=dtype)
            self.register_parameter(own, nn.Parameter(empty))
        self._names = names

    def reset_parameters(self) -> None:
        """Draw all parameters from +-1/sqrt(hidden_size), as torch.nn does."""
        bound = 1 / math.sqrt(self.hidden_size)
        begins = {extra.kind: extra.begins for extra in self._cell.extras}
        for name, own in self._names.items():
            begin = begins.get(name.rpartition("_l")[0])
            if begin is None:
                nn.init.uniform_(getattr(self, own), -bound, bound)
            else:
                nn.init.constant_(getattr(self, own), begin)

    def _tensors(self):
        """The parameters, or what stands in their place (functional_call, parametrizations)."""
        own = self._parameters
        return [own[n] if n in own else getattr(self, n) for n in self._names.values()]

    def _bound(self, input, state):
        """The `Net` of the parameters as they are now, the parameters, the input and the state.

        With autocast the input and the state are cast to the parameters' dtype.
        """
        tensors = self._tensors()
        if torch.is_autocast_enabled("cpu"):
            input, *state = [
                t if t is None else t.to(tensors[0].dtype) for t in (input, *state)
            ]  # fmt: skip
        held, where = self._net, places(tensors)
        if held is None or held[1] != where or input.dtype is not held[2]:
            held = self._new_net(tensors, where, input)
        if input.device.type != "cpu":
            _check_device("input", input)
        return held[0], tensors, input, state

    def _new_net(self, tensors, where, input):
        dtype = tensors[0].dtype
        for name, tensor in zip(self._names.values(), tensors, strict=True):
            _check_device(name, tensor)
            if tensor.dtype not in _DTYPES or tensor.dtype is not dtype:
                raise TypeError(
                    f"parameters must all be float32, or all float64, got {tensor.dtype} for "
                    f"{name}: use module.float(), or fastrnn.torch.restore(model)"
                )
            if tensor.numel() > 0 and tensor.data_ptr() == 0:
                raise RuntimeError(f"{name} must have memory, got a tensor whose storage is empty")
        if input.dtype is not dtype:
            raise TypeError(
                f"input must be {dtype}, the parameters' dtype, got {input.dtype}: use "
                f"input.to({dtype})"
            )
        named = dict(zip(self._names, tensors, strict=True))
        held = Net(self._structure(_DTYPES[dtype]), named), where, dtype
        if all(t.is_contiguous() for t in tensors):  # else the net has copies
            self._net = held
        return held


def as_autocast(tensors):
    """Tensors in the dtype of autocast, if it is on."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return tuple([t.to(torch.get_autocast_dtype("cpu")) for t in tensors])


def _check_device(name, tensor):
    if tensor.device.type != "cpu":
        raise RuntimeError(
            f"{name} must be on the CPU, where fastrnn computes, got {tensor.device}: use "
            "torch.nn's module there, or fastrnn.torch.restore(model)"
        )
