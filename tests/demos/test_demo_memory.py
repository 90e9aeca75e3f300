"""The demo of memory: the stories' rule, the baselines, a run, the picture."""

import re

import numpy as np
import pytest

from fastrnn.demos import memory, stories
from fastrnn.demos.stories import CITIES, PEOPLE, WORDS, Batch

pytestmark = pytest.mark.any_isa


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def small(monkeypatch):
    """A task that takes a second."""
    monkeypatch.setattr(memory, "STORIES", 200)
    monkeypatch.setattr(memory, "HELD_OUT", 40)


# ---- stories -------------------------------------------------------------------------------------


def home_by_reading(story):
    """The answer, from the sentences: only "lives in" and "moves to" give a home."""
    text = " ".join(story.words)
    return re.findall(rf"{story.person} (?:lives in|moves to) (\w+)", text)[-1]


def test_the_answer_follows_from_where_the_person_lives_and_moves_to():
    draws = rng()
    for _ in range(300):
        story = stories.drawn(draws)
        assert story.home == home_by_reading(story)
        assert story.person in PEOPLE and story.home in CITIES and set(story.words) <= set(WORDS)
        assert story.words[-5:] == ("where", "does", story.person, "live", "?")


def test_the_city_named_last_is_often_not_the_answer():
    draws = rng()
    told = [stories.drawn(draws) for _ in range(1000)]
    for guess, least, most in (
        (stories.last_city, 0.25, 0.45),
        (stories.last_city_of_the_person, 0.7, 0.9),
    ):
        assert least < np.mean([guess(story) == story.home for story in told]) < most


def test_the_last_cities_of_a_story():
    told = memory.TOLD
    assert told.home == home_by_reading(told) == "Rome"
    assert stories.last_city(told) == "Paris"
    assert stories.last_city_of_the_person(told) == "Rome"
    assert stories.last_city_of_the_person(told._replace(person="Ben")) == "Paris"


def test_no_story_of_the_test_was_trained_on():
    train, validation, test = stories.split(500, 50, rng())
    assert (len(train), len(validation), len(test)) == (500, 50, 50)
    known, held_out = {s.words for s in train}, [s.words for s in validation + test]
    assert not known.intersection(held_out) and len(set(held_out)) == 100


def test_a_batch_has_the_stories_words():
    told = stories.split(20, 2, rng())[0]
    batch = Batch.of(told)
    for b, story in enumerate(told):
        words = tuple(WORDS[i] for i in batch.ids[: batch.lengths[b], b])
        assert words == story.words and CITIES[batch.answers[b]] == story.home
    some = batch.rows([3, 5])
    assert some.ids.shape == (some.lengths.max(), 2) and len(some.answers) == 2


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_are_those_of_the_loss(cell):
    reader, batch = memory.Reader(cell, rng()), Batch.of(stories.split(8, 1, rng())[0])
    loss, gradients = reader.loss_and_gradients(batch)
    direction = [rng(i).standard_normal(g.size).astype("float32") for i, g in enumerate(gradients)]
    for part, d in zip(reader.parts, direction, strict=True):
        part.flat += 1e-3 * d
    after = reader.loss_and_gradients(batch)[0]
    slope = sum(float(g @ d) for g, d in zip(gradients, direction, strict=True))
    assert abs((after - loss) / 1e-3 - slope) < 0.05 * abs(slope) + 1e-2


def test_it_learns_a_few_stories_by_heart():
    told = stories.split(40, 2, rng())[0]
    reader, history = memory.learn("lstm", told, told, 60, rng())
    assert history.loss[-1] < 0.1 and min(history.validation) < 0.05


@pytest.mark.slow
def test_it_answers_stories_that_it_was_not_trained_on():
    draws = rng()
    train, validation, test = stories.split(memory.STORIES, memory.HELD_OUT, draws)
    reader, _ = memory.learn("lstm", train, validation, memory.EPOCHS, draws)
    batch = Batch.of(test)
    assert np.mean(reader.answer(batch) == batch.answers) > 0.98


def test_gates_are_those_of_the_story():
    reader = memory.Reader("lstm", rng())
    assert reader.gates(memory.TOLD)["f"].shape == (1, len(memory.TOLD.words), 1, memory.HIDDEN)


# ---- the command ---------------------------------------------------------------------------------


def test_a_run_prints_accuracies_and_draws(small, tmp_path, capsys):
    from fastrnn.__main__ import main

    path = tmp_path / "memory.png"
    assert main(["demo", "memory", "--epochs", "1", "--out", str(path)]) == 0
    out = capsys.readouterr().out
    assert "right on the test stories" in out and "the city named last" in out
    assert ("\npicture: " in out) == path.exists()


def test_an_rnn_which_has_no_gates_to_draw_is_refused_before_training(capsys):
    from fastrnn.__main__ import main

    with pytest.raises(SystemExit):
        main(["demo", "memory", "--cell", "rnn"])
    assert "--cell: invalid choice: 'rnn'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "memory", "--help"])
    assert "an RNN has no gates to draw" in " ".join(capsys.readouterr().out.split())
