"""Tables of a run's results, as aligned text and as Markdown. A ratio is a peer's time over ours.

`found` is measure.py's dict, measured or read from a file. The functions take it or its jobs.
"""

from __future__ import annotations

import math
from collections import defaultdict

from fastrnn.bench.cases import CASES

OURS, REFERENCE = "fastrnn", "numpy"
TITLES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
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
    """The peers that one of the jobs was to time, without fastrnn."""
    return [name for name in dict.fromkeys(p for job in jobs for p in job["peers"]) if name != OURS]


def figures(job: dict, stat: str) -> dict[str, float]:
    """The numbers of one job that get a geometric mean: the fraction of the limit, and ratios."""
    found = times(job, stat)
    ours = found.pop(OURS, None)
    if ours is None:
        return {}
    result = {name: seconds / ours for name, seconds in found.items()}
    frameworks = [seconds for name, seconds in found.items() if name != REFERENCE]
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
    """Geometric means for every mode, number of threads and cell, and for all of them together."""
    groups = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        where = f"{job['mode']}, {threads_text(job['threads'])}"
        for name, value in figures(job, stat).items():
            for group in (f"{where}, {job['cell']}", where, "all"):
                groups[group][name].append(value)
    order = sorted(groups, key=lambda group: (group == "all", group))
    return {
        group: {name: geometric_mean(values) for name, values in groups[group].items()}
        for group in order
    }


def means_text(jobs: list[dict], stat: str) -> str:
    lines = []
    for group, values in means(jobs, stat).items():
        words = [f"{n} {values[n]:.2f}x" for n in ("best peer", REFERENCE) if n in values]
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


def markdown(found: dict, stat: str) -> str:
    """The README's tables: one for each cell and number of threads, with a row per case and the
    modes side by side."""
    groups = defaultdict(list)
    for job in found["jobs"]:
        groups[job["cell"], job["threads"]].append(job)
    return "\n\n".join(
        f"{cell.upper()}, float32, {threads_text(threads)}\n\n{_markdown_table(jobs, stat)}"
        for (cell, threads), jobs in groups.items()
    )


def _markdown_table(jobs: list[dict], stat: str) -> str:
    columns = []  # (mode, peer): in each mode fastrnn first, then the other timed peers
    for mode in dict.fromkeys(job["mode"] for job in jobs):
        timed = [name for job in jobs if job["mode"] == mode for name in times(job, stat)]
        columns += [(mode, OURS)]
        columns += [(mode, name) for name in peers_of(jobs) if name in timed]
    cases = dict.fromkeys(job["case"] for job in jobs)
    rows = [["case (T, B, I, H)", *(mode if p == OURS else TITLES[p] for mode, p in columns)]]
    rows.append(["---"] * len(rows[0]))
    for case in cases:
        by_mode = {job["mode"]: job for job in jobs if job["case"] == case}
        rows.append([f"{case} {CASES[case].sizes()}" if case in CASES else case])
        for mode, peer in columns:
            shown = cell_text(by_mode[mode], peer, stat) if mode in by_mode else ""
            rows[-1].append("" if shown == "-" else shown)
    rows.append(["geometric mean"])
    for mode, peer in columns:
        ratios = [figures(job, stat).get(peer) for job in jobs if job["mode"] == mode]
        ratios = [ratio for ratio in ratios if ratio is not None]
        rows[-1].append(f"{geometric_mean(ratios):.2f}" if ratios else "")
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
