"""The README's figures of speed are those of bench/speed*.json; a new run can take their place."""

import importlib.util
import json
import pathlib
import re
import shutil
from itertools import product

import pytest

from fastrnn.bench import measure, report
from fastrnn.bench.cases import CASES, CELLS, named

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures():
    """bench/readme.py"""
    spec = importlib.util.spec_from_file_location("readme_figures", ROOT / "bench/readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copies(figures, tmp_path, monkeypatch):
    """The same, on copies of what it writes."""
    for path in (*figures.PAGES, *map(figures.file, figures.SECTIONS)):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(figures, "PAGES", [tmp_path / page.name for page in figures.PAGES])
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    return figures


@pytest.fixture
def kept(figures):
    """The files of the runs that the README's figures come from."""
    return {
        group: measure.read(figures.file(group).read_text(encoding="utf-8"))
        for group in figures.SECTIONS
    }


def complete_run():
    """The JSON of a run of everything: fastrnn is ahead but in one job."""
    jobs = []
    for case, cell, threads in product(map(CASES.get, named(["programs"])), CELLS, (1, 2)):
        for mode in case.modes:
            lost = (case.name, cell, mode, threads) == ("seq-512", "gru", "training", 1)
            ours = 1e-3 / threads
            seconds = {"fastrnn": ours, "numpy": 4 * ours, "torch": ours * (0.9 if lost else 2)}
            peers = {
                name: {"status": "ok", "best": s, "median": s, "seconds": [s], "errors": {"y": 0}}
                for name, s in seconds.items()
            }
            peers["jax"] = {"status": "skipped", "reason": "not installed"}
            what = {"case": case.name, "cell": cell, "mode": mode, "threads": threads}
            jobs.append(what | {"peers": peers, "limit": ours / 2})
    about = {
        "time": "2027-01-02T03:04:05+0000",
        "cpu": "a fast CPU",
        "cores": [1, 0],
        "fastrnn": {"isa": "avx2", "compiler": "gcc 14.2.0"},
        "versions": {"numpy": "2.4.6", "torch": "2.13.0", "jax": "0.10.1", "openvino": None},
        "commit": 40 * "a",
        "uncommitted": False,
    }
    settings = {"threads": [1, 2], "rounds": 3, "batch": 0.015}
    machine = {"peak": 1e11, "reads": {"16384": 2e11}}
    found = {"about": about, "settings": settings, "probes": {"1": machine}, "jobs": jobs}
    return found | {"geometric_means": report.means(jobs, "best")}


def sections(page):
    """Name -> text, of the parts of a page that a run gives."""
    found = re.findall(r"<!-- speed: ([\w-]+) -->\n(.*?)\n<!-- speed -->", page, re.DOTALL)
    return dict(found)


def test_the_pages_have_the_figures_of_the_files(figures, kept):
    shown = set()
    for path in figures.PAGES:
        page = path.read_text(encoding="utf-8")
        shown |= sections(page).keys()
        for found in kept.values():
            assert figures.filled(page, found) == page, "run python bench/readme.py"
    assert shown == {name for names in figures.SECTIONS.values() for name in names}


def test_a_file_says_where_and_of_what(kept):
    for group, found in kept.items():
        about = found["about"]
        assert re.fullmatch("[0-9a-f]{40}", about["commit"])
        assert about["cpu"] and about["fastrnn"]["isa"] and about["fastrnn"]["compiler"]
        assert {job["case"] for job in found["jobs"]} == set(named([group]))


def test_a_files_means_are_those_of_its_jobs(kept):
    """Of each cell that it has the jobs of."""
    for found in kept.values():
        means = report.means(found["jobs"], "best")
        names = [name for name in means if name.count(",") == 2 and "best peer" in means[name]]
        assert names
        for name in names:
            wanted = found["geometric_means"][name]["best peer"]
            assert means[name]["best peer"] == pytest.approx(wanted, abs=0.005)


def test_a_new_run_takes_the_place_of_the_old_one(copies, tmp_path):
    pytest.importorskip("matplotlib")
    run, path = complete_run(), tmp_path / "run.json"
    path.write_text(json.dumps(run))
    assert copies.main(["--record", str(path)]) == 0
    file = copies.file("programs")
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads(file.read_text())
    assert kept["about"] == run["about"] and len(kept["jobs"]) == len(run["jobs"])
    assert "errors" not in file.read_text()
    page = copies.PAGES[0].read_text(encoding="utf-8")
    new = sections(page)
    begin = "Measured at commit aaaaaaa on 2027-01-02, on 2 cores of a fast CPU"
    assert new["machine"].replace("\n", " ").startswith(begin)
    assert "PyTorch 2.13.0 and JAX 0.10.1, by" in new["machine"].replace("\n", " ")
    assert new["lstm"].splitlines()[4].endswith("| 1 ms | 4.00 | 2.00 | 1 ms | 4.00 | 2.00 |")
    assert new["means"].splitlines()[2] == "| LSTM | 2.00 | 2.00 | 2.00 | 2.00 | 50% | 50% |"
    assert new["behind"].endswith("at one thread in seq-512 gru training 0.90.")
    assert copies.main([]) == 0 and copies.PAGES[0].read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run["about"].update(commit=None), "it names no commit"),
        (lambda run: run["jobs"].pop(), "not all cases, cells and modes"),
        (lambda run: run["probes"].clear(), "limits were not measured"),
        (lambda run: run["jobs"][0].update(group="audio"), "the jobs of one group"),
    ],
)
def test_a_run_without_all_of_it_is_refused(copies, change, message, tmp_path, capsys):
    run, path = complete_run(), tmp_path / "run.json"
    change(run)
    path.write_text(json.dumps(run))
    before = copies.PAGES[0].read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        copies.main(["--record", str(path)])
    assert message in capsys.readouterr().err
    assert copies.PAGES[0].read_text(encoding="utf-8") == before
    assert not copies.file("programs").with_suffix(".png").exists()
