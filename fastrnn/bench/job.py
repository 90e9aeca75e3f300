"""One job of a run: a case, cell, mode and number of threads, with every peer that can do it.

The peers are started one after another, their results are compared, then they are timed in turns:
in every round each peer runs one batch of calls while the others are stopped. If a peer fails, the
job's results and stderr say so, and the job continues with the other peers.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from fastrnn.bench.peers import PEERS
from fastrnn.bench.status import say
from fastrnn.bench.worker import Worker, WorkerError

SETTLE = 0.005  # seconds between two peers
# Results are compared with those of the first of these that is there.
TRUTH = (
    "numpy", "fastrnn", "call", "torch", "module", "jax", "onnxruntime", "openvino", "litert",
    "float32",
)  # fmt: skip
SAME_ROUNDING = ("numpy", "fastrnn", "call")  # at a narrow precision the others round otherwise


def disagreement(truth: dict, got: dict, tolerance: float) -> tuple[dict, str | None]:
    """The error of each array, relative to the largest true value; a message if one is wrong."""
    if truth.keys() != got.keys():
        return {}, f"arrays {sorted(got)}, expected {sorted(truth)}"
    errors, wrong = {}, None
    for name, true in truth.items():
        if true.shape != got[name].shape:
            return errors, f"{name} has shape {got[name].shape}, expected {true.shape}"
        scale = max(float(np.abs(true).max(initial=0)), 1e-30)
        errors[name] = float(np.abs(got[name] - true).max(initial=0)) / scale
        if not errors[name] <= tolerance:
            wrong = f"{name} is off by {errors[name]:.2g} of its largest value, > {tolerance:.2g}"
    return errors, wrong


def last_line(reason: str) -> str:
    return reason.strip().splitlines()[-1]


class Job:
    """One case, cell, mode and number of threads: start the peers, check them, time them."""

    def __init__(self, case, cell: str, mode: str, threads: int, options):
        self.case, self.what, self.options = case, (case, cell, mode, threads), options
        self.workers: dict[str, Worker] = {}
        self.found = {
            "case": case.name,
            "cell": cell,
            "mode": mode,
            "threads": threads,
            "group": case.group,
            "flops": case.flops(cell, mode),
            "peers": {},
        }

    def run(self, peers: list[str], absent: dict[str, str]) -> dict:
        case, cell, mode, _ = self.what
        for name in peers:
            reason = absent.get(name) or PEERS[name].unsupported(case, cell, mode)
            self.found["peers"][name] = {"status": "skipped", "reason": reason} if reason else {}
        try:
            for name in [name for name in peers if not self.found["peers"][name]]:
                self.workers[name] = Worker(
                    self.options.cores[: self.what[-1]], self.options.timeout
                )
                self.attempt(name, self.prepare)
            self.check()
            for name in list(self.workers):
                self.attempt(name, self.calibrate)
            for turn in range(self.options.rounds):
                order = list(self.workers)
                for name in order if turn % 2 == 0 else order[::-1]:
                    self.attempt(name, self.time)
        finally:
            for name in list(self.workers):
                self.drop(name)
        for peer in self.found["peers"].values():
            if peer["status"] == "ok":
                peer["best"] = min(peer["seconds"])
                peer["median"] = statistics.median(peer["seconds"])
        return self.found

    def attempt(self, name: str, action):
        try:
            return action(name, self.workers[name], self.found["peers"][name])
        except WorkerError as error:
            self.fail(name, "failed", str(error))

    def fail(self, name: str, status: str, reason: str):
        say(f"*** {status.upper()}: {name}, {describe(self.found)}: {last_line(reason)}")
        self.found["peers"][name] |= {"status": status, "reason": reason}
        self.drop(name)

    def drop(self, name: str):
        self.workers.pop(name).close()

    def prepare(self, name: str, worker: Worker, peer: dict):
        answer = worker.ask("prepare", name, *self.what)
        if isinstance(answer, str):
            peer |= {"status": "skipped", "reason": answer}
            self.drop(name)
        else:
            peer |= {"status": "ok", "variants": answer}

    def check(self):
        """Compare all results with the first of TRUTH. A variant that disagrees is left out."""
        truth, truth_name, (case, _, mode, _) = None, None, self.what
        for name in sorted(self.workers, key=TRUTH.index):
            peer, good, reasons = self.found["peers"][name], [], []
            peer["errors"] = {}
            for variant in peer["variants"]:
                result = self.attempt(name, lambda _, w, __, v=variant: w.ask("result", v))
                if result is None:
                    break
                if truth is None:
                    truth, truth_name = result, name
                alike = {name, truth_name} <= set(SAME_ROUNDING)
                errors, wrong = disagreement(truth, result, case.tolerance(mode, alike))
                peer["errors"][variant] = errors
                if wrong:
                    reasons.append(f"{variant} disagrees with {truth_name}: {wrong}")
                else:
                    good.append(variant)
            else:
                if reasons and good:
                    peer["wrong_variants"] = "; ".join(reasons)
                    say(f"*** MISMATCH: {name}, {describe(self.found)}: {peer['wrong_variants']}")
                elif reasons:
                    self.fail(name, "mismatch", "; ".join(reasons))
                peer["variants"] = good
        self.found["checked_against"] = truth_name

    def calibrate(self, name: str, worker: Worker, peer: dict):
        time.sleep(SETTLE)
        chosen = worker.ask("calibrate", peer["variants"], self.options.batch)
        peer["variant"], peer["calls"] = chosen
        peer |= {"seconds": [], "interruptions": [], "memory": worker.ask("memory")}

    def time(self, name: str, worker: Worker, peer: dict):
        time.sleep(SETTLE)
        seconds, interruptions = worker.ask("time", peer["calls"])
        peer["seconds"].append(seconds)
        peer["interruptions"].append(interruptions)


def describe(found: dict) -> str:
    return " ".join(str(found[key]) for key in ("case", "mode", "cell", "threads"))
