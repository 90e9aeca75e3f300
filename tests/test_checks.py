"""Every refusal by its message: the argument, the expected value, the given one, the likely fix.

Shapes and values raise ValueError, dtypes TypeError; nothing is half-written then.
"""

import re

import numpy as np
import pytest
from decorators import every_backend, every_cell
from problems import (
    CELLS,
    RECURRENT,
    assert_same_bits,
    infer,
    layer_of,
    options_of,
    problem,
    run_python,
    unchanged,
    weight_shapes,
)

import fastrnn
from fastrnn import checks
from fastrnn._engine import runtime

pytestmark = pytest.mark.any_isa

T, B, I, H = 4, 3, 2, 5  # noqa: E741 - as in all the equations


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def huge(*shape):
    """A view of that shape that takes almost no memory."""
    return np.broadcast_to(zeros(1, 1, shape[-1]), shape)


def call(cell, **changes):
    """Call the public function of a cell on zeros, with some arguments changed."""
    arguments = {name: zeros(*shape) for name, shape in arrays_of(cell).items()}
    arguments |= {"state": None, **options_of(CELLS[cell])}
    return getattr(fastrnn, CELLS[cell].function)(**arguments | changes)


def arrays_of(cell):
    """name -> shape of every array of the function but the state."""
    return {"x": (T, B, I), **weight_shapes(CELLS[cell], I, H)}


def each_of(names):
    """Every cell with each of these arguments that its function has."""
    pairs = [(cell, name) for cell in CELLS for name in names if name in arrays_of(cell)]
    return pytest.mark.parametrize("cell, name", pairs)


def refuses(error, *words):
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


# ---- the functions: shapes -----------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("shape", [(), (I,), (T, I), (1, T, B, I)], ids=str)
def test_x_of_another_rank_is_refused(cell, shape):
    with refuses(ValueError, "x must be (T, B, input_size), three axes", f"got {shape}"):
        call(cell, x=zeros(*shape))


@every_cell
def test_for_one_sequence_the_message_says_how(cell):
    with refuses(ValueError, "for one sequence use x[:, None, :]"):
        call(cell, x=zeros(T, I))


@every_cell
def test_x_of_another_input_size_is_refused(cell):
    with refuses(ValueError, "x must be", "input_size = 2", f"got {(T, B, I + 1)}"):
        call(cell, x=zeros(T, B, I + 1))


@every_cell
def test_for_features_on_another_axis_the_message_says_which(cell):
    with refuses(ValueError, f"got {(T, I, B)}: the features are the last axis; swapaxes(1, 2)"):
        call(cell, x=zeros(T, I, B))
    with refuses(ValueError, f"got {(I, T, B)}: the features are the last axis; swapaxes(0, 2)"):
        layer_of(cell, I, H)(zeros(I, T, B))


@every_cell
def test_for_exchanged_axes_the_message_says_which(cell):
    layer, x, exchanged = layer_of(cell, I, H), zeros(T, B, I), "two axes exchanged? swapaxes(0, 1)"
    h = zeros(B, 1, H)
    state, other = ((h, h), (zeros(1, B, H),) * 2) if cell == "lstm" else (h, zeros(1, B, H))
    with refuses(ValueError, f"= {(1, B, H)}, got {(B, 1, H)}: {exchanged} fits"):
        layer(x, state)
    with refuses(ValueError, f"dy must be (T, B, hidden_size) = {(T, B, H)}", exchanged):
        layer.forward(x)[2].backward(zeros(B, T, H))
    with refuses(ValueError, f"got {(1, B, H)}: are batch and time exchanged in x?"):
        layer(zeros(B, T, I), other)
    with refuses(ValueError, f"lengths must be (B,) = ({T},), got ({B},): are batch and time"):
        layer(zeros(B, T, I), lengths=[1] * B)


def test_weights_of_another_cell_are_refused_by_its_name():
    lstm = layer_of("lstm", I, H).params
    with refuses(ValueError, "w_hh must be", "these are 4 gates, an LSTM's; here are 3 gates"):
        fastrnn.gru(zeros(T, B, I), None, lstm["weight_ih_l0"], lstm["weight_hh_l0"])


