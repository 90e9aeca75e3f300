"""Classify texts, from both ends: was the condition of this `if` negated?

The texts come from the standard library. A text is the condition of an `if` without its negation
("is not" is written "is", "!=" is "==", "not x" is x), and the first lines of its branch. The
branch shows the answer: "if path is [not] None: path = os.getcwd()". As in film reviews, a text is
positive or negative, few of its words decide that, and their order counts. Such classifiers find
bugs: Pradel and Sen, DeepBugs: a learning approach to name-based bug detection, 2018.

The layer reads texts of any length from both ends, and a head reads its two final states (many to
one). Complete packages are held out. Half of the texts are negated, so a guess is right half of the
time. The baseline is a logistic regression on n-grams of up to four words.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

import fastrnn
from fastrnn.demos import common, pictures
from fastrnn.demos.common import LAYERS
from fastrnn.demos.conditions import LIBRARY, read_library
from fastrnn.train import Adam, Dense, Embedding, cross_entropy, fit, pad
from fastrnn.train.progress import Progress

SPREAD = 3  # a word in fewer packages is unknown
EMBEDDING, HIDDEN = 64, 128
UNKNOWN = 0.15  # fraction of the words that training replaces by the unknown one
BATCH = 32
EPOCHS, QUICK_EPOCHS = 8, 3
LEARNING_RATE = 3e-3  # at the beginning; it falls to nearly 0
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradients
NEIGHBOURS = 4  # words of the baseline's n-grams: with 2 accuracy is 5% lower, with 6 the same
PENALTIES = (3e-4, 1e-3, 3e-3)  # of the baseline's weights; validation chooses the best
SHOWN = 8  # the number of examples that are printed


def split(packages):
    """Split by package -> texts for training (two thirds), for validation, for the test."""
    train, validation, test = [], [], []
    turns = (train, validation, train, train, test, train)
    for index, texts in enumerate(packages):
        turns[index % len(turns)].extend(texts)
    copies = {text.words for text in train}
    return train, *([t for t in texts if t.words not in copies] for texts in (validation, test))


def vocabulary_of(texts):
    """Word -> id, from 1; 0 stands for unknown words."""
    spread = Counter(word for word, _ in {(w, text.package) for text in texts for w in text.words})
    return {word: i for i, word in enumerate(sorted(w for w in spread if spread[w] >= SPREAD), 1)}


class Batch(NamedTuple):
    """ids (T, B), any beyond a text's end; lengths (B,); classes (B,), 1 for negated."""

    ids: np.ndarray
    lengths: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, texts, vocabulary):
        ids, lengths = pad([[vocabulary.get(word, 0) for word in text.words] for text in texts])
        return cls(ids, lengths, np.array([text.negated for text in texts], int))


class Classifier:
    """An embedding, a bidirectional layer, a head on its last output."""

    def __init__(self, cell, words, rng):
        self.embedding = Embedding(words, EMBEDDING, rng=rng)
        self.layer = LAYERS[cell](EMBEDDING, HIDDEN, bidirectional=True, rng=rng)
        self.head = Dense(2 * HIDDEN, 2, rng=rng)
        self.parts = [self.embedding, self.layer, self.head]

    def loss_and_gradients(self, batch):
        """Cross-entropy, and its gradients in the order of `parts`."""
        _, state, tape = self.layer.forward(batch.ids, **self._options(batch))
        output = self.layer.last(state)  # (B, 2 H)
        loss, d_logits = cross_entropy(self.head(output), batch.classes)
        of_head = self.head.backward(output, d_logits)
        grads = tape.backward(last=of_head.x)
        return loss, [grads.embedding, grads.flat, of_head.flat]

    def classify(self, batch):
        """Classify texts: (B,) booleans, True for negated."""
        _, state = self.layer(batch.ids, **self._options(batch))
        return self.head(self.layer.last(state)).argmax(axis=1) == 1

    def _options(self, batch):
        return {"lengths": batch.lengths, "embedding": self.embedding.params["weight"]}


class Logistic:
    """Logistic regression on flags of the n-grams in a text."""

    def __init__(self, texts, penalty):
        counts = Counter(n_gram for text in texts for n_gram in self._n_grams(text))
        common = [n_gram for n_gram, count in counts.items() if count > 1]
        self.column = {n_gram: j for j, n_gram in enumerate(common)}
        rows, columns = self._ones(texts)
        target = np.array([text.negated for text in texts])
        self.w = np.zeros(len(common))
        adam = Adam([self.w], learning_rate=0.03)
        for _ in range(200):
            p = 1 / (1 + np.exp(-self._logits(rows, columns, len(texts))))
            gradient = np.bincount(columns, (p - target)[rows], len(common)) / len(texts)
            adam.step([gradient + penalty * self.w])

    def classify(self, texts):
        """Classify texts: (B,) booleans, True for negated."""
        return self._logits(*self._ones(texts), len(texts)) > 0

    def _logits(self, rows, columns, count):
        return np.bincount(rows, self.w[columns], count)  # X w

    def _ones(self, texts):
        """The rows and columns of the ones in X: a one for each n-gram of a text."""
        found = [[self.column.get(g, -1) for g in self._n_grams(text)] for text in texts]
        rows = np.repeat(np.arange(len(texts)), [len(columns) for columns in found])
        columns = np.concatenate(found).astype(int)
        return rows[columns >= 0], columns[columns >= 0]

    @staticmethod
    def _n_grams(text):
        w = text.words
        return {w[i : i + n] for n in range(1, NEIGHBOURS + 1) for i in range(len(w) - n + 1)}


