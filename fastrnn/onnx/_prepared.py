"""Prepared: a model of recurrent nodes and of nodes that move numbers, ready for many runs.

It must not know: the arrangement of weights, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import shown
from fastrnn.onnx._arrays import Operation, known
from fastrnn.onnx._inputs import named_inputs
from fastrnn.onnx._model import Constants, first_twice, read
from fastrnn.onnx._node import Node
from fastrnn.onnx._operator import input_names, is_recurrent, label_of, operator_of
from fastrnn.onnx._tensors import Source
from fastrnn.onnx._weights import Weights

if TYPE_CHECKING:
    import os
    from typing import Any

    from numpy.typing import NDArray
    from onnx import ModelProto

    from fastrnn.onnx._inputs import Arrays

# The operators the shape of whose outputs follows from the shapes of all their inputs.
_OF_SHAPES = {"Cast", "Concat", "Gather", "Identity", "Mul", "Shape", "Transpose"}

_AT_RUN = ("X", "sequence_lens", "initial_h", "initial_c")  # inputs that are no weights


class Prepared:
    """A model with its weights converted and packed; `prepare` creates it.

    Attributes
    ----------
    input_names, output_names : list of str
        Of the model's graph, without inputs that are constants.

    Examples
    --------
    >>> import fastrnn
    >>> import fastrnn.onnx
    >>> fastrnn.onnx.export(fastrnn.LSTM(3, 5, rng=0), "lstm.onnx")
    >>> prepared = fastrnn.onnx.prepare("lstm.onnx")
    >>> prepared.input_names, prepared.output_names
    (['x', 'h0', 'c0'], ['y', 'h', 'c'])
    """

    def __init__(self, model: ModelProto | bytes | str | os.PathLike[str]) -> None:
        model = read(model)
        graph = model.proto.graph
        _check_operators(graph)
        constants = Constants(model, graph)
        self._steps = []
        for node in graph.node:
            found = {name: constants.get(name) for name in (*node.input, *node.output) if name}
            found = {name: value for name, value in found.items() if value is not None}
            if is_recurrent(node):
                self._steps.append(RecurrentStep(node, model.opset, found))
            elif not all(name in found for name in node.output if name):
                self._steps.append(MovingStep(node))
        self.output_names = [value.name for value in graph.output]
        # A recurrent node makes new arrays; what others make may be views.
        self._new = {name for node in graph.node if is_recurrent(node) for name in node.output}
        given = {tensor.name for tensor in graph.initializer}
        self.input_names = [value.name for value in graph.input if value.name not in given]
        # Weights that a step has packed are not kept here.
        read_later = {*self.output_names, *(name for step in self._steps for name in step.inputs)}
        kept = {name: constants.get(name) for name in read_later}
        self._constants = {name: value for name, value in kept.items() if value is not None}
        for value in self._constants.values():
            value.flags.writeable = False  # `_own` copies what is not writeable, a view of it too
        self._declared = {value.name: _declared(value) for value in graph.input}
        self._of_shapes = _values_of_shapes(self._steps, self._constants)
        self._others = [step for step in self._steps if not step.outputs & self._of_shapes]
        self._last = None, {}  # the shapes of the last run's inputs, and the values of shapes

    def run(self, inputs: Arrays) -> tuple[NDArray[Any], ...]:
        """Run the model.

        Parameters
        ----------
        inputs : mapping from names to arrays, or sequence of arrays in the order of `input_names`

        Returns
        -------
        tuple
            An array for each of `output_names`, with memory of its own.

        Raises
        ------
        ValueError, TypeError
            As for `run_node`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> import fastrnn.onnx
        >>> fastrnn.onnx.export(fastrnn.GRU(3, 5, rng=0), "gru.onnx")
        >>> prepared = fastrnn.onnx.prepare("gru.onnx")
        >>> x, h0 = np.ones((7, 2, 3), "float32"), np.zeros((1, 2, 5), "float32")
        >>> y, h = prepared.run({"x": x, "h0": h0})
        >>> h.shape
        (1, 2, 5)
        """
        names = self.input_names
        given = named_inputs(inputs, names, names, "the model")
        shapes = tuple([given[name].shape for name in names])
        (last, known), values = self._last, self._constants | given
        if shapes == last:
            values |= known
            for step in self._others:
                values |= step(values)
        else:
            self._check_shapes(given)
            for step in self._steps:
                values |= step(values)
            self._last = shapes, {name: values[name] for name in self._of_shapes}
        outputs = [_value(values, name, "the model") for name in self.output_names]
        return self._own(outputs, [*given.values()])

    def __repr__(self) -> str:
        """The inputs with the shapes that the model declares, and the outputs."""
        inputs = [
            shown(name) + ("" if self._declared[name] is None else f" {self._sizes(name)}")
            for name in self.input_names
        ]
        outputs = ", ".join(map(shown, self.output_names))
        return f"<fastrnn.onnx.Prepared {', '.join(inputs)} -> {outputs}>"

    def _sizes(self, name):
        """The shape that the model declares for an input, as a text."""
        sizes = ["any" if size is None else str(size) for size in self._declared[name]]
        return f"({', '.join(sizes)})"

    def _check_shapes(self, given):
        """ValueError for an input of another shape than the model declares."""
        for name, array in given.items():
            wanted = self._declared[name]
            if wanted is None:
                continue
            fits = [size in (None, got) for size, got in zip(wanted, array.shape, strict=False)]
            if len(wanted) != array.ndim or not all(fits):
                raise ValueError(
                    f"input {shown(name)!r} must be {self._sizes(name)}, as the model declares, "
                    f"got {array.shape}: a model for other sizes is exported with dynamic shapes"
                )

    def _own(self, outputs, inputs):
        """The outputs as the caller's: none shares memory with another one, or an input."""
        for index, name in enumerate(self.output_names):
            if name not in self._new:
                array, others = outputs[index], outputs[:index] + outputs[index + 1 :] + inputs
                shares = any(np.may_share_memory(array, other) for other in others)
                if shares or name in self._of_shapes or not array.flags.writeable:
                    outputs[index] = array.copy()
        return tuple(outputs)


