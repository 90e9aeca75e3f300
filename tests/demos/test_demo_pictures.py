"""Parts of the demos' pictures: names at the ends of lines, epochs, percent."""

import numpy as np
import pytest

from fastrnn.demos import pictures
from fastrnn.plot import _figures

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]


@pytest.fixture
def axes():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(6, 4)).subplots()


def places(axes):
    """Label -> where its text stands, in fractions of the axes' height."""
    return {text.get_text(): text.get_position()[1] for text in axes.texts}


def test_each_line_has_its_label_at_its_end(axes):
    axes.plot([0, 1, 2], [0, 5, 1], label="low")
    axes.plot([0, 1], [0, 10], label="high")
    axes.plot([0, 1], [3, 3])  # without a label
    axes.set_ylim(0, 10)
    pictures.label_ends(axes)
    assert places(axes) == {"low": pytest.approx(0.1), "high": pytest.approx(1)}
    assert all(text.get_position()[0] > 1 for text in axes.texts)  # outside: over no curve
    assert axes.get_legend() is None


def test_labels_of_lines_that_lie_on_one_another_are_moved_apart(axes):
    for name in "abc":
        axes.semilogy([0, 1], [1, 10], label=name)
    axes.set_ylim(1, 100)
    pictures.label_ends(axes)
    found = places(axes)
    assert list(found) == ["a", "b", "c"] and found["b"] == pytest.approx(0.5)
    assert found["b"] - found["a"] > 0.03
    assert found["c"] - found["b"] == pytest.approx(found["b"] - found["a"])


def test_groups_that_meet_are_moved_together():
    assert _figures._apart([0.1, 0.2, 0.9], 0.3) == pytest.approx([0.0, 0.3, 0.9])
    assert _figures._apart([0.0, 0.0, 0.3], 0.2) == pytest.approx([-0.1, 0.1, 0.3])
    assert _figures._apart([0.0, 0.0, 0.25], 0.2) == pytest.approx(
        [0.25 / 3 - 0.2, 0.25 / 3, 0.25 / 3 + 0.2]
    )
    assert _figures._apart([], 0.1) == []


def test_a_line_that_ends_in_nan_has_its_label_at_its_last_number(axes):
    axes.plot([0, 1, 2], [0, 5, np.nan], label="a")
    axes.plot([0, 1, 2], [np.nan] * 3, label="b")
    axes.set_ylim(0, 10)
    pictures.label_ends(axes)
    assert places(axes) == {"a": pytest.approx(0.5)}


@pytest.mark.parametrize("count, ends", [(1, (0, 1)), (8, (1, 8)), (300, (1, 300))])
def test_epochs_are_whole(axes, count, ends):
    axes.plot(np.arange(1, count + 1), np.zeros(count))
    pictures.epochs(axes, count)
    assert axes.get_xlim() == ends and axes.get_xlabel() == "epoch"
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_fractions_are_in_percent(axes):
    axes.plot([0, 1], [0.5, 0.75])
    pictures.percent(axes.yaxis)
    assert axes.yaxis.get_major_formatter()(0.75) == "75 %"
