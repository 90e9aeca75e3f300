"""Tag each character of Python source code with its kind: comment, string, keyword, name, ...

The code is that of the standard library; the tags come from its module `tokenize`. The kind of a
character may depend on characters far away: within a docstring "if" is no keyword, and a string
ends with the same quotes that it begins with. A bidirectional layer reads a file from both
ends, so its output at a character depends on all characters before and after it.

    Schuster and Paliwal, Bidirectional recurrent neural networks, 1997
"""

import io
import keyword
import sys
import sysconfig
import time
import token
import tokenize
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastrnn.demos import common, counting, pictures
from fastrnn.train import Adam, Dense, Embedding, clip_by_norm, cross_entropy
from fastrnn.train.progress import Progress

KINDS = ("whitespace", "comment", "string", "keyword", "name", "number", "operator")
SPACE, COMMENT, STRING, KEYWORD, NAME, NUMBER, OPERATOR = range(len(KINDS))
COLOURS = ("silver", "tab:gray", "tab:green", "tab:blue", "black", "tab:orange", "tab:purple")
STYLES = {"comment": {"style": "italic"}, "keyword": {"weight": "bold"}}  # seen without colour
SIZES = range(4_000, 60_000)  # bytes of a file that is used
JUDGED_OF = 8  # every eighth file is for the test
LETTERS = 128  # ids: ASCII, and 127 for all other characters
FEATURES = 32  # features of the embedding
HIDDEN = 64  # units of each direction
BATCH = 32
WINDOW = 128  # characters of a training example
UPDATES = 100  # updates in an epoch
EPOCHS, QUICK_EPOCHS = 10, 2
WIDEST = 4  # the most neighbours on each side that counting uses
LEARNING_RATE = 5e-3
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradient
LINES = 32  # lines of code in the picture


class File(NamedTuple):
    """A source text; ids and tags are (N,) arrays, one element for each character."""

    name: str
    source: str
    ids: np.ndarray
    tags: np.ndarray


def kind_of(found):
    """The tag of a token that Python's tokenize module found."""
    if found.type == token.NAME:
        return KEYWORD if keyword.iskeyword(found.string) else NAME
    kinds = {"COMMENT": COMMENT, "STRING": STRING, "NUMBER": NUMBER, "OP": OPERATOR}
    return kinds.get(token.tok_name[found.type], SPACE)


def tags_of(source):
    """(N,): the kind of each character; characters between tokens are whitespace."""
    begins = np.cumsum([0] + [len(line) for line in io.StringIO(source)])  # offsets of the lines
    tags, opened = np.full(len(source), SPACE), []
    for found in tokenize.generate_tokens(io.StringIO(source).readline):
        begin, end = (begins[row - 1] + column for row, column in (found.start, found.end))
        # From Python 3.12 on an f-string is many tokens. Here it is one, as before.
        if token.tok_name[found.type].endswith("STRING_START"):
            opened.append(begin)
        elif token.tok_name[found.type].endswith("STRING_END"):
            tags[opened.pop() : end] = STRING
        elif kind := kind_of(found):
            tags[begin:end] = kind
    return tags


def read(folder):
    """The folder's Python files -> those for training and those for the test: lists of File.

    Raises
    ------
    FileNotFoundError
        If there are too few files.
    """
    paths = [p for p in sorted(Path(folder).glob("*.py")) if p.stat().st_size in SIZES]
    if len(paths) < JUDGED_OF:
        raise FileNotFoundError(
            f"the demo needs the standard library as source code, and in {folder} there are "
            f"{len(paths)} files of it: use a Python that is installed with its .py files"
        )
    files = []
    for path in paths:
        with tokenize.open(path) as opened:  # with the encoding that the file declares
            source = opened.read()
        ids = np.minimum([ord(character) for character in source], LETTERS - 1)
        files.append(File(path.name, source, ids, tags_of(source)))
    return [f for i, f in enumerate(files) if i % JUDGED_OF], files[::JUDGED_OF]