def test_for_a_misspelt_choice_the_message_has_the_nearest():
    with refuses(ValueError, "init must be one of", "got 'ortogonal': did you mean 'orthogonal'?"):
        layer_of("lstm", I, H, init="ortogonal")
    with refuses(ValueError, "nonlinearity must be one of 'tanh', 'relu', got 'TANH': did you"):
        fastrnn.RNN(I, H, nonlinearity="TANH")


def gates(cell):
    g = CELLS[cell].gates
    return "" if g == 1 else f"{g}*"


@pytest.mark.parametrize(
    "cell, name",
    [(cell, "w_ih") for cell in RECURRENT]  # the rows of W_hh tell the number of units
    + [(cell, "w_hh") for cell in RECURRENT if CELLS[cell].gates > 1],
)
def test_a_transposed_matrix_is_recognised(cell, name):
    g, columns = CELLS[cell].gates, {"w_ih": I, "w_hh": H}[name]
    symbol = {"w_ih": "input_size", "w_hh": "hidden_size"}[name]
    with refuses(
        ValueError, f"{name} must be ({gates(cell)}hidden_size, {symbol}) = ({g * H}, {columns}),",
        f"got {(columns, g * H)}: transposed?",
    ):  # fmt: skip
        call(cell, **{name: zeros(columns, g * H)})


@each_of(["w_ih", "w_hh"])
def test_weights_with_other_rows_are_refused(cell, name):
    rows, columns = arrays_of(cell)[name]
    with refuses(ValueError, f"{name} must be ({gates(cell)}hidden_size,") as caught:
        call(cell, **{name: zeros(rows + 1, columns)})
    assert f"got {(rows + 1, columns)}" in str(caught.value)
    assert "transposed" not in str(caught.value)


@each_of(["w_ih", "w_hh"])
@pytest.mark.parametrize("shape", [(), (20,), (20, 5, 1)], ids=str)
def test_weights_that_are_no_matrix_are_refused(cell, name, shape):
    with refuses(ValueError, f"{name} must be a matrix", "hidden_size rows", f"got {shape}"):
        call(cell, **{name: zeros(*shape)})


@every_cell
def test_no_hidden_unit_is_refused(cell):
    none = {name: zeros(*shape) for name, shape in weight_shapes(CELLS[cell], I, 0).items()}
    name, shape = ("w_hh", (0, 0)) if CELLS[cell].recurrent else ("w_ih", (0, I))
    with refuses(ValueError, f"{name} must have at least one hidden unit, got {shape}"):
        call(cell, **none)


