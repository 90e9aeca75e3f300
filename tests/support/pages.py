"""The examples of the pages in docs/, which tests build and run as they stand."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def blocks(page, language):
    """The blocks of code in one language, in the order of the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)
