"""The peers: fastrnn, its NumPy path, and the frameworks it is measured against; see peer.py.

A framework is imported when its peer is made, in a process of its own. The parent never loads one.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.bench.onnx_peers import ONNXRuntime, OpenVINO
from fastrnn.bench.peer import Peer


class FastRNN(Peer):
    name = package = "fastrnn"

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
        self.layer = kind(case.I, case.H, case.layers, **options)
        for name, value in self.weights.items():
            self.layer.params[name][...] = value
        self.xs = list(self.x) if case.stream else [self.x]
        if case.stream:
            self.variants = {"stream": self.make_stream}
        elif self.training:
            self.variants = {"layer": lambda: self.train}
        else:
            self.variants = {"layer": lambda: self.layer}

    def make_stream(self):
        self.stream = self.layer.stream(batch_size=self.case.B)
        return partial(self.stream.step, out=np.empty((self.case.B, self.case.H), np.float32))

    def train(self, x):
        y, state, tape = self.layer.forward(x)
        return y, state, tape.backward(self.dy)

    def collect(self, outputs):
        if self.case.stream:
            outputs = outputs[None], self.stream.state
        y, state, *grads = outputs
        arrays = {"y": y, **self.named_states(state if self.cell == "lstm" else (state,))}
        for grad in grads:
            arrays["dx"] = grad.x
            arrays.update({"d." + name: value for name, value in grad.params.items()})
        return arrays


class NumPy(FastRNN):
    """fastrnn's reference path."""

    name = "numpy"

    def prepare(self):
        import fastrnn

        self.backend = fastrnn.backend("reference")  # entered, and never left
        self.backend.__enter__()
        super().prepare()


class Torch(Peer):
    name = package = "torch"

    @classmethod
    def unsupported(cls, case, cell, mode):
        return "torch.nn.GRU has no reset before the product" if cell == "gru-before" else None

    def prepare(self):
        import torch

        self.torch = torch
        torch.set_num_threads(self.threads)
        torch.set_num_interop_threads(1)
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[self.cell]
        case = self.case
        bidirectional = case.directions == 2
        self.layer = kind(case.I, case.H, case.layers, bidirectional=bidirectional)
        self.parameters = dict(self.layer.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                self.parameters[name].copy_(torch.from_numpy(value))
        x = torch.from_numpy(self.x)
        if case.stream:
            self.layer.requires_grad_(False)
            self.xs = list(x[:, None])  # (1, B, I)
            self.variants = {"module": self.make_module_step, "cell": self.make_cell_step}
        elif self.training:
            self.xs, self.seed = [x.requires_grad_()], torch.from_numpy(self.dy)
            self.variants = {"autograd": lambda: self.train}
        else:
            self.layer.eval()
            self.xs, self.variants = [x], {"module": lambda: self.forward}

    def forward(self, x):
        with self.torch.inference_mode():
            return self.layer(x)

    def train(self, x):
        y, state = self.layer(x)
        return y, state, self.torch.autograd.grad(y, [x, *self.parameters.values()], self.seed)

    def zero_state(self, shape):
        zeros = self.torch.zeros(shape)
        return (zeros, zeros) if self.cell == "lstm" else zeros

    def make_module_step(self):
        state, layer = self.zero_state(self.state_shape()), self.layer
        inference_mode = self.torch.inference_mode

        def step(x):
            nonlocal state
            with inference_mode():
                y, state = layer(x, state)
            return y, state

        return step

    def make_cell_step(self):
        """nn.LSTMCell, nn.GRUCell or nn.RNNCell; a streaming case has one layer."""
        torch = self.torch
        kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
        cell = kind[self.cell](self.case.I, self.case.H).requires_grad_(False)
        for name, value in cell.named_parameters():
            value.copy_(self.parameters[name + "_l0"])
        state, inference_mode = self.zero_state(self.state_shape()[1:]), torch.inference_mode
        lstm = self.cell == "lstm"

        def step(x):
            nonlocal state
            with inference_mode():
                state = cell(x[0], state)
            h = state[0] if lstm else state
            return h[None], state

        return step

    def collect(self, outputs):
        y, state, *grads = outputs
        state = [s.detach().numpy() for s in (state if self.cell == "lstm" else (state,))]
        state = [s.reshape(self.state_shape()) for s in state]
        arrays = {"y": y.detach().numpy(), **self.named_states(state)}
        for grad in grads:
            names = ["dx", *("d." + name for name in self.parameters)]
            arrays.update({n: g.numpy() for n, g in zip(names, grad, strict=True)})
        return arrays


class JAX(Peer):
    """A compiled scan, after the input projection of all time steps as one product."""

    name = package = "jax"

    def prepare(self):
        import jax

        from fastrnn.bench.jax_layers import forward, train

        self.jax = jax
        self.parameters = jax.device_put(self.weights)
        state = jax.numpy.zeros(self.state_shape(), jax.numpy.float32)
        self.zeros = (state, state) if self.cell == "lstm" else (state,)
        x = jax.device_put(self.x)
        self.xs = [x[t : t + 1] for t in range(len(x))] if self.case.stream else [x]
        if self.training:
            self.dy, make = jax.device_put(self.dy), partial(self.make, train)
        else:
            make = partial(self.make, forward)
        self.variants = {"transposed in the scan": partial(make, hoist=False)}
        self.variants["transposed before it"] = partial(make, hoist=True)

    def make(self, function, hoist: bool):
        case, block = self.case, self.jax.block_until_ready
        weights, state = self.parameters, self.zeros
        static = {"layers": case.layers, "directions": case.directions, "hoist": hoist}
        compiled = self.jax.jit(partial(function, cell=self.cell, **static))
        if self.training:
            return lambda x: block(compiled(weights, x, state, self.dy))
        if not case.stream:
            return lambda x: block(compiled(weights, x, state))

        def step(x):
            nonlocal state
            y, state = block(compiled(weights, x, state))
            return y, state

        return step

    def collect(self, outputs):
        y, states, *grads = outputs
        arrays = {"y": y, **self.named_states(states)}
        for dparameters, dx in grads:
            arrays["dx"] = dx
            arrays.update({"d." + name: value for name, value in dparameters.items()})
        return arrays


PEERS = {peer.name: peer for peer in (FastRNN, NumPy, Torch, ONNXRuntime, OpenVINO, JAX)}