def accuracy(negated, texts):
    """Fraction of the texts for which `negated` is right: a boolean for each, or one for all."""
    return float(np.mean(np.equal(negated, [text.negated for text in texts])))


def learn(cell, texts, validation, epochs, rng, progress=False):
    """Train, and choose an epoch on other texts -> a function that classifies texts, history."""
    vocabulary = vocabulary_of(texts)
    model = Classifier(cell, len(vocabulary) + 1, rng)
    adam = Adam(model.parts, LEARNING_RATE)

    def batches(epoch):
        adam.learning_rate = LEARNING_RATE * (1 - (epoch - 1) / epochs)
        order = rng.permutation(len(texts))
        for chosen in np.split(order, range(BATCH, len(order), BATCH)):
            batch = Batch.of([texts[i] for i in chosen], vocabulary)
            unknown = rng.random(batch.ids.shape) < UNKNOWN
            yield batch._replace(ids=np.where(unknown, 0, batch.ids))

    def classify(texts):
        return model.classify(Batch.of(texts, vocabulary))

    history = fit(
        model.parts, model.loss_and_gradients, batches, optimizer=adam, epochs=epochs,
        validate=lambda: 1 - accuracy(classify(validation), validation),
        clip=LARGEST_NORM, progress=progress,
    )  # fmt: skip
    return classify, history


def print_examples(test, negated):
    """Print some of the test texts, as they are in the library, and the net's answers."""
    print("\nfrom the test texts       the net says")
    for i in range(0, len(test), max(1, len(test) // SHOWN)):
        right = "" if negated[i] == test[i].negated else ", wrong"
        said = ("plain" if not negated[i] else "negated") + right
        print(f"  {test[i].package:<22}  {said:<15} {test[i].shown:.60}")


def draw(path, test, answers, history, known):
    """Write the picture: accuracy over training, and by length; needs matplotlib.

    known : the accuracy of the last of `answers`, the baseline, on the validation texts.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    (net, baseline), count = answers, len(history.validation)
    accuracies = 1 - np.array(history.validation)
    left.plot(np.arange(1, count + 1), accuracies, ".-", color=pictures.NET, label=net)
    left.axhline(known, color="0.4", linestyle="--", label=baseline)
    left.axhline(0.5, color="black", linestyle=":", label="chance")
    lengths = np.array([len(text.words) for text in test])
    fifths = np.array_split(np.argsort(lengths, kind="stable"), 5)
    place = np.arange(len(fifths))
    for side, (name, negated) in enumerate(answers.items()):
        fractions = [accuracy(negated[fifth], [test[i] for i in fifth]) for fifth in fifths]
        colour = pictures.BASELINE if side else pictures.NET
        right.bar(place + 0.4 * side, fractions, 0.4, color=colour, label=name)
    right.set_xticks(place + 0.2, [f"{lengths[f].min()} to {lengths[f].max()}" for f in fifths])
    right.set(title="test texts, by their length", xlabel="words; bars begin at chance, 50 %")
    left.set(title="validation texts, over training", ylabel="accuracy", ylim=(0.5, 0.85))
    pictures.epochs(left, count)
    pictures.percent(left.yaxis)
    pictures.label_ends(left)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    figure.suptitle("was the condition of this if negated? (packages not trained on)")
    figure.savefig(path, dpi=120)


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "gru")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, "over the training texts")
    common.add_seed(parser, "the first weights and of what is drawn in training")
    common.add_out(parser, "classify.png")


def run(args):
    """Run the demo -> exit code."""
    rng = np.random.default_rng(args.seed)
    train, validation, test = split(read_library(rng))
    if not test:
        print(f"no texts: the sources of the standard library are not in {LIBRARY}")
        return 1
    print("task: was the condition of an `if` of the standard library negated?")
    for name, texts in (("train", train), ("validation", validation), ("test", test)):
        packages = len({text.package for text in texts})
        print(f"  {name:<10} {len(texts):5} texts of {packages} packages")
    net, rival = f"bidirectional {args.cell.upper()}", "logistic regression"
    print(f"model: {net} of {HIDDEN} units, embedding, linear head\n", flush=True)
    bar = Progress(args.epochs, f"training {args.cell.upper()}, validation error")
    classify, history = learn(args.cell, train, validation, args.epochs, rng, bar)
    fits = [Logistic(train, penalty) for penalty in PENALTIES]
    best = max(fits, key=lambda fit: accuracy(fit.classify(validation), validation))
    answers = {net: classify(test), rival: best.classify(test)}
    print(f"training took {sum(history.seconds):.0f} s, threads: {fastrnn.get_num_threads()}")
    print(f"chosen on the validation texts: epoch {history.best_epoch} of {args.epochs}")
    print_examples(test, answers[net])
    fractions = {name: accuracy(negated, test) for name, negated in answers.items()}
    one_kind = max(accuracy(kind, test) for kind in (False, True))
    print("\naccuracy on the test packages")
    for name, fraction in {**fractions, "always the commoner kind": one_kind}.items():
        print(f"  {name:<28} {fraction:6.1%}")
    common.verdict(net, {f"the {rival}": fractions[net] > fractions[rival]})
    known = accuracy(best.classify(validation), validation)
    return pictures.write(draw, args.out, test, answers, history, known)
