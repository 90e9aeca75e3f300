"""The thread pool: it changes how long a call takes and nothing else."""

import os
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import functional, runtime
from fastrnn.cells import CELLS

pytestmark = pytest.mark.skipif(runtime.core is None, reason="this build has no kernels")

# Above the work that is shared out, and odd in every size.
T, B, INPUTS, H = 31, 17, 37, 131


def problem(cell, dtype):
    rng = np.random.default_rng(7)
    gates = cell.gates * H

    def normal(*shape):
        return (0.3 * rng.standard_normal(shape)).astype(dtype)

    weights = (normal(gates, INPUTS), normal(gates, H), normal(gates), normal(gates))
    state = tuple(normal(B, H) for _ in cell.states)
    dlast = tuple(normal(B, H) for _ in cell.states)
    return normal(T, B, INPUTS), state, weights, normal(T, B, H), dlast


def everything(cell, x, state, weights, dy, dlast, reverse):
    """All outputs and gradients of a pass, in one list of bytes."""
    inferred, last, _ = functional.run(cell, x, state, weights, reverse)
    y, last_kept, saved = functional.run(cell, x, state, weights, reverse, keep=True)
    dweights = tuple(np.empty_like(w) for w in weights)
    dx, dfirst = functional.run_backward(saved, dy, dlast, dweights)
    arrays = [inferred, *last, y, *last_kept, dx, *dfirst, *dweights]
    return [a.tobytes() for a in arrays]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_results_are_the_same_bits_on_any_number_of_threads(cell, dtype, reverse):
    given = problem(cell, dtype)
    with fastrnn.threads(1):
        expected = everything(cell, *given, reverse)
    for n in range(2, 9):
        with fastrnn.threads(n):
            assert everything(cell, *given, reverse) == expected, n


def test_more_threads_than_rows_are_fine():
    layer = fastrnn.LSTM(64, 256, rng=0)
    x = np.random.default_rng(1).standard_normal((40, 2, 64)).astype(np.float32)
    with fastrnn.threads(1):
        expected, _ = layer(x)
    with fastrnn.threads(8):
        y, _ = layer(x)
    np.testing.assert_array_equal(y, expected)


def test_python_threads_that_call_at_once_all_get_their_own_right_result():
    cell = CELLS["lstm"]
    given = problem(cell, "float32")
    expected = everything(cell, *given, False)
    wrong = []

    def call():
        for _ in range(10):
            if everything(cell, *given, False) != expected:
                wrong.append(threading.current_thread().name)

    with fastrnn.threads(3):
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_computes_right_with_threads_of_its_own():
    cell = CELLS["gru_after"]
    given = problem(cell, "float32")
    with fastrnn.threads(3):
        expected = everything(cell, *given, False)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if everything(cell, *given, False) == expected else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert everything(cell, *given, False) == expected
