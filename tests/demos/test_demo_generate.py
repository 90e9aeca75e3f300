"""The demo of a character model: its text, its training and its sample."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastrnn
from fastrnn.__main__ import main
from fastrnn.demos import generate

pytestmark = pytest.mark.any_isa


@pytest.fixture
def small(monkeypatch):
    """Few topics and few units."""
    words = "the value of a name is an object".split()
    rng = np.random.default_rng(0)
    topics = {f"topic {i}": " ".join(rng.choice(words, 300)) for i in range(9)}
    monkeypatch.setattr(generate, "HIDDEN", 24)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", SimpleNamespace(topics=topics))
    return generate.Corpus(topics)


def test_a_paragraph_stands_in_one_topic_alone():
    texts = generate.once({"b": "one\n\n  two\n words\n\nthree", "a": "\ntwo words\n\nfour\n"})
    assert texts == {"a": "two words\n\nfour\n\n", "b": "one\n\nthree\n\n"}


def test_every_eighth_topic_is_judged_and_the_others_are_trained_on():
    corpus = generate.Corpus({f"{i:02}": f"topic {i:02}" for i in range(20)})
    texts = [corpus.decode(ids) for ids in (corpus.train, corpus.validation)]
    assert texts[1] == "".join(f"topic {i:02}\n\n" for i in (0, 8, 16))
    assert texts[0] == "".join(f"topic {i:02}\n\n" for i in range(20) if i % 8)
    assert corpus.encode(texts[0]).tolist() == corpus.train.tolist()
    assert corpus.alphabet == "".join(sorted(set("topic 0123456789\n")))


def test_pythons_own_topics_make_a_corpus_of_some_hundred_thousand_characters():
    topics = pytest.importorskip("pydoc_data.topics").topics
    corpus = generate.Corpus(topics)
    assert len(corpus.train) > 200_000 and len(corpus.validation) > 10_000
    assert len(corpus.alphabet) ** (max(generate.ORDERS) + 1) <= 2**63


def test_rows_go_on_where_the_step_before_ended():
    ids = np.arange(1000)
    x, target = generate.side_by_side(ids, np.random.default_rng(0))
    assert x.shape == target.shape == (999 // generate.BATCH, generate.BATCH)
    assert np.array_equal(target[:-1], x[1:])
    assert np.array_equal(target, (x + 1) % 1000)


def test_gradients_are_those_of_the_loss(small):
    rng = np.random.default_rng(3)
    model = generate.Model("gru", len(small.alphabet), rng)
    ids, target = small.train[:30].reshape(3, 10).T, small.train[1:31].reshape(3, 10).T
    (window,) = fastrnn.tbptt(model.layer, model.one_hot[ids], 10)
    _, gradients = model.loss_and_gradients(window, target)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        way = rng.normal(size=parameter.shape).astype(np.float32)
        losses = []
        for step in (1e-3, -1e-3):
            kept = parameter.copy()
            parameter += np.float32(step) * way
            (window,) = fastrnn.tbptt(model.layer, model.one_hot[ids], 10)
            losses.append(model.loss_and_gradients(window, target)[0])
            parameter[...] = kept
        # float32 differences: enough to catch a wrong factor, sign or term
        np.testing.assert_allclose(np.vdot(gradient, way), np.subtract(*losses) / 2e-3, rtol=0.03)


def test_bits_of_a_model_that_knows_nothing_are_those_of_the_alphabet(small):
    model = generate.Model("lstm", len(small.alphabet), np.random.default_rng(0))
    model.head.flat[...] = 0
    np.testing.assert_allclose(model.bits(small.validation), np.log2(len(small.alphabet)))


def test_a_sample_at_a_low_temperature_takes_the_likeliest_each_time(small):
    model = generate.Model("gru", len(small.alphabet), np.random.default_rng(0))
    start = small.encode("the ")
    drawn = model.sample(start, 20, 1e-6, np.random.default_rng(1))
    text = np.concatenate([start, drawn])
    y, _ = model.layer(model.one_hot[text[:, None]])
    likeliest = model.head(y[:, 0]).argmax(axis=-1)
    assert drawn == likeliest[len(start) - 1 : -1].tolist()


def test_a_sample_follows_the_softmax(small):
    model = generate.Model("gru", len(small.alphabet), np.random.default_rng(0))
    model.head.flat[...] = 0
    model.head.params["bias"][:2] = np.log(3), np.log(2)
    drawn = model.sample(small.encode("a"), 4000, 1.0, np.random.default_rng(1))
    total = 3 + 2 + len(small.alphabet) - 2
    np.testing.assert_allclose(np.bincount(drawn)[:2] / 4000, [3 / total, 2 / total], rtol=0.1)


def test_training_beats_the_frequencies(small):
    model, curve, seconds = generate.train("gru", small, 5, seed=0)
    assert curve[-1][1] == model.bits(small.validation) and len(curve) == 5 and seconds > 0
    assert curve[-1][1] < 0.8 * generate.baselines(small)["n-grams, order 0"]


def test_baselines_are_n_grams_and_packing_programs(small, monkeypatch):
    bits = generate.baselines(small)
    assert bits["n-grams, order 4"] < bits["n-grams, order 0"] < np.log2(len(small.alphabet))
    monkeypatch.setitem(sys.modules, "lzma", None)  # some builds of Python lack it
    assert "lzma" in bits and set(bits) - set(generate.baselines(small)) == {"lzma"}


@pytest.mark.slow
def test_the_demo_as_it_is_run_beats_every_n_gram_model():
    corpus = generate.Corpus(pytest.importorskip("pydoc_data.topics").topics)
    _, curve, _ = generate.train("gru", corpus, generate.EPOCHS, 0)
    grams = [bits for name, bits in generate.baselines(corpus).items() if "grams" in name]
    assert curve[-1][1] < min(grams)


def test_the_command_tells_bits_and_prints_a_sample(small, tmp_path, capsys):
    path = tmp_path / "there.png"
    assert main(["demo", "generate", "--quick", "--cell", "rnn", "--out", str(path)]) == 0
    out = capsys.readouterr().out
    for text in ("bits per character", "n-grams, order 6", "the RNN does not beat", "a sample"):
        assert text in out
    assert ("\npicture: " in out) == path.exists()


def test_without_the_text_it_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert main(["demo", "generate"]) == 1
    assert "without pydoc_data" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "warm", "nan", "inf"])
def test_a_temperature_is_a_number_above_0(text, capsys):
    with pytest.raises(SystemExit):
        main(["demo", "generate", "--temperature", text])
    assert f"must be a number above 0, got '{text}'" in capsys.readouterr().err
