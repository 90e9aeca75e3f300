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
        self._check_size(self._batch_size)
        self._cell, self._dtype = structure.cell, structure.dtype
        self._x_shape = (self.batch_size, structure.input_size)
        self._y_shape = (self.batch_size, structure.features)
        self._y_symbol, self._state_symbols = structure.features_symbol, structure.state_symbols
        self._time = int(structure.batch_first)  # the axis of time in a chunk
        self._state = structure.new_state(self.batch_size, np.zeros)
        self._of_ids = ids.wanted(one_hot, embedding)
        self._one_hot = self._of_ids and embedding is None
        self._embedding = None
        if embedding is not None:
            checked = ids.checked_embedding(embedding, structure.input_size, structure.dtype)
            self._embedding = frozen._shared_embedding(checked)
        self._compiled = runtime.uses_core()
        self._stepper = self._make_stepper(self._state)
        # A stepper, and one for steps of some of its rows, which is made when they come.
        self._of_rows = None, None
        # The steppers whose handles other code has; see `_handle`.
        self._handed = ()

    def __getstate__(self):
        """The attributes for a copy. Every copy, also a shallow one, gets a state of its own.

        The stepper has addresses of memory, so a copy makes its own. `alone`: no step of another
        thread changes the state, and `grow` no attribute, while they are read.
        """
        return self._stepper.alone(lambda: self.__dict__ | {
            "_stepper": None, "_of_rows": (None, None), "_handed": (),
            "_state": tuple([held.copy() for held in self._state]),
        })  # fmt: skip

    def __setstate__(self, state):
        checks.align([state["_state"], state["_embedding"]])
        self.__dict__.update(state)
        if self._embedding is not None:
            self._embedding = self._frozen._shared_embedding(self._embedding)
        self._state = tuple(np.require(held, requirements="W") for held in self._state)
        self._compiled = self._compiled and runtime.core is not None
        self._stepper = self._make_stepper(self._state)

    def _make_stepper(self, state):
        """A stepper that reads and writes this state."""
        if not self._compiled:
            return reference_backend().Stepper(
                self._cell, self._frozen._weights.for_reference(), state
            )
        layers, batch = self._frozen._kernel_weights, state[0].shape[1]
        work = np.empty(runtime.core.step_size(layers, batch, self._one_hot), np.uint8)
        outputs = [np.empty((batch, self._y_shape[1]), self._dtype) for _ in layers]
        return runtime.core.Stepper(
            layers, batch, state, work, outputs, runtime.workspaces, self._one_hot
        )

    def _handle(self):
        """The number by which `frnn_stream_step` of kernels.pxd knows this stream.

        The stepper behind it stays alive as long as the stream, also after `grow`, which makes it
        refuse all steps.
        """
        if not self._compiled:
            raise ValueError("stream must run on the compiled kernels, not on the NumPy path")
        if self._embedding is not None:
            raise ValueError(
                "stream must be without an embedding: give a stream of features embedding[ids]"
            )
        if self._stepper not in self._handed:
            self._handed = (*self._handed, self._stepper)
        return self._stepper.handle()

    def step(
        self, x: X | Sequence[int] | SupportsIndex, out: Floats | None = None, *,
        rows: RowIndex | None = None,
    ) -> Floats:  # fmt: skip
        """Run one time step, of all rows or of some.

        Parameters
        ----------
        x : (B, input_size) array of the layer's dtype, or (B,) ids
        out : (B, hidden_size) array, or None
            It is written and returned; None allocates one.
        rows : None, or an index of B rows as in NumPy: an int, a list, a slice, booleans
            The rows that take the step, all for None; the others keep their state. x and y have
            one row for each, in this order. So requests may come and go, and the weights are read
            once for all that are there. The results are bit for bit those of rows that step alone.
            An array of int64 is the quickest of these.

        Returns
        -------
        y : (B, hidden_size) array
            The top layer's h.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit, and for rows outside the batch or named twice; then the
            state does not change.
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
        if rows is not None:
            return self._run_rows(x, out, rows, ("B",))
        y = np.empty(self._y_shape, self._dtype) if out is None else out
        if self._embedding is None and self._stepper.step(x, y):
            return y
        return self._checked_step(x, y)

    def feed(self, x: X, out: Floats | None = None, *, rows: RowIndex | None = None) -> Floats:
        """Run several time steps in one call, with the same results as calls of `step`.

        Parameters
        ----------
        x : (T, B, input_size) array of the layer's dtype, (B, T, input_size) if it is batch_first
            Or ids: integers without the last axis.
        out : (T, B, hidden_size) array, (B, T, hidden_size) if batch_first, or None
            It is written and returned; None allocates one.
        rows : as for `step`

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
        symbols = ("B", "T") if self._time else ("T", "B")
        if rows is not None:
            return self._run_rows(x, out, rows, symbols)
        quick = self._compiled and not self._time and not self._of_ids
        if quick and type(x) is np.ndarray and x.ndim == 3:  # the compiled stepper checks it
            y = np.empty((len(x), *self._y_shape), self._dtype) if out is None else out
            if self._stepper.feed(x, y):
                return y
        stepper = self._stepper  # `grow` replaces it, and a replaced one raises
        x = self._checked_x(x, symbols, self._batch_size)
        shape = (*x.shape[:2], self._y_shape[1])
        checks.fits(self._dtype.itemsize, *shape)
        y = np.empty(shape, self._dtype) if out is None else out
        checks.output("out", y, (*symbols, self._y_symbol), shape, self._dtype)
        self._feed(stepper, *(a.swapaxes(0, self._time) for a in (x, y)))
        return y

    def _feed(self, stepper, x, y):
        """Run the steps of x (T, B, input_size), or ids (T, B), into y (T, B, hidden_size)."""
        if not stepper.feed(x, y):
            dense = np.empty(y.shape, self._dtype)
            if not stepper.feed(checks.dense(x), dense):
                raise RuntimeError(
                    "x passed every check, but the kernels refuse it: this is a bug in fastrnn, "
                    "please report it"
                )
            y[...] = dense

    def _run_rows(self, x, out, rows, symbols):
        """Run one or several steps of the named rows; symbols : the axes before the features."""
        one = len(symbols) == 1
        y = self._some_quickly(x, out, rows, len(symbols), self._y_shape[1])
        if y is not None:
            return y
        index = self._named(rows, ValueError)
        x = self._checked_x(x, symbols, len(index))
        shape = (*x.shape[: len(symbols)], self._y_shape[1])
        if out is not None:
            checks.output("out", out, (*symbols, self._y_symbol), shape, self._dtype)
        if one:
            x = np.expand_dims(x, self._time)
        y = None
        if self._compiled:
            x_of_time = np.ascontiguousarray(x.swapaxes(0, self._time))
            y = np.empty((*x_of_time.shape[:2], self._y_shape[1]), self._dtype)
            y = y.swapaxes(0, self._time) if self._step_some(index, x_of_time, y, True) else None
        if y is None:
            y = self._stepper.alone(lambda: self._run_frozen(x, index))
        y = y.reshape(shape)
        if out is None:
            return y
        out[...] = y
        return out

    def _some_quickly(self, x, out, rows, axes, features, head=None):
        """The outputs of the named rows' steps; None if the compiled stepper does not take it all.

        axes : those of x and y before the features. features : the size of y's last axis. head : a
        core.Dense, or None.
        """
        quick = self._compiled and (axes == 1 or not self._time and not self._of_ids)
        if not (quick and self._embedding is None and type(x) is np.ndarray and x.ndim > 0):
            return None
        index = rows
        if type(rows) is not np.ndarray or rows.dtype != np.int64:
            index = self._named(rows, ValueError)
        y = np.empty((*x.shape[:axes], features), self._dtype) if out is None else out
        return y if self._step_some(index, x, y, axes > 1, head) else None

    def _step_some(self, index, x, y, chunk, head=None):
        """Run a step or a chunk of the rows of these indices; False if an array does not fit."""
        stepper = self._stepper
        owner, of_rows = self._of_rows
        if owner is not stepper:
            of_rows = self._make_stepper(self._frozen._structure.new_state(self._batch_size))
            self._of_rows = stepper, of_rows
        return stepper.step_some(of_rows, index, x, y, chunk, head)

    def _run_frozen(self, x, index):
        """Run steps of the rows of these indices, and only then write their state."""
        state = tuple([held[:, index] for held in self._state])
        with runtime.backend("core" if self._compiled else "reference"):
            y, last = self._frozen(
                x, state if len(state) > 1 else state[0], one_hot=self._one_hot
            )  # fmt: skip
        after = [held.copy() for held in self._state]
        for array, part in zip(after, last if len(state) > 1 else (last,), strict=True):
            array[:, index] = part
        _write(self._state, after)
        return y

    def grow(self, n: SupportsIndex) -> None:
        """Add n rows, whose state is zero, after the others, which keep theirs.

        No call takes rows away: `reset` a row that is free, for whoever comes next.

        Parameters
        ----------
        n : int
            0 or more. The batch size is then B + n.

        Raises
        ------
        ValueError, TypeError
            If n is no such number; nothing changes then.
        RuntimeError
            As for `step`.

        Examples
        --------
        >>> import fastrnn
        >>> stream = fastrnn.GRU(3, 5, rng=0).stream(batch_size=4)
        >>> stream.grow(2)
        >>> stream.batch_size, stream.state.shape
        (6, (1, 6, 5))
        """
        n = checks.positive("n", n, 0)
        self._stepper.replaced(lambda: self._grow(self._batch_size + n))

    def _check_size(self, batch):
        """ValueError if the arrays of a step of so many rows could not be addressed."""
        structure = self._frozen._structure
        checks.fits(
            structure.dtype.itemsize, structure.num_layers, batch,
            max(structure.hidden_size, structure.input_size),
        )  # fmt: skip

    def _grow(self, batch):
        self._check_size(batch)
        state = self._frozen._structure.new_state(batch, np.zeros)
        for new, held in zip(state, self._state, strict=True):
            new[:, : self._batch_size] = held
        new = {
            "_batch_size": batch, "_state": state, "_stepper": self._make_stepper(state),
            "_x_shape": (batch, self._x_shape[1]), "_y_shape": (batch, self._y_shape[1]),
        }  # fmt: skip
        self.__dict__.update(new)  # all at once, also for a signal handler that raises

    def _checked_x(self, x, symbols, batch):
        """The checked features of x; symbols are the names of the axes before them: B, T.

        batch : the size that B must have.

        Ids without an embedding are returned as a copy, with one as their embeddings.
        """
        if self._of_ids:
            alone = symbols == ("B",) and batch == 1  # then x may be a number
            x = ids.integers("x", x, (0, 1) if alone else (len(symbols),))
            x = x.reshape(1) if x.ndim == 0 else x
            checks.shaped("x", x, symbols, self._sizes(x, symbols, x.ndim, batch))
            vocabulary, largest = ids.vocabulary_of(self._x_shape[1], self._embedding)
            x = checks.within("x", x, vocabulary - 1, largest)
            return x if self._embedding is None else self._embedding[x]
        x = checks.features(
            "x", x, self._dtype, "one_hot=True or embedding= where you make the stream"
        )
        shape = (*self._sizes(x, symbols, x.ndim - 1, batch), self._x_shape[1])
        return checks.shaped("x", x, (*symbols, "input_size"), shape)

    def _sizes(self, x, symbols, axes, batch):
        """The sizes that these axes of x must have: B rows, and any number of steps."""
        if len(symbols) == 1:
            return (batch,)
        steps = x.shape[self._time] if axes == 2 else "T"
        return (batch, steps) if self._time else (steps, batch)

    def _checked_step(self, x, y):
        stepper = self._stepper
        x = self._checked_x(x, ("B",), self._batch_size)
        checks.output("out", y, ("B", self._y_symbol), self._y_shape, self._dtype)
        self._feed(stepper, x[None], y[None])
        return y

    def _copied_state(self):
        """Copies of the state's arrays; no step can run meanwhile."""
        return self._stepper.alone(lambda: tuple([held.copy() for held in self._state]))

    @property
    def batch_size(self) -> int:
        """B. `grow` adds rows."""
        return self._batch_size

    def __repr__(self) -> str:
        return f"<fastrnn.Stream of {self._frozen!r}, batch_size={self._batch_size}>"

    @property
    def state(self) -> State:
        """A copy of the state, h or for the LSTM a pair (h, c). It may be assigned.

        To change some rows, change a copy and assign it: a write to the copy alone has no effect.

        h and c are (num_layers, B, hidden_size). With proj_size, h has proj_size features.

        RuntimeError, as for `step`, if another call of this stream is running.
        """
        state = self._copied_state()
        return state if len(state) > 1 else state[0]

    @state.setter
    def state(self, value: State) -> None:
        if value is None:
            raise TypeError("state must be the state of all rows, got None: reset() sets zeros")
        parts, labels = checks.state_parts(self._cell, value), ["state"]
        if len(parts) > 1:
            labels = [f"{name} of state" for name in self._cell.states]
        named = zip(labels, parts, strict=True)
        arrays = [checks.of_dtype(label, part, self._dtype) for label, part in named]

        def write():  # here and not before, no other thread can add rows
            known = zip(labels, arrays, self._state_symbols, self._state, strict=True)
            for label, array, symbol, held in known:
                checks.shaped(label, array, ("num_layers", "B", symbol), held.shape)
            _write(self._state, arrays)

        self._stepper.alone(write)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse new attributes and fixed ones, because they would change no result."""
        if name != "state" and not name.startswith("_"):
            raise AttributeError(
                f"{name} cannot be set: of a stream only `state` can; make a new stream"
            )
        super().__setattr__(name, value)

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
            For sets, fractions and masked arrays, and for a boolean that is no array.
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
        rows = slice(None) if rows is None else self._named(rows, IndexError)
        self._stepper.alone(lambda: self._reset(rows))

    def _reset(self, rows):
        after = [held.copy() for held in self._state]
        for array in after:
            array[:, rows] = 0
        _write(self._state, after)

    def _named(self, rows, error):
        """The indices of the named rows as an array, each row once; `error` for one outside B."""
        if isinstance(rows, slice):
            return np.arange(self.batch_size)[rows]
        # A copy: another thread may write to the user's array.
        index = checks.converted("rows", rows, "numbers of rows or booleans", np.array)
        if index.ndim == 0 and index.dtype == bool or index.size and index.dtype.kind not in "biu":
            if isinstance(rows, set | frozenset | dict):
                mend = ": for a set use rows=sorted(rows)"
            else:
                mend = "" if index.dtype.kind != "f" else ": for whole numbers use astype(int)"
            raise TypeError(
                f"rows must be numbers of rows or B booleans, got {checks.shown(rows)}{mend}"
            )
        index = index.astype(np.intp) if index.size == 0 and index.dtype != bool else index
        if index.dtype.kind == "u" and index.size:  # NumPy would make large ones negative
            index = np.minimum(index, self._batch_size).astype(np.intp)
        try:
            named = np.arange(self.batch_size)[index].reshape(-1)
        except IndexError as outside:
            raise error(
                f"rows must be within the {self.batch_size} of the stream: {outside}"
            ) from None
        # Not np.unique: it drops an exception that a signal handler raises meanwhile.
        if len(set(named.tolist())) != len(named):
            raise ValueError(
                f"rows must name each row once, got {checks.shown(rows)}: for flags use booleans, "
                "rows=flags.astype(bool)"
            )
        return named


class StreamWithHead(Stream[State, Given]):
    """A stream of a frozen layer with a head: its steps return the head's outputs."""

    def __init__(
        self, frozen: Frozen[State, Given], batch_size: SupportsIndex, one_hot: bool,
        embedding: Floats | None,
    ) -> None:  # fmt: skip
        super().__init__(frozen._bare, batch_size, one_hot, embedding)
        self._head = frozen._head

    def _handle(self):
        raise ValueError("stream must be without a head: a handle's steps return h")

    def step(
        self, x: X | Sequence[int] | SupportsIndex, out: Floats | None = None, *,
        rows: RowIndex | None = None,
    ) -> Floats:  # fmt: skip
        """Run one time step, as `Stream.step` does; y and `out` are (B, outputs of the head)."""
        head = self._head
        if self._compiled and self._embedding is None:
            if rows is None:
                shape = self._batch_size, head.outputs
                y = np.empty(shape, self._dtype) if out is None else out
                if self._stepper.step_with_head(head.dense, x, y):
                    return y
            else:
                y = self._some_quickly(x, out, rows, 1, head.outputs, head.dense)
                if y is not None:
                    return y
        if out is not None:
            head.check_out(out, ("B",), (self._count(rows),))
        return head(super().step(x, rows=rows), out, self._compiled)

    def feed(self, x: X, out: Floats | None = None, *, rows: RowIndex | None = None) -> Floats:
        """Run several time steps, as `Stream.feed` does; y and `out` have the head's outputs.

        If a signal's handler raises while the head is computed, the state is that after the steps.
        """
        if out is not None and np.ndim(x) >= 2:  # any other x is refused below
            steps, batch = np.shape(x)[self._time], self._count(rows)
            lead = (batch, steps) if self._time else (steps, batch)
            self._head.check_out(out, ("B", "T") if self._time else ("T", "B"), lead)
        return self._head(super().feed(x, rows=rows), out, self._compiled)

    def _count(self, rows):
        return self._batch_size if rows is None else len(self._named(rows, ValueError))
