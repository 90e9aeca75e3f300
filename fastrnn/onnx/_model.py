"""Models: reading one, and the values in it that are constants.

It must not know: recurrent nodes, how they run.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from fastrnn.checks import shown
from fastrnn.onnx import _arrays
from fastrnn.onnx._tensors import Source, array_of

_DEPTH = 100  # a constant follows from others by at most so many nodes


class Model:
    """A model that was read.

    proto : ModelProto
    source : Source
    opset : the version of ONNX's operators
    """

    def __init__(self, proto, folder):
        self.proto, self.source = proto, Source(folder, proto.ByteSize())
        self.opset = _opset_of(proto)


def read(source):
    """The `Model` of a path, bytes or a ModelProto.

    Raises
    ------
    ValueError
        For a file that is no model.
    TypeError
        For another source.
    OSError
        As for `open`.
    """
    if isinstance(source, ModelProto):
        return Model(source, None)
    if isinstance(source, bytes):
        return Model(_parsed(source, "model"), None)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"model must be a path, bytes or an onnx.ModelProto, got {type(source).__name__}"
        )
    mode = os.stat(source).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open has a message for folders
        raise ValueError(f"{source} must be a regular file: a pipe or a device has no size")
    with open(source, "rb") as file:
        return Model(_parsed(file.read(), source), Path(source).parent)


def _parsed(data, name):
    try:
        return ModelProto.FromString(data)
    except DecodeError as error:
        raise ValueError(f"{name} cannot be read as a model of ONNX: {error}") from None


def _opset_of(proto):
    versions = {i.version for i in proto.opset_import if i.domain in ("", "ai.onnx")}
    if len(versions) != 1:
        raise ValueError(
            f"the model must name one version of ONNX's operators, got {shown(sorted(versions))}"
        )
    return versions.pop()


def first_twice(names):
    """The first name that is there a second time; None if there is none."""
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class Constants:
    """The constants of a graph: initializers, and what _arrays.py makes of them.

    model : Model
    graph : GraphProto
    outer : the `Constants` of the graph around this one, or None
    """

    def __init__(self, model, graph, outer=None):
        self._model, self._outer, self._found = model, outer, {}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input}
        if outer is None:
            self._inputs -= self._tensors.keys()  # these are defaults; a loop's body has none
        made = [tensor.name for tensor in graph.initializer]
        made += [name for node in graph.node for name in node.output]
        twice = first_twice(filter(None, [*self._inputs, *made] if outer is None else made))
        if twice is not None:
            raise ValueError(f"the model has two values called {shown(twice)!r}")
        self._producers = {name: node for node in graph.node for name in node.output if name}

    def get(self, name, depth=0):
        """The array of a value; None for one that is not constant."""
        if name in self._inputs:
            return None
        if name not in self._found:
            self._found[name] = None  # while it is computed: a cycle has no constants
            self._found.update(self._new(name, depth))
        return self._found[name]

    def _new(self, name, depth):
        """A value, and those that are computed with it: name -> array or None."""
        tensor, node = self._tensors.get(name), self._producers.get(name)
        if tensor is not None:
            return {name: array_of(tensor, self._model.source, shown(name))}
        if node is None:
            return {name: None if self._outer is None else self._outer.get(name, depth)}
        if depth == _DEPTH or not _arrays.known(node):
            return {}
        inputs = [self.get(own, depth + 1) if own else None for own in node.input]
        if any(value is None for own, value in zip(node.input, inputs, strict=True) if own):
            return {}
        try:
            outputs = _arrays.Operation(node, self._model.source)(inputs)
        except ValueError as error:
            raise ValueError(f"{shown(name)!r} cannot be computed: {error}") from None
        return dict(zip(node.output, outputs, strict=False))

    def why_not(self, name):
        """Why a value is not constant, in words."""
        node = self._producers.get(name)
        if node is None and self._outer is not None and name not in self._inputs:
            return self._outer.why_not(name)
        is_input, name = name in self._inputs, shown(name)
        if is_input:
            return f"{name!r} is an input of the model"
        if node is None:
            return f"{name!r} is neither an initializer nor an output of a node"
        return f"{name!r} is computed, by {shown(node.op_type)} {shown(node.name)!r}"
