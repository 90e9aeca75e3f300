"""Backends, threads, configuration, and the package without its kernels."""

import os
import sys
import threading
from collections import deque

import numpy as np
import one_pass
import pytest
from problems import BACKENDS, ISAS, assert_same_bits, infer, problem, run_python

import fastrnn
from fastrnn import reference
from fastrnn._engine import runtime

pytestmark = pytest.mark.any_isa

# ---- backends ------------------------------------------------------------------------------------


def current():
    return "core" if runtime.uses_core() else "reference"


def saved_by():
    """The backend that a pass ran on, from its tape."""
    p = problem("gru_after")
    saved = one_pass.run(p.cell, p.x, p.state, p.weights, keep=True)[2]
    return "reference" if isinstance(saved.call.tape, reference.Tape) else "core"


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_runs_what_stands_in_its_block(name):
    before = current()
    with fastrnn.backend(name) as nothing:
        assert nothing is None and current() == saved_by() == name
    assert current() == saved_by() == before


def test_backends_nest_and_end_with_an_exception():
    before = current()
    with fastrnn.backend(BACKENDS[0]):
        with pytest.raises(KeyError), fastrnn.backend("reference"):
            assert current() == "reference"
            raise KeyError
        assert current() == BACKENDS[0]
    assert current() == before


def test_a_backend_is_the_threads_own():
    default, seen = current(), []
    with fastrnn.backend("reference"):
        other = threading.Thread(target=lambda: seen.append(current()))
        other.start()
        other.join()
        assert current() == "reference"
    assert seen == [default]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_environment_chooses_the_backend(name):
    done = run_python(
        "import fastrnn; print(fastrnn._engine.runtime.uses_core())", FASTRNN_BACKEND=name
    )
    assert done.stdout.strip() == str(name == "core"), done.stderr


# ---- instruction sets ----------------------------------------------------------------------------


@pytest.mark.usefixtures("core")
def test_the_generic_set_is_always_there_and_the_best_comes_first():
    done = run_python("from fastrnn._engine import runtime; print(runtime.core.isa())")
    assert ISAS[-1] == "generic"
    assert done.stdout.strip() == ISAS[0]
    assert set(ISAS) <= set(runtime.core.isas_compiled())


@pytest.mark.parametrize("isa", ISAS)
def test_the_environment_chooses_the_instruction_set(isa):
    done = run_python(
        "from fastrnn._engine import runtime; print(runtime.core.isa())", FASTRNN_ISA=isa
    )
    assert done.stdout.strip() == isa, done.stderr


# ---- threads -------------------------------------------------------------------------------------


def test_threads_are_set_for_a_block_and_for_the_process(keep_threads):
    fastrnn.set_num_threads(3)
    assert fastrnn.get_num_threads() == 3
    with fastrnn.threads(2) as nothing:
        assert nothing is None and fastrnn.get_num_threads() == 2
    assert fastrnn.get_num_threads() == 3
    with pytest.raises(KeyError), fastrnn.threads(1):
        raise KeyError
    assert fastrnn.get_num_threads() == 3
    seen = []
    other = threading.Thread(target=lambda: seen.append(fastrnn.get_num_threads()))
    other.start()
    other.join()
    assert seen == [3]


def test_a_number_of_threads_for_a_block_is_the_threads_own(keep_threads):
    fastrnn.set_num_threads(3)
    seen = []
    with fastrnn.threads(2):
        other = threading.Thread(target=lambda: seen.append(fastrnn.get_num_threads()))
        other.start()
        other.join()
        assert fastrnn.get_num_threads() == 2
    assert seen == [3]


def test_blocks_of_two_threads_that_overlap_leave_nothing_behind(keep_threads):
    """The block that began first ends first; a shared setting would be restored wrongly."""
    fastrnn.set_num_threads(3)
    begun, ended = threading.Event(), threading.Event()

    def first():
        with fastrnn.threads(1):
            begun.set()
            ended.wait(10)

    other = threading.Thread(target=first)
    other.start()
    begun.wait(10)
    with fastrnn.threads(2):
        ended.set()
        other.join()
        assert fastrnn.get_num_threads() == 2
    assert fastrnn.get_num_threads() == 3


def test_the_process_number_that_changes_within_a_block_holds_after_it(keep_threads):
    with fastrnn.threads(2):
        fastrnn.set_num_threads(5)
        assert fastrnn.get_num_threads() == 2
    assert fastrnn.get_num_threads() == 5


@pytest.mark.usefixtures("core")
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_calls_go_by_the_number_of_their_own_thread():
    code = """
import os, threading, time
import numpy as np, fastrnn

layer, x = fastrnn.GRU(64, 64, rng=0), np.zeros((200, 32, 64), "f4")

def workers():
    return len(os.listdir("/proc/self/task")) - before

def call_on_three():
    with fastrnn.threads(3):
        layer(x)

before = len(os.listdir("/proc/self/task"))
fastrnn.set_num_threads(4)
with fastrnn.threads(1):
    layer(x)
    assert workers() == 0
    other = threading.Thread(target=call_on_three)
    other.start()
    other.join()
    for _ in range(500):  # the system may take its time to end the thread
        if workers() > 2:
            time.sleep(0.01)
    assert workers() == 2
    layer(x)
    assert workers() == 2
layer(x)
assert workers() == 3
"""
    done = run_python(code, OPENBLAS_NUM_THREADS="1", FASTRNN_BACKEND="core")
    assert done.returncode == 0, done.stderr


