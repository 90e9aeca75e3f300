"""The pictures: what is drawn, and the words on the axes."""

import numpy as np
import pytest
from problems import layer_of

from fastrnn import plot

pytestmark = pytest.mark.any_isa

WORDS = "Ada lives in Oslo .".split()
T, B = len(WORDS), 3


@pytest.fixture(autouse=True)
def pyplot():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def run(cell="lstm", state=False, **rows):
    """y, gates and tape of a layer, forward and reverse, that begins with zeros or ones."""
    layer = layer_of(cell, 3, 4, bidirectional=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, 3)).astype("float32")
    first = tuple(np.ones((2, B, 4), "float32") for _ in layer._structure.cell.states)
    first = (first if len(first) > 1 else first[0]) if state else None
    y, _, tape = layer.forward(x, first, **rows)
    return y, tape.gates(), tape


def texts(ticks):
    return [tick.get_text() for tick in ticks]


def panels(figure):
    return [axes for axes in figure.axes if axes.get_images()]


# ---- memory --------------------------------------------------------------------------------------


def test_the_picture_of_memory_has_words_on_both_axes():
    _, gates, _ = run()
    (axes, _) = plot.memory(gates, WORDS, row=1).axes
    assert texts(axes.get_xticklabels()) == texts(axes.get_yticklabels()) == WORDS
    assert "c after this step" in axes.get_xlabel() and "written" in axes.get_ylabel()
    drawn = axes.get_images()[0].get_array()
    np.testing.assert_allclose(drawn.filled(0), 100 * plot.memory_of(gates, 1).shares[:-1])


@pytest.mark.parametrize("layer, place", [(0, -1), (1, T)])
def test_the_initial_state_has_a_row_of_its_own_before_the_first_step(layer, place):
    _, gates, _ = run(state=True)
    axes = plot.memory(gates, WORDS, layer=layer, share=False).axes[0]
    names = dict(zip(axes.get_yticks(), texts(axes.get_yticklabels()), strict=True))
    assert names[place] == "initial state" and names[0] == "Ada"
    assert sorted(axes.get_ylim()) == [min(place, 0) - 0.5, max(place, T - 1) + 0.5]
    drawn = axes.get_images()[0].get_array().filled(0)
    sizes = plot.memory_of(gates, layer=layer).sizes
    np.testing.assert_allclose(drawn[-1 if layer else 0], sizes[-1])
    np.testing.assert_allclose(drawn[:-1] if layer else drawn[1:], sizes[:-1])


def test_squares_of_five_percent_and_more_have_their_number():
    shares = 100 * plot.memory_of(run()[1]).shares
    axes = plot.memory(run()[1]).axes[0]
    drawn = {(text.get_position()[::-1], text.get_text()) for text in axes.texts}
    wanted = {((s, t), f"{shares[s, t]:.0f}") for s, t in np.argwhere(shares >= 5)}
    assert drawn == wanted
    assert not plot.memory(run()[1], share=False).axes[0].texts


def test_a_row_is_drawn_up_to_its_length():
    _, gates, _ = run(lengths=[T, 2, 0])
    for words in (WORDS, WORDS[:2]):
        axes = plot.memory(gates, words, row=1).axes[0]
        assert texts(axes.get_xticklabels()) == WORDS[:2]
        axes = panels(plot.gates(gates, row=1, labels=words))[0]
        assert axes.get_images()[0].get_array().shape == (4, 2)
    for draw in (plot.gates, plot.memory):
        with pytest.raises(ValueError, match="at least one step, got one of length 0"):
            draw(gates, row=2)
    with pytest.raises(ValueError, match="2 in all or, with those of the padding, 5, got 3"):
        plot.memory(gates, WORDS[:3], row=1)


def test_memory_draws_into_axes_that_it_is_given(pyplot):
    figure, axes = pyplot.subplots(1, 2)
    assert plot.memory(run()[1], axes=axes[1]) is figure
    assert axes[1].get_images() and not axes[0].get_images()


def test_of_many_steps_some_have_words():
    half = np.full((1, 150, 1, 1), 0.5)
    axes = plot.memory({"z": half, "n": half}, [str(t) for t in range(150)]).axes[0]
    assert texts(axes.get_xticklabels()) == [str(t) for t in range(0, 150, 3)]
    axes = plot.memory({"z": half, "n": half}).axes[0]
    assert texts(axes.get_xticklabels()) == [str(t) for t in range(0, 150, 20)]


# ---- gates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, titles",
    [
        ("lstm", ["input gate i", "forget gate f", "candidate g", "output gate o", "cell state c"]),
        ("gru_after", ["reset gate r", "update gate z", "candidate n"]),
        ("min_lstm", ["forget gate f", "input gate i", "candidate n"]),
    ],
)
def test_each_gate_has_a_panel_with_its_name(cell, titles):
    _, gates, _ = run(cell)
    figure = plot.gates(gates, row=1, layer=1, labels=WORDS)
    assert [axes.get_title() for axes in panels(figure)] == titles
    assert texts(panels(figure)[-1].get_xticklabels()) == WORDS
    for axes, array in zip(panels(figure), gates.values(), strict=True):
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), array[1, :, 1].T)


