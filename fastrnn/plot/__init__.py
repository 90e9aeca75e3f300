"""Pictures of a network's gates over time, and of the norms of its gradients.

The functions need matplotlib: pip install matplotlib. Each returns a figure and does not save it;
use `figure.savefig("gates.png")`.

It must not know: layers, how gates and norms are computed.
"""

from fastrnn.plot._gates import gates
from fastrnn.plot._gradient_flow import gradient_flow

__all__ = ["gates", "gradient_flow"]
