"""Counts the instructions of some small cases and compares them with bench/instructions.json.

    python bench/instructions.py            exit code 1 if a count is off by more than 2%
    python bench/instructions.py --record   writes the counts to the file

The counts show a slowdown without a noisy clock, if it comes from more instructions; they do not
show cache misses. $CC (gcc) builds the kernels as setup.py does, together with instructions.c, and
valgrind's callgrind runs the program, without AVX-512, which it does not know. The counts depend on
the compiler. With a compiler other than that of the file they are printed and not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "bench" / "instructions.json"
CASES = ("lstm-forward", "lstm-stream", "gru-training", "lstm-ids-stream", "gru-ids-training")
SETS = {"x86_64": ("avx2", "generic"), "aarch64": ("neon", "generic")}
FLAGS = "-std=gnu11 -O3 -g0 -ffp-contract=off -fvisibility=hidden -Icsrc -pthread".split()
TOLERANCE = 0.02


def build(folder: Path) -> Path:
    """Build the program, one source per core at a time, and return its path."""
    compiler = os.environ.get("CC", "gcc").split()
    sources = [*sorted((ROOT / "csrc").glob("*/*.c")), ROOT / "bench/instructions.c"]
    objects = [folder / f"{source.parent.name}_{source.stem}.o" for source in sources]

    def compile_one(source: Path, target: Path):
        subprocess.run([*compiler, *FLAGS, "-c", source, "-o", target], cwd=ROOT, check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    program = folder / "instructions"
    subprocess.run([*compiler, *objects, "-o", program, "-pthread", "-lm"], check=True)
    return program


def count(program: Path, isa: str, case: str) -> tuple[int, str]:
    """The number of instructions inside counted(), and the compiler with its major version."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--toggle-collect=counted",
         "--callgrind-out-file=/dev/null", program, isa, case],
        capture_output=True, text=True,
    )  # fmt: skip
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not collected or int(collected[1]) == 0:
        raise SystemExit(f"{isa} {case}: nothing counted, exit {done.returncode}\n{done.stderr}")
    return int(collected[1]), re.match(r"\w+ \d+", done.stdout)[0]


def judge(name: str, now: int, figure: int) -> str | None:
    """A message if a count is off, or None."""
    change = now / figure - 1
    if change > TOLERANCE:
        return f"{name}: {now} instructions, {change:.1%} more than the figure {figure}"
    if change < -TOLERANCE:
        return (
            f"{name}: {now} instructions, {-change:.1%} fewer than the figure {figure}: good; "
            "write the better figure down with --record"
        )
    return None


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--record", action="store_true", help="keep the counts as the figures")
    record = parser.parse_args().record
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"counts": {}}
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        for isa in SETS.get(platform.machine(), ("generic",)):
            counts[isa] = {}
            for case in CASES:
                counts[isa][case], compiler = count(program, isa, case)
    target = f"{compiler}, {platform.machine()}"
    for isa, cases in counts.items():
        for case, now in cases.items():
            print(f"{isa:8} {case:16} {now:12}")
    if record:
        kept = {"built by": target, "counts": counts}
        FIGURES.write_text(json.dumps(kept, indent=2) + "\n")
        return 0
    if kept.get("built by") != target:
        print(f"not judged: the figures are of {kept.get('built by')}, this is {target}")
        return 0
    wrong = [
        judge(f"{isa} {case}", now, kept["counts"][isa][case])
        for isa, cases in counts.items()
        for case, now in cases.items()
    ]
    print("\n".join(filter(None, wrong)) or f"within {TOLERANCE:.0%} of the figures")
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
