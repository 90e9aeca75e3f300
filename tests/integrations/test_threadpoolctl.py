"""threadpoolctl lists fastrnn's threads and limits them."""

import os
import shutil
import sys
import types

import pytest
from problems import run_python

import fastrnn
from fastrnn._engine import runtime, threadpool

threadpoolctl = pytest.importorskip("threadpoolctl")

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(runtime.core is None, reason="without kernels there are no threads"),
    pytest.mark.usefixtures("keep_threads"),
]


@pytest.fixture(autouse=True)
def _registered():
    fastrnn.register_threadpoolctl()
    fastrnn.set_num_threads(3)


def listed():
    return [entry for entry in threadpoolctl.threadpool_info() if entry["user_api"] == "fastrnn"]


def test_it_is_listed_once_with_version_threads_and_instruction_set():
    fastrnn.register_threadpoolctl()  # once more
    (entry,) = listed()
    assert entry["version"] == fastrnn.__version__
    assert entry["num_threads"] == 3
    assert entry["architecture"] == runtime.core.isa()
    assert os.path.samefile(entry["filepath"], runtime.core.__file__)


def test_a_limit_holds_in_its_block_and_is_lifted_behind_it():
    with threadpoolctl.threadpool_limits(1):
        assert fastrnn.get_num_threads() == 1
        assert fastrnn.show_config()["threads from"] == "threadpoolctl"
        with fastrnn.threads(2):
            assert fastrnn.get_num_threads() == 2
    assert fastrnn.get_num_threads() == 3


def test_a_limit_of_its_own_and_of_others():
    with threadpoolctl.threadpool_limits({"fastrnn": 2}):
        assert fastrnn.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(2, user_api="fastrnn"):
        assert fastrnn.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert fastrnn.get_num_threads() == 3


def test_a_block_of_threads_is_not_taken_for_the_process_number():
    with fastrnn.threads(2), threadpoolctl.threadpool_limits(1):
        assert fastrnn.get_num_threads() == 2
    assert fastrnn.get_num_threads() == 3


def test_a_limit_above_all_threads_is_none():
    with threadpoolctl.threadpool_limits(1000):
        assert fastrnn.get_num_threads() == 256


def test_a_module_of_the_same_name_is_not_taken_for_it(tmp_path):
    """Other packages call their compiled module _core too."""
    other = tmp_path / os.path.basename(runtime.core.__file__)
    shutil.copy(runtime.core.__file__, other)
    code = f"""
import ctypes, threadpoolctl
ctypes.CDLL({str(other)!r})
import fastrnn
print(*[i["filepath"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "fastrnn"])
"""
    done = run_python(code)
    assert done.stdout.strip() == os.path.realpath(runtime.core.__file__), done.stderr


@pytest.mark.parametrize("first, listed", [("threadpoolctl", 1), ("sys", 0)])
def test_what_is_imported_before_is_registered_at_import(first, listed):
    code = f"""
import {first}, fastrnn, sys
assert ("threadpoolctl" in sys.modules) is {first == "threadpoolctl"}  # it costs nothing unused
import threadpoolctl
print([i["internal_api"] for i in threadpoolctl.threadpool_info()].count("fastrnn"))
"""
    done = run_python(code)
    assert done.stdout.strip() == str(listed), done.stderr


def test_without_kernels_nothing_is_registered(monkeypatch):
    monkeypatch.setattr(threadpool, "_registered", False)
    monkeypatch.setattr(runtime, "core", None)
    fastrnn.register_threadpoolctl()
    assert not threadpool._registered


def test_without_threadpoolctl_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(ModuleNotFoundError, match="needs threadpoolctl: pip install threadpoolctl"):
        threadpool.register_threadpoolctl()


def test_a_threadpoolctl_that_cannot_register_is_refused_by_its_version(monkeypatch):
    old = types.ModuleType("threadpoolctl")
    old.__version__ = "3.1.0"
    monkeypatch.setitem(sys.modules, "threadpoolctl", old)
    with pytest.raises(ImportError, match="threadpoolctl must be 3.2 or later, got 3.1.0: pip"):
        threadpool.register_threadpoolctl()
