"""Recurrent: the base of RNN, LSTM and GRU, from the user's tensors to a `Net` and back.

It must not know: kernels, which cells there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn import checks
from fastrnn._cells import options
from fastrnn._cells.registry import projected, variant
from fastrnn._layer.dropout import warn_of_one_layer
from fastrnn.torch._autograd import run, run_shortly, wants_gradient
from fastrnn.torch._bound import (
    Bound,
    as_autocast,
    check_place,
    from_autocast,
    state_names,
    structure_of,
    untraced,
    unwatched,
)
from fastrnn.torch._net import array_of
from fastrnn.torch._packed import packed_like, unpacked
from fastrnn.torch._traced import run_traced
from fastrnn.torch._tracing import is_alone, is_traced, is_watched

if TYPE_CHECKING:
    from torch import Tensor, nn


class Recurrent(Bound):
    """A module of the common parts of RNN, LSTM and GRU."""

    mode: str

    def __init__(
        self, mode, cell, input_size, hidden_size, num_layers, *, bias, batch_first, dropout,
        bidirectional, proj_size, device, dtype, recurrent_dropout, variant_options,
    ):  # fmt: skip
        super().__init__()
        self.mode = mode
        self.input_size = checks.positive("input_size", input_size, 0)
        self.hidden_size = checks.positive("hidden_size", hidden_size)
        self.num_layers = checks.positive("num_layers", num_layers)
        self.bias = checks.flag("bias", bool(bias))
        self.batch_first = checks.flag("batch_first", bool(batch_first))
        self.dropout = float(checks.fraction("dropout", dropout))
        warn_of_one_layer(self.dropout, self.num_layers, 2)
        self.bidirectional = checks.flag("bidirectional", bool(bidirectional))
        self.proj_size = checks.positive("proj_size", proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size must be less than hidden_size = {self.hidden_size}, got {proj_size}"
            )
        self.recurrent_dropout = float(checks.fraction("recurrent_dropout", recurrent_dropout))
        for name in variant_options:
            if name not in options.Options._fields:
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}"
                )
        self._options = options.checked(cell.states, **variant_options)
        if self.proj_size and self._options.zoneout:
            raise ValueError("zoneout must be 0 with proj_size: a projected h has no zoneout")
        cell = variant(cell, self._options)
        self._cell = projected(cell) if self.proj_size else cell
        self._make_parameters({name: name for name in self._shapes()}, device, dtype)
        self.reset_parameters()

    def _new_structure(self, dtype):
        return structure_of(
            self._cell, dtype, (self.input_size, self.hidden_size, self.proj_size),
            num_layers=self.num_layers, bias=self.bias, batch_first=self.batch_first,
            bidirectional=self.bidirectional,
        )  # fmt: skip

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each pass: for each layer that of each direction."""
        names = list(self._names)
        passes = self.num_layers * (2 if self.bidirectional else 1)
        each = len(names) // passes
        return [[getattr(self, n) for n in names[i * each :][:each]] for i in range(passes)]

    def flatten_parameters(self) -> None:
        """Do nothing: the kernels read parameters where they are."""

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not its defaults, and whether it is frozen."""
        given = [f"{self.input_size}, {self.hidden_size}"]
        given += [f"proj_size={self.proj_size}"] * (self.proj_size != 0)
        given += [f"num_layers={self.num_layers}"] * (self.num_layers != 1)
        given += ["bias=False"] * (not self.bias)
        given += ["batch_first=True"] * self.batch_first
        given += [f"dropout={self.dropout}"] * (self.dropout != 0)
        given += ["bidirectional=True"] * self.bidirectional
        given += [f"{name}={value!r}" for name, value in self.options().items()]
        return ", ".join(given + self._shown())

    def options(self) -> dict[str, Any]:
        """The arguments that torch.nn's constructor has not, where they are not the defaults.

        Returns
        -------
        dict

        Examples
        --------
        >>> from fastrnn.torch import LSTM
        >>> LSTM(3, 5, peephole=True, zoneout=0.1).options()
        {'zoneout': 0.1, 'peephole': True}
        """
        given = self._options.non_default()
        if self.recurrent_dropout:
            given["recurrent_dropout"] = self.recurrent_dropout
        return given

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *,
        lengths: Any = None, mask: Any = None, reset: Any = None, reset_to: str = "zero",
    ) -> tuple[Any, Any]:  # fmt: skip
        """Run the module: y and the final state, as torch.nn's modules return them.

        Parameters
        ----------
        input : Tensor or PackedSequence
            (T, B, input_size), (B, T, input_size) if batch_first, (T, input_size) unbatched.
        hx : Tensor, or for an LSTM a pair (h, c), or None for zeros
            (L*D, B, H) each, L layers, D directions; h is (L*D, B, P) with proj_size.
        lengths : (B,) integers or None
            The number of steps of each row, in any order. Beyond them y is 0.
        mask : booleans like input but for its last axis, or None
            False where a row keeps its state and repeats its y.
        reset : booleans like the mask, or None
            True where a row's state is reset before that step, as where an episode begins. No
            gradient passes through a reset.
        reset_to : {"zero", "initial"}
            The value after a reset: zero, or hx.

        Returns
        -------
        y : like input, with D*H or D*P features
        hx : like the argument

        Raises
        ------
        ValueError, TypeError, RuntimeError
            For shapes, dtypes and devices that do not fit.

        Examples
        --------
        >>> import torch
        >>> from fastrnn.torch import GRU
        >>> gru, x = GRU(3, 5), torch.ones(7, 2, 3)  # 7 steps of 2 sequences
        >>> y, h = gru(x, lengths=[7, 4])
        >>> tuple(y.shape), bool((y[4:, 1] == 0).all())
        ((7, 2, 5), True)
        """
        drawing = self.training and self._draws()
        ordinary = lengths is mask is reset is None and reset_to == "zero" and not drawing
        if ordinary and is_alone():
            answer = self._short(input, hx)
            if answer is not None:
                return answer
        if is_watched():
            return unwatched(self, input, hx, lengths, mask, reset, reset_to)
        if is_traced():
            return self._traced(input, hx, lengths, mask, reset, reset_to)
        return self._forward(input, hx, lengths, mask, reset, reset_to)

    def _answer(self, input, hx, lengths, mask, reset, reset_to):
        """The same as `forward`, where torch.compile no longer watches."""
        rows = {"lengths": lengths, "mask": mask, "reset": reset, "reset_to": reset_to}
        return Recurrent.forward(self, input, hx, **rows)

    def _traced(self, input, hx, lengths, mask, reset, reset_to):
        """The answer of a call whose operations torch follows."""
        draws_steps = self.training and (self.recurrent_dropout or self._options.zoneout)
        if isinstance(input, PackedSequence) or self._is_frozen or draws_steps:
            return untraced(self, input, hx, lengths, mask, reset, reset_to)
        checks.choice("reset_to", reset_to, ("zero", "initial"))
        dtype = getattr(self, next(iter(self._names.values()))).dtype
        input, *state = from_autocast((input, *self._state(hx)), dtype)
        self._check_tensors(input, state, dtype)
        self._check_sizes(input, state)
        lengths, mask, reset = map(_tensor, (lengths, mask, reset))
        unbatched = input.dim() == 2
        if unbatched:
            input, *state, mask, reset = [
                None if t is None else t.unsqueeze(1) for t in (input, *state, mask, reset)
            ]
            lengths = None if lengths is None else lengths.unsqueeze(0)
        elif self.batch_first:
            input, mask, reset = [
                None if t is None else t.transpose(0, 1) for t in (input, mask, reset)
            ]
        dropout = self.dropout if self.training else 0.0
        rows = lengths, mask, reset, reset_to
        y, last = run_traced(self, self._plan, input, state, rows, dropout)
        if unbatched:
            y, last = y.squeeze(1), [s.squeeze(1) for s in last]
        elif self.batch_first:
            y = y.transpose(0, 1)
        y, *last = as_autocast((y, *last))
        return y, tuple(last) if len(last) > 1 else last[0]

    def _short(self, input, hx):
        """The answer of an ordinary call; None if `_forward` must take it."""
        states = len(self._cell.states)
        if hx is None:
            state = ()
        elif states == 1:
            state = (hx,)
        elif type(hx) is tuple and len(hx) == states:
            state = hx
        else:
            return None
        tensors = input, *state
        ready = self._ready(tensors)
        if ready is None:
            return None
        net, parameters = ready
        if not (torch.is_grad_enabled() and wants_gradient((*tensors, *parameters))):
            return run_shortly(net, input, state)
        structure, shape = net._structure, input.shape
        if len(shape) != 3 or shape[2] != self.input_size:
            return None
        batch = shape[0 if self.batch_first else 1]
        for tensor, size in zip(state, structure.state_sizes, strict=False):  # state may be ()
            if tensor.shape != (structure.slots, batch, size):
                return None
        y, last = run(net, input, state or (None,) * states, None, parameters)
        return y, last if states > 1 else last[0]

    def _forward(self, input, hx, lengths, mask, reset, reset_to):
        packed = None
        if isinstance(input, PackedSequence):
            if not (lengths is mask is reset is None):
                raise ValueError("lengths, mask and reset must be None with a PackedSequence")
            packed = input
            input, lengths = unpacked(packed, self.batch_first)
        net, parameters, input, state = self._bound(input, self._state(hx))
        self._check_sizes(input, state)
        rows = None
        if not (lengths is mask is reset is None and reset_to == "zero"):
            given = {"lengths": lengths, "mask": mask, "reset": reset}
            rows = *[_array(name, value) for name, value in given.items()], reset_to
        frozen = self._frozen_for(parameters, input, state)
        train = self.training and self._draws()
        if train:
            net = net.drawing(self.dropout, self.recurrent_dropout)
        y, last = run(frozen or net, input, state, rows, parameters, train)
        y, *last = as_autocast((y, *last))
        if packed is not None:
            y = packed_like(packed, y, lengths, self.batch_first)
        return y, tuple(last) if len(last) > 1 else last[0]

    def _check_sizes(self, input, state):
        """ValueError unless the sizes of the input and of the state fit."""
        shape = input.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            batched = "(B, T, input_size)" if self.batch_first else "(T, B, input_size)"
            raise ValueError(
                f"input must be {batched} or (T, input_size) with input_size = {self.input_size}, "
                f"got {tuple(shape)}"
            )
        rows = () if len(shape) == 2 else (shape[0 if self.batch_first else 1],)
        for name, tensor, size in zip(state_names(state), state, self._plan.sizes, strict=True):
            wanted = (self._plan.slots, *rows, size)
            if tensor is not None and tensor.shape != wanted:
                symbols = "(layers*directions, B, size)" if rows else "(layers*directions, size)"
                raise ValueError(f"{name} must be {symbols} = {wanted}, got {tuple(tensor.shape)}")

    def _draws(self):
        between = self.dropout and self.num_layers > 1
        return bool(between or self.recurrent_dropout or self._options.zoneout)

    def _state(self, hx):
        states = len(self._cell.states)
        if hx is None:
            return (None,) * states
        if states == 1:
            return (hx,)
        # A tuple of classes, for torch 2.6 cannot compile tuple | list.
        if not isinstance(hx, (tuple, list)) or len(hx) != states:
            got = type(hx).__name__ + (f" of {len(hx)}" if isinstance(hx, (tuple, list)) else "")
            raise TypeError(f"hx must be a pair (h, c), got a {got}")
        return tuple(hx)


def _tensor(value):
    """Lengths, a mask or a reset as a tensor; None stays None."""
    given = value is None or isinstance(value, torch.Tensor)
    return value if given else torch.as_tensor(value, device="cpu")


def _array(name, value):
    """Lengths, a mask or a reset: a tensor as an array, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    check_place(name, value)
    return array_of(value)
