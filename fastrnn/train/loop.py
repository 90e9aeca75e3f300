"""A loop of epochs: `fit`.

It must not know: networks. The caller's function computes a step. A part is any object with
`params`.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._files.formats import writer_of
from fastrnn.train.buffers import listed
from fastrnn.train.epochs import Epoch, load_epochs, save_epochs
from fastrnn.train.history import History
from fastrnn.train.optimizers import clip_by_norm
from fastrnn.train.progress import Progress
from fastrnn.train.state import arrays_of, named, put_back, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike
    from typing import SupportsFloat, TypeVar

    from fastrnn.train.protocols import Floats, HasFlat, Optimizer, Parts

    Batch = TypeVar("Batch")
    Gradient = TypeVar("Gradient", bound=Floats | HasFlat)  # allows lists of one of these types


def fit(
    parts: Parts,
    step: Callable[[Batch], tuple[SupportsFloat, list[Gradient]]],
    batches: Callable[[int], Iterable[Batch]],
    *,
    optimizer: Optimizer,
    epochs: int,
    validate: Callable[[], SupportsFloat] | None = None,
    patience: int | None = None,
    clip: float | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    history: History | None = None,
    progress: bool | Progress = True,
) -> History:
    """Train for some epochs, and end with the parameters of the best one.

    Training ends after the last epoch, by `patience`, by Ctrl-C or by another error. In each case
    parts and optimizer are then as they were at the end of the best epoch: the one with the lowest
    validation, or without `validate` the last complete one. If no epoch was completed, they are as
    they were before. The same holds for the parts' random generators, which draw dropout.

    Parameters
    ----------
    parts : dict from names to parts, or list of parts
        All parts that are trained, and others that `fit` should set to their values of the best
        epoch: layers, `Dense`, `Embedding` or any object with `params`, a mapping of arrays.
    step : function of a minibatch
        It returns the minibatch's loss, a number, and a list of gradients in the order of the
        optimizer's parameters. A gradient is an array or has an array `flat`, as the results of
        `backward` do.
    batches : function of the epoch, from 1
        It returns the epoch's minibatches, as a list or a generator. It is called at the beginning
        of each epoch, so it may shuffle and may assign a learning rate.
    optimizer : SGD or Adam
        Or another object with the same `parameters`, `step`, `state` and `load`.
    epochs : int
        The number of all epochs, including those of `history`.
    validate : function without arguments, or None
        It is called after each epoch and returns a number; a lower one is better.
    patience : int or None
        Stop after this number of epochs without a new lowest validation.
    clip : float or None
        The largest common norm of a minibatch's gradients (`clip_by_norm`).
    checkpoint : path or None
        The file that is written after each epoch. It has parts, optimizer and history of the best
        epoch so far, which `load` loads, and those of the last epoch, for `resume`. If these are
        two epochs, the file is twice as large.
    resume : bool
        Go on after the last epoch that is in the checkpoint, with the parameters, optimizer,
        generators and history from there, bit for bit as if the run had not been interrupted.
        Whatever `batches` draws must follow from the epoch. Without such a file training begins, so
        a program may always say True.
    history : History or None
        The history to continue. Its lists grow after each epoch, so they are complete after Ctrl-C
        too. With resume it is None, because the checkpoint has it.
    progress : bool or fastrnn.train.progress.Progress
        True shows a bar on stderr if stderr is a terminal.

    Returns
    -------
    history : History

    Raises
    ------
    FloatingPointError
        At the first loss, gradient or validation that is not finite (validation may be inf).
    KeyboardInterrupt
        After Ctrl-C. Catch it to continue the program.
    ValueError, TypeError
        For arguments that do not fit, before anything is trained.

    Examples
    --------
    Fit a line to points, one minibatch in each epoch:

    >>> import pathlib
    >>> import numpy as np
    >>> from fastrnn import train
    >>> head = train.Dense(1, 1, dtype="float64", rng=0)
    >>> parts, adam, path = {"head": head}, train.Adam(head, 0.1), pathlib.Path("line.npz")
    >>> def step(x):
    ...     loss, dy = train.mean_squared_error(head(x), 3 * x + 1)
    ...     return loss, [head.backward(x, dy)]
    >>> def batches(epoch):
    ...     yield np.random.default_rng(epoch).uniform(-1, 1, (32, 1))
    >>> history = train.fit(parts, step, batches, optimizer=adam, epochs=20, checkpoint=path)
    >>> len(history.loss)
    20

    Go on from there, in another process too:

    >>> history = train.fit(
    ...     parts, step, batches, optimizer=adam, epochs=200, checkpoint=path, resume=True
    ... )
    >>> len(history.loss), head.flat.round(2)
    (200, array([3., 1.]))
    """
    parts = named(parts)
    _check_arguments(epochs, step=step, batches=batches, validate=validate)
    _check_keeping(parts, optimizer, checkpoint)
    _check_resuming(resume, checkpoint, history)
    last = None
    if resume and os.path.exists(checkpoint):
        best, (last, lists) = load_epochs(checks.path("checkpoint", checkpoint), parts, optimizer)
        best, history = best.state, History(**lists)
    else:
        best, history = state_of(parts, optimizer), History() if history is None else history
    _check_stopping(validate, patience, clip, history)
    if last is not None:
        put_back(last, parts, optimizer, name=str(checkpoint))
    first = len(history.loss) + 1
    try:
        with _bar(progress, epochs - first + 1) as bar:
            for epoch in range(first, epochs + 1):
                if patience is not None and epoch - 1 - history.best_epoch >= patience:
                    break
                start = time.perf_counter()
                loss = _train(step, batches(epoch), optimizer, clip, bar, epoch)
                seconds = time.perf_counter() - start
                validation, last = _validated(validate, epoch), state_of(parts, optimizer)
                history.add(loss, seconds, validation)
                if history.best_epoch == epoch:
                    best = last
                if checkpoint is not None:
                    _save(checkpoint, best, last, history)
                bar.step(_note(loss, validation))
    finally:
        try:
            put_back(best, parts, optimizer)
        except (KeyboardInterrupt, MemoryError):  # it has changed nothing, so once more
            put_back(best, parts, optimizer)
            raise
    return history


def _train(step, batches, optimizer, clip, bar, epoch):
    """Train for one epoch and return the mean loss."""
    total, count = 0.0, 0
    for count, batch in enumerate(batches, 1):
        loss, gradients = _checked(step(batch), f"minibatch {count} of epoch {epoch}")
        if clip is not None:
            clip_by_norm(gradients, clip)
        optimizer.step(gradients)
        total += loss
        bar.note(f"minibatch {count}  loss {total / count:.4g}")
    if count == 0:
        raise ValueError(
            f"batches must give at least one minibatch, got none in epoch {epoch}: a generator "
            "can be iterated over only once, so return a new one each time"
        )
    return total / count


def _checked(result, where):
    """The loss and the gradients of a step; an error unless all of them are finite."""
    if not isinstance(result, tuple) or list(map(type, result[1:])) != [list]:
        got = type(result).__name__
        if isinstance(result, tuple):
            got = f"({', '.join(type(part).__name__ for part in result)})"
        raise TypeError(
            "step must return a loss and a list of gradients, one for each parameter of the "
            f"optimizer, got {got}"
        )
    loss, gradients = float(result[0]), listed("gradients", result[1], parts=False)
    gradients = [checks.as_array(f"gradient {i}", g) for i, g in enumerate(gradients)]
    named_arrays = {f"gradient {i}": gradient for i, gradient in enumerate(gradients)}
    for name, array in {"loss": np.array(loss), **named_arrays}.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(
                f"{name} is not finite in {where}, whose loss is {loss}: try a smaller learning "
                "rate, or clip, and check that the data are finite"
            )
    return loss, gradients


def _save(path, best, last, history):
    """Write the checkpoint; best, last : the states of these epochs, or one object for both."""
    epoch = Epoch(last, asdict(history))
    if best is last:
        of_best = epoch
    else:
        lists = {name: values[: history.best_epoch] for name, values in epoch.history.items()}
        of_best = Epoch(best, lists)
    save_epochs(checks.path("checkpoint", path), of_best, epoch)


def _validated(validate, epoch):
    score = None if validate is None else float(validate())
    if score is not None and np.isnan(score):
        raise FloatingPointError(f"validate must return a number, got nan after epoch {epoch}")
    return score


def _note(loss, validation):
    return f"loss {loss:.4g}" + ("" if validation is None else f"  validation {validation:.4g}")


def _bar(progress, epochs):
    if isinstance(progress, Progress):
        return progress
    shown = checks.flag("progress", progress)
    return Progress(epochs, "training", on_terminal=shown, in_log=False)


# ---- checks before training ----------------------------------------------------------------------


def _check_arguments(epochs, **functions):
    checks.positive("epochs", epochs)
    for name, function in functions.items():
        if not callable(function) and (name, function) != ("validate", None):
            hint = ": for a list use lambda epoch: batches" if name == "batches" else ""
            raise TypeError(f"{name} must be a function, got {type(function).__name__}{hint}")


def _check_stopping(validate, patience, clip, history):
    if patience is not None:
        checks.positive("patience", patience)
        if validate is None:
            raise ValueError("patience must be None without validate, whose results it compares")
    if clip is not None:
        checks.number("clip", clip, "a norm above 0, or None", lambda norm: norm > 0)
    wanted = 0 if validate is None else len(history.loss)
    if len(history.validation) != wanted:
        raise ValueError(
            f"history must have {wanted} values of validation for {len(history.loss)} epochs, got "
            f"{len(history.validation)}: use validate in all epochs or in none"
        )


def _check_resuming(resume, checkpoint, history):
    if not checks.flag("resume", resume):
        return
    if checkpoint is None:
        raise ValueError("resume must be False without checkpoint, the file that it goes on from")
    if history is not None:
        raise ValueError("history must be None with resume: it is that of the checkpoint")


def _check_keeping(parts, optimizer, checkpoint):
    arrays = arrays_of(parts).values()
    for index, parameter in enumerate(optimizer.parameters):
        shared = (np.may_share_memory(parameter, array) for array in arrays)
        if parameter.size and not any(shared):  # an array without elements shares no memory
            raise ValueError(
                f"parts must have all that the optimizer changes, got {', '.join(parts)}: its "
                f"parameter {index}, of shape {parameter.shape}, is in none of them"
            )
    if checkpoint is not None:
        path = checks.path("checkpoint", checkpoint)
        writer_of(path)
        if not path.parent.is_dir():
            raise ValueError(f"checkpoint must be in an existing folder, got {checkpoint}")