@each_of(["b_ih", "b_hh"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_bias_of_another_shape_is_refused(cell, name, more):
    n = CELLS[cell].gates * H
    with refuses(ValueError, f"{name} must be ({gates(cell)}hidden_size,) = ({n},)", f"{n + more}"):
        call(cell, **{name: zeros(n + more)})
    with refuses(ValueError, f"{name} must be", f"got {(1, n)}"):
        call(cell, **{name: zeros(1, n)})


@every_cell
@pytest.mark.parametrize("shape", [(B, H + 1), (B + 1, H), (H, B), (H,), (1, B, H)], ids=str)
def test_a_state_of_another_shape_is_refused(cell, shape):
    good, bad = zeros(B, H), zeros(*shape)
    names = CELLS[cell].states
    for k, name in enumerate(names):
        state = bad if len(names) == 1 else tuple(bad if j == k else good for j in (0, 1))
        label = "state" if len(names) == 1 else f"{name} of state"
        with refuses(ValueError, f"{label} must be (B, hidden_size) = (3, 5), got {shape}"):
            call(cell, state=state)


# ---- the functions: kinds ------------------------------------------------------------------------

NOT_FLOATS = ["int64", "bool", "float16", "complex64", ">f4", ">f8", "longdouble", "S4"]


@each_of(["x", "w_ih", "w_hh", "b_ih", "b_hh"])
@pytest.mark.parametrize("dtype", NOT_FLOATS)
def test_another_dtype_is_refused_for_every_argument(cell, name, dtype):
    array = np.zeros(arrays_of(cell)[name], dtype)
    if name == "x" and dtype == "int64":  # the message mentions ids
        with refuses(TypeError, "x must be float32, got int64", "x.astype('float32')", "one_hot="):
            call(cell, x=array)
        return
    with refuses(
        TypeError, f"{name} must be an array of float32 or float64, got dtype {array.dtype}",
        "convert it", f'{name}.astype("float32")',
    ):  # fmt: skip
        call(cell, **{name: array})


@every_cell
@pytest.mark.parametrize("dtype", [*NOT_FLOATS, "float64"])
def test_another_dtype_is_refused_for_every_array_of_a_state(cell, dtype):
    good, bad = zeros(B, H), np.zeros((B, H), dtype)
    names = CELLS[cell].states
    for k, name in enumerate(names):
        state = bad if len(names) == 1 else tuple(bad if j == k else good for j in (0, 1))
        label = "state" if len(names) == 1 else f"{name} of state"
        with refuses(TypeError, f"{label} must be", "float32", "got", str(bad.dtype)):
            call(cell, state=state)


@each_of(["x", "w_hh", "b_ih", "b_hh"])
def test_dtypes_do_not_mix(cell, name):
    owner = "w_ih" if name == "w_hh" else "the weights"
    with refuses(TypeError, f"{name} must be float32 like {owner}, got float64: cast it"):
        call(cell, **{name: np.zeros(arrays_of(cell)[name])})


class Tensor:
    """As one of PyTorch."""

    def __init__(self, dtype):
        self._array = np.zeros((T, B, I), dtype)

    def __array__(self, dtype=None, copy=None):
        return self._array

    def detach(self):
        return self


def test_the_fix_suits_what_was_given():
    layer, double = fastrnn.GRU(I, H), fastrnn.GRU(I, H, dtype="float64")
    with refuses(TypeError, "got float64", 'cast it with numpy.asarray(x, "float32")'):
        layer(zeros(T, B, I).tolist())
    with refuses(TypeError, "got float64", "cast it with x.float()"):
        layer(Tensor("float64"))
    with refuses(TypeError, "got float32", "cast it with x.double()"):
        double(Tensor("float32"))
    with refuses(
        TypeError, "got dtype float16", 'convert it, for example with x.astype("float64")'
    ):
        double(np.zeros((T, B, I), "float16"))
    with refuses(TypeError, "got dtype object: it has rows of unequal length, or elements that"):
        layer(np.array([[1.0, None]]))
    with refuses(TypeError, "lengths must be integers, got dtype float64: use integers"):
        layer(zeros(T, B, I), lengths=[1.0] * B)
    with refuses(ValueError, "lengths must be a single number, got (1,)"):
        layer(zeros(T, I), lengths=[1])
    with refuses(TypeError, "x must be one array, got Parameters: take one of its arrays"):
        layer(layer.params)
    gradients = fastrnn.train.Dense(I, 2).backward(zeros(T, I), zeros(T, 2))
    with refuses(TypeError, "x must be one array, got PartGradients: take one of its fields, x, "):
        layer(gradients)


@each_of(["x", "w_ih", "w_hh"])
@pytest.mark.parametrize(
    "value", [None, "text", {}, object(), b"bytes"], ids=lambda v: type(v).__name__
)
def test_what_is_no_array_is_refused(cell, name, value):
    with refuses(TypeError, f"{name} must be an array of float32 or float64, got"):
        call(cell, **{name: value})


@each_of(["x", "w_ih", "w_hh", "b_ih", "b_hh"])
def test_a_ragged_list_is_refused_by_name(cell, name):
    with refuses((TypeError, ValueError), f"{name} must be"):
        call(cell, **{name: [[1.0], [1.0, 2.0]]})


@pytest.mark.parametrize(
    "state",
    [zeros(2, B, H), (zeros(B, H),), [zeros(B, H)] * 3, (), 0.0, "hc"],
    ids=["stacked", "one", "three", "none", "number", "text"],
)
def test_the_state_of_an_lstm_is_a_pair(state):
    with refuses(ValueError, "state must be a pair (h, c) of arrays for the LSTM, got"):
        call("lstm", state=state)
    with refuses(ValueError, "state must be a pair (h, c) of arrays for the LSTM, got"):
        fastrnn.LSTM(I, H)(zeros(T, B, I), state)


@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if len(cell.states) == 1])
def test_a_pair_is_refused_where_there_is_no_c(cell):
    with refuses(ValueError, "state must be one array h, got a tuple of 2: only the LSTM"):
        call(cell, state=(zeros(B, H), zeros(B, H)))


