"""Operator: a recurrent node's attributes, read and checked.

Source: the operators RNN, LSTM and GRU of ONNX, opsets 7, 14 (which adds layout) and 22.

It must not know: arrays, kernels, other operators.
"""

from __future__ import annotations

from typing import NamedTuple

from onnx import AttributeProto, NodeProto

from fastrnn import checks
from fastrnn._interop.conventions import NATIVE
from fastrnn.onnx._activations import Activation, activations_of
from fastrnn.onnx._attributes import has_type, value_of

RECURRENT = {"RNN", "LSTM", "GRU"}

GATES = {kind: len(NATIVE[kind.lower()]) for kind in sorted(RECURRENT)}

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_DEFAULTS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}

_TYPES = {
    "activations": AttributeProto.STRINGS,
    "activation_alpha": AttributeProto.FLOATS,
    "activation_beta": AttributeProto.FLOATS,
    "clip": AttributeProto.FLOAT,
    "direction": AttributeProto.STRING,
    "hidden_size": AttributeProto.INT,
    "layout": AttributeProto.INT,
    "input_forget": AttributeProto.INT,
    "linear_before_reset": AttributeProto.INT,
}
_OF_ONE = {"input_forget": "LSTM", "linear_before_reset": "GRU"}


class Operator(NamedTuple):
    """The attributes of a node.

    Attributes
    ----------
    kind : "RNN", "LSTM" or "GRU"
    label : the node in messages
    direction : "forward", "reverse" or "bidirectional"
    activations : for each direction its functions: f, for the GRU f and g, for the LSTM f, g and h
    clip : the bound of pre-activations, or None
    hidden_size : None if the node does not say
    batch_first : layout=1
    input_forget : the forget gate is 1 - i
    linear_before_reset : the reset gate acts after the recurrent product
    """

    kind: str
    label: str
    direction: str
    activations: tuple[tuple[Activation, ...], ...]
    clip: float | None
    hidden_size: int | None
    batch_first: bool
    input_forget: bool
    linear_before_reset: bool

    @property
    def num_directions(self):
        """1 or 2."""
        return _DIRECTIONS[self.direction]

    @property
    def states(self):
        """The number of arrays of its state."""
        return 2 if self.kind == "LSTM" else 1


def label_of(node):
    """A node in messages: its operator and its name, or the name of an output."""
    name = node.name or next(filter(None, node.output), "")
    return f"{checks.shown(node.op_type)} {checks.shown(name)!r}"


def is_recurrent(node):
    """Return whether a node is one of the three operators of ONNX itself."""
    return node.op_type in RECURRENT and node.domain in ("", "ai.onnx")


def input_names(node):
    """The inputs of a node: X, W, R and so on -> the name of that value, without those left out."""
    known = _INPUTS if node.op_type == "LSTM" else _INPUTS[:6]
    if len(node.input) > len(known):
        raise ValueError(
            f"{label_of(node)} must have at most {len(known)} inputs, got {len(node.input)}"
        )
    named = {own: name for own, name in zip(known, node.input, strict=False) if name}
    missing = [own for own in known[:3] if own not in named]
    if missing:
        raise ValueError(f"{label_of(node)} must have the inputs X, W and R, lacks {missing[0]}")
    return named


def operator_of(node, opset=22):
    """The `Operator` of a node of a model of this opset.

    Raises
    ------
    ValueError
        For another operator, an opset before 7, and attributes that are unknown or out of range.
    TypeError
        For another object than a node.
    """
    if not isinstance(node, NodeProto):
        raise TypeError(
            f"node must be an onnx.NodeProto, such as one of model.graph.node, got "
            f"{type(node).__name__}"
        )
    label, kind = label_of(node), node.op_type
    if not is_recurrent(node):
        of = f" of the domain {checks.shown(node.domain)}" if node.domain else ""
        raise ValueError(f"node must be an RNN, LSTM or GRU of ONNX, got {label}{of}")
    if opset < 7:
        raise ValueError(f"{label} must be of opset 7 or later, got {opset}: convert the model")
    given = _attributes(node, label, opset)
    direction = given.get("direction", "forward")
    checks.choice(f"direction of {label}", direction, tuple(_DIRECTIONS))
    clip = given.get("clip")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip of {label} must be a positive number, got {clip}")
    flags = {name: given.get(name, 0) for name in ("layout", *_OF_ONE)}
    for name in ("layout", "input_forget"):
        if flags[name] not in (0, 1):
            raise ValueError(f"{name} of {label} must be 0 or 1, got {flags[name]}")
    return Operator(
        kind, label, direction, _activations(kind, label, given, _DIRECTIONS[direction]), clip,
        given.get("hidden_size"), bool(flags["layout"]), bool(flags["input_forget"]),
        bool(flags["linear_before_reset"]),
    )  # fmt: skip


def _activations(kind, label, given, directions):
    """For each direction its activations, from a node's attributes."""
    names = given.get("activations") or _DEFAULTS[kind] * directions
    each = len(_DEFAULTS[kind])
    if len(names) != each * directions:
        raise ValueError(
            f"activations of {label} must have {each * directions} names, {each} for each "
            f"direction, got {len(names)}"
        )
    functions = activations_of(
        names, given.get("activation_alpha", []), given.get("activation_beta", []), label
    )
    return tuple([functions[k * each : (k + 1) * each] for k in range(directions)])


def _attributes(node, label, opset):
    """A node's attributes: name -> value."""
    given = {}
    for attribute in node.attribute:
        name = attribute.name
        known = name in _TYPES and _OF_ONE.get(name, node.op_type) == node.op_type
        if not known or (name == "layout" and opset < 14):
            raise ValueError(
                f"{label} has the attribute {checks.shown(name)}, which {node.op_type} does not "
                f"have in opset {opset}"
            )
        if not has_type(attribute, _TYPES[name]) or name in given:
            raise ValueError(
                f"{name} of {label} must be one {AttributeProto.AttributeType.Name(_TYPES[name])}"
            )
        given[name] = value_of(attribute)
    return given
