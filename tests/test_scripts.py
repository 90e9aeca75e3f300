"""The scripts of .ci answer questions and mistakes at once, before they install anything."""

import pathlib
import shutil
import subprocess

import pytest

SCRIPTS = pathlib.Path(__file__).parents[1] / ".ci"

pytestmark = [
    pytest.mark.no_kernels,
    pytest.mark.any_isa,
    pytest.mark.posix,
    pytest.mark.skipif(not SCRIPTS.exists(), reason="needs a checkout"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts are bash's"),
]


def ended(script, argument):
    command = [SCRIPTS / script, argument]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize("script, usage", [("run", "[stage...]"), ("wheels", "[target...]")])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_head_of_the_script(script, usage, option):
    done = ended(script, option)
    assert done.returncode == 0 and done.stderr == ""
    assert f"\n  .ci/{script} {usage}" in done.stdout and "#" not in done.stdout


def test_unknown_targets_are_refused():
    done = ended("wheels", "linus")
    assert done.returncode == 2
    assert done.stderr == "linus is no target; targets are linux, musl, aarch64, macos, windows\n"
