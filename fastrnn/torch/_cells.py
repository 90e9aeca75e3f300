"""RNNCell, LSTMCell and GRUCell: one step, with torch.nn's constructors, parameters and calls.

It must not know: kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn import checks
from fastrnn._cells.registry import CELLS
from fastrnn.torch._autograd import run
from fastrnn.torch._bound import (
    Bound,
    as_autocast,
    from_autocast,
    must_be_tensor,
    state_names,
    structure_of,
    untraced,
    unwatched,
)
from fastrnn.torch._traced import run_traced
from fastrnn.torch._tracing import is_traced, is_watched

if TYPE_CHECKING:
    from torch import Tensor


class OneStep(Bound):
    """A module that takes one step of one layer."""

    def __init__(self, cell, input_size, hidden_size, bias, device, dtype):
        super().__init__()
        self.input_size = checks.positive("input_size", input_size, 0)
        self.hidden_size = checks.positive("hidden_size", hidden_size)
        self.bias = checks.flag("bias", bool(bias))
        self._cell = cell
        names = {name: name.removesuffix("_l0") for name in self._shapes()}
        self._make_parameters(names, device, dtype)
        for absent in {"bias_ih", "bias_hh"}.difference(names.values()):
            self.register_parameter(absent, None)
        self.reset_parameters()

    def _new_structure(self, dtype):
        return structure_of(
            self._cell, dtype, (self.input_size, self.hidden_size, 0), bias=self.bias
        )

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not its defaults, and whether it is frozen."""
        given = [f"{self.input_size}, {self.hidden_size}"] + ["bias=False"] * (not self.bias)
        return ", ".join(given + self._other_arguments() + self._shown())

    def _other_arguments(self):
        """The arguments that one cell alone has, for `repr`, in a list."""
        return []

    def _step(self, input, state):
        """The state after a step, a tuple of tensors."""
        if is_watched():
            return unwatched(self, input, state)
        return self._answer(input, state)

    def _answer(self, input, state):
        if is_traced():
            return self._traced(input, state)
        return self._forward(input, state)

    def _traced(self, input, state):
        """The state after a step whose operations torch follows."""
        if self._is_frozen:
            return untraced(self, input, state)
        dtype = self.weight_ih.dtype
        self._check_sizes(input, state)
        input, *state = from_autocast((input, *state), dtype)
        self._check_tensors(input, state, dtype)
        unbatched = input.dim() == 1
        if unbatched:
            input, *state = [None if t is None else t.unsqueeze(-2) for t in (input, *state)]
        rows = None, None, None, "zero"
        _, last = run_traced(self, self._plan, input[None], state, rows, 0.0)
        last = [s[0] for s in as_autocast(last)]
        return tuple([s.squeeze(0) for s in last] if unbatched else last)

    def _check_sizes(self, input, state):
        """Raise unless the sizes of the input and of the state fit."""
        must_be_tensor("input", input)
        shape = input.shape
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            raise ValueError(
                f"input must be (B, input_size) or (input_size,) with input_size = "
                f"{self.input_size}, got {tuple(shape)}"
            )
        wanted = (1, *shape[:-1], self.hidden_size)
        for name, tensor in zip(state_names(state), state, strict=True):
            if tensor is not None and tensor.shape != wanted:
                raise ValueError(f"{name} must be {wanted[1:]}, got {tuple(tensor.shape[1:])}")

    def _forward(self, input, state):
        self._check_sizes(input, state)
        net, parameters, input, state = self._bound(input[None], state)
        frozen = self._frozen_for(parameters, input, state)
        _, last = run(frozen or net, input, state, None, parameters)
        return tuple([s[0] for s in as_autocast(last)])


def _one_more_axis(state):
    for s in state:
        if s is not None:
            must_be_tensor("hx", s)
    return tuple([None if s is None else s[None] for s in state])


class OneState(OneStep):
    """A cell whose state is h alone."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Take a step: h (B, hidden_size), or (hidden_size,) for one row."""
        return self._step(input, _one_more_axis((hx,)))[0]


class RNNCell(OneState):
    """torch.nn.RNNCell on fastrnn's kernels.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, device, dtype : as for torch.nn.RNNCell

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import RNNCell
    >>> h = RNNCell(3, 5)(torch.ones(2, 3))
    >>> tuple(h.shape)
    (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(CELLS[f"rnn_{nonlinearity}"], input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _other_arguments(self):
        return ["nonlinearity=relu"] * (self.nonlinearity != "tanh")


class GRUCell(OneState):
    """torch.nn.GRUCell on fastrnn's kernels.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype : as for torch.nn.GRUCell

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import GRUCell
    >>> h = GRUCell(3, 5)(torch.ones(2, 3))
    >>> tuple(h.shape)
    (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(CELLS["gru_after"], input_size, hidden_size, bias, device, dtype)


class LSTMCell(OneStep):
    """torch.nn.LSTMCell on fastrnn's kernels.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype : as for torch.nn.LSTMCell

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import LSTMCell
    >>> h, c = LSTMCell(3, 5)(torch.ones(2, 3))
    >>> tuple(h.shape)
    (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(CELLS["lstm"], input_size, hidden_size, bias, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take a step: h and c, each (B, hidden_size), or (hidden_size,) for one row."""
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise TypeError(f"hx must be a pair (h, c), got a {type(hx).__name__}")
        h, c = self._step(input, _one_more_axis((None, None) if hx is None else hx))
        return h, c
