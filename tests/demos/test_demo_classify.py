"""The text classification demo: its texts, the split, gradients, ragged batches, report."""

import ast
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn.__main__ import main
from fastrnn.demos import classify, conditions
from fastrnn.demos.conditions import AGAIN, Text

pytestmark = pytest.mark.any_isa


@pytest.fixture(scope="module")
def library():
    return conditions.read_library(np.random.default_rng(0))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Some texts of some modules, to be quick: reading all of the library takes seconds."""
    folder = tmp_path_factory.mktemp("library")
    for path in sorted(conditions.LIBRARY.glob("*.py"))[::3]:
        (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "LIBRARY", folder)
        library = conditions.read_library(np.random.default_rng(0))
    return [[*texts[:20], *texts[-20:]] for texts in library]


@pytest.fixture
def small(packages, monkeypatch):
    """The demo on some of the texts, with a smaller net."""
    monkeypatch.setattr(classify, "read_library", lambda rng: packages)
    monkeypatch.setattr(classify, "HIDDEN", 8)


def text(*words, negated=False, package="p"):
    return Text(package, "", words, negated)


# --- the texts ---


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("not x", ("x", True)),
        ("x", ("x", False)),
        ("f(x)", ("f(x)", False)),
        ("x is not None", ("x is None", True)),
        ("x is None", ("x is None", False)),
        ("x != 1", ("x == 1", True)),
        ("x == 1", ("x == 1", False)),
        ("x not in y", ("x in y", True)),
        ("x in y", ("x in y", False)),
        ("x < y", None),
        ("x == y == z", None),
        ("x and not y", None),
    ],
)
def test_the_negation_of_a_condition_is_cut_out(condition, expected):
    found = conditions.without_negation(ast.parse(condition, mode="eval").body)
    assert (found and (ast.unparse(found[0]), found[1])) == expected


def test_words_are_names_signs_and_lines_with_names_that_come_again_marked():
    branch = "path = self.cwd('here')  # path\n        return None"
    words = conditions.words_of("self.path is None", branch)
    assert words == (
        "self", ".", AGAIN, "is", "None", ":", AGAIN, "=", "self", ".", "cwd", "(", '""', ")",
        "\n", "return", "None",
    )  # fmt: skip


def test_a_text_never_has_its_own_negation():
    source = "if not a: b = a\n\x0c\nif x is not None:\n    # c\n    return x\nelse:\n    y = 2\n"
    one, other = conditions.texts_of("p", source)
    assert one == ("p", "if not a: b = a", (AGAIN, ":", "b", "=", AGAIN), True)
    assert other.shown == "if x is not None: return x"
    words = (AGAIN, "is", "None", ":", "return", AGAIN, "\n", "else", ":", "\n", "y", "=", "2")
    assert other.words == words and other.negated


def test_long_texts_are_cut():
    (long,) = conditions.texts_of("p", "if a:\n" + "    b()\n" * 100)
    assert len(long.words) == conditions.WORDS


@pytest.mark.slow
def test_the_library_has_thousands_of_texts_half_of_them_negated(library):
    assert sum(map(len, library)) > 5000
    assert len(library[0]) >= len(library[1]) >= len(library[2])
    for texts in library:
        assert 2 * sum(t.negated for t in texts) == len(texts)
        assert len({t.package for t in texts}) <= 1


@pytest.mark.slow
def test_packages_and_copies_are_held_out(library):
    train, *others = classify.split(library)
    seen, copies = {t.package for t in train}, {t.words for t in train}
    for texts in others:
        assert texts and not seen & {t.package for t in texts}
        assert not copies & {t.words for t in texts}
    assert not {t.package for t in others[0]} & {t.package for t in others[1]}


def test_a_word_of_few_packages_is_unknown():
    texts = [text("if", "rare", "rare", "rare", package=f"p{i}") for i in range(2)]
    vocabulary = classify.vocabulary_of([*texts, text("if", package="other")])
    assert vocabulary == {"if": 1}
    batch = classify.Batch.of([text("rare", "if", negated=True), text("if")], vocabulary)
    assert batch.ids.tolist() == [[0, 1], [1, 0]] and batch.lengths.tolist() == [2, 1]
    assert batch.classes.tolist() == [1, 0]


# --- the model and its rival ---


@pytest.mark.parametrize("cell", classify.LAYERS)
def test_gradients_are_those_of_the_loss(cell, small):
    rng = np.random.default_rng(3)
    model = classify.Classifier(cell, 5, rng)
    texts = [text(*rng.choice([*"abcd"], n), negated=n % 2 == 0) for n in (3, 7, 1, 4)]
    batch = classify.Batch.of(texts, {w: i for i, w in enumerate("abcd", 1)})
    _, gradients = model.loss_and_gradients(batch)
    for part, gradient in zip(model.parts, gradients, strict=True):
        way, kept, losses = rng.normal(size=part.flat.shape).astype("f4"), part.flat.copy(), []
        for step in (1e-3, -1e-3):
            part.flat[...] = kept + np.float32(step) * way
            losses.append(model.loss_and_gradients(batch)[0])
        part.flat[...] = kept
        # float32 differences: enough to catch a wrong factor, sign or term
        slope = np.subtract(*losses) / 2e-3
        np.testing.assert_allclose(np.vdot(gradient, way), slope, rtol=0.03, atol=1e-4)


def test_what_a_text_is_taken_for_depends_on_no_other_text(packages, small):
    texts = packages[0]
    vocabulary = classify.vocabulary_of(texts)
    model = classify.Classifier("lstm", len(vocabulary) + 1, np.random.default_rng(0))
    model.layer.flat *= 4  # so that texts get different answers
    batch = classify.Batch.of(texts, vocabulary)
    _, state = model.layer(
        batch.ids, lengths=batch.lengths, embedding=model.embedding.params["weight"]
    )
    logits = model.head(model.layer.last(state))
    model.head.params["bias"][1] -= np.median(logits[:, 1] - logits[:, 0])  # half of them each
    together = model.classify(batch)
    alone = [model.classify(classify.Batch.of([t], vocabulary))[0] for t in texts]
    assert np.array_equal(together, alone) and 0 < together.sum() < len(texts)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_net_learns_what_the_order_of_words_says(cell, small):
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(400):
        words, negated = ["c"] * rng.integers(3, 12), bool(rng.integers(2))
        at = np.sort(rng.choice(len(words), 2, replace=False))
        for place, word in zip(at, "ba" if negated else "ab", strict=True):
            words[place] = word
        texts += [text(*words, negated=negated, package=f"p{i}") for i in range(classify.SPREAD)]
    learned, history = classify.learn(cell, texts[:900], texts[900:], 5, rng)
    assert classify.accuracy(learned(texts[900:]), texts[900:]) > 0.9
    assert len(history.validation) == 5 and history.loss[-1] < history.loss[0]


def test_the_rival_learns_from_words_and_neighbours():
    texts = [text("a", "b", negated=True), text("b", "a"), text("c", "b", negated=True)] * 5
    rival = classify.Logistic(texts, 1e-3)
    assert classify.accuracy(rival.classify(texts), texts) == 1
    new = [text("b", "a", "c"), text("d", "a", "b", negated=True), text("never", "seen")]
    assert rival.classify(new).tolist() == [False, True, False]


# --- the command line ---


def test_demo_reports_the_net_beside_its_rivals(tmp_path, capsys, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "classify", "--epochs", "1", "--cell", "rnn"]) == 0
    out = capsys.readouterr().out
    for said in ("logistic regression", "commoner kind", "epoch 1 of 1", "the net says"):
        assert said in out
    assert "beats the" in out or "does not beat the" in out
    assert ("\npicture: " in out) == (tmp_path / "classify.png").exists()


def test_without_matplotlib_there_is_no_picture(tmp_path, capsys, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(classify, "PENALTIES", (1e-3,))
    path = tmp_path / "x.png"
    with fastrnn.threads(1):
        assert main(["demo", "sentiment", "--epochs", "1", "--out", str(path)]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out and not path.exists()


def test_a_library_without_sources_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(conditions, "LIBRARY", tmp_path)
    assert main(["demo", "classify"]) == 1
    assert "no texts" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_net_beats_the_rival(cell, library):
    train, validation, test = classify.split(library)
    rng = np.random.default_rng(0)
    learned, _ = classify.learn(cell, train, validation, classify.EPOCHS, rng)
    fraction = classify.accuracy(learned(test), test)
    for penalty in classify.PENALTIES:
        rival = classify.Logistic(train, penalty)
        assert fraction > classify.accuracy(rival.classify(test), test)
