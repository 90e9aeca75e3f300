"""fit: its epochs, when it stops, and the state of parts after any end."""

import io
import itertools
import os
import pickle
import signal
import sys
from dataclasses import asdict

import numpy as np
import pytest
from training import draw

import fastrnn
from fastrnn import train
from fastrnn.train.progress import Progress

pytestmark = pytest.mark.any_isa


class Problem:
    """A Dense to be trained, the functions for it, and its state after each epoch."""

    def __init__(self, scores=()):
        self.dense = train.Dense(3, 2, dtype="float64", rng=0)
        self.parts = {"dense": self.dense}
        self.adam = train.Adam([self.dense.flat], 0.05)
        self.x, self.scores = draw(24, 3), list(scores)
        self.epochs = [self.now()]

    def now(self):
        return pickle.dumps((self.dense.flat, self.adam.state()))

    def step(self, rows):
        x = self.x[rows]
        loss, dy = train.mean_squared_error(self.dense(x), 2 * x[:, :2] - 1)
        return loss, [self.dense.backward(x, dy).flat]

    def batches(self, epoch):
        self.epochs.append(None)
        return np.random.default_rng(epoch).permutation(24).reshape(4, 6)

    def validate(self):
        """The next score; it records the state at the end of the epoch."""
        self.epochs[-1] = self.now()
        return self.scores[len(self.epochs) - 2]

    def fit(self, epochs, **options):
        options = {"optimizer": self.adam, "epochs": epochs, **options}
        step, batches = options.pop("step", self.step), options.pop("batches", self.batches)
        return train.fit(options.pop("parts", self.parts), step, batches, **options)


# ---- epochs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.5])
def test_an_epoch_is_the_loop_that_one_would_write(clip):
    ours, other = Problem(), Problem()
    history = ours.fit(3, clip=clip)
    losses = []
    for epoch in (1, 2, 3):
        losses.append([])
        for batch in other.batches(epoch):
            loss, gradients = other.step(batch)
            if clip is not None:
                assert train.clip_by_norm(gradients, clip) > clip  # it has an effect
            other.adam.step(gradients)
            losses[-1].append(loss)
    assert ours.now() == other.now()
    np.testing.assert_allclose(history.loss, np.mean(losses, axis=1), rtol=1e-14)
    assert history.validation == [] and len(history.seconds) == 3 and min(history.seconds) > 0
    assert history.best_epoch == 3


def test_a_learning_rate_may_change_as_an_epoch_begins():
    rates, problem = [], Problem()

    def batches(epoch):
        problem.adam.learning_rate = 0.1 / epoch
        return problem.batches(epoch)

    def step(batch):
        rates.append(problem.adam.learning_rate)
        return problem.step(batch)

    problem.fit(2, batches=batches, step=step)
    assert rates == 4 * [0.1] + 4 * [0.05]


def test_it_trains_a_network_of_many_parts():
    parts = {
        "table": train.Embedding(5, 4, rng=0),
        "layer": fastrnn.GRU(4, 8, rng=1),
        "head": train.Dense(8, 5, rng=2),
    }

    def predict(ids):
        _, h = parts["layer"](parts["table"](ids))
        return parts["head"](h[0])

    def step(ids):  # says the first of the ids at the end
        _, h, tape = parts["layer"].forward(parts["table"](ids))
        loss, d_logits = train.cross_entropy(parts["head"](h[0]), ids[0])
        of_head = parts["head"].backward(h[0], d_logits)
        of_layer = tape.backward(None, of_head.x[None])
        return loss, [parts["table"].backward(ids, of_layer.x).flat, of_layer.flat, of_head.flat]

    def batches(epoch):
        rng = np.random.default_rng(epoch)
        return (rng.integers(0, 5, (6, 16)) for _ in range(20))

    held_out = np.random.default_rng(0).integers(0, 5, (6, 200))
    adam = train.Adam([part.flat for part in parts.values()], 0.02)
    history = train.fit(
        parts, step, batches, optimizer=adam, epochs=15, clip=1.0, patience=5,
        validate=lambda: train.cross_entropy(predict(held_out), held_out[0])[0],
    )  # fmt: skip
    assert history.loss[0] > 1
    assert (predict(held_out).argmax(axis=-1) == held_out[0]).mean() > 0.95


