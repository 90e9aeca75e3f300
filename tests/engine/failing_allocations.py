"""A program that runs operations: first the 1st allocation fails, then the 2nd, and so on.

    LD_PRELOAD=failing_malloc.so python tests/engine/failing_allocations.py [operation...]

An operation must raise MemoryError or give the right result. After an error its objects must be
unchanged, and a second run must give the right bits. Some failures give a SystemError in NumPy,
which is a fault of NumPy's and allowed here. Drawing during a call is left out, because NumPy
crashes there. The program prints for each operation its outcomes and their numbers.
"""

import collections
import ctypes
import itertools
import pathlib
import sys
import tempfile

import numpy as np
from problems import assert_same_bits

import fastrnn
from fastrnn import train

library = ctypes.CDLL(None)
arm, disarm = library.failing_arm, library.failing_disarm
arm.argtypes, disarm.restype = [ctypes.c_long], ctypes.c_long

T, B, I, H = 5, 40, 6, 64  # noqa: E741 - groups of rows, and enough for two threads
SIZES = {"small": (3, 2, 4, 5), "large": (T, B, I, H)}


def floats(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("f4")


class Operation:
    """An operation that runs many times.

    run : a function that may fail; its result is compared. held : a function that copies the
    objects of the operation, which must not change if it fails. begin : a function that sets them
    to their first state. errors : exceptions that are allowed besides MemoryError.
    """

    def __init__(self, run, held=lambda: None, begin=lambda: None, errors=()):
        self.run, self.held, self.begin = run, held, begin
        self.errors = (SystemError, *errors)


def training(size, layer=fastrnn.LSTM, checkpoint=None, ragged=False, ids=False, **net):
    t, b, i, h = SIZES[size]
    recurrent, rows = layer(i, h, rng=0, **net), {}
    x = np.random.default_rng(1).integers(0, i, (t, b)) if ids else floats(t, b, i)
    if ids:
        rows["embedding"] = floats(i, i)
    if ragged:
        rows |= {"lengths": np.arange(b) % (t + 1), "reset": np.eye(t, b, dtype=bool)}
    dy = np.ones_like(recurrent(x, **rows)[0])

    def run():
        y, state, tape = recurrent.forward(x, checkpoint=checkpoint, **rows)
        grads = tape.backward(dy)
        return [y, state, grads.x, grads.state, grads.flat, grads.embedding]

    return Operation(run, lambda: recurrent.flat.copy())


def with_more_threads():
    """One more thread each time, up to the most, so that threads start while allocations fail."""
    operation, threads = training("large"), itertools.count(2)
    operation.begin = lambda: fastrnn.set_num_threads(min(next(threads), 256))
    return operation


def looking(size):
    t, b, i, h = SIZES[size]
    layer, x = fastrnn.LSTM(i, h, num_layers=2, rng=0), floats(t, b, i)
    dy = np.ones((t, b, h), "f4")
    _, _, tape = layer.forward(x)
    return Operation(lambda: [tape.gates(), tape.gradient_norms(dy)])


def making():
    generators = [np.random.default_rng(0) for _ in range(2)]

    def run():
        layer = fastrnn.LSTM(4, 5, 2, bidirectional=True, rng=generators[0])
        return [layer.flat.shape, layer(np.ones((2, 1, 4), "f4"))[0].shape]

    return Operation(run)


def loading():
    layer, other = (fastrnn.GRU(4, 5, 2, rng=seed) for seed in (0, 1))
    given = {name: array.copy() for name, array in other.params.items()}
    before = layer.flat.copy()

    def begin():
        layer.flat[...] = before

    return Operation(lambda: layer.load(given), lambda: layer.flat.copy(), begin)


def reading():
    """A checkpoint into a layer that draws, and an optimizer.

    Python's readers raise other errors for some failures.
    """
    layer, other = (fastrnn.GRU(4, 5, 2, dropout=0.5, rng=seed) for seed in (0, 1))
    adam, other_adam = (fastrnn.train.Adam(net, 0.1) for net in (layer, other))
    folder = tempfile.TemporaryDirectory()
    path = pathlib.Path(folder.name) / "checkpoint.npz"
    other_adam.step(other.flat)
    fastrnn.train.save(path, {"net": other}, other_adam)

    flat, state, of_rng = layer.flat.copy(), adam.state(), layer.rng.bit_generator.state

    def begin():
        layer.flat[...], layer.rng.bit_generator.state = flat, of_rng
        adam.load(state)

    def held():
        bits = list(str(layer.rng.bit_generator.state).encode())
        return [layer.flat.copy(), adam.state(), bits]

    def run():
        assert folder.name  # this keeps the folder as long as the function
        fastrnn.train.load(path, {"net": layer}, adam)

    return Operation(run, held, begin, (ValueError, TypeError, OSError, RuntimeError))


def streaming(what, size, ids=False):
    t, b, i, h = SIZES[size]
    layer = fastrnn.LSTM(i, h, num_layers=2, rng=0)
    x = np.random.default_rng(1).integers(0, i, (t, b)) if ids else floats(t, b, i)
    stream = layer.stream(b, one_hot=ids)
    given, rows = {"make": None, "step": x[0], "feed": x, "rows": x[0, 1:]}[what], np.arange(1, b)
    first = tuple(floats(2, b, h) for _ in range(2))

    def begin():
        stream.state, stream._of_rows = first, (None, None)

    def run():
        if what == "make":
            new = layer.stream(b, one_hot=ids)
            return [new.step(x[0]), new.state]
        if what == "rows":
            return stream.step(given, rows=rows)
        return (stream.step if what == "step" else stream.feed)(given)

    return Operation(run, lambda: [s.copy() for s in stream._state], begin)


def with_head(size):
    """A layer that is frozen with a head, and a call of it."""
    t, b, i, h = SIZES[size]
    layer, head = fastrnn.GRU(i, h, rng=0), train.Dense(h, 3, activation="softmax", rng=0)
    x = floats(t, b, i)
    return Operation(lambda: layer.freeze(head=head)(x), lambda: [layer.flat.copy()])


def freezing(size, ids=False, precision=None):
    """A layer is frozen, and called in both forms of its weights."""
    t, b, i, h = SIZES[size]
    layer = fastrnn.LSTM(i, h, num_layers=2, rng=0)
    x = np.random.default_rng(1).integers(0, i, (t, 1)) if ids else floats(t, 1, i)

    def run():
        frozen = layer.freeze(precision)
        return [frozen(x, one_hot=ids), frozen(x[:1], one_hot=ids)]

    return Operation(run, lambda: layer.flat.copy())


def calling_frozen():
    """A frozen layer whose other form is packed by a call that may fail."""
    layer, x = fastrnn.LSTM(60, 64, rng=0), floats(9, 1, 60)
    held = [layer.freeze()]

    def begin():
        held[0] = layer.freeze()

    return Operation(lambda: [held[0](x), held[0].step(x[0])], lambda: held[0](x[:1]), begin)


def setting_a_state():
    stream = fastrnn.LSTM(4, 5, num_layers=2, rng=0).stream(3)
    other = tuple(floats(2, 3, 5) for _ in range(2))

    def begin():
        for held in stream._state:
            held[...] = 0.5

    def run():
        stream.state = other

    return Operation(run, lambda: [s.copy() for s in stream._state], begin)


def a_function(size):
    t, b, i, h = SIZES[size]
    x, weights = floats(t, b, i), (floats(3 * h, i), floats(3 * h, h), floats(3 * h))
    return Operation(lambda: fastrnn.gru(x, None, *weights))


def windows():
    layer, x = fastrnn.GRU(4, 5, rng=0), floats(7, 3, 4)

    def run():
        return [w.backward(np.ones_like(w.y)).flat for w in fastrnn.tbptt(layer, x, 3, 5)]

    return Operation(run)


OPERATIONS = {
    "training": lambda: training("large"),
    "training, more threads": with_more_threads,
    "training, small": lambda: training("small"),
    "training, two directions": lambda: training("small", fastrnn.GRU, bidirectional=True),
    "training, ragged": lambda: training("small", ragged=True, num_layers=2),
    "training, checkpoints": lambda: training("small", checkpoint=2, batch_first=True),
    "training, ids": lambda: training("small", fastrnn.RNN, ids=True),
    "training, normalised": lambda: training("small", layer_norm=True, peephole=True),
    "gates and norms": lambda: looking("small"),
    "a layer": making,
    "load": loading,
    "a file": reading,
    "a stream": lambda: streaming("make", "small"),
    "step": lambda: streaming("step", "small"),
    "feed": lambda: streaming("feed", "large"),
    "rows": lambda: streaming("rows", "small"),
    "ids, rows": lambda: streaming("rows", "small", ids=True),
    "a head": lambda: with_head("small"),
    "ids, a stream": lambda: streaming("make", "small", ids=True),
    "ids, feed": lambda: streaming("feed", "small", ids=True),
    "freeze": lambda: freezing("small"),
    "ids, freeze": lambda: freezing("small", ids=True),
    "freeze, int8": lambda: freezing("small", precision="int8"),
    "a frozen layer": calling_frozen,
    "a state": setting_a_state,
    "a function": lambda: a_function("small"),
    "windows": windows,
}


def check(name):
    """Let one allocation after the other fail -> outcome -> its number."""
    operation, ends = OPERATIONS[name](), collections.Counter()
    operation.begin()
    before = operation.held()
    wanted = operation.run(), operation.held()
    for n in itertools.count(1):
        operation.begin()
        end, result = attempt(operation, n)
        try:
            if end in ("right", "no failure"):
                assert_same_bits((result, operation.held()), wanted)
            else:
                assert_same_bits(operation.held(), before)
                operation.begin()
                assert_same_bits((operation.run(), operation.held()), wanted)
        except AssertionError as error:
            raise AssertionError(f"{name}: allocation {n}, then {end}: {error}") from None
        if end == "no failure":
            return ends
        ends[end] += 1


def attempt(operation, n):
    """The outcome of an operation whose n-th allocation fails, and its result."""
    result, end = None, "right"
    try:
        arm(n)
        result = operation.run()
    except (MemoryError, *operation.errors) as error:
        end = type(error).__name__
    return end if disarmed() else "no failure", result


def disarmed():
    try:
        return disarm()
    except MemoryError:  # the call itself needs an allocation, too
        return disarm()


def main(names, but=()):
    for name in names or [name for name in OPERATIONS if name not in but]:
        print(f"{name}: ", end="", flush=True)
        print(dict(check(name)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
