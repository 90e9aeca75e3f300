"""The README's example runs as it stands."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_example_of_inference_training_and_streaming_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names = {}
    exec(example, names)
    assert names["y"].shape == (500, 8, 128)
    assert abs(names["grads"].flat).max() > 0
    assert abs(names["out"]).max() > 0