def test_gates_have_colours_from_0_to_1_and_signed_ones_around_0():
    _, gates, _ = run("lstm")
    gates = {name: 3 * array if name == "c" else array for name, array in gates.items()}
    largest = np.abs(gates["c"][0, :, 0]).max()
    assert largest > 1
    limits = [axes.get_images()[0].get_clim() for axes in panels(plot.gates(gates))]
    assert limits == [(0, 1), (0, 1), (-1, 1), (0, 1), (-largest, largest)]


def test_an_rnn_has_no_gates_to_draw():
    with pytest.raises(ValueError, match="an RNN has no gates"):
        plot.gates({})


# ---- gradients -----------------------------------------------------------------------------------


def test_a_gradient_has_a_line_for_each_pass_and_state():
    y, _, tape = run()
    norms = tape.gradient_norms(np.ones_like(y))
    axes = plot.gradient_flow(norms).axes[0]
    assert len(axes.lines) == 4 and axes.get_yscale() == "log"
    axes = plot.gradient_flow({"lstm": norms, "again": norms}).axes[0]
    assert len(axes.lines) == 8


def test_one_line_needs_no_axis_of_passes():
    assert drawn_names(plot.gradient_flow({"h": np.arange(1.0, 6)})) == ["dh"]


def test_lines_that_are_added_to_the_axes_have_their_names_once(pyplot):
    figure, axes = pyplot.subplots()
    for network in ("A", "B", "_C"):
        plot.gradient_flow({network: {"h": np.ones(5)}}, axes)
    assert sorted(drawn_names(figure)) == ["A dh", "B dh", "_C dh"]


def drawn_names(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("draw", [plot.gates, plot.memory])
def test_words_are_no_formulas(draw):
    _, gates, _ = run()
    words = ["$", "$$", "$_$", r"$\no$", "a$b$c"]  # the second to fourth are no formulas
    figure = draw(gates, labels=words)
    figure.canvas.draw()
    axes = figure.axes[0] if draw is plot.memory else panels(figure)[-1]
    assert texts(axes.get_xticklabels()) == words


def test_names_of_networks_are_no_formulas():
    plot.gradient_flow({"$_$": {"h": np.ones(5)}}).canvas.draw()


@pytest.mark.parametrize("draw", [plot.gates, plot.memory, plot.gradient_flow])
@pytest.mark.parametrize("value", [None, np.ones((1, 5, 1, 4)), ("y", "state", {})], ids=type)
def test_what_is_no_dict_is_refused(draw, value):
    name = "norms" if draw is plot.gradient_flow else "values"
    with pytest.raises(TypeError, match=f"{name} must be a dict.* got {type(value).__name__}"):
        draw(value)


def test_an_empty_dict_has_no_line():
    with pytest.raises(ValueError, match="norms must have at least one line"):
        plot.gradient_flow({})


@pytest.mark.parametrize(
    ("norms", "error", "message"),
    [
        ({"rnn": {}}, ValueError, "norms must have at least one line to draw, got empty dicts"),
        ({"h": np.ones((1, 0))}, ValueError, r"got h of shape \(1, 0\)"),
        ({"gru": {"h": np.ones((2, 1, 5))}}, ValueError, r"got gru h of shape \(2, 1, 5\)"),
        ({"h": [[-1.0]]}, ValueError, "numbers from 0, got h of negative numbers"),
        ({"h": [[1j]]}, TypeError, "norms must be arrays of numbers, got h of dtype complex128"),
        ({"h": None}, TypeError, "got h of dtype object: give what tape.gradient_norms returns"),
        ({"h": [1.0], "gru": {"h": np.ones(3)}}, TypeError, "gru of norms must be one array"),
        ({"h": np.ma.masked_equal([1.0, 2.0], 2)}, TypeError, "h of norms .* without a mask"),
    ],
    ids=str,
)
def test_what_are_no_norms_is_refused_before_anything_is_drawn(norms, error, message, pyplot):
    with pytest.raises(error, match=message):
        plot.gradient_flow(norms)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("draw", [plot.memory, plot.gradient_flow])
def test_what_are_no_axes_is_refused_by_name(draw, pyplot):
    given = run()[1] if draw is plot.memory else {"h": np.ones((1, 3))}
    figure, both = pyplot.subplots(1, 2)
    for axes in (figure, both):
        with pytest.raises(TypeError, match="axes must be one of matplotlib's axes"):
            draw(given, axes=axes)


@pytest.mark.parametrize("draw", [plot.memory, plot.gates])
@pytest.mark.parametrize("labels", [set(WORDS), b"Ada..", 5], ids=type)
def test_labels_without_an_order_and_what_are_no_words_are_refused(draw, labels):
    """The order of a set of words is another one in each process."""
    with pytest.raises(TypeError, match="labels must be a list of words, got"):
        draw(run()[1], labels=labels)


def test_a_gradient_of_zero_is_left_out_of_its_line():
    (line,) = plot.gradient_flow({"h": np.array([[0.0, 0.1, 1.0]])}).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.1, 1.0])
