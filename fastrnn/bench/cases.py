"""The named benchmark cases, in groups: their shapes, their arrays, and their least times.

Layout: x and dy are (T, B, I) and (T, B, H * directions); weights carry PyTorch's names and
shapes, a row per gate unit. The arrays are drawn from a seed, so every process draws the same ones.

The groups:
    programs   shapes from real programs, inference and training
    serve      short requests: 1 to 8 steps of 1 to 32 rows
    precision  inference with weights (and rows) in bfloat16 or int8
    audio      one sample a step, 512 samples a call, the state carried from call to call
    features   ragged batches, resets, ids and layer normalisation, inference and training
    torch      programs, ragged batches and resets as PyTorch modules, inference and training

It must not know: peers, clocks.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from fastrnn._cells import registry

_CELLS = {"lstm": "lstm", "gru": "gru_after", "gru-before": "gru_before", "rnn": "rnn_tanh"}
GATES = {name: registry.CELLS[cell].gates for name, cell in _CELLS.items()}
CELLS = tuple(GATES)
MODES = ("forward", "training")
PRECISIONS = ("bfloat16-weights", "bfloat16", "int8")
FEATURES = ("lengths", "reset", "ids", "layer_norm")
VOCABULARY = 10_000  # of ids
STREAM_CHECK_CALLS = 5  # calls over which a stream is checked; it is timed on one


@dataclass(frozen=True)
class Case:
    name: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    layers: int = 1
    directions: int = 1
    stream: bool = False  # each call takes T steps and carries the state to the next call
    group: str = "programs"
    cells: tuple[str, ...] = CELLS
    precision: str = "float32"
    feature: str = ""  # what of FEATURES the case has

    @property
    def modes(self) -> tuple[str, ...]:
        trained = self.group in ("programs", "features", "torch") and not self.stream
        return MODES if trained else ("forward",)

    @property
    def has_limit(self) -> bool:
        """Whether `limit` knows what the case needs: not what its feature saves or adds."""
        return self.precision == "float32" and not self.feature

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
        rng = self.generator(cell)
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
        steps = self.T * (STREAM_CHECK_CALLS if self.stream else 1)
        x = rng.standard_normal((steps, self.B, self.I)).astype(np.float32)
        dy = rng.standard_normal((steps, self.B, self.H * self.directions)).astype(np.float32)
        return weights, x, dy

    def flops(self, cell: str, mode: str) -> float:
        """The multiplications and additions of the matrix products, without activations."""
        per_input = 2 * self.T * self.B * GATES[cell] * self.H
        total = sum(per_input * (inputs + self.H) for inputs in self.layer_inputs())
        return self.directions * total * (3 if mode == "training" else 1)

    def generator(self, what: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.name}/{what}".encode()))

    def extra_arrays(self, cell: str) -> dict[str, np.ndarray]:
        """What the case's feature adds: `lengths` (B,), `reset` (T, B), ids `x` (T, B) and their
        `embedding`, or the gains and the shift of layer normalisation under the layer's names."""
        rng = self.generator(f"{cell}/{self.feature}")
        if self.feature == "lengths":
            return {"lengths": rng.integers(1, self.T + 1, self.B)}
        if self.feature == "reset":
            return {"reset": rng.random((self.T, self.B)) < 0.01}
        if self.feature == "ids":
            table = rng.standard_normal((VOCABULARY, self.I)).astype(np.float32)
            return {"x": rng.integers(0, VOCABULARY, (self.T, self.B)), "embedding": table}
        if self.feature == "layer_norm":
            sizes = {"weight_ln_ih_l0": GATES[cell], "weight_ln_hh_l0": GATES[cell]}
            sizes |= {"weight_ln_c_l0": 1, "bias_ln_c_l0": 1} if cell == "lstm" else {}
            return {n: rng.uniform(0.5, 1, k * self.H).astype("f4") for n, k in sizes.items()}
        return {}

    def calls(self, x: np.ndarray) -> np.ndarray:
        """x, (calls * T, B, I), by the calls of a stream: (calls, T, B, I)."""
        return x.reshape(-1, self.T, self.B, self.I)

    def limit(self, machine, cell: str, mode: str, threads: int) -> float:
        """The least seconds of `threads` cores of `machine` in float32: at their FMA peak, or at
        the rate at which they can read the weights from the cache that has them.

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

    def tolerance(self, mode: str, same_rounding: bool = True) -> float:
        """The largest allowed error, relative to the largest value of an array.

        Rounding errors of a product over K terms grow like eps * sqrt(K). The recurrence makes them
        grow slowly, since |h| <= 1. A gradient is a sum of T * B of them. The errors of bfloat16
        would be 100 times too large.

        At a narrow precision every framework rounds in a way of its own (not `same_rounding`). Two
        programs that round alike may still differ, by a rounding of h, where their values of h
        differ in the last bit before it is rounded.
        """
        if self.precision != "float32" and not same_rounding:
            return {"int8": 0.1}.get(self.precision, 0.05)
        if self.precision in ("bfloat16", "int8"):
            return {"int8": 0.01}.get(self.precision, 0.004)
        terms = max(self.layer_inputs()) + self.H
        if mode == "training":
            terms += self.T * self.B
        return 16 * self.layers * math.sqrt(terms) * float(np.finfo(np.float32).eps)


def suffixes(layer: int, directions: int) -> list[str]:
    return [f"_l{layer}", f"_l{layer}_reverse"][:directions]


# fmt: off
_PROGRAMS = [
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
_GATED = ("lstm", "gru")
_SERVE = [
    Case(f"serve-{T}x{B}-{H}", T, B, H, H, group="serve", cells=_GATED)
    for H, B, T in product((64, 128, 256, 512), (1, 8, 32), (1, 2, 4, 8))
]
# fmt: off
_NARROW = [
    # name                T    B     I     H
    Case("step-256",      1,   1,  256,  256, stream=True),
    Case("step-512",      1,   1,  512,  512, stream=True),
    Case("short-512",     2,   1,  512,  512),
    Case("pair-512",      1,   2,  512,  512),
    Case("vad-256",      32,   1,  128,  256),
    Case("seq-512",     100,   1,  512,  512),
    Case("few-512",       8,   8,  512,  512),
    Case("rl-batch",     64,  16,   64,  128),
    Case("imdb",        200,  32,  128,  128),
    Case("charlm",      100,  50,   65,  256),
    Case("deepbench",    25,  64,  512,  512),
]
# fmt: on
_PRECISION = [
    replace(case, name=f"{case.name}:{name}", group="precision", cells=_GATED, precision=name)
    for name, case in product(PRECISIONS, _NARROW)
]
_AUDIO = [
    Case(f"audio-{H}", 512, 1, 1, H, stream=True, group="audio", cells=(*_GATED, "rnn"))
    for H in (8, 16, 20, 32, 40, 64)
]
_FEATURES = [
    Case(f"{feature}-{name}", *sizes, group="features", cells=_GATED, feature=feature)
    for feature, name, *sizes in (
        ("lengths", "imdb", 200, 32, 128, 128),
        ("lengths", "batch-8", 100, 8, 64, 128),
        ("reset", "rl-batch", 64, 16, 64, 128),
        ("reset", "rl-long", 256, 8, 64, 64),
        ("ids", "wordlm", 35, 20, 200, 200),
        ("layer_norm", "imdb", 100, 32, 128, 128),
    )
]
_TORCH = [
    replace(
        case, name=f"{case.name}:torch", group="torch",
        cells=_GATED if case.feature else (*_GATED, "rnn"),
    )
    for case in (*_PROGRAMS, *_FEATURES)
    if not case.stream and case.feature in ("", "lengths", "reset")
]  # fmt: skip
_ALL = (*_PROGRAMS, *_SERVE, *_PRECISION, *_AUDIO, *_FEATURES, *_TORCH)
CASES = {case.name: case for case in _ALL}
GROUPS = tuple(dict.fromkeys(case.group for case in CASES.values()))
_QUICK = {
    "programs": ("step-64", "vad-128", "forecast", "rl-batch", "tagger-bi"),
    "serve": tuple(f"serve-{T}x{B}-128" for B, T in product((1, 8), (1, 4))),
    "precision": tuple(f"{name}:{p}" for p in PRECISIONS for name in ("step-256", "few-512")),
    "audio": ("audio-8", "audio-40"),
    "features": ("lengths-batch-8", "reset-rl-batch", "ids-wordlm", "layer_norm-imdb"),
    "torch": ("vad-128:torch", "rl-batch:torch", "lengths-batch-8:torch", "reset-rl-batch:torch"),
}


def named(groups: list[str], quick: bool = False) -> list[str]:
    """The names of the cases of some groups; `quick`: of a few of each."""
    return [
        case.name
        for case in CASES.values()
        if case.group in groups and (not quick or case.name in _QUICK[case.group])
    ]
