"""Mutants of Keras' files load, or are refused by a message with the file's name."""

import os
import pathlib
import subprocess
import sys

import pytest

import fastrnn

pytest.importorskip("h5py")

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

PROGRAM = pathlib.Path(__file__).parents[1] / "support" / "keras_mutants.py"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_two_thousand_mutants_are_loaded_or_refused_in_words(seed, tmp_path):
    """In a process of its own, because libhdf5, which is C, reads them. None may end it."""
    command = [sys.executable, "-W", "ignore", PROGRAM, tmp_path, str(seed), "2000"]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(fastrnn.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"
    assert int(done.stdout) > 1500
