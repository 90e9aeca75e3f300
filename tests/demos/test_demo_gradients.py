"""The demo of gradients over time: the adding problem, its baselines, and the measured norms."""

import numpy as np
import pytest

from fastrnn.__main__ import main
from fastrnn.demos import gradients

pytestmark = pytest.mark.any_isa


def test_one_number_of_each_half_is_marked():
    x, marked = gradients.sequences(9, 50, np.random.default_rng(0))
    assert x.shape == (9, 50, 2) and x.dtype == np.float32 and marked.shape == (2, 50)
    assert np.array_equal(x[:4, :, 1].sum(axis=0), np.ones(50))
    assert np.array_equal(x[4:, :, 1].sum(axis=0), np.ones(50))
    numbers = (x[..., 0] * x[..., 1]).sum(axis=0)
    np.testing.assert_allclose(numbers, gradients.wanted(marked)[:, 0], rtol=1e-6)


def test_baselines_have_the_errors_of_two_and_of_one_uniform_number():
    _, marked = gradients.sequences(10, 100_000, np.random.default_rng(0))
    errors = [gradients.mse(answer, marked) for answer in gradients.baselines(marked).values()]
    np.testing.assert_allclose(errors, [1 / 6, 1 / 12], rtol=0.02)


@pytest.mark.parametrize("cell", gradients.CELLS)
def test_gradients_are_those_of_the_steps_that_follow(cell):
    model = gradients.Adder(cell, seed=3)
    x, marked = gradients.sequences(8, 5, np.random.default_rng(1))
    target = gradients.wanted(marked)
    fractions = model.gradient_fractions(x, target)
    assert set(fractions) == ({"h", "c"} if cell == "lstm" else {"h"})
    dy = np.zeros((8, 5, gradients.HIDDEN), "float32")
    dy[-1] = model.forward(x, target)[2].x  # the loss depends on the last step alone
    for t in range(7):
        _, state = model.layer(x[: t + 1])
        _, _, tape = model.layer.forward(x[t + 1 :], state)
        dstate = tape.backward(dy[t + 1 :]).state
        if cell == "lstm":
            (h, c), (dstate, dc) = state, dstate
            dc = dc + dstate * h / np.tanh(c) * (1 - np.tanh(c) ** 2)  # through h of the same step
            fraction = np.linalg.norm(dc) / np.linalg.norm(dy[-1])
            np.testing.assert_allclose(fractions["c"][t], fraction, rtol=1e-4)
        fraction = np.linalg.norm(dstate) / np.linalg.norm(dy[-1])
        np.testing.assert_allclose(fractions["h"][t], fraction, rtol=1e-4)
    assert fractions["h"][-1] == 1


def test_untrained_gradients_vanish_and_with_large_weights_explode():
    for cell in gradients.CELLS:
        x, marked = gradients.sequences(60, 20, np.random.default_rng(0))
        fraction = gradients.Adder(cell, 0).gradient_fractions(x, gradients.wanted(marked))["h"]
        assert fraction[0] < 1e-8 and fraction.shape == (60,)
    assert gradients.exploding(60, seed=0)[0] > 100


def test_a_gated_cell_learns_short_sequences():
    result = gradients.train("gru", 20, 5, seed=0)
    assert result.error < 0.5 / 12  # half the least error without the first number
    assert result.after["h"][0] > 1000 * result.before["h"][0]
    assert len(result.losses) == 5 and result.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gated_cells_remember_a_hundred_steps_and_the_rnn_does_not(seed):
    errors = {
        cell: gradients.train(cell, gradients.LENGTH, gradients.EPOCHS, seed).error
        for cell in gradients.CELLS
    }
    assert max(errors["lstm"], errors["gru"]) < 0.01 and errors["rnn"] > 1 / 12


def test_the_command_tells_gradients_errors_and_who_is_beaten(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gradients, "UPDATES", 5)
    path = tmp_path / "there.png"
    arguments = ["demo", "gradients", "--epochs", "1", "--length", "10", "--out", str(path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for text in ("before training", "LSTM, c", "RNN, h, W_hh x 4", "the second number + 0.5"):
        assert text in out
    assert "the RNN does not beat" in out
    assert ("\npicture: " in out) == path.exists()


def test_a_gradient_too_small_for_float32_is_said_to_be():
    assert gradients._power(0.0) == "below float32" and gradients._power(2e-7) == "2.0e-07"


def test_a_sequence_of_one_step_has_no_two_halves(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "gradients", "--length", "1"])
    assert "--length: must be a whole number from 2, got '1'" in capsys.readouterr().err
