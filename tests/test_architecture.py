"""Layers: Python's imports, C's includes and C's symbols point down, without cycles.

LEVELS and FOLDERS list the layers from below: a file may use files of its own level and of the
levels before it.
"""

import ast
import graphlib
import pathlib
import re
import shutil
import subprocess

import pytest

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(fastrnn.__file__).parent

# ---- Python --------------------------------------------------------------------------------------

# The longest name here that a module's name begins with decides its level. Two packages are on
# several levels. In _cells, the options are below the reference, and the registry is above the
# compiled module that it reads. In _engine, the modules that run passes are above the registry.
LEVELS = [
    {
        "fastrnn._version",
        "fastrnn._include",
        "fastrnn._typing",
        "fastrnn._gates",
        "fastrnn.checks",
    },  # fmt: skip
    {"fastrnn.plot", "fastrnn.data"},
    {"fastrnn._files", "fastrnn._interop"},
    {"fastrnn._cells.options"},
    {"fastrnn.reference"},
    {"fastrnn._engine", "fastrnn._engine._build", "fastrnn._engine.runtime"},
    {"fastrnn._cells"},
    {"fastrnn._engine.dropout_masks", "fastrnn._engine.ragged", "fastrnn._engine.ids"},
    {"fastrnn._engine.reference_backend"},
    {"fastrnn._engine.passes"},
    {"fastrnn._engine.flat"},
    {"fastrnn._functional"},
    {"fastrnn._layer"},
    {"fastrnn.functional", "fastrnn.kernels", "fastrnn.layers", "fastrnn.train"},
    {"fastrnn._weights", "fastrnn.convert", "fastrnn.distributed", "fastrnn.estimators"},
    {"fastrnn.io"},
    {"fastrnn"},
    {"fastrnn.bench", "fastrnn.demos", "fastrnn.keras", "fastrnn.onnx", "fastrnn.torch"},
    {"fastrnn.__main__"},
]
LEVEL_OF = {name: number for number, level in enumerate(LEVELS) for name in level}


def modules():
    """name -> path of every module of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("fastrnn", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if not name.endswith("_build_id")}


def statements(body):
    """The statements of a module, also within `if`, `try` and functions; not those for types."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for block in ("body", "orelse", "finalbody", "handlers"):
            yield from statements(getattr(node, block, []))


def imports(path, names):
    """The package's modules that a file imports, at once or later."""
    found = set()
    for node in statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in names else node.module)
    return found & names


def level_of(name):
    while name not in LEVEL_OF:
        name = name.rpartition(".")[0]
    return LEVEL_OF[name]


@pytest.fixture(scope="module")
def graph():
    found = modules()
    return {name: imports(path, found.keys()) for name, path in found.items()}


def test_imports_point_down(graph):
    up = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if level_of(other) > level_of(name)
    ]
    assert not up, "\n".join(up)


@pytest.mark.skipif(not (ROOT / "fastrnn").exists(), reason="needs a checkout")
def test_every_package_is_installed():
    listed = re.search(r"\npackages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.S)
    there = [path.parent for path in (ROOT / "fastrnn").rglob("__init__.py")]
    there = {".".join(path.relative_to(ROOT).parts) for path in there}
    assert set(re.findall('"(.*?)"', listed[1])) == there


def test_no_module_imports_itself_by_way_of_others(graph):
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a cycle


# ---- C -------------------------------------------------------------------------------------------

# The folders of csrc whose headers the files of a folder may include.
FOLDERS = {
    ".": set(),
    "internal": {".", "internal"},
    "kernels": {"internal", "kernels"},
    "isa": {"kernels"},
    "system": {"internal", "system"},
    "forward": {"internal", "forward"},
    "backward": {"internal", "forward", "backward"},
}
# The folders whose functions they may call. Kernels are called through a table of addresses, which
# dispatch.c chooses.
CALLS = {
    "internal": set(),
    "isa": set(),
    "system": {"isa"},
    "forward": {"internal", "system"},
    "backward": {"internal", "system", "forward"},
}

needs_sources = pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="needs the sources")


@needs_sources
def test_includes_point_down():
    csrc, graph, up = ROOT / "csrc", {}, []
    for path in csrc.rglob("*.[ch]"):
        name, folder = path.relative_to(csrc), path.parent.relative_to(csrc)
        quoted = re.findall(r'#include "([^"]+)"', path.read_text())
        graph[name] = {(path.parent / other).resolve().relative_to(csrc) for other in quoted}
        allowed = FOLDERS[str(folder)]
        up += [f"{name} includes {o}" for o in graph[name] if str(o.parent) not in allowed]
    assert not up, "\n".join(up)
    assert any(graph.values())
    list(graphlib.TopologicalSorter(graph).static_order())


def symbols(compiler, path, target):
    """The symbols that a file defines, and those that it uses from other files."""
    command = [*compiler, "-std=gnu11", "-O0", "-Icsrc", "-c", path, "-o", target]
    subprocess.run(command, cwd=ROOT, check=True)
    listed = subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout
    pairs = [line.split()[-2:] for line in listed.splitlines()]
    pairs = [(kind, name.removeprefix("_")) for kind, name in pairs]  # macOS adds a "_"
    of_ours = [(kind, name) for kind, name in pairs if name.startswith("frnn_")]
    return {n for kind, n in of_ours if kind in "TRDB"}, {n for kind, n in of_ours if kind == "U"}


@needs_sources
def test_calls_point_down(tmp_path):
    compiler = next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("needs a C compiler and nm")
    defined, taken = {}, {}
    for path in (ROOT / "csrc").glob("*/*.c"):
        if path.parent.name == "isa":
            continue  # each defines a kernel table
        name = path.relative_to(ROOT / "csrc")
        here, taken[name] = symbols(compiler, path, tmp_path / "unit.o")
        defined |= dict.fromkeys(here, name)
    graph, up = {}, []
    for name, names in taken.items():
        graph[name] = {defined[n] for n in names if n in defined}
        allowed = CALLS[name.parent.name] | {name.parent.name}
        tables = {pathlib.Path("isa/table") for n in names if n not in defined}
        up += [f"{name}: {o}" for o in graph[name] | tables if o.parent.name not in allowed]
    assert not up, "\n".join(up)
    assert any(graph.values())
    list(graphlib.TopologicalSorter(graph).static_order())
