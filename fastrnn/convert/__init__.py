"""Weights in the forms of lectures and of thinc, converted to layers and back.

Lectures and hand-written programs have a matrix for each gate, which multiplies h and x side by
side (gates.py). thinc keeps all weights of an LSTM in one array (thinc.py). `fastrnn.load` reads
files of PyTorch.

It must not know: files, passes.
"""

from fastrnn.convert.gates import from_gates, to_gates
from fastrnn.convert.thinc import from_thinc, to_thinc

__all__ = ["from_gates", "from_thinc", "to_gates", "to_thinc"]