@every_cell
@pytest.mark.parametrize("value", [1, 0, None, "yes", zeros(1)], ids=repr)
def test_a_flag_is_true_or_false(cell, value):
    with refuses(TypeError, "reverse must be True or False, got"):
        call(cell, reverse=value)


def test_the_other_options_are_refused_by_name():
    for value in ("sigmoid", "TANH", "", None, 1, ["tanh"]):
        with refuses(ValueError, "nonlinearity must be one of 'tanh', 'relu', got", repr(value)):
            call("rnn_tanh", nonlinearity=value)
        with refuses(ValueError, "nonlinearity must be one of 'tanh', 'relu', got", repr(value)):
            fastrnn.RNN(I, H, nonlinearity=value)
    for value in (1, None, "after"):
        with refuses(TypeError, "reset_after must be True or False, got", repr(value)):
            call("gru_after", reset_after=value)
        with refuses(TypeError, "reset_after must be True or False, got", repr(value)):
            fastrnn.GRU(I, H, reset_after=value)


# ---- sizes that no memory holds ------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("keep", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "shape", [(2**59, 1, I), (1, 2**59, I), (2**45, 2**14, I)], ids=["T", "B", "T and B"]
)
def test_products_that_overflow_are_refused_before_they_are_used(cell, shape, keep):
    with refuses(ValueError, "overflow"):
        if keep:
            layer_of(cell, I, H).forward(huge(*shape))
        else:
            call(cell, x=huge(*shape))


@every_cell
def test_products_that_overflow_are_refused_though_there_is_no_step(cell):
    with refuses(ValueError, "overflow"):
        call(cell, x=huge(1, 2**59, I)[:0])


@every_cell
def test_an_x_too_large_to_copy_is_refused(cell):
    x = np.broadcast_to(np.float32(0), (2**45, 2**14, I))  # no dense last axis
    with refuses(ValueError, "overflow"):
        call(cell, x=x)


@every_cell
@pytest.mark.parametrize("sizes", [(2**61, 5), (5, 2**31), (2**40, 2**20), (1, 1, 2**61)], ids=str)
def test_layers_whose_parameters_overflow_are_refused(cell, sizes):
    with refuses(ValueError, "overflow"):
        layer_of(cell, *sizes)


@every_cell
def test_a_stream_whose_state_overflows_is_refused(cell):
    with refuses(ValueError, "overflow"):
        layer_of(cell, I, H).stream(2**60)


# ---- layers --------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
def test_sizes_of_layers_are_integers(cell, name):
    sizes = {"input_size": I, "hidden_size": H, "num_layers": 1}
    least = 0 if name == "input_size" else 1
    for value in (3.0, "3", None, zeros(2), [3]):
        with refuses(TypeError, f"{name} must be an integer, got {type(value).__name__}"):
            layer_of(cell, **sizes | {name: value})
    for value in (least - 1, -(2**70), 2**62, 2**70, True):
        with refuses(ValueError, f"{name} must be an integer of at least {least}, got {value}"):
            layer_of(cell, **sizes | {name: value})
    assert getattr(layer_of(cell, **sizes | {name: np.int8(3)}), name) == 3


@every_cell
@pytest.mark.parametrize("name", ["bias", "batch_first", "bidirectional", "reverse"])
def test_options_of_layers_are_true_or_false(cell, name):
    for value in (1, None, "True"):
        with refuses(TypeError, f"{name} must be True or False, got {value!r}"):
            layer_of(cell, I, H, **{name: value})


@every_cell
@pytest.mark.parametrize("value", ["float16", "int32", ">f4", "junk", 5, None, object], ids=repr)
def test_the_dtype_of_a_layer_is_float32_or_float64(cell, value):
    with refuses(TypeError, "dtype must be float32 or float64, got"):
        layer_of(cell, I, H, dtype=value)


