"""Stories of two people and the cities in which they live, made by a rule from a generator's draws.

Each of the two lives in a city. Then there are up to three sentences: somebody moves to another
city, which is a new home; or visits one, which is not; or has a profession. At last comes the
question where one of them lives. So the answer is often not the city that was named last.

It must not know: networks.
"""

from typing import NamedTuple

import numpy as np

from fastrnn.train import Vocabulary, pad

PEOPLE = ("Ada", "Ben")
CITIES = ("Delhi", "Lima", "Oslo", "Paris", "Rome", "Tokyo")
PROFESSIONS = ("doctor", "teacher", "painter")
MOST_SENTENCES = 3  # after the first two
OTHERS = "lives in moves to visits is a . where does live ?".split()
WORDS = tuple(sorted({*PEOPLE, *CITIES, *PROFESSIONS, *OTHERS}))
VOCABULARY = Vocabulary(WORDS)


class Story(NamedTuple):
    """words : with the question. person : of the question. home : the answer, a city."""

    words: tuple[str, ...]
    person: str
    home: str


def drawn(rng):
    """A story from the draws of a generator."""
    words, home = [], {}
    for person in rng.permutation(PEOPLE).tolist():
        home[person] = CITIES[rng.integers(len(CITIES))]
        words += [person, "lives", "in", home[person], "."]
    for _ in range(rng.integers(MOST_SENTENCES + 1)):
        person = PEOPLE[rng.integers(2)]
        city = rng.choice([city for city in CITIES if city != home[person]]).item()
        kind = rng.integers(3)
        if kind == 0:
            home[person] = city
            words += [person, "moves", "to", city, "."]
        elif kind == 1:
            words += [person, "visits", city, "."]
        else:
            words += [person, "is", "a", PROFESSIONS[rng.integers(len(PROFESSIONS))], "."]
    person = PEOPLE[rng.integers(2)]
    words += ["where", "does", person, "live", "?"]
    return Story(tuple(words), person, home[person])


def split(count, held_out, rng):
    """Stories to train on, and `held_out` others for validation and as many for the test.

    Most short stories are among those to train on, so the others are longer, and harder.
    """
    train = [drawn(rng) for _ in range(count)]
    known, others = {story.words for story in train}, {}
    while len(others) < 2 * held_out:
        story = drawn(rng)
        if story.words not in known:
            others[story.words] = story
    others = list(others.values())
    return train, others[:held_out], others[held_out:]


class Batch(NamedTuple):
    """ids (T, B), any beyond a story's end; lengths (B,); answers (B,), indices of cities."""

    ids: np.ndarray
    lengths: np.ndarray
    answers: np.ndarray

    @classmethod
    def of(cls, stories):
        ids, lengths = pad([VOCABULARY.encode(story.words) for story in stories])
        return cls(ids, lengths, np.array([CITIES.index(story.home) for story in stories]))

    def rows(self, index):
        """Some of the stories."""
        lengths = self.lengths[index]
        return Batch(self.ids[: lengths.max(), index], lengths, self.answers[index])


def last_city(story):
    """The city that the story names last."""
    return next(word for word in story.words[::-1] if word in CITIES)


def last_city_of_the_person(story):
    """The city that is named last in a sentence about the person of the question."""
    sentences = " ".join(story.words).split(" . ")[:-1]
    about = [sentence.split() for sentence in sentences if sentence.startswith(story.person)]
    return next(words[-1] for words in about[::-1] if words[-1] in CITIES)
