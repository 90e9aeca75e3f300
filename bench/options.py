"""The cost of a call's options: the time with an option over the time without it.

    python bench/options.py [--threads 1] [--rounds 7] [--only lengths]

A round times the two calls one after the other. The result is the median of the rounds' ratios, so
other processes on the machine do little harm. The last column is the package's promise; "!" marks a
ratio that breaks it.
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np

import fastrnn
from fastrnn._engine import runtime


@dataclass
class Case:
    """An option, the calls without and with it, and the largest ratio promised.

    share : the fraction of the plain call's work that the call with the option has to do.
    """

    name: str
    shape: str
    plain: object
    option: object
    promised: float
    share: float = 1.0


SHAPES = {  # T, B, I, H
    "rl-batch": (64, 16, 64, 128),
    "weather": (120, 256, 7, 32),
    "tagger": (40, 32, 100, 128),
    "imdb": (200, 32, 128, 128),
}
MODES = ("forward", "training")


def call(layer, mode, x, **options):
    """A function without arguments that runs the layer in that mode."""
    if mode == "forward":
        return lambda: layer(x, **options)
    y, _ = layer(x, **options)
    dy = np.ones_like(y)

    def train():
        layer.forward(x, **options)[2].backward(dy)

    return train


def ragged_cases():
    """Lengths, masks and resets on some shapes, for both modes."""
    for name, (steps, batch, inputs, hidden) in SHAPES.items():
        rng = np.random.default_rng(0)
        x = rng.standard_normal((steps, batch, inputs)).astype("float32")
        short = rng.integers(0, steps // 2 + 1, batch)
        long = rng.integers(steps // 2, steps + 1, batch)
        options = {
            "lengths, mean T/4": ({"lengths": short}, 0.4, 1.0),
            "lengths, mean 3T/4, per step": ({"lengths": long}, 1.1, long.sum() / steps / batch),
            "mask, one step in ten": ({"mask": rng.random((steps, batch)) < 0.9}, 1.1, 1.0),
            "reset, one step in fifty": ({"reset": rng.random((steps, batch)) < 0.02}, 1.1, 1.0),
        }
        for kind in ("LSTM", "GRU"):
            layer = getattr(fastrnn, kind)(inputs, hidden, rng=0)
            for mode in MODES:
                plain = call(layer, mode, x)
                for option, (given, promised, share) in options.items():
                    shape = f"{name} {kind} {mode}"
                    yield Case(option, shape, plain, call(layer, mode, x, **given), promised, share)


def token_cases():
    """Ids beside the one-hot vectors and the rows of an embedding that they stand for."""
    steps, batch, hidden, vocabulary = 35, 20, 128, 10_000
    rng = np.random.default_rng(0)
    ids = rng.integers(0, vocabulary, (steps, batch))
    hot = np.zeros((steps, batch, vocabulary), "float32")
    np.put_along_axis(hot, ids[..., None], 1, axis=2)
    for kind in ("LSTM", "GRU"):
        layer = getattr(fastrnn, kind)(vocabulary, hidden, rng=0)
        for mode in MODES:
            plain, option = call(layer, mode, hot), call(layer, mode, ids, one_hot=True)
            yield Case("ids, vocabulary 10,000", f"one-hot {kind} {mode}", plain, option, 0.2)
    for words in (100, 10_000):
        embedding = rng.standard_normal((words, hidden)).astype("float32")
        ids = rng.integers(0, words, (100, 50))
        layer = fastrnn.LSTM(hidden, hidden, rng=0)
        for mode in MODES:
            plain = call(layer, mode, embedding[ids])
            option = call(layer, mode, ids, embedding=embedding)
            yield Case(f"ids, {words} words", f"embedding LSTM {mode}", plain, option, 1.1)


def checkpoint_cases():
    """A thousand steps, with a checkpoint every 25 steps."""
    for batch, inputs, hidden in ((1, 64, 128), (16, 64, 128), (32, 128, 256)):
        x = np.random.default_rng(0).standard_normal((1000, batch, inputs)).astype("float32")
        for kind in ("LSTM", "GRU"):
            layer = getattr(fastrnn, kind)(inputs, hidden, rng=0)
            plain, dy = call(layer, "training", x), np.ones((1000, batch, hidden), "float32")

            def option(layer=layer, x=x, dy=dy):
                layer.forward(x, checkpoint=25)[2].backward(dy)

            weights = layer._kernel_weights[0]
            sizes = [runtime.core.tape_size(weights, 1000, batch, n) for n in (0, 25)]
            shape = f"({batch}, {inputs}, {hidden}) {kind}, tape {sizes[1] / sizes[0]:.1%}"
            yield Case("checkpoint, T = 1000", shape, plain, option, 1.4)


def layer_cases():
    """The options of a layer that cost time."""
    steps, batch, inputs, hidden = SHAPES["imdb"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, batch, inputs)).astype("float32")
    mask = rng.random((steps, batch)) < 0.9

    def layer(**options):
        return fastrnn.LSTM(inputs, hidden, rng=0, **options)

    for mode in MODES:
        plain = call(layer(num_layers=2), mode, x)
        option = call(layer(num_layers=2, dropout=0.5), mode, x)
        yield Case("dropout", f"imdb LSTM {mode}", plain, option, 1.1)
        plain = call(layer(), mode, x)
        option = call(layer(batch_first=True), mode, np.ascontiguousarray(x.swapaxes(0, 1)))
        yield Case("batch_first", f"imdb LSTM {mode}", plain, option, 1.1)
        plain = call(layer(bidirectional=True), mode, x)
        for merge in ("sum", "mul"):
            option = call(layer(bidirectional=True, merge=merge), mode, x)
            yield Case(f"merge {merge}", f"imdb LSTM {mode}", plain, option, 1.1)
        plain = call(layer(), mode, x, mask=mask)
        option = call(layer(), mode, x, mask=mask, zero_output_for_mask=True)
        yield Case("zero_output_for_mask", f"imdb LSTM {mode}", plain, option, 1.1)
    plain_layer = layer()
    yield Case("return_gates", "imdb LSTM forward", call(plain_layer, "forward", x),
               call(plain_layer, "forward", x, return_gates=True), float("inf"))  # fmt: skip


def direction_cases():
    """Two directions on two threads beside the same on one."""

    def on(threads, function):
        def run():
            with fastrnn.threads(threads):
                function()

        return run

    for name, (steps, batch, inputs, hidden) in SHAPES.items():
        x = np.random.default_rng(0).standard_normal((steps, batch, inputs)).astype("float32")
        for kind in ("LSTM", "GRU"):
            layer = getattr(fastrnn, kind)(inputs, hidden, bidirectional=True, rng=0)
            for mode in MODES:
                function, shape = call(layer, mode, x), f"{name} {kind} {mode}"
                yield Case("two threads, directions", shape, on(1, function), on(2, function),
                           1 / 1.8)  # fmt: skip


VARIANTS = {
    "clip": {"clip": 3.0},
    "hard sigmoid": {"recurrent_activation": "hard_sigmoid"},
    "recurrent dropout": {"recurrent_dropout": 0.2},
    "zoneout": {"zoneout": 0.1},
    "layer norm": {"layer_norm": True},
}
LSTM_VARIANTS = {
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "cell clip": {"cell_clip": 3.0},
}


def variant_cases():
    """Each variant beside the plain cell."""
    for name, (steps, batch, inputs, hidden) in SHAPES.items():
        x = np.random.default_rng(0).standard_normal((steps, batch, inputs)).astype("float32")
        for kind in ("LSTM", "GRU"):
            make = getattr(fastrnn, kind)
            variants = VARIANTS | (LSTM_VARIANTS if kind == "LSTM" else {})
            for mode in MODES:
                plain = call(make(inputs, hidden, rng=0), mode, x)
                for variant, given in variants.items():
                    option = call(make(inputs, hidden, rng=0, **given), mode, x)
                    yield Case(f"variant: {variant}", f"{name} {kind} {mode}", plain, option, 1.1)


def seconds(function, least=0.02):
    """Seconds of one call: the mean of as many calls as take `least` seconds."""
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < least or count == 0:
        function()
        count += 1
    return passed / count


def ratio(case, rounds):
    """Time with the option over time without, for the same work."""
    case.plain(), case.option()
    pairs = [(seconds(case.plain), seconds(case.option)) for _ in range(rounds)]
    return statistics.median(option / plain for plain, option in pairs) / case.share


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose line has this")
    args = parser.parse_args()
    fastrnn.set_num_threads(args.threads)
    print(f"{'option':<30} {'case':<36} {'ratio':>6} {'promised':>9}")
    missed = 0
    families = (
        ragged_cases, token_cases, checkpoint_cases, layer_cases, direction_cases, variant_cases
    )  # fmt: skip
    for cases in families:
        for case in cases():
            if args.only not in f"{case.name} {case.shape}":
                continue
            measured = ratio(case, args.rounds)
            missed += measured > case.promised
            mark = "!" if measured > case.promised else ""
            print(f"{case.name:<30} {case.shape:<36} {measured:6.2f} {case.promised:9.2f} {mark}")
    return missed > 0


if __name__ == "__main__":
    raise SystemExit(main())
