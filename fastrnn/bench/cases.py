"""The named benchmark cases: shapes from real programs, their arrays, and their least times.

Layout: x and dy are (T, B, I) and (T, B, H * directions); weights carry PyTorch's names and
shapes, a row per gate unit. The arrays are drawn from a seed, so every process draws the same ones.

It must not know: peers, clocks.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from fastrnn._cells import registry

_CELLS = {"lstm": "lstm", "gru": "gru_after", "gru-before": "gru_before", "rnn": "rnn_tanh"}
GATES = {name: registry.CELLS[cell].gates for name, cell in _CELLS.items()}
CELLS = tuple(GATES)
MODES = ("forward", "training")
STREAM_CHECK_STEPS = 5  # steps over which a stream is checked; it is timed on one


@dataclass(frozen=True)
class Case:
    name: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    layers: int = 1
    directions: int = 1
    stream: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        return ("forward",) if self.stream else MODES

    def sizes(self) -> str:
        """(T, B, I, H), and the numbers of layers and directions if there are more than one."""
        words = [str(n) for n in (self.T, self.B, self.I, self.H)]
        words += [f"{self.layers} layers"] * (self.layers > 1)
        words += ["bidirectional"] * (self.directions > 1)
        return f"({', '.join(words)})"

    def layer_inputs(self) -> list[int]:
        """The input size of each layer."""
        return [self.I] + [self.H * self.directions] * (self.layers - 1)

    def arrays(self, cell: str) -> tuple[dict, np.ndarray, np.ndarray]:
        """Weights, x and dy; every process draws the same ones."""
        rng = np.random.default_rng(zlib.crc32(f"{self.name}/{cell}".encode()))
        rows, scale, weights = GATES[cell] * self.H, 1 / math.sqrt(self.H), {}
        for layer, inputs in enumerate(self.layer_inputs()):
            for suffix in suffixes(layer, self.directions):
                for name, shape in (
                    ("weight_ih", (rows, inputs)),
                    ("weight_hh", (rows, self.H)),
                    ("bias_ih", (rows,)),
                    ("bias_hh", (rows,)),
                ):
                    draw = rng.uniform(-scale, scale, shape)
                    weights[name + suffix] = draw.astype(np.float32)
        steps = STREAM_CHECK_STEPS if self.stream else self.T
        x = rng.standard_normal((steps, self.B, self.I)).astype(np.float32)
        dy = rng.standard_normal((steps, self.B, self.H * self.directions)).astype(np.float32)
        return weights, x, dy

    def flops(self, cell: str, mode: str) -> float:
        """The multiplications and additions of the matrix products, without activations."""
        per_input = 2 * self.T * self.B * GATES[cell] * self.H
        total = sum(per_input * (inputs + self.H) for inputs in self.layer_inputs())
        return self.directions * total * (3 if mode == "training" else 1)

    def limit(self, machine, cell: str, mode: str, threads: int) -> float:
        """The least seconds of `threads` cores of `machine`: at their FMA peak, or at the rate at
        which they can read the weights from the cache that has them.

        In training the recurrent product counts twice, also for dh; dx and dW count at peak.
        Activations, packing and the call itself are left out: a good kernel makes them small.
        """
        peak = threads * machine.peak

        def product(rows: int, columns: int, batch: int) -> float:
            nbytes = 4 * rows * columns
            reading = nbytes / (threads * machine.bandwidth(nbytes / threads))
            return max(2 * rows * columns * batch / peak, reading)

        rows, total = GATES[cell] * self.H, 0.0
        for inputs in self.layer_inputs():
            step = product(rows, self.H, self.B)
            total += product(rows, inputs, self.T * self.B) + self.T * step
            if mode == "training":
                dx = 2 * self.T * self.B * rows * inputs
                dw = 2 * self.T * self.B * rows * (inputs + self.H)
                total += self.T * step + (dx + dw) / peak
        return self.directions * total

    def tolerance(self, mode: str) -> float:
        """The largest allowed error, relative to the largest value of an array.

        Rounding errors of a product over K terms grow like eps * sqrt(K). The recurrence makes them
        grow slowly, since |h| <= 1. A gradient is a sum of T * B of them. The errors of bfloat16
        would be 100 times too large.
        """
        terms = max(self.layer_inputs()) + self.H
        if mode == "training":
            terms += self.T * self.B
        return 16 * self.layers * math.sqrt(terms) * float(np.finfo(np.float32).eps)


def suffixes(layer: int, directions: int) -> list[str]:
    return [f"_l{layer}", f"_l{layer}_reverse"][:directions]


# fmt: off
_TABLE = [
    # name                T    B     I     H
    Case("step-64",       1,   1,   64,   64, stream=True),
    Case("step-256",      1,   1,  256,  256, stream=True),
    Case("vad-128",      32,   1,  128,  128),
    Case("seq-128",     500,   1,   40,  128),
    Case("seq-512",     100,   1,  512,  512),
    Case("seq-1024",     50,   1, 1024, 1024),
    Case("forecast",     48,  32,    1,   64),
    Case("weather",     120, 256,    7,   32),
    Case("rl-batch",     64,  16,   64,  128),
    Case("charlm",      100,  50,   65,  256),
    Case("wordlm",       35,  20,  200,  200, layers=2),
    Case("imdb",        200,  32,  128,  128),
    Case("imdb-bi2",    200,  32,  128,   64, layers=2, directions=2),
    Case("tagger-bi",    40,  32,  100,  128, directions=2),
    Case("ge2e-3l",     160,   8,   40,  256, layers=3),
    Case("deepbench",    25,  64,  512,  512),
    Case("deepbench-1k", 25,  32, 1024, 1024),
    Case("ds2",          50,  32, 1760, 1760),
]
# fmt: on
CASES = {case.name: case for case in _TABLE}
QUICK = ("step-64", "vad-128", "forecast", "rl-batch", "tagger-bi")
