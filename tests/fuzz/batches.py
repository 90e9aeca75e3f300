"""The arrays of a case: x or ids, states, gradients, lengths, masks and resets.

They have one form, time first and with a batch. `Form` converts them to the form of the layer's
arguments, and the layer's results back.

It must not know: what is computed.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from . import layouts


def ids_options(ids, embedding):
    """The arguments of a call with ids as x."""
    if embedding is not None:
        return {"embedding": embedding}
    return {"one_hot": True} if ids else {}


@dataclass
class Batch:
    """x (T, B, I) or ids (T, B); rows: lengths, mask, reset as the public calls name them.

    state, dstate : a list of (L*D, B, n) arrays, each perhaps None, or None.
    dy : a list of gradients (T, B, n), one for each array of y, or None.
    unbatched : whether a batch of one is given without its axis.
    layouts : name of an argument -> name of its layout.
    """

    x: np.ndarray
    embedding: np.ndarray | None
    rows: dict
    state: list | None
    dy: list | None
    dstate: list | None
    unbatched: bool
    layouts: dict = field(default_factory=dict)

    @property
    def steps(self):
        return self.x.shape[0]

    @property
    def size(self):
        return self.x.shape[1]

    @property
    def are_ids(self):
        return self.x.ndim == 2

    def works(self):
        """(T, B) booleans, True where a row takes a step."""
        works = np.ones((self.steps, self.size), bool)
        if "lengths" in self.rows:
            works = np.arange(self.steps)[:, None] < self.rows["lengths"]
        return works & self.rows["mask"] if "mask" in self.rows else works

    def of_rows(self, index):
        """The batch of some rows, in any order."""

        def some(arrays, axis=1):
            return None if arrays is None else [
                None if a is None else a.take(index, axis) for a in arrays
            ]  # fmt: skip

        rows = dict(self.rows)
        for name in {"lengths", "mask", "reset"} & rows.keys():
            rows[name] = rows[name].take(index, -1)
        return replace(
            self, x=self.x.take(index, 1), rows=rows, state=some(self.state), dy=some(self.dy),
            dstate=some(self.dstate), unbatched=self.unbatched and len(index) == 1,
        )  # fmt: skip

    def of_steps(self, begin, end):
        """The batch of some steps, without a state and its gradients."""
        rows = dict(self.rows)
        for name in {"mask", "reset"} & rows.keys():
            rows[name] = rows[name][begin:end]
        if "lengths" in rows:
            rows["lengths"] = np.clip(rows["lengths"] - begin, 0, end - begin)
        dy = None if self.dy is None else [d[begin:end] for d in self.dy]
        return replace(self, x=self.x[begin:end], rows=rows, dy=dy, state=None, dstate=None)

    def __str__(self):
        kind = f"ids {self.x.shape}" if self.are_ids else f"x {self.x.shape}"
        if self.embedding is not None:
            kind += f" of an embedding {self.embedding.shape}"
        kind += ", unbatched" if self.unbatched else ""
        for name, value in self.rows.items():
            told = value
            if name == "lengths":
                told = value.tolist() if value.size <= 16 else f"sum {value.sum()}"
            elif isinstance(value, np.ndarray):
                told = f"{value.sum()} of {value.size}"
            kind += f", {name}: {told}"
        missing = [n for n in ("state", "dy", "dstate") if getattr(self, n) is None]
        kind += f"; without {', '.join(missing)}" if missing else ""
        odd = {name: layout for name, layout in self.layouts.items() if layout != "plain"}
        return kind + (f"; layouts {odd}" if odd else "")


class Form:
    """The form of a layer's arguments and results."""

    def __init__(self, layer, batch):
        self.unbatched = batch.unbatched
        self.swapped = layer.batch_first and not batch.unbatched
        self.pair = layer.merge is None
        self.layouts = batch.layouts
        self.given = []  # the arrays that were passed, and copies of them

    def check_given(self):
        """Assert that no call has written to its arguments."""
        for name, array, held in self.given:
            if array.tobytes() != held:
                raise AssertionError(f"{name} was written to")

    def _turned(self, array):
        if self.unbatched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.swapped else array

    def _laid(self, name, array, table=layouts.ANY):
        """A copy in the layout that was drawn."""
        laid = table[self.layouts.get(name, "plain")](np.array(array, order="C"))
        self.given.append((name, laid, laid.tobytes()))
        return laid

    def sequence(self, name, array, table=layouts.ANY):
        return self._laid(name, self._turned(array), table)

    def state(self, name, parts):
        """h, or the pair (h, c), each perhaps None."""
        if parts is None or (len(parts) == 1 and parts[0] is None):
            return None
        laid_out = [
            None if a is None else self._laid(name, a[:, 0] if self.unbatched else a)
            for a in parts
        ]  # fmt: skip
        return tuple(laid_out) if len(laid_out) > 1 else laid_out[0]

    def gradient(self, dy):
        """The gradient of y, or of each of its two arrays."""
        if dy is None:
            return None
        gradients = tuple(self.sequence("dy", d) for d in dy)
        return gradients if self.pair else gradients[0]

    def arguments(self, batch):
        """x and the options for a call."""
        given = {n: v for n, v in batch.rows.items() if isinstance(v, str | bool)}
        for name in {"mask", "reset"} & batch.rows.keys():
            given[name] = self.sequence(name, batch.rows[name], layouts.FLAGS)
        if "lengths" in batch.rows:
            lengths = batch.rows["lengths"]
            lengths = lengths[0] if self.unbatched else lengths
            given["lengths"] = self._laid("lengths", lengths, layouts.INTEGERS)
        embedding = batch.embedding
        if embedding is not None:
            embedding = self._laid("embedding", embedding)
        table = layouts.INTEGERS if batch.are_ids else layouts.ANY
        x = self.sequence("x", batch.x, table)
        return x, given | ids_options(batch.are_ids, embedding)

    def back(self, array):
        """A result of the layer as (T, B, ...)."""
        if self.unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.swapped else array

    def states_back(self, state):
        parts = state if isinstance(state, tuple) else (state,)
        return [a[:, None] if self.unbatched else a for a in parts]

    def ys_back(self, y):
        return [self.back(a) for a in (y if isinstance(y, tuple) else (y,))]


