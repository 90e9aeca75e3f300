"""The README's examples run without changes."""

import pathlib
import re

import pytest
from problems import assert_same_bits

import fastrnn

pytestmark = pytest.mark.any_isa

README = pathlib.Path(__file__).parent.parent / "README.md"


def run_examples(*numbers):
    """Run some examples one after another -> the names that they define."""
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names = {}
    for number in numbers:
        exec(examples[number], names)
    return names


def test_the_example_of_inference_training_and_streaming_runs():
    names = run_examples(0)
    assert names["y"].shape == (500, 8, 128)
    assert abs(names["grads"].flat).max() > 0
    assert abs(names["out"]).max() > 0
    assert names["y_more"].shape == (500, 8, 128)


def test_the_example_of_ragged_batches_and_ids_goes_on_from_there():
    names = run_examples(0, 1)
    assert names["grads"].embedding.shape == (10_000, 40)
    assert names["norms"]["c"].shape == (1, 500)
    assert names["gates"]["f"].shape == (1, 500, 8, 128)


def test_the_example_of_a_training_loop_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_examples(2)
    assert names["history"].loss[-1] < 0.01  # a constant forecast of the mean has 0.5
    trained, adam = names["layer"].flat.copy(), names["adam"].state()
    names["layer"].flat[...] = 0
    fastrnn.train.load("sine.npz", names["parts"], names["adam"])
    assert_same_bits(names["layer"].flat, trained)
    assert_same_bits(names["adam"].state(), adam)
