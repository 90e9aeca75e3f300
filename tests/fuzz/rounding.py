"""The effect of rounding alone on the answer of a case.

It must not know: relations.
"""

import copy
from dataclasses import replace

import numpy as np

from . import answers


@answers.overflowing
def _distances(after, before):
    return {n: np.abs(after[n] - a).max(initial=0.0) for n, a in before.items()}


def moved(run):
    """The change of each array if all inputs change by some roundings.

    The normalisation of an almost constant row makes rounding errors larger, and they can decide a
    slope.
    """
    eps, by_name = 8 * float(np.finfo(run.layer.dtype).eps), {}

    def rounded(array):
        if array is None or array.dtype.kind != "f":
            return array
        return array * (1 + run.rng.uniform(-eps, eps, array.shape)).astype(array.dtype)

    def all_rounded(arrays):
        return arrays and [rounded(a) for a in arrays]

    with answers.machine(**run.case.settings | {"backend": "reference"}):
        batch = replace(run.batch, layouts={})
        before = run.recompute(batch=batch)
        for _ in range(4):
            layer = copy.deepcopy(run.layer)
            layer.flat[...] = rounded(layer.flat)
            arrays = {name: rounded(getattr(batch, name)) for name in ("x", "embedding")}
            arrays |= {n: all_rounded(getattr(batch, n)) for n in ("state", "dy", "dstate")}
            after = run.recompute(layer, replace(batch, **arrays))
            for name, by in _distances(after, before).items():
                by_name[name] = max(by_name.get(name, 0.0), by)
    return by_name
