"""The tapes of rnn, lstm and gru: bytes in the user's hands, and none of them believed."""

import copy
import ctypes
import mmap
import os
import pathlib
import pickle
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from decorators import both_ways, every_backend
from flats import (
    CELLS,
    B,
    H,
    I,
    P,
    T,
    call_of,
    every_cell,
    options_of_function,
    ready_masks,
    some_or_all_batches,
)
from problems import BACKENDS, assert_close, at_once, unchanged
from watched import run_watched

import fastrnn
from fastrnn._engine import flat, runtime
from fastrnn.functional import Parameters

# Calls whose tapes have every kind of section: name -> cell, batch, dtype, hidden size, and whether
# there are masks of recurrent dropout and zoneout.
KINDS = {
    "plain": ("lstm", "full", "float32", H, False),
    "other sizes": ("rnn_relu", "full", "float64", 16, False),
    "ragged": ("gru_before", "ragged", "float64", H, False),
    "masks": ("lstm: all", "full", "float32", H, True),
    "masks, ragged": ("gru_after: all, layer norm", "ragged", "float64", 8, True),
    "masks, checkpoint, ragged": ("lstm: zoneout", "checkpoint, ragged", "float32", 16, True),
    "checkpoint": ("lstm: coupled peephole", "checkpoint", "float64", H, False),
    "projection": ("lstm, projected: layer norm", "mask", "float32", H, True),
    "projection, checkpoint": ("lstm, projected: clipped", "checkpoint, ragged", "float32", 17,
                               False),
    "one_hot": ("rnn_tanh: all", "one_hot, ragged", "float32", H, True),
    "one_hot of many ids": ("gru_after", "one_hot of many ids", "float64", H, False),
    "embedding": ("gru_before: clip", "embedding of many ids, ragged", "float32", 33, True),
    "embedding, checkpoint": ("lstm", "checkpoint, embedding, ragged", "float64", H, False),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def refuses(error, *words):
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


def call(kind, reverse=False):
    """The `Call` of one of KINDS."""
    name, batch, dtype, hidden, masked = KINDS[kind]
    one = call_of(name, batch, dtype, reverse, hidden=hidden)
    if one.x.ndim == 2 and "lengths" in one.options:  # any integers may stand beyond a row's end
        one.x[np.arange(T)[:, None] >= one.options["lengths"]] = 10**12
    return one.with_options(**ready_masks(one, 0.3, 5)) if masked else one


def recorded(kind, reverse=False):
    """The call, its tape, y and the gradients."""
    one = call(kind, reverse)
    y, _, tape = one.forward()
    return one, tape, y, one.backward(tape, y)


def same(got, wanted):
    """Bit for bit by the kernels; NumPy's products depend on the addresses of arrays."""
    assert_close(got, wanted, "float32", factor=64 if not runtime.uses_core() else 0)


# ---- in the user's hands -------------------------------------------------------------------------


@every_backend
@every_kind
def test_a_tape_is_a_dense_array_of_bytes(kind, backend):
    _, tape, *_ = recorded(kind)
    assert type(tape) is np.ndarray and tape.dtype == np.uint8 and tape.ndim == 1
    assert tape.flags.c_contiguous and tape.flags.writeable


@every_backend
@every_kind
def test_a_tape_lies_at_any_address(kind, backend):
    one, tape, y, wanted = recorded(kind)
    buffer = np.empty(tape.size + 71, np.uint8)
    for offset in range(0, 71, 1 if backend == "core" else 7):
        moved = buffer[offset : offset + tape.size]
        moved[...] = tape
        same(one.backward(moved, y), wanted)


@every_backend
@every_kind
def test_a_tape_may_be_copied_pickled_and_read_from_a_file(kind, backend, tmp_path):
    one, tape, y, wanted = recorded(kind, reverse=True)
    tape.tofile(tmp_path / "tape")
    np.save(tmp_path / "tape.npy", tape)
    read_only = tape.copy()
    read_only.flags.writeable = False
    wide = np.empty((tape.size, 3), np.uint8)
    wide[:, 1] = tape
    for other in (
        tape.copy(), copy.deepcopy(tape), pickle.loads(pickle.dumps(tape)), read_only,
        wide[:, 1], tape[::-1].copy()[::-1], np.fromfile(tmp_path / "tape", np.uint8),
        np.load(tmp_path / "tape.npy", mmap_mode="r"), np.frombuffer(tape.tobytes(), np.uint8),
        memoryview(tape), bytearray(tape),
    ):  # fmt: skip
        same(one.backward(other, y), wanted)


def test_a_tape_goes_to_another_process(processes):
    one, tape, y, wanted = recorded("ragged")
    for got in processes.map(backward_there, [(one, tape, y)] * 2):
        same(got, wanted)


def backward_there(case):
    one, tape, y = case
    return one.backward(tape, y)


@every_backend
@every_kind
def test_backward_may_be_called_again_and_changes_nothing(kind, backend):
    one, tape, y, wanted = recorded(kind)
    arrays = [value for value in one.options.values() if isinstance(value, np.ndarray | tuple)]
    with unchanged(tape, y, one.x, one.state, one.weights, one.dy, one.dlast, arrays):
        for _ in range(2):
            got = one.backward(tape, y)
            same(got, wanted)
    for array in (got[0], *got[1], *got[2][:4], *got[2].extras.values()):
        assert array is None or not np.shares_memory(array, tape)


@every_backend
def test_threads_may_read_one_tape_at_once(backend):
    one, tape, y, wanted = recorded("masks, checkpoint, ragged")
    for answers in at_once([lambda: one.backward(tape[:], y)] * 3, 5):
        for got in answers:
            same(got, wanted)


@pytest.mark.skipif(len(BACKENDS) < 2, reason="this build has no kernels")
@every_kind
def test_the_backend_that_made_a_tape_reads_it(kind):
    for made_by, read_by in (BACKENDS, BACKENDS[::-1]):
        with fastrnn.backend(made_by):
            one, tape, y, wanted = recorded(kind)
        with fastrnn.backend(read_by):
            got = one.backward(tape, y)
        assert_close(got, wanted, "float32", factor=0 if made_by == "core" else 64)


@pytest.fixture
def filled(monkeypatch):
    """A function: from here on, new arrays are full of this byte, those of the engine too."""
    empty = np.empty

    def fill(byte):
        def filled_array(*arguments, **options):
            array = empty(*arguments, **options)
            array.reshape(-1).view(np.uint8)[...] = byte
            return array

        runtime._workspaces.clear()
        monkeypatch.setattr(np, "empty", filled_array)

    return fill


@every_backend
@every_cell
@some_or_all_batches
def test_equal_calls_give_equal_tapes_whatever_was_in_memory(name, batches, backend, filled):
    for number, batch in enumerate(batches(name)):
        one = call_of(name, batch, "float32", hidden=(H, 16)[number % 2])
        if number % 3 == 1:
            one = one.with_options(**ready_masks(one, 0.3, 5))
        tapes = []
        for byte in (0, 0x3F, 0xFF):
            filled(byte)
            tapes.append(one.forward()[2].tobytes())
        assert tapes[0] == tapes[1] == tapes[2], batch


# ---- the size ------------------------------------------------------------------------------------


def size_of(one, name, hidden, **given):
    """`tape_size` for a call of one of CELLS."""
    of_rows = {key: key in one.options for key in ("lengths", "mask", "reset")}
    masks = {key: key in one.options for key in ("recurrent_mask", "zoneout_masks")}
    cell, options = CELLS[name]
    return fastrnn.tape_size(
        one.function, *one.x.shape[:2], hidden, one.dy.dtype, proj_size=options.get("proj_size", 0),
        checkpoint=one.options.get("checkpoint"), **of_rows, **masks,
        **options_of_function(name) | given,
    )  # fmt: skip


@every_backend
@every_cell
@some_or_all_batches
def test_tape_size_is_the_size(name, batches, backend):
    for batch in batches(name):
        for dtype, hidden in (("float32", H), ("float64", 17)):
            one = call_of(name, batch, dtype, hidden=hidden)
            for each in (one, one.with_options(**ready_masks(one, 0.3, 5))):
                assert size_of(each, name, hidden) == each.forward()[2].size


@every_backend
def test_what_changes_nothing_is_not_stored(backend):
    one, full = call_of("gru_after"), np.full(B, T)
    size = fastrnn.tape_size("gru", T, B, H, "float64")
    for nothing in ({"lengths": full}, {"mask": np.ones((T, B), bool)},
                    {"reset": np.zeros((T, B), bool)}):  # fmt: skip
        assert one.forward(**nothing)[2].size == size


@every_backend
def test_tape_size_allocates_nothing(backend):
    fastrnn.tape_size("lstm", 10, 10, 10)
    tracemalloc.start()
    try:
        size = fastrnn.tape_size("lstm", 2**20, 2**10, 2**9, mask=True, zoneout_masks=True)
        assert tracemalloc.get_traced_memory()[1] < 10**5
    finally:
        tracemalloc.stop()
    assert size > 2**40


@every_backend
@pytest.mark.parametrize("large", [2**40, 2**58, 2**61, 2**62 - 1])
def test_sizes_beyond_memory_are_named(large, backend):
    some = {"function": "lstm", "steps": large, "batch": 3, "hidden_size": 5}
    for sizes in (
        {"batch": large}, {"hidden_size": large, "batch": large},
        {"batch": large, "checkpoint": 2}, {"batch": large, "checkpoint": 2**62 - 1},
        {"batch": large, "hidden_size": large, "steps": 2},
    ):  # fmt: skip
        with refuses(ValueError, "T = ", "B = ", f"{large}", "hidden_size = ",
                     "more bytes than can be addressed"):  # fmt: skip
            fastrnn.tape_size(**some | sizes)


@pytest.mark.parametrize(
    "error, words, changes",
    [
        (ValueError, "function must be one of 'rnn', 'lstm', 'gru', 'min_gru', 'min_lstm', got",
         {"function": "LSTM"}),
        (ValueError, f"steps must be an integer of at least 0, got {2**62}: it must be less",
         {"steps": 2**62}),
        (ValueError, "steps must be an integer of at least 0, got -1", {"steps": -1}),
        (TypeError, "batch must be an integer, got float", {"batch": 2.0}),
        (ValueError, "hidden_size must be an integer of at least 1, got 0", {"hidden_size": 0}),
        (ValueError, "proj_size must be less than hidden_size = 5, got 5", {"proj_size": 5}),
        (ValueError, "weight_hr or proj_size has no meaning for the cell gru_after",
         {"proj_size": 2, "function": "gru"}),
        (ValueError, "zoneout must be 0, and zoneout_masks None, with weight_hr",
         {"proj_size": 2, "zoneout": 0.1}),
        (ValueError, "zoneout must be 0, and zoneout_masks None, with weight_hr",
         {"proj_size": 2, "zoneout_masks": True}),
        (ValueError, "checkpoint must be an integer of at least 1, got 0", {"checkpoint": 0}),
        (ValueError, "nonlinearity must be one of 'tanh', 'relu', got", {"nonlinearity": "x"}),
        (ValueError, "nonlinearity must be 'tanh', the default, for lstm",
         {"nonlinearity": "relu"}),
        (ValueError, "reset_after must be True, the default, for lstm",
         {"reset_after": False}),
        (TypeError, "dtype must be float32 or float64, got 'float16'", {"dtype": "float16"}),
        (TypeError, "dtype must be float32 or float64, got '(1'", {"dtype": "(1"}),
        (TypeError, "mask must be True or False, got None", {"mask": None}),
        (TypeError, "unexpected keyword argument 'recurrent_dropout': use recurrent_mask=True",
         {"recurrent_dropout": 0.1}),
        (TypeError, "unexpected keyword argument 'rng': use recurrent_mask=True", {"rng": 1}),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_tape_size_refuses_what_the_functions_refuse(error, words, changes):
    some = {"function": "lstm", "steps": 4, "batch": 3, "hidden_size": 5}
    with refuses(error, words):
        fastrnn.tape_size(**some | changes)


# ---- refusals ------------------------------------------------------------------------------------


def with_field(tape, name, value):
    """The tape with another value in a field of its header."""
    tape = tape.copy()
    header = tape[: flat._HEADER.itemsize].view(flat._HEADER)
    header[name] = value
    return tape


@every_backend
@pytest.mark.parametrize(
    "error, words, change",
    [
        (TypeError, "got dtype |S1", lambda tape: b"x"),
        (TypeError, "use numpy.frombuffer(tape, 'uint8')", lambda tape: tape.tobytes()),
        (TypeError, "got dtype int64", lambda tape: tape.tolist()),
        (TypeError, "got dtype int8", lambda tape: tape.view(np.int8)),
        (TypeError, "got dtype object", lambda tape: None),
        (ValueError, "got shape (1,", lambda tape: tape[None]),
        (ValueError, "got shape ()", lambda tape: tape[0]),
        (TypeError, "an array without a mask", lambda tape: np.ma.array(tape)),
    ],
    ids=["other bytes", "bytes", "list", "int8", "None", "two axes", "no axis", "masked"],
)  # fmt: skip
def test_what_is_no_array_of_bytes_is_refused(error, words, change, backend):
    one, tape, y, _ = recorded("plain")
    with refuses(error, "tape must be", words):
        one.backward(change(tape), y)


@every_backend
@every_kind
def test_a_tape_that_is_cut_or_extended_is_refused(kind, backend):
    one, tape, y, _ = recorded(kind)
    sizes = {0, 1, flat._HEADER.itemsize, flat._HEADER_BYTES, tape.size // 2, tape.size - 1}
    for size in sizes - {tape.size}:
        with refuses(ValueError, "must be one that return_tape=True gave", f"got {size} bytes"):
            one.backward(tape[:size], y)
    for more in (1, 64):
        longer = np.concatenate([tape, np.zeros(more, np.uint8)])
        words = f"got {tape.size + more} bytes rather than {tape.size}"
        with refuses(ValueError, "tape must be one that return_tape=True gave", words):
            one.backward(longer, y)


@every_backend
def test_a_tape_of_another_build_is_refused(backend):
    one, tape, y, _ = recorded("plain")
    for writer in ("fastrnn 0.0.1, build 12345678, little-endian", "", "\x00", "a" * 48):
        with refuses(ValueError, "tape must be of this build, fastrnn", "got one that says",
                     "run forward again"):  # fmt: skip
            one.backward(with_field(tape, "writer", writer.encode()), y)
    for field, value in (("magic", b"frnntapf"), ("format", 2), ("by_kernels", 2)):
        with refuses(ValueError, "tape must be one that return_tape=True gave", "as a tape"):
            one.backward(with_field(tape, field, value), y)


def test_a_tape_of_kernels_is_refused_where_there_are_none(monkeypatch, core):
    one, tape, y, _ = recorded("plain")
    monkeypatch.setattr(runtime, "core", None)
    with refuses(ValueError, "tape was made by kernels, and this build has none", "again"):
        one.backward(tape, y)


@every_backend
def test_a_tape_of_another_function_is_refused(backend):
    _, tape, y, _ = recorded("plain")
    for function in ("rnn", "gru"):
        other = replace(call("plain"), function=function)
        words = f"tape must be of fastrnn.{function}, got one of fastrnn.lstm"
        with refuses(ValueError, words):
            other.backward(tape, y)


@every_backend
def test_a_tape_of_other_arrays_is_refused(backend):
    one, tape, y, _ = recorded("other sizes")
    dtype, x = y.dtype, one.x

    def zeros(*shape):
        return np.zeros(shape, dtype)

    for words, changes in {
        "T of its pass is 5, got 6": {"x": zeros(T + 1, B, I)},
        "B of its pass is 4, got 5": {"x": zeros(T, B + 1, I), "state": None},
        "input_size of its pass is 3, got 4": {
            "x": zeros(T, B, I + 1), "weights": (zeros(16, I + 1), *one.weights[1:]),
        },
        "hidden_size of its pass is 16, got 17": {
            "weights": (zeros(17, I), zeros(17, 17)), "state": None
        },
    }.items():  # fmt: skip
        with refuses(ValueError, f"tape must be of the same arrays: {words}"):
            one.backward(tape, y, **changes)
    with refuses(ValueError, "the dtype of its pass is float64, got float32"):
        one.backward(tape, y, x=x.astype("f4"), weights=tuple(
            a.astype("f4") for a in one.weights[:2]
        ), state=None)  # fmt: skip


@every_backend
def test_ids_are_those_of_the_pass(backend):
    one, tape, y, _ = recorded("embedding")
    table = one.options["embedding"]
    with refuses(ValueError, "the vocabulary of its pass is 100, got 101"):
        one.backward(tape, y, embedding=np.zeros((101, I), table.dtype))
    with refuses(ValueError, "embedding must be as in the tape's pass, which had one, got None"):
        one.backward(tape, y, embedding=None)
    with refuses(TypeError, "x must be ids, integers", "got float32"):
        one.backward(tape, y, x=np.zeros((T, B), "f4"))
    with refuses(ValueError, "x must be from 0 to len(embedding) - 1 = 99, got 100"):
        one.backward(tape, y, x=np.full((T, B), 100))
    one, tape, y, _ = recorded("plain")
    words = "embedding must be as in the tape's pass, which had none, got an array"
    with refuses(ValueError, words):
        one.backward(tape, y, embedding=table)
    with refuses(TypeError, "x must be float32, got int64"):
        one.backward(tape, y, x=np.zeros((T, B), int))


@every_backend
def test_weights_are_those_of_the_pass(backend):
    one, tape, y, _ = recorded("projection")
    bare = one.weights._replace(extras={})
    with refuses(ValueError, "extras must have", "missing are weight_hr, weight_ln_ih"):
        one.backward(tape, y, weights=bare)
    one, tape, y, _ = recorded("plain")
    extras = {"weight_hr": np.zeros((P, H), "f4")}
    with refuses(ValueError, "extras must have", "unknown are weight_hr"):
        one.backward(tape, y, weights=one.weights._replace(extras=extras))


@every_backend
def test_biases_and_the_state_are_those_of_the_pass(backend):
    """None is zeros, in the pass and after it."""
    one = call("plain")
    w_ih, w_hh, b_ih, b_hh, _ = one.weights
    bare = replace(one, state=(None, None), weights=Parameters(w_ih, w_hh))
    zeros = {
        "state": tuple(0 * s for s in one.state),
        "weights": (w_ih, w_hh, 0 * b_ih, 0 * b_hh),
    }
    y, last, tape = one.forward()
    refusals = {
        "b_ih": {"weights": (w_ih, w_hh, None, b_hh)},
        "b_hh": {"weights": (w_ih, w_hh, b_ih, 2 * b_hh)},
        "c of state": {"state": last},
        "h of state": {"state": (None, one.state[1])},
    }
    for name, changes in refusals.items():
        with refuses(ValueError, f"{name} must be that of the forward call whose tape this is"):
            one.backward(tape, y, **changes)
    with refuses(ValueError, "the initial state, not the final one"):
        one.backward(tape, y, state=None)
    y, _, tape = bare.forward()
    bare.backward(tape, y)
    bare.backward(tape, y, **zeros)
    for changes in ({"state": one.state}, {"weights": one.weights}):
        with refuses(ValueError, "must be that of the forward call whose tape this is"):
            bare.backward(tape, y, **changes)


def test_all_options_at_once_fit_into_a_header():
    """With numbers that have as many digits as there are."""
    options = {
        "clip": 2e-300 / 3, "cell_clip": 2e-300 / 3, "recurrent_activation": "hard_sigmoid_onnx",
        "zoneout": (2e-300 / 3, 2 / 3), "peephole": True, "layer_norm": True,
    }  # fmt: skip
    one = call_of("lstm", **options)
    y, _, tape = one.forward(**options)
    one.backward(tape, y)


# ---- bytes that are wrong ------------------------------------------------------------------------

_NUMBERS = (0, 1, 2, 3, 5, 16, 17, 64, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**61, 2**62,
            2**63 - 1, -1, -(2**31), -(2**63))  # fmt: skip
_REALS = (0.0, -0.0, 0.3, 1.0, 1.5, -1.0, 5e-324, 1e308, np.inf, -np.inf, np.nan)
_TEXTS = (b"", b"\xff", b"lstm", b"gru_after", b"gru_before", b"rnn_relu", b"float32", b"float64",
          b"{", b"[]", b'{"clip":1e999}', b'{"clip":NaN}', b'{"clip":null,"zoneout":[0.1,0.2]}',
          b'{"\\u001b[2J":1}', b"[" * 256, b"b_ih", b"state,,\xff", b'{"coupled":true}',
          b"(1", b"a8", b"f8,f8", b"float32\x01", b"m8[D]", b"lstm_coupled")  # fmt: skip


def wrong_values(dtype):
    """Values to put into a header's field."""
    if dtype.kind == "S":
        return _TEXTS
    if dtype.base.kind == "f":
        return _REALS
    return [n for n in _NUMBERS if np.iinfo(dtype).min <= n <= np.iinfo(dtype).max]


def flipped(rng, tape):
    """The tape with some bytes changed."""
    tape, header = tape.copy(), flat._HEADER
    believed = header.fields["cell"][1]  # what stands before says who wrote the tape
    way = rng.integers(7)
    if way == 0:
        tape[rng.integers(tape.size)] ^= 1 << rng.integers(8)
    elif way == 1:
        tape[believed + rng.integers(header.itemsize - believed)] = rng.integers(256)
    elif way == 2:
        begin, count = rng.integers(tape.size), rng.choice([2, 8, 64, 1000])
        tape[begin : begin + count] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    elif way == 3:
        tape[believed : header.itemsize] = rng.integers(0, 256, header.itemsize - believed)
    elif way == 4:  # what is behind the header: lengths, masks, gates
        count = 8 * rng.integers(1, 40)
        begin = rng.integers(flat._HEADER_BYTES, max(tape.size - count, flat._HEADER_BYTES + 1))
        tape[begin : begin + count] = rng.integers(0, 256, tape[begin : begin + count].size)
    else:
        fields = tape[: header.itemsize].view(header)
        for name in rng.choice(header.names[4:], rng.choice([1, 1, 2, 3]), replace=False):
            fields[name] = rng.choice(np.array(wrong_values(header[name].base), object))
    return tape


def flip(count, seed, reverse, backends=BACKENDS, place=np.copy):
    """So many wrong tapes -> how many of them were refused. There are no other errors.

    place : a function that copies an array to where backward shall read it.
    """
    rng, refused, records = np.random.default_rng(seed), 0, []
    for backend in backends:
        with fastrnn.backend(backend):
            for kind in KINDS:
                one, tape, y, _ = recorded(kind, reverse)
                records.append((kind, one.map(place), tape, place(tape), place(y)))
    for index in range(count):
        kind, one, tape, wrong, y = records[index % len(records)]
        wrong[...] = flipped(rng, tape)
        try:
            dx, dstate, dweights = one.backward(wrong, y)
            for got, array in zip(
                (*dstate, *dweights[:4]), (*one.state, *one.weights[:4]), strict=True
            ):
                assert got.shape == array.shape and got.dtype == array.dtype
        except (ValueError, TypeError) as error:
            assert type(error) in (ValueError, TypeError) and len(str(error)) < 1000
            assert str(error).isprintable(), str(error)
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{kind}: tape {index} of seed {seed}: {error!r}") from error
    return refused


@both_ways
def test_a_thousand_wrong_tapes_give_a_result_or_are_refused(reverse):
    assert 250 < flip(1000, 0, reverse) < 900


@pytest.mark.slow
def test_many_wrong_tapes_give_a_result_or_are_refused():
    count, seed = int(os.environ.get("FASTRNN_CASES", 30_000)), np.random.SeedSequence().entropy
    assert flip(count, seed, False) > 0


def before_a_forbidden_page(array):
    """A copy whose last byte is the last one before a page that nobody may read."""
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + mmap.PAGESIZE)
    beyond = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + size
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(beyond), mmap.PAGESIZE, 0) != 0:
        raise OSError("mprotect")
    copy = np.frombuffer(pages, np.uint8, array.nbytes, size - array.nbytes)
    copy = copy.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run_here(code):
    """Run code in a process of its own, with what this module has to place arrays."""
    run_watched(
        f"sys.path.append({str(pathlib.Path(__file__).parent)!r})\n"
        "from test_flat_tapes import before_a_forbidden_page, flip\n" + code
    )


def test_backward_of_a_wrong_tape_reads_nothing_behind_the_arrays(core):
    """Vectors of each instruction set have their own ends. A fault would end the process."""
    run_here(
        "from fastrnn._engine import runtime\n"
        f"runtime.select_isa({core.isa()!r})\n"
        "assert flip(600, 1, False, ['core'], before_a_forbidden_page) > 100\n"
        "assert flip(600, 2, True, ['core'], before_a_forbidden_page) > 100\n"
    )


@pytest.mark.posix
def test_a_forbidden_page_is_forbidden():
    run_here(
        "import ctypes, os, numpy\n"
        "array = before_a_forbidden_page(numpy.ones(3))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    ctypes.c_char.from_address(array.ctypes.data + array.nbytes - 1).value\n"
        "    ctypes.c_char.from_address(array.ctypes.data + array.nbytes).value\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] != 0\n"
    )
