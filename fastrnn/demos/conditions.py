"""Texts to classify: the standard library's `if`s, each without the negation of its condition.

"is not" is written "is", "!=" is "==", "not in" is "in", "not x" is x; the first lines of the
branch follow. Every Python with its library's sources has such texts, and Pythons of one version
have the same.

It must not know: networks.
"""

import ast
import keyword
import re
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_READ = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
PLAIN = {ast.NotEq: ast.Eq, ast.IsNot: ast.Is, ast.NotIn: ast.In}  # negated -> plain operator
LINES, WORDS = 15, 50  # the most lines of a branch, the most words of a text
WORD = re.compile(r"""'[^'\n]*'|"[^"\n]*"|\#.*|\n\s*|\w+|[^\w\s]""")
AGAIN = "<again>"


class Text(NamedTuple):
    """An `if`: its package, its first line, its words without negation, True if it had one."""

    package: str
    shown: str
    words: tuple
    negated: bool


def without_negation(test):
    """A condition without its negation, and True if it had one; None if that is undecided."""
    match test:
        case ast.UnaryOp(ast.Not(), operand):
            return operand, True
        case ast.Compare(left, [operator], right) if type(operator) in PLAIN:
            return ast.Compare(left, [PLAIN[type(operator)]()], right), True
        case ast.Compare(ops=[ast.Eq() | ast.Is() | ast.In()]):
            return test, False
        case ast.Compare() | ast.BoolOp():
            return None  # neither a < b nor a >= b is the negated one
    return test, False


def words_of(condition, branch):
    """Words and signs; a string is one word. AGAIN replaces a name in both condition and branch.

    Most names are unknown words and say little. A name in both condition and branch says much.
    """
    parts = []
    for text in (condition, branch):
        found = [word for word in WORD.findall(text) if word[0] != "#"]
        parts.append(["\n" if w.isspace() else '""' if w[0] in "'\"" else w for w in found])
    names = {w for w in parts[0] if w.isidentifier() and not keyword.iskeyword(w)} - {"self"}
    again = names.intersection(parts[1])
    return tuple(AGAIN if w in again else w for w in (*parts[0], ":", *parts[1]))[:WORDS]


def texts_of(package, source):
    """The texts of a module."""
    lines = source.split("\n")  # splitlines would split at form feeds too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as those of outdated syntax
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.If)]
    for node in nodes:
        plain, first = without_negation(node.test), node.body[0]
        if plain is not None:
            branch = lines[first.lineno - 1 : node.end_lineno][:LINES]
            branch[0] = branch[0][first.col_offset :]
            shown = f"if {ast.unparse(node.test)}: {branch[0]}"
            yield Text(package, shown, words_of(ast.unparse(plain[0]), "\n".join(branch)), plain[1])


def read_library(rng):
    """A list of texts for each package, half of them negated; the longest list first."""
    packages = []
    for top in sorted(LIBRARY.iterdir()):
        texts = []
        paths = [top] if top.is_file() else top.rglob("*.py") if top.name not in NOT_READ else []
        for path in sorted(paths):
            if path.suffix == ".py" and not NOT_READ.intersection(path.relative_to(LIBRARY).parts):
                texts += texts_of(top.stem, path.read_text(encoding="utf-8"))
        kinds = [[text for text in texts if text.negated == kind] for kind in (False, True)]
        count = min(map(len, kinds))
        packages.append([kind[i] for kind in kinds for i in rng.permutation(len(kind))[:count]])
    return sorted(packages, key=len, reverse=True)
