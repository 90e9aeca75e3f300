"""Calls per second of objects that Python threads use at once, from 1, 2, ... threads.

    python bench/free_threads.py [--threads 1,2] [--windows 60]
    PYTHON_GIL=1 python3.14t bench/free_threads.py     # the same interpreter with its global lock

Each call runs on its caller's thread (`fastrnn.threads(1)`). The threads call for 50 ms, all
together; the best of the windows counts, because other processes on the machine only slow it down.
The last column is the gain over one thread.
"""

import argparse
import sys
import threading
import time

import numpy as np

import fastrnn

WINDOW = 0.05  # seconds


def cases():
    """Name -> a function that makes a call for one thread."""
    small, large = (fastrnn.GRU(64, n, rng=0).freeze() for n in (64, 256))
    tiny, layer = fastrnn.GRU(16, 16, rng=0).freeze(), fastrnn.LSTM(64, 128, rng=0)

    def of(function, steps, batch=1):
        x = np.ones((steps, batch, 64), "float32")
        return lambda: lambda: function(x)

    def step(frozen, features):
        x, out = np.ones((1, features), "float32"), np.empty((1, features), "float32")
        stream = frozen.stream()
        return lambda: stream.step(x, out)

    def train():
        x = np.ones((40, 8, 64), "float32")
        y, _, tape = layer.forward(x)
        tape.backward(y)

    return {
        "a stream for each thread, one step, 16 units": lambda: step(tiny, 16),
        "a stream for each thread, one step, 64 units": lambda: step(small, 64),
        "one frozen GRU, 64 units, T = 1": of(small, 1),
        "one frozen GRU, 64 units, T = 20": of(small, 20),
        "one frozen GRU, 256 units, T = 20, B = 8": of(large, 20, 8),
        "one LSTM, 128 units, T = 40, B = 8, training": lambda: train,
    }


def calls_in_a_window(makes):
    """The calls per second of all threads together in one window; makes : one for each thread."""
    done, begins, ends = [], [], []
    start = threading.Barrier(len(makes))

    def work(make):
        with fastrnn.threads(1):
            call, count = make(), 0
            call()
            start.wait()
            begin = now = time.perf_counter()
            while now < begin + WINDOW:
                call()
                count += 1
                now = time.perf_counter()
            done.append(count), begins.append(begin), ends.append(now)

    threads = [threading.Thread(target=work, args=(make,)) for make in makes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (max(ends) - min(begins))  # a thread may wait for the lock before it begins


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="numbers of Python threads")
    parser.add_argument("--windows", type=int, default=60)
    options = parser.parse_args()
    numbers = [int(n) for n in options.threads.split(",")]
    lock = "with" if getattr(sys, "_is_gil_enabled", lambda: True)() else "without"
    print(f"Python {sys.version.split()[0]}, {lock} the global lock; calls per second")
    for name, make in cases().items():
        best = dict.fromkeys(numbers, 0.0)
        for _ in range(options.windows):
            for n in numbers:  # in turn, so that all meet the same changes of the machine
                best[n] = max(best[n], calls_in_a_window([make] * n))
        gain = best[numbers[-1]] / best[numbers[0]]
        rates = "  ".join(f"{n}: {rate:9.0f}" for n, rate in best.items())
        print(f"{name:48} {rates}  {gain:.2f}", flush=True)


if __name__ == "__main__":
    main()
