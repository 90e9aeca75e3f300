"""Series in files that are larger than the memory: nothing copies them.

The file has 4 GB and takes no disk: it has no data, so each number that is read from it is 0. The
programs run in processes of their own. RLIMIT_DATA ends one that allocates more than it may.
"""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from fastrnn import train

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

SIZE = 4 * 2**30
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

HEAD = """
import itertools, resource, sys
import numpy as np
import fastrnn
from fastrnn import train

def megabytes(name):
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(name)]
    return int(line.split()[1]) / 1024

layer = fastrnn.GRU(4, 8, rng=0)
layer.forward(np.zeros((64, 128, 4), "float32"))[2].backward(np.ones((64, 128, 8), "float32"))
most = int((megabytes("VmData") + 150) * 2**20)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
series = np.memmap(sys.argv[1], "float32", "r").reshape(-1, 4)
before, peak = megabytes("RssAnon"), 0

def look():
    global peak
    peak = max(peak, megabytes("RssAnon") - before)
"""

TRAINING = """
head = train.Dense(8, 4, rng=1)
adam = train.Adam([layer, head], 0.01)

def step(batch):
    x, target = batch
    y, state, tape = layer.forward(x)
    last = layer.last(state)
    loss, d = train.mean_squared_error(head(last), target)
    of_head = head.backward(last, d)
    look()
    return loss, [tape.backward(last=of_head.x, need_x=False), of_head]

def batches(epoch):
    return itertools.islice(train.windows(series, 64, 1, batch_size=128, rng=epoch), 4)

train.fit([layer, head], step, batches, optimizer=adam, epochs=1)
print(peak)
"""

OF_BLOCKS = """
def blocks(series, length, horizon, rows, rng):
    more = length + horizon - 1
    for begin in rng.permutation(range(0, len(series) - more, rows)):
        yield series[begin : begin + rows + more]

rng = np.random.default_rng(0)
for block in itertools.islice(blocks(series, 64, 1, 10**6, rng), 3):
    for x, target in itertools.islice(train.windows(block, 64, 1, 128, rng), 5):
        layer.forward(x)
        look()
print(peak)
"""

STREAMING = """
wide = series.reshape(-1, 256)
layer = fastrnn.GRU(256, 4, rng=0)
stream, steps = layer.stream(), 0
for begin in range(0, len(wide), 2**14):
    chunk = wide[begin : begin + 2**14, None]
    steps += len(stream.feed(chunk))
    look()
assert steps == len(wide)
print(peak)
"""

TRUNCATED = """
x = series.reshape(-1, 16, 4)
for window in itertools.islice(fastrnn.tbptt(layer, x, 50), 20):
    window.backward(np.zeros_like(window.y), need_x=False)
    look()
print(peak)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "series.bin"
    with path.open("wb") as written:
        written.truncate(SIZE)
    if path.stat().st_blocks * 512 > SIZE // 100:
        pytest.skip("needs a file system with sparse files")
    return path


def grown(program, file):
    """The most memory, in MB, that a program takes beside pages of files and its beginning."""
    command = [sys.executable, "-c", HEAD + program, str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return float(said.stdout)


@needs_linux
@pytest.mark.parametrize(
    "program",
    [TRAINING, OF_BLOCKS, TRUNCATED, pytest.param(STREAMING, marks=pytest.mark.slow)],
    ids=["fit", "blocks", "tbptt", "stream"],
)
def test_memory_is_flat_over_a_file_of_four_gigabytes(program, file):
    assert grown(program, file) < 40


def peak_of(call):
    """The most bytes that NumPy and Python allocate in a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("targets", [None, 1, slice(0, 2), [2, 0]], ids=str)
@pytest.mark.parametrize(("dtype", "most"), [("i2", 4e5), ("f4", 4e5), ("i4", 4e7), ("f8", 4e5)])
def test_windows_do_not_copy_the_series(dtype, most, targets):
    series = np.zeros((2**21, 3), dtype)

    def first(rng):
        x, target = next(train.windows(series, 10, [1, 2, 5], 1024, rng, targets=targets))
        assert x.shape == (10, 1024, 3) and target.shape[:2] == (3, 1024)

    assert peak_of(lambda: first(None)) < most
    assert peak_of(lambda: first(0)) < most + 4 * 2**11
