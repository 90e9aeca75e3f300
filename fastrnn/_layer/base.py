"""Recurrent: the base of all layers, which trains and runs a stack of layers and their directions.

structure.py has a layer's sizes and converts its arrays, running.py runs its passes, parameters.py
has its parameters as views into one flat buffer, dropout.py has the settings that may change later.

It must not know: which cells there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, overload

import numpy as np

from fastrnn import checks
from fastrnn._cells import options
from fastrnn._cells.registry import kernel_weights, projected, takes, variant
from fastrnn._layer import initializers
from fastrnn._layer.dropout import Dropout
from fastrnn._layer.frozen import Frozen
from fastrnn._layer.head import head_of
from fastrnn._layer.merge import MERGES
from fastrnn._layer.parameters import Trainable
from fastrnn._layer.running import Running
from fastrnn._layer.structure import Structure
from fastrnn._layer.tape import Tape
from fastrnn._typing import Given, State

if TYPE_CHECKING:
    from typing import Any, Final, Literal, SupportsIndex

    from fastrnn._layer.stream import Stream
    from fastrnn._typing import (
        Flags,
        Floats,
        Init,
        IsDense,
        Lengths,
        Merge,
        Precision,
        ResetTo,
        X,
    )


# Names of Keras and others -> ours.
_MERGES_ELSEWHERE = {
    "ave": "mean", "avg": "mean", "average": "mean", "add": "sum", "multiply": "mul",
    "cat": "concat",
}  # fmt: skip


class Recurrent(Running, Dropout, Trainable, Generic[State, Given]):
    """The base of all layers: everything but the cell.

    variant_options : the arguments of `options.checked`.
    """

    _fixed = frozenset({
        "input_size", "hidden_size", "num_layers", "proj_size", "bias", "batch_first",
        "bidirectional", "merge", "reverse", "num_directions", "dtype", "init", "forget_bias",
        "nonlinearity", "reset_after", "options", *options.Options._fields,
    })  # fmt: skip
    _derived = Trainable._derived | {
        "_parameters", "_kernel_weights", "_runner", "_zeros"
    }  # fmt: skip

    def __init__(
        self, cell, input_size, hidden_size, num_layers, *, bias, batch_first, dropout,
        dropout_mask, bidirectional, merge, reverse, dtype, rng, init, recurrent_dropout=0.0,
        forget_bias=None, proj_size=0, **variant_options,
    ) -> None:  # fmt: skip
        self.options: Final[options.Options] = options.checked(cell.states, **variant_options)
        self.input_size: Final[int] = checks.positive("input_size", input_size, 0)
        self.hidden_size: Final[int] = checks.positive("hidden_size", hidden_size)
        self.proj_size: Final[int] = self._checked_projection(proj_size)
        cell = variant(cell, self.options)
        cell = projected(cell) if self.proj_size else cell
        self.num_layers: Final[int] = checks.positive("num_layers", num_layers)
        self.bias: Final[bool] = checks.flag("bias", bias)
        self.batch_first: Final[bool] = checks.flag("batch_first", batch_first)
        self.init: Final[Init] = initializers.checked_init(init)
        self.forget_bias: Final[float | None] = initializers.checked_forget_bias(
            forget_bias, self.bias, self.options.coupled
        )
        self.bidirectional: Final[bool] = checks.flag("bidirectional", bidirectional)
        self.merge: Final[Merge] = self._checked_merge(merge)
        self.reverse: Final[bool] = self._checked_reverse(reverse)
        self.dtype: Final[np.dtype[np.floating[Any]]] = checks.dtype(dtype)
        self.num_directions: Final[int] = 2 if bidirectional else 1
        self._structure = structure = Structure(
            cell, self.input_size, self.hidden_size, self.proj_size, self.num_layers, self.bias,
            self.batch_first, self.bidirectional, self.merge, self.dtype, self.reverse,
        )  # fmt: skip
        self._set_dropout(dropout, dropout_mask, recurrent_dropout, rng)
        self._warn_of_one_layer()
        self._hold(np.empty(structure.size, self.dtype), structure.shapes)
        for slot in range(structure.slots):
            of_pass = {kind: self.params[name] for kind, name in structure.names(slot).items()}
            initializers.begin(of_pass, cell, self.init, self.forget_bias, self._rng)

    def _derive(self):
        super()._derive()
        structure = self._structure
        self._parameters = [structure.parameters(k, self._arrays) for k in range(structure.slots)]
        self._kernel_weights = [kernel_weights(structure.cell, own) for own in self._parameters]
        self._runner = self._new_runner()
        self._zeros = None  # the zero state of calls without a state; it is never written to

    @property
    def draws(self) -> bool:
        """True if `forward` draws random numbers: for dropout, recurrent dropout or zoneout."""
        between = self.dropout and self.num_layers > 1
        return bool(between or self.recurrent_dropout or self.options.zoneout)

    def _takes_recurrent_dropout(self):
        return takes(self._structure.cell, "recurrent_dropout")

    def _checked_projection(self, proj_size):
        proj_size = checks.positive("proj_size", proj_size, 0)
        if proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size must be less than hidden_size = {self.hidden_size}, got {proj_size}: "
                "0 is no projection"
            )
        if proj_size and self.options.zoneout:
            raise ValueError("zoneout must be 0 with proj_size: a projected h has no zoneout")
        return proj_size

    def _named(self, params, prefix):
        named = super()._named(params, prefix)
        self._structure.check_gates(named)
        return named

    def _checked_merge(self, merge):
        if merge == "concat":
            return merge
        if merge is not None:
            checks.choice("merge", merge, ("concat", *MERGES), _MERGES_ELSEWHERE)
        if not self.bidirectional:
            raise ValueError(
                f"merge must be 'concat' for a layer of one direction, got {merge!r}: "
                "use bidirectional=True"
            )
        return merge

    def _checked_reverse(self, reverse):
        reverse = checks.flag("reverse", reverse)
        if reverse and self.bidirectional:
            raise ValueError(
                "reverse must be False with bidirectional=True, whose second direction is reversed"
            )
        return reverse

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: Literal[False] = False,
    ) -> tuple[Floats, State]: ...  # fmt: skip

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: Literal[True],
    ) -> tuple[Floats, State, dict[str, Floats]]: ...  # fmt: skip

    @overload
    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: bool,
    ) -> tuple[Floats, State] | tuple[Floats, State, dict[str, Floats]]: ...  # fmt: skip

    def __call__(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, return_gates: bool = False,
    ) -> tuple[Floats, State] | tuple[Floats, State, dict[str, Floats]]:  # fmt: skip
        """Run inference: y and the final state, without a tape for gradients.

        Parameters
        ----------
        x : array (T, B, input_size), (B, T, input_size) if batch_first, (T, input_size) unbatched
            With `one_hot` or `embedding`, x is ids: integers without the last axis.
        state : array (L*D, B, H), or for the LSTM a pair (h, c) of them, or None for zeros
            L layers, D directions; without B for an unbatched x.
        lengths : (B,) integers from 0 to T, or None
            The number of steps of each row, in any order; None is T. Beyond them y is 0, and x may
            have any values, NaN too. The final state is the one after the row's own last step;
            reversed directions begin at that step. The work is proportional to the sum of lengths.
        mask : booleans like x but for its last axis, or None
            False where a row keeps its state and repeats its y.
        reset : booleans like the mask, or None
            True where a row's state is reset before that step, in the order in which a
            direction takes the steps. No gradient passes through a reset.
        reset_to : {"zero", "initial"}
            The value after a reset: zero, or `state`, which then gets the gradient.
        zero_output_for_mask : bool
            y of the top layer is 0 where the mask is False.
        one_hot : bool
            x is ids from 0 to input_size - 1: id k stands for a 1 at feature k among zeros.
            This is far quicker than an x of one-hot vectors.
        embedding : (V, input_size) array, or None
            x is ids from 0 to V - 1: id k stands for embedding[k].
        return_gates : bool
            Return the gates too, as `Tape.gates` does.

        Returns
        -------
        y : array like x, D * hidden_size features, with proj_size D * proj_size
            The top layer's h at each step, both directions side by side or as `merge` says.
        state : like the argument
            The state after each pass's last step.
        gates : dict
            Only with return_gates.

        Raises
        ------
        ValueError, TypeError
            For shapes and dtypes that do not fit the layer, lengths outside 0 to T, and integers
            outside the vocabulary.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer = fastrnn.GRU(3, 5, rng=0)
        >>> x = np.ones((7, 2, 3), "float32")  # 7 steps of 2 sequences
        >>> y, h = layer(x)
        >>> y, h = layer(x, h)  # goes on from there
        >>> y, h, gates = layer(x, lengths=[7, 4], return_gates=True)
        >>> y.shape, h.shape, gates["z"].shape
        ((7, 2, 5), (1, 2, 5), (1, 7, 2, 5))
        """
        rows = None
        if not (lengths is mask is reset is None and reset_to == "zero"):
            rows = lengths, mask, reset, reset_to
        elif return_gates is zero_output_for_mask is one_hot is False and embedding is None:
            result = self._run_shortly(x, state)
            if result is not None:
                return result
        if return_gates is not False and checks.flag("return_gates", return_gates):
            y, state, record = self._run(
                x, state, rows, zero_output_for_mask, one_hot, embedding, keep=True
            )
            return y, state, Tape(self._structure, record).gates()
        y, state, _ = self._run(x, state, rows, zero_output_for_mask, one_hot, embedding)
        return y, state

    def forward(
        self, x: X, state: Given | None = None, *, lengths: Lengths | None = None,
        mask: Flags | None = None, reset: Flags | None = None, reset_to: ResetTo = "zero",
        zero_output_for_mask: bool = False, one_hot: bool = False,
        embedding: Floats | None = None, checkpoint: SupportsIndex | None = None,
        train: bool = True,
    ) -> tuple[Floats, State, Tape[State, Given]]:  # fmt: skip
        """Run a training pass: y, the final state, and a `Tape` that computes the gradients.

        Dropout acts only here. Zoneout is drawn here, and a call takes its expectation.

        Parameters
        ----------
        x, state, lengths, mask, reset, reset_to, zero_output_for_mask, one_hot, embedding
            As for a call.
        checkpoint : int or None
            With n the tape keeps no gates, and only the c before every n-th step. `backward`
            recomputes the steps, n at a time [1]_. The gradients are the same bit for bit. An
            LSTM's tape is about 5 n times smaller, and that of a layer without c keeps almost
            nothing; masks, and x and y, to which a tape refers, are not counted. Training takes
            about a quarter longer. A plain RNN gains nothing, because its tape has no gates anyway.
            The reference backend ignores n and keeps every step.
        train : bool
            False draws nothing: y and state are bit for bit those of a call, without dropout and
            with the expectation of zoneout. The gradients are those of that y and state.

        Returns
        -------
        y, state : as from a call
            y is read-only unless `merge` computes it, because `backward` reads it.
        tape : Tape

        Raises
        ------
        ValueError, TypeError
            As for a call.

        References
        ----------
        .. [1] Chen et al., Training deep nets with sublinear memory cost, 2016.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer = fastrnn.GRU(3, 5, rng=0)
        >>> x = np.ones((7, 2, 3), "float32")
        >>> y, h, tape = layer.forward(x)
        >>> grads = tape.backward(2 * (y - 1) / y.size)  # of mean((y - 1)**2)
        >>> grads.x.shape, grads.flat.shape == layer.flat.shape
        ((7, 2, 3), True)
        """
        checkpoint = 0 if checkpoint is None else checks.positive("checkpoint", checkpoint)
        if train is not True:  # only then, because the check takes time that small layers notice
            train = checks.flag("train", train)
        rows = None
        if not (lengths is mask is reset is None and reset_to == "zero"):
            rows = lengths, mask, reset, reset_to
        y, state, record = self._run(
            x, state, rows, zero_output_for_mask, one_hot, embedding, keep=True,
            checkpoint=checkpoint, train=train,
        )  # fmt: skip
        return y, state, Tape(self._structure, record)

    def last(self, state: State) -> Floats:  # a pair with merge=None, as y is one
        """The last output of each row: what a model reads that has one result for a sequence.

        It is the h of the top layer after a row's last step, as `lengths` and `mask` say it. With
        two directions it is the forward direction's h after the last step and the reverse
        direction's h after the first step, the last one that it takes, merged as y is. This is not
        y[-1]: there the reverse direction has read one step only, and y is 0 beyond a row's end.

        Parameters
        ----------
        state : the final state, as a call or `forward` of the layer returns it

        Returns
        -------
        output : (B, D * features) array, unbatched (D * features,)
            features is proj_size, or hidden_size without a projection. With merge "sum", "mean" or
            "mul" it has `features` features; with merge=None it is a pair of such arrays. It is a
            new array. `Tape.backward` takes its gradient as `last`.

        Raises
        ------
        ValueError, TypeError
            If the state is not one that the layer returns.

        Examples
        --------
        A classifier of sequences of any length, with a gradient into the last output:

        >>> import numpy as np
        >>> import fastrnn
        >>> from fastrnn import train
        >>> layer = fastrnn.GRU(3, 8, bidirectional=True, rng=0)
        >>> head, x = train.Dense(16, 2, rng=1), np.ones((7, 2, 3), "float32")
        >>> y, state, tape = layer.forward(x, lengths=[7, 4])
        >>> output = layer.last(state)
        >>> output.shape
        (2, 16)
        >>> loss, d_logits = train.cross_entropy(head(output), [0, 1])
        >>> of_head = head.backward(output, d_logits)
        >>> grads = tape.backward(last=of_head.x, need_x=False)
        """
        return self._structure.last_output(state)

    def freeze(
        self, precision: Precision | None = None, head: IsDense | None = None, *,
        portable: bool = True,
    ) -> Frozen[State, Given]:  # fmt: skip
        """Return a `Frozen`: a snapshot of the layer whose weights are packed once.

        A call of the layer packs the weights each time, which takes most of the time of a short
        call. Freeze a layer that answers many short calls, that several threads call, or that has
        many streams. A training that goes on does not change the snapshot.

        Parameters
        ----------
        precision : None, "bfloat16-weights", "bfloat16" or "int8"
            That of W_ih, W_hh and W_hr in the snapshot. None is the layer's dtype: results are
            those of the layer, bit for bit. The others are for float32 layers; biases, the state
            and y stay float32.

            "bfloat16-weights" rounds the matrices to bfloat16, which has 8 significant bits, and
            takes half the memory. Results are those of the layer with rounded weights, bit for bit.
            Batches of one or two rows and 256 units or more, which read their weights from far in
            each step, are 1.2 to 2.5 times as fast; larger batches are as fast as in float32, or up
            to a fifth slower.

            "bfloat16" also rounds the rows that the matrices multiply: x, h and r * h. It is meant
            for batches of 16 rows or more on AMD's CPUs with AVX-512 BF16, which have an
            instruction for two such products; on other CPUs it is up to a third slower than
            "bfloat16-weights". Results differ from the layer's in the third digit. Subnormal
            numbers count as zeros in such a call, and numbers beyond 3.39e38 as infinities.

            "int8" makes the matrices integers from -127 to 127, with a scale for each row, and
            takes a quarter of the memory. In each step x and h become such integers too, with a
            scale for each row of the batch. Products are summed exactly, all else is float32.
            Results differ from the layer's in the second or third digit: compare them on your own
            data, for example the accuracy of your task. On CPUs with AVX-512 VNNI, layers of 256
            units or more are 3 to 9 times as fast, of 64 units 1.3 to 1.7 times; elsewhere only
            small batches of large layers gain. A row of x or of the state that has a NaN or an
            infinity gives NaN from that step on.

        head : train.Dense or None
            A dense layer, which reads y. Then calls, steps and streams return its outputs in place
            of y; the state stays that of the layer. It is computed at the layer's dtype at every
            precision, each sum in one order, so results are the same for every batch and number of
            threads.
        portable : bool
            What a pickle has. True: the parameters; whoever loads it packs them for its machine.
            False: the packed weights. A process that loads the pickle of protocol 5 with buffers in
            shared memory (Ray's actors, say) uses them where they lie, so that all processes of a
            machine have one copy; a buffer that does not begin at a multiple of 64 bytes is copied.
            Nobody may write to the buffers while the layer lives: its results would change, and the
            process could crash. A call raises ValueError if their begin, which has the sizes, is
            another one.
            Only the same build of fastrnn, on a CPU that runs the instruction set that packed them
            (and its extension, see `show_config`), can load it. The packed weights then have
            both of their forms, see `Frozen.nbytes`. Without compiled kernels nothing is packed,
            and a pickle has the parameters.

        Returns
        -------
        Frozen

        Raises
        ------
        ValueError
            For an unknown precision, and for a head that does not fit y.
        TypeError
            For a precision other than None and a layer that is not float32, for a head of another
            dtype, and for a `portable` that is no flag.

        References
        ----------
        Scales of rows and integer sums: Jacob et al., Quantization and training of neural networks
        for efficient integer-arithmetic-only inference, 2018.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((7, 2, 3), "float32")
        >>> frozen = layer.freeze()
        >>> y, h = frozen(x)
        >>> bool((y == layer(x)[0]).all())
        True

        >>> from fastrnn import train
        >>> head = train.Dense(5, 2, activation="softmax", rng=0)
        >>> p, h = layer.freeze(head=head)(x)
        >>> p.shape, bool(np.allclose(p, head(y)))
        ((7, 2, 2), True)
        """
        of_y = head_of(head, self._structure)
        portable = checks.flag("portable", portable)
        return Frozen(self._structure, self._parameters, precision, head=of_y, portable=portable)

    def stream(
        self, batch_size: SupportsIndex = 1, *, one_hot: bool = False,
        embedding: Floats | None = None,
    ) -> Stream[State, Given]:  # fmt: skip
        """Return a `Stream`: it packs the weights once, runs step by step and keeps the state.

        The same as ``layer.freeze().stream(...)``. For several streams freeze the layer yourself:
        they share the packed weights then. With `out`, a step allocates nothing, except with an
        embedding, whose rows it gathers into a new array.

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
        >>> layer, x = fastrnn.GRU(3, 5, rng=0), np.ones((7, 2, 3), "float32")
        >>> stream = layer.stream(batch_size=2)
        >>> bool((np.stack([stream.step(x_t) for x_t in x]) == layer(x)[0]).all())
        True
        """
        return self.freeze().stream(batch_size, one_hot=one_hot, embedding=embedding)

    def __repr__(self) -> str:
        given = [f"{self.input_size}, {self.hidden_size}"]
        given += [f"num_layers={self.num_layers}"] * (self.num_layers > 1)
        given += ["bias=False"] * (not self.bias) + ["batch_first=True"] * self.batch_first
        given += [f"dropout={self.dropout}"] * (self.dropout > 0)
        given += [f"dropout_mask={self.dropout_mask!r}"] * (self.dropout_mask != "step")
        given += ["bidirectional=True"] * self.bidirectional
        given += [f"proj_size={self.proj_size}"] * (self.proj_size > 0)
        given += [f"merge={self.merge!r}"] * (self.merge != "concat")
        given += ["reverse=True"] * self.reverse
        given += [f"{name}={value!r}" for name, value in self.options.non_default().items()]
        given += [f"recurrent_dropout={self.recurrent_dropout}"] * (self.recurrent_dropout > 0)
        given += [f"init={self.init!r}"] * (self.init != "pytorch")
        given += [f"forget_bias={self.forget_bias}"] * (self.forget_bias is not None)
        given += self._options() + [f'dtype="{self.dtype}"']
        return f"fastrnn.{type(self).__name__}({', '.join(given)})"

    def _options(self):
        return []
