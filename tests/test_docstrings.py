"""Public docstrings: in numpydoc's form, as static tools read them, with examples that run.

An example needs no name that it does not make itself: it can be pasted into a fresh session.
"""

import ast
import doctest
import inspect
import re
from collections import defaultdict
from collections.abc import MutableMapping
from functools import cache

import pytest

import fastrnn
from fastrnn import convert, data, distributed, estimators, keras, plot, reference, train
from fastrnn._engine import runtime
from fastrnn._layer import parameters, stream, tape, truncated
from fastrnn.train import progress

pytestmark = pytest.mark.any_isa

# What users meet without importing it by name.
MET = [stream.Stream, tape.Tape, tape.Gradients, truncated.Window, parameters.Parameters]
MET += [progress.Progress]

# Users get these from other calls and create none. Those with fields describe them as attributes.
NOT_CREATED = {stream.Stream, tape.Tape, tape.Gradients, truncated.Window, parameters.Parameters}
NOT_CREATED |= {reference.Tape, train.PartGradients, keras.Loaded, plot.Memory}
NOT_CREATED |= {estimators.NotFittedError}

# https://numpydoc.readthedocs.io/en/latest/format.html, with the order of its validation.
SECTIONS = [
    "Parameters", "Attributes", "Methods", "Returns", "Yields", "Receives", "Other Parameters",
    "Raises", "Warns", "Warnings", "See Also", "Notes", "References", "Examples",
]  # fmt: skip


def members(kind):
    """The public methods and properties of a class that the package wrote, with `__call__`."""
    for owner in [owner for owner in kind.__mro__ if owner.__module__.startswith("fastrnn.")]:
        for name, value in vars(owner).items():
            function = value.fget if isinstance(value, property) else value
            own = f"{owner.__qualname__}.{name}"  # a function as a field's default has another name
            hidden = name.startswith("_") and name != "__call__"
            if hidden or getattr(function, "__qualname__", None) != own:
                continue
            if value.__doc__ or not hasattr(MutableMapping, name):  # as of any mapping
                yield f"{owner.__module__}.{own}", value


def public():
    """Qualified name -> class, function, method or property."""
    found = {}
    kernels = [fastrnn.kernels] if runtime.core else []
    modules = fastrnn, fastrnn.functional, train, reference, plot, data, convert, keras
    modules += distributed, estimators, *kernels
    for module in modules:
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        values = [getattr(module, name) for name in names]
        values = [v for v in values if inspect.isclass(v) or inspect.isfunction(v)]
        found |= {f"{value.__module__}.{value.__qualname__}": value for value in values}
    found |= {f"{kind.__module__}.{kind.__qualname__}": kind for kind in MET}
    for kind in [value for value in found.values() if inspect.isclass(value)]:
        found |= dict(members(kind))
    assert all(name.startswith("fastrnn.") for name in found)
    return found


PUBLIC = public()
CALLED = {name: value for name, value in PUBLIC.items() if not isinstance(value, property)}
every = pytest.mark.parametrize("name", PUBLIC)
every_called = pytest.mark.parametrize("name", CALLED)


def text_of(value):
    return inspect.cleandoc(value.__doc__)


def sections(value):
    """Name -> lines, of a docstring's sections in their order; "" is what stands before them."""
    found, name = {"": []}, ""
    lines = text_of(value).splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch("-+", below) and line:
            assert len(line) == len(below), f"{line!r} is not underlined as a section is"
            assert line not in found, f"two sections are called {line}"
            name = line
            found[name] = []
        elif not re.fullmatch("-{3,}", line):
            found[name].append(line)
    return found


def entries(lines):
    """The names that a section describes -> the lines of each."""
    found = {}
    for line in lines:
        if line and not line.startswith(" "):
            head = line
            found[head] = []
        elif line:
            found[head].append(line)
    return {
        name.lstrip("*"): [head, *rest]
        for head, rest in found.items()
        for name in head.partition(" : ")[0].split(", ")
    }


@cache
def tree(path):
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def node_of(value):
    """Where the source defines it; of overloads the last, which is the definition."""
    function = value.fget if isinstance(value, property) else inspect.unwrap(value)
    node = tree(inspect.getsourcefile(function))
    for part in function.__qualname__.split("."):
        node = [child for child in node.body if getattr(child, "name", None) == part]
        node = node[0] if isinstance(value, property) else node[-1]
    return node


@pytest.mark.no_kernels
def test_the_classes_and_functions_are_found():
    names = {name.rpartition(".")[2] for name in PUBLIC}
    assert {"LSTM", "lstm", "threads", "Adam", "Cell", "gates", "co2", "Stream"} <= names
    assert {"__call__", "feed", "gradient_norms", "backward", "learning_rate", "add"} <= names


@pytest.mark.no_kernels
@every
def test_a_docstring_is_a_literal_that_static_tools_see(name):
    assert ast.get_docstring(node_of(PUBLIC[name])) == text_of(PUBLIC[name])


@pytest.mark.no_kernels
@every
def test_sections_stand_in_numpydocs_order(name):
    found = list(sections(PUBLIC[name]))[1:]
    assert found == sorted(found, key=SECTIONS.index)


@pytest.mark.no_kernels
@every_called
def test_parameters_are_described_in_the_order_of_the_signature(name):
    if CALLED[name] in NOT_CREATED:
        return
    found = sections(CALLED[name])
    described = [*entries(found.get("Parameters", [])), *entries(found.get("Other Parameters", []))]
    wanted = [n for n in inspect.signature(CALLED[name]).parameters if n != "self"]
    if inspect.isclass(CALLED[name]) and "Attributes" in found and not described:
        described = list(entries(found["Attributes"]))[: len(wanted)]
    assert described == wanted


WITH_VARIANTS = fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU
OF_X_ALONE = fastrnn.MinGRU, fastrnn.MinLSTM


@pytest.mark.no_kernels
@pytest.mark.parametrize(
    "kinds, own",
    [(WITH_VARIANTS, {"zoneout", "layer_norm", "init", "params"}), (OF_X_ALONE, {"params"})],
)
def test_what_layers_have_in_common_they_describe_alike(kinds, own):
    """But for what acts on another state, and what begins parameters that others have not."""
    words = defaultdict(set)
    for kind in kinds:
        found = sections(kind)
        for section in ("Parameters", "Attributes", "Other Parameters"):
            for name, lines in entries(found[section]).items():
                words[section, name].add("\n".join(lines))
    differing = {name for (_, name), texts in words.items() if len(texts) > 1}
    assert differing == own


@pytest.mark.no_kernels
@every_called
def test_every_docstring_has_an_example(name):
    assert any(line.startswith(">>> ") for line in sections(CALLED[name]).get("Examples", []))


@every_called
def test_the_example_runs(name, tmp_path, monkeypatch, keep_threads):
    if ".plot." in name:
        pytest.importorskip("matplotlib").use("Agg")
    if ".distributed." in name:
        pytest.importorskip("mpi4py")
    monkeypatch.chdir(tmp_path)  # some write files
    examples = doctest.DocTestParser().get_doctest(text_of(CALLED[name]), {}, name, None, None)
    said = []
    result = doctest.DocTestRunner().run(examples, out=said.append)
    assert result.attempted and not result.failed, "".join(said)
