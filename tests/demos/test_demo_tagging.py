"""The demo of tagging: the tags of source code, the files, training and report."""

import sysconfig

import numpy as np
import pytest

from fastrnn.__main__ import main
from fastrnn.demos import tagging

pytestmark = pytest.mark.any_isa

LETTERS_OF_KINDS = " #skn0o"
SOURCE = '''\
"""Doc
if."""
x = 0x1F if y else f"a{y}b"  # why
s = 'it' \\
    + "s"
'''
TAGS = """\
ssssss
ssssss
n o 0000 kk n kkkk ssssssss  #####
n o ssss  |
    o sss
"""


def drawn_tags(source):
    letters = (LETTERS_OF_KINDS[tag] for tag in tagging.tags_of(source))
    return "".join("\n" if c == "\n" else t for c, t in zip(source, letters, strict=True))


@pytest.fixture
def folder(tmp_path):
    for i in range(20):
        tmp_path.joinpath(f"{i:02}.py").write_text(SOURCE.replace("x", f"é{i}") * 80, "utf-8")
    tmp_path.joinpath("small.py").write_text("x = 1")
    tmp_path.joinpath("other.txt").write_text("if" * 5000)
    return tmp_path


def test_each_character_has_the_kind_of_its_token():
    assert drawn_tags(SOURCE).splitlines() == [line.rstrip("|") for line in TAGS.splitlines()]


def test_source_without_a_last_line_end_has_as_many_tags_as_characters():
    for source, expected in (("", ""), ("a", "n"), ("if a:\n  b", "kk no\n  n")):
        assert drawn_tags(source) == expected


def test_files_of_a_fitting_size_are_taken_in_order_and_every_eighth_is_judged(folder):
    files, judged = tagging.read(folder)
    assert [f.name for f in judged] == ["00.py", "08.py", "16.py"]
    assert len(files) == 17 and files[0].name == "01.py"
    assert all(len(f.source) == len(f.ids) == len(f.tags) for f in files + judged)
    assert chr(files[0].ids[0]) == '"' and files[0].ids.max() == 127  # é


def test_the_standard_library_is_enough():
    files, judged = tagging.read(sysconfig.get_path("stdlib"))
    ids, tags = tagging.joined(judged)
    assert len(files) > 50 and len(judged) > 7
    assert set(tags) == set(range(len(tagging.KINDS)))
    assert ids.min() >= 0 and ids.max() < tagging.LETTERS


def test_gradients_are_those_of_the_loss(folder):
    rng = np.random.default_rng(3)
    model = tagging.Tagger("gru", rng)
    ids, tags = (a[:60].reshape(4, 15).T for a in tagging.joined(tagging.read(folder)[0]))
    _, gradients = model.loss_and_gradients(ids, tags)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        way = rng.normal(size=parameter.shape).astype(np.float32)
        losses = []
        for step in (1e-3, -1e-3):
            kept = parameter.copy()
            parameter += np.float32(step) * way
            losses.append(model.loss_and_gradients(ids, tags)[0])
            parameter[...] = kept
        # float32 differences: enough to catch a wrong factor, sign or term
        np.testing.assert_allclose(np.vdot(gradient, way), np.subtract(*losses) / 2e-3, rtol=0.03)


def test_a_tagger_reads_from_both_ends():
    model = tagging.Tagger("lstm", np.random.default_rng(0))
    ids = np.arange(30)
    logits = []
    for changed in (ids, np.append(ids[:-1], 99)):
        y, _ = model.layer(model.embedding(changed[:, None]))
        logits.append(model.head(y[:, 0]))
    assert not np.array_equal(logits[0][0], logits[1][0])
    assert model(ids).shape == (30,) and model(ids).max() < len(tagging.KINDS)


def test_training_beats_counting(folder, monkeypatch):
    monkeypatch.setattr(tagging, "UPDATES", 60)
    monkeypatch.setattr(tagging, "WINDOW", 40)
    files, judged = tagging.read(folder)
    model, losses, seconds = tagging.train("gru", files, 1, seed=0)
    ids, tags = tagging.joined(judged)
    *_, widest = tagging.baselines(tagging.joined(files), ids).values()
    assert np.mean(model(ids) == tags) > np.mean(widest == tags) > 0.5
    assert len(losses) == 1 and seconds > 0


@pytest.mark.slow
def test_the_demo_as_it_is_run_tags_almost_all_characters():
    files, judged = tagging.read(sysconfig.get_path("stdlib"))
    model, _, _ = tagging.train("gru", files, tagging.EPOCHS, seed=0)
    right = [model(f.ids) == f.tags for f in judged]
    assert np.mean(np.concatenate(right)) > 0.98


def test_the_file_shown_is_the_median_by_the_nets_tags(folder):
    files = tagging.read(folder)[0][:3]
    net = [f.tags.copy() for f in files]
    for tags, spoilt in zip(net, (900, 90, 400), strict=True):
        tags[:spoilt] = 0
    predicted = {"net": np.concatenate(net), "counting": np.concatenate([f.tags for f in files])}
    file, tags = tagging.piece(files, predicted)
    assert file is files[2]
    assert np.array_equal(tags["net"], net[2]) and np.array_equal(tags["counting"], file.tags)


def test_the_command_tells_accuracies_by_kind(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: folder)
    monkeypatch.setattr(tagging, "UPDATES", 2)
    path = tmp_path / "there.png"
    assert main(["demo", "tagging", "--quick", "--cell", "rnn", "--out", str(path)]) == 0
    out = capsys.readouterr().out
    for text in ("right tags", "windows of 9", "keyword", "the RNN does not beat"):
        assert text in out
    assert ("\npicture: " in out) == path.exists()


def test_without_the_sources_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: tmp_path)
    assert main(["demo", "tagging"]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error and "installed with its .py files" in error
