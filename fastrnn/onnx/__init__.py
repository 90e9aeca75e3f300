"""ONNX's recurrent operators on fastrnn's kernels: run nodes, load layers, export layers.

Change one line: ``fastrnn.onnx.prepare(model).run(inputs)`` in place of an ONNX Runtime session, or
``fastrnn.onnx.load(model)`` for the recurrent layers of a model with other operators. It needs the
package onnx alone.

It must not know: how models are read, how nodes run.
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastrnn.onnx needs onnx: pip install onnx (the extra fastrnn[onnx] has it)", name="onnx"
    ) from error

from fastrnn.onnx._backend import prepare, run_model, run_node
from fastrnn.onnx._export import export
from fastrnn.onnx._load import load
from fastrnn.onnx._prepared import Prepared

__all__ = ["Prepared", "export", "load", "prepare", "run_model", "run_node"]
