"""The state of a gated cell as a sum of terms: what each step wrote, and what is left of it.

It must not know: pictures.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.plot import _pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from fastrnn._typing import Bools, Floats

# The names of a cell's gates -> the state, the factor of the state before, what a step writes.
_CELLS = {
    ("f", "g", "i"): ("c", lambda g: g["f"], lambda g: g["i"] * g["g"]),
    ("n", "r", "z"): ("h", lambda g: g["z"], lambda g: (1 - g["z"]) * g["n"]),
    ("n", "z"): ("h", lambda g: 1 - g["z"], lambda g: g["z"] * g["n"]),
    ("f", "i", "n"): ("h", lambda g: g["f"], lambda g: g["i"] * g["n"]),
}

# Options with which the state is not the sum, and the reason.
_REFUSED = {
    "cell_clip": "it bounds c after each step, so c is no longer f c + i g",
    "zoneout": "it keeps some elements of the state in place of those of the step",
}

MOST = 4096  # steps; `sizes` then has 134 MB


@dataclass(frozen=True, eq=False)
class Memory:
    """A state as the sum of what each step wrote: the result of `memory_of`. n steps, H units.

    The state after step t, s_t, is exactly the sum of n + 1 terms. Term s is what step s wrote,
    times the factors by which the steps after it kept the state. The last term, of index -1, is
    what is left of the initial state.

    Attributes
    ----------
    name : str
        "c" for the LSTM, "h" for the other cells.
    written : (n, H) array
        What each step wrote: i g of the LSTM, (1 - z) n of the GRU, z n of the MinGRU, i n of the
        MinLSTM. 0 where the mask is False.
    kept : (n, H) array
        The factor of the state before the step: f of LSTM and MinLSTM, z of the GRU, 1 - z of the
        MinGRU. 1 where the mask is False.
    initial : (H,) array
        The state before the first step.
    reset : (n,) booleans
        True where the state was reset before that step. All earlier terms are 0 from there on.
    reset_to_initial : bool
        A reset gives the initial state, and not zero.
    reverse : bool
        True if the pass took the steps from the last to the first.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> from fastrnn import plot
    >>> layer = fastrnn.LSTM(3, 5, rng=0)
    >>> y, (h, c), gates = layer(np.ones((7, 2, 3), "float32"), return_gates=True)
    >>> memory = plot.memory_of(gates, row=1)
    >>> memory.sizes.shape, memory.terms(6).shape
    ((8, 7), (8, 5))
    >>> bool(np.allclose(memory.terms(6).sum(0), c[0, 1]))
    True
    """

    name: str
    written: Floats
    kept: Floats
    initial: Floats
    reset: Bools
    reset_to_initial: bool
    reverse: bool

    @np.errstate(all="ignore")  # infinities and NaN propagate without a warning
    def terms(self, t: int) -> NDArray[np.float64]:
        """Return the signed terms of the state after step t, for each unit.

        Parameters
        ----------
        t : int
            A step, in the order of x; -1 is the last one.

        Returns
        -------
        terms : (n + 1, H) array of float64
            Row s is the term of step s, row -1 that of the initial state. The sum over the rows is
            the state after step t. Rows of steps that the pass takes after t are 0, and so are
            those before a reset.

        Raises
        ------
        ValueError
            If there is no step t.

        Examples
        --------
        A GRU whose z is always 1/2 forgets half at each step:

        >>> import numpy as np
        >>> from fastrnn import plot
        >>> half, ones = np.full((1, 3, 1, 1), 0.5), np.ones((1, 3, 1, 1))
        >>> plot.memory_of({"r": half, "z": half, "n": ones}).terms(2)[:, 0].tolist()
        [0.125, 0.25, 0.5, 0.0]
        """
        n = len(self.written)
        if not -n <= operator.index(t) < n:
            raise ValueError(f"t must be a step, from 0 to {n - 1}, got {t}")
        taken = self._taken(t % n)
        begin = max(np.flatnonzero(self.reset[taken]), default=0)
        taken = taken[begin:]  # since the last reset
        after = np.ones((len(taken) + 1, self.written.shape[1]))
        after[:-1] = np.cumprod(self.kept[taken[::-1]], axis=0, dtype=np.float64)[::-1]
        terms = np.zeros((n + 1, self.written.shape[1]))
        terms[taken] = self.written[taken] * after[1:]
        if self.reset_to_initial or not self.reset[taken[0]]:
            terms[-1] = self.initial * after[0]
        return terms

    @property
    def state(self) -> NDArray[np.float64]:
        """(n, H) array of float64: the state after each step, computed from kept and written."""
        state, steps = np.empty(self.written.shape), self._taken(None)
        now = initial = np.asarray(self.initial, np.float64)
        with np.errstate(all="ignore"):
            for t in steps:
                if self.reset[t]:
                    now = initial if self.reset_to_initial else np.zeros_like(initial)
                state[t] = now = self.kept[t] * now + self.written[t]
        return state

    @cached_property
    @np.errstate(all="ignore")
    def sizes(self) -> NDArray[np.float64]:
        """(n + 1, n) array: the size of each term of each state, the sum of its units' magnitudes.

        Column t is of the state after step t, row s of step s, and row -1 of the initial state. At
        most 4096 steps; ValueError for more. Read-only.
        """
        n = len(self.written)
        if n > MOST:
            raise ValueError(
                f"sizes has n * n numbers and must be of at most {MOST} steps, got n = {n}: use "
                "terms(t) for single steps, or take the gates of a part of the sequence, from "
                "layer(x[a:b], state, return_gates=True)"
            )
        now, sizes = np.zeros((n + 1, self.written.shape[1])), np.zeros((n + 1, n))
        now[-1] = initial = np.abs(self.initial)
        for t in self._taken(None):
            if self.reset[t]:
                now[...] = 0
                now[-1] = initial if self.reset_to_initial else 0
            now *= np.abs(self.kept[t])
            now[t] = np.abs(self.written[t])
            sizes[:, t] = now.sum(1)
        sizes.flags.writeable = False  # because it is kept
        return sizes

    @property
    def shares(self) -> NDArray[np.float64]:
        """(n + 1, n) array: `sizes` over their sum in each column; 0 where all terms are 0."""
        with np.errstate(all="ignore"):
            total = self.sizes.sum(0)
            return np.divide(self.sizes, total, out=np.zeros_like(self.sizes), where=total != 0)

    def _taken(self, t):
        """The steps in the order in which the pass takes them, up to step t; None: all."""
        n = len(self.written)
        if self.reverse:
            return np.arange(n - 1, -1 if t is None else t - 1, -1)
        return np.arange(n if t is None else t + 1)


@np.errstate(all="ignore")
def memory_of(
    values: Mapping[str, ArrayLike], row: int = 0, layer: int = 0, reverse: bool | None = None
) -> Memory:
    """How much of each step is still in the state of a gated cell, and of the initial state.

    The c of an LSTM is a sum with a term for each step: what the step wrote, i_s g_s, times the
    forget gates of the steps after it. h of the GRU, the MinGRU and the MinLSTM is such a sum too::

        c_t = (f_1 ... f_t) c_0 + sum over s <= t of (f_{s+1} ... f_t) i_s g_s

    This is exact, up to rounding.

    Parameters
    ----------
    values : dict
        As `tape.gates()` or `layer(x, return_gates=True)` returns it: name -> (L*D, T, B, H) array,
        or (L*D, T, H). It has the initial state, the lengths, masks and resets of the run too. For
        a dict of your own, the initial state is zero, and each row takes all T steps without a
        reset.
    row : int
        The index of the sequence in the batch.
    layer : int
        The index of the pass on the first axis of a state: 2 * layer + direction if the layer is
        bidirectional.
    reverse : bool or None
        True if the pass takes the steps from the last to the first. Needed only for a dict of your
        own, for which None is False.

    Returns
    -------
    memory : Memory
        Its steps are those of the row: its length, if lengths were given.

    Raises
    ------
    ValueError
        If the layer has cell_clip or zoneout, with which the state is not that sum; if the values
        are not the gates of an LSTM, GRU, MinGRU or MinLSTM; if c is not the sum of the gates; if
        there is no such row or layer, or reverse is not that of the pass.
    TypeError
        If values is no dict of arrays of numbers, row or layer not an integer, or reverse not a
        bool.

    See Also
    --------
    memory : a picture of it.

    Notes
    -----
    The sum is equation (L5) of `fastrnn.reference`, (G4), (M3) or (M9), put into itself for each
    step before. Peepholes, coupled gates, layer normalisation, clip and all kinds of dropout act on
    the gates, and the sum stays exact.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> from fastrnn import plot
    >>> layer = fastrnn.GRU(3, 5, bidirectional=True, rng=0)
    >>> y, h, gates = layer(np.ones((7, 2, 3), "float32"), return_gates=True)
    >>> memory = plot.memory_of(gates, row=1, layer=1)  # the reverse direction ends at step 0
    >>> memory.name, memory.reverse
    ('h', True)
    >>> bool(np.allclose(memory.terms(0).sum(0), h[1, 1]))
    True
    """
    one = _pass.of(values, row, layer, reverse)
    for option, reason in _REFUSED.items():
        if option in one.options:
            raise ValueError(
                f"values must be of a layer without {option}, got {option}="
                f"{one.options[option]}: {reason}. Use the gates of a layer without it"
            )
    name, kept, written = _of_cell({k: g.astype(np.float64) for k, g in one.gates.items()})
    works = one.works[:, None]
    memory = Memory(
        name, np.where(works, written, 0), np.where(works, kept, 1), one.first, one.reset,
        one.reset_to == "initial", one.reverse,
    )  # fmt: skip
    if "c" in one.gates:
        _check(memory, one.gates["c"])
    return memory


def _of_cell(gates):
    """The state's name, the factor of the state before, and what each step writes."""
    names = tuple(sorted(set(gates) - {"c", "o"}))
    if names not in _CELLS:
        raise ValueError(
            "values must have the gates i f g of an LSTM, r z n of a GRU, z n of a MinGRU, or "
            f"f i n of a MinLSTM, got {', '.join(gates)}"
        )
    name, kept, written = _CELLS[names]
    return name, kept(gates), written(gates)


def _check(memory, c):
    """ValueError if c is not the sum."""
    steps = len(c)
    eps = np.finfo(c.dtype).eps if c.dtype.kind == "f" else np.finfo(np.float64).eps
    error = np.abs(memory.state - c)
    allowed = 4 * (steps + 4) * eps * np.abs(c).max(initial=0, where=np.isfinite(c))
    wrong = error > allowed  # NaN is not
    if wrong.any():
        t = int(np.flatnonzero(wrong.any(1))[0])
        raise ValueError(
            "values must have a c that is the sum of its terms, got a c that differs from it by "
            f"{error[t].max():.2g} at step {t}. A dict of your own has a zero initial "
            "state and no lengths, masks and resets: give the dict that tape.gates() returned. "
            "With cell_clip or zoneout c is not that sum"
        )
