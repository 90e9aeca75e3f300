"""Answer where somebody lives after a story, and see which words are still in the state.

stories.py makes the stories by a rule, from sentences that were written for it: "Ada lives in
Oslo . Ben lives in Lima . Ada moves to Rome . Ben visits Paris . where does Ada live ?" A layer
reads a story word by word, as one-hot vectors, and a head on the last state names the city (many to
one).

The picture has the story's words on both axes. A column is the state after a word, a row is what is
left there of what one word wrote (`fastrnn.plot.memory`). One sees a new city replace the old one.
"""

import numpy as np

import fastrnn
from fastrnn.demos import common, pictures, stories
from fastrnn.demos.common import LAYERS
from fastrnn.demos.stories import CITIES, WORDS, Batch, Story
from fastrnn.train import Adam, Dense, cross_entropy, fit
from fastrnn.train.progress import Progress

HIDDEN = 48
STORIES, HELD_OUT = 10_000, 1000
BATCH = 32
EPOCHS, QUICK_EPOCHS = 16, 8
LEARNING_RATE = 0.03  # it falls to nearly 0 in the last quarter of the training
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradients
SHOWN = 4  # the number of stories that are printed
TOLD = Story(
    tuple(
        "Ada lives in Oslo . Ben lives in Lima . Ada is a doctor . Ada moves to Rome . "
        "Ben visits Paris . where does Ada live ?".split()
    ),
    "Ada",
    "Rome",
)


class Reader:
    """A layer that reads a story, and a head from its last state to the cities."""

    def __init__(self, cell, rng):
        forget = {"forget_bias": 1.0} if cell == "lstm" else {}
        self.layer = LAYERS[cell](len(WORDS), HIDDEN, rng=rng, **forget)
        self.head = Dense(HIDDEN, len(CITIES), rng=rng)
        self.parts = [self.layer, self.head]

    def loss_and_gradients(self, batch):
        """Cross-entropy, and its gradients in the order of `parts`."""
        _, state, tape = self.layer.forward(batch.ids, lengths=batch.lengths, one_hot=True)
        output = self.layer.last(state)
        loss, d_logits = cross_entropy(self.head(output), batch.answers)
        of_head = self.head.backward(output, d_logits)
        return loss, [tape.backward(last=of_head.x).flat, of_head.flat]

    def answer(self, batch):
        """(B,) indices of cities."""
        _, state = self.layer(batch.ids, lengths=batch.lengths, one_hot=True)
        return self.head(self.layer.last(state)).argmax(axis=1)

    def gates(self, story):
        """The values of the gates while the layer reads one story."""
        return self.layer(Batch.of([story]).ids, one_hot=True, return_gates=True)[2]


def learn(cell, train, validation, epochs, rng, progress=False):
    """Train, and choose an epoch on other stories -> the reader, history."""
    reader, train, validation = Reader(cell, rng), Batch.of(train), Batch.of(validation)
    adam = Adam([part.flat for part in reader.parts], LEARNING_RATE)
    count = len(train.answers)

    def batches(epoch):
        order = rng.permutation(count)
        for begin in range(0, count, BATCH):
            late = max(0.0, (epoch - 1 + begin / count) / epochs - 0.75)  # of the last quarter
            adam.learning_rate = common.cosine(LEARNING_RATE, 4 * late)
            yield train.rows(order[begin : begin + BATCH])

    history = fit(
        reader.parts, reader.loss_and_gradients, batches, optimizer=adam, epochs=epochs,
        validate=lambda: float(np.mean(reader.answer(validation) != validation.answers)),
        clip=LARGEST_NORM, progress=progress,
    )  # fmt: skip
    return reader, history


def baselines(train, test):
    """Name of a baseline -> the fraction of the test's answers that it has right."""
    homes = [story.home for story in train]
    commonest = max(CITIES, key=homes.count)
    guesses = {
        "the commonest city": lambda story: commonest,
        "the city named last": stories.last_city,
        "the same, of that person": stories.last_city_of_the_person,
    }
    return {
        name: float(np.mean([guess(story) == story.home for story in test]))
        for name, guess in guesses.items()
    }


def print_examples(reader, test):
    """Print some of the test stories with the net's answers."""
    print("\nfrom the test stories")
    for story, answer in zip(test[:SHOWN], reader.answer(Batch.of(test[:SHOWN])), strict=True):
        right = "" if CITIES[answer] == story.home else ", wrong"
        print(f"  {' '.join(story.words)} {CITIES[answer]}{right}")


def draw(path, name, reader):
    """Write the picture: what is left of each word of a story after each later one."""
    from matplotlib.figure import Figure  # not pyplot, which opens windows and sets a backend

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    fastrnn.plot.memory(reader.gates(TOLD), TOLD.words, axes=axes)
    answer = CITIES[reader.answer(Batch.of([TOLD]))[0]]
    axes.set_title(f"How much of each word is still in the {name}'s state; it answers {answer}")
    figure.savefig(path, dpi=100)


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "lstm", ("lstm", "gru"), "an RNN has no gates to draw; ")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, f"over {STORIES} stories")
    common.add_seed(parser, "the first weights and of the stories")
    common.add_out(parser, "memory.png")


def run(args):
    """Run the demo -> exit code."""
    rng, name = np.random.default_rng(args.seed), args.cell.upper()
    train, validation, test = stories.split(STORIES, HELD_OUT, rng)
    print("task: where does somebody live, after a story made by a rule?")
    print(f"  {STORIES} stories to train on, {HELD_OUT} others for validation, {HELD_OUT} to test")
    print(f"model: {name} of {HIDDEN} units, linear head on its last state")
    print(f"computed by: {common.engine()}\n", flush=True)
    bar = Progress(args.epochs, f"training {name}, validation error")
    reader, history = learn(args.cell, train, validation, args.epochs, rng, bar)
    print(f"training took {sum(history.seconds):.0f} s")
    print(f"chosen on the validation stories: epoch {history.best_epoch} of {args.epochs}")
    print_examples(reader, test)
    batch = Batch.of(test)
    right, others = float(np.mean(reader.answer(batch) == batch.answers)), baselines(train, test)
    print("\nright on the test stories")
    for label, fraction in {name: right, **others}.items():
        print(f"  {label:<28} {fraction:6.1%}")
    common.verdict(name, {label: right > fraction for label, fraction in others.items()})
    return pictures.write(draw, args.out, name, reader)
