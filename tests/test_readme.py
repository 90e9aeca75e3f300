"""The README's examples run as they stand."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


def run_example(number):
    """The names that an example leaves."""
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names = {}
    exec(examples[number], names)
    return names


def test_the_example_of_inference_training_and_streaming_runs():
    names = run_example(0)
    assert names["y"].shape == (500, 8, 128)
    assert abs(names["grads"].flat).max() > 0
    assert abs(names["out"]).max() > 0
    assert names["y_more"].shape == (500, 8, 128)


def test_the_example_of_a_training_loop_learns():
    assert run_example(1)["loss"] < 0.4  # 0.5 is the mean
