"""Translate dates as people write them to ISO form, with an encoder and a decoder.

"Saturday, 3 March 1984", "3.III.1984", "4 days after 28 February 1984": the encoder reads the
characters. Its final state is the initial state of the decoder, which writes the ten characters of
1984-03-03 one by one. At each step it reads the character that it wrote before. In training it
reads the right one instead (teacher forcing). Sutskever, Vinyals and Le, Sequence to sequence
learning with neural networks, 2014; Cho et al., Learning phrase representations using RNN
encoder-decoder, 2014.

The days of a century are split first: the test days are not in the training data in any form. So a
copy of the most similar text's answer would always be wrong. The baseline is a linear model of
n-grams. A parser that knows the forms needs no learning; here the net has to find the forms.
"""

from datetime import date, timedelta

import numpy as np

import fastrnn
from fastrnn.demos import common, pictures
from fastrnn.demos.common import LAYERS
from fastrnn.train import Adam, Dense, cross_entropy, fit, pad
from fastrnn.train.progress import Progress

# In this century two digits determine the year: 69 to 99 are 19.., 00 to 68 are 20.., as in POSIX.
DAYS = [date(1969, 1, 1) + timedelta(n) for n in range(36525)]
REWRITTEN = {
    "in full": "{day:%A}, {day.day} {day:%B} {day.year}",
    "short": "{day:%a} {day.day} {day:%b} {day.year}",
    "American": "{day:%B} {day.day}, {day.year}",
    "ordinal": "the {nth} of {day:%B} '{day:%y}",
    "slashes": "{day.day}/{day.month}/{day:%y}",
    "Roman": "{day.day}.{roman}.{day.year}",
    "packed": "{day:%d%b%y}",
}
COMPUTED = {
    "day of the year": "day {day:%j} of {day.year}",
    "days after": "{n} days after {before.day} {before:%B} {before.year}",
    "days before": "{n} days before {after.day} {after:%B} {after.year}",
}
FORMS = REWRITTEN | COMPUTED
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
MOST = 7  # the most days after or before another day
ASCII = 128  # the encoder's ids are character codes
OUTPUT = "0123456789-"  # the decoder's ids are indices into this text
START = len(OUTPUT)  # the first id that the decoder reads
STEPS = len("1984-03-03")
HELD_OUT = 1000  # days for validation, and as many for the test
PAIRS = 10000  # pairs in an epoch; each epoch draws new ones
LINEAR_PAIRS = 5000  # for the linear model; with 7000 and n-grams of 5, 78.5 % are exact, not 77.1
LONGEST = 4  # characters of an n-gram
HIDDEN = 128
REMEMBER = 2  # bias of the gates that keep the state: without it the GRU hardly learns to keep it
BATCH = 64
EPOCHS, QUICK_EPOCHS = 25, 8
LEARNING_RATE = 5e-3  # at the beginning; it falls to nearly 0
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradients
SHOWN = 2  # examples of each form that are printed


