"""Node: a recurrent node with its weights, ready to run.

Directions whose activations the kernels have run in a frozen layer, both in one if they are alike;
others run in NumPy.

It must not know: models, files, names of values.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.onnx import _steps
from fastrnn.onnx._weights import (
    checked_weights,
    is_reverse,
    layer_of,
    options_of,
    parameters_of,
    sizes_of,
)

_told = False  # a process is told once that something runs in NumPy


class Outputs(NamedTuple):
    """The outputs of a node; Y_c is None unless it is an LSTM."""

    Y: np.ndarray
    Y_h: np.ndarray
    Y_c: np.ndarray | None


class Node:
    """A recurrent node with its weights.

    operator : Operator
    weights : Weights, not yet checked
    """

    def __init__(self, operator, weights):
        self._operator = operator
        self._weights = weights = checked_weights(operator, weights)
        count, peephole = operator.num_directions, weights.P is not None
        options = [options_of(operator, index, peephole) for index in range(count)]
        alike = count == 2 and None is not options[0] == options[1]
        groups = [(0, 1)] if alike else [(index,) for index in range(count)]
        self._runs = [(group, self._run_of(group, options[group[0]])) for group in groups]

    def _run_of(self, group, options):
        """A function of x, lengths and the state of a group of directions, in the node's layout."""
        operator = self._operator
        if options is not None:
            frozen = layer_of(operator, self._weights, options, group).freeze()
            return lambda x, lengths, state: frozen(x, _state_of_layer(state), lengths=lengths)
        (index,), activations = group, operator.activations[group[0]]
        _tell(operator, activations)
        parameters = parameters_of(operator, self._weights, index)
        reverse = is_reverse(operator, index)

        def run(x, lengths, state):
            time_first = x.swapaxes(0, 1) if operator.batch_first else x
            y, last = _steps.run(
                operator, activations, parameters, reverse, time_first, lengths,
                tuple([s[0] for s in state]),
            )  # fmt: skip
            last = tuple([s[None] for s in last])
            return (y.swapaxes(0, 1) if operator.batch_first else y), last

        return run

    def __call__(self, X, sequence_lens=None, initial_h=None, initial_c=None):
        """Run the node -> `Outputs`."""
        operator, (inputs, hidden) = self._operator, sizes_of(self._weights)
        directions, by_batch = operator.num_directions, operator.batch_first
        x = self._checked("X", X)
        if x.ndim != 3 or x.shape[2] != inputs:
            order = "batch_size, seq_length" if by_batch else "seq_length, batch_size"
            raise ValueError(
                f"X of {operator.label} must be ({order}, input_size) with input_size = {inputs}, "
                f"got {x.shape}"
            )
        steps, batch = x.shape[:2][::-1] if by_batch else x.shape[:2]
        lengths = None
        if sequence_lens is not None:
            lengths = self._lengths(sequence_lens, steps, batch)
        shape = (batch, directions, hidden) if by_batch else (directions, batch, hidden)
        state = self._state((initial_h, initial_c)[: operator.states], shape)
        results = [
            (group, *run(x, lengths, tuple([s[slice(group[0], group[-1] + 1)] for s in state])))
            for group, run in self._runs
        ]
        ys, lasts = [], []
        for group, y, last in results:
            ys.append(y.reshape(*y.shape[:2], len(group), hidden))
            lasts.append(last if isinstance(last, tuple) else (last,))
        Y = ys[0] if len(ys) == 1 else np.concatenate(ys, axis=2)
        last = [parts[0] if len(parts) == 1 else np.concatenate(parts)
                for parts in zip(*lasts, strict=True)]  # fmt: skip
        if by_batch:
            last = [part.swapaxes(0, 1) for part in last]
        else:
            Y = Y.swapaxes(1, 2)
        return Outputs(Y, *last, *[None] * (2 - len(last)))

    def _checked(self, name, value):
        label = f"{name} of {self._operator.label}"
        return checks.of_dtype(label, value, self._weights.W.dtype, "W")

    def _lengths(self, value, steps, batch):
        label = f"sequence_lens of {self._operator.label}"
        lengths = checks.integers(label, value, "", ("batch_size",), (batch,))
        return checks.within(label, lengths, steps, "seq_length = ")

    def _state(self, given, shape):
        """The initial state, each array (directions, B, H); None is zeros."""
        by_batch, state = self._operator.batch_first, []
        symbols = ("batch_size", "num_directions") if by_batch else ("num_directions", "batch_size")
        for name, value in zip(("initial_h", "initial_c"), given, strict=False):
            if value is None:
                array = np.zeros(shape, self._weights.W.dtype)
            else:
                label = f"{name} of {self._operator.label}"
                array = self._checked(name, value)
                checks.shaped(label, array, (*symbols, "hidden_size"), shape)
            state.append(array.swapaxes(0, 1) if by_batch else array)
        return tuple(state)


def _state_of_layer(state):
    return state if len(state) > 1 else state[0]


def _tell(operator, activations):
    """Warn, once in a process, that a node runs in NumPy."""
    global _told
    if _told:
        return
    _told = True
    names = ", ".join(activation.name for activation in activations)
    warnings.warn(
        f"{operator.label} runs in NumPy, step by step, because fastrnn's kernels do not have the "
        f"activations {names} there. This is said once",
        stacklevel=4,
    )
