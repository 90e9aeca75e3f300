"""Frozen: a layer whose weights are packed once, for serving.

It must not know: training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, overload
from weakref import WeakValueDictionary

import numpy as np

from fastrnn import checks
from fastrnn._engine import ids, runtime
from fastrnn._layer.frozen_weights import FrozenWeights, checked_precision
from fastrnn._layer.head import Head
from fastrnn._layer.running import Running
from fastrnn._layer.stream import Stream, StreamWithHead
from fastrnn._layer.tape import Tape
from fastrnn._typing import Given, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, SupportsIndex

    from fastrnn._layer.base import Recurrent
    from fastrnn._layer.structure import Structure
    from fastrnn._typing import Flags, Floats, Lengths, Merge, Precision, ResetTo, X


class Difference(NamedTuple):
    """How far the outputs of a layer are from those of another one, as `Frozen.report` tells it.

    largest, mean : float
        Of the absolute differences of all numbers.
    """

    largest: float
    mean: float


class Frozen(Running, Generic[State, Given]):
    """A snapshot of a layer whose weights are packed once. `layer.freeze` creates it.

    Its calls take what the layer's calls take, and with precision None give the same results bit
    for bit; `layer.freeze` says what the other precisions give. Any number of threads may use it at
    once. It does not change, so a copy is the object itself. It has no array of the layer.

    A pickle has the parameters, and packs them again when it is loaded: on any machine, for its
    instructions. With ``portable=False`` a pickle has the packed weights, and processes that map
    its buffers read one copy of them; `layer.freeze` says more.

    Parameters
    ----------
    structure : Structure
        That of the layer.
    parameters : list
        For each pass its parameters, as `Structure.parameters` returns them. They are copied.
    precision : str or None
        That of W_ih, W_hh and W_hr, as for `layer.freeze`.
    scales : list or None
        For each pass the scales of int8 weights, as a frozen layer has them that was pickled.
    head : Head or None
        What calls, steps and streams apply to y, as for `layer.freeze`.
    portable : bool
        Whether a pickle has the parameters, as for `layer.freeze`.

    Attributes
    ----------
    precision : str or None
        That of the weights; None is that of `dtype`.
    nbytes : int
        The bytes of the weights that it holds.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(3, 5, rng=0)
    >>> frozen = layer.freeze()
    >>> x, state = np.ones((2, 3), "float32"), None
    >>> for _ in range(7):
    ...     y, state = frozen.step(x, state)
    >>> y.shape, bool((y == layer(np.broadcast_to(x, (7, 2, 3)))[0][-1]).all())
    ((2, 5), True)
    """

    def __init__(
        self, structure: Structure, parameters: Sequence[tuple[Floats | None, ...]],
        precision: Precision | None = None, scales: Sequence[tuple] | None = None,
        head: Head | None = None, portable: bool = True,
    ) -> None:  # fmt: skip
        checks.align([*parameters, *(scales or [])])
        precision = checked_precision(precision, structure.dtype)
        weights = FrozenWeights(structure.cell, parameters, precision, scales, whole=not portable)
        self._structure, self._weights, self._portable = structure, weights, portable
        self._begin(head)

    def _begin(self, head):
        """Set what follows from the weights and the head."""
        self._kernel_weights, self._zeros = self._weights.packed, None
        self._runner = self._new_runner()
        # Not a reference to this object itself: it would live on until the garbage collector runs.
        self._head = self._bare = None
        if head is not None:
            bare = object.__new__(type(self))  # the same without the head
            bare.__dict__.update(self.__dict__)
            self._head, self._bare = head, bare

    def _shared_embedding(self, embedding):
        """A copy of an embedding; streams that are given equal ones have one copy in common.

        It lives as long as one of them.
        """
        import zlib  # here, because an import of fastrnn should not wait for it

        given = np.ascontiguousarray(embedding)
        key = given.shape, zlib.crc32(given)
        embeddings = self.__dict__.setdefault("_embeddings", WeakValueDictionary())
        held = embeddings.get(key)
        if held is not None and np.array_equal(held.view("u1"), given.view("u1")):
            return held
        embeddings[key] = own = given.copy()
        return own

    @property
    def _parameters(self):
        """Each pass' parameters; where kernels run without the matrices, which they have."""
        weights = self._weights
        return weights.kept if runtime.uses_core() else weights.for_reference()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse all attributes that users set, because they would change no result."""
        if not name.startswith("_"):
            raise AttributeError(
                f"{name} cannot be set: freeze the layer again, with what you need"
            )
        super().__setattr__(name, value)

    @property
    def precision(self) -> Precision | None:
        """That of the weights; None is that of `dtype`."""
        return self._weights.precision

    @property
    def nbytes(self) -> int:
        """The bytes of the weights that it holds now.

        W_ih has two packed forms, for single steps and for many at once. The second one, and a
        table for one-hot ids, come when a call first needs them.
        """
        return self._weights.nbytes + (0 if self._head is None else self._head.nbytes)

    @property
    def input_size(self) -> int:
        """The layer's."""
        return self._structure.input_size

    @property
    def hidden_size(self) -> int:
        """The layer's."""
        return self._structure.hidden_size

    @property
    def num_layers(self) -> int:
        """The layer's."""
        return self._structure.num_layers

    @property
    def bidirectional(self) -> bool:
        """The layer's."""
        return self._structure.num_directions > 1

    @property
    def reverse(self) -> bool:
        """The layer's."""
        return self._structure.reverse

    @property
    def batch_first(self) -> bool:
        """The layer's."""
        return self._structure.batch_first

    @property
    def merge(self) -> Merge:
        """The layer's."""
        return self._structure.merge

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The layer's."""
        return self._structure.dtype

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: Literal[False] = False,
        out: Floats | None = None,
    ) -> tuple[Floats, State]: ...  # fmt: skip

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: Literal[True],
        out: Floats | None = None,
    ) -> tuple[Floats, State, dict[str, Floats]]: ...  # fmt: skip

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: bool,
        out: Floats | None = None,
    ) -> tuple[Floats, State] | tuple[Floats, State, dict[str, Floats]]: ...  # fmt: skip

    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: bool = False,
        out: Floats | None = None,
    ) -> tuple[Floats, State] | tuple[Floats, State, dict[str, Floats]]:  # fmt: skip
        """Run inference: y and the final state.

        Parameters
        ----------
        x, state, lengths, mask, reset, reset_to, zero_output_for_mask, one_hot, embedding
            As for a call of the layer.
        return_gates : bool
            As for a call of the layer.
        out : array like y, or None
            It is written and returned as y; None allocates one. It may overlap x and the state.

        Returns
        -------
        y, state : as from a call of the layer
        gates : dict
            Only with return_gates.

        Raises
        ------
        ValueError, TypeError
            As for a call of the layer; for an `out` that is no writeable array of y's shape and
            dtype, and for any `out` with merge=None.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> frozen, x = fastrnn.GRU(3, 5, rng=0).freeze(), np.ones((7, 2, 3), "float32")
        >>> out = np.empty((7, 2, 5), "float32")
        >>> y, h = frozen(x, lengths=[7, 4], out=out)
        >>> y is out, h.shape
        (True, (1, 2, 5))
        """
        head = self._head
        rows = None
        if not (lengths is mask is reset is None and reset_to == "zero"):
            rows = lengths, mask, reset, reset_to
        elif return_gates is zero_output_for_mask is one_hot is False and embedding is None:
            result = self._run_shortly(x, state, out if head is None else None)
            if result is not None:
                return result if head is None else (self._read(result[0], out), result[1])
        keep = return_gates is not False and checks.flag("return_gates", return_gates)
        y, state, record = self._run(
            x, state, rows, zero_output_for_mask, one_hot, embedding, keep=keep,
            out=out if head is None else None,
        )  # fmt: skip
        y = y if head is None else self._read(y, out)
        return (y, state, Tape(self._structure, record).gates()) if keep else (y, state)

    def step(
        self, x: X, state: Given | None = None, out: Floats | None = None, *,
        one_hot: bool = False, embedding: Floats | None = None,
    ) -> tuple[Floats, State]:  # fmt: skip
        """Run one time step from a state that the caller keeps: y and the next state.

        A `Stream` keeps the state itself, and a step of it is quicker.

        Parameters
        ----------
        x : (B, input_size) array of the layer's dtype, or (B,) ids
        state : array (num_layers, B, hidden_size), for the LSTM a pair of them, or None for zeros
        out : (B, hidden_size) array, or None
            It is written and returned as y; None allocates one.
        one_hot, embedding : as for a call
            With one of them x is ids.

        Returns
        -------
        y : (B, hidden_size) array
            The top layer's h.
        state : like the argument, a new one

        Raises
        ------
        ValueError, TypeError
            As for a call, and for a bidirectional or reversed layer.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> frozen = fastrnn.GRU(3, 5, rng=0).freeze()
        >>> h = None
        >>> for x_t in np.ones((7, 2, 3), "float32"):
        ...     y, h = frozen.step(x_t, h)
        >>> bool((y == h[0]).all())
        True
        """
        if self._head is not None:
            y, state = self._bare.step(x, state, one_hot=one_hot, embedding=embedding)
            return self._read(y, out, ("B",)), state
        structure = self._structure
        structure.check_steps()
        time = int(structure.batch_first)
        if one_hot is False and embedding is None and out is None and type(x) is np.ndarray:
            if x.ndim == 2:
                result = self._run_shortly(x[:, None] if time else x[None], state)
                if result is not None:
                    y, state = result
                    return y[:, 0] if time else y[0], state
        if ids.wanted(one_hot, embedding):
            x = ids.integers("x", x, (1,))
        else:
            x = checks.features("x", x, structure.dtype)
            if x.ndim != 2 or x.shape[1] != structure.input_size:
                mend = ": x[None] is a batch of one row" if x.ndim == 1 else ""
                raise ValueError(
                    f"x must be (B, input_size) with input_size = {structure.input_size}, "
                    f"got {x.shape}{mend}"
                )
        if out is not None:
            shape = (len(x), structure.features)
            checks.output("out", out, ("B", structure.features_symbol), shape, structure.dtype)
        y, state, _ = self._run(
            np.expand_dims(x, time), state, None, False, one_hot, embedding,
            out=None if out is None else np.expand_dims(out, time),
        )  # fmt: skip
        return y.squeeze(time) if out is None else out, state

    def _read(self, y, out, symbols=None):
        """The head's outputs for y, in `out` if it is not None. symbols : the axes but the last."""
        if out is not None:
            both = ("B", "T") if self._structure.batch_first else ("T", "B")
            symbols = symbols or (both if y.ndim > 2 else ("T",))
            self._head.check_out(out, symbols, y.shape[:-1])
        return self._head(y, out)

    def last(self, state: State) -> Floats:  # a pair with merge=None, as y is one
        """The last output of each row, as `fastrnn.LSTM.last`; with a head the head's output of it.

        Parameters
        ----------
        state : the final state, as a call returns it

        Returns
        -------
        output : (B, D * features) array, or with a head (B, outputs)

        Raises
        ------
        ValueError, TypeError
            If the state is not one that the layer returns.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> from fastrnn import train
        >>> frozen = fastrnn.GRU(3, 5, rng=0).freeze(head=train.Dense(5, 2, rng=1))
        >>> p, state = frozen(np.ones((7, 4, 3), "float32"))
        >>> frozen.last(state).shape, bool((frozen.last(state) == p[-1]).all())
        ((4, 2), True)
        """
        output = self._structure.last_output(state)
        return output if self._head is None else self._head(output)

    def stream(
        self, batch_size: SupportsIndex = 1, *, one_hot: bool = False,
        embedding: Floats | None = None,
    ) -> Stream[State, Given]:  # fmt: skip
        """Return a `Stream`, which has the weights in common with all others of this object.

        Streams that are given equal embeddings have one copy of it in common, too.

        Parameters
        ----------
        batch_size : int
            B, the number of rows of a step.
        one_hot, embedding : as for a call
            With one of them x is ids.

        Returns
        -------
        Stream

        Raises
        ------
        ValueError, TypeError
            For a bidirectional or reversed layer, which begins at the sequence's end; and for
            arguments that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> frozen, x = fastrnn.GRU(3, 5, rng=0).freeze(), np.ones((7, 1, 3), "float32")
        >>> streams = [frozen.stream() for _ in range(100)]  # one copy of the weights
        >>> bool((streams[7].feed(x) == frozen(x)[0]).all())
        True
        """
        make = Stream if self._head is None else StreamWithHead
        return make(self, batch_size, one_hot, embedding)

    def report(
        self, layer: Recurrent[State, Given], x: X, *, lengths: Lengths | None = None,
        one_hot: bool = False, embedding: Floats | None = None,
    ) -> list[Difference]:  # fmt: skip
        """Compare the outputs with those of a layer, on a sample of your own data.

        A lower precision changes results by an amount that depends on weights and data. The
        last differences are those of y, with a head those of its outputs, which it then computes
        for both; those of a task, such as its accuracy, you can only measure there.

        Parameters
        ----------
        layer : the layer that was frozen, or one of the same sizes
        x, lengths, one_hot, embedding
            As for a call.

        Returns
        -------
        list of Difference
            For each layer of the stack, from the lowest one on, and then for the head if there is
            one, the largest and the mean absolute difference of its outputs; ``(0.0, 0.0)`` if
            there are none. NaN if an output is not finite.

        Raises
        ------
        ValueError, TypeError
            As for a call, and for a layer of another kind or other sizes.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer = fastrnn.LSTM(40, 64, num_layers=2, rng=0)
        >>> x = np.random.default_rng(0).standard_normal((50, 8, 40)).astype("float32")
        >>> lower, upper = layer.freeze("int8").report(layer, x)
        >>> upper.mean < upper.largest < 0.1
        True
        """
        structure = self._structure
        other = getattr(layer, "_structure", None)
        if other is None or not structure.is_like(other):
            got = type(layer).__name__ if other is None else checks.shown(repr(layer))
            raise ValueError(
                f"layer must be one of the sizes of {self!r}, got {got}: report(layer, x)"
            )
        rows = None if lengths is None else (lengths, None, None, "zero")
        outputs = []
        for net in self, layer:
            y, _, record = net._run(x, None, rows, False, one_hot, embedding, keep=True)
            below = [given for given, _, _ in record.layers[1:]]
            y = np.concatenate(y, -1) if isinstance(y, tuple) else y
            outputs.append([*below, y] + ([] if self._head is None else [self._head(y)]))
        return [_difference(a, b) for a, b in zip(*outputs, strict=True)]

    def __reduce__(self) -> tuple:
        weights = self._weights
        if not self._portable and runtime.core is not None:
            head = self._head and (
                self._head.dense.content,
                self._head.outputs,
                self._head.activation,
            )
            return _packed_before, (
                type(self), runtime.writer(), self._structure, weights.kept, weights.precision,
                weights.contents(), head,
            )  # fmt: skip
        return type(self), (
            self._structure, weights.parameters(), weights.precision, weights.scales(), self._head,
            self._portable,
        )  # fmt: skip

    def __copy__(self) -> Frozen[State, Given]:
        return self

    def __deepcopy__(self, memo: object) -> Frozen[State, Given]:
        return self

    def __repr__(self) -> str:
        s = self._structure
        stack = f", num_layers={s.num_layers}" if s.num_layers > 1 else ""
        stack += ", bidirectional=True" if self.bidirectional else ""
        stack += ", reverse=True" if self.reverse else ""
        precision = self.precision or s.dtype
        stack += "" if self._head is None else f", head of {self._head.outputs}"
        return f"<fastrnn.Frozen {s.cell.name} {s.input_size}, {s.hidden_size}{stack} {precision}>"


def _packed_before(of_type, made_by, structure, kept, precision, contents, head):
    """The object of a pickle that has packed weights."""
    runtime.check_writer(
        "weights packed", made_by,
        "use the same build in both processes, or freeze the layer with portable=True",
    )  # fmt: skip
    checks.align(kept)
    frozen = object.__new__(of_type)
    frozen._structure, frozen._portable = structure, False
    frozen._weights = FrozenWeights.packed_before(
        structure.cell, structure.hidden_size, kept, precision, contents
    )
    for slot, packed in enumerate(frozen._weights.packed):
        inputs = structure.shapes[structure.names(slot)["weight_ih"]][1]
        wanted = inputs, structure.features, structure.dtype
        runtime.check_packed("layer", packed.facts, wanted)
    frozen._begin(None if head is None else Head.packed_before(*head, structure))
    return frozen


def _difference(a, b):
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Difference(float("nan"), float("nan"))
    size = np.abs(a.astype(float) - b.astype(float))
    return Difference(float(size.max(initial=0)), float(size.mean()) if size.size else 0.0)
