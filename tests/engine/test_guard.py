"""Guard pages: the kernels touch no byte outside their arrays and write to no input.

Every array of a call is in memory of its own between two forbidden pages. In one run arrays end at
the page after them, in another they begin at the page before them. Inputs are made read-only. A
fault kills the process, so the cases of an instruction set run in a process of their own: this file
as a script, which prints each case before it runs it.
"""

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.any_isa

core = pytest.importorskip("fastrnn._engine._core", reason="this build has no kernels")
passes = pytest.importorskip("fastrnn._engine.passes")

CELLS = {cell["name"]: cell | {"index": index} for index, cell in enumerate(core.cells())}
VARIANTS = [name for name, cell in CELLS.items() if name != cell["plain"]]
NUMBERS = {"clip": 0.05, "cell_clip": 0.04, "recurrent_activation": 0.2}
ZONEOUT = (0.1, 0.3)  # of h and of c
ROWS = (1, 2, 3, 5, 6, 7, 8, 9, 13)
UNITS = (1, 3, 4, 7, 8, 9, 15, 16, 17, 33)
INPUTS = (1, 2, 5, 8, 16, 17, 19)
LONG = (
    (70, 1, 3, 5),
    (1100, 1, 3, 5),
    (70, 1, 9, 5),
    (140, 2, 2, 3),
    (3, 2, 0, 5),
    (3, 0, 2, 5),
    (0, 2, 3, 4),
)
SHARED = (
    (26, 10, 3, 131),
    (128, 2, 20, 131),
    (4, 101, 3, 66),
)  # T, B, I, H: large enough to be shared out
MANY_ROWS = (
    (2801, 3, 2, 5),
    (5, 1700, 2, 3),
    (9000, 1, 1, 3),
    (1200, 7, 2, 5),
)  # whose sums go by blocks
SLACK = 64  # of a byte buffer's size: room to align it
NOTHING = np.empty(0, np.uint8)


# ---- memory --------------------------------------------------------------------------------------


class Pages:
    """Slots of memory between forbidden pages, an array in each. All are freed together."""

    def __init__(self, slots=96, size=1 << 25):
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.stride = self.size + mmap.PAGESIZE
        self.map = mmap.mmap(-1, slots * self.stride + mmap.PAGESIZE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.slots, self.read_only = slots, []
        self.libc = ctypes.CDLL(None, use_errno=True)
        for slot in range(slots + 1):
            self._protect(self._slot(slot) - mmap.PAGESIZE, mmap.PAGESIZE, 0)
        self.clear(at_end=True)

    def _protect(self, address, size, access):
        if self.libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def _slot(self, number):
        return self.start + number * self.stride + mmap.PAGESIZE

    def clear(self, at_end):
        """Free all; the next arrays are at the ends of their slots, or at the begins."""
        self.at_end = at_end
        self.used = 0
        while self.read_only:
            slot = self.read_only.pop()
            self._protect(slot, self.size, mmap.PROT_READ | mmap.PROT_WRITE)

    def _next(self, nbytes):
        assert nbytes <= self.size and self.used < self.slots
        self.used += 1
        return self._slot(self.used - 1) + (self.size - nbytes if self.at_end else 0)

    def array(self, shape, dtype, values=None):
        """A read-only array filled by `values`, or for None an output full of NaN."""
        count = int(np.prod(shape))
        size = count * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self._next(size))
        result = np.frombuffer(memory, dtype, count) if count else np.empty(0, dtype)
        result = result.reshape(shape)
        if values is None:
            result.fill(np.nan)
        else:
            result[...] = values[:count].reshape(shape)
            self.read_only.append(self._slot(self.used - 1))
            self._protect(self.read_only[-1], self.size, mmap.PROT_READ)
        return result

    def buffer(self, needed):
        """A byte buffer of which only the slack reaches into the page after it.

        It begins as NaN at the end of a slot and as zeros at the begin, for it matters to nobody.
        """
        address = self._next(needed - SLACK)
        buffer = np.frombuffer((ctypes.c_uint8 * needed).from_address(address), np.uint8)
        buffer[:-SLACK] = 255 if self.at_end else 0
        return buffer

    def in_workspace(self, call, *arguments):
        """The call, in a workspace of exactly the bytes that it says it needs."""
        assert call(*arguments, self.buffer(call(*arguments, NOTHING))) == 0


# ---- the cases, in a process of their own -------------------------------------------------------