def written(day, form, n):
    """A day as people write it; n is the distance in forms that name another day."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if day.day // 10 == 1 else day.day % 10, "th")
    return FORMS[form].format(
        day=day, nth=f"{day.day}{ending}", roman=ROMAN[day.month - 1],
        n=n, before=day - timedelta(n), after=day + timedelta(n),
    )  # fmt: skip


class Pairs:
    """Days, each written in a form, and their ISO forms.

    Attributes
    ----------
    texts : list of str
    source : (T, B) ids of their characters, 0 beyond the ends
    lengths : (B,) the numbers of characters
    target : (STEPS, B) ids of the characters of the ISO forms
    """

    def __init__(self, days, forms, rng):
        away = rng.integers(2, MOST + 1, len(days)).tolist()
        self.texts = [written(*each) for each in zip(days, forms, away, strict=True)]
        self.source, self.lengths = pad([list(text.encode("ascii")) for text in self.texts])
        self.target = np.array([[OUTPUT.index(c) for c in day.isoformat()] for day in days]).T

    @classmethod
    def drawn(cls, days, count, rng):
        """`count` random days, each as a text in a random form and as its ISO date."""
        forms = list(FORMS)
        which = rng.integers(len(days), size=count), rng.integers(len(forms), size=count)
        return cls([days[i] for i in which[0]], [forms[i] for i in which[1]], rng)

    def exact(self, result):
        """Fraction of the dates with all characters right."""
        return float((result == self.target).all(axis=0).mean())


class Translator:
    """An encoder, a decoder that begins with its final state, and the decoder's head.

    Both read ids as one-hot vectors.
    """

    def __init__(self, cell, rng):
        self.encoder = LAYERS[cell](ASCII, HIDDEN, rng=rng)
        self.decoder = LAYERS[cell](len(OUTPUT) + 1, HIDDEN, rng=rng)
        self.head = Dense(HIDDEN, len(OUTPUT), rng=rng)
        self.parts = [self.encoder, self.decoder, self.head]
        for layer in (self.encoder, self.decoder):
            # The second gate is the GRU's update gate (r z n) and the LSTM's forget gate (i f g o).
            # An RNN has no second gate: its slice is empty.
            layer.params["bias_ih_l0"][HIDDEN : 2 * HIDDEN] += REMEMBER

    def loss_and_gradients(self, pairs):
        """Cross-entropy with teacher forcing, and its gradients in the order of `parts`."""
        read = np.roll(pairs.target, 1, axis=0)  # (STEPS, B): at each step the one before
        read[0] = START
        _, state, encoder_tape = self.encoder.forward(
            pairs.source, lengths=pairs.lengths, one_hot=True
        )
        y, _, decoder_tape = self.decoder.forward(read, state, one_hot=True)  # y is (STEPS, B, H)
        loss, d_logits = cross_entropy(self.head(y), pairs.target)
        # Backward, in the opposite order. Nothing reads the encoder's y, so the encoder learns only
        # from the gradient of its final state, which is that of the decoder's initial state.
        of_head = self.head.backward(y, d_logits)
        of_decoder = decoder_tape.backward(of_head.x)
        of_encoder = encoder_tape.backward(None, dstate=of_decoder.state)
        return loss, [of_encoder.flat, of_decoder.flat, of_head.flat]

    def translate(self, pairs):
        """(STEPS, B) ids: the likeliest at each step, which the next step reads (greedy)."""
        _, state = self.encoder(pairs.source, lengths=pairs.lengths, one_hot=True)
        stream = self.decoder.stream(batch_size=len(pairs.texts), one_hot=True)
        stream.state = state
        read, result = np.full(len(pairs.texts), START), []
        for _ in range(STEPS):
            read = self.head(stream.step(read)).argmax(axis=1)  # (B, H) -> (B,)
            result.append(read)
        return np.array(result)


class Linear:
    """Ridge regression of each output character on flags of the n-grams in a text."""

    def __init__(self, pairs):
        found = {n_gram for text in pairs.texts for n_gram in self._n_grams(text)}
        self.column = {n_gram: j for j, n_gram in enumerate(sorted(found))}
        x = self._features(pairs)  # (B, F)
        one_hot = np.eye(len(OUTPUT), dtype=np.float32)[pairs.target.T]  # (B, STEPS, K)
        # The dual form, w = X^T (X X^T + I)^-1 y: there are fewer pairs than n-grams.
        gram = x @ x.T + np.eye(len(x), dtype=np.float32)
        self.w = x.T @ np.linalg.solve(gram, one_hot.reshape(len(x), -1))

    def translate(self, pairs):
        """(STEPS, B) ids."""
        scores = self._features(pairs) @ self.w
        return scores.reshape(-1, STEPS, len(OUTPUT)).argmax(axis=2).T

    def _features(self, pairs):
        """(B, F): 1 if the text has the n-gram."""
        x = np.zeros((len(pairs.texts), len(self.column)), np.float32)
        for row, text in zip(x, pairs.texts, strict=True):
            row[[self.column[g] for g in self._n_grams(text) if g in self.column]] = 1
        return x

    @staticmethod
    def _n_grams(text):
        text = f"^{text}$"
        return {text[i : i + n] for n in range(1, LONGEST + 1) for i in range(len(text) - n + 1)}


def split(rng):
    """The days for training, those for validation, those for the test."""
    days = [DAYS[i] for i in rng.permutation(len(DAYS))]
    return days[2 * HELD_OUT :], days[:HELD_OUT], days[HELD_OUT : 2 * HELD_OUT]


def learn(cell, days, validation, epochs, rng, progress=False):
    """Train on pairs of these days, and choose an epoch on others -> translator, history."""
    model = Translator(cell, rng)
    adam = Adam([part.flat for part in model.parts], LEARNING_RATE)

    def batches(epoch):
        adam.learning_rate = LEARNING_RATE * (1 - (epoch - 1) / epochs)
        return (Pairs.drawn(days, BATCH, rng) for _ in range(PAIRS // BATCH))

    history = fit(
        model.parts, model.loss_and_gradients, batches, optimizer=adam, epochs=epochs,
        validate=lambda: 1 - validation.exact(model.translate(validation)),
        clip=LARGEST_NORM, progress=progress,
    )  # fmt: skip
    return model, history


def print_examples(test, model):
    """Print some of the test days: the text, and the net's answer."""
    print("\nfrom the test days")
    for form, pairs in test.items():
        for b, ids in enumerate(model.translate(pairs).T[:SHOWN]):
            right = "" if (ids == pairs.target[:, b]).all() else "  wrong"
            iso = "".join(OUTPUT[i] for i in ids)
            print(f"  {form:<16} {pairs.texts[b]:<31} {iso}{right}")


