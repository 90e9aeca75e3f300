"""The numeric contract, bit for bit: the independence of results, and no side effects of calls.

Forward results, dx and the gradient of the initial state depend on their own row of the batch and
on nothing else. Gradients of the weights depend on the arguments only.
"""

import ctypes
import os
import platform
import threading
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from decorators import both_ways, every_cell, every_dtype, every_isa
from problems import (
    FUSED_ISAS,
    assert_same_bits,
    at_once,
    by_kernels,
    infer,
    layer_of,
    problem,
    run_python,
)
from sanitizers import SLOWER

import fastrnn
from fastrnn._engine import passes

pytestmark = pytest.mark.usefixtures("core")


SIZES = {"t": 6, "b": 19, "i": 11, "h": 37}  # rows beyond several tiles, units past a vector


def weight_gradient(name):
    return name.startswith(("dw_", "db_"))


def of_rows(answer):
    """The arrays with an axis for the batch; that axis comes first."""
    return {
        name: array.swapaxes(0, 1) if array.ndim == 3 else array
        for name, array in answer.items()
        if not weight_gradient(name)
    }


def of_weights(answer):
    return {name: array for name, array in answer.items() if weight_gradient(name)}


# ---- what a result does not depend on ------------------------------------------------------------


@every_isa
@every_dtype
@both_ways
@every_cell
def test_a_row_does_not_depend_on_the_rows_beside_it(cell, dtype, isa, reverse):
    p = problem(cell, **SIZES, dtype=dtype)
    whole = of_rows(by_kernels(p, reverse))
    for index in ([3], [18], [0, 18], range(5), range(4, 12), range(1, 19), [7, 2, 2]):
        got = of_rows(by_kernels(p.rows(list(index)), reverse))
        assert_same_bits(got, {name: array[list(index)] for name, array in whole.items()})


