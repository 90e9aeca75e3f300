"""Recurrent modules for PyTorch: torch.nn's RNN, LSTM and GRU, computed by fastrnn's kernels.

Change one line: ``import fastrnn.torch as rnn`` and ``rnn.LSTM(...)`` in place of
``torch.nn.LSTM(...)``. Constructors, parameters and `state_dict` are those of torch.nn.

It must not know: how modules compute.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastrnn.torch needs PyTorch: pip install torch (the extra fastrnn[torch] has it)",
        name="torch",
    ) from error

from fastrnn.torch._cells import GRUCell, LSTMCell, RNNCell
from fastrnn.torch._modules import GRU, LSTM, RNN
from fastrnn.torch._swap import Report, accelerate, restore

__all__ = [
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "RNN",
    "RNNCell",
    "Report",
    "accelerate",
    "restore",
]
