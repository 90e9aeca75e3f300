"""The base of every peer of the benchmark, so that one worker can check and time any of them.

A peer takes a case's arrays in PyTorch's conventions and converts them once: weights, x and dy,
which a user could keep in the peer's own form, are converted before any call is timed. A peer has
variants: the ways in which a careful user of it could run the case. The fastest one counts.

`variants` maps a name to a function that makes a call; the call takes one x in the peer's form
and returns the peer's own outputs. A stream's call holds its state and starts from zeros.
What a peer cannot run is said by `unsupported`, before it is made, or by an Unsupported that
`prepare` raises, if only the framework itself can tell.
`collect` turns outputs into NumPy arrays: y, h, c, and in training dx and d.<parameter>; of a case
with a feature not h and c, and d.embedding in place of dx where x has ids.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.bench.cases import Case


class Unsupported(Exception):
    """A job that a peer cannot run on this machine or with this version of its framework."""


class Peer:
    name = package = ""
    also_needs: tuple[str, ...] = ()  # packages besides `package`
    precisions: tuple[str, ...] = ("float32",)
    features: tuple[str, ...] = ()
    of_torch = False  # whether it runs the cases of the group torch
    variants: dict
    xs: list  # one x in the peer's form; for a stream one for each checked call

    def __init__(self, case: Case, cell: str, mode: str, threads: int):
        self.case, self.cell, self.mode, self.threads = case, cell, mode, threads
        self.weights, self.x, self.dy = case.arrays(cell)
        self.extra = case.extra_arrays(cell)
        self.training = mode == "training"
        self.prepare()

    @classmethod
    def unsupported(cls, case: Case, cell: str, mode: str) -> str | None:
        """The reason why this peer cannot run a job, or None."""
        if case.group == "torch" and not cls.of_torch:
            return "only PyTorch's modules are compared there"
        if case.precision not in cls.precisions:
            return f"no {case.precision}"
        if case.feature and case.feature not in cls.features:
            return f"no {case.feature}"
        return None

    def prepare(self):
        raise NotImplementedError

    def collect(self, outputs) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def timed(self, variant: str):
        return partial(self.variants[variant](), self.xs[0])

    def result(self, variant: str) -> dict[str, np.ndarray]:
        call, parts = self.variants[variant](), []
        for x in self.xs:  # copies: a call may own the buffers it returns
            parts.append({k: np.array(v) for k, v in self.collect(call(x)).items()})
        return {**parts[-1], "y": np.concatenate([part["y"] for part in parts])}

    def state_shape(self) -> tuple[int, int, int]:
        return self.case.layers * self.case.directions, self.case.B, self.case.H

    def named_states(self, states) -> dict:
        return dict(zip("hc", states, strict=False))