def print_fractions(fractions):
    """Print the table of exact matches on the test days, and the verdict."""
    kinds = {"all": FORMS, "rewritten": REWRITTEN, "computed": COMPUTED}
    print("\nexact matches on the test days" + "".join(f"{kind:>11}" for kind in kinds))
    means = {}
    for name, fraction in fractions.items():
        means[name] = [np.mean([fraction[form] for form in forms]) for forms in kinds.values()]
        print(f"  {name:<28}" + "".join(f"{mean:11.1%}" for mean in means[name]))
    net, linear = means
    common.verdict(net, {f"the {linear}": bool(means[net][0] > means[linear][0])})


def draw(path, fractions, history):
    """Write the picture: exact matches over training, and by form; needs matplotlib."""
    from matplotlib.figure import Figure

    (net, linear), count = fractions, len(history.validation)
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    matches = 1 - np.array(history.validation)
    left.plot(np.arange(1, count + 1), matches, ".-", color=pictures.NET, label=net)
    mean = np.mean(list(fractions[linear].values()))
    left.axhline(mean, color="0.4", linestyle="--", label=f"{linear} (test days)")
    left.set(title="validation days, over training", ylabel="exact matches", ylim=(0, 1))
    pictures.epochs(left, count)
    pictures.percent(left.yaxis)
    pictures.label_ends(left)
    place = np.arange(len(FORMS))
    colours = pictures.NET, pictures.BASELINE
    for side, (name, colour) in enumerate(zip(fractions, colours, strict=True)):
        right.barh(place + 0.4 * side, fractions[name].values(), 0.4, color=colour, label=name)
    right.set_yticks(place + 0.2, FORMS)
    right.invert_yaxis()
    right.set(title="test days, by form", xlabel="exact matches", xlim=(0, 1))
    pictures.percent(right.xaxis)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    figure.suptitle("dates as people write them to ISO form, on days not trained on")
    figure.savefig(path, dpi=120)


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "gru")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, f"of {PAIRS} new dates")
    common.add_seed(parser, "the first weights and of the dates that are drawn")
    common.add_out(parser, "translate.png")


def run(args):
    """Run the demo -> exit code."""
    rng = np.random.default_rng(args.seed)
    days, validation_days, test_days = split(rng)
    validation = Pairs.drawn(validation_days, HELD_OUT, rng)
    test = {form: Pairs(test_days, [form] * HELD_OUT, rng) for form in FORMS}
    net, linear = f"{args.cell.upper()} encoder and decoder", "linear model of n-grams"
    print(f"task: dates in {len(FORMS)} forms to ISO form, {DAYS[0]} to {DAYS[-1]}")
    print(f"  {len(days)} days to train on, {HELD_OUT} for validation, {HELD_OUT} for the test")
    print(f"model: two {args.cell.upper()}s of {HIDDEN} units, linear head\n", flush=True)
    rival = Linear(Pairs.drawn(days, LINEAR_PAIRS, rng))
    bar = Progress(args.epochs, "training, validation 1 - exact matches")
    model, history = learn(args.cell, days, validation, args.epochs, rng, bar)
    print(f"training took {sum(history.seconds):.0f} s, threads: {fastrnn.get_num_threads()}")
    print(f"chosen on the validation days: epoch {history.best_epoch} of {args.epochs}")
    print_examples(test, model)
    fractions = {
        name: {form: pairs.exact(each.translate(pairs)) for form, pairs in test.items()}
        for name, each in ((net, model), (linear, rival))
    }
    print_fractions(fractions)
    return pictures.write(draw, args.out, fractions, history)
