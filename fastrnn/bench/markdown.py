"""A run's results as the README's tables in Markdown, a layout for each group of cases.

A ratio is a peer's time over fastrnn's; "best peer" is the fastest framework of each job.
"""

from __future__ import annotations

from collections import defaultdict

from fastrnn.bench.cases import CASES, PRECISIONS
from fastrnn.bench.report import (
    OURS,
    TITLES,
    cell_text,
    figures,
    geometric_mean,
    peers_of,
    seconds_text,
    threads_text,
    times,
)


def lines(rows: list[list[str]]) -> str:
    """A table of a head and rows."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest])


def shown(job: dict | None, name: str, stat: str) -> str:
    """A ratio, a time or a status, as in the text's table; empty where nothing was to be run."""
    text = cell_text(job, name, stat) if job else ""
    return "" if text == "-" else text


def mean_text(jobs, name: str, stat: str) -> str:
    """The geometric mean of the ratios to a peer; empty without any."""
    ratios = [figures(job, stat).get(name) for job in jobs if job]
    ratios = [ratio for ratio in ratios if ratio is not None]
    return f"{geometric_mean(ratios):.2f}" if ratios else ""


def programs(jobs: list[dict], stat: str) -> str:
    """A row per case, the modes side by side, a column per peer."""
    columns = []  # (mode, peer): in each mode fastrnn first, then the other timed peers
    for mode in dict.fromkeys(job["mode"] for job in jobs):
        timed = [name for job in jobs if job["mode"] == mode for name in times(job, stat)]
        columns += [(mode, OURS)]
        columns += [(mode, name) for name in peers_of(jobs) if name in timed]
    rows = [["case (T, B, I, H)", *(mode if p == OURS else TITLES[p] for mode, p in columns)]]
    for case in dict.fromkeys(job["case"] for job in jobs):
        by_mode = {job["mode"]: job for job in jobs if job["case"] == case}
        rows.append([f"{case} {CASES[case].sizes()}" if case in CASES else case])
        rows[-1] += [shown(by_mode.get(mode), peer, stat) for mode, peer in columns]
    rows.append(["geometric mean"])
    for mode, peer in columns:
        rows[-1].append(mean_text([job for job in jobs if job["mode"] == mode], peer, stat))
    return lines(rows)


def serve(jobs: list[dict], stat: str) -> str:
    """A row per number of rows and steps, a column per number of units."""
    by_shape = {}
    for job in jobs:
        case = CASES[job["case"]]
        by_shape[case.B, case.T, case.H] = job
    sizes = sorted({units for _, _, units in by_shape})
    rows = [["rows B, steps T", *(f"I = H = {units}" for units in sizes)]]
    for batch, steps in sorted({shape[:2] for shape in by_shape}):
        rows.append([f"{batch}, {steps}"])
        for units in sizes:
            job = by_shape.get((batch, steps, units))
            both = shown(job, OURS, stat), shown(job, "best peer", stat)
            rows[-1].append(", ".join(text for text in both if text))
    rows.append(["geometric mean"])
    for units in sizes:
        of_size = [job for shape, job in by_shape.items() if shape[2] == units]
        rows[-1].append(mean_text(of_size, "best peer", stat))
    return lines(rows)


def precision(jobs: list[dict], stat: str) -> str:
    """A row per shape, two columns per precision: against fastrnn's float32, and the best peer."""
    by_shape = defaultdict(dict)
    for job in jobs:
        shape, _, name = job["case"].partition(":")
        by_shape[shape][name] = job
    names = [name for name in PRECISIONS if any(name in found for found in by_shape.values())]
    rows = [["case (T, B, I, H)", "float32"]]
    for name in names:
        rows[0] += [name, "best peer"]
    for shape, found in by_shape.items():
        first = next(iter(found.values()))
        seconds = times(first, stat).get("float32")
        rows.append([f"{shape} {CASES[first['case']].sizes()}", seconds_text(seconds)])
        for name in names:
            job = found.get(name)
            rows[-1] += [shown(job, "float32", stat), shown(job, "best peer", stat)]
    rows.append(["geometric mean", ""])
    for name in names:
        of_name = [found.get(name) for found in by_shape.values()]
        rows[-1] += [mean_text(of_name, peer, stat) for peer in ("float32", "best peer")]
    return lines(rows)


def audio(jobs: list[dict], stat: str) -> str:
    """A row per number of units, a column per cell: the time of a sample, and ratios."""
    by_shape = {(CASES[job["case"]].H, job["cell"]): job for job in jobs}
    cells = list(dict.fromkeys(job["cell"] for job in jobs))
    rows = [["units H"]]
    for cell in cells:
        rows[0] += [f"{cell.upper()}, a sample", TITLES["call"], "best peer"]
    for units in sorted({units for units, _ in by_shape}):
        rows.append([str(units)])
        for cell in cells:
            job = by_shape.get((units, cell))
            ours = times(job, stat).get(OURS) if job else None
            steps = CASES[job["case"]].T if job else 1
            rows[-1].append("" if ours is None else f"{1e9 * ours / steps:.0f} ns")
            rows[-1] += [shown(job, peer, stat) for peer in ("call", "best peer")]
    return lines(rows)


def markdown(found: dict, stat: str) -> str:
    """A table, with its title, for each group, cell and number of threads."""
    tables = defaultdict(list)
    for job in found["jobs"]:
        group = job.get("group", "programs")
        cell = "" if group == "audio" else f"{job['cell'].upper()}, "
        narrow = "" if group == "precision" else "float32, "
        tables[group, f"{cell}{narrow}{threads_text(job['threads'])}"].append(job)
    layouts = {"serve": serve, "precision": precision, "audio": audio}
    return "\n\n".join(
        f"{title}\n\n{layouts.get(group, programs)(jobs, stat)}"
        for (group, title), jobs in tables.items()
    )
