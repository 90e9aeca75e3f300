"""The README's examples run as they stand."""

import pytest
import readme
from problems import assert_same_bits

import fastrnn

pytestmark = pytest.mark.any_isa


def run(name):
    """The names that a program of the README leaves."""
    names = {}
    exec(readme.program(name), names)
    return names


def test_every_example_is_in_a_program():
    numbers = {number for numbers in readme.PROGRAMS.values() for number in numbers}
    assert numbers == set(range(len(readme.examples())))


def test_the_example_of_inference_training_and_streaming_runs():
    names = run("inference")
    assert names["y"].shape == (500, 8, 128)
    assert abs(names["grads"].flat).max() > 0
    assert abs(names["out"]).max() > 0
    assert names["y_next"].shape == (4, 8, 128)
    assert names["y_more"].shape == (500, 8, 128)


def test_the_example_of_ragged_batches_and_ids_goes_on_from_there():
    names = run("ragged")
    assert names["grads"].embedding.shape == (10_000, 40)
    assert names["norms"]["c"].shape == (1, 500)
    assert names["gates"]["f"].shape == (1, 500, 8, 128)


def test_the_example_of_a_training_loop_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("training")
    assert names["history"].loss[-1] < 0.01  # a forecast that is always the mean has 0.5
    trained, adam = names["layer"].flat.copy(), names["adam"].state()
    names["layer"].flat[...] = 0
    fastrnn.train.load("sine.npz", names["parts"], names["adam"])
    assert_same_bits(names["layer"].flat, trained)
    assert_same_bits(names["adam"].state(), adam)


def test_the_example_of_weight_files_loads_what_it_saves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("weights")
    assert repr(names["encoder"]) == repr(names["layers"]["encoder"])
    assert_same_bits(names["decoder"].flat, names["layers"]["decoder"].flat)
    assert_same_bits(names["f_matrix"], names["gates"]["f"][0])
