"""See gradients vanish over time in an RNN, an LSTM and a GRU, and which of them can remember.

The adding problem: a sequence of random numbers has two marked ones, one in each half. After the
last step the net gives the sum of these two, so it has to remember the first one, for up to the
length of the sequence. The data are artificial, so that it is known how far a net has to remember.

A net learns about step t from the gradient of the loss with respect to its state h_t.
Backpropagation through time multiplies that gradient, step by step from the last to the first,
with the Jacobian dh_t / dh_{t-1}. Over many steps the product vanishes or, with large weights,
explodes. The forget gate is a factor in the LSTM's dc_t / dc_{t-1}, the update gate in the GRU's
dh_t / dh_{t-1}. Both gates can learn to be near 1.

    Bengio, Simard and Frasconi, Learning long-term dependencies with gradient descent is
    difficult, 1994: the reason
    Hochreiter and Schmidhuber, Long short-term memory, 1997: the problem, and the LSTM
    Le, Jaitly and Hinton, A simple way to initialize recurrent networks of rectified linear
    units, 2015: the form of the problem taken here
"""

import time
from dataclasses import dataclass

import numpy as np

from fastrnn.demos import common, pictures
from fastrnn.train import Adam, Dense, clip_by_norm, mean_squared_error
from fastrnn.train.progress import Progress

CELLS = ("rnn", "lstm", "gru")
LENGTH = 100  # T
HIDDEN = 32
BATCH = 64
UPDATES = 100  # updates in an epoch, each on new sequences
EPOCHS, QUICK_EPOCHS = 20, 10
JUDGED = 1000  # test sequences
LEARNING_RATE = 1e-2
LARGEST_NORM = 1.0  # the largest norm of a minibatch's gradient
GAIN = 4  # with recurrent weights times this factor an untrained RNN's gradient explodes
COLOURS = {"rnn": "tab:blue", "lstm": "tab:red", "gru": "tab:green"}
STYLES = {"h": "-", "c": "--"}


def sequences(length, count, rng):
    """Random sequences of the adding problem.

    Returns
    -------
    x : (T, B, 2) array
        A number from 0 to 1, and a mark: 1 for a marked number, else 0.
    marked : (2, B) array
        The two marked numbers, that of the first half first.
    """
    x = np.zeros((length, count, 2), np.float32)
    x[:, :, 0] = rng.random((length, count), np.float32)
    rows, half = np.arange(count), length // 2
    steps = rng.integers(0, half, count), rng.integers(half, length, count)
    x[steps, rows, 1] = 1
    return x, x[steps, rows, 0]


def wanted(marked):
    """The sum of the two numbers, (B, 1)."""
    return marked.sum(axis=0)[:, None]


def baselines(marked):
    """Predictions of the sum that remember no earlier step: name -> (B, 1).

    The second is the best answer that ignores the first half.
    """
    return {
        "the mean of all sums, 1": np.ones_like(wanted(marked)),
        "the second number + 0.5": marked[1][:, None] + np.float32(0.5),
    }


class Adder:
    """A recurrent layer and a linear head on its last output."""

    def __init__(self, cell, seed):
        self.rng = np.random.default_rng(seed)  # draws the weights, then the sequences
        self.cell = cell
        self.layer = common.LAYERS[cell](2, HIDDEN, rng=self.rng)
        self.head = Dense(HIDDEN, 1, rng=self.rng)
        self.adam = Adam([self.layer.flat, self.head.flat], LEARNING_RATE)

    def __call__(self, x):
        """(T, B, 2) -> (B, 1)."""
        _, state = self.layer(x)
        return self.head(self.layer.last(state))

    def loss_and_gradients(self, x, target):
        """Mean squared error -> loss, the gradients of layer.flat and head.flat."""
        loss, tape, of_head = self.forward(x, target)
        return loss, [tape.backward(last=of_head.x, need_x=False).flat, of_head.flat]

    def forward(self, x, target):
        """Mean squared error -> loss, the layer's tape, the head's gradients."""
        _, state, tape = self.layer.forward(x)
        output = self.layer.last(state)
        loss, d_output = mean_squared_error(self.head(output), target)
        return loss, tape, self.head.backward(output, d_output)

    def epoch(self, length):
        """Train for UPDATES updates -> their mean loss."""
        total = 0.0
        for _ in range(UPDATES):
            x, marked = sequences(length, BATCH, self.rng)
            loss, gradients = self.loss_and_gradients(x, wanted(marked))
            clip_by_norm(gradients, LARGEST_NORM)
            self.adam.step(gradients)
            total += loss
        return total / UPDATES

    def gradient_fractions(self, x, target):
        """|dL/dh_t| over |dL/dh_T| at each step t: "h" -> (T,), and "c" for the LSTM."""
        _, tape, of_head = self.forward(x, target)
        norms = tape.gradient_norms(last=of_head.x)
        return {name: norm[0] / norms["h"][0, -1] for name, norm in norms.items()}


@dataclass
class Result:
    """The results of a cell's training."""

    losses: list  # the loss of each epoch
    seconds: float
    before: dict  # gradient_fractions
    after: dict
    error: float  # mean squared error on the test sequences


