"""`Loaded`: a fastrnn layer with what its Keras layer did around the arithmetic in a call.

It must not know: files, configurations, Keras.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastrnn._typing import Bools, Floats, Precision
    from fastrnn.keras._recipe import Recipe


class Loaded:
    """A recurrent layer of a Keras model: a call does what the Keras layer did in inference.

    Attributes
    ----------
    name : str
        The Keras layer's name.
    layer : fastrnn.RNN, LSTM or GRU, or a Frozen
        It has the weights, batch_first=True, and reverse=True where `go_backwards` is True. It can
        be trained, frozen and streamed.
    return_sequences, return_state, go_backwards, stateful, zero_output_for_mask : bool
        The arguments of the Keras layer. In a Bidirectional, Keras itself sets
        zero_output_for_mask to return_sequences.
    mask_zero : bool
        In the model, an Embedding with mask_zero=True makes the layer's mask.
    mask_source : str or None
        The name of the layer that makes the mask, which may be a Masking too. None: the model calls
        the layer without a mask.
    dropout, recurrent_dropout : float
        Those of the Keras layer. They act in its training alone; `layer` does without.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn.keras
    >>> class LSTM:  # stands for a layer of Keras
    ...     __module__ = "keras.layers"
    ...
    ...     def get_config(self):
    ...         return {"name": "lstm", "units": 5, "activation": "tanh", "use_bias": False,
    ...                 "recurrent_activation": "sigmoid", "return_sequences": True}
    ...
    ...     def get_weights(self):
    ...         return [np.ones((3, 20), "float32"), np.ones((5, 20), "float32")]
    >>> loaded = fastrnn.keras.from_keras(LSTM())
    >>> loaded(np.ones((2, 7, 3), "float32")).shape  # 2 sequences of 7 steps
    (2, 7, 5)
    """

    name: str
    layer: Any
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool
    mask_zero: bool
    mask_source: str | None
    dropout: float
    recurrent_dropout: float

    def __init__(self, recipe: Recipe, layer: Any, mask: Any = None) -> None:
        self.name, self.layer = recipe.name, layer
        vars(self).update(recipe.call._asdict())
        self.mask_zero = mask is not None and mask.mask_zero
        self.mask_source = None if mask is None else mask.source
        self.dropout, self.recurrent_dropout = recipe.dropout, recipe.recurrent_dropout
        self._recipe, self._state = recipe, None

    def __repr__(self) -> str:
        names = *self._recipe.call._fields, "mask_zero"
        options = "".join([f", {name}=True" for name in names if getattr(self, name)])
        return f"Loaded({self.name!r}, {self.layer!r}{options})"

    def __call__(self, x: Floats, *, mask: Bools | None = None, initial_state: Any = None) -> Any:
        """Return what the Keras layer returns, as NumPy arrays.

        Parameters
        ----------
        x : array (B, T, input_size) of the layer's dtype
        mask : (B, T) booleans, or None
            False where a row keeps its state. It must be given where `mask_source` names a layer,
            because in the model the mask comes with x: for an Embedding it is ids != 0.
        initial_state : arrays (B, H), as Keras takes them, or None for zeros
            h of a GRU or SimpleRNN, a list [h, c] of an LSTM. A Bidirectional has a list of the
            forward layer's arrays, then of the backward layer's; stacked cells have a list for each
            cell. With `stateful`, None is the state after the last call.

        Returns
        -------
        y : array (B, T, features), or (B, features) without return_sequences
            With go_backwards, y begins with the last step of x, as in Keras. A Bidirectional with
            merge_mode None has two arrays.
        states : arrays as in `initial_state`
            Only with return_state. Then the result is a tuple (y, state, ...).

        Raises
        ------
        ValueError, TypeError
            For shapes and dtypes that do not fit the layer, and where the mask is missing.

        Examples
        --------
        >>> import fastrnn.keras
        >>> lstm = fastrnn.keras.load("model.keras")["lstm"]  # doctest: +SKIP
        >>> y = lstm(table[ids], mask=ids != 0)  # behind an Embedding  # doctest: +SKIP
        """
        x = checks.as_array("x", x, str(self.layer.dtype))
        if x.ndim != 3:
            raise ValueError(
                f"x must be (B, T, input_size) with input_size = {self.layer.input_size}, three "
                f"axes, got {x.shape}"
            )
        if mask is not None:
            mask = checks.flags("mask", mask)
            checks.shaped("mask", mask, ("B", "T"), x.shape[:2])
        elif self.mask_source is not None:
            fix = "ids != 0" if self.mask_zero else "the mask of that layer"
            raise ValueError(
                f"mask must be given: in the model the layer {self.mask_source!r} makes it: "
                f"pass mask={fix}"
            )
        state = self._given_state(initial_state, len(x))
        y, last = self.layer(x, state, mask=mask, zero_output_for_mask=self.zero_output_for_mask)
        if self.stateful:
            self._state = copy.deepcopy(last)  # results are views of `last`
        if not self.return_sequences:
            y = self._at_the_end(last, mask)
        elif self.go_backwards:
            y = y[:, ::-1]  # Keras gives them in the order in which they were computed
        if not self.return_state:
            return y
        outputs = y if isinstance(y, tuple) else (y,)
        return (*outputs, *self._states_of_keras(last))

    def reset_state(self) -> None:
        """Forget the state of a stateful layer, so that the next call begins with zeros.

        Examples
        --------
        >>> import fastrnn.keras
        >>> lstm = fastrnn.keras.load("model.keras")["lstm"]  # doctest: +SKIP
        >>> y = [lstm(chunk) for chunk in chunks]  # doctest: +SKIP
        >>> lstm.reset_state()  # another sequence begins  # doctest: +SKIP
        """
        self._state = None

    def freeze(self, precision: Precision | None = None) -> Loaded:
        """A `Loaded` whose `layer` is a snapshot with its weights packed once, for short calls.

        Parameters
        ----------
        precision : None, "bfloat16-weights", "bfloat16" or "int8"
            As for `fastrnn.LSTM.freeze`.

        Returns
        -------
        Loaded
            It begins without a state.

        Raises
        ------
        ValueError, TypeError
            As for `fastrnn.LSTM.freeze`.

        Examples
        --------
        >>> import fastrnn.keras
        >>> lstm = fastrnn.keras.load("model.keras")["lstm"].freeze()  # doctest: +SKIP
        """
        frozen = copy.copy(self)
        frozen.layer, frozen._state = self.layer.freeze(precision), None
        return frozen

    def _at_the_end(self, last, mask):
        """The last output, which Keras has in place of y; `last` is the final state."""
        output = self.layer.last(last)
        if self._recipe.bidirectional or not self.zero_output_for_mask:
            return output  # a Bidirectional zeroes its y at each step alone
        if mask is None or not mask.shape[1]:
            return output
        final = mask[:, :1] if self.go_backwards else mask[:, -1:]
        return np.where(final, output, output.dtype.type(0))

    def _states_of_keras(self, last):
        parts = last if isinstance(last, tuple) else (last,)
        cells = [[part[slot] for part in parts] for slot in range(self._recipe.passes)]
        if self._recipe.num_layers > 1:
            return cells
        return [part for cell in cells for part in cell]

    def _given_state(self, initial_state: Sequence[Any] | None, batch):
        """The state (slots, B, H) for the layer, from Keras' arrays (B, H)."""
        if initial_state is None:
            state = self._state if self.stateful else None
            h = state[0] if isinstance(state, tuple) else state
            if h is not None and h.shape[1] != batch:
                raise ValueError(
                    f"x must have B = {h.shape[1]} rows, as in the last call, whose state is kept, "
                    f"got {batch}: call reset_state() before other rows"
                )
            return state
        parts = 2 if self._recipe.cell == "lstm" else 1
        found = _flat(initial_state)
        wanted = parts * self._recipe.passes
        if len(found) != wanted:
            raise ValueError(f"initial_state must have {wanted} arrays (B, H), got {len(found)}")
        arrays = [checks.of_dtype("initial_state", a, self.layer.dtype) for a in found]
        for array in arrays:
            checks.shaped("initial_state", array, ("B", "H"), (batch, self._recipe.units))
        stacked = [np.stack(arrays[part::parts]) for part in range(parts)]
        return tuple(stacked) if parts == 2 else stacked[0]


def _flat(value):
    """The arrays of nested lists and tuples, in order."""
    if isinstance(value, list | tuple):
        return [array for part in value for array in _flat(part)]
    return [value]
