"""A process that runs one peer on one job. The parent sends it one order at a time.

Orders and answers are pickled over a socket, which is the process's standard input. Between orders
the process is stopped with SIGSTOP, so that none of its threads can spin while another peer is
timed. The parent starts it by this file's path, not by `-m fastrnn.bench.worker`, which would load
libraries before the process is bound to its cores. So this file must not import any at its head.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

PR_SET_PDEATHSIG = 1


class WorkerError(Exception):
    pass


class Worker:
    """The parent's end of the socket."""

    def __init__(self, cores: list[int], timeout: float):
        self.timeout = timeout
        self.log = tempfile.TemporaryFile()  # the output of the peer's libraries
        self.pipe, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, __file__, ",".join(map(str, cores)), *sys.path],
            stdin=theirs.fileno(),
            stdout=self.log,
            stderr=self.log,
            env=environment(len(cores)),
        )
        theirs.close()

    def send(self, order: str, *args):
        self.process.send_signal(signal.SIGCONT)
        try:
            self.pipe.send((order, args))
        except OSError:
            pass  # the process died; `receive` reports it

    def receive(self, stop: bool = True):
        try:
            if not self.pipe.poll(self.timeout):
                self.close()
                raise WorkerError(f"no answer within {self.timeout:g} s")
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            self.log.seek(0)
            tail = self.log.read().decode(errors="replace")[-2000:]
            raise WorkerError(f"process ended with code {code}: {tail}") from None
        if stop:
            self.process.send_signal(signal.SIGSTOP)
        if not good:
            raise WorkerError(answer)
        return answer

    def ask(self, order: str, *args):
        self.send(order, *args)
        return self.receive()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        self.log.close()


def environment(threads: int) -> dict[str, str]:
    """Each library's variable for the number of threads. The affinity, set in main(), limits it."""
    env = dict(os.environ)
    for name in ("FASTRNN_BACKEND", "FASTRNN_NUM_THREADS"):
        env.pop(name, None)
    for name in ("OMP", "OPENBLAS", "MKL"):
        env[name + "_NUM_THREADS"] = str(threads)
    env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return env


def resident(what: str) -> int:
    """The bytes of this process in memory: VmRSS now, VmHWM at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {what}")


class Orders:
    """The child's end of the socket: a method for each command of the parent."""

    def prepare(self, name: str, case, cell: str, mode: str, threads: int) -> list[str] | str:
        """The names of the peer's variants, or the reason why it cannot run this job."""
        from fastrnn.bench.peer import Unsupported
        from fastrnn.bench.peers import PEERS

        try:
            self.peer = PEERS[name](case, cell, mode, threads)
        except Unsupported as reason:
            return str(reason)
        self.before = resident("VmRSS")
        return list(self.peer.variants)

    def result(self, variant: str):
        return self.peer.result(variant)

    def calibrate(self, variants: list[str], seconds: float) -> tuple[str, int]:
        """The fastest variant, and the number of its calls that take `seconds`."""
        best = None
        for variant in variants:
            self.call = self.peer.timed(variant)
            calls, taken = 1, self.batch(1)  # the first call warms up and does not count
            taken = min(taken, self.batch(1))
            while taken < seconds:
                calls = max(calls + 1, int(calls * min(1.1 * seconds / taken, 10)))
                taken = self.batch(calls)
            if len(variants) > 1:
                taken = min(taken, self.batch(calls))
            if best is None or taken / calls < best[0]:
                best = taken / calls, variant, calls, self.call
        _, variant, calls, self.call = best
        return variant, calls

    def memory(self) -> int:
        """The bytes at the peak of a call, less those before the first call."""
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        self.call()
        return max(0, resident("VmHWM") - self.before)

    def time(self, calls: int) -> tuple[float, int]:
        """Seconds per call, after a few calls that bring weights and threads back into the caches,
        and the number of times that another process took a core from this one meanwhile."""
        if calls > 1:
            self.batch(calls // 8 + 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        seconds = self.batch(calls) / calls
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before

    def batch(self, calls: int) -> float:
        call, clock = self.call, time.perf_counter
        start = clock()
        for _ in range(calls):
            call()
        return clock() - start

    def probe(self, threads: int, seconds: float):
        from fastrnn.bench import limits

        return limits.measure(threads, seconds)

    def about(self):
        """The facts that the loaded package tells: version, instruction sets, compiler."""
        import fastrnn

        return fastrnn.show_config()


def main():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a stopped process would remain
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
    pipe = Connection(os.dup(0))
    sys.path[:] = sys.argv[2:]  # the parent's path, for the same packages
    orders = Orders()
    while True:
        try:
            order, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(orders, order)(*args)
        except Exception:
            answer = False, traceback.format_exc(limit=-4)
        pipe.send(answer)


if __name__ == "__main__":
    main()
