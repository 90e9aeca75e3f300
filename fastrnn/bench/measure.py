"""All jobs of a run, one after another, and the machine's limits before and after them.

`found`, the results, is a dict of plain values, the JSON file: about, settings, probes (machine by
number of cores), jobs (see job.py; "limit" is the least time in seconds that the machine needs) and
geometric_means.

It must not know: tables, pictures.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from importlib import util
from itertools import product
from pathlib import Path

from fastrnn.bench import report, status
from fastrnn.bench.about import about
from fastrnn.bench.cases import CASES
from fastrnn.bench.job import Job, describe, last_line
from fastrnn.bench.limits import Machine
from fastrnn.bench.peers import PEERS
from fastrnn.bench.worker import Worker, WorkerError

SETTINGS = ("cases", "cells", "modes", "threads", "peers", "rounds", "batch", "probe", "timeout")
KEYS = {"case", "cell", "mode", "threads", "peers"}  # every job has these, and a reader needs them


def pick_cores() -> list[int]:
    """The cores that this process may use: first one hyperthread of each; the busy core 0 last."""
    siblings, first, second = set(), [], []
    for core in sorted(os.sched_getaffinity(0), reverse=True):
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        group = path.read_text().strip() if path.exists() else str(core)
        (second if group in siblings else first).append(core)
        siblings.add(group)
    return first + second


def missing_packages(name: str) -> list[str]:
    """The packages that a peer needs and that are not installed."""
    needed = [PEERS[name].package, *PEERS[name].also_needs]
    specs = {package: util.find_spec(package) for package in needed}
    # A bare folder has a spec, but no origin.
    return [package for package, spec in specs.items() if not (spec and spec.origin)]


def ask_once(cores: list[int], timeout: float, order: str, *args):
    worker = Worker(cores, timeout)
    try:
        return worker.ask(order, *args)
    finally:
        worker.close()


def ask_about(options) -> dict:
    try:
        return ask_once(options.cores[:1], options.timeout, "about")
    except WorkerError as error:
        return {"reason": last_line(str(error))}


def probe_machine(found: dict, options):
    """Measure the machine and keep the best numbers of this run."""
    try:
        for count in sorted({1, *options.threads}):
            machine = ask_once(
                options.cores[:count], options.timeout, "probe", count, options.probe
            )
            before = found["probes"].get(count)
            found["probes"][count] = before.best(machine) if before else machine
    except WorkerError as error:
        found["no_probes"] = last_line(str(error))


def finish(found: dict, options):
    """Compute the limits, from the probes so far, and the means, and write the JSON file."""
    machine = found["probes"].get(1)
    for job in found["jobs"] if machine else ():
        case = CASES[job["case"]]
        if case.has_limit:
            job["limit"] = case.limit(machine, job["cell"], job["mode"], job["threads"])
    found["geometric_means"] = report.means(found["jobs"], options.stat)
    if options.json:
        probes = {count: asdict(machine) for count, machine in found["probes"].items()}
        options.json.write_text(json.dumps(found | {"probes": probes}, indent=1) + "\n")


def read(text: str) -> dict:
    """`found` from the text of a run's JSON file; ValueError for any other text."""
    try:
        found = json.loads(text)
        for count, machine in list(found["probes"].items()):
            reads = {int(nbytes): rate for nbytes, rate in machine["reads"].items()}
            del found["probes"][count]
            found["probes"][int(count)] = Machine(machine["peak"], reads)
        if not all(KEYS <= job.keys() for job in found["jobs"]):
            raise KeyError("jobs")
        return found
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a bench's JSON: {error!r}") from None


def measure(options) -> dict:
    """Run the jobs of the options -> `found`."""
    absent = {name: "not installed" for name in options.peers if missing_packages(name)}
    settings = {name: getattr(options, name) for name in SETTINGS}
    where = about(options.cores, ask_about(options))
    found = {"about": where, "settings": settings, "probes": {}, "jobs": []}
    probe_machine(found, options)
    status.say(report.machine_text(found))
    wanted = [
        (CASES[case], cell, mode, threads)
        for case, mode, cell, threads in product(
            options.cases, options.modes, options.cells, options.threads
        )
        if mode in CASES[case].modes and cell in CASES[case].cells
    ]
    for number, what in enumerate(wanted, 1):
        job, counter = Job(*what, options), f"[{number}/{len(wanted)}]"
        status.begin(counter, describe(job.found))
        found["jobs"].append(job.run(options.peers, absent))
        finish(found, options)
        status.end(counter, describe(job.found), report.times_text(job.found, options.stat))
    status.close()
    probe_machine(found, options)
    finish(found, options)
    return found
