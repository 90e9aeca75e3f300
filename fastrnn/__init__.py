"""RNN, LSTM and GRU on the CPU for NumPy, forward and backward through time, in fused kernels."""

import pkgutil

# What setup.py wrote into an installed package. Looked for before __path__ is extended, so that a
# checkout, which has none, does not find that of the installed one.
try:
    from fastrnn._build_id import BUILD_ID as _installed_id
except ModuleNotFoundError:
    _installed_id = None

# In a checkout after "pip install .", the compiled module is not here but where that put it:
# it is to be found there too.
__path__ = pkgutil.extend_path(__path__, __name__)

from fastrnn import plot, reference, train  # noqa: E402
from fastrnn._version import __version__ as __version__  # noqa: E402
from fastrnn.functional import gru, lstm, rnn  # noqa: E402
from fastrnn.layers import GRU, LSTM, RNN  # noqa: E402
from fastrnn.runtime import (  # noqa: E402
    backend,
    get_num_threads,
    set_num_threads,
    show_config,
    threads,
)
from fastrnn.truncated import tbptt  # noqa: E402

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "backend",
    "get_num_threads",
    "gru",
    "lstm",
    "plot",
    "reference",
    "rnn",
    "set_num_threads",
    "show_config",
    "tbptt",
    "threads",
    "train",
]