def test_the_most_threads_are_as_many_as_the_pool_has(keep_threads):
    fastrnn.set_num_threads(256)
    assert fastrnn.get_num_threads() == 256
    with fastrnn.threads(256):
        assert fastrnn.get_num_threads() == 256
    for enter in (fastrnn.set_num_threads, lambda n: fastrnn.threads(n).__enter__()):
        with pytest.raises(ValueError, match="n must be at most 256, got 257"):
            enter(257)
    assert fastrnn.get_num_threads() == 256


def test_the_environment_sets_the_number_of_threads():
    done = run_python("import fastrnn; print(fastrnn.get_num_threads())", FASTRNN_NUM_THREADS="3")
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")
def test_the_cores_of_this_process_are_not_those_of_the_thread_that_imports():
    code = """
import os, threading

def bring_in():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import fastrnn

thread = threading.Thread(target=bring_in)
thread.start()
thread.join()
here = __import__("fastrnn").get_num_threads()
print(here)
"""
    imported = run_python("import fastrnn; print(fastrnn.get_num_threads())")
    assert run_python(code).stdout == imported.stdout


def test_without_a_setting_the_threads_are_the_cores_of_this_process():
    code = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import fastrnn
    assert fastrnn.get_num_threads() == 1
else:
    import fastrnn
    assert 1 <= fastrnn.get_num_threads() <= os.cpu_count()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


# ---- workspaces ----------------------------------------------------------------------------------


def given_buffer(nbytes):
    """The buffer of a call that needs so many bytes."""
    given = []

    def call(buffer):
        given.append(buffer)
        return nbytes if buffer.size < nbytes else 0

    runtime.in_workspace(call)
    return given[-1]


