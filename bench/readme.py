"""The figures of speed in README.md and docs/speed.md, from the files of the runs that gave them,
one for each group of cases: bench/speed.json of `programs`, bench/speed-GROUP.json of the others.

On a machine at rest, for some hours, in a checkout without changes:

    python bench/run.py --threads 1,2 --rounds 3 --batch 0.015 --json build/speed.json
    python bench/readme.py --record build/speed.json

writes bench/speed.json, bench/speed.png (needs matplotlib) and the pages' figures. The other groups
take one thread and up to half an hour each: `--group serve`. Without --record it writes the pages'
figures from the existing files.

A page has them between `<!-- speed: NAME -->` and `<!-- speed -->`; SECTIONS has a function for
each name. A file is that of `--json` without the values that no figure needs, with one job in a
line. `python -m fastrnn bench --from bench/speed.json` shows it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from fastrnn.bench import markdown, measure, picture, report  # noqa: E402
from fastrnn.bench.cases import CASES, MODES, named  # noqa: E402
from fastrnn.bench.peers import PEERS  # noqa: E402

PAGES, FOLDER = (ROOT / "README.md", ROOT / "docs/speed.md"), ROOT / "bench"
PROGRAMS = "programs"
WIDTH = 120  # the width of the README's lines
STAT = "best"
KEPT = ("status", "reason", "variant", "best", "median", "seconds", "interruptions", "memory")
KEPT_OF_OTHER_GROUPS = ("status", "reason", "variant", "best", "median")
NAMES = {
    "lstm": "LSTM",
    "gru": "GRU, reset after",
    "gru-before": "GRU, reset before",
    "rnn": "RNN",
    "all": "all",
}


def file(group: str) -> Path:
    """The file of a group's run; its picture has the same name with another ending."""
    return FOLDER / ("speed.json" if group == PROGRAMS else f"speed-{group}.json")


def group_of(found: dict) -> str:
    return found["jobs"][0].get("group", PROGRAMS)


def machine(found: dict) -> str:
    """The paragraph about the run: its machine, commit, peers and command."""
    about, settings = found["about"], found["settings"]
    ours = about["fastrnn"]
    versions = {name: about["versions"].get(PEERS[name].package) for name in report.TITLES}
    peers = [
        f"{report.TITLES[n]} {v}" for n, v in versions.items() if v and n not in report.ALSO_OURS
    ]
    group = group_of(found)
    command = "python bench/run.py{} --threads {} --rounds {} --batch {}".format(
        "" if group == PROGRAMS else f" --group {group}",
        ",".join(map(str, settings["threads"])),
        settings["rounds"],
        settings["batch"],
    )
    narrow = "" if group == "precision" else "float32, "
    commit = f"commit {about['commit'][:7]}" + " with changes" * bool(about["uncommitted"])
    return paragraph(
        f"Measured at {commit} on {about['time'][:10]}, on {len(about['cores'])} cores of "
        f"{about['cpu']}, with the instruction set {ours['isa']} and {ours['compiler']}, against "
        f"{', '.join(peers[:-1])} and {peers[-1]}, by `{command}`: {narrow}best of "
        f"{settings['rounds']} interleaved rounds, results checked against each other first. "
        + about.get("note", f"The measurements: `bench/{file(group).name}`.")
    )


def lstm(found: dict) -> str:
    """The table of the LSTM on one thread."""
    jobs = [job for job in found["jobs"] if (job["cell"], job["threads"]) == ("lstm", 1)]
    return markdown.programs(jobs, STAT)


