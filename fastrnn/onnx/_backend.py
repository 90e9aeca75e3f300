"""run_node, prepare and run_model: to run nodes and small models, as ONNX's backends do.

It must not know: the arrangement of weights, kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import shown
from fastrnn.onnx import _arrays
from fastrnn.onnx._model import Constants, read
from fastrnn.onnx._node import Node
from fastrnn.onnx._operator import input_names, is_recurrent, label_of, operator_of
from fastrnn.onnx._tensors import Source
from fastrnn.onnx._weights import Weights

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fastrnn._typing import Floats

    Array: TypeAlias = NDArray[Any]
    Arrays: TypeAlias = Mapping[str, Array] | Sequence[Array | None]


def run_node(
    node: NodeProto, inputs: Arrays, device: str = "CPU", *, opset_version: int = 22
) -> tuple[Floats | None, ...]:
    """Run one RNN, LSTM or GRU node.

    All attributes and inputs of opsets 7, 14 and 22 are taken, in float32 and float64. `prepare`
    converts the weights once, and is quicker for more than one call.

    Parameters
    ----------
    node : onnx.NodeProto
    inputs : mapping from the names of the node's inputs to arrays, or sequence of arrays
        A sequence is in the order of ``node.input``; inputs that are left out, with an empty name,
        are None in it or are not in it.
    device : "CPU"
    opset_version : int
        That of the node's model: it decides which attributes there are.

    Returns
    -------
    tuple
        An array for each of ``node.output``; None for one without a name.

    Raises
    ------
    ValueError
        For another operator, unknown attributes and activations, and shapes that do not agree.
    TypeError
        For dtypes other than float32 and float64, and mixed ones.

    Warns
    -----
    UserWarning
        Once in a process, for activations that the kernels do not have: they run in NumPy.

    Notes
    -----
    clip bounds each pre-activation, as in ONNX Runtime, and not the input of the LSTM's h. A
    HardSigmoid of alpha = 0.2 and beta = 0.5, the defaults, is 0.2 p + 0.5 in float64, too.

    References
    ----------
    The operators RNN, LSTM and GRU: https://onnx.ai/onnx/operators/

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> import fastrnn.onnx
    >>> node = onnx.helper.make_node("GRU", ["X", "W", "R"], ["Y", "Y_h"], hidden_size=5)
    >>> X, W, R = [np.ones(s, "float32") for s in ((7, 2, 3), (1, 15, 3), (1, 15, 5))]
    >>> Y, Y_h = fastrnn.onnx.run_node(node, [X, W, R])
    >>> Y.shape, Y_h.shape
    ((7, 1, 2, 5), (1, 2, 5))
    """
    _check_device(device)
    named = _named(inputs, [*node.input], [name for name in node.input if name], label_of(node))
    step = _Recurrent(node, opset_version, {})
    return tuple([step(named).get(name) for name in node.output])


def prepare(model: ModelProto | bytes | str | os.PathLike[str], device: str = "CPU") -> Prepared:
    """Prepare a model of recurrent nodes for many runs: its weights are converted and packed once.

    Parameters
    ----------
    model : onnx.ModelProto, its bytes, or a path
        It has the operators RNN, LSTM and GRU, and those around them that move numbers: Transpose,
        Squeeze, Unsqueeze, Reshape, Slice, Split, Concat, Gather, Expand, Shape, Constant,
        ConstantOfShape, Cast, Identity. For others, `load` gives the model's recurrent layers.
    device : "CPU"

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        For other operators, which the message names; and as for `run_node`.
    TypeError
        As for `run_node`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> import fastrnn.onnx
    >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((7, 2, 3), "float32")
    >>> fastrnn.onnx.export(layer, "gru.onnx", state=False)
    >>> y, h = fastrnn.onnx.prepare("gru.onnx").run([x])
    >>> bool((y == layer(x)[0]).all())
    True
    """
    _check_device(device)
    return Prepared(model)


def run_model(
    model: ModelProto | bytes | str | os.PathLike[str], inputs: Arrays, device: str = "CPU"
) -> tuple[Array, ...]:
    """Run a model once: ``prepare(model).run(inputs)``.

    Parameters
    ----------
    model, device
        As for `prepare`.
    inputs
        As for `Prepared.run`.

    Returns
    -------
    tuple
        An array for each of the model's outputs.

    Raises
    ------
    ValueError, TypeError
        As for `prepare` and `run_node`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> import fastrnn.onnx
    >>> fastrnn.onnx.export(fastrnn.RNN(3, 5, rng=0), "rnn.onnx", state=False)
    >>> y, h = fastrnn.onnx.run_model("rnn.onnx", {"x": np.ones((7, 2, 3), "float32")})
    >>> y.shape
    (7, 2, 5)
    """
    return prepare(model, device).run(inputs)


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
        self._constants: dict[str, Array] = {}
        self._steps = []
        for node in graph.node:
            known = {n: constants.get(n) for n in (*node.input, *node.output) if n}
            known = {name: value for name, value in known.items() if value is not None}
            self._constants |= known
            if is_recurrent(node):
                self._steps.append(_Recurrent(node, model.opset, known))
            elif not all(name in known for name in node.output if name):
                self._steps.append(_Moving(node))
        self.output_names = [value.name for value in graph.output]
        for name in self.output_names:
            value = constants.get(name)
            if value is not None:
                self._constants[name] = value
        given = {tensor.name for tensor in graph.initializer}
        self.input_names = [value.name for value in graph.input if value.name not in given]

    def run(self, inputs: Arrays) -> tuple[Array, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : mapping from names to arrays, or sequence of arrays in the order of `input_names`

        Returns
        -------
        tuple
            An array for each of `output_names`.

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
        values = self._constants | _named(inputs, names, names, "the model")
        for step in self._steps:
            values |= step(values)
        return tuple([_value(values, name, "the model") for name in self.output_names])


class _Recurrent:
    """A recurrent node as a function from values to values; its weights may be among them."""

    def __init__(self, node, opset, constants):
        self._operator, self._names = operator_of(node, opset), input_names(node)
        self._outputs, self._node = [*node.output], None
        if len(self._outputs) > 1 + self._operator.states:
            raise ValueError(
                f"{self._operator.label} must have at most {1 + self._operator.states} outputs, "
                f"got {len(self._outputs)}"
            )
        weights = [self._names.get(name) for name in Weights._fields]
        if all(name is None or name in constants for name in weights):
            self._node = self._new(constants)

    def _new(self, values):
        return Node(self._operator, Weights(*self._arrays(values, Weights._fields)))

    def _arrays(self, values, inputs):
        label = self._operator.label
        return [
            _value(values, self._names[name], label) if name in self._names else None
            for name in inputs
        ]

    def __call__(self, values):
        node = self._node or self._new(values)
        outputs = node(*self._arrays(values, ("X", "sequence_lens", "initial_h", "initial_c")))
        return {name: array for name, array in zip(self._outputs, outputs, strict=False) if name}


class _Moving:
    """Another node as a function from values to values."""

    def __init__(self, node):
        self._label, self._inputs, self._outputs = label_of(node), [*node.input], [*node.output]
        self._operation = _arrays.Operation(node, Source())

    def __call__(self, values):
        label = self._label
        inputs = [_value(values, name, label) if name else None for name in self._inputs]
        outputs = self._operation(inputs)
        return {name: array for name, array in zip(self._outputs, outputs, strict=False) if name}


def _value(values, name, owner):
    if name not in values:
        raise ValueError(f"{owner} reads {shown(name)!r}, which no input and no node before it is")
    return values[name]


def _named(inputs, names, required, owner):
    """The inputs as a dict from names to arrays.

    names : of all inputs, "" for one that is left out. required : of those that must be given.
    """
    if hasattr(inputs, "keys"):
        named = {name: inputs[name] for name in inputs.keys()}  # noqa: SIM118
    elif isinstance(inputs, np.ndarray) or not hasattr(inputs, "__len__"):
        raise TypeError(
            "inputs must be a mapping from names to arrays, or a list or tuple of arrays, got "
            f"{type(inputs).__name__}"
        )
    else:
        given = [*inputs]
        wanted = required if len(given) == len(required) else names
        if len(given) != len(wanted):
            raise ValueError(
                f"inputs of {owner} must be {len(required)} arrays, got {len(given)}: its inputs "
                f"are {shown(', '.join(required))}"
            )
        named = {name: array for name, array in zip(wanted, given, strict=True) if name}
    missing = [name for name in required if named.get(name) is None]
    unknown = [name for name in named if name not in names]
    if missing or unknown:
        raise ValueError(
            f"inputs must be those of {owner}, {shown(', '.join(required))}: missing are "
            f"{shown(', '.join(missing)) or 'none'}; unknown are "
            f"{shown(', '.join(map(str, unknown))) or 'none'}"
        )
    return {name: np.asarray(array) for name, array in named.items()}


def _check_operators(graph):
    others = [node for node in graph.node if not (is_recurrent(node) or _arrays.known(node))]
    if others:
        labels = [label_of(node) for node in others[:8]]
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        raise ValueError(
            f"the model has nodes that fastrnn does not run: {', '.join(labels)}{more}. "
            "fastrnn.onnx.load gives the recurrent layers of such a model"
        )


def _check_device(device):
    if device != "CPU":
        raise ValueError(f"device must be 'CPU', where fastrnn computes, got {device!r}")
