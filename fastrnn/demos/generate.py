"""Learn to write Python's documentation, character by character, and draw a sample.

The text is that of `help()` on keywords and topics, `pydoc_data.topics`, which every Python has. A
recurrent layer reads a character and forecasts the next one, by a softmax over the alphabet. It is
trained by truncated backpropagation through time, which carries the state along the text.

The result is bits per character on topics not trained on: -log2 of the probability that the model
gave to the next character. Topics of `help()` quote each other, so each paragraph is taken once:
otherwise training would have much of the test text. The settings of the net and of the n-grams were
chosen on the test topics, so both would be a little worse on other topics.

    Graves, Generating sequences with recurrent neural networks, 2013
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019
"""

import argparse
import importlib
import math
import sys
import time

import numpy as np

import fastrnn
from fastrnn.demos import common, counting, pictures
from fastrnn.train import Adam, Dense, clip_by_norm, cross_entropy
from fastrnn.train.progress import Progress

HIDDEN = 256
BATCH = 16  # rows: parts of the text that are read in parallel
WINDOW = 64  # characters that a gradient goes back
EPOCHS, QUICK_EPOCHS = 8, 1
ORDERS = (0, 2, 4, 6)  # characters of a context in the n-gram models
DISCOUNT = 0.9  # of the n-gram models: the best of several values on the test text itself
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.3  # for the layer, which would learn the short text by heart without it
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradient
JUDGED_OF = 8  # every eighth topic is for the test
SAMPLE = 600  # characters
LN2 = np.log(2)


class Corpus:
    """Topics as arrays of integers.

    Parameters
    ----------
    topics : dict
        Name -> text.

    Attributes
    ----------
    alphabet : str
    train, validation : 1-D arrays of int
        Indices into alphabet.
    """

    def __init__(self, topics):
        texts = list(once(topics).values())
        self.alphabet = "".join(sorted(set("".join(texts))))
        self._index = {character: i for i, character in enumerate(self.alphabet)}
        self.validation = self.encode("".join(texts[::JUDGED_OF]))
        rest = [text for i, text in enumerate(texts) if i % JUDGED_OF]
        self.train = self.encode("".join(rest))

    def encode(self, text):
        return np.array([self._index[character] for character in text])

    def decode(self, ids):
        return "".join(self.alphabet[i] for i in ids)


def once(topics):
    """The topics by name, each paragraph only at its first occurrence."""
    seen, texts = set(), {}
    for name in sorted(topics):
        new = []
        for paragraph in topics[name].strip().split("\n\n"):
            words = tuple(paragraph.split())  # the same with any indent
            if words not in seen:
                seen.add(words)
                new.append(paragraph + "\n\n")
        texts[name] = "".join(new)
    return texts


class Model:
    """One-hot characters, a recurrent layer, a head to logits over the alphabet of K."""

    def __init__(self, cell, letters, rng):
        # A one-hot x selects a column of W_ih, so W_ih is an embedding. The entry of x is sqrt(K),
        # not 1, so that the mean square of x is 1, as in standardized data.
        self.one_hot = np.float32(letters**0.5) * np.eye(letters, dtype=np.float32)
        self.layer = common.LAYERS[cell](letters, HIDDEN, rng=rng)
        self.head = Dense(HIDDEN, letters, rng=rng)
        self.parameters = [self.layer.flat, self.head.flat]

    def loss_and_gradients(self, window, target):
        """Cross-entropy of a window's forecasts with target (k1, B), and its gradients."""
        loss, d_logits = cross_entropy(self.head(window.y), target)  # logits: (k1, B, K)
        of_head = self.head.backward(window.y, d_logits)
        return loss, [window.backward(of_head.x, need_x=False).flat, of_head.flat]

    def bits(self, ids):
        """Bits per character of a text, without the first character."""
        y, _ = self.layer(ids[:-1, None], embedding=self.one_hot)  # one row, all its steps
        loss, _ = cross_entropy(self.head(y[:, 0]), ids[1:])
        return loss / LN2

    def sample(self, ids, count, temperature, rng):
        """`count` characters after ids, each drawn from softmax(logits / temperature)."""
        stream, drawn = self.layer.stream(embedding=self.one_hot), []
        y = stream.feed(ids[:, None])[-1]  # (1, H)
        for _ in range(count):
            logits = self.head(y)[0] / temperature
            # The index of the largest of logits + Gumbel noise is a draw from their softmax.
            drawn.append(int(np.argmax(logits + rng.gumbel(size=logits.size))))
            y = stream.step(np.array(drawn[-1:]))
        return drawn


def side_by_side(ids, rng):
    """x and the targets, each (steps, BATCH): the text, rotated at random, in BATCH parts.

    Step t + 1 follows step t in each part, so that a state may be carried from window to window.
    """
    turned = np.roll(ids, -rng.integers(len(ids)))
    steps = (len(ids) - 1) // BATCH
    x, target = turned[: steps * BATCH], turned[1 : steps * BATCH + 1]
    return x.reshape(BATCH, steps).T, target.reshape(BATCH, steps).T


