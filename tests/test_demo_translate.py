"""The translating demo: dates, their forms, held-out days, and a net that learns to write them."""

from datetime import date

import numpy as np
import pytest
from problems import assert_close

from fastrnn.__main__ import main
from fastrnn.demos import translate
from fastrnn.demos.translate import FORMS, Pairs, Translator, split, written


def pairs(count=20, seed=0):
    return Pairs.drawn(translate.DAYS, count, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "form, text",
    [
        ("in full", "Saturday, 3 March 1984"),
        ("American", "March 3, 1984"),
        ("ordinal", "the 3rd of March '84"),
        ("slashes", "3/3/84"),
        ("Roman", "3.III.1984"),
        ("day of the year", "day 063 of 1984"),
        ("days after", "4 days after 28 February 1984"),
        ("days before", "4 days before 7 March 1984"),
    ],
)
def test_a_day_is_written_as_people_write_it(form, text):
    assert written(date(1984, 3, 3), form, 4) == text


def test_eleventh_twelfth_and_thirteenth_are_exceptions():
    days = [date(2000, 1, d) for d in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)]
    endings = [written(day, "ordinal", 2).split()[1] for day in days]
    assert endings == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 31st".split()


def test_no_day_of_the_test_is_trained_on():
    days, validation, test = (set(part) for part in split(np.random.default_rng(0)))
    assert len(days | validation | test) == len(translate.DAYS) == len(days) + 2 * len(test)


def test_ids_are_the_characters_and_lengths_say_where_they_end():
    some = pairs()
    for b, text in enumerate(some.texts):
        assert bytes(some.source[: some.lengths[b], b].tolist()).decode() == text
        assert not some.source[some.lengths[b] :, b].any()
    assert some.exact(some.target) == 1 and some.exact(some.target * 0) == 0


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_go_through_the_decoder_into_the_encoder(cell):
    """Along a random direction of each part's parameters, against a difference of losses."""
    model, some = Translator(cell, np.random.default_rng(0)), pairs()
    rng = np.random.default_rng(1)
    _, gradients = model.loss_and_gradients(some)
    for part, gradient in zip(model.parts, gradients, strict=True):
        kept, along = part.flat.copy(), rng.standard_normal(part.flat.size).astype("float32")
        losses = []
        for step in (2e-3, -2e-3):
            part.flat[...] = kept + np.float32(step) * along / np.linalg.norm(along)
            losses.append(model.loss_and_gradients(some)[0])
        part.flat[...] = kept
        difference = (losses[0] - losses[1]) / 4e-3
        wanted = float(np.vdot(gradient, along) / np.linalg.norm(along))
        assert abs(difference - wanted) < 0.02 * max(abs(wanted), 0.01)


def test_greedy_decoding_is_the_decoder_fed_with_its_own_answers():
    model, some = Translator("lstm", np.random.default_rng(0)), pairs()
    result = model.translate(some)
    _, state = model.encoder(some.source, lengths=some.lengths)
    read = np.roll(result, 1, axis=0)
    read[0] = translate.START
    y, _ = model.decoder(read, state)
    logits = model.head(y)
    chosen = np.take_along_axis(logits, result[..., None], axis=2)[..., 0]
    assert_close(chosen, logits.max(axis=2), "float32")


def test_the_linear_rival_knows_days_it_has_seen():
    some = pairs(100)
    assert translate.Linear(some).translate(some).shape == some.target.shape
    assert (translate.Linear(some).translate(some) == some.target).mean() > 0.95


def test_the_demo_runs_and_says_how_it_went(capsys, monkeypatch, tmp_path):
    for name, value in (("PAIRS", 256), ("LINEAR_PAIRS", 200), ("HELD_OUT", 50)):
        monkeypatch.setattr(translate, name, value)
    arguments = ["demo", "translate", "--epochs", "2", "--out", str(tmp_path / "t.png")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for words in ("dates in 10 forms", "from the test days", "linear model of n-grams"):
        assert words in printed
    assert list(FORMS)[0] in printed


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_net_beats_the_linear_model(capsys, tmp_path, seed):
    assert main(["demo", "translate", "--seed", seed, "--out", str(tmp_path / "t.png")]) == 0
    assert "decoder beats the linear model" in capsys.readouterr().out
