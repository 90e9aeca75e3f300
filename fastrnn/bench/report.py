"""A run's results as text: a row per job, and means. A ratio is a peer's time over fastrnn's.

`found` is measure.py's dict, measured or read from a file. The functions take it or its jobs.
markdown.py has the tables of the README.
"""

from __future__ import annotations

import math
from collections import defaultdict

OURS = "fastrnn"
ALSO_OURS = ("numpy", "call", "float32", "module")  # peers that are fastrnn too, in another way
TITLES = {
    "numpy": "NumPy",
    "call": "frozen(x)",
    "float32": "float32",
    "module": "fastrnn.torch",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "jax": "JAX",
}


def seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{seconds / scale:.3g} {unit}"


def bytes_text(count: int) -> str:
    return f"{count >> 20}M" if count >> 20 else f"{count >> 10}K"


def times(job: dict, stat: str) -> dict[str, float]:
    return {name: peer[stat] for name, peer in job["peers"].items() if peer["status"] == "ok"}


def times_text(job: dict, stat: str) -> str:
    return ", ".join(f"{name} {seconds_text(t)}" for name, t in times(job, stat).items())


def threads_text(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def peers_of(jobs: list[dict]) -> list[str]:
    """The peers that could run one of the jobs, without fastrnn, in the order of TITLES."""
    able = {n for job in jobs for n, peer in job["peers"].items() if peer["status"] != "skipped"}
    return [name for name in TITLES if name in able]


def label(job: dict) -> str:
    """What a job's means are called by: its group, at a narrow precision that precision."""
    group = job.get("group", "programs")
    if group == "precision":
        return job["case"].partition(":")[2]
    return "" if group == "programs" else group


def figures(job: dict, stat: str) -> dict[str, float]:
    """The numbers of one job that get a geometric mean: the fraction of the limit, and ratios."""
    found = times(job, stat)
    ours = found.pop(OURS, None)
    if ours is None:
        return {}
    result = {name: seconds / ours for name, seconds in found.items()}
    frameworks = [seconds for name, seconds in found.items() if name not in ALSO_OURS]
    if frameworks:
        result["best peer"] = min(frameworks) / ours
    if "limit" in job:
        result["limit"] = job["limit"] / ours
    return result


def cell_text(job: dict, name: str, stat: str) -> str:
    """A ratio; the peer's time if fastrnn has none; else the peer's status."""
    ratio = figures(job, stat).get(name)
    if ratio is not None:
        return f"{ratio:.2f}"
    peer = job["peers"].get(name, {"status": "skipped"})
    if peer["status"] == "ok":
        return seconds_text(peer[stat])
    return "-" if peer["status"] == "skipped" else peer["status"].upper()


def table(jobs: list[dict], stat: str) -> str:
    others = peers_of(jobs)
    rows = [["case", "mode", "cell", "threads", OURS, "limit", *others, "best peer"]]
    for job in jobs:
        share = figures(job, stat).get("limit")
        rows.append(
            [
                job["case"],
                job["mode"],
                job["cell"],
                str(job["threads"]),
                cell_text(job, OURS, stat),
                "-" if share is None else f"{share:.0%}",
                *(cell_text(job, name, stat) for name in others),
                cell_text(job, "best peer", stat),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = []
    for row in rows:
        left = (text.ljust(width) for text, width in zip(row[:3], widths, strict=False))
        right = (text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True))
        aligned.append("  ".join([*left, *right]))
    return "\n".join(aligned)


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def means(jobs: list[dict], stat: str) -> dict[str, dict[str, float]]:
    """Geometric means for every group of cases, mode, number of threads and cell, and for all of a
    group together."""
    groups = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        of_group = f"{label(job)} ".lstrip()
        where = f"{of_group}{job['mode']}, {threads_text(job['threads'])}"
        for name, value in figures(job, stat).items():
            for group in (f"{where}, {job['cell']}", where, of_group + "all"):
                groups[group][name].append(value)
    order = sorted(groups, key=lambda group: (group.endswith("all"), group))
    return {
        group: {name: geometric_mean(values) for name, values in groups[group].items()}
        for group in order
    }


def means_text(jobs: list[dict], stat: str) -> str:
    lines = []
    for group, values in means(jobs, stat).items():
        words = [f"{n} {values[n]:.2f}x" for n in ("best peer", *ALSO_OURS) if n in values]
        if "limit" in values:
            words.append(f"share of limit {values['limit']:.0%}")
        lines.append(f"  {group}: " + ", ".join(words))
    return "geometric means\n" + "\n".join(lines) if lines else ""


def memory_text(jobs: list[dict], stat: str) -> str:
    """The peak memory of training, compared with each framework."""
    ratios = defaultdict(dict)
    for job in jobs:
        peers = {name: job["peers"][name].get("memory") for name in times(job, stat)}
        ours = peers.pop(OURS, None)
        if job["mode"] != "training" or not ours:
            continue
        for name, theirs in peers.items():
            if theirs:
                where = f"{job['case']} {job['cell']} {job['threads']}"
                ratios[name][where] = ours / theirs
    lines = []
    for name, found in ratios.items():
        worst = max(found, key=found.get)
        mean = geometric_mean(list(found.values()))
        lines.append(
            f"  {mean:.2f} of {TITLES.get(name, name)}'s, at most {found[worst]:.2f} ({worst})"
        )
    return "peak memory of a training call\n" + "\n".join(lines) if lines else ""


def disturbance_text(jobs: list[dict]) -> str:
    """The number of timed batches during which another process used the cores."""
    counts = [
        n for job in jobs for peer in job["peers"].values() for n in peer.get("interruptions", ())
    ]
    disturbed = sum(n > 0 for n in counts)
    if 10 * disturbed <= len(counts):
        return ""
    return f"the machine was busy: other processes interrupted {disturbed} of {len(counts)} batches"


def troubles_text(jobs: list[dict]) -> str:
    """The peers that failed or gave wrong results: each reason once, with its jobs."""
    met = defaultdict(list)
    for job in jobs:
        for name, peer in job["peers"].items():
            if peer["status"] not in ("ok", "skipped"):
                reason = peer["reason"].strip().splitlines()[-1]
                where = f"{job['case']} {job['mode']} {job['cell']} {job['threads']}"
                met[f"{peer['status'].upper()}: {name}: {reason}"].append(where)
    lines = []
    for trouble, where in met.items():
        more = f" and {len(where) - 3} more" if len(where) > 3 else ""
        lines.append(f"  {trouble} ({', '.join(where[:3])}{more})")
    return "not timed\n" + "\n".join(lines) if lines else ""


def machine_text(found: dict) -> str:
    lines = []
    for count, machine in sorted(found["probes"].items()):
        reads = ", ".join(f"{bytes_text(n)} {rate / 1e9:.0f}" for n, rate in machine.reads.items())
        who = "one core" if count == 1 else f"each of {count} cores at once"
        lines.append(f"{who}: FMA {machine.peak / 1e9:.0f} GFLOP/s; reads in GB/s: {reads}")
    return "\n".join(lines) or f"the machine was not measured: {found.get('no_probes')}"


def text(found: dict, stat: str) -> str:
    """The full report."""
    jobs = found["jobs"]
    parts = [
        table(jobs, stat),
        means_text(jobs, stat),
        memory_text(jobs, stat),
        machine_text(found),
        disturbance_text(jobs),
        troubles_text(jobs),
    ]
    return "\n\n".join(part for part in parts if part)
