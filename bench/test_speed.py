"""fastrnn alone on some of the bench's cases, through pytest-benchmark: for comparing two commits.

    git switch before && pip install . && pytest bench/test_speed.py --benchmark-save=before
    git switch after && pip install . && pytest bench/test_speed.py --benchmark-compare='*before'

Choose cases with -k, say -k "lstm and seq-128"; judge by the column "min", and where the machine is
shared repeat both. --benchmark-compare-fail=min:5% makes a slowdown a failure. One thread, whatever
FASTRNN_NUM_THREADS says; `taskset -c 1` keeps it on one core.
"""

import pytest

from fastrnn.bench.cases import CASES, CELLS
from fastrnn.bench.peers import FastRNN

NAMES = ("step-64", "seq-128", "forecast", "rl-batch", "imdb-bi2")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in NAMES for mode in CASES[name].modes]
)
@pytest.mark.benchmark(min_time=1e-3)  # a round of many calls where one takes microseconds
def test_speed(benchmark, name, mode, cell):
    peer = FastRNN(CASES[name], cell, mode, threads=1)
    (variant,) = peer.variants
    benchmark.group = f"{name} {mode} {cell}"
    benchmark(peer.timed(variant))
