"""The README's examples in Python."""

import pathlib
import re

README = pathlib.Path(__file__).parents[2] / "README.md"

# Which of them make a program, one after another: their numbers, in the order of the page.
PROGRAMS = {"inference": [0], "ragged": [0, 1], "training": [2], "weights": [3]}


def examples():
    """The blocks as they stand."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def program(name):
    """The text of one of PROGRAMS."""
    blocks = examples()
    return "\n".join(blocks[number] for number in PROGRAMS[name])
