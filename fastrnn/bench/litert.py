"""The peer LiteRT (TensorFlow Lite's interpreter), with XNNPACK. Short calls only; see peer.py."""

from __future__ import annotations

import numpy as np

from fastrnn.bench.peer import Peer

MOST_STEPS = 8  # of a model whose steps are written out


class LiteRT(Peer):
    name = "litert"
    package = "ai_edge_litert"
    cells = ("lstm", "gru", "rnn")

    @classmethod
    def unsupported(cls, case, cell, mode):
        if mode == "training":
            return "inference only"
        if case.T > MOST_STEPS or case.layers * case.directions > 1:
            return f"one layer in one direction, at most {MOST_STEPS} steps"
        if cell not in cls.cells:
            return f"no {cell}"
        return super().unsupported(case, cell, mode)

    def prepare(self):
        from ai_edge_litert.interpreter import Interpreter

        from fastrnn.bench.litert_graph import make_model

        case = self.case
        model = make_model(case, self.cell, self.weights)
        self.interpreter = Interpreter(model_content=model, num_threads=self.threads)
        self.interpreter.allocate_tensors()
        by_name = {d["name"]: d["index"] for d in self.interpreter.get_input_details()}
        self.inputs = [by_name[name] for name in ("x", "h0", "c0") if name in by_name]
        self.outputs = [d["index"] for d in self.interpreter.get_output_details()]
        self.xs = list(case.calls(self.x)) if case.stream else [self.x]
        self.variants = {"interpreter": self.make_call}

    def make_call(self):
        put, get, invoke = (
            self.interpreter.set_tensor,
            self.interpreter.get_tensor,
            self.interpreter.invoke,
        )
        (x_index, *states), outputs = self.inputs, self.outputs
        own_y, carried = len(outputs) > len(states), self.case.stream
        for index in states:
            put(index, np.zeros(self.state_shape(), np.float32))

        def call(x):
            put(x_index, x)
            invoke()
            results = [get(index) for index in outputs]
            if carried:
                for index, value in zip(states, results[own_y:], strict=True):
                    put(index, value)
            return results if own_y else [results[0], *results]

        return call

    def collect(self, outputs):
        y, *states = outputs
        return {"y": y, **self.named_states(states)}
