"""The bench's ways to write a feature in PyTorch give the results of fastrnn's."""

import json
import sys

import pytest

torch = pytest.importorskip("torch")

import fastrnn  # noqa: E402
from fastrnn.__main__ import main  # noqa: E402
from fastrnn.bench.cases import CASES, FEATURES, named  # noqa: E402
from fastrnn.bench.job import disagreement  # noqa: E402
from fastrnn.bench.own_peers import FastRNN  # noqa: E402
from fastrnn.bench.torch_peer import Torch  # noqa: E402

pytestmark = pytest.mark.any_isa


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """A peer sets numbers of threads for good, because it has a process of its own."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda n: None)  # it allows one call
    ours, theirs = fastrnn.get_num_threads(), torch.get_num_threads()
    yield
    fastrnn.set_num_threads(ours)
    torch.set_num_threads(theirs)


def test_every_feature_has_a_case():
    assert {CASES[name].feature for name in named(["features"])} == set(FEATURES)


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("name", named(["features"]))
def test_each_way_agrees(name, cell, mode, core):
    case = CASES[name]
    expected = FastRNN(case, cell, mode, 1).result("frozen" if mode == "forward" else "layer")
    assert ("d.weight_hh_l0" in expected) == (mode == "training")
    peer = Torch(case, cell, mode, 1)
    assert len(peer.variants) == (1 if case.feature == "ids" else 2)
    for variant in peer.variants:
        _, wrong = disagreement(expected, peer.result(variant), case.tolerance(mode))
        assert wrong is None, variant


# ---- fastrnn.torch -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures on Linux only")
@pytest.mark.parametrize("mode", ["forward", "training"])
def test_modules_agree_with_the_reference(mode, core, tmp_path):
    path, numbers = tmp_path / "tiny.json", "--rounds 1 --batch 1e-9 --probe 1e-4"
    cases = "vad-128:torch,lengths-batch-8:torch,reset-rl-batch:torch"
    arguments = f"--cases {cases} --cells lstm --modes {mode} {numbers} --json {path}"
    assert main(["bench", *arguments.split(), "--peers", "fastrnn,module,torch,numpy"]) == 0
    for job in json.loads(path.read_text())["jobs"]:
        assert job["group"] == "torch" and job["checked_against"] == "numpy"
        assert {peer["status"] for peer in job["peers"].values()} == {"ok"}
