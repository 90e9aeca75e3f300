"""run_node, prepare and run_model: to run nodes and small models, as ONNX's backends do.

It must not know: the arrangement of weights, kernels, what a model consists of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn.onnx._inputs import named_inputs
from fastrnn.onnx._operator import label_of
from fastrnn.onnx._prepared import Prepared, RecurrentStep

if TYPE_CHECKING:
    import os
    from typing import Any

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fastrnn._typing import Floats
    from fastrnn.onnx._inputs import Arrays


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
        For dtypes other than float32 and float64, and mixed ones; for another object than a node.

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
    step = RecurrentStep(node, checks.positive("opset_version", opset_version), {})
    required = [name for name in node.input if name]
    outputs = step(named_inputs(inputs, [*node.input], required, label_of(node)))
    return tuple([outputs.get(name) for name in node.output])


def prepare(model: ModelProto | bytes | str | os.PathLike[str], device: str = "CPU") -> Prepared:
    """Prepare a model of recurrent nodes for many runs: its weights are converted and packed once.

    Parameters
    ----------
    model : onnx.ModelProto, its bytes, or a path
        It has the operators RNN, LSTM and GRU, and those around them that arrange arrays:
        Transpose, Squeeze, Unsqueeze, Reshape, Slice, Split, Concat, Gather, Expand, Shape,
        Constant, ConstantOfShape, Cast, Identity, and Mul of integers. For others, `load` gives the
        model's recurrent layers.
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
) -> tuple[NDArray[Any], ...]:
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


def _check_device(device):
    if device != "CPU":
        raise ValueError(f"device must be 'CPU', where fastrnn computes, got {device!r}")
