"""Rounding weights: to the nearest number of the precision, ties to even."""

import numpy as np
import pytest

from fastrnn.reference.precision import to_bfloat16

pytestmark = pytest.mark.any_isa


def numbers():
    """float32 numbers of every kind, with those between two bfloat16 and next to that."""
    rng = np.random.default_rng(0)
    upper = rng.integers(0, 1 << 16, 4000, np.uint32) << np.uint32(16)
    lower = np.uint32([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_nearest_is_taken_and_of_two_the_even_one():
    x = numbers()
    x = x[np.isfinite(x)]
    got = to_bfloat16(x)
    bits = got.view(np.uint32)
    assert not (bits & 0xFFFF).any()
    below = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    above = (below.view(np.uint32) + np.uint32(0x10000)).view(np.float32)
    # In float64 all of these are exact, but for the step beyond the largest bfloat16.
    beyond = np.where(np.isinf(above), np.sign(x.astype(float)) * 2.0**128, above.astype(float))
    down, up = abs(x.astype(float) - below), abs(x.astype(float) - beyond)
    even = bits >> 16 & 1 == 0
    assert (got == np.where(down < up, below, np.where(up < down, above, got))).all()
    assert even[down == up].all()


def test_what_is_no_number_stays_so():
    odd = np.float32([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0])
    odd = np.append(odd, np.uint32([0x7F800001, 0xFF80FFFF]).view(np.float32))
    got = to_bfloat16(odd)
    assert (np.isnan(got) == np.isnan(odd)).all()
    assert (got[2:6] == odd[2:6]).all() and (np.signbit(got[4:6]) == np.signbit(odd[4:6])).all()


def test_it_is_pytorchs_bfloat16():
    torch = pytest.importorskip("torch")
    x = numbers()
    got, wanted = to_bfloat16(x), torch.from_numpy(x.copy()).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(got, wanted)