@every_isa
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("sizes", [(40, 3, 5, 9), (9, 70, 4, 6)], ids=str)
def test_time_may_be_cut_anywhere_when_the_state_is_carried(cell, dtype, isa, reverse, sizes):
    p = problem(cell, *sizes, dtype=dtype)
    steps, whole = sizes[0], by_kernels(p, reverse)
    for cut in (1, steps // 2, steps - 1):
        first, second = slice(None, cut), slice(cut, None)
        if reverse:
            first, second = slice(steps - cut, None), slice(None, steps - cut)
        states = p.cell.states
        start = replace(p, x=p.x[first], dy=p.dy[first])
        middle = tuple(by_kernels(start, reverse)[s] for s in states)
        end = by_kernels(replace(p, x=p.x[second], dy=p.dy[second], state=middle), reverse)
        begin = by_kernels(replace(start, dstate=tuple(end[f"d{s}0"] for s in states)), reverse)
        for name in ("y", "dx"):
            parts = (end[name], begin[name]) if reverse else (begin[name], end[name])
            assert_same_bits(np.concatenate(parts), whole[name])
        assert_same_bits([end[s] for s in states], [whole[s] for s in states])
        assert_same_bits([begin[f"d{s}0"] for s in states], [whole[f"d{s}0"] for s in states])


@every_isa
@every_dtype
@every_cell
def test_a_stream_gives_what_the_whole_sequence_gives(cell, dtype, isa):
    p = problem(cell, 9, 5, 3, 21, dtype=dtype)
    layer = layer_of(cell, 3, 21, 2, dtype=dtype)
    y, state = layer(p.x)
    stream = layer.stream(5)
    assert_same_bits(np.stack([stream.step(x_t) for x_t in np.ascontiguousarray(p.x)]), y)
    assert_same_bits(stream.state, state)


@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("sizes", [(6, 19, 11, 37), (3, 4, 270, 130), (70, 1, 5, 3)], ids=str)
def test_instruction_sets_with_fma_agree(cell, dtype, reverse, sizes):
    if len(FUSED_ISAS) < 2:
        pytest.skip("one instruction set with FMA here")
    p, before, answers = problem(cell, *sizes, dtype=dtype), fastrnn._engine.runtime.core.isa(), []
    try:
        for isa in FUSED_ISAS:
            fastrnn._engine.runtime.select_isa(isa)
            answers.append(by_kernels(p, reverse))
    finally:
        fastrnn._engine.runtime.select_isa(before)
    for answer in answers[1:]:
        assert_same_bits(of_rows(answer), of_rows(answers[0]))


def chain(start, a, b):
    """start + a[0] b[0] + a[1] b[1] + ... in this order, with one rounding per term, as by FMA."""
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        start = float(Fraction(x) * Fraction(y) + Fraction(start))
    return start


@pytest.mark.parametrize("isa", FUSED_ISAS, indirect=True)
@pytest.mark.parametrize("sizes", [(3, 2, 5, 9), (2, 9, 17, 3), (1, 1, 300, 2), (1, 1, 2, 270)])
def test_each_pre_activation_is_one_chain_bias_then_inputs_then_units(isa, sizes):
    """relu does not round, so it shows the chain; float64, where fractions can compute FMA."""
    p = problem("rnn_relu", *sizes)
    w_ih, w_hh, b_ih, b_hh = p.weights
    got, h = by_kernels(p), p.state[0]
    for x_t, y_t in zip(p.x, got["y"], strict=True):
        wanted = [
            [chain(chain(b_ih[j] + b_hh[j], w_ih[j], x), w_hh[j], h_row) for j in range(len(w_ih))]
            for x, h_row in zip(x_t, h, strict=True)
        ]
        h = np.maximum(wanted, 0)
        assert_same_bits(y_t, h)


@pytest.mark.parametrize("isa", FUSED_ISAS, indirect=True)
@pytest.mark.parametrize("sizes", [(1, 2, 5, 9), (1, 1, 3, 300)], ids=str)
def test_each_gradient_of_an_input_is_one_chain_over_the_gates(isa, sizes):
    p = problem("rnn_relu", *sizes)
    got = by_kernels(p)
    da = np.where(got["y"] > 0, p.dstate[0] + p.dy, 0)
    for row in range(sizes[1]):
        for name, matrix in (("dx", p.weights[0]), ("dh0", p.weights[1])):
            wanted = [chain(0.0, da[0, row], column) for column in matrix.T]
            assert_same_bits(got[name].reshape(sizes[1], -1)[row] + 0.0, np.array(wanted) + 0.0)


@every_isa
@every_dtype
@both_ways
@every_cell
def test_inference_gives_what_training_gives(cell, dtype, isa, reverse):
    p = problem(cell, **SIZES, dtype=dtype)
    trained, (y, last) = by_kernels(p, reverse), infer(p, reverse)
    assert_same_bits(y, trained["y"])
    assert_same_bits(last, tuple(trained[s] for s in p.cell.states))


@every_isa
@every_dtype
@every_cell
def test_reverse_is_time_flipped(cell, dtype, isa):
    p = problem(cell, **SIZES, dtype=dtype)
    back = of_rows(by_kernels(p, True))
    there = of_rows(by_kernels(replace(p, x=p.x[::-1].copy(), dy=p.dy[::-1].copy())))
    there |= {name: there[name][:, ::-1] for name in ("y", "dx")}
    assert_same_bits(back, there)


@every_isa
@every_dtype
@every_cell
def test_reverse_is_time_flipped_for_the_weights_too_where_there_is_one_row(cell, dtype, isa):
    p = problem(cell, 150, 1, 5, 9, dtype=dtype)
    flipped = replace(p, x=p.x[::-1].copy(), dy=p.dy[::-1].copy())
    assert_same_bits(of_weights(by_kernels(p, True)), of_weights(by_kernels(flipped)))


@every_isa
@every_dtype
@both_ways
@every_cell
def test_runs_repeat_on_any_number_of_threads(cell, dtype, isa, reverse, keep_threads):
    p = problem(cell, 7, 19, 33, 65, dtype=dtype)
    answers = []
    for n in (1, 1, 2, 3, 8):
        fastrnn.set_num_threads(n)
        answers.append(by_kernels(p, reverse))
    for answer in answers[1:]:
        assert_same_bits(answer, answers[0])


@every_isa
@every_cell
def test_a_missing_bias_is_a_bias_of_zero(cell, isa):
    p, biased = problem(cell, biases=(0, 0)), problem(cell)
    zeros = [None if b is None else np.zeros_like(b) for b in biased.weights[2:]]
    got = by_kernels(p)
    wanted = by_kernels(replace(p, weights=(*p.weights[:2], *zeros)))
    assert_same_bits(got, {name: wanted[name] for name in got})


@every_isa
@every_cell
def test_what_stands_in_a_workspace_before_is_of_no_matter(cell, isa, monkeypatch):
    p = problem(cell, **SIZES, dtype="float32")
    wanted = by_kernels(p)

    def in_nans(call, *arguments):
        assert call(*arguments, np.full(2**20, np.nan, "float32").view(np.uint8)) == 0

    monkeypatch.setattr(passes.runtime, "in_workspace", in_nans)
    assert_same_bits(by_kernels(p), wanted)


# ---- NaN and infinities --------------------------------------------------------------------------


@every_isa
@every_dtype
@both_ways
@every_cell
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_value_that_is_not_finite_stays_in_its_row(cell, dtype, isa, reverse, value):
    p = problem(cell, **SIZES, dtype=dtype)
    bad = p.map(np.copy)
    at, row = 2, 6
    bad.x[at, row, 4] = value
    clean, dirty = of_rows(by_kernels(p, reverse)), of_rows(by_kernels(bad, reverse))
    for name in clean:
        others = np.delete(np.arange(SIZES["b"]), row)
        assert_same_bits(dirty[name][others], clean[name][others])
    if np.isnan(value):
        after = slice(None, at + 1) if reverse else slice(at, None)
        before = slice(at + 1, None) if reverse else slice(None, at)
        assert np.isnan(dirty["y"][row, after]).all()
        assert_same_bits(dirty["y"][row, before], clean["y"][row, before])
        assert all(np.isnan(dirty[s][row]).all() for s in p.cell.states)


@every_isa
@every_cell
@pytest.mark.parametrize("which", ["state", "dy", "dstate"])
def test_a_nan_that_enters_elsewhere_stays_in_its_row(cell, isa, which):
    p = problem(cell, **SIZES)
    bad = p.map(np.copy)
    arrays = [bad.dy[2]] if which == "dy" else getattr(bad, which)
    for array in arrays:
        array[6, 5] = np.nan
    clean, dirty = of_rows(by_kernels(p)), of_rows(by_kernels(bad))
    others = np.delete(np.arange(SIZES["b"]), 6)
    for name in clean:
        assert_same_bits(dirty[name][others], clean[name][others])
    if cell != "rnn_relu":  # its slope is 0 or 1, never NaN
        assert np.isnan(dirty["dx"][6, 0]).all()


# ---- the process is left as it was ---------------------------------------------------------------

# FE_DOWNWARD, and every exception flag but FE_INEXACT, which Python's arithmetic sets.
X86, ARM = (0x400, 0x1D), (0x800000, 0x0F)
FENV = {"x86_64": X86, "AMD64": X86, "aarch64": ARM, "arm64": ARM}


@pytest.fixture
def fenv():
    """The floating-point environment as the C library has it; the fixture restores it."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "fegetround") or platform.machine() not in FENV:
        pytest.skip("the floating-point environment cannot be reached here")
    before = library.fegetround()
    yield library
    library.fesetround(before)


def extreme(cell):
    """A problem with overflows, underflows, divisions and NaN."""
    p = problem(cell, dtype="float32")
    x = np.resize(np.array([3e38, -3e38, 1e-45, np.inf, 0.0], "float32"), p.x.shape)
    return replace(p, x=x, dy=np.full_like(p.dy, 3e38))


@every_isa
@every_cell
def test_rounding_mode_and_exception_flags_stay_as_they_were(cell, isa, fenv):
    p, (downward, flags) = extreme(cell), FENV[platform.machine()]
    fenv.feclearexcept(flags)
    by_kernels(p)
    assert fenv.fetestexcept(flags) == 0
    fenv.fesetround(downward)
    by_kernels(p)
    after = fenv.fegetround()
    fenv.fesetround(0)
    assert after == downward


@every_isa
@every_cell
def test_no_floating_point_error_of_numpy_is_raised(cell, isa):
    with np.errstate(all="raise"):
        by_kernels(extreme(cell))
        assert (np.ones(3) + np.ones(3) == 2).all()


@every_cell
def test_no_floating_point_error_of_numpy_is_raised_where_two_directions_meet(cell):
    layer = layer_of(cell, 3, 9, bias=False, bidirectional=True)
    layer.flat[...] = 1
    y, _, tape = layer.forward(np.zeros((1, 2, 3), "float32"))
    dy = np.full_like(y, 3e38)
    dy[..., 9:] = -3e38
    with np.errstate(all="raise"):
        dx = tape.backward(dy).x
    assert np.isnan(dx).all() or cell == "rnn_relu"


@every_isa
@every_cell
def test_denormals_are_not_flushed_after_a_call(cell, isa):
    by_kernels(extreme(cell))
    assert np.float32(1e-40) * np.float32(1) != 0
    assert np.float64(5e-324) * np.float64(1) != 0


@every_cell
def test_arguments_are_not_modified(cell):
    p = problem(cell, **SIZES)
    before = p.map(np.copy)
    by_kernels(p)
    assert_same_bits(
        (p.x, p.state, p.weights, p.dy, p.dstate),
        (before.x, before.state, before.weights, before.dy, before.dstate),
    )


# ---- Python threads, and processes ---------------------------------------------------------------


@every_cell
def test_python_threads_that_call_at_once_get_their_own_results(cell):
    problems = [problem(cell, 12, 4 + k, 3, 20 + 7 * k, seed=k) for k in range(3)]
    calls = [partial(by_kernels, p) for p in problems]
    wanted, got = [call() for call in calls], at_once(calls, 8)
    for answers, answer in zip(got, wanted, strict=True):
        assert len(answers) == 8
        for one in answers:
            assert_same_bits(one, answer)


@pytest.mark.any_isa
@pytest.mark.alone
def test_python_goes_on_while_a_long_call_runs():
    p = problem("lstm", 1, 8, 64, 256, dtype="float32")
    p = replace(p, x=np.broadcast_to(p.x, (3000 // SLOWER, *p.x.shape[1:])))
    interval = []

    def call():
        begin = time.perf_counter()
        infer(p)
        interval.extend((begin, time.perf_counter()))

    worker = threading.Thread(target=call)
    worker.start()
    stamps = []
    while worker.is_alive():
        stamps.append(time.perf_counter())
        time.sleep(0.0005)
    worker.join()
    begin, end = interval
    margin = (end - begin) / 4
    assert sum(begin + margin < stamp < end - margin for stamp in stamps) >= 3


@pytest.mark.posix
@pytest.mark.any_isa
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_call():
    """And then end as any program does, with all that Python and C do at an exit."""
    done = run_python("""
import os, sys, warnings
import numpy as np, fastrnn
warnings.simplefilter("ignore")
fastrnn.set_num_threads(2)
layer = fastrnn.LSTM(64, 128, rng=0)
x = np.random.default_rng(0).standard_normal((20, 32, 64)).astype("float32")
before, _ = layer(x)
child = os.fork()
if child == 0:
    sys.exit(0 if np.array_equal(layer(x)[0], before) else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(layer(x)[0], before)
""")
    assert done.returncode == 0, done.stderr
