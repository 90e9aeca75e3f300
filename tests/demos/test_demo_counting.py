"""The models that count symbols: Kneser-Ney n-grams and the most frequent tag."""

import numpy as np
import pytest

from fastrnn.demos import counting

pytestmark = pytest.mark.no_kernels

LETTERS = 5


@pytest.fixture
def text():
    rng = np.random.default_rng(0)
    return np.cumsum(rng.integers(0, 2, 60)) % 4  # without 4


def probability(text, judged, order):
    """The probability of all symbols of `judged` after the first one."""
    bits = counting.bits(text, np.array(judged), LETTERS, order, 0.75)
    return 2 ** -(bits * (len(judged) - 1))


@pytest.mark.parametrize("context", [(0, 1), (3, 2), (4, 4)])
def test_probabilities_add_up_to_one_after_seen_and_unseen_contexts(text, context):
    for order in range(3):
        before = probability(text, context, order)
        after = [probability(text, [*context, s], order) / before for s in range(LETTERS)]
        assert min(after) > 0
        np.testing.assert_allclose(sum(after), 1, rtol=1e-9)


def test_order_0_is_the_frequency_less_the_discount(text):
    often = np.bincount(text, minlength=LETTERS)
    saved = 0.75 * np.count_nonzero(often) / len(text)
    for s in range(LETTERS):
        expected = max(often[s] - 0.75, 0) / len(text) + saved / LETTERS
        np.testing.assert_allclose(probability(text, [0, s], 0), expected, rtol=1e-9)


def test_lower_orders_ask_after_how_many_symbols_one_came():
    text = np.array([0, 1, 0, 1, 0, 1, 2, 3])  # 1 is frequent, but only after 0
    discount, before = 0.75, {0: 1, 1: 1, 2: 1, 3: 1}
    total = sum(before.values())
    unigram = (before[1] - discount) / total + discount * 4 / total / LETTERS
    np.testing.assert_allclose(probability(text, [4, 1], 1), unigram, rtol=1e-9)  # 4 is unknown


def test_a_longer_look_back_tells_a_regular_text_better():
    text = np.tile([0, 1, 0, 2, 0, 3], 50)
    bits = [counting.bits(text, text, LETTERS, order, 0.75) for order in range(3)]
    assert bits[0] > bits[1] + 0.3 and bits[1] > bits[2] + 0.3


def test_tags_are_the_most_frequent_of_a_symbol_and_its_neighbours():
    known = np.array([1, 2, 1, 3, 1, 2, 4, 2])
    tags = np.array([0, 1, 0, 0, 0, 1, 0, 2])
    alone, with_neighbours = counting.tags(known, tags, np.array([1, 2, 4, 2, 2]), LETTERS, 1)
    assert alone.tolist() == [0, 1, 0, 1, 1]
    # The first four windows are known; 2 after 2 is unknown, and gets the tag of 2 alone.
    assert with_neighbours.tolist() == [0, 1, 0, 1, 1]
    assert counting.tags(known, tags, np.array([4, 2]), LETTERS, 1)[1].tolist() == [0, 2]


def test_windows_may_fill_63_bits():
    ids = np.full(20, 127)
    assert counting.tags(ids, ids % 2, ids, 128, 4)[-1].tolist() == [1] * 20
