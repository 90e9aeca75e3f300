"""Numba's compiled functions step a stream."""

import numpy as np
import pytest
from pages import blocks
from problems import assert_same_bits

import fastrnn

pytest.importorskip("numba")

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]


def test_the_example_of_the_page():
    names = {}
    for block in (0, 2):
        exec(blocks("c.md", "python")[block], names)
    same = fastrnn.LSTM(40, 128, num_layers=2, rng=0).stream(batch_size=8)
    assert_same_bits(names["y"], same.feed(names["x"]))
    y = np.empty_like(names["y"])
    assert names["run"](names["handle"], names["x"], y) == 0
    assert_same_bits(y, same.feed(names["x"]))
    assert names["run"](names["handle"], names["x"][:, :, :39].copy(), y) == -3
