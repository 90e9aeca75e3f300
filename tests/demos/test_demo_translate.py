"""The translation demo: forms of dates, gradients through the state, greedy decoding, report."""

import sys
from datetime import date, timedelta

import numpy as np
import pytest

from fastrnn.__main__ import main
from fastrnn.demos import translate
from fastrnn.demos.translate import FORMS, OUTPUT, START, STEPS, Pairs

pytestmark = pytest.mark.any_isa


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small(monkeypatch):
    """A smaller net and fewer pairs, to be quick."""
    for name, value in {"HIDDEN": 16, "PAIRS": 640, "LINEAR_PAIRS": 300, "HELD_OUT": 50}.items():
        monkeypatch.setattr(translate, name, value)


def iso(ids):
    return ["".join(OUTPUT[i] for i in column) for column in ids.T]


# --- the dates ---


def test_a_day_is_written_in_every_form():
    written = {form: translate.written(date(1984, 3, 3), form, 4) for form in FORMS}
    assert written == {
        "in full": "Saturday, 3 March 1984",
        "short": "Sat 3 Mar 1984",
        "American": "March 3, 1984",
        "ordinal": "the 3rd of March '84",
        "slashes": "3/3/84",
        "Roman": "3.III.1984",
        "packed": "03Mar84",
        "day of the year": "day 063 of 1984",
        "days after": "4 days after 28 February 1984",
        "days before": "4 days before 7 March 1984",
    }


def test_ordinals_end_as_they_do_in_english():
    days = [date(2000, 1, n) for n in range(1, 32)]
    ordinals = [translate.written(day, "ordinal", 2).split()[1] for day in days]
    assert ordinals[:4] == ["1st", "2nd", "3rd", "4th"] and ordinals[30] == "31st"
    assert (
        ordinals[10:13] == ["11th", "12th", "13th"] and ordinals[20:23] == "21st 22nd 23rd".split()
    )


def test_two_digits_say_the_year():
    years = {day.year for day in translate.DAYS}
    assert len(years) == len({year % 100 for year in years}) == 100
    assert translate.DAYS[-1] == date(2068, 12, 31)


def test_days_from_another_one_are_from_2_to_7_and_right(rng):
    days = translate.DAYS[400:600]
    for form, sign in (("days after", 1), ("days before", -1)):
        away = set()
        for day, text in zip(days, Pairs(days, [form] * len(days), rng).texts, strict=True):
            other = day - sign * timedelta(int(text[0]))
            assert text[1:] == f" {form} {other.day} {other:%B %Y}"
            away.add(text[0])
        assert away == {*"234567"}


def test_pairs_are_ids_of_characters(rng):
    pairs = Pairs([date(1984, 3, 3), date(2009, 10, 20)], ["slashes", "in full"], rng)
    assert pairs.lengths.tolist() == [6, 24] and pairs.source.shape == (24, 2)
    for b, text in enumerate(pairs.texts):
        assert bytes(pairs.source[: len(text), b].tolist()).decode() == text
        assert not pairs.source[len(text) :, b].any()
    assert pairs.target.shape == (STEPS, 2) and iso(pairs.target) == ["1984-03-03", "2009-10-20"]


def test_no_day_is_in_two_parts_of_the_split(rng):
    train, validation, test = map(set, translate.split(rng))
    assert len(validation) == len(test) == translate.HELD_OUT
    assert len(train) + len(validation) + len(test) == len(train | validation | test)


def test_an_exact_match_is_one_of_all_characters(rng):
    pairs = Pairs(translate.DAYS[:4], ["slashes"] * 4, rng)
    result = pairs.target.copy()
    result[3, 0] += 1
    assert pairs.exact(result) == 0.75 and pairs.exact(pairs.target) == 1


# --- the model and its rival ---


@pytest.mark.parametrize("cell", translate.LAYERS)
def test_gradients_are_those_of_the_loss(cell, small, rng):
    model = translate.Translator(cell, rng)
    pairs = Pairs.drawn(translate.DAYS, 8, rng)
    _, gradients = model.loss_and_gradients(pairs)
    for part, gradient in zip(model.parts, gradients, strict=True):
        way, kept, losses = rng.normal(size=part.flat.shape).astype("f4"), part.flat.copy(), []
        for step in (1e-3, -1e-3):
            part.flat[...] = kept + np.float32(step) * way
            losses.append(model.loss_and_gradients(pairs)[0])
        part.flat[...] = kept
        # float32 differences: enough to catch a wrong factor, sign or term
        slope = np.subtract(*losses) / 2e-3
        np.testing.assert_allclose(np.vdot(gradient, way), slope, rtol=0.03, atol=1e-4)


