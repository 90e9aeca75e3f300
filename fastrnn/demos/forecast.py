"""Forecast the CO2 in the air half a year ahead, from a year and a half of weekly measurements.

A recurrent layer reads the window, a linear read-out turns its last hidden state into the forecast,
Adam trains both (`fastrnn.train`): the rest is NumPy in this file.

Nothing leaks from the future. A forecast is issued only in a week that was measured, so that no
filled gap before it knows what comes after (`fastrnn.data.fill_gaps`). Each of three periods owns
the forecasts that are both issued and judged inside it: weights and scale come from the first, the
choice among epochs from the second, the reported errors from the third.
"""

import copy
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import fastrnn
from fastrnn import data, pictures, runtime
from fastrnn.demos import common
from fastrnn.demos.common import LAYERS
from fastrnn.progress import Progress
from fastrnn.train import Adam, History, fit

AHEAD = 26  # weeks: half a cycle, where today's value is the worst guess
WINDOW = 78  # weeks that the network sees: one cycle and the half that says how it has drifted
YEAR = 52
HIDDEN = 32
BATCH = 32
EPOCHS, QUICK_EPOCHS = 40, 10
COMPARED = 3  # epochs that the NumPy path trains too
LEARNING_RATE = 3e-3
LARGEST_NORM = 0.25  # of a minibatch's gradient; with 1.0 the plain RNN's loss jumps up at times
AVERAGED = 100  # updates, about: the weights that forecast are a running mean over so many


