"""Networks of every kind with their inputs, for the tests of layers."""

import numpy as np
import pytest
from problems import layer_of

from fastrnn._cells.registry import CELLS

NETS = {
    "one": {},
    "stacked": {"num_layers": 3},
    "both ways": {"bidirectional": True},
    "stacked both ways": {"num_layers": 2, "bidirectional": True},
    "reversed": {"num_layers": 2, "reverse": True},
    "no bias": {"num_layers": 2, "bias": False},
    "batch first": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
T, B, I, H = 4, 3, 2, 5  # noqa: E741 - as in all the equations


def draw(rng, *shape, dtype="float64"):
    return rng.uniform(-1, 1, shape).astype(dtype)


class Case:
    """A layer with its inputs and incoming gradients."""

    def __init__(self, cell, net, dtype="float64", sizes=(T, B, I, H), seed=0):
        t, b, i, h = sizes
        rng = np.random.default_rng(seed)
        self.layer = layer_of(cell, i, h, dtype=dtype, rng=rng, **net)
        passes = self.layer.num_layers * self.layer.num_directions
        lead = (b, t) if self.layer.batch_first else (t, b)
        self.names = CELLS[cell].states
        self.x = draw(rng, *lead, i, dtype=dtype)
        self.dy = draw(rng, *lead, h * self.layer.num_directions, dtype=dtype)
        self.state, self.dstate = (
            self.packed([draw(rng, passes, b, h, dtype=dtype) for _ in self.names]) for _ in (0, 1)
        )

    def packed(self, arrays):
        return tuple(arrays) if len(self.names) > 1 else arrays[0]

    def unpacked(self, state):
        return state if len(self.names) > 1 else (state,)

    def gradients(self):
        _, _, tape = self.layer.forward(self.x, self.state)
        return tape.backward(self.dy, self.dstate)

    def loss(self):
        y, state = self.layer(self.x, self.state)
        pairs = zip(self.unpacked(state), self.unpacked(self.dstate), strict=True)
        return np.vdot(y, self.dy) + sum(np.vdot(s, d) for s, d in pairs)
