"""Facts about a run: CPU, system, package versions, commit of this project's checkout."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = "csrc/fastrnn.h"  # every checkout of this project has this file, no wheel has it
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "jax", "jaxlib")


def git(*args) -> str | None:
    """The output of git in the folder of the package; None if git fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> dict:
    """The commit, and True if files differ from it. None for both unless the package is at the top
    of a checkout of this project: it may be inside another repository."""
    if git("ls-files", "--full-name", "--error-unmatch", OURS) != OURS:
        return {"commit": None, "uncommitted": None}
    return {
        "commit": git("rev-parse", "--verify", "-q", "HEAD"),
        "uncommitted": bool(git("status", "--porcelain")),
    }


def cpu() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.split(":", 1)[1].strip()
    return None


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def about(cores: list[int], ours: dict) -> dict:
    """All facts as a dict; `ours` is the part that the package tells in a worker."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": cpu(),
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastrnn": ours,
        "versions": {name: version(name) for name in PACKAGES},
        **commit(),
    }