@every_cell
def test_x_that_does_not_fit_a_layer_is_refused(cell):
    for first, text in ((False, "(T, B, input_size)"), (True, "(B, T, input_size)")):
        layer = layer_of(cell, I, H, batch_first=first)
        for shape in ((), (I,), (T, B, I + 1), (T, I + 1), (1, T, B, I)):
            with refuses(ValueError, f"x must be {text} or (T, input_size)", "= 2", f"got {shape}"):
                layer(zeros(*shape))
        with refuses(TypeError, "x must be float32 like the weights, got float64: cast it"):
            layer(np.zeros((T, B, I)))
        for value in (None, "text"):
            with refuses(TypeError, "x must be an array of float32 or float64, got"):
                layer(value)


@every_cell
def test_a_state_that_does_not_fit_a_layer_is_refused(cell):
    layer = layer_of(cell, I, H, 2, bidirectional=True)

    def state(array):
        return array if len(CELLS[cell].states) == 1 else (array, array)

    for run in (layer, layer.forward):
        for shape in ((2, B, H), (4, B + 1, H), (4, H), (B, H)):
            with refuses(
                ValueError, "state must be (layers*directions, B, hidden_size) = (4, 3, 5)"
            ):
                run(zeros(T, B, I), state(zeros(*shape)))
        with refuses(ValueError, "state must be (layers*directions, hidden_size) = (4, 5)"):
            run(zeros(T, I), state(zeros(4, 1, H)))
        with refuses(TypeError, "state must be float32 like the weights, got float64"):
            run(zeros(T, B, I), state(np.zeros((4, B, H))))


@every_cell
def test_gradients_that_do_not_fit_are_refused(cell):
    layer = layer_of(cell, I, H, 2)
    _, state, tape = layer.forward(zeros(T, B, I))
    names = "(T, B, hidden_size) = (4, 3, 5)"
    for shape in ((T, B, H + 1), (B, T, H), (T, H), (1, T, B, H)):
        with refuses(ValueError, f"dy must be {names}, got {shape}"):
            tape.backward(zeros(*shape))
    with refuses(TypeError, "dy must be float32 like the weights, got float64"):
        tape.backward(np.zeros((T, B, H)))
    with refuses(TypeError, "dy must be an array of float32 or float64, got dtype int64"):
        tape.backward(np.zeros((T, B, H), "int64"))
    bad = zeros(1, B, H)
    with refuses(ValueError, "dstate must be (layers*directions, B, hidden_size) = (2, 3, 5)"):
        tape.backward(None, bad if len(CELLS[cell].states) == 1 else (bad, bad))
    if len(CELLS[cell].states) == 2:
        with refuses(ValueError, "dstate must be a pair (h, c)"):
            tape.backward(None, state[0])
    _, _, tape = layer_of(cell, I, H, batch_first=True).forward(zeros(B, T, I))
    with refuses(ValueError, "dy must be (B, T, hidden_size) = (3, 4, 5)"):
        tape.backward(zeros(T, B, H))
    _, _, tape = layer_of(cell, I, H).forward(zeros(T, I))
    with refuses(ValueError, "dy must be (T, hidden_size) = (4, 5)"):
        tape.backward(zeros(T, 1, H))


@every_cell
def test_a_refused_call_leaves_a_layer_and_its_tape_as_they_were(cell):
    p = problem(cell, dtype="float32")
    layer = layer_of(cell, I, H)
    y, _, tape = layer.forward(p.x)
    wanted = tape.backward(p.dy).flat
    with unchanged(layer.flat, p.x, y):
        for bad in (lambda: layer(zeros(T, B, I + 1)), lambda: tape.backward(zeros(1, 1, 1))):
            with pytest.raises(ValueError):
                bad()
    assert_same_bits(tape.backward(p.dy).flat, wanted)


# ---- streams -------------------------------------------------------------------------------------


@every_cell
def test_a_layer_that_reads_the_end_first_cannot_stream(cell):
    with refuses(ValueError, "a bidirectional layer cannot stream", "use bidirectional=False"):
        layer_of(cell, I, H, bidirectional=True).stream()
    with refuses(ValueError, "a reversed layer cannot stream", "use reverse=False"):
        layer_of(cell, I, H, reverse=True).stream()
    with refuses(ValueError, "a reversed layer cannot stream", "use reverse=False"):
        frozen = layer_of(cell, I, H, reverse=True).freeze()
        frozen.step(np.zeros((B, I), "float32"))


