"""The files that say which Pythons are supported agree, and so do those that pin a package.

Such files are for pip, cibuildwheel, GitHub, scripts and readers; none of them can read another.
"""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = [
    pytest.mark.no_kernels,
    pytest.mark.any_isa,
    pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout"),
]

PYTHON = r"3\.\d+t?"
CLASSIFIER = "Programming Language :: Python :: "


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads(text("pyproject.toml"))


@pytest.fixture(scope="module")
def wheels(pyproject):
    """The Pythons that cibuildwheel builds for, as "3.11" or "3.14t", without the lock."""
    builds = pyproject["tool"]["cibuildwheel"]["build"].split()
    return [re.fullmatch(r"cp3(\d+t?)-\*", build).expand(r"3.\1") for build in builds]


@pytest.fixture(scope="module")
def locked(wheels):
    """Those with the lock, from the oldest to the newest."""
    return sorted({python.rstrip("t") for python in wheels}, key=minor)


@pytest.fixture(scope="module")
def unlocked(wheels):
    return [python for python in wheels if python.endswith("t")]


def minor(python):
    return int(python.rstrip("t").removeprefix("3."))


def pythons_in(name, pattern):
    """The versions of Python at `{}` in the pattern, for each match in the file."""
    found = re.findall(pattern.replace("{}", f"({PYTHON})"), text(name))
    assert found, f"{name} has nothing like {pattern}"
    return found


# ---- Python --------------------------------------------------------------------------------------


def test_each_python_has_a_wheel_with_the_lock_and_none_is_left_out(wheels, locked):
    assert set(locked) <= set(wheels)
    assert [minor(python) for python in locked] == list(
        range(minor(locked[0]), minor(locked[-1]) + 1)
    )


def test_pip_takes_the_pythons_of_the_wheels(pyproject, locked):
    project = pyproject["project"]
    names = [name.removeprefix(CLASSIFIER) for name in project["classifiers"]]
    assert project["requires-python"] == f">={locked[0]}"
    assert [name for name in names if re.fullmatch(PYTHON, name)] == locked


def test_the_script_builds_for_the_same_pythons(wheels):
    (listed,) = re.findall(r"\$\{PYTHONS:-(.*?)\}", text(".ci/wheels"))
    assert listed.split() == wheels


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_readers_are_told_the_oldest(name, locked):
    assert set(pythons_in(name, "Python {} or later")) == {locked[0]}


@pytest.mark.parametrize("name", ["docs/versions.md", "docs/wheels.md"])
def test_pages_name_the_oldest_the_newest_and_those_without_the_lock(name, locked, unlocked):
    assert pythons_in(name, "{} to {}") == [(locked[0], locked[-1])]
    (without,) = pythons_in(name, "{} and {} without the lock")
    assert [python + "t" for python in without] == unlocked


def test_workflows_test_the_oldest_the_newest_and_one_without_the_lock(wheels, locked, unlocked):
    lines = re.findall(
        r"^ *-? *python(?:-version)?: (.*)", text(".github/workflows/test.yml"), re.M
    )
    tested = {python for line in lines for python in re.findall(PYTHON, line)}
    assert tested <= set(wheels)
    assert {locked[0], locked[-1]} <= tested
    assert tested & set(unlocked)


@pytest.mark.parametrize(
    "name", [".readthedocs.yaml", ".github/workflows/site.yml", ".github/workflows/wheels.yml"]
)
def test_services_use_a_python_that_is_supported(name, wheels):
    assert set(pythons_in(name, '"{}"')) <= set(wheels)


# ---- pinned packages -----------------------------------------------------------------------------


def test_a_package_is_pinned_to_one_version():
    files = ["pyproject.toml", ".ci/run", ".ci/wheels"]
    files += [str(path.relative_to(ROOT)) for path in ROOT.glob(".github/workflows/*.yml")]
    pins = {}
    for name in files:
        for package, version in re.findall(r"([\w.-]+)(?:\[\w+\])?==(\d[\w.]*)", text(name)):
            pins.setdefault(package, {}).setdefault(version, []).append(name)
    assert len(pins["ziglang"]) == 1, pins["ziglang"]
    assert {package: found for package, found in pins.items() if len(found) > 1} == {}
