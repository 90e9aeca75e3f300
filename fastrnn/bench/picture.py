"""A picture of a run's results: for each case fastrnn's time over that of its best peer.

There is a panel for each cell, number of threads (rows) and mode (columns), and a bar for each case
in the colour of its best peer. A bar is below 1 where fastrnn is faster. A short line is the
machine's limit over the same time. matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

from pathlib import Path

from fastrnn.bench import report

PEERS = [name for name in report.TITLES if name != report.REFERENCE]


def relative(job: dict, stat: str) -> tuple[str, float, float | None] | None:
    """The best framework, fastrnn's time over its time, and the limit over its time or None."""
    times = report.times(job, stat)
    frameworks = {name: times[name] for name in PEERS if name in times}
    if report.OURS not in times or not frameworks:
        return None
    best = min(frameworks, key=frameworks.get)
    limit = job["limit"] / frameworks[best] if "limit" in job else None
    return best, times[report.OURS] / frameworks[best], limit


def _draw_panel(axes, jobs: list[dict], cases: list[str], stat: str):
    for job in jobs:
        best, ours, limit = relative(job, stat)
        x = cases.index(job["case"])
        axes.bar(x, ours, width=0.7, color=f"C{PEERS.index(best)}")
        if limit is not None:
            axes.hlines(limit, x - 0.45, x + 0.45, color="black", linewidth=1.6)
    axes.axhline(1, color="black", linewidth=0.7, linestyle=":")
    first = jobs[0]
    threads = report.threads_text(first["threads"])
    axes.set_title(f"{first['cell'].upper()} {first['mode']}, {threads}", fontsize="medium")
    axes.set_xticks(range(len(cases)), cases, rotation=90, fontsize="small")
    axes.set_xlim(-0.7, len(cases) - 0.3)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)


def draw(path: Path, found: dict, stat: str):
    """Write the picture; ValueError if no job has both fastrnn and a framework."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    jobs = [job for job in found["jobs"] if relative(job, stat)]
    if not jobs:
        raise ValueError("no job has times of both fastrnn and a framework")
    cases, rows, modes = (
        list(dict.fromkeys(keys))
        for keys in (
            (job["case"] for job in jobs),
            ((job["cell"], job["threads"]) for job in jobs),
            (job["mode"] for job in jobs),
        )
    )
    size = (1.2 + len(modes) * max(2.6, 0.28 * len(cases)), 1.6 + 1.8 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(modes), sharex=True, sharey=True, squeeze=False)
    for row, line in zip(rows, panels, strict=True):
        for mode, axes in zip(modes, line, strict=True):
            mine = [j for j in jobs if (j["cell"], j["threads"]) == row and j["mode"] == mode]
            if mine:
                _draw_panel(axes, mine, cases, stat)
            else:
                axes.set_axis_off()
    handles = [
        Patch(color=f"C{n}", label=f"best peer: {report.TITLES[name]}")
        for n, name in enumerate(PEERS)
        if any(relative(job, stat)[0] == name for job in jobs)
    ]
    handles.append(Line2D([], [], color="black", linewidth=1.6, label="the machine's limit"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
    figure.supylabel("time / the best peer's time", fontsize="medium")
    figure.savefig(path, dpi=120)
