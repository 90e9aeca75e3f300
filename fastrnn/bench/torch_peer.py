"""The peer PyTorch. A case with a feature runs torch_features.py; see peer.py."""

from __future__ import annotations

from functools import partial

from fastrnn.bench.cases import FEATURES, PRECISIONS
from fastrnn.bench.peer import Peer


class Torch(Peer):
    name = package = "torch"
    precisions = ("float32", *PRECISIONS)
    features = FEATURES
    of_torch = True

    @classmethod
    def unsupported(cls, case, cell, mode):
        if cell == "gru-before":
            return "torch.nn.GRU has no reset before the product"
        return super().unsupported(case, cell, mode)

    def prepare(self):
        import torch

        self.torch = torch
        torch.set_num_threads(self.threads)
        torch.set_num_interop_threads(1)
        library = self.library()
        kind = {"lstm": library.LSTM, "gru": library.GRU, "rnn": library.RNN}[self.cell]
        case = self.case
        bidirectional = case.directions == 2
        self.layer = kind(case.I, case.H, case.layers, bidirectional=bidirectional)
        self.parameters = dict(self.layer.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                self.parameters[name].copy_(torch.from_numpy(value))
        x = torch.from_numpy(self.x)
        if case.feature:
            self.prepare_feature(x)
            return
        if self.training:
            self.xs, self.seed = [x.requires_grad_()], torch.from_numpy(self.dy)
            self.variants = {"autograd": lambda: self.train}
            return
        self.layer.eval().requires_grad_(False)
        if case.precision == "int8":
            self.layer = self.quantized(self.layer)
        elif case.precision != "float32":
            self.layer, x = self.layer.to(torch.bfloat16), x.to(torch.bfloat16)
        self.dtype = x.dtype
        if case.stream:
            self.xs, self.variants = list(case.calls(x)), {"module": self.make_module_step}
        else:
            self.xs, self.variants = [x], {"module": lambda: self.forward}
        if case.T == 1 and case.layers == case.directions == 1 and case.precision == "float32":
            self.variants["cell"] = self.make_cell_step

    def library(self):
        """The module that has RNN, LSTM and GRU."""
        return self.torch.nn

    def prepare_feature(self, x):
        """Variants that return y, no states, and in training the gradients."""
        from fastrnn.bench.torch_features import WAYS, Given

        given = Given.of(self.layer, self.cell, self.case.H, self.extra)
        self.parameters |= given.norms
        x = given.extra.pop("x", x)
        differentiable = given.extra["embedding"] if self.case.feature == "ids" else x
        self.xs, seed = [x], self.torch.from_numpy(self.dy)
        if self.training:
            differentiable.requires_grad_()

        def make(way):
            def forward(x):
                with self.torch.inference_mode():
                    return way(given, x), ()

            def train(x):
                y = way(given, x)
                of = [differentiable, *self.parameters.values()]
                return y, (), self.torch.autograd.grad(y, of, seed)

            return train if self.training else forward

        ways = WAYS[self.case.feature]
        self.variants = {name: partial(make, way) for name, way in ways.items()}

    def quantized(self, layer):
        """The layer with weights in int8; rows are rounded in each call."""
        import warnings

        quantization = self.torch.ao.quantization
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that another package will replace it
            whole = self.torch.nn.Sequential(layer)  # it replaces layers inside a module alone
            return quantization.quantize_dynamic(whole, {type(layer)}, self.torch.qint8)[0]

    def forward(self, x):
        with self.torch.inference_mode():
            return self.layer(x)

    def train(self, x):
        y, state = self.layer(x)
        return y, state, self.torch.autograd.grad(y, [x, *self.parameters.values()], self.seed)

    def zero_state(self, shape):
        zeros = self.torch.zeros(shape, dtype=self.dtype)
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
        """nn.LSTMCell, nn.GRUCell or nn.RNNCell; outside streams, from zeros at each call."""
        torch = self.torch
        kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
        cell = kind[self.cell](self.case.I, self.case.H).requires_grad_(False)
        for name, value in cell.named_parameters():
            value.copy_(self.parameters[name + "_l0"])
        zeros, inference_mode = self.zero_state(self.state_shape()[1:]), torch.inference_mode
        lstm, carried, state = self.cell == "lstm", self.case.stream, zeros

        def step(x):
            nonlocal state
            with inference_mode():
                state = cell(x[0], state if carried else zeros)
            h = state[0] if lstm else state
            return h[None], state

        return step

    def collect(self, outputs):
        y, state, *grads = (outputs, None) if self.torch.is_tensor(outputs) else outputs
        state = [] if state is None else state
        state = [
            s.detach().float().numpy()
            for s in (state if isinstance(state, (list, tuple)) else (state,))
        ]
        state = [s.reshape(self.state_shape()) for s in state]
        arrays = {"y": y.detach().float().numpy(), **self.named_states(state)}
        for grad in grads:
            first = "d.embedding" if self.case.feature == "ids" else "dx"
            names = [first, *("d." + name for name in self.parameters)]
            arrays.update({n: g.numpy() for n, g in zip(names, grad, strict=True)})
        return arrays


class TorchModule(Torch):
    """fastrnn.torch: the kernels in PyTorch's modules."""

    name = "module"
    precisions = ("float32",)

    @classmethod
    def unsupported(cls, case, cell, mode):
        if case.group != "torch":
            return "only in the group torch"
        return super().unsupported(case, cell, mode)

    def library(self):
        import fastrnn.torch

        fastrnn.set_num_threads(self.threads)
        return fastrnn.torch

    def prepare_feature(self, x):
        options = {name: self.torch.from_numpy(value) for name, value in self.extra.items()}
        self.xs, seed = [x], self.torch.from_numpy(self.dy)
        if self.training:
            x.requires_grad_()

        def forward(x):
            with self.torch.inference_mode():
                return self.layer(x, **options)[0], ()

        def train(x):
            y, _ = self.layer(x, **options)
            return y, (), self.torch.autograd.grad(y, [x, *self.parameters.values()], seed)

        self.variants = {"module": lambda: train if self.training else forward}
