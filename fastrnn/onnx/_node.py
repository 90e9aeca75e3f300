"""Node: a recurrent node with its weights, ready to run.

Directions whose activations the kernels have run in a frozen layer, both in one if they are alike;
others run in NumPy.

It must not know: models, files, names of values.
"""

from __future__ import annotations

import sys
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

_PACKAGE = __name__.rpartition(".")[0] + "."
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
        weights = checked_weights(operator, weights)
        self._sizes, self._dtype = sizes_of(weights), weights.W.dtype
        count, peephole = operator.num_directions, weights.P is not None
        options = [options_of(operator, index, peephole) for index in range(count)]
        alike = count == 2 and None is not options[0] == options[1]
        groups = [(0, 1)] if alike else [(index,) for index in range(count)]
        self._runs = []
        for group in groups:
            own = options[group[0]]
            if own is None:
                run = _run_in_numpy(operator, parameters_of(operator, weights, *group), *group)
            else:
                run = _run_in_kernels(operator, layer_of(operator, weights, own, group).freeze())
            self._runs.append((group, run))

    def __call__(self, X, sequence_lens=None, initial_h=None, initial_c=None):
        """Run the node -> `Outputs`."""
        operator, (inputs, hidden) = self._operator, self._sizes
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
        state = (initial_h, initial_c)[: operator.states]
        if initial_h is not None or initial_c is not None:
            state = self._state(state, shape)
        ys, lasts = [], []
        for group, run in self._runs:
            cut = slice(group[0], group[-1] + 1)
            own = tuple([None if s is None else s[cut] for s in state])
            y, last = run(x, lengths, own)
            ys.append(y.reshape(*y.shape[:2], len(group), hidden))
            lasts.append(last)
        Y = ys[0] if len(ys) == 1 else np.concatenate(ys, axis=2)
        last = [
            parts[0] if len(parts) == 1 else np.concatenate(parts)
            for parts in zip(*lasts, strict=True)
        ]
        if by_batch:
            last = [part.swapaxes(0, 1) for part in last]
        else:
            Y = Y.swapaxes(1, 2)
        return Outputs(Y, *last, *[None] * (2 - len(last)))

    def _checked(self, name, value):
        if type(value) is np.ndarray and value.dtype is self._dtype:
            return value
        label = f"{name} of {self._operator.label}"
        return checks.of_dtype(label, value, self._dtype, "W")

    def _lengths(self, value, steps, batch):
        label = f"sequence_lens of {self._operator.label}"
        lengths = checks.integers(label, value, "", ("batch_size",), (batch,))
        return checks.within(label, lengths, steps, "seq_length = ")

    def _state(self, given, shape):
        """The initial state, each array (directions, B, H); None is zeros."""
        by_batch, state = self._operator.batch_first, []
        symbols = ("batch_size", "num_directions") if by_batch else ("num_directions", "batch_size")
        for name, array in zip(("initial_h", "initial_c"), given, strict=False):
            if array is not None:
                array = self._checked(name, array)
                if array.shape != shape:
                    label = f"{name} of {self._operator.label}"
                    checks.shaped(label, array, (*symbols, "hidden_size"), shape)
                array = array.swapaxes(0, 1) if by_batch else array
            state.append(array)
        return tuple(state)


# A run is a function of x, lengths and the state of some directions, in the node's layout, which
# returns y and the final state. A state is a tuple of arrays (directions, B, H); None is zeros.


def _run_in_kernels(operator, frozen):
    def run(x, lengths, state):
        if all(part is None for part in state):
            state = None
        elif operator.states == 1:
            (state,) = state
        y, last = frozen(x, state, lengths=lengths)
        return y, last if operator.states > 1 else (last,)

    return run


def _run_in_numpy(operator, parameters, index):
    activations, reverse = operator.activations[index], is_reverse(operator, index)
    _tell(operator, activations)

    def run(x, lengths, state):
        x = x.swapaxes(0, 1) if operator.batch_first else x
        zeros = np.zeros((x.shape[1], parameters["weight_hh"].shape[1]), x.dtype)
        state = tuple([zeros if part is None else part[0] for part in state])
        y, last = _steps.run(operator, activations, parameters, reverse, x, lengths, state)
        y = y.swapaxes(0, 1) if operator.batch_first else y
        return y, tuple([part[None] for part in last])

    return run


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
        stacklevel=_calls_up(),
    )


def _calls_up():
    """The stacklevel of the first call from outside of fastrnn.onnx, for a warning of `_tell`."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
