"""Keras' own tests of recurrent layers, from its installed wheel, computed by fastrnn's kernels."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from keras_layers import keras

import fastrnn

pytestmark = [pytest.mark.slow, pytest.mark.any_isa]

FILES = ("lstm", "gru", "bidirectional", "rnn", "stacked_rnn_cells")


def test_keras_own_tests(tmp_path):
    folder = pathlib.Path(keras.__file__).parent / "src" / "layers" / "rnn"
    support = pathlib.Path(__file__).parents[1] / "support"
    package = pathlib.Path(fastrnn.__file__).parents[1]
    paths = os.pathsep.join([str(support), str(package)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "keras_hook"]
    command += [f"--rootdir={tmp_path}", *(folder / f"{name}_test.py" for name in FILES)]
    environment = os.environ | {"KERAS_BACKEND": "numpy", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    calls = re.search(r"calls of fastrnn: (\d+)", done.stdout)
    assert int(calls[1]) > 50, done.stdout
