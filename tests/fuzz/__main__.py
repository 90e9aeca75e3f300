"""python -m tests.fuzz: runs cases one after another in a worker process, until time is up.

The worker may crash, or its watchdog may end it. This process then knows the case.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import fastrnn
from fuzz import running

TESTS, SUPPORT = sys.path[:2]
_BEGIN, _END = "begin", "end"


def arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all cases; the present time without one")
    parser.add_argument("--seed-from", metavar="COMMIT", help="the seed that a commit's id gives")
    parser.add_argument("--seconds", type=float, help="to run for")
    parser.add_argument("--cases", type=int, help="how many to run")
    parser.add_argument("--case", type=int, help="run this one alone, in this process")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--go-on", action="store_true", help="after a failure too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seed_from:
        given.seed = int(given.seed_from[:12], 16)
    if given.seed is None:
        given.seed = int(time.time())
    return given


def alone(seed, number):
    """Run one case in this process -> the exit status."""
    print(running.described(seed, number), flush=True)
    wrong = running.run(running.drawn(seed, number))
    print("passed" if wrong is None else f"FAILED: {wrong}")
    return 0 if wrong is None else 1


def worker(given):
    """Run cases from `first` on, and print the begin and the result of each."""
    until = time.monotonic() + (given.seconds or float("inf"))
    last = given.first + given.cases if given.cases else sys.maxsize
    for number in range(given.first, last):
        if time.monotonic() >= until:
            break
        print(_BEGIN, number, flush=True)
        wrong = running.run(running.drawn(given.seed, number))
        if wrong is not None:
            print(wrong)
        print(_END, number, 0 if wrong is None else 1, flush=True)
    return 0


class Count:
    """The counts of the cases that were run."""

    def __init__(self, first):
        self.next, self.failed = first, []


def watch(command, seed, count):
    """Run a worker to its end or to its first failure, and report a failure."""
    now, said = None, []  # the case that has begun, and its output
    with subprocess.Popen(
        command, env=environment(), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout:
            word, *numbers = line.split() or [""]
            if word == _BEGIN and numbers:
                now, said = int(numbers[0]), []
            elif word == _END and numbers:
                count.next, failed, now = now + 1, numbers[1] == "1", None
                if failed:
                    process.terminate()
                    return tell(seed, count, said)
            else:
                said.append(line)
    if now is not None or process.returncode:
        count.next = (count.next if now is None else now) + 1
        tell(seed, count, [*said, f"the process ended with {process.returncode}\n"])


def environment():
    """The environment of a worker: it imports the tests, and the same package as this process."""
    path = [
        TESTS,
        SUPPORT,
        str(pathlib.Path(fastrnn.__file__).parents[1]),
        os.environ.get("PYTHONPATH"),
    ]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def tell(seed, count, said):
    """Report the case before `count.next`, which failed."""
    count.failed.append(count.next - 1)
    print(f"\nFAILED: {running.described(seed, count.next - 1)}\n{''.join(said)}", flush=True)


def left_of(given, count, seconds):
    """A worker's arguments for the cases that are left, and whether there are any."""
    if given.cases:
        left = given.first + given.cases - count.next
        return ["--cases", str(left)], left > 0
    left = (given.seconds or 60) - seconds
    return ["--seconds", str(left)], left > 0


def supervise(given):
    """Run workers until time is up; each goes on after the one before -> the exit status."""
    begin, count = time.monotonic(), Count(given.first)
    print(f"seed {given.seed}", flush=True)
    while not count.failed or given.go_on:
        amount, is_left = left_of(given, count, time.monotonic() - begin)
        if not is_left:
            break
        failures = len(count.failed)
        command = [sys.executable, "-X", "faulthandler", "-m", "fuzz", "--worker", *amount]
        command += ["--seed", str(given.seed), "--first", str(count.next)]
        watch(command, given.seed, count)
        if len(count.failed) == failures:
            break
    seconds = time.monotonic() - begin
    cases = count.next - given.first
    print(f"{cases} cases in {seconds:.0f} s, {len(count.failed)} failed")
    return 0 if cases and not count.failed else 1


def main():
    given = arguments()
    if given.case is not None:
        return alone(given.seed, given.case)
    return worker(given) if given.worker else supervise(given)


if __name__ == "__main__":
    sys.exit(main())
