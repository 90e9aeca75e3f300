"""RNN, LSTM and GRU: torch.nn's constructors, and docstrings.

They do not inherit from torch.nn.RNNBase: torch.compile refuses modules that do.

It must not know: how modules compute.
"""

from __future__ import annotations

from typing import Any

from fastrnn import checks
from fastrnn._cells.registry import CELLS
from fastrnn.torch._recurrent import Recurrent


class RNN(Recurrent):
    """torch.nn.RNN on fastrnn's kernels: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional
        As for torch.nn.RNN.
    device, dtype : as for torch.nn.RNN
        Calls need the CPU, and float32 or float64.
    recurrent_dropout, clip, zoneout : as for `fastrnn.RNN`
        They draw from torch's default generator.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import RNN
    >>> y, h = RNN(3, 5, nonlinearity="relu")(torch.ones(7, 2, 3))
    >>> tuple(y.shape), tuple(h.shape)
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False, device: Any = None, dtype: Any = None, *,
        recurrent_dropout: float = 0.0, **variant_options: Any,
    ) -> None:  # fmt: skip
        checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            f"RNN_{nonlinearity.upper()}", CELLS[f"rnn_{nonlinearity}"], input_size, hidden_size,
            num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            bidirectional=bidirectional, proj_size=0, device=device, dtype=dtype,
            recurrent_dropout=recurrent_dropout, variant_options=variant_options,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(Recurrent):
    """torch.nn.LSTM on fastrnn's kernels.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        As for torch.nn.LSTM.
    device, dtype : as for torch.nn.LSTM
        Calls need the CPU, and float32 or float64.
    recurrent_dropout, clip, zoneout, cell_clip, peephole, coupled, layer_norm, recurrent_activation
        As for `fastrnn.LSTM`. Dropout and zoneout draw from torch's default generator.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import LSTM
    >>> lstm = LSTM(3, 5, num_layers=2, batch_first=True)
    >>> y, (h, c) = lstm(torch.ones(2, 7, 3), lengths=[7, 4])
    >>> y.sum().backward()
    >>> tuple(y.shape), tuple(c.shape), tuple(lstm.weight_hh_l1.grad.shape)
    ((2, 7, 5), (2, 2, 5), (20, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        proj_size: int = 0, device: Any = None, dtype: Any = None, *,
        recurrent_dropout: float = 0.0, **variant_options: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            "LSTM", CELLS["lstm"], input_size, hidden_size, num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            proj_size=proj_size, device=device, dtype=dtype, recurrent_dropout=recurrent_dropout,
            variant_options=variant_options,
        )  # fmt: skip


class GRU(Recurrent):
    """torch.nn.GRU on fastrnn's kernels.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for torch.nn.GRU.
    device, dtype : as for torch.nn.GRU
        Calls need the CPU, and float32 or float64.
    reset_after : bool
        True is torch.nn's GRU. False resets h before the product, as in Cho et al., 2014.
    recurrent_dropout, clip, zoneout, layer_norm, recurrent_activation : as for `fastrnn.GRU`
        Dropout and zoneout draw from torch's default generator.

    Examples
    --------
    An episode begins at step 3 of the second row:

    >>> import torch
    >>> from fastrnn.torch import GRU
    >>> begins = torch.zeros(7, 2, dtype=torch.bool)
    >>> begins[3, 1] = True
    >>> y, h = GRU(3, 5)(torch.ones(7, 2, 3), reset=begins)
    >>> bool((y[3, 1] == y[0, 1]).all())
    True
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        device: Any = None, dtype: Any = None, *, reset_after: bool = True,
        recurrent_dropout: float = 0.0, **variant_options: Any,
    ) -> None:  # fmt: skip
        checks.flag("reset_after", reset_after)
        super().__init__(
            "GRU", CELLS["gru_after" if reset_after else "gru_before"], input_size, hidden_size,
            num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            bidirectional=bidirectional, proj_size=0, device=device, dtype=dtype,
            recurrent_dropout=recurrent_dropout, variant_options=variant_options,
        )  # fmt: skip
        self.reset_after = reset_after

    def options(self) -> dict[str, Any]:
        """The arguments that torch.nn's constructor has not, where they are not the defaults."""
        given = super().options()
        return given if self.reset_after else {"reset_after": False, **given}
