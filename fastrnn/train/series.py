"""Minibatches of windows of a series, each window with the values that follow it.

A series may be a file that is larger than the memory (numpy.memmap). So nothing here copies it:
integers are checked block by block; they are cast, and a list of columns is taken, in each
minibatch.
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn import checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, SupportsIndex, TypeAlias

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.train.protocols import Floats, Seed

    Several: TypeAlias = Sequence[SupportsIndex] | NDArray[np.integer[Any]]

_BLOCK = 2**20  # integers that are checked at a time


def windows(
    series: ArrayLike,
    length: SupportsIndex,
    horizon: SupportsIndex | Several,
    batch_size: SupportsIndex,
    rng: Seed = None,
    *,
    targets: SupportsIndex | slice | Several | None = None,
    batch_first: bool = False,
) -> Iterator[tuple[Floats, Floats]]:
    """Minibatches of windows of a series and of the values that follow them, without copies.

    The windows of a minibatch are spread evenly over the series, so each minibatch covers it. The
    series may be a numpy.memmap of a file that is larger than the memory.

    Parameters
    ----------
    series : (N,) or (N, F) array
        float32 or float64; integers are cast to float32, which must hold them exactly.
    length : int
        T, the number of steps of a window.
    horizon : int, or ascending ints such as range(1, 25) or [1, 7]
        The target is the value this number of steps after a window's last one, from 1. With S ints
        the target has the values at these S steps.
    batch_size : int
        The largest number of windows in a minibatch.
    rng : None, int or numpy.random.Generator
        The generator that shuffles the minibatches, or its seed. None does not shuffle. The order
        takes at most 4 bytes for each minibatch, 8 from 2**32 on.
    targets : None, int, slice or list of ints
        The columns of series that are the K features of the target, as NumPy indexes them; None for
        all columns. The windows have all columns.
    batch_first : bool
        The batch's axis comes first, not second, as in a layer with batch_first.

    Yields
    ------
    x : (T, B, F) view of series, with batch_first (B, T, F)
        A copy if series has integers.
    target : (B, K) array; for several steps (S, B, K), with batch_first (B, S, K)
        A view too, unless `targets` is a list, the steps of `horizon` are unevenly spaced, or
        series has integers.

    Raises
    ------
    ValueError, TypeError
        At once, for arguments that do not fit and a series too short for one window.

    Examples
    --------
    Three series of 100 steps. The target is the first one, 1 and 7 steps ahead:

    >>> import numpy as np
    >>> from fastrnn import train
    >>> series = np.random.default_rng(0).standard_normal((100, 3))
    >>> minibatches = train.windows(series, 20, [1, 7], batch_size=16, targets=0, batch_first=True)
    >>> x, target = next(minibatches)
    >>> x.shape, target.shape
    ((15, 20, 3), (15, 2, 1))
    """
    series, batch_first = _table(series), checks.flag("batch_first", batch_first)
    length, (steps, last) = checks.positive("length", length), _steps(horizon, len(series))
    columns = _columns(targets, series.shape[1])
    count = len(series) - length - last + 1
    if count < 1:
        raise ValueError(
            f"series must have at least length + horizon = {length + last} values, got "
            f"{len(series)}: use a shorter window or horizon"
        )
    batches = -(-count // checks.positive("batch_size", batch_size))
    order = range(batches) if rng is None else _shuffled(batches, checks.generator("rng", rng))
    # Both arrays are (windows, features, steps). `after` has all steps up to the last one.
    before = sliding_window_view(series, length, axis=0)[:count]
    viewed = columns if isinstance(columns, slice) else slice(None)  # a list would copy all
    after = sliding_window_view(series[length:, viewed], last, axis=0)
    axes = (0, 2, 1) if batch_first else (2, 0, 1)

    def minibatch(first):
        x, target = before[first::batches], after[first::batches, :, steps]
        if columns is not viewed:
            target = target[:, columns]
        if series.dtype not in checks.DTYPES:
            x, target = x.astype(np.float32), target.astype(np.float32)
        return x.transpose(axes), target if target.ndim == 2 else target.transpose(axes)

    return map(minibatch, order)


def _shuffled(count, rng):
    """The numbers below count, as rng.permutation(count) orders them, in the fewest bytes."""
    order = np.arange(count, dtype=np.min_scalar_type(count))
    rng.shuffle(order)
    return order


def _table(series):
    """(N, F) floats, or integers that float32 holds exactly."""
    if isinstance(series, str | os.PathLike):
        raise TypeError(
            f"series must be an array, got {series!r}: open a file of arrays with "
            'numpy.load(path, mmap_mode="r")'
        )
    integers = checks.plain("series", series).dtype.kind in "biu"
    series = checks.plain("series", series) if integers else checks.as_array("series", series)
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2:
        raise ValueError(f"series must be (N,) or (N, F), got {series.shape}")
    if integers and series.itemsize > 2:  # float32 holds all integers of 16 bits
        rows = max(1, _BLOCK // max(1, series.shape[1]))
        for begin in range(0, len(series), rows):
            checks.exact("series", series[begin : begin + rows], np.dtype(np.float32))
    return series


def _steps(horizon, most):
    """(an index into the steps 1, 2, ..., the last step); at most one step is beyond `most`."""
    several = isinstance(horizon, range | list | tuple) or np.ndim(horizon) == 1
    if not several:
        step = checks.positive("horizon", horizon)
        return step - 1, step
    steps = []
    for index, step in enumerate(horizon):
        step = checks.positive(f"horizon[{index}]", step)
        if steps and step <= steps[-1]:
            raise ValueError(f"horizon must be ascending steps, got {step} after {steps[-1]}")
        steps.append(step)
        if step > most:
            break
    if not steps:
        raise ValueError("horizon must have at least one step, got none")
    paces = set(np.diff(steps).tolist()) or {1}
    if len(paces) == 1:  # a slice gives views
        return slice(steps[0] - 1, steps[-1], paces.pop()), steps[-1]
    return np.array(steps) - 1, steps[-1]


def _columns(targets, features):
    """An index into the columns from `targets`: a slice, or a list of numbers from 0."""
    every = range(features)
    if targets is None:
        return slice(None)
    if isinstance(targets, slice):
        try:
            chosen = every[targets]
        except (TypeError, ValueError) as error:  # a step of 0, or no integers
            raise type(error)(
                f"targets must be a slice of columns, got {targets}: {error}"
            ) from None
        if not chosen:
            raise ValueError(f"targets must take at least one of {features} columns, got {targets}")
        return targets
    several = isinstance(targets, range | list | tuple) or np.ndim(targets) == 1
    chosen = [_column(column, every) for column in (targets if several else [targets])]
    if not chosen:
        raise ValueError(f"targets must take at least one of {features} columns, got none")
    return chosen if several else slice(chosen[0], chosen[0] + 1)


def _column(column, every):
    if isinstance(column, bool | np.bool_):
        raise TypeError(f"targets must be columns, integers, got {column}")
    try:
        return every[operator.index(column)]
    except TypeError:
        kind = type(column).__name__
        raise TypeError(f"targets must be columns: integers or a slice, got {kind}") from None
    except IndexError:
        last = len(every) - 1
        raise ValueError(f"targets must be columns from 0 to {last}, got {column}") from None
