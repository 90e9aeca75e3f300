"""The tape that a layer's training pass returns, and the gradients that `backward` computes.

It must not know: how a layer checks and lays out its arrays. It calls `Structure` for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn._cells.registry import kernel_gradients
from fastrnn._engine.ids import Ids
from fastrnn._engine.passes import (
    BackwardBuffers,
    gates_of_pass,
    gradient_of,
    run_passes_backward,
    with_addresses,
    without_addresses,
)
from fastrnn._gates import Gates, Run
from fastrnn._layer.parameters import Buffer
from fastrnn._typing import Given, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn._typing import Dy, Floats


_AT_ONCE = 2**15  # elements of gradients whose norms are computed at a time; they fit the caches
_NO_GRADIENT = (
    "dy, last or dstate must be the gradient of a loss, got None for each: give dy (like y), last "
    "(like layer.last(state)) or dstate (like the final state)"
)


class Gradients(Buffer, Generic[State]):
    """The gradients that `Tape.backward` returns.

    Attributes
    ----------
    x : array like the layer's input, or None with need_x=False
    state : array (L*D, B, H), or for the LSTM a pair of them
        The gradient with respect to the initial state.
    params : mapping
        The names are those of `layer.params`, the arrays are views into `flat`. Assignment copies
        into the view.
    flat : 1-D array
        The gradients of all parameters, in the order of `layer.flat`. Assignment copies into it.
    embedding : (V, input_size) array, or None
        For an x of ids with an embedding; None with need_x=False.
    initial : like state, or None
        Only from `Window.backward`: the gradient with respect to the state argument of `tbptt`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.GRU(3, 5, rng=0)
    >>> y, h, tape = layer.forward(np.ones((7, 2, 3), "float32"))
    >>> grads = tape.backward(np.ones_like(y))
    >>> grads.x.shape, grads.state.shape, grads.params["bias_hh_l0"].shape
    ((7, 2, 3), (1, 2, 5), (15,))
    """

    x: Floats | None
    state: State
    embedding: Floats | None
    initial: State | None

    def __init__(self, flat, shapes):
        self.x = self.state = self.embedding = self.initial = None
        self._hold(flat, shapes)

    def __repr__(self) -> str:
        x, embedding = (None if a is None else a.shape for a in (self.x, self.embedding))
        return f"Gradients(x={x}, embedding={embedding}, params={self.params})"


class ForwardRecord(NamedTuple):
    """The parts of a layer's run that backward reads.

    layers : for each layer its x, the dropout factors that x was multiplied by (or None), its
    passes.
    unbatched : True if x has no batch axis.
    rows : `ragged.Rows` or None.
    shown : the mask as (T, B, 1) booleans if masked outputs were set to zero, else None.
    checkpoint : 0, or the number of steps between two checkpoints of the passes' tapes.
    outputs : the last output of each direction: copies for merge="mul", else None.
    """

    layers: list
    unbatched: bool
    rows: object
    shown: np.ndarray | None
    checkpoint: int
    outputs: tuple


class Tape(Generic[State, Given]):
    """The record of a training pass, from which `backward` computes gradients.

    A tape refers to x, y and the parameters and does not copy them: do not change them before
    `backward` has run. (y is read-only for that reason.) `backward` may be called several times.

    Examples
    --------
    The gradient of each unit of the last y with respect to x, one after the other:

    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(3, 2, rng=0)
    >>> y, state, tape = layer.forward(np.ones((7, 1, 3), "float32"))
    >>> ends = np.zeros((2, *y.shape), "float32")
    >>> ends[[0, 1], -1, 0, [0, 1]] = 1
    >>> np.stack([tape.backward(dy).x for dy in ends]).shape
    (2, 7, 1, 3)
    """

    def __init__(self, structure, record):
        self._structure = structure
        self._record = record

    def __getstate__(self):
        """The attributes for a copy: bytes of tapes, because its memory is aligned differently."""
        layers = [
            (x, factors, tuple([without_addresses(p) for p in passes]))
            for x, factors, passes in self._record.layers
        ]
        return {"_structure": self._structure, "_record": self._record._replace(layers=layers)}

    def __setstate__(self, state):
        """Set the attributes. The copy of x may have other strides than x, so it is checked too."""
        self._structure, record = state["_structure"], state["_record"]
        checks.align(record)
        layers = [
            (
                x if isinstance(x, Ids) else checks.rows(x),
                factors,
                tuple([with_addresses(self._structure.cell, p) for p in passes]),
            )
            for x, factors, passes in record.layers
        ]
        self._record = record._replace(layers=layers)

    def backward(
        self, dy: Dy = None, dstate: Given | None = None, *, last: Dy = None, need_x: bool = True
    ) -> Gradients[State]:
        """Compute the gradients of a loss of y, of the last output and of the final state.

        Give the gradients of what the loss reads. They are added if there are several.

        Parameters
        ----------
        dy : like y, or None
            Gradient of the loss with respect to y; None is zero.
        dstate : like the final state, or None
            The same for the final state; None is zero.
        last : like `layer.last(state)`, or None
            The same for the last output, which a model reads that has one result for a sequence:
            (B, D * features), (D * features,) unbatched; with merge "sum", "mean" or "mul"
            (B, features); with merge=None a pair of these. None is zero. It is the same, bit for
            bit, as a dstate with these values in the h of the top layer and zeros elsewhere.
        need_x : bool
            Compute the gradient of x.

        Returns
        -------
        Gradients

        Raises
        ------
        ValueError, TypeError
            If dy, dstate or last does not have the shape and dtype of y, the state or the last
            output, or if all are None, also as pairs (None, None); if need_x is not a bool.

        Notes
        -----
        Backpropagation through time: Werbos, 1990; `fastrnn.reference` (S3) to (S6).

        Examples
        --------
        A loss that reads the last output only, as that of a classifier of sequences. Without the
        gradient of x there is one matrix product fewer:

        >>> import numpy as np
        >>> import fastrnn
        >>> layer, x = fastrnn.LSTM(3, 5, rng=0), np.ones((7, 2, 3), "float32")
        >>> y, state, tape = layer.forward(x, lengths=[7, 4])
        >>> output = layer.last(state)
        >>> grads = tape.backward(last=2 * (output - 1) / output.size, need_x=False)
        >>> output.shape, grads.x is None, grads.params["weight_hh_l0"].shape
        ((2, 5), True, (20, 5))

        The same with a gradient of the final state:

        >>> dh = np.zeros((1, 2, 5), "float32")
        >>> dh[-1] = 2 * (output - 1) / output.size
        >>> bool((tape.backward(dstate=(dh, None)).flat == grads.flat).all())
        True
        """
        checks.some_gradient(_NO_GRADIENT, dy, dstate, last)
        return self._backward(dy, dstate, last, need_x)

    def gradient_norms(
        self, dy: Dy = None, dstate: Given | None = None, *, last: Dy = None
    ) -> dict[str, NDArray[np.float64]]:
        """The norm of the state's gradient at each step, to see whether it vanishes or explodes.

        Parameters
        ----------
        dy, dstate, last : as for `backward`

        Returns
        -------
        norms : dict
            "h" and, for the LSTM, "c": (L*D, T) arrays. The first axis is that of a state. An
            element is the Euclidean norm, over batch and units, of the gradient with respect to h_t
            or c_t. The gradient includes all paths: through the following steps, from h_t through
            y_t, and from c_t through h_t. The norm is 0 beyond the end of all rows.

        Notes
        -----
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013.

        Examples
        --------
        The loss depends only on the last step, and the gradient vanishes towards the first one:

        >>> import numpy as np
        >>> import fastrnn
        >>> layer = fastrnn.RNN(3, 5, rng=0)
        >>> y, h, tape = layer.forward(np.ones((40, 2, 3), "float32"))
        >>> norms = tape.gradient_norms(last=np.ones_like(layer.last(h)))["h"]
        >>> norms.shape, bool(norms[0, 0] < 1e-3 * norms[0, -1])
        ((1, 40), True)
        """
        checks.some_gradient(_NO_GRADIENT, dy, dstate, last)
        norms = {}

        def observe(p, dstates):
            for name, d in zip(self._structure.cell.states, dstates, strict=True):
                shape = self._structure.slots, len(d)
                norms.setdefault(name, np.zeros(shape))[p.slot] = _norms_of_steps(d)

        self._backward(dy, dstate, last, True, observe)
        return norms

    def gates(self) -> dict[str, Floats]:
        """Return the value of every gate at every step, and for the LSTM c.

        Returns
        -------
        gates : dict
            "i", "f", "g", "o" and "c" for the LSTM, "r", "z" and "n" for the GRU, "z" and "n" for
            the MinGRU, "f", "i" and "n" for the MinLSTM, where n is h~; nothing for the RNN, which
            has no gates. Each is an (L*D, T, B, H) array, (L*D, T, H) unbatched; the first axis is
            that of a state. c is the value after zoneout. Gates are 0 in steps that a row does not
            take. There c keeps its value, and beyond the row's end it is 0. The dict keeps the
            initial state, lengths, mask and resets too, which `plot.memory` needs; so does
            `gates.copy()`, and `dict(gates)` does not.

        Raises
        ------
        ValueError
            If the tape has checkpoints and not every step.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> y, h, tape = fastrnn.GRU(3, 5, rng=0).forward(np.ones((7, 2, 3), "float32"))
        >>> {name: gate.shape for name, gate in tape.gates().items()}
        {'r': (1, 7, 2, 5), 'z': (1, 7, 2, 5), 'n': (1, 7, 2, 5)}
        """
        structure, record = self._structure, self._record
        if record.checkpoint and isinstance(record.layers[0][2][0].tape, np.ndarray):
            raise ValueError("gates need a tape of every step: call forward without checkpoint")
        values_of = {name: [] for name in structure.cell.shown}
        for _, _, passes in record.layers:
            for p in passes:
                gates = gates_of_pass(structure.cell, p, structure.dtype, record.rows)
                for name, values in gates.items():
                    values_of[name].append(values[:, 0] if record.unbatched else values)
        arrays = {name: np.stack(values) for name, values in values_of.items()}
        return Gates(arrays, self._run())

    def _run(self):
        """The `Run` of the gates."""
        passes = [p for _, _, passes in self._record.layers for p in passes]
        first = np.stack([p.state[-1][p.slot] for p in passes])
        rows, options = self._record.rows, self._structure.cell.options
        lengths, mask, reset, reset_to = (None, None, None, "zero") if rows is None else rows[:4]
        reverse = tuple([p.reverse for p in passes])
        options = {} if options is None else options.non_default()
        return Run(first, reverse, lengths, mask, reset, reset_to, options)

    def _backward(self, dy, dstate, last, need_x, observe=None):
        """Compute `Gradients`. observe : None or a function of a pass and its states' gradients."""
        structure, need_x = self._structure, checks.flag("need_x", need_x)
        layers, unbatched, rows, shown, checkpoint, outputs = self._record
        batch, top = layers[0][0].shape[1], layers[-1][2]
        parts = structure.gradients_of_directions(dy, [p.y for p in top], unbatched)
        if shown is not None:
            parts = [None if part is None else np.where(shown, part, 0) for part in parts]
        dlast = structure.checked_dstate(dstate, last, outputs, batch, unbatched)
        gradients = Gradients(np.empty(structure.size, structure.dtype), structure.shapes)
        dfirst = structure.new_state(batch)
        for index in range(structure.num_layers - 1, -1, -1):
            x, factors, passes = layers[index]
            need_dx = need_x or index > 0
            incoming = [
                self._buffers(x, p, part, dlast, dfirst, gradients, need_dx, observe)
                for part, p in zip(parts, passes, strict=True)
            ]
            run_passes_backward(x, passes, incoming, rows, checkpoint)
            if observe is not None:
                for i, p in zip(incoming, passes, strict=True):
                    observe(p, i.dstates)
            dx = _sum_of_directions([i.dx for i in incoming], factors)
            parts = structure.halves(dx, len(passes)) if index > 0 else ()
        gradients.state = structure.state_to_user(dfirst, unbatched)
        if isinstance(x, Ids):
            gradients.embedding = dx
        elif dx is not None:
            gradients.x = structure.to_user(dx, unbatched)
        return gradients

    def _buffers(self, x, p, dy, dlast, dfirst, gradients, need_dx, observe):
        """The `BackwardBuffers` of a pass: its part of `gradients`, and new arrays."""
        structure, dstates = self._structure, (None,) * len(dlast)
        dparameters = structure.parameters(p.slot, gradients._arrays)
        if observe is not None:
            shapes = [(*p.y.shape[:2], size) for size in structure.state_sizes]
            dstates = tuple([np.zeros(shape, structure.dtype) for shape in shapes])
        return BackwardBuffers(
            None if dy is None else checks.rows(dy), dlast, gradient_of(x) if need_dx else None,
            dfirst, dparameters, kernel_gradients(structure.cell, p.weights, dparameters), dstates,
        )  # fmt: skip


def _norms_of_steps(d):
    """The norm over batch and units of each step of (T, B, H): (T,) float64.

    Each step is in units of its largest element, because a square may be beyond float64. A few
    steps at a time, because the parts are in float64 and d may be large.
    """
    _, batch, hidden = d.shape
    at_once = max(1, _AT_ONCE // max(1, batch * hidden))
    norms = [_norms(d[begin : begin + at_once]) for begin in range(0, len(d), at_once)]
    return np.concatenate([np.empty(0), *norms])


def _norms(d):
    unit = np.abs(d).max(axis=(1, 2), initial=0).astype(np.float64)
    unit[(unit == 0) | ~np.isfinite(unit)] = 1
    with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
        parts = d / unit[:, None, None]
        return unit * np.sqrt(np.einsum("tbh,tbh->t", parts, parts))


def _sum_of_directions(dxs, factors):
    """The gradient of x from that of each direction, before dropout; None stays None."""
    dx, *others = dxs
    if dx is None:
        return None
    with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
        for other in others:
            dx += other
        if factors is not None:
            dx *= factors
    return dx