class Task:
    """A weekly series as windows and the values to forecast from them.

    Parameters
    ----------
    ppm : 1-D array
        NaN where nothing was measured.

    Attributes
    ----------
    series : (weeks,) float32 array
        Gaps filled.
    windows : (weeks - WINDOW + 1, WINDOW) array
        Row i holds weeks i ... i + WINDOW - 1. A view of `series`: it takes no memory of its own.
    train, validation, test : arrays of int
        Weeks in which forecasts are issued.
    scale : float32
        Of the windows about their means, in ppm; from the training windows alone.
    """

    def __init__(self, ppm):
        self.measured = ~np.isnan(ppm)
        self.series = data.fill_gaps(ppm).astype(np.float32)
        self.windows = sliding_window_view(self.series, WINDOW)
        bounds = (0, len(ppm) * 65 // 100, len(ppm) * 80 // 100, len(ppm))
        periods = zip(bounds, bounds[1:], strict=False)
        self.train, self.validation, self.test = (self._issued(*p) for p in periods)
        self.scale = np.std(self._window(self.train) - self._level(self.train)[:, None])

    def _issued(self, start, stop):
        weeks = np.arange(max(start, WINDOW - 1), stop - AHEAD)
        return weeks[self.measured[weeks] & self.measured[weeks + AHEAD]]

    def _window(self, weeks):
        return self.windows[weeks - WINDOW + 1]

    def _level(self, weeks):
        return self._window(weeks).mean(axis=1)

    def truth(self, weeks):
        """What was measured AHEAD of these weeks, in ppm."""
        return self.series[weeks + AHEAD]

    def inputs(self, weeks):
        """(WINDOW, B, 1): each window about its own mean, so that the rise over decades is gone."""
        scaled = (self._window(weeks) - self._level(weeks)[:, None]) / self.scale
        return scaled.T[:, :, None]  # a view again: the kernels take any strides

    def targets(self, weeks):
        """(B, 1): the truth on the inputs' scale."""
        return (self.truth(weeks) - self._level(weeks))[:, None] / self.scale

    def to_ppm(self, output, weeks):
        """The inverse of `targets`."""
        return output[:, 0] * self.scale + self._level(weeks)

    def baselines(self, weeks):
        """Forecasts that need no training: name -> (B,) array in ppm. The last is the hardest."""
        now, year_ago = self.series[weeks], self.series[weeks - YEAR]
        seasonal = self.series[weeks + AHEAD - YEAR]
        return {
            "persistence": now,
            "seasonal naive": seasonal,
            "seasonal naive + drift": seasonal + now - year_ago,
        }


class Forecaster:
    """A recurrent layer and a linear read-out of its last hidden state: y = h w + b."""

    def __init__(self, cell, rng):
        self.layer = LAYERS[cell](input_size=1, hidden_size=HIDDEN, rng=rng)
        self.w = np.zeros((HIDDEN, 1), np.float32)
        self.b = np.zeros(1, np.float32)
        self.parameters = [self.layer.flat, self.w, self.b]
        self.params = {"w": self.w, "b": self.b}  # the layer has its own

    def predict(self, x):
        """(T, B, 1) -> (B, 1)."""
        y, _ = self.layer(x)
        return y[-1] @ self.w + self.b

    def loss_and_gradients(self, x, target):
        """Mean squared error, and its gradients in the order of `parameters`."""
        y, _, tape = self.layer.forward(x)
        h = y[-1]  # the last step's output is the final hidden state
        error = h @ self.w + self.b - target
        d_output = (2 / len(error)) * error
        dh = (d_output @ self.w.T)[None]  # (1, B, H): states have an axis for the layers
        dstate = (dh, None) if isinstance(self.layer, fastrnn.LSTM) else dh
        grads = tape.backward(None, dstate, need_x=False)
        return np.mean(error**2), [grads.flat, h.T @ d_output, d_output.sum(axis=0)]


class AveragingAdam(Adam):
    """Adam that leads a running mean of its parameters beside them.

    The mean (Polyak and Juditsky, 1992) is calmer than the weights of any one update, and so is the
    choice among epochs by their validation error.
    """

    def __init__(self, parameters, means, learning_rate):
        super().__init__(parameters, learning_rate)
        self.means = means

    def step(self, gradients):
        super().step(gradients)
        # Faster at first, so that the mean forgets the untrained weights.
        pace = 1 / min(AVERAGED, self.updates / 10 + 1)
        for mean, p in zip(self.means, self.parameters, strict=True):
            mean += pace * (p - mean)


class Result(NamedTuple):
    """What a training run leaves: what it says of its epochs, and the forecast in ppm."""

    history: History
    forecast: np.ndarray


def train(cell, task, epochs, seed, progress=False):
    """Train, choose an epoch on the validation period, forecast the test period -> Result."""
    rng = np.random.default_rng(seed)
    model = Forecaster(cell, rng)
    mean = copy.deepcopy(model)  # this one forecasts

    def step(weeks):
        return model.loss_and_gradients(task.inputs(weeks), task.targets(weeks))

    def batches(_):
        order = rng.permutation(task.train)
        return np.split(order, range(BATCH, len(order), BATCH))

    def forecast(weeks):
        return task.to_ppm(mean.predict(task.inputs(weeks)), weeks)

    history = fit(
        [model.layer, model, mean.layer, mean], step, batches, epochs=epochs,
        optimizer=AveragingAdam(model.parameters, mean.parameters, LEARNING_RATE),
        validate=lambda: rmse(forecast(task.validation) - task.truth(task.validation)),
        clip=LARGEST_NORM, progress=progress,
    )  # fmt: skip
    return Result(history, forecast(task.test))


def rmse(error):
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


def mae(error):
    return float(np.mean(np.abs(error), dtype=np.float64))


def print_task(task, dates, cell):
    missing = np.count_nonzero(~task.measured)
    print(f"weekly CO2 at Mauna Loa, {dates[0]} to {dates[-1]}, {missing} of {len(dates)} missing")
    print(f"task: the value {AHEAD} weeks ahead, from the last {WINDOW} weeks")
    print(f"model: {cell.upper()} of {HIDDEN} units, linear read-out")
    for name in ("train", "validation", "test"):
        weeks = getattr(task, name)
        first, last = dates[weeks[0]], dates[weeks[-1] + AHEAD]
        print(f"  {name:<10} {len(weeks):5} forecasts, issued and judged {first} to {last}")


def print_errors(task, name, forecast):
    """The table of errors on the test period, and what it says."""
    truth = task.truth(task.test)
    errors = {name: forecast - truth}
    errors |= {other: f - truth for other, f in task.baselines(task.test).items()}
    print("\nerror on the test period, ppm      RMSE     MAE")
    for label, error in errors.items():
        print(f"  {label:<28} {rmse(error):8.3f}{mae(error):8.3f}")
    better = {
        other: rmse(errors[name]) < rmse(error) and mae(errors[name]) < mae(error)
        for other, error in errors.items()
        if other != name
    }
    common.verdict(name, better)


def print_times(args, task, history):
    """Seconds per epoch, beside those of the NumPy path where there are both to compare."""
    if not runtime.uses_core():
        why = "was chosen" if runtime.core else "is all there is: this build has no C kernels"
        seconds = min(history.seconds)
        print(f"\ntime per epoch: {seconds:.3f} s on the NumPy path, which {why}")
        return
    epochs = min(COMPARED, args.epochs)
    with fastrnn.backend("reference"):
        other = train(args.cell, task, epochs, args.seed).history
    ours, theirs = min(history.seconds[:epochs]), min(other.seconds)
    label = common.engine()
    print(f"\ntime per epoch (the fastest of {epochs}), and the training loss of the first")
    print(f"  {label:<28} {ours:8.3f} s    {history.loss[0]:.5f}")
    print(f"  {'NumPy path':<28} {theirs:8.3f} s    {other.loss[0]:.5f}")
    print(f"the NumPy path takes {theirs / ours:.1f} times as long")
    print("(if other work keeps the cores busy, OPENBLAS_NUM_THREADS=1 makes NumPy's path faster)")


def draw(path, task, dates, name, forecast):
    """Write the picture of the test period; needs matplotlib."""
    from matplotlib.figure import Figure  # not pyplot: no window, and no backend changed for others

    truth, when = task.truth(task.test), dates[task.test + AHEAD]
    figure = Figure(figsize=(10, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(when, truth, ".", color="black", markersize=3, label="measured")
    above.plot(when, forecast, color="tab:red", label=f"{name}, issued {AHEAD} weeks before")
    above.set_ylabel("CO2, ppm")
    above.set_title(f"CO2 at Mauna Loa: forecasts {AHEAD} weeks ahead on years not trained on")
    above.legend()
    colours = ("tab:blue", "tab:green", "tab:orange")
    for (label, other), colour in zip(task.baselines(task.test).items(), colours, strict=True):
        text = f"{label}, RMSE {rmse(other - truth):.2f}"
        below.plot(when, other - truth, color=colour, linewidth=0.9, label=text)
    text = f"{name}, RMSE {rmse(forecast - truth):.2f}"
    below.plot(when, forecast - truth, color="tab:red", label=text)
    below.axhline(0, color="black", linewidth=0.6)
    below.set_ylabel("forecast - measured, ppm")
    handles = below.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)


def add_arguments(parser):
    """Declare the demo's options on an argparse parser."""
    common.add_cell(parser, "gru")
    common.add_epochs(parser, EPOCHS, QUICK_EPOCHS, "over the training windows")
    common.add_seed(parser, "the first weights and of the order of the windows")
    common.add_out(parser, "forecast.png")


def run(args):
    """Run the demo -> exit code."""
    dates, ppm = data.co2(fill=False)
    task = Task(ppm)
    name = args.cell.upper()
    print_task(task, dates, args.cell)
    print(flush=True)  # stdout before the bar on stderr, also where both go to one file
    bar = Progress(args.epochs, f"training {name}, validation in ppm")
    history, forecast = train(args.cell, task, args.epochs, args.seed, bar)
    first, last = history.loss[0], history.loss[-1]
    print(f"training loss: {first:.4f} in the first epoch, {last:.4f} in the last")
    print(f"chosen on the validation period: epoch {history.best_epoch} of {args.epochs}")
    print_errors(task, name, forecast)
    print_times(args, task, history)
    return pictures.write(draw, args.out, task, dates, name, forecast)