@pytest.mark.parametrize("cell", translate.LAYERS)
def test_greedy_decoding_reads_what_it_wrote(cell, small, rng):
    model, pairs = translate.Translator(cell, rng), Pairs.drawn(translate.DAYS, 20, rng)
    model.encoder.flat *= 3  # so that texts get different answers
    result = model.translate(pairs)
    _, state = model.encoder(pairs.source, lengths=pairs.lengths, one_hot=True)
    read = np.concatenate([np.full((1, 20), START), result[:-1]])
    y, _ = model.decoder(read, state, one_hot=True)  # all steps at once, on the written ids
    assert np.array_equal(result, model.head(y).argmax(axis=2))
    assert result.shape == (STEPS, 20) and len(set(iso(result))) > 1


def test_a_translation_depends_on_no_other_text(small, rng):
    model, pairs = translate.Translator("gru", rng), Pairs.drawn(translate.DAYS, 20, rng)
    model.encoder.flat *= 3
    longer = Pairs.drawn(translate.DAYS, 20, rng)
    longer.texts, longer.lengths = pairs.texts, pairs.lengths
    longer.source = np.pad(pairs.source, ((0, 9), (0, 0)), constant_values=65)
    assert np.array_equal(model.translate(pairs), model.translate(longer))


def test_gates_keep_the_state_at_first(small, rng):
    for cell, gate in (("gru", 1), ("lstm", 1)):  # r z n, i f g o
        for layer in translate.Translator(cell, rng).parts[:2]:
            bias = layer.params["bias_ih_l0"].reshape(-1, translate.HIDDEN)
            assert bias[gate].mean() > 1.5 and np.abs(np.delete(bias, gate, 0)).max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_net_learns_a_form(cell, monkeypatch, rng):
    monkeypatch.setattr(translate, "HIDDEN", 32)
    monkeypatch.setattr(translate, "PAIRS", 6400)
    monkeypatch.setattr(translate, "FORMS", {"months": "{day:%y%m}"})
    train, validation, test = translate.split(rng)
    months = {day.replace(day=1) for day in train}
    validation = Pairs.drawn([d.replace(day=1) for d in validation], 200, rng)
    model, history = translate.learn(cell, sorted(months), validation, 6, rng)
    assert history.loss[-1] < 0.2 * history.loss[0] and history.best_epoch > 1
    assert validation.exact(model.translate(validation)) > 0.3  # of 1200 months


def test_the_linear_model_translates_what_it_has_seen(rng):
    pairs = Pairs.drawn(translate.DAYS, 300, rng)
    linear = translate.Linear(pairs)
    assert pairs.exact(linear.translate(pairs)) > 0.9
    other = Pairs.drawn(translate.DAYS, 300, rng)
    assert linear.translate(other).shape == other.target.shape
    assert (linear.translate(other) == other.target).mean() > 0.7


# --- the command line ---


def test_demo_reports_the_net_beside_its_rival(tmp_path, capsys, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "translate", "--epochs", "1", "--cell", "lstm"]) == 0
    out = capsys.readouterr().out
    for said in ("linear model of n-grams", "rewritten", "computed", "epoch 1 of 1", "packed"):
        assert said in out
    assert "does not beat" in out  # after one epoch
    assert ("\npicture: " in out) == (tmp_path / "translate.png").exists()


def test_without_matplotlib_there_is_no_picture(tmp_path, capsys, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "x.png"
    assert main(["demo", "translate", "--epochs", "1", "--out", str(path)]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out and not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_net_beats_the_linear_model(cell, rng):
    days, validation, test = translate.split(rng)
    validation, test = (Pairs.drawn(part, 1000, rng) for part in (validation, test))
    model, _ = translate.learn(cell, days, validation, translate.EPOCHS, rng)
    linear = translate.Linear(Pairs.drawn(days, translate.LINEAR_PAIRS, rng))
    fraction, rival = (test.exact(each.translate(test)) for each in (model, linear))
    assert fraction > rival + 0.03
