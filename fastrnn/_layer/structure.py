"""A layer's structure: its sizes, the names of its parameters, and the layout of its arrays.

A layer, its tapes and its windows refer to one `Structure`; a stream copies from it what it needs.
The user's x is (T, B, I), (B, T, I) or (T, I). Passes always have (T, B, I).

It must not know: the values of parameters, kernels, tapes.
"""

import numpy as np

from fastrnn import checks
from fastrnn._engine import ids, ragged
from fastrnn._layer.merge import MERGES
from fastrnn._layer.parameters import size_of

_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # the parameters of every cell

_ELEMENTS_WITHOUT_A_CHECK = 2**40  # certainly addressable; to compare is quicker than checks.fits


class Structure:
    """The sizes, options and names of a layer, which cannot change.

    The values of parameters and the random numbers of a layer are elsewhere. A pass is one
    direction of one layer of the stack. Its slot is its index in a state's arrays.

    Attributes
    ----------
    cell : registry.Cell
    input_size, hidden_size, num_layers, bias, batch_first, merge, dtype, reverse : as the layer's
    num_directions : int
        D.
    features : int
        The features of h and of one direction's y: proj_size, or hidden_size without a projection.
    features_symbol : str
        The name of that size in messages: "proj_size" or "hidden_size".
    width : int
        Features of the top layer's y with its directions side by side: D * features.
    state_sizes, state_symbols : tuple of int, tuple of str
        The features of each array of a state, and the names of these sizes in messages.
    slots : int
        The number of passes, L * D.
    passes_of_layers : list
        For each layer of the stack a list of its passes: slot, reverse (a bool), and a slice of y's
        features (None for all).
    shapes : dict
        The shape of every parameter, by name, in the order of `flat`.
    size : int
        The number of elements of all parameters.
    """

    def __init__(
        self, cell, input_size, hidden_size, proj_size, num_layers, bias, batch_first,
        bidirectional, merge, dtype, reverse=False,
    ):  # fmt: skip
        self.cell = cell
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.merge, self.dtype = bias, batch_first, merge, dtype
        self.reverse = reverse
        self.num_directions = 2 if bidirectional else 1
        self.features = proj_size or hidden_size
        self.width = self.num_directions * self.features
        self.features_symbol = "proj_size" if proj_size else "hidden_size"
        self.state_sizes = (self.features, hidden_size)[: len(cell.states)]
        self.state_symbols = (self.features_symbol, "hidden_size")[: len(cell.states)]
        self.slots = num_layers * self.num_directions
        checks.fits(
            dtype.itemsize, 2 * num_layers * cell.gates, hidden_size,
            hidden_size + max(input_size, self.width),
        )  # fmt: skip
        halves = slice(self.features), slice(self.features, None)
        self.passes_of_layers = [
            [(2 * index, False, halves[0]), (2 * index + 1, True, halves[1])]
            if bidirectional
            else [(index, reverse, None)]
            for index in range(num_layers)
        ]
        self._kinds = *_KINDS, *(extra.kind for extra in cell.extras)
        self._names = [self._names_of(slot) for slot in range(self.slots)]
        self.shapes = self._shapes()
        self.size = size_of(self.shapes)

    def is_like(self, other):
        """Return whether a layer of another structure takes and gives the same arrays."""
        mine, its = [
            (s.cell, s.shapes, s.dtype, s.merge, s.batch_first, s.passes_of_layers)
            for s in (self, other)
        ]
        return mine == its

    def _names_of(self, slot):
        """The name of each of a pass's parameters, in the order of `_kinds`.

        None for a parameter that the layer does not have.
        """
        index, direction = divmod(slot, self.num_directions)
        suffix = f"_l{index}" + ("_reverse" if direction else "")
        absent = () if self.cell.recurrent else ("weight_hh", "bias_hh")
        if not self.bias:
            absent += tuple([kind for kind in self._kinds if kind.startswith("bias")])
        return [None if kind in absent else kind + suffix for kind in self._kinds]

    def names(self, slot):
        """The names of a pass's parameters: kind -> name."""
        named = zip(self._kinds, self._names[slot], strict=True)
        return {kind: name for kind, name in named if name is not None}

    def parameters(self, slot, arrays):
        """The parameters of one direction of one layer: w_ih, w_hh, b_ih, b_hh and the extras.

        None for a parameter that the layer does not have.

        arrays : a dict from the names of all parameters to arrays.
        """
        return tuple(map(arrays.get, self._names[slot]))

    def _shapes(self):
        cell, hidden, shapes = self.cell, self.hidden_size, {}
        for slot in range(self.slots):
            inputs = self.input_size if slot < self.num_directions else self.width
            of_pass = {
                "weight_ih": (cell.gates * hidden, inputs),
                "weight_hh": (cell.recurrent * hidden, self.features),
                "bias_ih": (cell.gates * hidden,),
                "bias_hh": (cell.recurrent * hidden,),
            }
            for kind, units, _ in cell.extras:
                of_pass[kind] = (self.features, hidden) if units is None else (units * hidden,)
            shapes |= {name: of_pass[kind] for kind, name in self.names(slot).items()}
        return shapes

    def new_state(self, batch, make=np.empty):
        """New arrays of a state: (slots, B, H), but h is (slots, B, P) with a projection."""
        slots, dtype = self.slots, self.dtype
        return tuple([make((slots, batch, size), dtype) for size in self.state_sizes])

    def from_user(self, array, unbatched):
        """A view as (T, B, ...) of a user's array: (T, B, ...), (B, T, ...) or (T, ...)."""
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def to_user(self, array, unbatched):
        """A view in the user's layout of an array (T, B, ...): the inverse of `from_user`."""
        if unbatched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.batch_first else array

    def state_to_user(self, state, unbatched):
        if unbatched:
            state = tuple([s[:, 0] for s in state])
        return state if len(state) > 1 else state[0]

    def _checked_x(self, x, of_ids=False):
        """x as (T, B, I) that a kernel can read, or ids (T, B); and True if x is unbatched."""
        if of_ids:
            x = ids.integers("x", x, (1, 2))
            unbatched = x.ndim == 1
            return self.from_user(x, unbatched), unbatched
        if type(x) is not np.ndarray or x.dtype is not self.dtype:
            x = checks.features("x", x, self.dtype)
        shape = x.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            batched = "(B, T, input_size)" if self.batch_first else "(T, B, input_size)"
            raise ValueError(
                f"x must be {batched} or (T, input_size) with input_size = {self.input_size}, "
                f"got {shape}{checks.features_last(shape, self.input_size)}"
            )
        unbatched = len(shape) == 2
        if unbatched or self.batch_first:
            x = self.from_user(x, unbatched)
        return (x if x.flags.carray else checks.rows(x)), unbatched

    def checked_input(self, x, rows, one_hot, embedding):
        """x as (T, B, I) that a kernel can read or as `Ids`, True if it is unbatched, `Rows`.

        rows : lengths, mask, reset and reset_to, or None.
        """
        of_ids = one_hot is not False or embedding is not None
        of_ids = of_ids and ids.wanted(one_hot, embedding)
        x, unbatched = self._checked_x(x, of_ids)
        if rows is not None:
            rows = self._rows(x, unbatched, *rows)
        if of_ids:
            x = ids.checked("x", x, self.input_size, embedding, self.dtype, rows)
        steps, batch, _ = x.shape
        longest = steps if steps > self.slots else self.slots
        if longest * batch * self.width > _ELEMENTS_WITHOUT_A_CHECK:
            checks.fits(x.itemsize, longest, batch, self.width)
        return x, unbatched, rows

    def _rows(self, x, unbatched, lengths, mask, reset, reset_to):
        """The `ragged.Rows` of a call."""
        steps, batch = x.shape[:2]
        batch = None if unbatched else batch
        return ragged.rows(steps, batch, lengths, mask, reset, reset_to, self.batch_first)

    def output(self, y, unbatched, shown, read_only):
        """The user's y from the top layer's, (T, B, D*H).

        shown : (T, B, 1) booleans, False where y becomes 0; or None.
        """
        if shown is not None:
            y = np.where(shown, y, 0)
        if read_only:
            y.flags.writeable = False
        if unbatched or self.batch_first:
            y = self.to_user(y, unbatched)
        if self.merge == "concat":
            return y
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            return MERGES[self.merge].together(y[..., : self.features], y[..., self.features :])

    def check_steps(self):
        """ValueError if the layer cannot run step by step."""
        self.check_begins_first("stream")

    def check_begins_first(self, what):
        """ValueError unless every pass begins at the first step; what : "stream" or the like."""
        for kind, option, given in (
            ("bidirectional", "bidirectional", self.num_directions > 1),
            ("reversed", "reverse", self.reverse),
        ):
            if given:
                raise ValueError(
                    f"a {kind} layer cannot {what}, because it reads the sequence's end first: "
                    f"use {option}=False"
                )

    def checked_out(self, out, x, unbatched, first, shown):
        """A view (T, B, D*H) of `out` that passes can write to; None if y must be copied into it.

        first : the arrays of the state before the first step. shown : as for `output`.

        Raises
        ------
        ValueError, TypeError
            If `out` cannot be y.
        """
        if self.merge is None:
            raise ValueError("out must be None with merge=None, because y is a pair there")
        steps, batch, _ = x.shape
        width = self.width if self.merge == "concat" else self.features
        shape, symbols = (steps, batch, width), ("T", "B", "features of y")
        if unbatched:
            shape, symbols = shape[::2], symbols[::2]
        elif self.batch_first:
            shape, symbols = (batch, steps, width), ("B", "T", "features of y")
        checks.output("out", out, symbols, shape, self.dtype)
        if self.merge != "concat" or shown is not None or not checks.has_rows(out):
            return None
        read = x.embedding if isinstance(x, ids.Ids) else x
        if any(array is not None and np.may_share_memory(out, array) for array in (read, *first)):
            return None
        return self.from_user(out, unbatched)

    def check_gates(self, arrays):
        """ValueError for the first matrix of another cell; arrays are parameters by name."""
        kind = "weight_hh" if self.cell.recurrent else "weight_ih"
        name = self.names(0)[kind]
        shape = tuple(getattr(arrays[name], "shape", ()))
        if len(shape) != 2 or self.features != self.hidden_size:  # a projection tells the cell
            return
        hidden = shape[1] if self.cell.recurrent else self.hidden_size
        hint = checks.other_cell(self.cell.gates, shape[0], hidden, self.cell.recurrent > 0)
        if hint is not None and shape[0] != self.shapes[name][0]:
            raise ValueError(f"{name} must be {self.shapes[name]}, got {shape}: {hint}")

    def _checked_parts(self, name, value, batch, unbatched, steps=None):
        """The arrays of a state or of its gradient, each (L*D, B, H) or None.

        steps : T, for a hint in the message; or None
        """
        parts = checks.state_parts(self.cell, value, name)
        checked = []
        known = zip(self.cell.states, self.state_sizes, self.state_symbols, strict=True)
        for part, (label, size, symbol) in zip(parts, known, strict=True):
            shape, symbols = (self.slots, batch, size), ("layers*directions", "B", symbol)
            if unbatched:
                shape, symbols = shape[::2], symbols[::2]
            label = name if len(parts) == 1 else f"{label} of {name}"
            exchanged = getattr(part, "shape", None) == (self.slots, steps, size)
            hint = checks.EXCHANGED if exchanged and not unbatched else None
            part = checks.optional(label, part, shape, symbols, self.dtype, hint)
            checked.append(part[:, None] if unbatched and part is not None else part)
        return checked

    def checked_state(self, state, batch, unbatched, steps=None):
        """The arrays of a state, zeros for None. steps : T, for a hint; or None."""
        parts = self._checked_parts("state", state, batch, unbatched, steps)
        zeros = self.new_state(batch, np.zeros)
        return tuple(
            [z if p is None else checks.dense(p) for p, z in zip(parts, zeros, strict=True)]
        )

    def checked_dstate(self, dstate, last, outputs, batch, unbatched):
        """The gradient of the final state: dstate, plus `last` in the h of the top layer.

        outputs : the last output of each direction, for merge="mul"; else not read.
        """
        parts = [None] * len(self.cell.states)
        if dstate is not None:
            parts = self._checked_parts("dstate", dstate, batch, unbatched)
        if last is not None:
            parts[0] = self._with_last(parts[0], last, outputs, batch, unbatched)
        return tuple(None if p is None else checks.dense(p) for p in parts)

    def _with_last(self, dh, last, outputs, batch, unbatched):
        """dh (slots, B, features) or None, and the gradient of the last output -> a new dh."""
        lead = {} if unbatched else {"B": batch}
        top = self._separate("last", last, lead, outputs, np.atleast_2d)
        new = np.zeros((self.slots, batch, self.features), self.dtype) if dh is None else dh.copy()
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            for slot, part in enumerate(top, self.slots - len(top)):
                if part is not None:  # assigned, not added: 0 + -0 would be +0
                    new[slot] = part if dh is None else dh[slot] + part
        return new

    def last_output(self, state):
        """The final h of the top layer, its directions merged as in y, as a new array.

        With merge=None it is a pair of arrays.

        Raises
        ------
        ValueError, TypeError
            If the state is not one that the layer returns.
        """
        h = checks.state_parts(self.cell, state)[0]
        if h is None:
            raise ValueError("state must have the final h, got None in its place")
        h = np.asarray(h)
        if h.ndim not in (2, 3):
            raise ValueError(
                f"state must be a state that the layer returned, whose h is (layers*directions, B, "
                f"{self.features_symbol}), got an array of shape {h.shape}: a y, or a part of h?"
            )
        unbatched = h.ndim == 2
        h = self._checked_parts("state", state, 1 if unbatched else h.shape[1], unbatched)[0]
        outputs = h[-self.num_directions :, 0] if unbatched else h[-self.num_directions :]
        if len(outputs) == 1:
            return outputs[0].copy()
        if self.merge == "concat":
            return np.concatenate(list(outputs), axis=-1)
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            return MERGES[self.merge].together(outputs[0].copy(), outputs[1].copy())

    def gradients_of_directions(self, dy, ys, unbatched):
        """Each direction's gradient of y, from the gradient of the layer's y; ys : each one's y."""
        steps, batch, _ = ys[0].shape
        lead = {"T": steps, "B": batch}
        if unbatched:
            lead = {"T": steps}
        elif self.batch_first:
            lead = {"B": batch, "T": steps}
        return self._separate("dy", dy, lead, ys, lambda d: self.from_user(d, unbatched))

    def _separate(self, name, gradient, lead, outputs, converted):
        """Each direction's part, (..., features), of a gradient of merged outputs; or None.

        lead : symbols of the axes before the features -> sizes. outputs : each direction's.
        converted : function from a user's array to the layout of `outputs`.
        """
        directions = len(outputs)

        def checked(name, part, directions):
            symbol = self.features_symbol
            symbol = f"directions*{symbol}" if directions > 1 else symbol
            shape = *lead.values(), directions * self.features
            part = checks.optional(name, part, shape, (*lead, symbol), self.dtype)
            return None if part is None else converted(part)

        if self.merge == "concat":
            return self.halves(checked(name, gradient, directions), directions)
        if gradient is None:
            return None, None
        if self.merge is None:
            if not isinstance(gradient, tuple | list) or len(gradient) != 2:
                raise ValueError(
                    f"{name} must be a pair, one for each direction, as y is (merge=None)"
                )
            names = f"{name} of the forward direction", f"{name} of the backward direction"
            gradient = tuple([
                checked(name, part, 1) for name, part in zip(names, gradient, strict=True)
            ])  # fmt: skip
        else:
            gradient = checked(name, gradient, 1)
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            return MERGES[self.merge].separate(gradient, *outputs)

    def halves(self, array, directions):
        """Each direction's part of an array (..., directions * H); for None a None for each."""
        if array is None or directions == 1:
            return (array,) * directions
        return array[..., : self.features], array[..., self.features :]