@every_cell
def test_the_batch_of_a_stream_is_a_positive_integer(cell):
    layer = layer_of(cell, I, H)
    for value in (0, -1, True):
        with refuses(ValueError, f"batch_size must be an integer of at least 1, got {value}"):
            layer.stream(value)
    for value in (2.0, "2", None):
        with refuses(TypeError, f"batch_size must be an integer, got {type(value).__name__}"):
            layer.stream(value)


X_SHAPE, X_KIND = "x must be (B, input_size) = (3, 2)", "x must be an array of float32 or float64"
BAD_STEPS = {
    "x of another width": ((zeros(B, I + 1), None), ValueError, X_SHAPE),
    "x of another batch": ((zeros(1, I), None), ValueError, X_SHAPE),
    "x with time": ((zeros(1, B, I), None), ValueError, X_SHAPE),
    "x transposed": ((zeros(I, B), None), ValueError, "got (2, 3): transposed?"),
    "x of float64": ((np.zeros((B, I)), None), TypeError, "x must be float32 like the weights"),
    "x of integers": ((np.zeros((B, I), int), None), TypeError, "x must be float32, got int64"),
    "x big-endian": ((np.zeros((B, I), ">f4"), None), TypeError, X_KIND),
    "x a text": (("text", None), TypeError, X_KIND),
    "x None": ((None, None), TypeError, X_KIND + ", got NoneType"),
    "out of another shape": ((zeros(B, I), zeros(B, H + 1)), ValueError, "out must be (B, h"),
    "out of float64": ((zeros(B, I), np.zeros((B, H))), TypeError, "out must be float32"),
    "out a list": ((zeros(B, I), [0.0]), TypeError, "out must be an array, got list"),
    "out read-only": (
        (zeros(B, I), np.broadcast_to(np.float32(0), (B, H))), ValueError, "out must be writeable",
    ),
}  # fmt: skip