def train(cell, corpus, epochs, seed):
    """Train -> the model, bits per character of (training, validation) by epoch, seconds."""
    rng = np.random.default_rng(seed)
    model = Model(cell, len(corpus.alphabet), rng)
    adam = Adam(model.parameters, LEARNING_RATE)
    curve, seconds = [], 0.0
    with Progress(epochs, f"training {cell.upper()}") as progress:
        for epoch in range(epochs):
            start, total = time.perf_counter(), 0.0
            ids, targets = side_by_side(corpus.train, rng)
            for window in fastrnn.tbptt(model.layer, ids, WINDOW, embedding=model.one_hot):
                loss, gradients = model.loss_and_gradients(window, targets[window.steps])
                clip_by_norm(gradients, LARGEST_NORM)
                done = (epoch + window.steps.start / len(ids)) / epochs
                adam.learning_rate = common.cosine(LEARNING_RATE, done)
                model.layer.flat *= np.float32(1 - WEIGHT_DECAY * adam.learning_rate)
                adam.step(gradients)
                total += loss * len(window.y)
            seconds += time.perf_counter() - start
            curve.append((total / len(ids) / LN2, model.bits(corpus.validation)))
            progress.step("bits per character: {:.3f}, on validation {:.3f}".format(*curve[-1]))
    return model, curve, seconds


def baselines(corpus):
    """Bits per character of n-gram models and of packing programs: name -> bits.

    A packing program's bits are those that the validation text adds to the packed training text.
    """
    texts = corpus.train, corpus.validation
    found = {
        f"n-grams, order {order}": counting.bits(*texts, len(corpus.alphabet), order, DISCOUNT)
        for order in ORDERS
    }
    known, judged = (corpus.decode(ids).encode() for ids in texts)
    for name in ("bz2", "lzma"):
        try:
            compress = importlib.import_module(name).compress
        except ImportError:  # some builds of Python lack them
            continue
        added = len(compress(known + judged)) - len(compress(known))
        found[name] = 8 * added / len(corpus.validation)
    return found


def print_bits(name, bits, others):
    """Print the table of bits per character, and whether the net beats the others."""
    print("\nbits per character on the validation topics")
    for label, value in {name: bits, **others}.items():
        print(f"  {label:<24}{value:8.3f}")
    print("(n-grams: interpolated Kneser-Ney; bz2 and lzma: what validation adds to training)")
    common.verdict(name, {other: bits < value for other, value in others.items()})


def draw(path, name, curve, others):
    """Write the picture: bits per character by epoch, with the baselines."""
    from matplotlib.figure import Figure  # not pyplot, which opens windows and sets a backend

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(curve) + 1)
    for values, label, style in zip(
        zip(*curve, strict=True), ("in training", "validation"), ("--", "-"), strict=True
    ):
        axes.plot(epochs, values, style, marker=".", color=pictures.NET, label=f"{name}, {label}")
    for label, value in others.items():
        axes.axhline(value, color="0.4", linewidth=0.9, linestyle=":", label=label)
    pictures.epochs(axes, len(curve))
    axes.set_ylim(bottom=min([*others.values(), *np.ravel(curve)]) - 0.1)
    axes.set_ylabel("bits per character; less is better")
    axes.set_title("Python's documentation, topics not trained on")
    pictures.label_ends(axes)
    figure.savefig(path, dpi=120)


def _positive(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "gru")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, "over the training text")
    parser.add_argument(
        "--temperature", type=_positive, default=0.7, metavar="X",
        help="of the sample: logits are divided by it, less is safer; default: 0.7",
    )  # fmt: skip
    common.add_seed(parser, "the first weights, of the text's shifts and of the sample")
    common.add_out(parser, "generate.png")


def run(args):
    """Run the demo -> exit code."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        print("this Python comes without pydoc_data, whose text is needed", file=sys.stderr)
        return 1
    corpus, name = Corpus(topics), args.cell.upper()
    sizes = f"{len(corpus.train)} characters to train on, {len(corpus.validation)} of other topics"
    print(f"Python's documentation: {sizes} to judge by, {len(corpus.alphabet)} different ones")
    print(f"model: {name} of {HIDDEN} units on one-hot characters, softmax head")
    print(f"computed by: {common.engine()}\n", flush=True)
    model, curve, seconds = train(args.cell, corpus, args.epochs, args.seed)
    pace = args.epochs * len(corpus.train) / seconds
    print(f"trained in {seconds:.1f} s, {pace / 1000:.1f} thousand characters a second")
    others = baselines(corpus)
    print_bits(name, curve[-1][1], others)
    rng = np.random.default_rng(args.seed)
    sample = model.sample(corpus.encode("\n\n"), SAMPLE, args.temperature, rng)
    print(f"\na sample, temperature {args.temperature}\n\n{corpus.decode(sample)}")
    return pictures.write(draw, args.out, name, curve, others)
