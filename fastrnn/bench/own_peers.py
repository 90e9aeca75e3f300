"""The peers that are fastrnn itself: its kernels, its NumPy path, and other ways to the same."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.bench.cases import FEATURES, PRECISIONS
from fastrnn.bench.peer import Peer


def without_states(arrays: dict) -> dict:
    return {name: value for name, value in arrays.items() if name not in ("h", "c")}


class FastRNN(Peer):
    name = package = "fastrnn"
    precisions = ("float32", *PRECISIONS)
    features = FEATURES
    of_torch = True

    def prepare(self):
        import fastrnn

        fastrnn.set_num_threads(self.threads)
        kind, options = {
            "lstm": (fastrnn.LSTM, {}),
            "gru": (fastrnn.GRU, {"reset_after": True}),
            "gru-before": (fastrnn.GRU, {"reset_after": False}),
            "rnn": (fastrnn.RNN, {"nonlinearity": "tanh"}),
        }[self.cell]
        case = self.case
        options["bidirectional"] = case.directions == 2
        self.options = {}  # of a call
        if case.feature == "layer_norm":
            options["layer_norm"] = True
            self.weights |= self.extra
        else:
            self.options |= self.extra
        x = self.options.pop("x", self.x)
        self.layer = kind(case.I, case.H, case.layers, **options)
        for name, value in self.weights.items():
            self.layer.params[name][...] = value
        self.xs = list(case.calls(x)) if case.stream else [x]
        if self.training:
            self.variants = {"layer": lambda: self.train}
            return
        if case.group == "torch":  # a module packs its weights at each call, too
            self.variants = {"layer": lambda: partial(self.layer, **self.options)}
            return
        self.frozen = self.layer.freeze(self.precision())
        if case.stream:
            self.variants = {"stream": self.make_stream}
        else:
            self.variants = {"frozen": lambda: partial(self.frozen, **self.options)}

    def precision(self) -> str | None:
        """The argument of `freeze`."""
        return None if self.case.precision == "float32" else self.case.precision

    def make_stream(self):
        case = self.case
        self.stream = self.frozen.stream(batch_size=case.B)
        if case.T > 1:
            return partial(self.stream.feed, out=np.empty((case.T, case.B, case.H), np.float32))
        self.xs = list(self.x)  # a step takes (B, I)
        return partial(self.stream.step, out=np.empty((case.B, case.H), np.float32))

    def train(self, x):
        y, state, tape = self.layer.forward(x, **self.options)
        return y, state, tape.backward(self.dy)

    def collect(self, outputs):
        if isinstance(outputs, np.ndarray):  # a stream's
            outputs = outputs.reshape(-1, self.case.B, self.case.H), self.stream.state
        y, state, *grads = outputs
        arrays = {"y": y, **self.named_states(state if self.cell == "lstm" else (state,))}
        for grad in grads:
            if "embedding" in self.options:
                arrays["d.embedding"] = grad.embedding
            else:
                arrays["dx"] = grad.x
            arrays.update({"d." + name: value for name, value in grad.params.items()})
        return without_states(arrays) if self.case.feature else arrays


class NumPy(FastRNN):
    """fastrnn's reference path."""

    name = "numpy"

    def prepare(self):
        import fastrnn

        self.backend = fastrnn.backend("reference")  # entered, and never left
        self.backend.__enter__()
        super().prepare()


class FastRNNCall(FastRNN):
    """Calls of a frozen layer that carry the state, to compare a stream's `feed` with."""

    name = "call"
    precisions = ("float32",)
    of_torch = False

    @classmethod
    def unsupported(cls, case, cell, mode):
        if not case.stream or case.T == 1:
            return "only where a stream takes several steps a call"
        return super().unsupported(case, cell, mode)

    def make_stream(self):
        frozen, state = self.frozen, None

        def call(x):
            nonlocal state
            y, state = frozen(x, state)
            return y, state

        return call


class FastRNNFloat32(FastRNN):
    """The same call in float32, to compare a narrow precision with."""

    name = "float32"
    precisions = PRECISIONS
    of_torch = False

    def precision(self):
        return None