@every_cell
@pytest.mark.parametrize("arguments, error, text", BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_refused_step_leaves_the_stream_and_out_as_they_were(cell, arguments, error, text):
    stream = layer_of(cell, I, H, 2).stream(B)
    stream.step(np.ones((B, I), "float32"))
    state = stream.state
    outs = [a for a in arguments if isinstance(a, np.ndarray)]
    with unchanged(*outs), refuses(error, text):
        stream.step(*arguments)
    assert_same_bits(stream.state, state)


@every_cell
def test_a_refused_state_or_reset_leaves_the_stream_as_it_was(cell):
    stream = layer_of(cell, I, H, 2).stream(B)
    stream.step(np.ones((B, I), "float32"))
    state, names = stream.state, CELLS[cell].states
    good = np.ones((2, B, H), "float32")
    for bad in (zeros(2, B), zeros(1, B, H), np.zeros((2, B, H)), None, "text"):
        for k in range(len(names)):
            value = bad if len(names) == 1 else tuple(bad if j == k else good for j in (0, 1))
            with refuses((ValueError, TypeError), "state must be"):
                stream.state = value
            assert_same_bits(stream.state, state)
    outside = [(rows, IndexError) for rows in (B, -B - 1, [0, B], [True] * (B + 1))]
    for rows, error in (*outside, (1.5, TypeError), ("text", TypeError)):
        with pytest.raises(error):
            stream.reset(rows)
        assert_same_bits(stream.state, state)


# ---- the process ---------------------------------------------------------------------------------


def test_a_number_of_threads_is_a_positive_integer(keep_threads):
    before = fastrnn.get_num_threads()
    for value in (0, -1, True, 2**70):
        with refuses(ValueError, f"n must be an integer of at least 1, got {value}"):
            fastrnn.set_num_threads(value)
    for value in (1.0, "2", None):
        with refuses(TypeError, f"n must be an integer, got {type(value).__name__}"):
            fastrnn.set_num_threads(value)
    with pytest.raises(ValueError), fastrnn.threads(0):
        pass
    assert fastrnn.get_num_threads() == before


@pytest.mark.parametrize("value", [2**31, 2**40], ids=["2**31", "2**40"])
def test_a_number_of_threads_beyond_an_int_is_refused_or_taken_but_never_half(value, keep_threads):
    before = fastrnn.get_num_threads()
    try:
        fastrnn.set_num_threads(value)
    except ValueError:
        assert fastrnn.get_num_threads() == before


def test_an_unknown_backend_is_refused_with_the_names_there_are():
    for name in ("nope", "", None, 1, "CORE"):
        with refuses(ValueError, "name must be one of 'core', 'reference', got", repr(name)):
            with fastrnn.backend(name):
                raise AssertionError("entered")


@pytest.mark.usefixtures("core")
def test_an_unknown_instruction_set_is_refused_with_the_names_there_are():
    before = runtime.core.isa()
    for name in ("nope", "", None, "AVX2"):
        with refuses(ValueError, f"no instruction set {name!r} here: possible are", "generic"):
            runtime.select_isa(name)
    assert runtime.core.isa() == before


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize(
    "variable, value, words",
    [
        ("FASTRNN_ISA", "sse9", ["'sse9'", "possible are", "generic"]),
        ("FASTRNN_BACKEND", "gpu", ["'gpu'", "one of 'core', 'reference'"]),
        ("FASTRNN_NUM_THREADS", "many", ["'many'"]),
        ("FASTRNN_NUM_THREADS", "0", ["'0'", "at least 1"]),
        ("FASTRNN_NUM_THREADS", "-2", ["'-2'", "at least 1"]),
        ("FASTRNN_NUM_THREADS", "9999999999", ["'9999999999'", "at most 256"]),
        ("FASTRNN_NUM_THREADS", "257", ["'257'", "at most 256"]),
        *(
            ("FASTRNN_NUM_THREADS", text, [repr(text), "plain digits", "at least 1"])
            for text in ("+4", " 4", "1_0", "4.0", "\u0664", "9" * 5000)
        ),
    ],
)
def test_a_bad_environment_variable_is_refused_at_import_by_name(variable, value, words):
    done = run_python("import fastrnn", **{variable: value})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    for word in ("ValueError", f"environment variable {variable}", *words):
        assert word in last


def test_an_empty_environment_variable_is_as_good_as_none():
    empty = dict.fromkeys(("FASTRNN_ISA", "FASTRNN_BACKEND", "FASTRNN_NUM_THREADS"), "")
    done = run_python("import fastrnn; fastrnn.show_config()", **empty)
    assert done.returncode == 0, done.stderr


# ---- what is not refused -------------------------------------------------------------------------


@every_cell
def test_lists_and_scalars_of_numpy_are_taken_as_arrays(cell):
    p = problem(cell)
    lists = p.map(np.ndarray.tolist)
    assert_same_bits(infer(lists), infer(p))


@pytest.mark.parametrize("value", [True, np.True_, False, np.False_], ids=repr)
def test_flags_may_be_numpys(value):
    assert checks.flag("name", value) is bool(value)


# ---- masked arrays -------------------------------------------------------------------------------


def masked(*shape, dtype="float32"):
    return np.ma.masked_array(np.zeros(shape, dtype), np.zeros(shape, bool))


def test_what_a_layer_returns_is_not_taken_for_an_array():
    """NumPy would stack h and c, or complain about inhomogeneous shapes."""
    layer, dense = fastrnn.LSTM(I, H, rng=0), fastrnn.train.Dense(H, 2, rng=0)
    returned = layer(zeros(T, B, I))
    for take in (dense, fastrnn.LSTM(H, H, rng=0)):
        with refuses(
            TypeError, "x must be one array, got a tuple of 2: a layer returns (y, state)"
        ):
            take(returned)
    with refuses(TypeError, "x must be one array, got a tuple of 2"):
        dense(returned[1])


def masked_calls():
    """name -> a call with one masked array, for each argument that takes an array."""
    layer, flags, counts = layer_of("gru_after", I, H, dtype="float32"), (T, B), "int64"
    x, dense = zeros(T, B, I), fastrnn.train.Dense(I, H)
    _, _, tape = layer.forward(x)
    stream, table = layer.stream(B), fastrnn.train.Embedding(I, H)
    words = fastrnn.train.Vocabulary("ab")
    function = {"w_ih": zeros(3 * H, I), "w_hh": zeros(3 * H, H), "x": x, "state": None}
    reference = {name: value for name, value in function.items() if name != "state"}
    return {
        "x": lambda: layer(masked(T, B, I)),
        "x, a list": lambda: layer(list(masked(T, B, I))),
        "x, ids": lambda: layer(masked(T, B, dtype=counts), embedding=zeros(9, I)),
        "x, ragged ids": lambda: layer(
            masked(T, B, dtype=counts), embedding=zeros(9, I), lengths=[1, 2, 3]
        ),
        "state": lambda: layer(x, masked(1, B, H)),
        "lengths": lambda: layer(x, lengths=masked(B, dtype=counts)),
        "mask": lambda: layer(x, mask=masked(*flags, dtype=bool)),
        "reset": lambda: layer(x, reset=masked(*flags, dtype=bool)),
        "embedding": lambda: layer(np.zeros((T, B), int), embedding=masked(9, I)),
        "dy": lambda: tape.backward(masked(T, B, H)),
        "dstate": lambda: tape.backward(None, masked(1, B, H)),
        "last": lambda: tape.backward(last=masked(B, H)),
        "state of last": lambda: layer.last(masked(1, B, H)),
        "dy of norms": lambda: tape.gradient_norms(masked(T, B, H)),
        "x of a step": lambda: stream.step(masked(B, I)),
        "ids of a step": lambda: stream.step(masked(B, dtype=counts)),
        "out of a step": lambda: stream.step(zeros(B, I), out=masked(B, H)),
        "x of a chunk": lambda: stream.feed(masked(T, B, I)),
        "out of a chunk": lambda: stream.feed(x, out=masked(T, B, H)),
        "rows": lambda: stream.reset(masked(B, dtype=bool)),
        "state of a stream": lambda: setattr(stream, "state", masked(1, B, H)),
        "flat": lambda: setattr(layer, "flat", np.ma.masked_array(layer.flat)),
        "a parameter": lambda: layer.params.update(bias_ih_l0=masked(3 * H)),
        "windows": lambda: fastrnn.tbptt(layer, masked(T, B, I), 2),
        "mask of windows": lambda: fastrnn.tbptt(layer, x, 2, mask=masked(*flags, dtype=bool)),
        "x of a function": lambda: fastrnn.gru(**function | {"x": masked(T, B, I)}),
        "ids of a function": lambda: fastrnn.gru(
            **function | {"x": masked(T, B, dtype=counts)}, embedding=zeros(9, I)
        ),
        "w_hh of a function": lambda: fastrnn.gru(**function | {"w_hh": masked(3 * H, H)}),
        "mask of a function": lambda: fastrnn.gru(**function, mask=masked(*flags, dtype=bool)),
        "x of the reference": lambda: fastrnn.reference.gru(
            **reference | {"x": masked(T, B, I)}, state=None
        ),
        "mask of the reference": lambda: fastrnn.reference.gru(
            **reference, state=None, mask=masked(*flags, dtype=bool)
        ),
        "x of Dense": lambda: dense(masked(B, I)),
        "dy of Dense": lambda: dense.backward(zeros(B, I), masked(B, H)),
        "ids of Embedding": lambda: table(masked(B, dtype=counts)),
        "x of Dropout": lambda: fastrnn.train.Dropout(0.5).forward(masked(B, H)),
        "dy of Dropout": lambda: fastrnn.train.Dropout(0.5).backward(zeros(B), masked(B)),
        "a sequence": lambda: fastrnn.train.pad([masked(T, I)]),
        "ids of a Vocabulary": lambda: words.decode(masked(T, dtype=counts)),
        "extra": lambda: fastrnn.train.save("no folder/x.npz", [dense], x=masked(B)),
        "series": lambda: fastrnn.train.windows(masked(100), 5, 1, 8),
        "targets": lambda: fastrnn.train.mean_squared_error(zeros(B), masked(B)),
        "weights": lambda: fastrnn.train.mean_squared_error(zeros(B), zeros(B), masked(B)),
        "classes": lambda: fastrnn.train.cross_entropy(zeros(B, I), masked(B, dtype=counts)),
    }


@pytest.mark.parametrize("name", masked_calls())
@every_backend
def test_masked_arrays_whose_masks_would_be_dropped_are_refused(name, backend):
    with refuses(TypeError, "masked array", "filled(value)"):
        masked_calls()[name]()
