"""thinc's array of an LSTM: where each matrix is, without thinc."""

import numpy as np
import pytest
from decorators import every_dtype
from problems import assert_same_bits

from fastrnn import GRU, LSTM, convert

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

I, H = 3, 5  # noqa: E741 - as in all the equations


@every_dtype
@pytest.mark.parametrize("both", [False, True])
def test_each_direction_has_w_x_b_x_w_h_b_h_with_gates_f_i_o_c(both, dtype):
    layer = LSTM(I, H, 2, bidirectional=both, dtype=dtype, rng=0)
    params, at = convert.to_thinc(layer), 0
    assert params.dtype == dtype and params.shape == layer.flat.shape
    for end in [f"_l{n}{way}" for n in (0, 1) for way in ("", "_reverse")[: 1 + both]]:
        for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"):
            i, f, g, o = np.split(layer.params[kind + end], 4)
            own = np.concatenate([f, i, o, g]).ravel()
            assert_same_bits(params[at : at + own.size], own)
            at += own.size
    assert at == params.size
    back = convert.from_thinc(params, I, H, 2, bidirectional=both)
    assert repr(back) == repr(layer)
    assert_same_bits(back.flat, layer.flat)


def test_options_go_to_the_layer():
    params = convert.to_thinc(LSTM(I, H, 2, rng=0))
    layer = convert.from_thinc(params, I, H, 2, batch_first=True, dropout=0.5, rng=3)
    assert layer.batch_first and layer.dropout == 0.5
    assert layer.rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"peephole": True}, ValueError, "thinc's LSTM has no peephole"),
        ({"clip": 2, "zoneout": 0.1}, ValueError, "has no clip, no zoneout"),
        ({"proj_size": 2}, ValueError, "has no proj_size"),
        ({"reverse": True}, ValueError, "has no reverse"),
        ({"bias": False}, ValueError, "has no bias=False"),
        ({"bidirectional": True, "merge": "sum"}, ValueError, "has no merge='sum'"),
        ({"num_layers": 2}, ValueError, r"params must be \(440,\), got \(200,\)"),
        ({"colour": 1}, TypeError, "colour"),
        ({"dtype": "float32"}, TypeError, "dtype follows from the arrays, got 'float32'"),
    ],
)
def test_layers_that_thinc_does_not_have_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        convert.from_thinc(np.zeros(4 * H * (I + H + 2)), I, H, **options)
    if error is ValueError and "num_layers" not in options:
        with pytest.raises(error, match=words):
            convert.to_thinc(LSTM(I, H, **options))


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match="params must be an array of float32 or float64, got"):
        convert.from_thinc(np.zeros(200, int), I, H)
    with pytest.raises(ValueError, match=r"params must be \(200,\), got \(2, 100\)"):
        convert.from_thinc(np.zeros((2, 100)), I, H)
    with pytest.raises(TypeError, match="must be an LSTM, got Frozen: use the layer that was fr"):
        convert.to_thinc(LSTM(2, 3).freeze())
    with pytest.raises(TypeError, match="layer must be an LSTM, got GRU"):
        convert.to_thinc(GRU(I, H))