# ---- drawing -------------------------------------------------------------------------------------


def drawn(rng, layer, steps, size):
    """A random batch of so many steps and rows."""
    x, embedding = _inputs(rng, layer, steps, size)
    rows = _rows(rng, steps, size) if rng.random() < 0.6 else {}
    if rows.get("mask") is not None and rng.random() < 0.3:
        rows["zero_output_for_mask"] = True
    width = layer._structure.features * (layer.num_directions if layer.merge == "concat" else 1)
    dy = [_floats(rng, layer.dtype, steps, size, width) for _ in range(1 + (layer.merge is None))]
    batch = Batch(
        x, embedding, rows, _state(rng, layer, size), None if rng.random() < 0.1 else dy,
        _state(rng, layer, size), unbatched=size == 1 and bool(rng.random() < 0.5),
    )  # fmt: skip
    if batch.are_ids:  # a step that is not taken may have any integer
        batch.x = np.where(batch.works(), x, rng.choice((0, -1, 10**9, 3)))
    if rng.random() < 0.3:
        batch.layouts = drawn_layouts(rng, batch)
    return batch


def drawn_layouts(rng, batch):
    """The name of a layout for every argument."""

    def one(table):
        return str(rng.choice(list(table)))

    names = dict.fromkeys(("state", "dy", "dstate", "embedding"), layouts.ANY)
    names["x"] = layouts.INTEGERS if batch.are_ids else layouts.ANY
    names |= {"lengths": layouts.INTEGERS, "mask": layouts.FLAGS, "reset": layouts.FLAGS}
    return {name: one(table) for name, table in names.items()}


def _floats(rng, dtype, *shape):
    return rng.uniform(-1, 1, shape).astype(dtype)


def _inputs(rng, layer, steps, size):
    """x and an embedding: features, ids of features, or ids of an embedding."""
    if rng.random() < 0.7 or (layer.input_size == 0 and steps * size > 0):
        x = _floats(rng, layer.dtype, steps, size, layer.input_size)
        if steps * size and rng.random() < 0.1:  # equal steps or rows, which may have stride 0
            x = np.repeat(x[:1], steps, 0) if rng.random() < 0.5 else np.repeat(x[:, :1], size, 1)
        return x, None
    if rng.random() < 0.5:
        return rng.integers(0, max(1, layer.input_size), (steps, size)), None
    words = int(rng.choice((1, 2, 7, 60, 400)))
    used = max(1, int(words * rng.choice((1.0, 0.3))))
    return rng.integers(0, used, (steps, size)), _floats(rng, layer.dtype, words, layer.input_size)


def _state(rng, layer, size):
    """A list of arrays, each perhaps None, or None."""
    if rng.random() < 0.2:
        return None
    rows = layer.num_layers * layer.num_directions
    return [
        None if rng.random() < 0.05 else _floats(rng, layer.dtype, rows, size, n)
        for n in layer._structure.state_sizes
    ]  # fmt: skip


def _rows(rng, steps, size):
    """lengths, mask and reset; each is there in some cases only."""
    rows = {}
    if rng.random() < 0.7:
        rows["lengths"] = _lengths(rng, steps, size)
    for name in ("mask", "reset"):
        if rng.random() < 0.4:
            rows[name] = _flags(rng, steps, size)
    if "reset" in rows and rng.random() < 0.5:
        rows["reset_to"] = "initial"
    return rows


def _lengths(rng, steps, size):
    """(B,) lengths: random ones, sorted ones, or so short that most rows have no step."""
    kind = rng.choice(("any", "falling", "rising", "all", "none", "one row", "few", "twos"))
    lengths = rng.integers(0, steps + 1, size)
    if kind in ("falling", "rising"):
        lengths = np.sort(lengths)[:: -1 if kind == "falling" else 1]
    elif kind in ("all", "none"):
        lengths[:] = steps if kind == "all" else 0
    elif kind in ("one row", "few"):
        lengths[:] = 0
        for _ in range(1 if kind == "one row" else int(rng.integers(0, 9))):
            if size:
                k = rng.integers(size)
                lengths[k] = steps if kind == "one row" else min(steps, lengths[k] + 1)
    elif kind == "twos":
        lengths = np.minimum(lengths, 2)
    return lengths


def _flags(rng, steps, size):
    """(T, B) booleans, in some cases equal over rows or over steps."""
    p = float(rng.choice((0.0, 0.1, 0.7, 0.95, 1.0)))
    flags = rng.random((steps, size)) < p
    kind = rng.random()
    if kind < 0.15:
        return np.repeat(flags[:1], steps, 0)
    return np.repeat(flags[:, :1], size, 1) if kind < 0.3 and size else flags
