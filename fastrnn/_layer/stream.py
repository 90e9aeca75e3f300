"""Streams: a stream packs a layer's weights once, keeps the state, and takes single steps.

A stream is for input that arrives step by step or chunk by chunk: audio, sensors, the observations
of a policy. Its outputs are bit for bit those of the layer on the full sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

import numpy as np

from fastrnn import checks
from fastrnn._engine import ids, runtime
from fastrnn._engine.passes import reference_backend
from fastrnn._typing import Given, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import SupportsIndex

    from fastrnn._layer.frozen import Frozen
    from fastrnn._typing import Floats, RowIndex, X


def _write(state, values):
    """Copy arrays into those of a state. Their shapes agree, so no copy can fail."""
    for held, value in zip(state, values, strict=True):
        held[...] = value


class Stream(Generic[State, Given]):
    """A layer that runs one time step per call. `layer.stream` and `frozen.stream` create it.

    A stream has the weights that the layer had when it was frozen; all streams of one `Frozen`
    share them. One thread at a time may use a stream; a call from a second one raises RuntimeError.

    With `out`, a step allocates nothing, except with an embedding, whose rows it gathers into a new
    array.

    With `one_hot` or `embedding`, x is ids: integers without the last axis. With `one_hot` a step
    reads bias + W_ih x from a table that is as large as W_ih.

    Of a layer with proj_size, y, `out` and h have proj_size features in place of hidden_size.

    Parameters
    ----------
    frozen : Frozen
        That of a layer with one direction.
    batch_size : int
        B, the number of rows of a step.
    one_hot : bool
        x is ids from 0 to input_size - 1: id k stands for a 1 at feature k among zeros.
    embedding : (V, input_size) array, or None
        x is ids from 0 to V - 1: id k stands for embedding[k].

    Attributes
    ----------
    batch_size : int
    state : array (num_layers, B, hidden_size), or for the LSTM a pair of them
        A copy. May be assigned.

    Examples
    --------
    A model of letters reads ids one by one:

    >>> import fastrnn
    >>> stream = fastrnn.LSTM(26, 8, rng=0).stream(one_hot=True)
    >>> for letter in "fast":
    ...     y = stream.step(ord(letter) - ord("a"))
    >>> h, c = stream.state
    >>> y.shape, h.shape, bool((h[0] == y).all())
    ((1, 8), (1, 1, 8), True)
    """

    def __init__(
        self, frozen: Frozen[State, Given], batch_size: SupportsIndex = 1, one_hot: bool = False,
        embedding: Floats | None = None,
    ) -> None:  # fmt: skip
        self._frozen = frozen
        structure = frozen._structure
        structure.check_steps()
        self._batch_size = checks.positive("batch_size", batch_size)
        checks.fits(
            structure.dtype.itemsize, structure.num_layers, self.batch_size,
            max(structure.hidden_size, structure.input_size),
        )  # fmt: skip
        self._cell, self._dtype = structure.cell, structure.dtype
        self._x_shape = (self.batch_size, structure.input_size)
        self._y_shape = (self.batch_size, structure.features)
        self._y_symbol, self._state_symbols = structure.features_symbol, structure.state_symbols
        self._time = int(structure.batch_first)  # the axis of time in a chunk
        self._state = structure.new_state(self.batch_size, np.zeros)
        self._of_ids = ids.wanted(one_hot, embedding)
        self._embedding = None
        if embedding is not None:
            checked = ids.checked_embedding(embedding, structure.input_size, structure.dtype)
            self._embedding = checked.copy()
        self._stepper = self._make_stepper() if runtime.uses_core() else self._reference_stepper()

    def __getstate__(self):
        """The attributes for a copy. Every copy, also a shallow one, gets a state of its own.

        The stepper has addresses of memory. So a flag replaces it, True for the compiled stepper.
        """
        compiled = runtime.core is not None and isinstance(self._stepper, runtime.core.Stepper)
        return self.__dict__ | {"_stepper": compiled, "_state": self._copied_state()}

    def __setstate__(self, state):
        checks.aligned("Stream", [state["_state"], state["_embedding"]])
        self.__dict__.update(state)
        self._state = tuple(np.require(held, requirements="W") for held in self._state)
        compiled = self._stepper and runtime.core
        self._stepper = self._make_stepper() if compiled else self._reference_stepper()

    def _reference_stepper(self):
        self._quick = False
        return reference_backend().Stepper(self._cell, self._frozen._unpacked(), self._state)

    def _make_stepper(self):
        # Features in the order of time need no conversion: the compiled stepper checks such chunks.
        self._quick = not (self._time or self._of_ids)
        layers = self._frozen._kernel_weights
        of_ids = self._of_ids and self._embedding is None
        work = runtime.core.step_size(layers, self.batch_size, of_ids)
        outputs = [np.empty(self._y_shape, self._dtype) for _ in layers]
        return runtime.core.Stepper(
            layers, self.batch_size, self._state, np.empty(work, np.uint8), outputs,
            runtime.workspaces, of_ids,
        )  # fmt: skip

    def step(self, x: X | Sequence[int] | SupportsIndex, out: Floats | None = None) -> Floats:
        """Run one time step.

        Parameters
        ----------
        x : (B, input_size) array of the layer's dtype, or (B,) ids
        out : (B, hidden_size) C-contiguous array, or None
            It is written and returned; None allocates one.

        Returns
        -------
        y : (B, hidden_size) array
            The top layer's h.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit; then the state does not change.
        RuntimeError
            If another thread, or the code that a signal handler interrupted, is in a call of this
            stream.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> stream, out = fastrnn.GRU(3, 5, rng=0).stream(batch_size=2), np.empty((2, 5), "float32")
        >>> for x_t in np.ones((7, 2, 3), "float32"):
        ...     y = stream.step(x_t, out=out)
        >>> y is out
        True
        """
        y = np.empty(self._y_shape, self._dtype) if out is None else out
        if self._embedding is None and self._stepper.step(x, y):
            return y
        return self._checked_step(x, y)

    def feed(self, x: X, out: Floats | None = None) -> Floats:
        """Run several time steps in one call, with the same results as calls of `step`.

        Parameters
        ----------
        x : (T, B, input_size) array of the layer's dtype, (B, T, input_size) if it is batch_first
            Or ids: integers without the last axis.
        out : (T, B, hidden_size) array, (B, T, hidden_size) if batch_first, or None
            It is written and returned; None allocates one.

        Returns
        -------
        y : array like out
            The top layer's h at each step.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit; then the state does not change.
        RuntimeError
            As for `step`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((7, 1, 3), "float32")
        >>> stream = layer.stream()
        >>> parts = [stream.feed(x[:4]), stream.feed(x[4:])]
        >>> bool((np.concatenate(parts) == layer(x)[0]).all())
        True
        """
        if self._quick and type(x) is np.ndarray and x.ndim == 3:
            y = np.empty((len(x), *self._y_shape), self._dtype) if out is None else out
            if self._stepper.feed(x, y):
                return y
        symbols = ("B", "T") if self._time else ("T", "B")
        x = self._checked_x(x, symbols)
        shape = (*x.shape[:2], self._y_shape[1])
        checks.fits(self._dtype.itemsize, *shape)
        y = np.empty(shape, self._dtype) if out is None else out
        checks.output("out", y, (*symbols, self._y_symbol), shape, self._dtype)
        self._feed(*(a.swapaxes(0, self._time) for a in (x, y)))
        return y

    def _feed(self, x, y):
        """Run the steps of x (T, B, input_size), or ids (T, B), into y (T, B, hidden_size)."""
        if not self._stepper.feed(x, y):
            dense = np.empty(y.shape, self._dtype)
            if not self._stepper.feed(checks.dense(x), dense):
                raise RuntimeError(
                    "x passed every check, but the kernels refuse it: this is a bug in fastrnn, "
                    "please report it"
                )
            y[...] = dense

    def _checked_x(self, x, symbols):
        """The checked features of x; symbols are the names of the axes before them: B, T.

        Ids without an embedding are returned as a copy, with one as their embeddings.
        """
        if self._of_ids:
            alone = symbols == ("B",) and self.batch_size == 1  # then x may be a number
            x = ids.integers("x", x, (0, 1) if alone else (len(symbols),))
            x = x.reshape(1) if x.ndim == 0 else x
            checks.shaped("x", x, symbols, self._sizes(x, symbols, x.ndim))
            vocabulary = self._x_shape[1] if self._embedding is None else len(self._embedding)
            x = checks.within("x", x, vocabulary - 1)
            return x if self._embedding is None else self._embedding[x]
        x = checks.features("x", x, self._dtype)
        shape = (*self._sizes(x, symbols, x.ndim - 1), self._x_shape[1])
        return checks.shaped("x", x, (*symbols, "input_size"), shape)

    def _sizes(self, x, symbols, axes):
        """The sizes that these axes of x must have: B rows, and any number of steps."""
        if len(symbols) == 1:
            return (self._batch_size,)
        steps = x.shape[self._time] if axes == 2 else "T"
        return (self._batch_size, steps) if self._time else (steps, self._batch_size)

    def _checked_step(self, x, y):
        x = self._checked_x(x, ("B",))
        checks.output("out", y, ("B", self._y_symbol), self._y_shape, self._dtype)
        self._feed(x[None], y[None])
        return y

    def _copied_state(self):
        """Copies of the state's arrays; no step can run meanwhile."""
        return self._stepper.alone(lambda: tuple([held.copy() for held in self._state]))

    @property
    def batch_size(self) -> int:
        """B, which is fixed: create another stream for another B."""
        return self._batch_size

    @property
    def state(self) -> State:
        """A copy of the state, h or for the LSTM a pair (h, c). It may be assigned.

        h and c are (num_layers, B, hidden_size). With proj_size, h has proj_size features.

        RuntimeError, as for `step`, if another call of this stream is running.
        """
        state = self._copied_state()
        return state if len(state) > 1 else state[0]

    @state.setter
    def state(self, value: State) -> None:
        parts = checks.state_parts(self._cell, value)
        checked = []
        known = zip(self._cell.states, self._state_symbols, self._state, strict=True)
        for part, (label, symbol, held) in zip(parts, known, strict=True):
            label = "state" if len(parts) == 1 else f"{label} of state"
            part = checks.of_dtype(label, part, self._dtype)
            checked.append(checks.shaped(label, part, ("num_layers", "B", symbol), held.shape))
        self._stepper.alone(lambda: _write(self._state, checked))

    def reset(self, rows: RowIndex | None = None) -> None:
        """Set the state to zero.

        Parameters
        ----------
        rows : None, or an index of B rows as in NumPy: an int, a list, a slice, booleans
            The rows to reset; None resets all.

        Raises
        ------
        IndexError
            For rows outside the batch.
        ValueError
            For a row that is named twice, as by flags 0 and 1 that are integers. Nothing is reset
            then.
        TypeError
            For masked arrays, and for a boolean that is no array.
        RuntimeError
            As for `step`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> stream = fastrnn.GRU(3, 5, rng=0).stream(batch_size=4)
        >>> y = stream.step(np.ones((4, 3), "float32"))
        >>> stream.reset([0, 2])
        >>> stream.state.any(axis=(0, 2))
        array([False,  True, False,  True])
        """
        if rows is None:
            rows = slice(None)
        elif not isinstance(rows, slice):
            rows = self._named(rows)
        self._stepper.alone(lambda: self._reset(rows))

    def _reset(self, rows):
        after = [held.copy() for held in self._state]
        for array in after:
            array[:, rows] = 0
        _write(self._state, after)

    def _named(self, rows):
        """The indices of the named rows as an array, each row once."""
        # A copy: another thread may write to the user's array.
        index = checks.converted("rows", rows, "numbers of rows or booleans", np.array)
        if index.ndim == 0 and index.dtype == bool:
            raise TypeError(f"rows must be numbers of rows or B booleans, got {rows}")
        index = index.astype(np.intp) if index.size == 0 and index.dtype != bool else index
        named = np.arange(self.batch_size)[index].reshape(-1)
        if len(np.unique(named)) != len(named):
            raise ValueError(
                f"rows must name each row once, got {rows}: for flags use booleans, "
                "rows=flags.astype(bool)"
            )
        return named
