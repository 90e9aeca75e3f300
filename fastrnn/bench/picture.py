"""A picture of a run's results: for each case fastrnn's time over that of its best peer.

There is a panel for each cell, number of threads (rows) and mode (columns), and a bar for each case
in the colour of its best peer. A bar is below 1 where fastrnn is faster. A short line is the
machine's limit over the same time.

At a narrow precision a bar is fastrnn's time over its own time in float32, and the short line is
the best peer's; each precision has a column. matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastrnn.bench import report

PEERS = [name for name in report.TITLES if name not in report.ALSO_OURS]
MARKS = {"limit": "the machine's limit", "best": "the best peer"}


@dataclass
class Bar:
    """fastrnn's time and a mark, both over the time of `base`, a peer's name."""

    base: str
    height: float
    mark: float | None

    @property
    def colour(self) -> str:
        return f"C{PEERS.index(self.base)}" if self.base in PEERS else "0.6"


def bar(job: dict, stat: str) -> Bar | None:
    """None for a job that has no time of fastrnn or nothing to compare it with."""
    times = report.times(job, stat)
    frameworks = {name: times[name] for name in PEERS if name in times}
    best = min(frameworks, key=frameworks.get, default=None)
    ours = times.get(report.OURS)
    if ours is None:
        return None
    if is_narrow(job):
        if "float32" not in times:
            return None
        mark = times[best] / times["float32"] if best else None
        return Bar("float32", ours / times["float32"], mark)
    if best is None:
        return None
    mark = job["limit"] / frameworks[best] if "limit" in job else None
    return Bar(best, ours / frameworks[best], mark)


def is_narrow(job: dict) -> bool:
    return job.get("group") == "precision"


def column(job: dict) -> str:
    """What a column of panels shows: a mode, or a precision."""
    return report.label(job) if is_narrow(job) else job["mode"]


def tick(job: dict) -> str:
    return job["case"].partition(":")[0]


def _draw_panel(axes, jobs: list[dict], cases: list[str], stat: str):
    for job in jobs:
        found, x = bar(job, stat), cases.index(tick(job))
        axes.bar(x, found.height, width=0.7, color=found.colour)
        if found.mark is not None:
            axes.hlines(found.mark, x - 0.45, x + 0.45, color="black", linewidth=1.6)
    axes.axhline(1, color="black", linewidth=0.7, linestyle=":")
    first = jobs[0]
    threads = report.threads_text(first["threads"])
    axes.set_title(f"{first['cell'].upper()} {column(first)}, {threads}", fontsize="medium")
    axes.set_xticks(range(len(cases)), cases, rotation=90, fontsize="small")
    axes.set_xlim(-0.7, len(cases) - 0.3)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)


def draw(path: Path, found: dict, stat: str):
    """Write the picture; ValueError if no job has both fastrnn and a peer to compare it with."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    jobs = [job for job in found["jobs"] if bar(job, stat)]
    if not jobs:
        raise ValueError("no job has times of both fastrnn and a framework")
    cases, rows, columns = (
        list(dict.fromkeys(keys))
        for keys in (
            (tick(job) for job in jobs),
            ((job["cell"], job["threads"]) for job in jobs),
            (column(job) for job in jobs),
        )
    )
    size = (1.2 + len(columns) * max(2.6, 0.28 * len(cases)), 1.6 + 1.8 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for row, line in zip(rows, panels, strict=True):
        for what, axes in zip(columns, line, strict=True):
            mine = [j for j in jobs if (j["cell"], j["threads"]) == row and column(j) == what]
            if mine:
                _draw_panel(axes, mine, cases, stat)
            else:
                axes.set_axis_off()
    bars, narrow = [bar(job, stat) for job in jobs], any(map(is_narrow, jobs))
    # Of all panels. A slow peer's mark may lie outside.
    panels[0, 0].set_ylim(0, 1.1 * max(1, *(found.height for found in bars)))
    handles = [
        Patch(color=f"C{n}", label=f"best peer: {report.TITLES[name]}")
        for n, name in enumerate(PEERS)
        if any(found.base == name for found in bars)
    ]
    if any(found.mark is not None for found in bars):
        mark = MARKS["best" if narrow else "limit"]
        handles.append(Line2D([], [], color="black", linewidth=1.6, label=mark))
    across = max(1, int(size[0] / 2))  # of the legend, by the inches that an entry takes
    figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize="small")
    base = "fastrnn's float32 time" if narrow else "the best peer's time"
    figure.supylabel(f"time / {base}", fontsize="medium")
    figure.savefig(path, dpi=120)
