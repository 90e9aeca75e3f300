"""The table of all peers, and JAX; see peer.py.

A framework is imported when its peer is made, in a process of its own. The parent never loads one.
"""

from __future__ import annotations

from functools import partial

from fastrnn.bench.litert import LiteRT
from fastrnn.bench.onnx_peers import ONNXRuntime, OpenVINO
from fastrnn.bench.own_peers import FastRNN, FastRNNCall, FastRNNFloat32, NumPy
from fastrnn.bench.peer import Peer
from fastrnn.bench.torch_peer import Torch, TorchModule


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
        self.xs = list(self.case.calls(x)) if self.case.stream else [x]
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


PEERS = {
    peer.name: peer
    for peer in (
        FastRNN,
        FastRNNCall,
        FastRNNFloat32,
        NumPy,
        Torch,
        TorchModule,
        ONNXRuntime,
        OpenVINO,
        LiteRT,
        JAX,
    )
}
