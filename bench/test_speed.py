"""Times fastrnn alone on some of the bench's cases, by pytest-benchmark, to compare two commits.

    git switch before && pip install . && pytest bench/test_speed.py --benchmark-save=before
    git switch after && pip install . && pytest bench/test_speed.py --benchmark-compare='*before'

Choose cases with -k, for example -k "lstm and seq-128". Judge by the column "min", and repeat both
commands if other processes use the machine. --benchmark-compare-fail=min:5% makes a slowdown a
failure. It uses one thread, whatever FASTRNN_NUM_THREADS says; `taskset -c 1` keeps it on one core.
"""

import pytest

from fastrnn.bench.cases import CASES, CELLS
from fastrnn.bench.peers import FastRNN

NAMES = ("step-64", "seq-128", "forecast", "rl-batch", "imdb-bi2")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in NAMES for mode in CASES[name].modes]
)
@pytest.mark.benchmark(min_time=1e-3)  # a round has many calls if a call takes microseconds
def test_speed(benchmark, name, mode, cell):
    peer = FastRNN(CASES[name], cell, mode, threads=1)
    (variant,) = peer.variants
    benchmark.group = f"{name} {mode} {cell}"
    benchmark(peer.timed(variant))
