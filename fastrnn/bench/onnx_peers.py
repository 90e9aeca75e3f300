"""The peers that run an ONNX model: ONNX Runtime and OpenVINO. Forward only; see peer.py."""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from fastrnn.bench.onnx_graph import input_names, make_model, output_names
from fastrnn.bench.peer import Peer, Unsupported


class _Model(Peer):
    also_needs = ("onnx",)

    @classmethod
    def unsupported(cls, case, cell, mode):
        if mode == "training":
            return "inference only"
        return super().unsupported(case, cell, mode)

    def prepare(self):
        case = self.case
        self.kept = []
        self.inputs, self.outputs = input_names(case, self.cell), output_names(self.cell)
        self.xs = list(case.calls(self.x)) if case.stream else [self.x]
        self.load(make_model(case, self.cell, self.weights))

    def buffers(self) -> list[tuple[dict, dict]]:
        """Inputs and outputs of two calls in turn; they swap the states before and after a step."""
        case = self.case
        x = np.zeros((case.T, case.B, case.I), np.float32)
        y = np.zeros((case.T, case.B, case.H * case.directions), np.float32)
        states = [
            [np.zeros(self.state_shape(), np.float32) for _ in self.outputs[1:]] for _ in range(2)
        ]
        turns = []
        for before, after in (states, states[::-1]):
            feeds = dict(zip(self.inputs, [x, *before], strict=False))
            turns.append((feeds, dict(zip(self.outputs, [y, *after], strict=True))))
        self.kept.append(turns)  # the libraries have only their addresses
        return turns

    def collect(self, outputs):
        return dict(zip(self.outputs, outputs, strict=True))


class ONNXRuntime(_Model):
    name = package = "onnxruntime"
    precisions = ("float32", "int8")

    @classmethod
    def unsupported(cls, case, cell, mode):
        if case.precision == "int8" and cell != "lstm":
            return "of the recurrent operators its quantisation knows the LSTM alone"
        return super().unsupported(case, cell, mode)

    def load(self, model):
        if self.case.precision == "float32":
            session = self.session(model)
            self.variants = {
                "run": partial(self.make_run, session),
                "io binding": partial(self.make_bound, session),
            }
            return
        session = self.session(self.quantized(model))
        self.variants = {"io binding": partial(self.make_bound, session)}

    def session(self, model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @staticmethod
    def quantized(model) -> bytes:
        """The model with LSTM operators whose weights are integers.

        Without VNNI its sums of two products saturate, and results are off by a third, unless the
        weights have seven bits, as its documentation says.
        """
        import onnx
        from onnxruntime.quantization import quantize_dynamic

        reduced = "vnni" not in Path("/proc/cpuinfo").read_text()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantized.onnx"
            quantize_dynamic(
                onnx.load_from_string(model), path, per_channel=True, reduce_range=reduced
            )
            return path.read_bytes()

    def make_run(self, session):
        run, names = session.run, self.outputs
        if not self.case.stream:
            return lambda x: run(names, {"x": x})
        feeds = {name: np.zeros(self.state_shape(), np.float32) for name in self.inputs}

        def step(x):
            feeds["x"] = x
            outputs = run(names, feeds)
            feeds.update(zip(self.inputs[1:], outputs[1:], strict=True))
            return outputs

        return step

    def make_bound(self, session):
        """A call on buffers of ours, whose addresses the session has."""
        turns = []
        for feeds, results in self.buffers():
            binding = session.io_binding()
            for name, a in feeds.items():
                binding.bind_input(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
            for name, a in results.items():
                binding.bind_output(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
            turns.append((binding, feeds["x"], list(results.values())))
        run = session.run_with_iobinding
        if not self.case.stream:
            binding, x_buffer, results = turns[0]
            x_buffer[...] = self.x

            def forward(x):
                run(binding)
                return results

            return forward
        turns = cycle(turns)

        def step(x):
            binding, x_buffer, results = next(turns)
            x_buffer[...] = x
            run(binding)
            return results

        return step


class OpenVINO(_Model):
    name = package = "openvino"
    precisions = ("float32", "bfloat16-weights", "bfloat16")

    def load(self, model):
        import openvino

        self.openvino, core = openvino, openvino.Core()
        narrow = self.case.precision != "float32"
        if narrow and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unsupported("it computes in bfloat16 only on CPUs with instructions for it")
        # Where the CPU has bfloat16, that is its default, also for models in float32.
        self.compiled = core.compile_model(
            core.read_model(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
                "INFERENCE_NUM_THREADS": self.threads,
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
            },
        )
        self.variants = {"infer": self.make_infer, "own tensors": self.make_bound}

    def make_infer(self):
        infer = self.compiled.create_infer_request().infer
        if not self.case.stream:
            return lambda x: infer({"x": x}, share_inputs=True, share_outputs=True).to_tuple()
        feeds = {name: np.zeros(self.state_shape(), np.float32) for name in self.inputs}

        def step(x):
            feeds["x"] = x
            outputs = infer(feeds, share_inputs=True, share_outputs=False).to_tuple()
            feeds.update(zip(self.inputs[1:], outputs[1:], strict=True))
            return outputs

        return step

    def make_bound(self):
        """A call on buffers of ours, which converts and copies nothing."""
        turns, tensor = [], self.openvino.Tensor
        for feeds, results in self.buffers():
            request = self.compiled.create_infer_request()
            for name, a in (feeds | results).items():
                request.set_tensor(name, tensor(a, shared_memory=True))
            turns.append((request, feeds["x"], list(results.values())))
        if not self.case.stream:
            request, x_buffer, results = turns[0]
            x_buffer[...] = self.x

            def forward(x):
                request.start_async()
                request.wait()
                return results

            return forward
        turns = cycle(turns)

        def step(x):
            request, x_buffer, results = next(turns)
            x_buffer[...] = x
            request.start_async()
            request.wait()
            return results

        return step
