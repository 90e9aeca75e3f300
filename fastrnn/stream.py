"""One step at a time: the weights packed once, the state held, nothing allocated.

For what arrives step by step, or chunk by chunk: audio, sensors, a policy in its environment. It
gives bit for bit what the layer gives on the whole sequence.
"""

import numpy as np

from fastrnn import checks, reference, runtime, tokens, variants
from fastrnn.cells import for_kernels
from fastrnn.passes import sizes_of


class Stream:
    """A layer fed one time step per call; made by `layer.stream`.

    It works on the weights as they were when it was made. One thread at a time may use it.

    x may be an array of integers, without the last axis, as for a layer: rows of the embedding, or
    without one each a 1 at that feature among zeros. Then a step takes from a table what W_ih makes
    of the feature; the first one makes it, as large as W_ih.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one direction.
    batch_size : int
        B, rows that step together.
    embedding : (V, input_size) array, or None

    Attributes
    ----------
    batch_size : int
    """

    def __init__(self, layer, batch_size=1, embedding=None):
        if layer.bidirectional:
            raise ValueError(
                "a bidirectional layer cannot stream, for it reads the sequence's end first: "
                "use bidirectional=False"
            )
        self.batch_size = checks.positive("batch_size", batch_size)
        checks.fits(
            layer.dtype.itemsize, layer.num_layers, self.batch_size,
            max(layer.hidden_size, layer.input_size),
        )  # fmt: skip
        self._cell, self._dtype = layer._cell, layer.dtype
        self._x_shape = (self.batch_size, layer.input_size)
        self._y_shape = (self.batch_size, layer._features)
        self._time = int(layer.batch_first)  # its axis in a chunk
        self._state = layer._new_state(self.batch_size, np.zeros)
        self._weights = [
            tuple(None if w is None else w.copy() for w in layer._weights[index](layer.params))
            for index in range(layer.num_layers)
        ]
        self._embedding = None
        if embedding is not None:
            checked = tokens.checked_embedding(embedding, layer.input_size, layer.dtype)
            self._embedding = checked.copy()
        self._stepper = self._make_stepper() if runtime.uses_core() else None
        self._stepper_of_ids = None  # not before there are some

    def __getstate__(self):
        """With whether there is a stepper instead of the stepper, which is addresses."""
        return self.__dict__ | {"_stepper": self._stepper is not None, "_stepper_of_ids": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._stepper = self._make_stepper() if self._stepper and runtime.core else None

    def _make_stepper(self, ids=()):
        """Of x with features, or with `(table, count)` of so many ids."""
        batch, layers, work = self.batch_size, [], 0
        for index, weights in enumerate(self._weights):
            of_ids = index == 0 and bool(ids)
            weights = tokens.without_inputs(weights) if of_ids else weights
            x_shape = 1, batch, weights[0].shape[1]
            sizes = sizes_of(self._cell, self._dtype.itemsize, x_shape, weights, ids=of_ids)
            work = max(work, sizes.forward)
            packed = np.empty(sizes.packed, np.uint8)
            layers.append((self._cell.index, self._for_kernels(weights), packed))
        outputs = [np.empty(self._y_shape, self._dtype) for _ in layers]
        work = np.empty(work, np.uint8)
        return runtime.core.Stepper(layers, batch, self._state, work, outputs, *ids)

    def _make_stepper_of_ids(self):
        count, weights = self._x_shape[1], self._for_kernels(self._weights[0])
        return self._make_stepper((tokens.table(self._cell, None, weights, count), count))

    def _for_kernels(self, weights):
        return weights if self._cell.options is None else for_kernels(self._cell, weights)

    def step(self, x, out=None):
        """One time step.

        Parameters
        ----------
        x : (B, input_size) array of the layer's dtype, or (B,) integers
        out : (B, hidden_size) C-contiguous array, or None
            Written and returned; None makes one.

        Returns
        -------
        y : (B, hidden_size) array
            The top layer's h.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit; the state is then as it was.
        """
        y = np.empty(self._y_shape, self._dtype) if out is None else out
        try:
            if self._stepper is not None and self._stepper.step(x, y):
                return y
            if self._stepper_of_ids is not None and self._stepper_of_ids.step(x, y):
                return y
        except TypeError:  # not arrays at all: the checks below say so
            pass
        return self._checked_step(x, y)

    def feed(self, x, out=None):
        """Some time steps at once: what as many calls of `step` give, in one call.

        Parameters
        ----------
        x : (T, B, input_size) array of the layer's dtype, (B, T, input_size) if it is batch_first
            Or integers without the last axis.
        out : (T, B, hidden_size) array, (B, T, hidden_size) if batch_first, or None
            Written and returned; None makes one.

        Returns
        -------
        y : array like out
            The top layer's h at each step.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit; the state is then as it was.
        """
        ids = tokens.are_ids(x, (2,))
        x = x if ids else checks.as_array("x", x)
        steps = x.shape[self._time] if ids or x.ndim == 3 else "T"  # any, but so many axes
        lead = (self.batch_size, steps) if self._time else (steps, self.batch_size)
        symbols = ("B", "T") if self._time else ("T", "B")
        x, stepper = self._checked_x(x, symbols, lead)
        shape = (*lead, self._y_shape[1])
        checks.fits(self._dtype.itemsize, *shape)
        y = np.empty(shape, self._dtype) if out is None else out
        self._check_out(y, (*symbols, "hidden_size"), shape)
        self._feed(stepper, *(a.swapaxes(0, self._time) for a in (x, y)))
        return y

    def _feed(self, stepper, x, y):
        """From (T, B, input_size), or ids (T, B), to (T, B, hidden_size), of any strides."""
        if stepper is None:
            y[...] = self._reference_steps(x)
        elif not stepper.feed(x, y):
            dense = np.empty(y.shape, self._dtype)
            if not stepper.feed(checks.dense(x), dense):
                raise RuntimeError("x has passed every check, but the kernels do not take it")
            y[...] = dense

    def _checked_x(self, x, symbols, lead):
        """x with features, or as ids, which take a stepper of their own; and its stepper."""
        if not tokens.are_ids(x, (len(lead),)):
            x = checks.same_dtype("x", checks.as_array("x", x), self._dtype)
            shape = (*lead, self._x_shape[1])
            return checks.shaped("x", x, (*symbols, "input_size"), shape), self._stepper
        checks.shaped("x", x, symbols, lead)
        if self._embedding is not None:
            return self._embedding[checks.ids("x", x, len(self._embedding))], self._stepper
        x = np.ascontiguousarray(checks.ids("x", x, self._x_shape[1]), np.int64)
        if self._stepper is not None and self._stepper_of_ids is None:
            self._stepper_of_ids = self._make_stepper_of_ids()
        return x, self._stepper_of_ids

    def _check_out(self, out, symbols, shape):
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be an array, got {type(out).__name__}")
        checks.same_dtype("out", checks.as_array("out", out), self._dtype)
        checks.shaped("out", out, symbols, shape)
        if not out.flags.writeable:
            raise ValueError("out must be writeable, got a read-only array")

    def _checked_step(self, x, y):
        x, stepper = self._checked_x(x, ("B",), (self.batch_size,))
        self._check_out(y, ("B", "hidden_size"), self._y_shape)
        self._feed(stepper, x[None], y[None])
        return y

    def _reference_steps(self, x):
        y, states = x, []
        for index, weights in enumerate(self._weights):
            state = tuple(s[index] for s in self._state)
            y, last = reference.infer(variants.row(self._cell), y, state, *weights)
            states.append(last)
        # The last thing that can fail comes before the first change.
        after = [np.stack(parts) for parts in zip(*states, strict=True)]
        for held, value in zip(self._state, after, strict=True):
            held[...] = value
        return y

    @property
    def state(self):
        """A copy of the state, (num_layers, B, H); for the LSTM a pair (h, c). May be assigned."""
        state = tuple(s.copy() for s in self._state)
        return state if len(state) > 1 else state[0]

    @state.setter
    def state(self, value):
        parts = checks.state_parts(self._cell, value)
        checked = []
        for label, part, held in zip(self._cell.states, parts, self._state, strict=True):
            label = "state" if len(parts) == 1 else f"{label} of state"
            part = checks.same_dtype(label, checks.as_array(label, part), self._dtype)
            checked.append(checks.shaped(label, part, ("num_layers", "B", "H"), held.shape))
        for held, part in zip(self._state, checked, strict=True):
            held[...] = part

    def reset(self, rows=None):
        """Set the state to zero.

        Parameters
        ----------
        rows : None, or whatever indexes B rows of an array: an int, a list, a slice, a mask
            None resets all.

        Raises
        ------
        IndexError
            For rows that are not there; nothing is reset then.
        """
        index = slice(None) if rows is None else rows
        for held in self._state:
            held[:, index] = 0
