"""Times fastrnn, its NumPy path and the installed frameworks on networks from real programs.

    python -m fastrnn bench --cases seq-128,charlm --cells lstm,gru --threads 1,2 --json out.json
    python -m fastrnn bench --group serve,audio

Groups of cases: `programs` (the default) has shapes from real programs; `serve` short requests;
`precision` inference in bfloat16 and int8; `audio` one sample a step, 512 samples a call;
`features` ragged batches, resets, ids and layer normalisation; `torch` PyTorch modules on these.

A peer is a framework, fastrnn or its NumPy path. A job is a case, cell, mode and number of threads.
Each job starts a new process for every peer, bound to as many cores. The results are compared
first, and a peer that disagrees is not timed. Then the peers take turns, one batch of calls each
per round. The machine's FMA peak and read bandwidth, measured before and after, set a limit for
each job; the report has the part of it that was reached. It runs on Linux only (affinity, stopped
processes). To choose the cores, start it under taskset.

--from shows the results that an earlier run wrote with --json; --group, --cases, --cells, --modes,
--threads and --peers then choose a part of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fastrnn._engine import runtime
from fastrnn.bench import markdown, measure, picture, report
from fastrnn.bench.cases import CASES, CELLS, GROUPS, MODES, named
from fastrnn.bench.peers import PEERS
from fastrnn.demos import pictures

FAILURES = ("mismatch", "failed")


def _names(known):
    def split(text: str) -> list[str]:
        chosen = list(known) if text == "all" else text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            names = ", ".join(known) if len(known) < 30 else "those that --list names"
            raise argparse.ArgumentTypeError(f"{unknown}: choose from {names}")
        return chosen

    return split


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be seconds above 0, got {text!r}")


def _found_file(text: str) -> dict:
    try:
        return measure.read(Path(text).read_text())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {text!r}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def add_arguments(parser):
    """Declare the bench's options on an argparse parser."""
    add = parser.add_argument
    add("--group", type=_names(GROUPS), help=",".join(GROUPS) + "; default: programs")
    add("--cases", type=_names(CASES), help="names instead of a group, or all; --list shows them")
    add("--list", action="store_true", help="show the cases of the groups, and end")
    add("--cells", type=_names(CELLS), help=",".join(CELLS))
    add("--modes", type=_names(MODES), help=",".join(MODES))
    add("--threads", type=lambda text: [_count(n) for n in text.split(",")], help="default: 1")
    add("--peers", type=_names(PEERS), help=",".join(PEERS))
    add("--rounds", type=_count, help="default: 7")
    add("--batch", type=_seconds, help="least seconds of a timed batch of calls; default: 0.03")
    add("--probe", type=_seconds, help="of one probe of the machine; default: 0.05")
    add("--timeout", type=_seconds, default=300, help="of a peer's answer; default: 300")
    add("--quick", action="store_true", help="5 short rounds, of a few cases of each group")
    add("--stat", choices=("best", "median"), default="best", help="of the rounds, for the table")
    add("--markdown", action="store_true", help="print tables in Markdown, as in the README")
    add("--picture", type=pictures.new_picture, metavar="FILE", help="draw one (needs matplotlib)")
    file = parser.add_mutually_exclusive_group()
    file.add_argument(
        "--json",
        type=pictures.new_file,
        metavar="FILE",
        help="write everything, raw times included",
    )
    file.add_argument(
        "--from", type=_found_file, metavar="FILE", dest="found", help="show such a file again"
    )


def _missing(names):
    """A message about the packages that these peers need and that are not installed, or None."""
    found = dict.fromkeys(package for name in names for package in measure.missing_packages(name))
    if not found:
        return None
    return (
        f"--peers {','.join(names)}: needs {', '.join(found)}, not installed here: "
        'pip install ".[bench]" in a checkout installs every peer'
    )


def trouble(options) -> str | None:
    """The reason why nothing can be measured here, or None."""
    if not sys.platform.startswith("linux"):
        return "measuring needs Linux (affinity, stopped processes); --from works everywhere"
    if options.threads and max(options.threads) > len(os.sched_getaffinity(0)):
        cores = len(os.sched_getaffinity(0))
        return f"--threads {max(options.threads)}: this process may use {cores} cores"
    if options.peers and all(map(measure.missing_packages, options.peers)):
        return _missing(options.peers)
    if options.peers and "fastrnn" not in options.peers:
        return None
    if runtime.core is None:
        return "this build has no C kernels to time; --peers without fastrnn works"
    if not runtime.uses_core():
        return "FASTRNN_BACKEND=reference turns off the C kernels, which the bench times"
    return None


def fill_in(options):
    """Set the options that the command line left open, for a run that measures."""
    options.cases = options.cases or named(options.group or ["programs"], options.quick)
    options.cells = options.cells or list(CELLS)
    options.modes = options.modes or list(MODES)
    options.threads = options.threads or [1]
    options.peers = options.peers or list(PEERS)
    options.rounds = options.rounds or (5 if options.quick else 7)
    options.batch = options.batch or (0.01 if options.quick else 0.03)
    options.probe = options.probe or (0.01 if options.quick else 0.05)
    options.cores = measure.pick_cores()


def select(found: dict, options) -> dict:
    """The part of an earlier run that the options name."""
    cases = options.cases or (named(options.group) if options.group else None)
    wanted = {
        "case": cases,
        "cell": options.cells,
        "mode": options.modes,
        "threads": options.threads,
    }
    jobs = [
        job
        for job in found["jobs"]
        if all(values is None or job[key] in values for key, values in wanted.items())
    ]
    names = [name for name in PEERS if not options.peers or name in options.peers]
    for job in jobs:
        job["peers"] = {name: job["peers"][name] for name in names if name in job["peers"]}
    return found | {"jobs": jobs}


def run(options) -> int:
    """Measure, or read earlier results; show them -> exit code."""
    if options.list:
        for name in options.cases or named(options.group or list(GROUPS)):
            print(f"{name:30} {CASES[name].sizes()}")
        return 0
    if options.found:
        found = select(options.found, options)
    elif reason := trouble(options):
        print(f"python -m fastrnn bench: error: {reason}", file=sys.stderr)
        return 2
    else:
        if options.peers and (missing := _missing(options.peers)):
            print(f"python -m fastrnn bench: {missing}", file=sys.stderr)  # the others run
        fill_in(options)
        found = measure.measure(options)
    text = markdown.markdown if options.markdown else report.text
    print(text(found, options.stat))
    code = 0
    if options.picture:
        code = pictures.write(picture.draw, options.picture, found, options.stat)
    peers = (peer for job in found["jobs"] for peer in job["peers"].values())
    return 1 if any(peer["status"] in FAILURES for peer in peers) else code