def joined(files):
    """The ids of all files one after the other, and the tags."""
    return np.concatenate([f.ids for f in files]), np.concatenate([f.tags for f in files])


class Tagger:
    """An embedding, a bidirectional layer, a head to logits over KINDS."""

    def __init__(self, cell, rng):
        self.embedding = Embedding(LETTERS, FEATURES, rng=rng)
        self.layer = common.LAYERS[cell](FEATURES, HIDDEN, bidirectional=True, rng=rng)
        self.head = Dense(2 * HIDDEN, len(KINDS), rng=rng)  # reads both directions side by side
        self.parameters = [part.flat for part in (self.embedding, self.layer, self.head)]

    def __call__(self, ids):
        """Ids (N,) -> the likeliest tags (N,), as one sequence."""
        y, _ = self.layer(self.embedding(ids[:, None]))  # (N, 1, 2H)
        return self.head(y[:, 0]).argmax(axis=-1)

    def loss_and_gradients(self, ids, tags):
        """Cross-entropy for ids and tags, both (T, B), and its gradients."""
        y, _, tape = self.layer.forward(self.embedding(ids))  # x: (T, B, FEATURES)
        loss, d_logits = cross_entropy(self.head(y), tags)  # logits: (T, B, kinds)
        of_head = self.head.backward(y, d_logits)
        of_layer = tape.backward(of_head.x)
        of_embedding = self.embedding.backward(ids, of_layer.x)
        return loss, [of_embedding.flat, of_layer.flat, of_head.flat]


def train(cell, files, epochs, seed):
    """Train on windows from anywhere in the files -> the tagger, mean loss by epoch, seconds."""
    rng = np.random.default_rng(seed)
    model = Tagger(cell, rng)
    adam = Adam(model.parameters, LEARNING_RATE)
    ids, tags = joined(files)
    losses, seconds = [], 0.0
    with Progress(epochs, f"training {cell.upper()}") as progress:
        for epoch in range(epochs):
            start, total = time.perf_counter(), 0.0
            for update in range(UPDATES):
                first = rng.integers(len(ids) - WINDOW, size=BATCH)
                window = first + np.arange(WINDOW)[:, None]  # (T, B)
                loss, gradients = model.loss_and_gradients(ids[window], tags[window])
                clip_by_norm(gradients, LARGEST_NORM)
                done = (epoch + update / UPDATES) / epochs
                adam.learning_rate = common.cosine(LEARNING_RATE, done)
                adam.step(gradients)
                total += loss
            seconds += time.perf_counter() - start
            losses.append(total / UPDATES)
            progress.step(f"loss {losses[-1]:.4f}")
    return model, losses, seconds


def baselines(known, judged):
    """Tags of the test ids by counting: name -> (N,). The last one has the widest windows."""
    predicted = counting.tags(*known, judged, LETTERS, WIDEST)
    return {f"counting in windows of {2 * i + 1}": tags for i, tags in enumerate(predicted)}


def print_accuracies(predicted, tags):
    """Print the accuracies, of all characters and by kind, and the verdict.

    predicted : name -> (N,) tags, those of the net first.
    """
    print("\nright tags in the files judged, %")
    for label, ours in predicted.items():
        print(f"  {label:<26}{_percent(ours, tags):8.2f}")
    net, *others = predicted
    print(f"\n  of those that are fraction{net:>8}{others[-1]:>26}")
    for kind, label in enumerate(KINDS):
        there = tags == kind
        right = [_percent(predicted[name][there], tags[there]) for name in (net, others[-1])]
        print("  {:<16}{:10.2f}{:8.2f}{:26.2f}".format(label, 100 * there.mean(), *right))
    accuracy = _percent(predicted[net], tags)
    common.verdict(net, {name: accuracy > _percent(predicted[name], tags) for name in others})


def _percent(predicted, tags):
    return 100 * np.mean(predicted == tags) if len(tags) else np.nan