class RecurrentStep:
    """A recurrent node as a function from values to values; its weights may be among them.

    constants : name -> array. inputs, outputs : the names of the values that a call reads and
    makes.
    """

    def __init__(self, node, opset, constants):
        self._operator, self._names = operator_of(node, opset), input_names(node)
        self._outputs, self._node = [*node.output], None
        self.outputs = {name for name in node.output if name}
        twice = first_twice(filter(None, node.output))
        if twice is not None:
            raise ValueError(f"{self._operator.label} has two outputs called {shown(twice)!r}")
        if len(self._outputs) > 1 + self._operator.states:
            raise ValueError(
                f"{self._operator.label} must have at most {1 + self._operator.states} outputs, "
                f"got {len(self._outputs)}"
            )
        self.inputs = [*self._names.values()]
        weights = [self._names[name] for name in Weights._fields if name in self._names]
        if all(name in constants for name in weights):
            self._node = self._new(constants)
            self.inputs = [self._names[name] for name in _AT_RUN if name in self._names]

    def _new(self, values):
        return Node(self._operator, Weights(*self._arrays(values, Weights._fields)))

    def _arrays(self, values, inputs):
        names, label = self._names, self._operator.label
        return [_value(values, names[own], label) if own in names else None for own in inputs]

    def __call__(self, values):
        node = self._node or self._new(values)
        outputs = node(*self._arrays(values, _AT_RUN))
        return {name: array for name, array in zip(self._outputs, outputs, strict=False) if name}


class MovingStep:
    """Another node as a function from values to values.

    inputs, outputs : the names of the values that it reads and makes. shaping : of the inputs whose
    values decide the shape of an output. is_shape : its output is the shape of its input.
    """

    def __init__(self, node):
        self._label, self._inputs, self._outputs = label_of(node), [*node.input], [*node.output]
        self._operation = Operation(node, Source())
        self.inputs = [name for name in node.input if name]
        self.outputs = {name for name in node.output if name}
        shaping = () if node.op_type in _OF_SHAPES else node.input
        self.shaping = [*shaping][node.op_type != "ConstantOfShape" :]
        self.is_shape = node.op_type == "Shape"

    def __call__(self, values):
        label = self._label
        inputs = [_value(values, name, label) if name else None for name in self._inputs]
        outputs = self._operation(inputs)
        return {name: array for name, array in zip(self._outputs, outputs, strict=False) if name}


def _declared(value):
    """The shape that the model declares for an input, None for a size that is open; or None."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def _values_of_shapes(steps, constants):
    """The names of the values that follow from the shapes of the model's inputs, and constants.

    There are none if the values of inputs decide shapes, too.
    """
    known = set(constants)
    for step in steps:
        if isinstance(step, RecurrentStep):
            continue
        if not known.issuperset(filter(None, step.shaping)):
            return set()
        if step.is_shape or known.issuperset(step.inputs):
            known |= step.outputs
    return known - constants.keys()


def _value(values, name, owner):
    if name not in values:
        raise ValueError(f"{owner} reads {shown(name)!r}, which no input and no node before it is")
    return values[name]


def _check_operators(graph):
    others = [node for node in graph.node if not (is_recurrent(node) or known(node))]
    if others:
        labels = [label_of(node) for node in others[:8]]
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        raise ValueError(
            f"the model has nodes that fastrnn does not run: {', '.join(labels)}{more}. "
            "fastrnn.onnx.load gives the recurrent layers of such a model"
        )
