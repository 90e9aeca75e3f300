"""The limits of the machine: the FMA peak of a core, and its read bandwidth by footprint.

The package's own probes measure both, on the instruction set that the kernels use. The numbers of
one core define the limit of a case; the numbers of all cores together are recorded too.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

FOOTPRINTS = tuple(2**k for k in range(14, 29))  # 16 KiB to 256 MiB


@dataclass
class Machine:
    peak: float  # flop/s of one core
    reads: dict[int, float]  # bytes in the footprint -> bytes/s of one core

    def bandwidth(self, nbytes: float) -> float:
        """Log-log interpolation between footprints; the end values beyond them."""
        sizes = sorted(self.reads)
        if nbytes <= sizes[0]:
            return self.reads[sizes[0]]
        for low, high in zip(sizes, sizes[1:], strict=False):
            if nbytes <= high:
                share = math.log(nbytes / low) / math.log(high / low)
                return self.reads[low] ** (1 - share) * self.reads[high] ** share
        return self.reads[sizes[-1]]

    def best(self, other: Machine) -> Machine:
        reads = {n: max(rate, other.reads.get(n, 0.0)) for n, rate in self.reads.items()}
        return Machine(max(self.peak, other.peak), reads)


def measure(threads: int = 1, seconds: float = 0.05, repeats: int = 3) -> Machine:
    """The best of `repeats`: means per core over `threads` cores that run the probe at once."""
    from fastrnn._engine import runtime

    if not hasattr(runtime, "probe_fma") or not hasattr(runtime, "probe_read"):
        raise RuntimeError("this fastrnn has no probes (runtime.probe_fma, runtime.probe_read)")
    with ThreadPoolExecutor(threads) as pool:  # the probes release the GIL

        def per_core(probe, *args) -> float:
            together = [pool.submit(probe, *args) for _ in range(threads)]
            return sum(future.result() for future in together) / threads

        peak, reads = 0.0, dict.fromkeys(FOOTPRINTS, 0.0)
        for _ in range(repeats):
            peak = max(peak, per_core(runtime.probe_fma, seconds))
            for nbytes in FOOTPRINTS:
                reads[nbytes] = max(reads[nbytes], per_core(runtime.probe_read, nbytes, seconds))
    return Machine(peak, reads)
