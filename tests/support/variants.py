"""Problems for the variants of cells, and the papers' equations one row at a time.

Of the package, `Paper` uses only the registry, for sizes and names.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fastrnn import reference
from fastrnn._cells import options
from fastrnn._cells.registry import CELLS, variant
from fastrnn._engine.dropout_masks import DropoutMasks
from fastrnn.reference import variants

BOTH = {"clip": 2.8, "recurrent_activation": "hard_sigmoid_onnx"}
LSTMS = {
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "clip": {"clip": 0.7},
    "cell clip": {"cell_clip": 0.5},
    "hard sigmoid": {"recurrent_activation": "hard_sigmoid"},
    "hard sigmoid of ONNX": {"recurrent_activation": "hard_sigmoid_onnx"},
    "zoneout": {"zoneout": (0.25, 0.5)},
    "layer norm": {"layer_norm": True},
    "coupled peephole": {"peephole": True, "coupled": True, "clip": 1.5},
    "peephole, cell clip": {"peephole": True, "cell_clip": 0.5},
    "layer norm, peephole": {"layer_norm": True, "peephole": True, "zoneout": 0.1},
    "all": BOTH | {"cell_clip": 0.5, "zoneout": 0.3, "peephole": True, "coupled": True,
                   "layer_norm": True},
}  # fmt: skip
GRUS = {
    "clip": {"clip": 0.7},
    "hard sigmoid": {"recurrent_activation": "hard_sigmoid"},
    "hard sigmoid of ONNX": {"recurrent_activation": "hard_sigmoid_onnx"},
    "zoneout": {"zoneout": 0.25},
    "all": BOTH | {"zoneout": 0.3},
}
NORMED = {"layer norm": {"layer_norm": True}, "all, layer norm": GRUS["all"] | {"layer_norm": True}}
RNNS = {"clip": {"clip": 0.7}, "all": {"clip": 0.9, "zoneout": 0.3}}
VARIANTS = {
    f"{cell}: {name}": (cell, given)
    for cell, table in {
        "lstm": LSTMS, "gru_after": GRUS | NORMED, "gru_before": GRUS, "rnn_tanh": RNNS,
        "rnn_relu": RNNS,
    }.items()
    for name, given in table.items()
}  # fmt: skip
RAGGED = {
    "lengths": np.array([2, 4, 3]),
    "mask": np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]], bool),
    "reset": np.eye(4, 3, -1, dtype=bool),
}  # of a batch of 3 rows and 4 steps
FAR = 2e-3  # the least distance from every kink, for finite differences


def variant_cell(cell, **given):
    """The registry's cell of a variant."""
    return variant(CELLS[cell], options.checked(CELLS[cell].states, **given))


@dataclass
class Problem:
    """A pass of a variant: name -> array for everything with a gradient; incoming gradients."""

    cell: object
    arrays: dict
    dy: np.ndarray
    dstate: tuple
    dropout_masks: DropoutMasks | None = None

    @property
    def names(self):
        """The names of the weights, in the order of the reference's arguments."""
        return ["w_ih", "w_hh", "b_ih", "b_hh", *(extra.kind for extra in self.cell.extras)]

    def arguments(self):
        state = tuple(self.arrays[s] for s in self.cell.states)
        cell = variants.reference_cell(self.cell, self.dropout_masks is not None)
        return cell, self.arrays["x"], state, *(self.arrays.get(name) for name in self.names)

    def infer(self, **rows):
        return reference.infer(*self.arguments(), dropout_masks=self.dropout_masks, **rows)

    def forward(self, **rows):
        return reference.forward(*self.arguments(), dropout_masks=self.dropout_masks, **rows)

    def gradients(self, **rows):
        """Gradients by the names of `arrays`."""
        dx, dstate, *dweights = reference.backward(self.forward(**rows)[2], self.dy, self.dstate)
        named = {"x": dx, **dict(zip(self.cell.states, dstate, strict=True))}
        named |= dict(zip(self.names, dweights, strict=True))
        return {name: d for name, d in named.items() if d is not None}

    def loss(self, **rows):
        y, last = self.infer(**rows)
        return np.vdot(y, self.dy) + sum(
            np.vdot(s, d) for s, d in zip(last, self.dstate, strict=True)
        )

    def astype(self, dtype):
        masks = self.dropout_masks
        if masks is not None:
            m = None if masks.recurrent is None else masks.recurrent.astype(dtype)
            masks = DropoutMasks(m, tuple(d.astype(dtype) for d in masks.zoneout))
        return replace(
            self, arrays={k: a.astype(dtype) for k, a in self.arrays.items()},
            dropout_masks=masks,
            dy=self.dy.astype(dtype), dstate=tuple(d.astype(dtype) for d in self.dstate),
        )  # fmt: skip


