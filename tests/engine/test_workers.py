"""The cores of the pool's workers, and forks beside other callers. Each test has a process of its
own, whose pool is new. tests/c/turns.c has the pool's promises that need no layer."""

import os

import pytest
from problems import run_python
from sanitizers import SLOWER

from fastrnn._engine import runtime

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(runtime.core is None, reason="this build has no kernels"),
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="needs two cores and Linux' way to look at them",
    ),
]

BEGIN = """
import os, threading, time
import numpy as np
import fastrnn

def tasks():
    return set(map(int, os.listdir("/proc/self/task")))

def core_of(task):
    with open(f"/proc/self/task/{task}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[36])

before, allowed = tasks(), os.sched_getaffinity(0)
here, elsewhere = sorted(allowed)[:2]
"""


def succeeds(program):
    done = run_python(BEGIN + program, "-W", "ignore")
    assert done.returncode == 0, done.stderr


@pytest.mark.alone
def test_a_worker_wakes_on_another_core_than_its_callers():
    succeeds(f"""
fastrnn.set_num_threads(2)
layer, x = fastrnn.GRU(64, 64, rng=0), np.zeros(({200 // SLOWER}, 32, 64), "f4")
layer(x)
(worker,) = tasks() - before
os.sched_setaffinity(0, {{here}})
together = 0
for _ in range(50):
    time.sleep(0.01)  # asleep
    layer(x)
    together += core_of(worker) == here
assert together < 10, together  # half of them and more if the system chooses
assert os.sched_getaffinity(worker) == allowed
""")


@pytest.mark.parametrize("caller", ["a thread", "the process"])
def test_a_caller_held_to_one_core_does_not_hold_the_workers_there(caller):
    """The first call starts the workers. They get the cores of the process, which are those of the
    main thread, and not those of the calling thread; and new cores of the process later."""
    succeeds(f"""
fastrnn.set_num_threads(3)
layer, x = fastrnn.GRU(64, 64, rng=0), np.zeros((200, 32, 64), "f4")

def call_held():
    os.sched_setaffinity(0, {{here}})
    layer(x)
    workers.extend(tasks() - before - {{threading.get_native_id()}})

workers = []
if {caller!r} == "the process":
    call_held()
    assert [os.sched_getaffinity(worker) for worker in workers] == [{{here}}, {{here}}]
    os.sched_setaffinity(0, allowed)
else:
    thread = threading.Thread(target=call_held)
    thread.start()
    thread.join()
for _ in range(500):
    time.sleep(0.01)  # asleep
    layer(x)
    if all(os.sched_getaffinity(worker) == allowed for worker in workers):
        break
assert [os.sched_getaffinity(worker) for worker in workers] == [allowed, allowed]
os.sched_setaffinity(workers[0], {{here}})
os.sched_setaffinity(0, allowed - {{here}})
for _ in range(5):
    time.sleep(0.01)
    layer(x)
assert [os.sched_getaffinity(worker) for worker in workers] == [{{here}}, allowed]
""")


@pytest.mark.slow
@pytest.mark.alone
def test_an_awake_worker_does_not_stay_on_its_callers_core():
    """The system parts the two after 10 calls or so; the caller does after one or two."""
    succeeds("""
fastrnn.set_num_threads(2)
frozen, x = fastrnn.LSTM(128, 256, rng=0).freeze(), np.ones((20, 8, 128), np.float32)
needed = []

def call():
    for _ in range(50):
        frozen(x)
    (worker,) = tasks() - before - {threading.get_native_id()}
    os.sched_setaffinity(threading.get_native_id(), {here})
    for _ in range(15):
        os.sched_setaffinity(worker, {here})
        for _ in range(5):
            frozen(x)
        os.sched_setaffinity(worker, {here, elsewhere})
        calls = 0
        while core_of(worker) == here and calls < 100:
            frozen(x)
            calls += 1
        needed.append(calls)

caller = threading.Thread(target=call)  # the main thread's cores are the process' own
caller.start()
caller.join()
assert sorted(needed)[len(needed) // 2] <= 3, needed
""")


def test_a_child_counts_no_caller_of_its_parent():
    """The process forks while another thread computes; the pool has not been used before."""
    succeeds("""
fastrnn.set_num_threads(1)
frozen, x = fastrnn.LSTM(64, 256, rng=0).freeze(), np.ones((200, 8, 64), np.float32)
going = True

def call():
    while going:
        frozen(x)

caller = threading.Thread(target=call)
caller.start()
time.sleep(0.1)
child = os.fork()
if child == 0:
    fastrnn.set_num_threads(2)
    frozen(x)
    os._exit(len(tasks()))
going = False
caller.join()
threads = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert threads == 2, threads
""")