def test_gradients_may_be_what_backward_returns():
    ours, other = Problem(), Problem()

    def step(rows):
        x = ours.x[rows]
        loss, dy = train.mean_squared_error(ours.dense(x), 2 * x[:, :2] - 1)
        return loss, [ours.dense.backward(x, dy)]  # a flat in it, and an x that is not meant

    ours.fit(2, step=step, clip=0.5)
    other.fit(2, clip=0.5)
    assert ours.now() == other.now()


def test_large_gradients_are_clipped_and_not_lost():
    dense, x = train.Dense(3, 2, rng=0), draw(6, 3, dtype="float32")
    before = dense.flat.copy()
    train.fit(
        [dense], lambda _: (1.0, [dense.backward(x, np.full((6, 2), 1e25, "float32")).flat]),
        lambda _: [0], optimizer=train.SGD(dense, 1.0), epochs=1, clip=0.5,
    )  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(dense.flat - before), 0.5, rtol=1e-6)


def test_a_parameter_without_elements_is_in_any_parts():
    problem = Problem()
    problem.adam = train.Adam([problem.dense.flat, np.zeros(0)], 0.05)
    history = problem.fit(1, step=lambda b: (0.5, [np.ones(8), np.zeros(0)]))
    assert history.loss == [0.5]


# ---- the best epoch, and when it stops -----------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([3, 2, 1], None, 3, 3),
        ([1, 2, 3], None, 3, 1),
        ([3, 1, 2, 1, 2], None, 5, 2),  # the first of equal ones
        ([float("inf"), float("inf")], None, 2, 1),
        ([3, 2, 2, 1, 4, 5, 0], 2, 6, 4),
        ([3, 2, 2, 1, 4, 5, 0], 3, 7, 7),
        ([1, 1, 0], 1, 2, 1),
    ],
)
def test_it_leaves_the_best_epoch_and_stops_after_so_many_that_were_not(
    scores, patience, epochs, best
):
    problem = Problem(scores)
    history = problem.fit(len(scores), validate=problem.validate, patience=patience)
    assert history.validation == scores[:epochs] and history.best_epoch == best
    assert len(history.loss) == len(history.seconds) == epochs
    assert problem.now() == problem.epochs[best]


def test_what_is_kept_of_the_best_epoch_may_be_more_than_what_trains():
    problem, beside = Problem([2, 1, 3]), train.Dense(1, 1)

    def validate():
        score = problem.validate()
        beside.flat[...] = score
        return score

    parts = {**problem.parts, "beside": beside}
    problem.fit(3, parts=parts, validate=validate)
    assert (beside.flat == 1).all()


# ---- ends that nobody wants ----------------------------------------------------------------------


def failing(problem, where, fail, epoch=3):
    """The problem's functions; one fails in that epoch, step in its third minibatch."""
    functions = {"step": problem.step, "validate": problem.validate, "batches": problem.batches}
    calls, last = itertools.count(1), 4 * (epoch - 1) + 3 if where == "step" else epoch

    def instead(*given):
        result = functions[where](*given)
        return fail(result) if next(calls) == last else result

    return {**functions, where: instead}


def interrupt(_):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it by default
    signal.raise_signal(signal.SIGINT)


def broken(_):
    raise ZeroDivisionError


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_the_best_epoch_is_put_back_is_raised_after_that(error, monkeypatch):
    problem = Problem([1, 0, 2, 3])
    load, loads = problem.adam.load, []

    def interrupted(state):
        loads.append(state)
        if len(loads) == 1:
            raise error
        load(state)

    monkeypatch.setitem(vars(problem.adam), "load", interrupted)
    with pytest.raises(error):
        problem.fit(4, validate=problem.validate)
    assert len(problem.epochs) == 5 and problem.now() == problem.epochs[2]