def drawn(cell, with_masks, bias, seed, sizes):
    """A problem without zeros, except in dropout masks."""
    rng, (t, b, i, h) = np.random.default_rng(seed), sizes

    def draw(*shape):
        return rng.uniform(0.1, 1.0, shape) * rng.choice([-1.0, 1.0], shape)

    g, states = cell.gates * h, cell.states
    arrays = {"x": 2 * draw(t, b, i), **{s: draw(b, h) for s in states}}
    arrays |= {"w_ih": draw(g, i), "w_hh": draw(g, h)}
    arrays |= {"b_ih": draw(g), "b_hh": draw(g)} if bias else {}
    arrays |= {
        e.kind: draw(e.units * h) for e in cell.extras if bias or not e.kind.startswith("bias")
    }
    masks = None
    if with_masks:
        m = (rng.random((b, h)) < 0.6) / 0.6
        masks = DropoutMasks(m, tuple((rng.random((t, b, h)) < 0.4).astype(float) for _ in states))
    return Problem(cell, arrays, draw(t, b, h), tuple(draw(b, h) for _ in states), masks)


@lru_cache
def problem(name, with_masks=False, bias=True, reverse=False, ragged=False):
    """The first problem with values on both sides of every kink, all at least `FAR` from it."""
    cell, given = VARIANTS[name]
    chosen, sizes = variant_cell(cell, **given), (4, 3, 2, 3) if ragged else (3, 2, 2, 3)
    for seed in range(10000):
        p = drawn(chosen, with_masks, bias, seed, sizes)
        paper = Paper(p)
        paper.run(reverse, **RAGGED if ragged else {})
        if paper.near > FAR and all(s == {True, False} for s in paper.sides.values()):
            return p
    raise AssertionError("every problem comes near a kink")


