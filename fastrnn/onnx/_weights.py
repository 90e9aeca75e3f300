"""The parameters of a node as those of a layer, and the layer's options, both ways.

A node has W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and, if it is an LSTM, P (D, 3*H), where D is
the number of directions. A layer has PyTorch's names and order of gates; `conventions.ONNX` has the
difference.

It must not know: models, files, how layers run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._interop.conventions import NATIVE, ONNX
from fastrnn._layer import initializers
from fastrnn.layers import CLASSES
from fastrnn.onnx._operator import GATES

LAYERS = {kind: CLASSES[kind.lower()] for kind in GATES}

# The gate activations of kernels as those of ONNX: name, alpha, beta. Numbers in a file are
# float32, and alpha = float32(0.2) means 0.2 in a float64 model, too.
GATE_ACTIVATIONS = {
    "sigmoid": ("Sigmoid", None, None),
    "hard_sigmoid_onnx": ("HardSigmoid", 0.2, 0.5),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
}


class Weights(NamedTuple):
    """The weights of a node; the last two may be None."""

    W: np.ndarray
    R: np.ndarray
    B: np.ndarray | None = None
    P: np.ndarray | None = None


def sizes_of(weights):
    """input_size and hidden_size."""
    return weights.W.shape[2], weights.R.shape[2]


def checked_weights(operator, weights):
    """The `Weights` if their dtypes and shapes agree.

    Raises
    ------
    ValueError, TypeError
        The message names the node and the array.
    """
    arrays = [None if a is None else checks.as_array(_of(operator, n), a)
              for n, a in zip(Weights._fields, weights, strict=True)]  # fmt: skip
    W, R, B, P = arrays
    for name, array in zip("WR", (W, R), strict=True):
        if array.ndim != 3:
            raise ValueError(f"{_of(operator, name)} must have three axes, got {array.shape}")
    hidden = R.shape[2]
    if operator.hidden_size not in (None, hidden):
        raise ValueError(
            f"hidden_size of {operator.label} must be that of R, {hidden}, got "
            f"{operator.hidden_size}"
        )
    checks.positive(f"hidden_size of {operator.label}", hidden)
    gates, directions = GATES[operator.kind], operator.num_directions
    wanted = {
        "W": ((f"{gates}*hidden_size", "input_size"), (gates * hidden, W.shape[2])),
        "R": ((f"{gates}*hidden_size", "hidden_size"), (gates * hidden, hidden)),
        "B": ((f"{2 * gates}*hidden_size",), (2 * gates * hidden,)),
        "P": (("3*hidden_size",), (3 * hidden,)),
    }
    for (name, (symbols, shape)), array in zip(wanted.items(), arrays, strict=True):
        if array is not None:
            label = _of(operator, name)
            checks.same_dtype(label, array, W.dtype, "W")
            checks.shaped(label, array, ("num_directions", *symbols), (directions, *shape))
    return Weights(*arrays)


def _of(operator, name):
    return f"{name} of {operator.label}"


def parameters_of(operator, weights, index):
    """A direction's parameters in fastrnn's arrangement: kind -> array."""
    cell, coupled = operator.kind.lower(), operator.input_forget

    def native(array, gates=None):
        array = ONNX.to_native(cell, array, gates)
        return _without_forget_gate(array, gates or NATIVE[cell]) if coupled else array

    found = {"weight_ih": native(weights.W[index]), "weight_hh": native(weights.R[index])}
    if weights.B is not None:
        b_ih, b_hh = np.split(weights.B[index], 2)
        found |= {"bias_ih": native(b_ih), "bias_hh": native(b_hh)}
    if weights.P is not None:
        found["weight_peephole"] = native(weights.P[index], "ifo")
    return found


def _without_forget_gate(array, gates):
    """With input_forget=1 the forget gate is 1 - i, and nothing reads its weights."""
    blocks = np.split(array, len(gates))
    return np.concatenate([b for gate, b in zip(gates, blocks, strict=True) if gate != "f"])


def weights_of(kind, directions, hidden):
    """The `Weights` of parameters, the inverse of `parameters_of`; directions : list of dicts."""
    cell = kind.lower()

    def stacked(name, gates=None):
        gates = gates or NATIVE[cell]
        return np.stack([
            ONNX.from_native(cell, _with_forget_gate(own[name], gates, hidden), gates)
            for own in directions
        ])  # fmt: skip

    B = P = None
    if "bias_ih" in directions[0]:
        B = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    if "weight_peephole" in directions[0]:
        P = stacked("weight_peephole", "ifo")
    return Weights(stacked("weight_ih"), stacked("weight_hh"), B, P)


def _with_forget_gate(array, gates, hidden):
    """Zeros as the forget gate of an array that has none."""
    if len(array) == len(gates) * hidden:
        return array
    blocks = np.split(array, len(gates) - 1)
    blocks.insert(gates.index("f"), np.zeros_like(blocks[0]))
    return np.concatenate(blocks)


def options_of(operator, index, peephole):
    """The arguments of a layer that computes what a direction does; None if there is no such layer.

    There is none for activations that the kernels do not have.
    """
    functions = operator.activations[index]
    options = {} if operator.clip is None else {"clip": operator.clip}
    if operator.kind == "RNN":
        known = {"Tanh": "tanh", "Relu": "relu"}.get(functions[0].name)
        return known and options | {"nonlinearity": known}
    gate = [own for own, like in GATE_ACTIVATIONS.items() if functions[0].is_like(*like)]
    if not gate or any(f.name != "Tanh" for f in functions[1:]):
        return None
    options["recurrent_activation"] = gate[0]
    if operator.kind == "GRU":
        return options | {"reset_after": operator.linear_before_reset}
    return options | {"coupled": operator.input_forget, "peephole": peephole}


def layer_of(operator, weights, options, indices):
    """A layer with the parameters of some directions: of both, or of one. It has one layer."""
    directions = [parameters_of(operator, weights, index) for index in indices]
    both = len(indices) == 2
    with initializers.skipped():
        layer = LAYERS[operator.kind](
            *sizes_of(weights), bias=weights.B is not None, batch_first=operator.batch_first,
            bidirectional=both, reverse=not both and is_reverse(operator, indices[0]),
            dtype=weights.W.dtype, rng=0, **options,
        )  # fmt: skip
    params = {}
    for slot, own in enumerate(directions):
        names = layer._structure.names(slot)
        params |= {names[kind]: array for kind, array in own.items()}
    layer.load(params)
    return layer


def parameters_of_pass(layer, slot):
    """The parameters of one direction of one layer of a stack: kind -> view."""
    return {kind: layer.params[name] for kind, name in layer._structure.names(slot).items()}


def is_reverse(operator, index):
    """Return whether a direction of the node begins at the last step."""
    return operator.direction == "reverse" or index == 1
