"""Who knows whom: Python's imports, C's includes and C's symbols point down, and in no circle.

LEVELS and FOLDERS say what stands above what: a file may use those of its own level and of the
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

# Of a module the longest name that it begins with counts. Two packages stand at several levels: of
# _cells the options stand below the reference, the registry above the compiled module that it
# reads; of _engine what runs passes stands above the registry.
LEVELS = [
    {"fastrnn._version", "fastrnn._typing", "fastrnn.checks", "fastrnn.plot", "fastrnn.data"},
    {"fastrnn._cells.options"},
    {"fastrnn.reference"},
    {"fastrnn._engine", "fastrnn._engine._build", "fastrnn._engine.runtime"},
    {"fastrnn._cells"},
    {"fastrnn._engine.dropout_masks", "fastrnn._engine.ragged", "fastrnn._engine.ids"},
    {"fastrnn._engine.passes"},
    {"fastrnn._layer"},
    {"fastrnn.functional", "fastrnn.layers", "fastrnn.train"},
    {"fastrnn"},
    {"fastrnn.bench", "fastrnn.demos"},
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
    """The statements that an import of the module runs, those within `if` and `try` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for block in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, block, [])
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements(inner)


def imports(path, names):
    """The package's modules that a file imports when it is imported itself."""
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


def test_no_module_imports_itself_by_way_of_others(graph):
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle


# ---- C -------------------------------------------------------------------------------------------

# What the files of a folder of csrc may include.
FOLDERS = {
    ".": set(),
    "internal": {".", "internal"},
    "kernels": {"internal", "kernels"},
    "isa": {"kernels"},
    "system": {"internal", "system"},
    "forward": {"internal", "forward"},
    "backward": {"internal", "forward", "backward"},
}
# Of which folders they may call functions: the kernels are reached through a table of addresses,
# which dispatch.c chooses.
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
    """The names that a file defines, and those that it takes from others."""
    command = [*compiler, "-std=gnu11", "-O0", "-Icsrc", "-c", path, "-o", target]
    subprocess.run(command, cwd=ROOT, check=True)
    listed = subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout
    pairs = [line.split()[-2:] for line in listed.splitlines()]
    pairs = [(kind, name.removeprefix("_")) for kind, name in pairs]  # which macOS puts there
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
            continue  # a table each, whose name says so
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