def cases(every):
    """Yield number, cell, dtype, (T, B, I, H); with every=8, an eighth of them."""
    sizes = []
    for n, (rows, units) in enumerate(itertools.product(ROWS, UNITS)):
        sizes.append((2 + n % 2, rows, INPUTS[n % len(INPUTS)], units))
    kinds = itertools.product(CELLS, (np.dtype("f4"), np.dtype("f8")))
    for kind, (cell, dtype) in enumerate(kinds):
        for n, size in enumerate((*sizes, *LONG, *SHARED, *MANY_ROWS)):
            if (n + n // 6 + kind) % every:  # n // 6: for any n % 2 and n % 3
                continue
            if cell not in VARIANTS or n % 11 == 0 or n >= len(sizes):
                yield n, cell, dtype, size


class Paged:
    """NumPy for the compiled module, with byte buffers in pages of their own."""

    def __init__(self, pages):
        self.pages = pages

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        if dtype is np.uint8:
            return self.pages.buffer(shape)
        return self.pages.array(shape, np.dtype(dtype))


def weights_of(pages, values, n, cell, dtype, inputs, hidden, kind=core.Weights):
    """`Weights` of which every array is in pages of its own, and a dict of their arrays."""
    entry, states = CELLS[cell], CELLS[cell]["states"]

    def draw(*shape):
        return pages.array(shape, dtype, values)

    arrays = {"w_ih": draw(entry["gates"] * hidden, inputs)}
    if entry["recurrent"]:
        arrays["w_hh"] = draw(entry["recurrent"] * hidden, hidden)
    for bias, gates, remainder in ("b_ih", "gates", 1), ("b_hh", "recurrent", 2):
        if n % 4 != remainder and entry[gates]:
            arrays[bias] = draw(entry[gates] * hidden)
    arrays["extras"] = {name: draw(units * hidden) for name, units in entry["extras"].items()}
    options = {}
    if cell in VARIANTS:
        numbers = {name: number for name, number in NUMBERS.items() if name in entry["takes"]}
        options = {"numbers": numbers, "zoneout": ZONEOUT[:states]}
    return kind(entry["index"], hidden, **arrays, **options), arrays


def gradients_of(pages, weights, arrays):
    """`Gradients` of such weights, and their arrays."""

    def like(array):
        return pages.array(array.shape, array.dtype)

    outputs = {name: like(array) for name, array in arrays.items() if name != "extras"}
    extras = {name: like(array) for name, array in arrays["extras"].items()}
    gradients = core.Gradients(weights, **outputs, extras=extras)
    return gradients, [*outputs.values(), *extras.values()]


def masks_of(pages, values, n, cell, dtype, size):
    """Dropout masks in some cases of variants; their values do not matter here."""
    steps, batch, _, hidden = size
    if cell not in VARIANTS or n % 3 == 0:
        return None
    states = range(CELLS[cell]["states"] if n % 2 else 0)
    zoneout = tuple(pages.array((steps, batch, hidden), dtype, values) for _ in states)
    return passes.DropoutMasks(pages.array((batch, hidden), dtype, values), zoneout)


def rows_of(pages, n, steps, batch):
    """Lengths, masks and resets in some cases, as csrc/fastrnn.h has them."""
    if n % 3 != 1:
        return None
    rng, integers, booleans = np.random.default_rng(n), np.dtype("i8"), np.dtype("?")
    lengths = np.sort(rng.integers(0, steps + 1, batch))[::-1]
    sort_order = inverse_order = None
    if n % 2:
        shuffled = rng.permutation(batch)
        sort_order = pages.array(batch, integers, shuffled)
        inverse_order = pages.array(batch, integers, np.argsort(shuffled))
    lengths = pages.array(batch, integers, lengths)
    flags = [
        pages.array((steps, batch), booleans, rng.random(steps * batch) < p) for p in (0.8, 0.1)
    ]
    reset_to = "initial" if n % 4 == 3 else "zero"
    return passes.Rows(None, *flags, reset_to, lengths, sort_order, inverse_order)


def ids_of(pages, values, n, dtype, size):
    """Ids of one-hot vectors or of an embedding, with a table of all of them or of a part.

    They have the attributes of `Ids` that are read, each array of them in pages of its own.
    """
    steps, batch, inputs, _ = size
    embedded, subset = divmod((n // 20 + n) % 4, 2)
    vocabulary, rng, integers = inputs + 3 * embedded, np.random.default_rng(n), np.dtype("i8")
    used, count = None, vocabulary
    if subset:
        count = (vocabulary + 1) // 2
        used = pages.array(count, integers, rng.permutation(vocabulary)[:count])
    table_index = pages.array((steps, batch), integers, rng.integers(0, count, steps * batch))
    rows = pages.array((count, inputs), dtype, values) if embedded else None
    return SimpleNamespace(
        table_index=table_index, used=used, count=count, rows=rows, vocabulary=vocabulary
    )


def run(pages, values, n, cell, dtype, size, of_ids=False):
    """Inference, forward and backward of one pass, or of two at once -> all results."""
    steps, batch, inputs, hidden = size
    directions = (False, True) if n % 8 == 7 else (n % 2 == 1,)
    values = values.astype(dtype)
    checkpoint = 2 * (n % 4 == 2)
    rows = rows_of(pages, n, steps, batch)

    def sequence(features, given):
        """An array with time first or, as a view, batch first."""
        if n % 3 == 0:
            array = pages.array((batch, steps, features), dtype, given)
            return array.transpose(1, 0, 2)
        return pages.array((steps, batch, features), dtype, given)

    def state(given):
        states = range(CELLS[cell]["states"])
        return tuple(pages.array((1, batch, hidden), dtype, given) for _ in states)

    weights, arrays = weights_of(pages, values, n, cell, dtype, inputs, hidden)
    ids = ids_of(pages, values, n, dtype, size) if of_ids else None
    x = None if of_ids else sequence(inputs, values)
    results, masks = [], masks_of(pages, values, n, cell, dtype, size)
    for keep in (False, True):
        nbytes = core.tape_size(weights, steps, batch, checkpoint)
        calls = tuple(
            passes.DirectionCall(
                reverse, 0, state(values), (), weights, sequence(hidden, None), state(None),
                pages.buffer(nbytes) if keep else None, masks,
            )
            for reverse in directions
        )  # fmt: skip
        pages.in_workspace(core.forward, x, calls, rows, ids, checkpoint)
        for call in calls:
            results += [call.y, *call.last]
    incoming = []
    for call in calls:
        dy = sequence(hidden, values) if n % 5 else None
        dlast = state(values) if n % 7 else (None,) * len(call.state)
        dstates = tuple(sequence(hidden, None) if n % 2 else None for _ in dlast)
        for array in dstates[: n % 2 * 2]:
            array.fill(0)  # steps that are not taken keep this value
        dx, dfirst = None, state(None)
        if of_ids and ids.rows is not None and n % 6:
            dx = pages.array((ids.vocabulary, inputs), dtype)
        elif not of_ids and n % 6:
            dx = sequence(inputs, None)
        gradients, outputs = gradients_of(pages, weights, arrays)
        incoming.append(passes.BackwardBuffers(dy, dlast, dx, dfirst, (), gradients, dstates))
        results += [*outputs, *dstates, dx, *dfirst]
    pages.in_workspace(core.backward, x, calls, tuple(incoming), rows, ids, checkpoint)
    return [a.copy() for a in results if a is not None]


def run_of_ids(*case):
    return run(*case, of_ids=True)


def stack_of(pages, values, n, cell, dtype, inputs, hidden, make=None):
    """The weights of two layers, from `make`; by default `Packed`, in a precision by n."""

    def packed(*args, **options):
        precisions = core.precisions() if dtype == np.float32 else ("",)
        return core.Packed(*args, **options, precision=precisions[n % len(precisions)])

    return [
        weights_of(pages, values, n, cell, dtype, width, hidden, make or packed)[0]
        for width in (inputs, hidden)
    ]


def run_packed(pages, values, n, cell, dtype, size):
    """A call of a stack of two layers, and what is unpacked after it."""
    steps, batch, inputs, hidden = size
    values = values.astype(dtype)
    layers = stack_of(pages, values, n, cell, dtype, inputs, hidden)
    x, y = pages.array((steps, batch, inputs), dtype, values), (steps, batch, hidden)
    runner = core.Runner(layers, 1, bool(n % 3 == 0), False, core.Workspaces([], 0))
    y, last = runner.run(x, None, pages.array(y, dtype))
    matrices = [a.copy() for layer in layers for a in layer.matrices() if a is not None]
    return [y, *(last if isinstance(last, tuple) else (last,)), *matrices]


def run_unpacked(pages, values, n, cell, dtype, size):
    """A call of a stack of two layers whose weights are packed for it."""
    steps, batch, inputs, hidden = size
    values = values.astype(dtype)
    layers = stack_of(pages, values, n, cell, dtype, inputs, hidden, core.Weights)
    x, y = pages.array((steps, batch, inputs), dtype, values), (steps, batch, hidden)
    runner = core.Runner(layers, 1, bool(n % 3 == 0), False, core.Workspaces([], 0))
    y, last = runner.run(x, None, pages.array(y, dtype))
    return [y, *(last if isinstance(last, tuple) else (last,))]


def run_stream(pages, values, n, cell, dtype, size):
    """Three steps of a stack of two layers, in some cases of ids -> outputs and states."""
    _, batch, inputs, hidden = size
    of_ids = n % 5 == 3 and inputs > 0
    values = values.astype(dtype)
    layers = stack_of(pages, values, n, cell, dtype, inputs, hidden)
    outputs = [pages.array((batch, hidden), dtype) for _ in layers]
    state = tuple(pages.array((2, batch, hidden), dtype) for _ in range(CELLS[cell]["states"]))
    for array in state:
        array.fill(0.5)
    x = pages.array((batch, inputs), dtype, values)
    if of_ids:
        x = pages.array(batch, np.dtype("i8"), np.random.default_rng(n).integers(0, inputs, batch))
    work = pages.buffer(core.step_size(layers, batch, of_ids))
    out = pages.array((batch, hidden), dtype)
    spare = core.Workspaces([], 0)
    stepper = core.Stepper(layers, batch, state, work, outputs, spare, of_ids)
    results = []
    for _ in range(3):
        assert stepper.step(x, out)
        results.append(out.copy())
    some = core.Stepper(layers, batch, tuple(s.copy() for s in state), work, outputs, spare, of_ids)
    for count in {n for n in (1, batch // 2, batch) if 1 <= n <= batch}:
        rows = pages.array(count, np.dtype("i8"), np.arange(batch)[::-1][:count].copy())
        given = pages.array(x[:count].shape, x.dtype, x[:count].reshape(-1).copy())
        assert stepper.step_some(some, rows, given, pages.array((count, hidden), dtype), False)
    return results + [array.copy() for array in state]


def applies(what, n, size):
    """Whether a case is one for this function."""
    if what is run_of_ids:
        return size[2] > 0 and (n % 5 == 3 or size in MANY_ROWS)
    if what in (run_packed, run_unpacked):
        return min(size) > 0
    return what is run or size[0] > 0


def main(isa, every):
    assert core.select_isa(isa)
    core.set_num_threads(3)
    values = np.random.default_rng(3).uniform(-0.1, 0.1, 1 << 17)
    pages = Pages()
    core.np = Paged(pages)
    for case in cases(every):
        for what in (run, run_of_ids, run_packed, run_unpacked, run_stream):
            if not applies(what, case[0], case[3]):
                continue
            print(isa, what.__name__, *case, flush=True)
            results = []
            for at_end in (True, False):
                pages.clear(at_end)
                results.append(what(pages, values, *case))
            for one, other in zip(*results, strict=True):
                np.testing.assert_array_equal(one, other)
                assert np.isfinite(one).all()


def trip():
    """Write one element too far: the process must not survive it."""
    pages = Pages(slots=1)
    beyond = pages.array(3, np.dtype("f4")).ctypes.data + 3 * 4
    print(ctypes.c_char.from_address(beyond).value)


# ---- the tests ----------------------------------------------------------------------------------


def script(*arguments):
    command = [sys.executable, "-X", "faulthandler", __file__, *arguments]
    path = os.pathsep.join(entry for entry in sys.path if entry)  # the package that is tested
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


ISAS = core.isas_available()


@pytest.mark.parametrize(
    "isa, every",
    [(ISAS[0], "8"), *(pytest.param(isa, "1", marks=pytest.mark.slow) for isa in ISAS)],
)
def test_nothing_outside_the_arrays_is_touched(isa, every):
    done = script(isa, every)
    last = done.stdout.strip().rpartition("\n")[2]
    assert done.returncode == 0, f"in case {last!r}, exit {done.returncode}:\n{done.stderr[-3000:]}"


def test_guard_pages_guard():
    assert script("trip").returncode != 0


if __name__ == "__main__":
    if sys.argv[1] == "trip":
        trip()
    else:
        main(sys.argv[1], int(sys.argv[2]))
