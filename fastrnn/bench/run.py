"""Times fastrnn, its NumPy path and the installed frameworks on the cases of cases.py.

    python bench/run.py --cases seq-128,charlm --cells lstm,gru --threads 1,2 --json out.json

Every peer runs in a process of its own, made anew for each job (case, cell, mode, threads) and
bound to as many cores; the results are compared first, and what disagrees is not timed; then the
peers take turns, one batch of calls each per round. The machine's FMA peak and read bandwidth are
measured before and after, and each job's share of the limit they set is printed. Linux only
(affinity, stopped processes); to choose the cores, start it under taskset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import metadata, util
from itertools import product
from pathlib import Path

from fastrnn.bench import report
from fastrnn.bench.cases import CASES, CELLS, MODES, QUICK
from fastrnn.bench.job import Job, describe, last_line, say
from fastrnn.bench.peers import PEERS
from fastrnn.bench.worker import Worker, WorkerError

ROOT = Path(__file__).resolve().parent.parent.parent


def pick_cores() -> list[int]:
    """The cores this process may use, one hyperthread of each first, the busy core 0 last."""
    siblings, first, second = set(), [], []
    for core in sorted(os.sched_getaffinity(0), reverse=True):
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        group = path.read_text().strip() if path.exists() else str(core)
        (second if group in siblings else first).append(core)
        siblings.add(group)
    return first + second


def installed(name: str) -> bool:
    needed = [PEERS[name].package] + ["onnx"] * (name in ("onnxruntime", "openvino"))
    specs = [util.find_spec(package) for package in needed]
    return all(spec and spec.origin for spec in specs)  # a bare folder has a spec, but no origin


def ask_once(cores: list[int], timeout: float, order: str, *args):
    worker = Worker(cores, timeout)
    try:
        return worker.ask(order, *args)
    finally:
        worker.close()


def probe_machine(found: dict, options):
    """Measure the machine and keep the best seen in this run."""
    try:
        for count in sorted({1, *options.threads}):
            cores = options.cores[:count]
            machine = ask_once(cores, options.timeout, "probe", count, options.probe)
            before = found["probes"].get(count)
            found["probes"][count] = before.best(machine) if before else machine
    except WorkerError as error:
        found["no_probes"] = last_line(str(error))


def about(options) -> dict:
    """What was measured, where: CPU, packages, commit."""
    cpu = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "CPU part"))
    ]

    def git(*args) -> str:
        result = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True)
        return result.stdout.strip()

    versions = {}
    for name in ("numpy", "torch", "onnx", "onnxruntime", "openvino", "jax", "jaxlib"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    try:
        ours = ask_once(options.cores[:1], options.timeout, "about")
    except WorkerError as error:
        ours = {"reason": last_line(str(error))}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": cpu[0] if cpu else None,
        "cores": options.cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastrnn": ours,
        "versions": versions,
        "commit": git("rev-parse", "--verify", "-q", "HEAD"),
        "uncommitted": bool(git("status", "--porcelain")),
    }


def finish(found: dict, options):
    """Limits from what is known of the machine by now, and the JSON file."""
    machine = found["probes"].get(1)
    for job in found["jobs"] if machine else ():
        case = CASES[job["case"]]
        job["limit"] = case.limit(machine, job["cell"], job["mode"], job["threads"])
    if options.json:
        probes = {count: asdict(machine) for count, machine in found["probes"].items()}
        means = report.means(found["jobs"], options.stat)
        text = json.dumps(found | {"probes": probes, "geometric_means": means}, indent=1)
        Path(options.json).write_text(text + "\n")


def machine_text(found: dict) -> str:
    lines = []
    for count, machine in sorted(found["probes"].items()):
        reads = ", ".join(
            f"{report.bytes_text(n)} {rate / 1e9:.0f}" for n, rate in machine.reads.items()
        )
        who = "one core" if count == 1 else f"each of {count} cores at once"
        lines.append(f"{who}: FMA {machine.peak / 1e9:.0f} GFLOP/s; reads in GB/s: {reads}")
    return "\n".join(lines) or f"the machine was not measured: {found.get('no_probes')}"


def parse(argv=None):
    def names(known):
        def split(text: str) -> list[str]:
            chosen = list(known) if text == "all" else text.split(",")
            unknown = [name for name in chosen if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(known)}")
            return chosen

        return split

    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--cases", type=names(CASES), help="names from cases.py, or all (the default)")
    add("--cells", type=names(CELLS), default=list(CELLS), help=",".join(CELLS))
    add("--modes", type=names(MODES), default=list(MODES), help=",".join(MODES))
    add("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1])
    add("--peers", type=names(PEERS), default=list(PEERS), help=",".join(PEERS))
    add("--rounds", type=int, default=7)
    add("--batch", type=float, default=0.03, help="least seconds of a timed batch of calls")
    add("--probe", type=float, default=0.05, help="seconds of one probe of the machine")
    add("--timeout", type=float, default=300, help="seconds that a peer may take to answer")
    add("--stat", choices=("best", "median"), default="best", help="of the rounds, for the table")
    add("--quick", action="store_true", help=f"5 short rounds; by default of {', '.join(QUICK)}")
    add("--json", help="write everything, raw times included, to this file")
    options = parser.parse_args(argv)
    options.cases = options.cases or list(QUICK if options.quick else CASES)
    if options.quick:
        options.rounds, options.batch, options.probe = 5, 0.01, 0.01
    options.cores = pick_cores()
    if max(options.threads) > len(options.cores):
        parser.error(f"--threads {max(options.threads)}: only {len(options.cores)} cores here")
    return options


def main() -> int:
    options = parse()
    absent = {name: "not installed" for name in options.peers if not installed(name)}
    found = {"about": about(options), "settings": vars(options), "probes": {}, "jobs": []}
    probe_machine(found, options)
    say(machine_text(found))
    wanted = [
        (CASES[case], cell, mode, threads)
        for case, mode, cell, threads in product(
            options.cases, options.modes, options.cells, options.threads
        )
        if mode in CASES[case].modes
    ]
    for number, what in enumerate(wanted, 1):
        job = Job(*what, options).run(options.peers, absent)
        found["jobs"].append(job)
        finish(found, options)
        took = ", ".join(
            f"{name} {report.seconds_text(seconds)}"
            for name, seconds in report.times(job, options.stat).items()
        )
        say(f"[{number}/{len(wanted)}] {describe(job)}: {took}")
    probe_machine(found, options)
    finish(found, options)
    jobs, stat = found["jobs"], options.stat
    parts = [
        report.table(jobs, options.peers, stat),
        report.means_text(jobs, stat),
        machine_text(found),
        report.disturbance_text(jobs),
        report.troubles_text(jobs),
    ]
    print("\n\n".join(part for part in parts if part))
    failures = ("mismatch", "failed")
    return any(peer["status"] in failures for job in jobs for peer in job["peers"].values())


if __name__ == "__main__":
    sys.exit(main())
