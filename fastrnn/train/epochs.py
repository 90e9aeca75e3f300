"""The checkpoint of `fit`: the best epoch, and beside it the last one, if that is another.

The best epoch is as `save` writes it, so `load` loads it. The last one has the same names behind
`last_epoch.`; only a `fit` that resumes reads it. Both are in one file, which a reader finds
complete, old or new.

It must not know: how an epoch is trained.
"""

from typing import NamedTuple

from fastrnn._files.formats import writer_of
from fastrnn._files.sources import replace
from fastrnn.train.checkpoints import contents_of, read
from fastrnn.train.state import LAST, State

_PREFIX = f"{LAST}."
_MOST = 2**28  # bytes of the history's JSON, by the most memory that reading it can take


class Epoch(NamedTuple):
    """An epoch of a checkpoint: what training goes on from, and the history up to it, a dict."""

    state: State
    history: dict


def save_epochs(path, best, last):
    """Write the best and the last `Epoch`; if they are the same object, only one."""
    write = writer_of(path)
    arrays, texts = contents_of(best.state, {"history": best.history})
    if last is not best:
        others = contents_of(last.state, {"history": last.history})
        for into, more in zip((arrays, texts), others, strict=True):
            into |= {_PREFIX + name: value for name, value in more.items()}
    replace(path, lambda file: write(file, arrays, texts))


def load_epochs(path, parts, optimizer):
    """The best and the last `Epoch` of a file, checked; parts and optimizer do not change.

    A file of `save` with a history has one epoch, which is both.

    Raises
    ------
    ValueError, TypeError, OSError
        As `load`; ValueError for a file without a history too.
    """
    state, extra, has_last = read(path, parts, optimizer, _MOST)
    best = last = Epoch(state, _history_of(path, extra))
    if has_last:
        state, extra, _ = read(path, parts, optimizer, _MOST, within=_PREFIX)
        last = Epoch(state, _history_of(path, extra))
    return best, last


def _history_of(path, extra):
    """The history of a file, of lists of numbers."""
    history = extra.get("history")
    lists = ("loss", "validation", "seconds")
    if not isinstance(history, dict) or set(history) != set(lists):
        raise ValueError(
            f"checkpoint {path} must have a history of {', '.join(lists)}, as fit writes it: for "
            "a file of train.save use train.load, and fit without resume"
        )
    for name in lists:
        numbers = history[name]
        if not isinstance(numbers, list) or not all(type(n) in (int, float) for n in numbers):
            raise ValueError(f"{name} of the history of {path} must be a list of numbers")
    if len(history["loss"]) != len(history["seconds"]):
        raise ValueError(f"the history of {path} must have one loss and one time of each epoch")
    return history