def piece(files, predicted):
    """The net's median file by accuracy, and its predicted tags by name, for the picture."""
    ends = np.cumsum([len(f.ids) for f in files])[:-1]
    by_file = {name: np.split(tags, ends) for name, tags in predicted.items()}
    net = next(iter(by_file))
    right = [_percent(m, f.tags) for m, f in zip(by_file[net], files, strict=True)]
    median = int(np.argsort(right)[len(files) // 2])
    return files[median], {name: tags[median] for name, tags in by_file.items()}


def draw(path, file, predicted):
    """Write the picture: the middle of a file with the tags of the net and of the last baseline."""
    from matplotlib.figure import Figure  # not pyplot, which opens windows and sets a backend
    from matplotlib.patches import Patch

    lines = file.source.splitlines(keepends=True)
    first = max(0, (len(lines) - LINES) // 2)
    begin = sum(map(len, lines[:first]))
    shown = "".join(lines[first : first + LINES])
    figure = Figure(figsize=(14, 8), layout="constrained")
    net, *_, widest = predicted
    for axes, name in zip(figure.subplots(1, 2), (net, widest), strict=True):
        _write_coloured(axes, shown, predicted[name][begin:], file.tags[begin:])
        axes.set_title(f"{name}: {_percent(predicted[name], file.tags):.2f} % of the file right")
    pairs = [*zip(COLOURS[1:], KINDS[1:], strict=True), ("red", "_ wrong")]
    handles = [Patch(color=colour, label=label) for colour, label in pairs]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(pairs))
    for text, kind in zip(legend.get_texts(), KINDS[1:], strict=False):
        text.set(**STYLES.get(kind, {}))
    figure.suptitle(f"{file.name} of the standard library, lines {first + 1} to {first + LINES}")
    figure.savefig(path, dpi=110)


def _write_coloured(axes, text, predicted, tags):
    """A text in the colours of the predicted tags; the wrong ones are underlined."""
    axes.set(xlim=(0, 1), ylim=(LINES, 0))
    axes.axis("off")
    begin = 0
    for row, line in enumerate(text.splitlines(keepends=True)):
        here = slice(begin, begin + len(line))
        begin += len(line)
        layers = [
            (line, predicted[here] == kind, colour, STYLES.get(KINDS[kind], {}))
            for kind, colour in enumerate(COLOURS)
        ]
        layers.append(("_" * len(line), predicted[here] != tags[here], "red", {}))
        for characters, where, colour, style in layers:
            # All other characters, and tabs, become spaces, so that each text keeps its columns.
            pairs = zip(characters, where, strict=True)
            drawn = "".join(c if w and c.isprintable() else " " for c, w in pairs)
            axes.text(0, row + 0.8, drawn.rstrip(), color=colour, family="monospace", fontsize=8,
                      parse_math=False, **style)  # fmt: skip


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "gru")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, f"of {UPDATES} updates each")
    common.add_seed(parser, "the first weights and of the windows")
    common.add_out(parser, "tagging.png")


def run(args):
    """Run the demo -> exit code."""
    try:
        files, judged = read(sysconfig.get_path("stdlib"))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    known, (ids, tags), name = joined(files), joined(judged), args.cell.upper()
    print(f"the standard library: {len(files)} files, {len(known[0])} characters, to train on; "
          f"{len(judged)}, {len(ids)}, to judge by")  # fmt: skip
    print(f"model: bidirectional {name} of 2 x {HIDDEN} units, embedding, softmax head")
    print(f"computed by: {common.engine()}\n", flush=True)
    model, losses, seconds = train(args.cell, files, args.epochs, args.seed)
    pace = args.epochs * UPDATES * BATCH * WINDOW / seconds
    print(f"training loss: {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")
    print(f"trained in {seconds:.1f} s, {pace / 1000:.1f} thousand characters a second")
    predicted = {name: np.concatenate([model(f.ids) for f in judged]), **baselines(known, ids)}
    print_accuracies(predicted, tags)
    return pictures.write(draw, args.out, *piece(judged, predicted))
