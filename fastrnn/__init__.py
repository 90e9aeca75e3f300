"""RNN, LSTM and GRU on the CPU for NumPy, forward and backward through time, in fused kernels."""

from fastrnn import reference
from fastrnn.functional import gru, lstm, rnn
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.runtime import (
    backend,
    get_num_threads,
    set_num_threads,
    show_config,
    threads,
)

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "backend",
    "get_num_threads",
    "gru",
    "lstm",
    "reference",
    "rnn",
    "set_num_threads",
    "show_config",
    "threads",
]