def means(found: dict) -> str:
    """The table of the geometric means over the cases, for each cell."""
    groups = found["geometric_means"]
    head = ["cell", "forward, 1 thread", "2 threads", "training, 1 thread", "2 threads"]
    rows = [[*head, "limit, forward", "limit, training"], ["---"] * 7]
    for cell, name in NAMES.items():
        behind = "" if cell == "all" else f", {cell}"

        def value(mode, threads, what, behind=behind):
            return groups[f"{mode}, {report.threads_text(threads)}{behind}"][what]

        best = [f"{value(mode, n, 'best peer'):.2f}" for mode in MODES for n in (1, 2)]
        rows.append([name, *best, *(f"{value(mode, 1, 'limit'):.0%}" for mode in MODES)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def table_of(cell: str):
    """A function that gives the table of one cell."""

    def table(found: dict) -> str:
        jobs = [job for job in found["jobs"] if job["cell"] == cell]
        return markdown.markdown(found | {"jobs": jobs}, STAT).partition("\n\n")[2]

    return table


def table(found: dict) -> str:
    """The table of a group that has one for all cells."""
    return markdown.markdown(found, STAT).partition("\n\n")[2]


def is_complete(found: dict) -> bool:
    """Return whether the run has every case, cell and mode of its group, on one thread and, for
    `programs`, on two."""
    jobs = {(job["case"], job["cell"], job["mode"], job["threads"]) for job in found["jobs"]}
    group = group_of(found)
    return jobs >= {
        (name, cell, mode, threads)
        for name in named([group])
        for cell in CASES[name].cells
        for mode in CASES[name].modes
        for threads in ((1, 2) if group == PROGRAMS else (1,))
    }


def behind(found: dict) -> str | None:
    """The sentence about jobs in which the best framework was ahead; None if jobs are missing."""
    if not is_complete(found):
        return None
    lost = []
    for job in [job for job in found["jobs"] if job["threads"] == 1]:
        ratio = report.figures(job, STAT).get("best peer", 1)
        if ratio < 1:
            shown = f"{ratio:.2f}" if ratio < 0.995 else f"{ratio:.3f}"
            mode = "" if job["mode"] == "forward" else f" {job['mode']}"
            lost.append(f"{job['case']} {job['cell']}{mode} {shown}")
    if not lost:
        return "In this run no framework was ahead at one thread."
    return paragraph(
        "Not everything is won: in this run the best framework was ahead at one thread in "
        f"{', '.join(lost)}."
    )


# By group: the functions of a section's name. The group `torch` is on no page.
SECTIONS = {
    PROGRAMS: {"machine": machine, "lstm": lstm, "means": means, "behind": behind},
    "audio": {"audio-machine": machine, "audio": table},
    **{
        group: {f"{group}-machine": machine}
        | {f"{group}-{cell}": table_of(cell) for cell in ("lstm", "gru")}
        for group in ("serve", "precision", "features")
    },
}


def paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def filled(page: str, found: dict) -> str:
    """A page's text with the figures of a run; sections of other groups do not change, nor one
    that the run has no figures for."""
    sections = SECTIONS[group_of(found)]

    def section(match):
        text = sections[match["name"]](found) if match["name"] in sections else None
        return match[0] if text is None else f"{match['begin']}\n{text}\n{match['end']}"

    pattern = r"(?P<begin><!-- speed: (?P<name>[\w-]+) -->)\n(?:.*?\n)??(?P<end><!-- speed -->)"
    return re.sub(pattern, section, page, flags=re.DOTALL)


def shortened(found: dict) -> str:
    """A run's JSON with one job in a line, without the errors of the checked results."""
    kept = KEPT if group_of(found) == PROGRAMS else KEPT_OF_OTHER_GROUPS
    rows = []
    for job in found["jobs"]:
        peers = {
            name: {key: peer[key] for key in kept if key in peer}
            for name, peer in job["peers"].items()
        }
        rows.append(json.dumps(job | {"peers": peers}))
    rest = {key: value for key, value in found.items() if key != "jobs"}
    head = json.dumps(rest, indent=1).removesuffix("\n}")
    return f'{head},\n "jobs": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


def lacking(found: dict) -> str | None:
    """The reason why the README cannot have its figures from a run, or None."""
    if not found["about"]["commit"]:
        return "it names no commit: measure in a checkout"
    if len({job.get("group", PROGRAMS) for job in found["jobs"]}) != 1:
        return "it must have the jobs of one group"
    if group_of(found) not in SECTIONS:
        return f"no page has figures of the group {group_of(found)}"
    if not is_complete(found):
        return "it has not all cases, cells and modes, on one thread and, of programs, on two"
    if not found["probes"]:
        return "the machine's limits were not measured"
    return None


def main(arguments: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--record", type=Path, metavar="FILE", help="the JSON of a new run")
    options = parser.parse_args(arguments)
    if options.record:
        text = options.record.read_text(encoding="utf-8")
        found = measure.read(text)
        if reason := lacking(found):
            parser.error(f"{options.record}: {reason}")
        path = file(group_of(found))
        picture.draw(path.with_suffix(".png"), found, STAT)
        path.write_text(shortened(json.loads(text)), encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path in map(file, SECTIONS):
            text = filled(text, measure.read(path.read_text(encoding="utf-8")))
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