def test_calls_at_once_have_workspaces_of_their_own():
    both, given = threading.Barrier(2), []

    def call(buffer):
        if buffer.size < 1000:
            return 1000
        given.append(buffer)
        both.wait(10)
        return 0

    threads = [threading.Thread(target=runtime.in_workspace, args=(call,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not np.shares_memory(*given)


def test_workspaces_that_are_kept_are_few():
    def nest(depth):
        runtime.in_workspace(lambda buffer: nest(depth - 1) if depth else 0)

    nest(100)
    assert len(runtime._workspaces) == runtime._workspaces.maxlen < 100


def test_a_small_workspace_is_kept_and_a_large_one_given_back():
    assert np.shares_memory(given_buffer(1000), given_buffer(10))
    large = given_buffer(runtime._KEPT_BYTES + 1)
    assert large.size > runtime._KEPT_BYTES and given_buffer(1).size < large.size


def test_a_call_within_a_call_has_another_workspace():
    within = []
    runtime.in_workspace(lambda buffer: within.append((buffer, given_buffer(1000))))
    assert not np.shares_memory(*within[0])


@pytest.fixture
def no_buffers(monkeypatch):
    """There are no lent or spare buffers during the test; afterwards the old ones are back."""
    for name, empty in (("_lent", {}), ("_spare", deque()), ("_returned", deque())):
        monkeypatch.setattr(runtime, name, empty)


@pytest.mark.usefixtures("no_buffers")
def test_a_tapes_buffer_serves_again_once_nobody_holds_it():
    size = 2 * runtime._FRESH_BYTES
    tape, other = runtime.tape_buffer(size), runtime.tape_buffer(size)
    address = tape.ctypes.data
    assert not np.shares_memory(tape, other)
    del tape
    assert runtime.tape_buffer(size - 100).ctypes.data == address


@pytest.mark.usefixtures("no_buffers")
def test_spare_buffers_have_a_limit_and_fit():
    tapes = [runtime.tape_buffer(runtime._KEPT_BYTES // 3) for _ in range(5)]
    tapes.clear()
    small = runtime.tape_buffer(runtime._FRESH_BYTES)
    assert small.size == runtime._FRESH_BYTES and small.base.size == small.size
    kept = [loan.buffer for loan in runtime._lent.values()] + list(runtime._spare)
    assert 0 < sum(b.size for b in kept) <= runtime._KEPT_BYTES


@pytest.mark.usefixtures("no_buffers")
def test_a_tape_that_goes_runs_no_python_code():
    """Python code there could handle a signal, and an exception of the handler would be lost."""
    seen, tape = [], runtime.tape_buffer(2 * runtime._FRESH_BYTES)

    def profile(frame, event, _):
        if event == "call":
            seen.append(frame.f_code.co_name)

    sys.setprofile(profile)
    del tape
    sys.setprofile(None)
    assert seen == []


# ---- configuration -------------------------------------------------------------------------------


def test_show_config_prints_what_it_returns(capsys):
    config = fastrnn.show_config()
    printed = capsys.readouterr().out
    assert config["fastrnn"] == fastrnn.__version__
    assert config["backend"] == current()
    assert config["threads"] == fastrnn.get_num_threads()
    assert config["isas available"] == ISAS
    assert config["numpy"] == np.__version__
    if runtime.core:
        assert config["isa"] == runtime.core.isa() and config["isa"] in ISAS
        assert set(ISAS) <= set(config["isas compiled in"])
        assert config["compiler"].startswith(("gcc ", "clang "))
        assert set(config["extensions"]) <= set(config["extensions built"])
    for key, value in config.items():
        line = next(line for line in printed.splitlines() if line.strip().startswith(f"{key}:"))
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        assert line.strip() == f"{key}: {shown}".strip()


def test_show_config_tells_the_backend_of_the_block(capsys):
    with fastrnn.backend("reference"):
        assert fastrnn.show_config()["backend"] == "reference"
    capsys.readouterr()


def test_the_public_names_are_all_there():
    names = (
        "GRU LSTM RNN backend get_num_threads gru lstm reference rnn set_num_threads show_config"
    )
    assert set(fastrnn.__all__) >= {*names.split(), "plot", "tbptt", "threads", "train"}
    assert all(getattr(fastrnn, name).__doc__ for name in fastrnn.__all__)


@pytest.mark.usefixtures("core")
def test_probes_give_a_rate():
    assert runtime.probe_fma(0.001) > 1e6
    assert runtime.probe_read(1 << 14, 0.001) > 1e6


# ---- without the kernels -------------------------------------------------------------------------

WITHOUT = """
import sys, warnings
sys.modules["fastrnn._engine._core"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastrnn
import numpy as np
"""


def without_kernels(code, **environment):
    return run_python(WITHOUT + code, **environment)


def test_without_the_kernels_one_warning_says_what_to_do():
    done = without_kernels("""
(warning,) = caught
assert warning.category is RuntimeWarning, warning
text = str(warning.message)
for words in ("NumPy path", "slower", "fastrnn._engine._core", "C compiler", "pip install"):
    assert words in text, text
""")
    assert done.returncode == 0, done.stderr


def test_without_the_kernels_everything_runs_on_the_reference():
    done = without_kernels("""
warnings.simplefilter("error")
x = np.random.default_rng(0).uniform(-1, 1, (6, 3, 4)).astype("float32")
for make in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU,
             lambda *a, **k: fastrnn.GRU(*a, reset_after=False, **k),
             lambda *a, **k: fastrnn.RNN(*a, nonlinearity="relu", **k)):
    layer = make(4, 5, 2, rng=0)
    y, state, tape = layer.forward(x)
    assert np.array_equal(layer(x)[0], y)
    grads = tape.backward(np.ones_like(y))
    assert grads.x.shape == x.shape and grads.flat.any()
    stream = layer.stream(3)
    for t in range(6):
        assert np.allclose(stream.step(x[t]), y[t], atol=1e-6)
    out = np.empty((3, 5), "float32")
    assert stream.step(x[0], out) is out
    make(4, 5, bidirectional=True)(x)
w = layer.params
y, h = fastrnn.rnn(x, None, w["weight_ih_l0"], w["weight_hh_l0"], nonlinearity="relu")
config = fastrnn.show_config()
assert config["backend"] == "reference" and config["isa"] is None
assert config["isas available"] == config["isas compiled in"] == []
assert config["extensions"] == config["extensions built"] == []
fastrnn.set_num_threads(2)
assert fastrnn.get_num_threads() == 2
with fastrnn.backend("reference"), fastrnn.threads(1):
    layer(x)
""")
    assert done.returncode == 0, done.stderr


def test_without_the_kernels_the_core_backend_is_refused():
    done = without_kernels("""
try:
    with fastrnn.backend("core"):
        pass
except ValueError as error:
    assert "no kernels" in str(error), error
else:
    raise AssertionError
""")
    assert done.returncode == 0, done.stderr
    done = without_kernels("", FASTRNN_BACKEND="core")
    assert "FASTRNN_BACKEND='core'" in done.stderr and "no kernels" in done.stderr


def test_importing_brings_numpy_and_nothing_heavy():
    done = run_python("""
import sys
import numpy
before = set(sys.modules)
import fastrnn
new = {name.split(".")[0] for name in set(sys.modules) - before}
new -= set(sys.stdlib_module_names) | {"fastrnn", "numpy", "_cython_3_1_0"}
new = {name for name in new if not name.startswith(("_cython", "cython_runtime"))}
assert not new, new
""")
    assert done.returncode == 0, done.stderr


def test_the_reference_and_the_kernels_have_one_meaning():
    """The promise of the backends, in one line for each function."""
    p = problem("gru_before")
    answers = []
    for name in BACKENDS:
        with fastrnn.backend(name):
            answers.append(infer(p))
    np.testing.assert_allclose(answers[0][0], answers[-1][0], rtol=1e-12)
    with fastrnn.backend(BACKENDS[0]):
        assert_same_bits(infer(p), answers[0])
