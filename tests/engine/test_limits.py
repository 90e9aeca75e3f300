"""The number of threads at import: environment variables, cores, quotas of containers."""

import os
import sys

import pytest
from problems import run_python

import fastrnn
from fastrnn._engine import limits
from fastrnn._engine.limits import limit_of_process, quota_of_groups

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that gives this process eight cores and a control group with a quota, or none."""

    def make(quota):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        monkeypatch.setattr(limits, "quota_of_groups", lambda: quota)

    make(None)
    return make


# ---- OMP_NUM_THREADS -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, threads",
    [("4", 4), ("4,2", 4), (" 4 , 2,1", 4), ("04", 4), ("+4", 4), ("20", 20), ("300", 256)],
)
def test_the_first_number_of_omp_num_threads_counts(machine, text, threads):
    assert limit_of_process(256, {"OMP_NUM_THREADS": text}) == (threads, "OMP_NUM_THREADS")


@pytest.mark.parametrize(
    "text", ["many", "0", "-2", "+-2", "+", "0,4", ",4", "1e3", "4.0", "\u0664", "9" * 50]
)
def test_an_omp_num_threads_without_a_number_is_ignored_and_named(machine, text):
    threads, source = limit_of_process(256, {"OMP_NUM_THREADS": text})
    assert threads == 8
    assert source == f"cores of the process (OMP_NUM_THREADS={text[:20]!r} is ignored)"


@pytest.mark.parametrize("environment", [{}, {"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": " "}])
def test_without_it_the_cores_count(machine, environment):
    assert limit_of_process(256, environment) == (8, "cores of the process")
    assert limit_of_process(4, environment) == (4, "cores of the process")


@pytest.mark.parametrize(
    "own, omp, printed",
    [
        ("3", "5", "3 FASTRNN_NUM_THREADS"),
        ("", "5,2", "5 OMP_NUM_THREADS"),
        ("", "many", "(OMP_NUM_THREADS='many' is ignored)"),
    ],
)
def test_an_import_reads_both_variables_and_warns_of_neither(own, omp, printed):
    code = "import fastrnn as f; print(f.get_num_threads(), f.show_config()['threads from'])"
    done = run_python(code, FASTRNN_NUM_THREADS=own, OMP_NUM_THREADS=omp, PYTHONWARNINGS="error")
    assert done.stdout.strip().endswith(printed), done.stderr


def test_the_configuration_says_who_set_the_number_last(keep_threads, capsys):
    fastrnn.set_num_threads(2)
    assert fastrnn.show_config()["threads from"] == "set_num_threads"
    with fastrnn.threads(3):
        assert fastrnn.show_config()["threads from"] == "a threads block"
    assert "threads from: set_num_threads" in capsys.readouterr().out


# ---- quotas --------------------------------------------------------------------------------------


class Groups:
    """A folder of control groups, and the file that names those of the process."""

    def __init__(self, folder):
        self.mounted, self.own = folder / "cgroup", folder / "self"

    def write(self, name, text):
        path = self.mounted / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def write_v1(self, folder, quota, period=100000):
        self.write(f"{folder}/cpu.cfs_quota_us", str(quota))
        self.write(f"{folder}/cpu.cfs_period_us", str(period))

    def quota(self, *own):
        """The quota where the process is in these groups."""
        self.own.write_text("".join(f"{line}\n" for line in own))
        return quota_of_groups(str(self.mounted), str(self.own))


@pytest.fixture
def groups(tmp_path):
    return Groups(tmp_path)


@pytest.mark.parametrize(
    "text, cores",
    [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("max 100000", None)],
)
def test_a_quota_is_rounded_up_to_whole_cores(groups, text, cores):
    groups.write("cpu.max", text)
    assert groups.quota("0::/") == cores


def test_the_least_quota_above_the_process_counts(groups):
    groups.write("cpu.max", "max 100000")
    groups.write("user.slice/cpu.max", "300000 100000")
    groups.write("user.slice/job/cpu.max", "700000 100000")
    groups.write("other/cpu.max", "100000 100000")
    assert groups.quota("0::/user.slice/job/inner") == 3


def test_a_container_has_its_quota_at_the_root(groups):
    """Its file of groups may have the paths that they have outside of the container."""
    groups.write("cpu.max", "200000 100000")
    assert groups.quota("0::/docker/4e1b") == 2
    assert groups.quota("0::/../../user.slice") == 2


def test_version_1_has_its_quota_in_two_files(groups):
    own = "4:memory:/docker/4e1b", "3:cpu,cpuacct:/docker/4e1b", "1:name=systemd:/docker/4e1b"
    groups.write_v1("cpu", -1)
    assert groups.quota(*own) is None
    groups.write_v1("cpu/docker/4e1b", 50000, 25000)
    assert groups.quota(*own) == 2
    groups.write_v1("cpu", 100000)
    assert groups.quota(*own) == 1
    groups.write_v1("memory/docker/4e1b", 10000)  # of no controller that has to do with cores
    assert groups.quota("4:memory:/docker/4e1b") == 1


@pytest.mark.parametrize(
    "text", ["", "200000", "-1 100000", "2 0", "a b", "1 2 3", "\x00\xff", "9" * 5000 + " 1"]
)
def test_a_file_of_another_form_is_no_quota(groups, text):
    groups.write("cpu.max", text)
    assert groups.quota("0::/", text, "0:cpu") is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has control groups")
def test_a_groups_name_may_be_any_bytes_in_any_locale(groups):
    name = b"\xe6\x97\xa5\xff"
    folder = os.fsencode(groups.mounted) + b"/" + name
    os.makedirs(folder)
    with open(folder + b"/cpu.max", "wb") as file:
        file.write(b"300000 100000")
    groups.own.write_bytes(b"0::/" + name + b"\n1:cpu:/no\0file\n")
    given = str(groups.mounted), str(groups.own)
    code = f"from fastrnn._engine import limits; print(limits.quota_of_groups(*{given}))"
    done = run_python(code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")  # ASCII
    assert done.stdout == "3\n", done.stderr
    assert quota_of_groups(*given) == 3


def test_a_machine_without_control_groups_has_no_quota(tmp_path):
    assert quota_of_groups(str(tmp_path / "none"), str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    "quota, limit",
    [(2, (2, "quota of the control group")), (8, (8, "cores of the process")), (64, (8, None))],
)
def test_a_quota_below_the_cores_counts(machine, quota, limit):
    machine(quota)
    found = limit_of_process(256, {})
    assert found.threads == limit[0]
    assert limit[1] in (None, found.source)
