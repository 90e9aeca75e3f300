"""Cases: a layer, a batch for it, the machine's settings, and the relations to check.

The seed and the number of a case determine all of it, so that one case can be run alone.

It must not know: what is computed with it.
"""

from dataclasses import dataclass

import numpy as np
from problems import BOUNDED, ISAS, layer_of

from fastrnn._cells.registry import CELLS, takes

from . import batches, sizes


@dataclass
class Case:
    """One random case.

    settings : backend, instruction set, threads and checkpoint of the first computation.
    relations : the names of the relations to check, in order.
    """

    seed: int
    number: int
    cell: str
    net: dict
    profile: str
    sizes: tuple
    layer: object
    batch: object
    settings: dict
    relations: list

    def rng(self, *purpose):
        """A generator of its own for each purpose, a few integers."""
        return np.random.default_rng((self.seed, self.number, *purpose))

    @property
    def options(self):
        return self.layer.options

    @property
    def one_way(self):
        return not (self.layer.bidirectional or self.layer.reverse)

    @property
    def draws(self):
        """Whether a training pass draws random numbers."""
        return bool(self.layer.dropout or self.layer.recurrent_dropout or self.options.zoneout)

    @property
    def kinked(self):
        """Whether rounding can decide a slope."""
        o = self.options
        bounded = o.clip is not None or o.cell_clip is not None
        return bounded or self.cell == "rnn_relu" or o.recurrent_activation != "sigmoid"

    def remade(self, **changed):
        """The layer with some arguments changed: ones that affect neither parameters nor draws."""
        (_, _, i, h), layer = self.sizes, self.layer
        other = layer_of(self.cell, i, h, **self.net | changed)
        other.load(layer.params)
        other._rng.bit_generator.state = layer._rng.bit_generator.state
        return other

    def __str__(self):
        t, b, i, h = self.sizes
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return (
            f"{self.layer!r}\n  {self.profile}: T={t} B={b} I={i} H={h}; {settings}\n"
            f"  {self.batch}\n  against: {', '.join(self.relations)}"
        )


def drawn(seed, number, relations):
    """The case of that number.

    relations : name -> (whether it has a meaning for a case, its weight).
    """
    rng = np.random.default_rng((seed, number))
    cell = str(rng.choice(list(CELLS)))
    net = _net(rng, cell)
    layers, directions = net["num_layers"], 1 + net["bidirectional"]
    profile, (t, b, i, h) = sizes.drawn(rng, CELLS[cell].gates, directions, layers)
    if takes(CELLS[cell], "proj_size") and h > 1 and rng.random() < 0.15:
        net |= {"proj_size": int(rng.integers(1, h)), "zoneout": 0.0}
    layer = layer_of(cell, i, h, rng=rng, **net)
    _stir(rng, cell, layer)
    settings = {
        "backend": "core" if ISAS and rng.random() < 0.92 else "reference",
        "isa": str(rng.choice(ISAS)) if ISAS else None,
        "threads": int(rng.choice((1, 2, 3, 8))),
        "checkpoint": int(rng.choice((1, 2, 5, 100))) if rng.random() < 0.15 else None,
    }
    batch = batches.drawn(rng, layer, t, b)
    case = Case(seed, number, cell, net, profile, (t, b, i, h), layer, batch, settings, [])
    case.relations = _some(rng, {n: w for n, (has_meaning, w) in relations.items() if
                                 has_meaning(case)})  # fmt: skip
    return case


def _some(rng, weights):
    """Two or three of the names."""
    names, p = list(weights), np.array(list(weights.values()), float)
    count = min(len(names), int(rng.integers(2, 4)))
    return [names[k] for k in rng.choice(len(names), count, replace=False, p=p / p.sum())]


def _net(rng, cell):
    """The arguments of a layer but its sizes."""
    bidirectional = bool(rng.random() < 0.35)
    merges = ("concat", "concat", "sum", "mean", "mul", None) if bidirectional else ("concat",)
    layers = int(rng.choice((1, 1, 1, 2, 2, 3)))
    net = {
        "num_layers": layers,
        "bidirectional": bidirectional,
        "reverse": bool(not bidirectional and rng.random() < 0.2),
        "merge": merges[rng.integers(len(merges))],
        "bias": bool(rng.random() < 0.85),
        "batch_first": bool(rng.random() < 0.3),
        "dropout": float(rng.choice((0, 0, 0, 0.3, 1))) if layers > 1 else 0.0,
        "dropout_mask": str(rng.choice(("step", "sequence"))),
        "dtype": str(rng.choice(("float32", "float64"))),
    }
    return net | (_variant_options(rng, cell) if rng.random() < 0.5 else {})


def _variant_options(rng, cell):
    """Random options of a variant."""
    # There is no bound of 1: a tanh may round to 1, and then rounding decides a slope.
    bounds, rates = (None, None, 0.2, 0.9, 50.0), (0.0, 0.0, 0.0, 0.3, 1.0)
    rate = float(rng.choice(rates))
    activations = ("sigmoid", "sigmoid", "hard_sigmoid", "hard_sigmoid_onnx")
    given = {
        "clip": bounds[rng.integers(5)],
        "recurrent_dropout": float(rng.choice(rates)),
        "zoneout": (rate, 0.2) if len(CELLS[cell].states) > 1 and rng.random() < 0.2 else rate,
        "recurrent_activation": activations[rng.integers(4)],
        **{name: bool(rng.random() < 0.4) for name in ("layer_norm", "peephole", "coupled")},
        "cell_clip": bounds[rng.integers(5)],
    }
    given = {name: value for name, value in given.items() if takes(CELLS[cell], name)}
    if given.get("layer_norm") and given.get("cell_clip") not in (None, 50.0):
        # If all c of a row are at their bound, normalisation gives the rounding error of their
        # mean, and from there the state may grow a thousandfold in a step.
        given["cell_clip"] = None
    return given


def _stir(rng, cell, layer):
    """Change parameters that begin as 1 or 0, and let gates saturate in some layers."""
    for name, values in layer.params.items():
        if "_ln_" in name or "peephole" in name:
            values += rng.uniform(-0.5, 0.5, values.shape).astype(layer.dtype)
    if rng.random() < 0.1 and cell in BOUNDED:
        layer.flat *= 4
