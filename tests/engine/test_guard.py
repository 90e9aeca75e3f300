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

import numpy as np
import pytest

pytestmark = pytest.mark.any_isa

core = pytest.importorskip("fastrnn._engine._core", reason="this build has no kernels")

CELLS = {cell["name"]: (index, cell["gates"]) for index, cell in enumerate(core.cells())}
# The sizes of the variants' extra parameters, in units of H, in the kernels' order.
VARIANTS = {
    cell["name"]: [cell["extras"].get(kind, 0) for kind in core.extras()]
    for cell in core.cells()
    if cell["name"] != cell["plain"]
}
OPTION_NUMBERS = (0.05, 0.04, 0.2, 0.1, 0.3)  # clip, cell clip, slope, zoneout of h and of c
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
SLACK = 64  # of a byte buffer's size: room to align it. Two of them in forward's workspace


# ---- memory --------------------------------------------------------------------------------------


class Pages:
    """Slots of memory between forbidden pages, an array in each. All are freed together."""

    def __init__(self, slots=96, size=1 << 25):
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.stride = self.size + mmap.PAGESIZE
        self.map = mmap.mmap(-1, slots * self.stride + mmap.PAGESIZE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.slots = slots
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
        for number in range(self.slots):
            self._protect(self._slot(number), self.size, mmap.PROT_READ | mmap.PROT_WRITE)

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
            self._protect(self._slot(self.used - 1), self.size, mmap.PROT_READ)
        return result

    def buffer(self, needed, slack=SLACK):
        """A byte buffer of which only the slack reaches into the page after it."""
        address = self._next(needed - slack)
        return np.frombuffer((ctypes.c_uint8 * needed).from_address(address), np.uint8)


# ---- the cases, in a process of their own -------------------------------------------------------


def cases(every):
    """Yields number, cell, dtype, (T, B, I, H); with every=2, one dtype for each size and cell."""
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


def extras_of(pages, values, cell, hidden, dtype):
    """The weights after the first four: nothing, or a variant's extras and numbers."""
    if cell not in VARIANTS:
        return ()
    extras = [pages.array(k * hidden, dtype, values) if k else None for k in VARIANTS[cell]]
    return None, tuple(extras), OPTION_NUMBERS


def masks_of(pages, values, n, cell, dtype, size):
    """Dropout masks in some cases of variants; their values do not matter here."""
    steps, batch, _, hidden = size
    if cell not in VARIANTS or n % 3 == 0:
        return None
    zoneout = [pages.array((steps, batch, hidden), dtype, values) for _ in range(states_of(cell))]
    return pages.array((batch, hidden), dtype, values), tuple(zoneout) if n % 2 else ()


def states_of(cell):
    return 2 if cell.startswith("lstm") else 1


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
    return lengths, sort_order, inverse_order, *flags, n % 4 == 3


def ids_of(pages, n, index, weights, size, directions):
    """In some cases ids in place of x, their table, and its gradient for each direction."""
    steps, batch, inputs, hidden = size
    if n % 5 != 3 or inputs == 0:
        return None, None, ()
    dtype, rng = weights[0].dtype, np.random.default_rng(n)
    ids = pages.array((steps, batch), np.dtype("i8"), rng.integers(0, inputs, steps * batch))
    table = pages.buffer(core.table_size(index, int(dtype.itemsize == 8), hidden, inputs))
    work = core.tabulate(index, None, weights, inputs, table, np.empty(0, np.uint8))
    assert core.tabulate(index, None, weights, inputs, table, pages.buffer(work)) == 0
    arrays = 3 if core.goes_by_blocks(steps * batch) else 1
    gradients = tuple(pages.array((arrays * inputs, len(weights[0])), dtype) for _ in directions)
    for gradient in gradients:
        gradient.fill(0)
    if arrays == 1:
        return ids, table, gradients
    seen = [pages.array(inputs, np.dtype("f8")).view("i8") for _ in gradients]
    for counts in seen:
        counts.fill(0)
    return ids, table, tuple(zip(gradients, seen, strict=True))


def run(pages, values, n, cell, dtype, size):
    """Inference, forward and backward of one pass, or of two at once -> all results."""
    steps, batch, inputs, hidden = size
    index, gates = CELLS[cell][:2]
    rows, directions = gates * hidden, [(n % 2 == 1,), (False, True)][n % 8 == 7]
    values = values.astype(dtype)
    checkpoint = 2 * (n % 4 == 2)
    rows_given = rows_of(pages, n, steps, batch)

    def sequence(features, given):
        """An array with time first or, as a view, batch first."""
        if n % 3 == 0:
            array = pages.array((batch, steps, features), dtype, given)
            return array.transpose(1, 0, 2)
        return pages.array((steps, batch, features), dtype, given)

    def state(given):
        return tuple(pages.array((1, batch, hidden), dtype, given) for _ in range(states_of(cell)))

    def buffer(needed, slacks):
        count = len(directions)
        return pages.buffer(needed * count, SLACK * slacks * count)

    weights = [pages.array((rows, width), dtype, values) for width in (inputs, hidden)]
    weights += [pages.array(rows, dtype, values) if n % 4 != bias else None for bias in (1, 2)]
    weights = (*weights, *extras_of(pages, values, cell, hidden, dtype))
    extras = weights[5] if len(weights) > 5 else ()
    ids, table, gradients = ids_of(pages, n, index, weights, size, directions)
    if ids is not None:
        inputs, weights = 0, (np.empty((rows, 0), dtype), *weights[1:])
        ids = ids, size[2], (table,) * len(directions), gradients
    x = sequence(inputs, values)
    sizes = core.Sizes(
        index, dtype.itemsize, steps, batch, inputs, hidden, rows_given is not None, checkpoint,
        ids is not None,
    )  # fmt: skip
    results, masks = [], masks_of(pages, values, n, cell, dtype, size)
    for keep in (False, True):
        passes = tuple(
            (reverse, 0, state(values), weights, sequence(hidden, None), state(None),
             pages.buffer(sizes.tape) if keep else None, masks)
            for reverse in directions
        )  # fmt: skip
        work = buffer(sizes.packed + sizes.forward, 2)
        assert core.forward(index, x, passes, rows_given, ids, checkpoint, work) == 0
        for *_, y, last, _, _ in passes:
            results += [y, *last]
    calls = []
    for forward_pass in passes:
        dy = sequence(hidden, values) if n % 5 else None
        dlast = state(values) if n % 7 else (None,) * len(forward_pass[2])
        dweights = tuple(None if w is None else pages.array(w.shape, dtype) for w in weights[:4])
        of_extras = [None if w is None else pages.array(w.shape, dtype) for w in extras]
        dstates = [sequence(hidden, None) if n % 2 else None for _ in dlast]
        for array in dstates[: n % 2 * 2]:
            array.fill(0)  # steps that are not taken keep this value
        results += [*dweights, *of_extras, *dstates]
        dweights += (None, tuple(of_extras)) if extras else ()
        dx, dfirst = sequence(inputs, None) if n % 6 else None, state(None)
        calls.append((forward_pass, dy, dlast, dx, dfirst, dweights, tuple(dstates)))
        results += [dx, *dfirst]
    work = buffer(sizes.backward, 1)
    assert core.backward(index, x, tuple(calls), rows_given, ids, checkpoint, work) == 0
    results += [g[0] if isinstance(g, tuple) else g for g in gradients]
    return [a.copy() for a in results if a is not None]


def run_stream(pages, values, n, cell, dtype, size):
    """Three steps of a stack of two layers -> outputs and states."""
    _, batch, inputs, hidden = size
    index, gates = CELLS[cell][:2]
    values = values.astype(dtype)
    layers, forward = [], 0
    for width in (inputs, hidden):
        shapes = ((gates * hidden, width), (gates * hidden, hidden), gates * hidden)
        weights = tuple(pages.array(shape, dtype, values) for shape in shapes) + (None,)
        weights += extras_of(pages, values, cell, hidden, dtype)
        sizes = core.Sizes(index, dtype.itemsize, 1, batch, width, hidden)
        layers.append((index, weights, pages.buffer(sizes.packed)))
        forward = max(forward, sizes.forward)
    outputs = [pages.array((batch, hidden), dtype) for _ in layers]
    state = tuple(pages.array((2, batch, hidden), dtype) for _ in range(states_of(cell)))
    for array in state:
        array.fill(0.5)
    stepper = core.Stepper(layers, batch, state, pages.buffer(forward), outputs)
    x, out = pages.array((batch, inputs), dtype, values), pages.array((batch, hidden), dtype)
    results = []
    for _ in range(3):
        assert stepper.step(x, out)
        results.append(out.copy())
    return results + [array.copy() for array in state]


def main(isa, every):
    assert core.select_isa(isa)
    core.set_num_threads(3)
    values = np.random.default_rng(3).uniform(-0.1, 0.1, 1 << 17)
    pages = Pages()
    for case in cases(every):
        for what in (run, run_stream):
            if what is run_stream and case[3][0] == 0:
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


@pytest.mark.parametrize("every", ["2", pytest.param("1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("isa", core.isas_available())
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
