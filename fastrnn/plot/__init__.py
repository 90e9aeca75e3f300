"""Pictures: what is left of each step in the state, gates over time, norms of gradients.

The pictures need matplotlib: pip install matplotlib. Each function returns a figure and does not
save it; use `figure.savefig("gates.png")`. `memory_of` has the numbers of the picture `memory` and
needs only NumPy.

It must not know: layers, how gates and norms are computed.
"""

from fastrnn.plot._gates import gates
from fastrnn.plot._gradient_flow import gradient_flow
from fastrnn.plot._memory import memory
from fastrnn.plot._terms import Memory, memory_of

__all__ = ["Memory", "gates", "gradient_flow", "memory", "memory_of"]
