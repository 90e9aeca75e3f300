"""RNN, LSTM and GRU on the CPU for NumPy, forward and backward through time, in fused kernels."""

import importlib
import os
import sys
from typing import TYPE_CHECKING

# In a checkout after "pip install .", the compiled module is in the installed package: _engine
# finds it on this path. An installed package has an id (see _engine) and does without.
if not os.path.exists(os.path.join(__path__[0], "_engine", "_build_id.py")):
    import pkgutil

    __path__ = pkgutil.extend_path(__path__, __name__)

from fastrnn._engine.runtime import (  # noqa: E402
    backend,
    get_num_threads,
    set_num_threads,
    show_config,
    threads,
)
from fastrnn._engine.threadpool import register_threadpoolctl  # noqa: E402
from fastrnn._include import get_include  # noqa: E402
from fastrnn._layer.frozen import Frozen  # noqa: E402
from fastrnn._layer.stream import Stream  # noqa: E402
from fastrnn._layer.tape import Gradients, Tape  # noqa: E402
from fastrnn._layer.truncated import Window, tbptt  # noqa: E402
from fastrnn._version import __version__ as __version__  # noqa: E402
from fastrnn.functional import (  # noqa: E402
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    min_gru,
    min_gru_backward,
    min_lstm,
    min_lstm_backward,
    rnn,
    rnn_backward,
    tape_size,
)
from fastrnn.layers import GRU, LSTM, RNN, MinGRU, MinLSTM  # noqa: E402

if TYPE_CHECKING:
    from fastrnn import bench as bench
    from fastrnn import convert, estimators, plot, reference, train
    from fastrnn import data as data
    from fastrnn import demos as demos
    from fastrnn import distributed as distributed
    from fastrnn import keras as keras
    from fastrnn import kernels as kernels
    from fastrnn.io import load, save

__all__ = [
    "Frozen",
    "GRU",
    "Gradients",
    "LSTM",
    "MinGRU",
    "MinLSTM",
    "RNN",
    "Stream",
    "Tape",
    "Window",
    "backend",
    "convert",
    "estimators",
    "get_include",
    "get_num_threads",
    "gru",
    "gru_backward",
    "load",
    "lstm",
    "lstm_backward",
    "min_gru",
    "min_gru_backward",
    "min_lstm",
    "min_lstm_backward",
    "plot",
    "reference",
    "register_threadpoolctl",
    "rnn",
    "rnn_backward",
    "save",
    "set_num_threads",
    "show_config",
    "tape_size",
    "tbptt",
    "threads",
    "train",
]

# These are imported on first use.
_LAZY = (
    "bench", "convert", "data", "demos", "distributed", "estimators", "io", "keras", "kernels",
    "onnx", "plot", "reference", "torch", "train",
)  # fmt: skip
_OF_IO = ("load", "save")


if not TYPE_CHECKING:  # with this function a type checker would accept every misspelt name

    def __getattr__(name):
        if name in _LAZY:
            return importlib.import_module(f"fastrnn.{name}")
        if name in _OF_IO:
            return getattr(importlib.import_module("fastrnn.io"), name)
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])  # "Did you mean: ..."


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_OF_IO})
