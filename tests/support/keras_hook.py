"""A plugin of pytest that lets Keras' NumPy backend compute LSTM and GRU with fastrnn.

Backends of Keras may have functions `lstm` and `gru` for whole sequences. Those of the NumPy
backend raise NotImplementedError, and Keras then computes step by step. This plugin puts functions
of fastrnn there, for Keras' own tests. It is no product: Keras does not tell these functions
`zero_output_for_mask`, so the plugin has to change Keras' layers, too.

The last line of the run is the number of calls that fastrnn computed.
"""

import keras
import numpy as np
from keras.src.backend.numpy import rnn

from fastrnn.keras import Loaded
from fastrnn.keras._recipe import CallOptions, Recipe
from fastrnn.keras._weights import params_of

_NAMES = {
    keras.activations.tanh: "tanh",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "hard_sigmoid",
}
_zero_output, _calls = [False], [0]


def _run(cell, x, states, mask, weights, functions, options, backwards):
    """What a hook returns: the last output, all outputs, the states."""
    activation, gates = (_NAMES.get(function) for function in functions)
    if activation != "tanh" or gates not in ("sigmoid", "hard_sigmoid"):
        raise NotImplementedError
    arrays = [keras.ops.convert_to_numpy(w) for w in weights if w is not None]
    if arrays[0].dtype not in ("float32", "float64"):
        raise NotImplementedError
    options = {"bias": len(arrays) == 3, "recurrent_activation": gates} | options
    call = CallOptions(True, True, backwards, False, _zero_output[-1])
    recipe = Recipe(cell, cell, len(arrays[1]), options, arrays[0].dtype, call)
    layer = recipe.new_layer(len(arrays[0]), arrays[0].dtype)
    for name, array in params_of(recipe, layer, [arrays]).items():
        layer.params[name] = array
    states = [np.asarray(s, arrays[0].dtype) for s in states]
    mask = None if mask is None else np.asarray(mask, bool)
    x = np.asarray(x, arrays[0].dtype)
    y, *states = Loaded(recipe, layer)(x, mask=mask, initial_state=states)
    _calls[0] += 1
    return y[:, -1], y, states


def _lstm(x, h, c, mask, kernel, recurrent_kernel, bias, activation, recurrent_activation,
          return_sequences=False, go_backwards=False, unroll=False):  # fmt: skip
    return _run("lstm", x, [h, c], mask, (kernel, recurrent_kernel, bias),
                (activation, recurrent_activation), {}, go_backwards)  # fmt: skip


def _gru(x, h, mask, kernel, recurrent_kernel, bias, activation, recurrent_activation,
         return_sequences=False, go_backwards=False, unroll=False,
         reset_after=True):  # fmt: skip
    return _run("gru", x, [h], mask, (kernel, recurrent_kernel, bias),
                (activation, recurrent_activation), {"reset_after": reset_after},
                go_backwards)  # fmt: skip


def _telling(inner_loop):
    """The inner loop of a layer, which says `zero_output_for_mask` to the functions above."""

    def loop(self, *arguments, **options):
        _zero_output.append(self.zero_output_for_mask)
        try:
            return inner_loop(self, *arguments, **options)
        finally:
            _zero_output.pop()

    return loop


def pytest_configure():
    # keras.src.backend imported them by name
    for module in (rnn, keras.src.backend, keras.src.backend.numpy):
        module.lstm, module.gru = _lstm, _gru
    for kind in (keras.layers.LSTM, keras.layers.GRU):
        kind.inner_loop = _telling(kind.inner_loop)


def pytest_unconfigure():
    print(f"\ncalls of fastrnn: {_calls[0]}")