class Paper:
    """The equations of the papers in one row of the batch at a time.

    near : the smallest distance of a value to a kink. sides : name of a kink -> the sides on which
    there were values, a set of booleans.
    """

    def __init__(self, p):
        self.o = p.cell.options or options.Options()
        self.p, self.near, self.sides = p, np.inf, {}

    def run(self, reverse=False, lengths=None, mask=None, reset=None):
        """y and the final state."""
        p = self.p
        y, last = np.zeros_like(p.dy), [np.empty_like(d) for d in p.dstate]
        for row in range(y.shape[1]):
            state = [p.arrays[s][row] for s in p.cell.states]
            end = len(y) if lengths is None else lengths[row]
            for t in range(end)[:: -1 if reverse else 1]:
                if reset is not None and reset[t, row]:
                    state = [0 * s for s in state]
                if mask is None or mask[t, row]:
                    state = self.zoned(self.step(p.arrays["x"][t, row], state, row), state, t, row)
                y[t, row] = state[0]
            for whole, part in zip(last, state, strict=True):
                whole[row] = part
        return y, tuple(last)

    def zoned(self, after, before, t, row):
        rates = self.o.zoneout or (0.0,) * len(after)
        if self.p.dropout_masks is not None:
            rates = [d[t, row] for d in self.p.dropout_masks.zoneout]
        return [d * b + (1 - d) * a for d, a, b in zip(rates, after, before, strict=True)]

    def step(self, x, state, row):
        name, h = self.p.cell.name, state[0]
        m = 1.0 if self.p.dropout_masks is None else self.p.dropout_masks.recurrent[row]
        if name == "lstm":
            return self.lstm(x, m * h, state[1])
        if name.startswith("gru"):
            return [self.gru(x, m * h, h, name == "gru_after")]
        (p,) = self.product("ih", x) + self.product("hh", m * h)
        if name == "rnn_tanh":
            return [np.tanh(self.bounded("clip", p, self.o.clip))]
        self.kink("relu", p, np.abs(p))
        return [np.maximum(self.bounded("clip", p, self.o.clip), 0)]

    def lstm(self, x, v, c):
        p, gates = self.product("ih", x) + self.product("hh", v), self.p.cell.gates
        see = self.p.arrays.get("weight_peephole", np.zeros((gates - 1) * c.size))
        see = see.reshape(gates - 1, -1)
        i, g = self.gate(p[0] + see[0] * c), self.tanh(p[gates - 2])
        f = 1 - i if self.o.coupled else self.gate(p[1] + see[1] * c)
        c = self.bounded("cell_clip", f * c + i * g, self.o.cell_clip)
        o = self.gate(p[gates - 1] + see[-1] * c)
        shown = self.normal("c", c[None])[0] if self.o.layer_norm else c
        return [o * np.tanh(shown), c]

    def gru(self, x, v, h, after):
        a, k = self.product("ih", x), 2 * h.size
        if after:
            u = self.product("hh", v)
        else:
            w, b = self.p.arrays["w_hh"], self.p.arrays.get("b_hh", np.zeros(3 * h.size))
            u = (w[:k] @ v + b[:k]).reshape(2, -1)
        r, z = self.gate(a[0] + u[0]), self.gate(a[1] + u[1])
        n = self.tanh(a[2] + (r * u[2] if after else w[k:] @ (r * v) + b[k:]))
        return (1 - z) * n + z * h

    def product(self, side, v):
        """(gates, H): the product, normalised if the options say so, with the bias."""
        w = self.p.arrays[f"w_{side}"]
        q = (w @ v).reshape(self.p.cell.gates, -1)
        if self.o.layer_norm:
            return self.normal(side, q)
        return q + self.p.arrays.get(f"b_{side}", np.zeros(len(w))).reshape(q.shape)

    def normal(self, side, q):
        parts = [q[:2], q[2:]] if self.p.cell.name == "gru_after" and side != "c" else [q]
        normed = [(s - s.mean()) / np.sqrt(s.var() + 1e-5) for s in parts]
        gain = self.p.arrays[f"weight_ln_{side}"]
        shift = self.p.arrays.get("bias_ln_c" if side == "c" else f"b_{side}", 0 * gain)
        return np.concatenate(normed) * gain.reshape(q.shape) + shift.reshape(q.shape)

    def gate(self, p):
        p = self.bounded("clip", p, self.o.clip)
        if self.o.recurrent_activation == "sigmoid":
            return 1 / (1 + np.exp(-p))
        slope = {"hard_sigmoid": 1 / 6, "hard_sigmoid_onnx": 0.2}[self.o.recurrent_activation]
        self.kink("hard", np.abs(p) - 0.5 / slope, np.abs(np.abs(p) - 0.5 / slope))
        return np.minimum(np.maximum(slope * p + 0.5, 0), 1)

    def tanh(self, p):
        return np.tanh(self.bounded("clip", p, self.o.clip))

    def bounded(self, name, p, bound):
        if bound is None:
            return p
        self.kink(name, np.abs(p) - bound, np.abs(np.abs(p) - bound))
        return np.minimum(np.maximum(p, -bound), bound)

    def kink(self, name, signs, distances):
        self.near = min(self.near, distances.min())
        found = {bool(s) for s in np.ravel(signs > 0)}
        self.sides[name] = self.sides.get(name, set()) | found