def train(cell, length, epochs, seed):
    """Train one cell -> Result. All cells get sequences of the same kind and number."""
    test = np.random.default_rng([seed, 1])  # the same for every cell
    x, marked = sequences(length, JUDGED, test)
    few, target = x[:, :BATCH], wanted(marked)
    model, losses, seconds = Adder(cell, seed), [], 0.0
    before = model.gradient_fractions(few, target[:BATCH])
    with Progress(epochs, f"training {cell.upper()}") as progress:
        for _ in range(epochs):
            start = time.perf_counter()
            losses.append(model.epoch(length))
            seconds += time.perf_counter() - start
            progress.step(f"mean squared error {losses[-1]:.4f}")
    after = model.gradient_fractions(few, target[:BATCH])
    return Result(losses, seconds, before, after, mse(model(x), marked))


def exploding(length, seed):
    """|dL/dh_t| over |dL/dh_T|, (T,), of an untrained RNN with large recurrent weights."""
    x, marked = sequences(length, BATCH, np.random.default_rng([seed, 1]))
    model = Adder("rnn", seed)
    model.layer.params["weight_hh_l0"][...] *= GAIN
    return model.gradient_fractions(x, wanted(marked))["h"]


def mse(output, marked):
    return float(np.mean(np.square(output - wanted(marked), dtype=np.float64)))


def print_gradients(results, exploded):
    print(f"\ngradient of the loss, its norm at step 1 over that of h at step {len(exploded)}")
    print(f"  {'':<18}{'before training':>18}{'after':>14}")
    for cell, result in results.items():
        for state in result.before:
            before, after = (_power(r[state][0]) for r in (result.before, result.after))
            print(f"  {cell.upper() + ', ' + state:<18}{before:>18}{after:>14}")
    print(f"  {f'RNN, h, W_hh x {GAIN}':<18}{_power(exploded[0]):>18}")


def _power(fraction):
    return f"{fraction:.1e}" if fraction else "below float32"


def print_errors(results, errors):
    """Print the table of errors, and the verdict. errors: name of a baseline -> its error."""
    print(f"\nmean squared error on {JUDGED} sequences not trained on")
    for cell, result in results.items():
        print(f"  {cell.upper():<26}{result.error:8.4f}   trained in {result.seconds:.1f} s")
    for name, error in errors.items():
        print(f"  {name:<26}{error:8.4f}")
    for cell, result in results.items():
        better = {name: result.error < error for name, error in errors.items()}
        common.verdict(cell.upper(), better)


def draw(path, results, exploded, errors):
    """Write the picture: gradients over time before and after, and the error in training."""
    from matplotlib.figure import Figure  # not pyplot, which opens windows and sets a backend

    figure = Figure(figsize=(15, 5), layout="constrained")
    before, after, learning = figure.subplots(1, 3)
    after.sharey(before)
    back = np.arange(len(exploded))  # from the last step, where all are near 1, to the first
    for cell, result in results.items():
        for axes, fractions in ((before, result.before), (after, result.after)):
            for state, fraction in fractions.items():
                label, style = f"{cell.upper()}, {state}", STYLES[state]
                axes.semilogy(back, fraction[::-1], style, color=COLOURS[cell], label=label)
        updates = UPDATES * np.arange(1, len(result.losses) + 1)
        learning.semilogy(updates, result.losses, ".-", color=COLOURS[cell], label=cell.upper())
    before.semilogy(back, exploded[::-1], ":", color=COLOURS["rnn"], label=f"RNN, h, W_hh x {GAIN}")
    for axes, when in ((before, "before"), (after, "after")):
        axes.set_title(f"gradient of the loss, {when} training")
        axes.set_xlabel("steps back from the last one")
    before.set_ylabel("its norm over that of h at the last step")
    for (name, error), style in zip(errors.items(), ("--", ":"), strict=True):
        learning.axhline(error, color="0.4", linestyle=style, linewidth=0.9, label=name)
    learning.set(title="mean squared error in training", xlabel="updates")
    for axes in (before, after, learning):
        pictures.label_ends(axes)
    figure.savefig(path, dpi=120)


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    parser.add_argument(
        "--length", type=common.at_least(2), default=LENGTH, metavar="T",
        help=f"steps of a sequence; default: {LENGTH}",
    )  # fmt: skip
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, f"of {UPDATES} updates each")
    common.add_seed(parser, "the first weights and of the sequences")
    common.add_out(parser, "gradients.png")


def run(args):
    """Run the demo -> exit code."""
    names = ", ".join(cell.upper() for cell in CELLS)
    print(f"task: of {args.length} numbers, the sum of two that are marked, one in each half")
    print(f"models: {names} of {HIDDEN} units, linear head on the last hidden state")
    print(f"computed by: {common.engine()}\n", flush=True)
    results = {cell: train(cell, args.length, args.epochs, args.seed) for cell in CELLS}
    _, marked = sequences(args.length, JUDGED, np.random.default_rng([args.seed, 1]))
    errors = {name: mse(answer, marked) for name, answer in baselines(marked).items()}
    exploded = exploding(args.length, args.seed)
    print_gradients(results, exploded)
    print_errors(results, errors)
    return pictures.write(draw, args.out, results, exploded, errors)
