"""How many threads a process should use: OMP_NUM_THREADS, else its cores and its group's quota.

It must not know: the pool of threads, FASTRNN_NUM_THREADS.
"""

import os
import re
from typing import NamedTuple


class Limit(NamedTuple):
    """A number of threads, and what it follows from, in words for `show_config`."""

    threads: int
    source: str


def limit_of_process(most, environment=os.environ):
    """The `Limit` of this process, at most `most` threads.

    Programs that start workers give each its part of the machine by OMP_NUM_THREADS. A list such as
    "4,2" has a number for each level of nesting, and the first one counts. A text that begins with
    no number is ignored, as OpenMP's runtimes do: it must not stop an import. `source` says so.
    """
    text = environment.get("OMP_NUM_THREADS", "").strip()
    first = text.partition(",")[0].strip()
    if re.fullmatch("\\+?[0-9]{1,9}", first) and int(first) > 0:
        return Limit(min(int(first), most), "OMP_NUM_THREADS")
    cores, source = available_cores()
    ignored = f" (OMP_NUM_THREADS={text[:20]!r} is ignored)" if text else ""
    return Limit(min(cores, most), source + ignored)


def available_cores():
    """The `Limit` by the cores that this process may use: its affinity, its control groups."""
    by_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(os.getpid())) if by_affinity else os.cpu_count() or 1
    quota = quota_of_groups()
    if quota is not None and quota < cores:
        return Limit(quota, "quota of the control group")
    return Limit(cores, "cores of the process")


def quota_of_groups(mounted="/sys/fs/cgroup", own_groups="/proc/self/cgroup"):
    """The least quota of this process' control groups in whole cores, rounded up, or None.

    mounted : where control groups are. Version 2 has the file cpu.max in each folder, version 1 two
        files below the folder of the controller "cpu".
    own_groups : a file with a line "number:controllers:path" for each hierarchy; in version 2
        without controllers.
    """
    texts = []
    for root, path in _groups(mounted, own_groups):
        for folder in _folders_to(root, path):
            texts.append(_read(f"{folder}/cpu.max"))
            quota, period = [_read(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")]
            texts.append(f"{quota} {period}")
    # Without a quota the texts are "max 100000" and "-1 100000".
    found = [re.fullmatch("([1-9][0-9]{0,17}) ([1-9][0-9]{0,17})", text) for text in texts]
    return min([-(-int(m[1]) // int(m[2])) for m in found if m], default=None)


def _groups(mounted, own_groups):
    """Pairs of a hierarchy's root folder and the path of this process' group in it.

    A container often sees its own group as the root, but reads the path that the group has outside.
    There is no such folder in the container, and the root has the quota.
    """
    pairs = [(mounted, ""), (f"{mounted}/cpu", "")]
    lines = re.findall("^[0-9]+:(.*?):(.*)$", _read(own_groups), re.MULTILINE)
    for controllers, path in lines:
        if controllers == "" or "cpu" in controllers.split(","):
            pairs.append((f"{mounted}/cpu" if controllers else mounted, path))
    return pairs


def _folders_to(root, path):
    """Yield the root, the folders below it that lead to the path, and at last the path's own."""
    folder = root
    yield folder
    for name in filter(None, path.split("/")):
        folder = f"{folder}/{name}"
        yield folder


def _read(path):
    """A file's text; "" if it cannot be read. A path in it can be opened in any locale."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).strip()
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return ""