@pytest.mark.parametrize(
    ("fail", "error"), [(interrupt, KeyboardInterrupt), (broken, ZeroDivisionError)]
)
@pytest.mark.parametrize("where", ["step", "batches", "validate"])
@pytest.mark.parametrize(("scores", "best"), [([2, 1, 0], 2), ([1, 2, 0], 1)], ids=str)
def test_after_a_failure_all_is_as_after_the_best_epoch(fail, error, where, scores, best):
    problem, history = Problem(scores), train.History()
    with pytest.raises(error):
        problem.fit(5, history=history, **failing(problem, where, fail))
    assert history.validation == scores[:2] and history.best_epoch == best
    assert len(history.loss) == len(history.seconds) == 2
    assert problem.now() == problem.epochs[best]


@pytest.mark.parametrize("where", ["step", "batches"])
def test_without_validation_the_best_epoch_is_the_last_whole_one(where):
    problem, other, history = Problem(), Problem(), train.History()
    with pytest.raises(KeyboardInterrupt):
        problem.fit(5, history=history, **{**failing(problem, where, interrupt), "validate": None})
    other.fit(2)
    assert history.best_epoch == 2 and problem.now() == other.now()


@pytest.mark.parametrize(
    ("where", "result", "message"),
    [
        ("step", lambda r: (np.nan, r[1]), "loss is not finite in minibatch 3 of epoch 3"),
        ("step", lambda r: (np.inf, r[1]), "whose loss is inf"),
        ("step", lambda r: (r[0], [r[1][0] * np.nan]), "gradient 0 is not finite in minibatch 3"),
        ("validate", lambda _: np.nan, "validate must return a number, got nan after epoch 3"),
    ],
    ids=["nan", "inf", "gradient", "validation"],
)
def test_what_is_not_finite_ends_it_with_the_best_epoch(where, result, message):
    problem, history = Problem([2, 1, 0]), train.History()
    with pytest.raises(FloatingPointError, match=message):
        problem.fit(5, history=history, clip=1.0, **failing(problem, where, result))
    assert history.validation == [2, 1] and problem.now() == problem.epochs[2]


@pytest.mark.parametrize(("fail", "error"), [
    (interrupt, KeyboardInterrupt), (lambda r: (np.nan, r[1]), FloatingPointError)
])  # fmt: skip
def test_before_the_first_epoch_has_ended_all_is_as_it_came(fail, error):
    problem = Problem()
    with pytest.raises(error):
        problem.fit(5, **{**failing(problem, "step", fail, epoch=1), "validate": None})
    assert problem.adam.updates == 0 and problem.now() == problem.epochs[0]


# ---- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_is_what_it_would_leave(tmp_path):
    path, problem, loaded = tmp_path / "best.npz", Problem([3, 1, 2]), Problem()
    history = problem.fit(3, validate=problem.validate, checkpoint=path)
    extra = train.load(path, loaded.parts, loaded.adam)
    assert loaded.now() == problem.now()
    saved = train.History(**extra["history"])
    assert saved.loss == history.loss[:2] and saved.best_epoch == history.best_epoch == 2


@pytest.mark.parametrize("scores", [None, [4, 3, 2, 1], [3, 2, 4, 1]])
def test_it_goes_on_from_a_checkpoint_as_if_never_interrupted(scores, tmp_path):
    def train_until(problem, epochs, **options):
        options["validate"] = problem.validate if scores else None
        return problem.fit(epochs, checkpoint=tmp_path / "run.npz", **options)

    through = Problem(scores or [])
    wanted = train_until(through, 4)

    broken_off = Problem(scores or [])
    train_until(broken_off, 2)
    fresh = Problem(scores or [])
    fresh.epochs = broken_off.epochs[:3]
    history = train.History(**train.load(tmp_path / "run.npz", fresh.parts, fresh.adam)["history"])
    assert train_until(fresh, 4, history=history) is history
    assert (history.loss, history.validation) == (wanted.loss, wanted.validation)
    assert fresh.now() == through.now()


