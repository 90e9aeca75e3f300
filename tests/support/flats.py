"""Calls of rnn, lstm and gru with every option, and of the layers that compute the same.

A `Call` has all arguments of such a function, and the gradients that come back to it. CELLS names
the cells with their options, BATCHES what else there is to say about a batch.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from problems import layer_of, options_of
from variants import VARIANTS

import fastrnn
from fastrnn._cells import registry
from fastrnn._engine.dropout_masks import drawn
from fastrnn.functional import Parameters

T, B, I, H, P, V = 5, 4, 3, 6, 2, 9  # noqa: E741 - as in all the equations

PROJECTED = {
    "plain": {},
    "clipped": {"clip": 0.7, "cell_clip": 0.5, "recurrent_activation": "hard_sigmoid"},
    "peephole, coupled": {"peephole": True, "coupled": True},
    "layer norm": {"layer_norm": True},
}
# name -> the cell, and a layer's options for it.
CELLS = (
    {cell: (cell, {}) for cell in registry.CELLS}
    | VARIANTS
    | {f"lstm, projected: {k}": ("lstm", {"proj_size": P, **v}) for k, v in PROJECTED.items()}
)

# Those that draw masks.
DRAWING = [
    name
    for name, (cell, _) in CELLS.items()
    if registry.takes(registry.CELLS[cell], "recurrent_dropout")
]

LENGTHS = np.array([2, 5, 0, 4])
MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]], bool)
RESET = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], bool)
RAGGED = {"lengths": LENGTHS, "mask": MASK, "reset": RESET, "reset_to": "initial"}
ONE_HOT, EMBEDDING = {"one_hot": I}, {"embedding": V}
# name -> arguments of a function and of a layer's forward, but for ids how many there are.
BATCHES = {
    "full": {},
    "lengths": {"lengths": LENGTHS},
    "mask": {"mask": MASK},
    "reset to zero": {"reset": RESET},
    "reset to the initial state": {"reset": RESET, "reset_to": "initial"},
    "ragged": RAGGED,
    "one_hot": ONE_HOT,
    "one_hot, ragged": ONE_HOT | RAGGED,
    "one_hot of many ids": {"one_hot": 50},
    "embedding": EMBEDDING,
    "embedding of many ids, ragged": {"embedding": 100} | RAGGED,
    "checkpoint": {"checkpoint": 2},
    "checkpoint, ragged": {"checkpoint": 3} | RAGGED,
    "checkpoint, embedding, ragged": {"checkpoint": 1} | EMBEDDING | RAGGED,
}
every_cell = pytest.mark.parametrize("name", CELLS)
# The test's `batches` is a function from a cell's name to names of batches.
some_or_all_batches = pytest.mark.parametrize(
    "batches",
    [
        pytest.param(lambda name: some_batches(name), id="some"),
        pytest.param(lambda name: BATCHES, id="all", marks=pytest.mark.slow),
    ],
)


def some_batches(name):
    """Three of BATCHES and "ragged": other ones for each of CELLS, in which all of them occur."""
    begin, names = list(CELLS).index(name), list(BATCHES)
    return ["ragged", *(names[(begin + i * len(names) // 3) % len(names)] for i in range(3))]


def alone(parts):
    """A state as the functions have it: one array, or a pair."""
    return parts if len(parts) > 1 else parts[0]


def both(state):
    return state if isinstance(state, tuple) else (state,)


@dataclass(frozen=True)
class Call:
    """All arguments of a function and of its backward. state, dlast : tuples of (B, H) arrays."""

    function: str
    x: np.ndarray
    state: tuple
    weights: Parameters
    options: dict
    dy: np.ndarray
    dlast: tuple

    def infer(self, **changes):
        """y and the final state, a tuple."""
        y, state = self._run(**changes)
        return y, both(state)

    def forward(self, **changes):
        """y, the final state, a tuple, and the tape."""
        y, state, tape = self._run(return_tape=True, **changes)
        return y, both(state), tape

    def _run(self, **changes):
        function = getattr(fastrnn, self.function)
        *four, extras = self.weights
        options = self.options | changes
        if self.weights.w_hh is None:  # functions of such cells take w_ih and b_ih alone
            return function(self.x, alone(self.state), *four[::2], **options)
        return function(self.x, alone(self.state), *four, **{"extras": extras} | options)

    def backward(self, tape, y, **changes):
        """dx, dstate as a tuple, and the gradients of the parameters."""
        function = getattr(fastrnn, f"{self.function}_backward")
        arguments = {
            "x": self.x, "y": y, "state": alone(self.state), "weights": self.weights,
            "dy": self.dy, "dlast": alone(self.dlast), "embedding": self.options.get("embedding"),
        }  # fmt: skip
        dx, dstate, dweights = function(tape, **arguments | changes)
        return dx, both(dstate), dweights

    def gradients(self, **changes):
        """What backward gives after a forward of this call."""
        y, _, tape = self.forward()
        return self.backward(tape, y, **changes)

    def map(self, change):
        """The call with `change` applied to every array of floats and of ids."""
        *four, extras = self.weights
        four = [None if a is None else change(a) for a in four]
        weights = Parameters(*four, {name: change(a) for name, a in extras.items()})
        embedding = self.options.get("embedding")
        return replace(
            self, x=change(self.x), state=tuple(map(change, self.state)), weights=weights,
            dy=change(self.dy), dlast=tuple(map(change, self.dlast)),
            options=self.options | ({} if embedding is None else {"embedding": change(embedding)}),
        )  # fmt: skip

    def with_options(self, **options):
        return replace(self, options=self.options | options)


def layer(name, batch="full", dtype="float64", hidden=H, **options):
    """A layer of one of CELLS, of two directions, for one of BATCHES."""
    (cell, given), inputs = CELLS[name], BATCHES[batch].get("one_hot", I)
    return layer_of(cell, inputs, hidden, dtype=dtype, bidirectional=True, **given | options)


def batch_of(layer, batch):
    """x, and the arguments of `forward`, for one of BATCHES."""
    rng, options = np.random.default_rng(1), dict(BATCHES[batch])
    if "embedding" in options:
        ids = options["embedding"]
        options["embedding"] = rng.uniform(-1, 1, (ids, I)).astype(layer.dtype)
        return rng.integers(0, ids - 1, (T, B)), options  # the last id occurs nowhere
    if "one_hot" in options:
        options["one_hot"] = True
        return rng.integers(0, layer.input_size, (T, B)), options
    return rng.uniform(-1, 1, (T, B, I)).astype(layer.dtype), options


def states_of(layer, seed):
    """Arrays for a state of the layer, (2, B, H) each."""
    rng, states = np.random.default_rng(seed), layer._structure.cell.states
    widths = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: len(states)]
    return tuple(rng.uniform(-1, 1, (2, B, width)).astype(layer.dtype) for width in widths)


def parameters_of(layer, reverse=False):
    """The `Parameters` of one direction."""
    end = "_l0_reverse" if reverse else "_l0"
    own = {n.removesuffix(end): a for n, a in layer.params.items() if n.endswith(end)}
    return Parameters(
        own.pop("weight_ih"), own.pop("weight_hh", None), own.pop("bias_ih", None),
        own.pop("bias_hh", None), own,
    )  # fmt: skip


def options_of_function(name):
    """The arguments that choose one of CELLS, but for its extras."""
    cell, given = CELLS[name]
    return options_of(registry.CELLS[cell]) | {k: v for k, v in given.items() if k != "proj_size"}


def call_of(name, batch="full", dtype="float64", reverse=False, **options):
    """The `Call` of one direction of `layer` with one of BATCHES."""
    one = layer(name, batch, dtype, **options)
    x, given = batch_of(one, batch)
    width, direction = one.proj_size or one.hidden_size, int(reverse)
    dy = np.random.default_rng(2).uniform(-1, 1, (T, B, 2 * width)).astype(one.dtype)
    return Call(
        one._structure.cell.function, x, tuple(s[direction] for s in states_of(one, 3)),
        parameters_of(one, reverse), options_of_function(name) | given | {"reverse": reverse},
        dy[:, :, width:] if reverse else dy[:, :, :width],
        tuple(s[direction] for s in states_of(one, 4)),
    )  # fmt: skip


def ready_masks(call, recurrent_dropout, rng):
    """The arguments with the masks that the call would draw with `rng`, or none."""
    if call.weights.w_hh is None:
        return {}
    steps, batch = call.x.shape[:2]
    width, dtype, zoneout = call.dy.shape[2], call.dy.dtype, call.options.get("zoneout", 0)
    rates = zoneout if isinstance(zoneout, tuple) else (zoneout,) * len(call.state)
    rates = rates if any(rates) else ()
    rng = np.random.default_rng(rng)
    masks = drawn(rng, (steps, batch, width), dtype, recurrent_dropout, rates)
    given = {} if masks.recurrent is None else {"recurrent_mask": masks.recurrent}
    return given | ({"zoneout_masks": alone(masks.zoneout)} if masks.zoneout else {})