def test_a_worse_epoch_does_not_overwrite_what_a_run_before_has_reached(tmp_path):
    path, problem = tmp_path / "best.npz", Problem([2, 1, 5, 4])
    history = problem.fit(2, validate=problem.validate, checkpoint=path)
    problem.fit(4, validate=problem.validate, checkpoint=path, history=history)
    assert history.validation == [2, 1, 5, 4] and problem.now() == problem.epochs[2]
    loaded = Problem()
    saved = train.load(path, loaded.parts, loaded.adam)["history"]
    assert saved["validation"] == [2, 1] and loaded.now() == problem.epochs[2]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("scores", [None, [4, 3, 2, 1, 0], [3, 2, 4, 1, 5], [1, 2, 3, 4, 0]])
def test_a_run_that_is_killed_goes_on_after_its_last_epoch(scores, patience, suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path, left = tmp_path / f"run{suffix}", {}

    def train_on(problem):
        def batches(epoch):
            if path.exists():  # a run that is killed in this epoch leaves this file
                left.setdefault(epoch - 1, path.read_bytes())
            return problem.batches(epoch)

        options = {"validate": problem.validate, "patience": patience} if scores else {}
        return problem.fit(5, checkpoint=path, resume=True, batches=batches, **options)

    through = Problem(scores or [])
    wanted = train_on(through)
    done = len(wanted.loss)
    left[done] = path.read_bytes()
    assert done == (3 if patience and scores == [1, 2, 3, 4, 0] else 5)
    for epoch in range(1, done + 1):
        path.write_bytes(left[epoch])
        other = Problem()
        train.load(path, other.parts, other.adam)  # the best epoch until then
        best = epoch if scores is None else 1 + int(np.argmin(scores[:epoch]))
        if scores:
            assert other.now() == through.epochs[best]
        fresh = Problem(scores or [])
        fresh.epochs = through.epochs[: epoch + 1]
        history = train_on(fresh)
        assert (history.loss, history.validation) == (wanted.loss, wanted.validation)
        assert fresh.now() == through.now()
        assert len(fresh.epochs) == done + 1  # no epoch is trained twice


def test_a_file_whose_last_epoch_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    path, problem = tmp_path / "run.npz", Problem([1, 2])
    problem.fit(2, validate=problem.validate, checkpoint=path)
    good = dict(np.load(path))
    history = '{"history": {"loss": [1], "validation": ["1"], "seconds": [1]}}'
    for changes, message in (
        ({"last_epoch.dense.bias": np.zeros(3)}, "dense.bias of .* must be"),
        ({"last_epoch.optimizer.mean.0": np.zeros(8, "f4")}, "optimizer.mean.0 of .* float64"),
        ({"last_epoch.w": np.zeros(3)}, "unknown are w"),
        ({"last_epoch.extra": np.array("{}")}, "must have a history of loss, validation, seconds"),
        ({"last_epoch.extra": np.array(history)}, "validation of the history of .* list of numb"),
    ):
        np.savez(path, **good | changes)
        other = Problem()
        with pytest.raises((ValueError, TypeError), match=message):
            other.fit(3, validate=float, checkpoint=path, resume=True)
        assert other.now() == other.epochs[0]
    np.savez(path, **good)
    with pytest.raises(ValueError, match="history must have 0 values of validation for 2 epochs"):
        other.fit(3, checkpoint=path, resume=True)
    assert other.now() == other.epochs[0]


def test_a_file_of_save_is_resumed_if_it_has_a_history(tmp_path):
    path, problem, other = tmp_path / "run.npz", Problem(), Problem()
    history = problem.fit(2)
    train.save(path, problem.parts, problem.adam, history=asdict(history))
    assert other.fit(4, checkpoint=path, resume=True).loss == problem.fit(4, history=history).loss
    train.save(path, problem.parts, problem.adam)
    with pytest.raises(ValueError, match="must have a history .* for a file of train.save use"):
        other.fit(5, checkpoint=path, resume=True)


def test_a_history_that_has_all_epochs_trains_nothing():
    problem = Problem()
    history = problem.fit(2)
    before = problem.now()
    assert len(problem.fit(2, history=history).loss) == 2 and problem.now() == before


# ---- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "progress"), [(io.StringIO, True), (Terminal, False)])
def test_it_says_nothing_to_a_log_or_where_not_wanted(stream, progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := stream())
    Problem().fit(2, progress=progress)
    assert stream.getvalue() == ""


def test_it_has_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    problem = Problem([0.25, 0.5])
    history = problem.fit(2, validate=problem.validate)
    assert f"2/2  loss {history.loss[-1]:.4g}  validation 0.5" in stream.getvalue()


def test_a_progress_of_ones_own_is_stepped(capsys):
    Problem().fit(2, progress=Progress(2, "mine"))
    assert [line[:8] for line in capsys.readouterr().err.splitlines()] == ["mine 1/2", "mine 2/2"]


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"epochs": 2.0}, TypeError, "epochs must be an integer"),
        ({"patience": 0, "validate": float}, ValueError, "patience must be"),
        ({"patience": 2}, ValueError, "patience must be None without validate"),
        ({"clip": 0}, ValueError, "clip must be a norm above 0"),
        ({"clip": float("nan")}, ValueError, "clip must be a norm above 0"),
        ({"clip": "1"}, TypeError, "clip must be a norm above 0, or None, got str"),
        ({"batches": [1, 2]}, TypeError, "batches must be a function, got list: .*lambda epoch"),
        ({"validate": 3.0}, TypeError, "validate must be a function, got float"),
        ({"step": None}, TypeError, "step must be a function, got NoneType"),
        ({"progress": "yes"}, TypeError, "progress must be True or False"),
        ({"resume": True}, ValueError, "resume must be False without checkpoint"),
        ({"resume": 1}, TypeError, "resume must be True or False"),
        ({"resume": True, "checkpoint": "x.npz", "history": train.History()}, ValueError,
         "history must be None with resume"),
        ({"parts": {"last_epoch": train.Dense(3, 2)}}, ValueError, "parts must have names other"),
        ({"checkpoint": "x.pt"}, ValueError, "path must end in .npz or .safetensors"),
        ({"checkpoint": "no/folder/x.npz"}, ValueError, "checkpoint must be in an existing folder"),
        ({"parts": [train.Dense(3, 2)]}, ValueError, "parts must have all .* parameter 0, of sha"),
        ({"parts": train.Dense(3, 2)}, TypeError, "parts must be a dict"),
        ({"history": train.History([1.0], [1.0], [1.0])}, ValueError, "history must have 0 values"),
        ({"history": train.History([1.0], [], [1.0]), "validate": float}, ValueError,
         "history must have 1 values of validation for 1 epochs, got 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_trained(options, error, message):
    problem = Problem()
    with pytest.raises(error, match=message):
        problem.fit(**{"epochs": 2, **options})
    assert problem.now() == problem.epochs[0] and len(problem.epochs) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": lambda _: 0.5}, TypeError, "step must return a loss and a list .* got float"),
        ({"step": lambda _: (0.5, draw(8))}, TypeError, "step must return a loss and a list"),
        ({"step": lambda _: (0.5, [None])}, TypeError, "gradient 0 must be an array"),
        ({"step": lambda _: (0.5, [draw(7)])}, ValueError, "gradients must be like the parameters"),
        ({"step": lambda _: (0.5, [draw(8, dtype="f4")])}, TypeError, "gradients.0. must be flo"),
        ({"batches": lambda _: []}, ValueError, "at least one minibatch, got none in epoch 1"),
    ],
)  # fmt: skip
def test_what_comes_back_and_does_not_fit_changes_nothing(options, error, message):
    problem = Problem()
    with pytest.raises(error, match=message):
        problem.fit(2, **options)
    assert problem.now() == problem.epochs[0]


def test_without_safetensors_it_says_so_before_it_trains(tmp_path, monkeypatch):
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    problem = Problem()
    with pytest.raises(ModuleNotFoundError, match="pip install safetensors"):
        problem.fit(2, checkpoint=tmp_path / "x.safetensors")
    assert len(problem.epochs) == 1 and os.listdir(tmp_path) == []
