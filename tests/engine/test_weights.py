"""`Weights` and `Gradients` of the compiled module: they refuse arrays that are not a cell's.

They are checked once, when they are made, and then serve any number of calls.
"""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from decorators import every_dtype
from problems import assert_same_bits, between_nans, misaligned, read_only

from fastrnn._engine import runtime
from fastrnn._engine.passes import BackwardBuffers, DirectionCall

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.any_isa]

ENTRIES = runtime.core.cells() if runtime.core else []
INDEX = {entry["name"]: index for index, entry in enumerate(ENTRIES)}
INPUTS, HIDDEN, PROJECTED = 3, 5, 2
OPTIONAL = {"weight_peephole", "bias_ln_c"}  # a variant may be without them

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])


def drawn(shapes, dtype):
    """Arrays of these shapes, by name."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def arguments_of(entry, dtype="float32", projected=0):
    """Right arguments of `Weights`, by name."""
    rows, recurrent = entry["gates"] * HIDDEN, entry["recurrent"] * HIDDEN
    shapes = {"w_ih": (rows, INPUTS), "b_ih": (rows,)}
    if recurrent:
        shapes |= {"w_hh": (recurrent, projected or HIDDEN), "b_hh": (recurrent,)}
    if projected:
        shapes["w_hr"] = projected, HIDDEN
    extras = {name: (units * HIDDEN,) for name, units in entry["extras"].items()}
    given = {"cell": INDEX[entry["name"]], "hidden": HIDDEN}
    return given | drawn(shapes, dtype) | {"extras": drawn(extras, dtype)}


def weights_of(given):
    return runtime.core.Weights(**given)


def targets_of(given):
    """Right arguments of `Gradients` beside such weights: arrays of their shapes."""
    return {name: value for name, value in given.items() if name not in ("cell", "hidden")}


def gradients_of(of, targets):
    return runtime.core.Gradients(of, **targets)


# ---- every parameter of every cell ---------------------------------------------------------------

# What a parameter may not be. A shape is wrong where it has another number of elements.
WRONG = {
    "longer": (lambda a: np.concatenate([a, a[:1]]), ValueError),
    "shorter": (lambda a: a[:-1], ValueError),
    "empty": (lambda a: a[:0], ValueError),
    "every other element": (between_nans, ValueError),
    "backwards": (lambda a: a[::-1], ValueError),
    "read backwards": (lambda a: a[..., ::-1], ValueError),
    "of double precision": (lambda a: a.astype("float64"), TypeError),
    "of half precision": (lambda a: a.astype("float16"), TypeError),
    "integers": (lambda a: a.astype("int32"), TypeError),
    "of the other byte order": (lambda a: a.astype(a.dtype.newbyteorder()), TypeError),
    "misaligned": (misaligned, TypeError),
    "a list": (lambda a: a.tolist(), TypeError),
    "a number": (lambda a: 1.0, TypeError),
}  # fmt: skip


def places(arguments):
    """The arguments that are arrays: (name, None), or ("extras", name)."""
    yield from ((name, None) for name, value in arguments.items() if isinstance(value, np.ndarray))
    yield from (("extras", name) for name in arguments["extras"])


def replaced(arguments, place, change):
    name, extra = place
    if extra is None:
        return arguments | {name: change(arguments[name])}
    extras = arguments["extras"]
    return arguments | {"extras": extras | {extra: change(extras[extra])}}


PAIRS = [(entry, 0) for entry in ENTRIES]
PAIRS += [(entry, PROJECTED) for entry in ENTRIES if "proj_size" in entry["takes"]]


@pytest.mark.parametrize(
    "entry, projected", PAIRS, ids=[f"{e['name']}{' projected' * (p > 0)}" for e, p in PAIRS]
)
@pytest.mark.parametrize("wrong, error", WRONG.values(), ids=WRONG)
def test_a_wrong_array_in_any_place_is_refused(entry, projected, wrong, error):
    given = arguments_of(entry, projected=projected)
    of, targets = weights_of(given), targets_of(given)
    gradients_of(of, targets)
    for place in places(given):
        with pytest.raises(error):
            weights_of(replaced(given, place, wrong))
        with pytest.raises(error):
            gradients_of(of, replaced(targets, place, wrong))


@every_entry
@every_dtype
def test_what_may_be_missing_and_what_not(entry, dtype):
    given = arguments_of(entry, dtype)
    of, targets = weights_of(given), targets_of(given)
    for place in places(given):
        without = replaced(given, place, lambda a: None)
        if place[0] in ("b_ih", "b_hh") or place[1] in OPTIONAL:
            weights_of(without)
        else:
            with pytest.raises((ValueError, TypeError), match="expected|may not be None"):
                weights_of(without)
        gradients_of(of, replaced(targets, place, lambda a: None))
    gradients_of(of, dict.fromkeys(targets) | {"extras": {}})


@every_entry
def test_w_hh_and_b_hh_are_of_cells_with_recurrent_gates_alone(entry):
    given = arguments_of(entry)
    if entry["recurrent"]:
        wrong = {"w_hh": None}, {"w_hh": None, "b_hh": None}
    else:
        w_hh = np.ones((entry["gates"] * HIDDEN, HIDDEN), np.float32)
        wrong = (
            {"w_hh": w_hh},
            {"b_hh": w_hh[:, 0].copy()},
            {"w_hh": w_hh[:0]},
            {"b_hh": w_hh[0, :0]},
        )
    for changes in wrong:
        with pytest.raises(ValueError, match="(w_hh|b_hh) of a cell that has recurrent"):
            weights_of(given | changes)


@every_entry
def test_gradients_are_written_so_they_may_not_be_read_only(entry):
    given = arguments_of(entry)
    of, targets = weights_of(given), targets_of(given)
    for place in places(given):
        weights_of(replaced(given, place, read_only))
        with pytest.raises(ValueError, match="a read-only array to write to"):
            gradients_of(of, replaced(targets, place, read_only))


# ---- numbers, names, options ---------------------------------------------------------------------

F4 = np.float32
BAD = {
    "an unknown cell": ({"cell": 999}, ValueError, "an unknown cell"),
    "a negative cell": ({"cell": -1}, ValueError, "an unknown cell"),
    "a cell by its name": ({"cell": "lstm"}, TypeError, "integer"),
    "no hidden units": (
        {"hidden": 0, "w_ih": np.empty((0, 3), F4), "w_hh": np.empty((0, 0), F4), "b_ih": None,
         "b_hh": None}, ValueError, r"hidden = 0 of 1 at least, got \(0, 3\)",
    ),
    "a negative size": ({"hidden": -5}, ValueError, "hidden = -5 of 1 at least"),
    "another size": ({"hidden": 6}, ValueError, r"w_ih of 4 \* hidden rows expected"),
    "a size whose rows no number holds": (
        {"hidden": 2**62, "w_ih": np.empty((0, 3), F4), "w_hh": np.empty((0, 0), F4),
         "b_ih": None, "b_hh": None}, ValueError, f"hidden = {2**62} of 1 at least",
    ),
    "a size beyond 64 bits": ({"hidden": 2**64}, OverflowError, "too large|too big"),
    "w_ih of one axis": ({"w_ih": np.ones(60, F4)}, ValueError, "a matrix expected, got 1 axes"),
    "w_ih of three axes": ({"w_ih": np.ones((20, 3, 1), F4)}, ValueError, "got 3 axes"),
    "w_ih turned round": ({"w_ih": np.ones((3, 20), F4)}, ValueError, r"got \(3, 20\)"),
    "no w_hh": ({"w_hh": None}, ValueError, "w_hh of a cell that has"),
    "w_hh of other units": ({"w_hh": np.ones((20, 4), F4)}, ValueError, "20 x 5 expected"),
    "w_hh of doubles": ({"w_hh": np.ones((20, 5))}, TypeError, "another dtype"),
    "a projection to no features": (
        {"w_hr": np.empty((0, 5), F4), "w_hh": np.empty((20, 0), F4)}, ValueError, "to fewer",
    ),
    "a projection to as many features": ({"w_hr": np.ones((5, 5), F4)}, ValueError, "to fewer"),
    "a projection of one axis": ({"w_hr": np.ones(10, F4)}, ValueError, "a matrix expected"),
    "w_hh beside a projection": ({"w_hr": np.ones((2, 5), F4)}, ValueError, "20 x 2 expected"),
    "w_hr of other units": (
        {"w_hr": np.ones((2, 4), F4), "w_hh": np.ones((20, 2), F4)}, ValueError, "2 x 5 expected",
    ),
    "a parameter that the cell has not": (
        {"extras": {"weight_peephole": np.ones(15, F4)}}, ValueError, "15 x 1|0 x 1 expected",
    ),
    "an empty parameter that the cell has not": (
        {"extras": {"weight_peephole": np.ones(0, F4)}}, ValueError, "of a cell that has none",
    ),
    "an unknown parameter": ({"extras": {"weight": None}}, ValueError, "unknown .* {'weight'}"),
    "a name that is none": ({"extras": {1: None}}, ValueError, "unknown extra parameters {1}"),
    "a list of parameters": ({"extras": []}, TypeError, "dict"),
    "no dict of parameters": ({"extras": None}, TypeError, "expected dict, got NoneType"),
    "one zoneout rate": ({"zoneout": (0.5,)}, ValueError, "a zoneout rate for each state"),
    "three zoneout rates": ({"zoneout": (0.5,) * 3}, ValueError, "a zoneout rate for each state"),
    "a list of zoneout rates": ({"zoneout": [0.5, 0.5]}, TypeError, "tuple"),
    "a zoneout rate that is none": ({"zoneout": (0.5, None)}, TypeError, "must be real number"),
    "a bound that is none": ({"numbers": {"clip": None}}, TypeError, "must be real number"),
    "an unknown number": ({"numbers": {"clap": 1.0}}, ValueError, "unknown options {'clap'}"),
    "no dict of numbers": ({"numbers": None}, TypeError, "expected dict, got NoneType"),
    "an unknown option": ({"dropout": 0.5}, TypeError, "unexpected keyword"),
}  # fmt: skip


@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_what_is_no_weights_of_an_lstm_is_told(change, error, message):
    given = arguments_of(ENTRIES[INDEX["lstm"]])
    weights_of(given)
    with pytest.raises(error, match=message):
        weights_of(given | change)


def test_only_cells_that_take_one_have_a_projection():
    for entry in ENTRIES:
        given = arguments_of(entry, projected=PROJECTED)
        if "proj_size" in entry["takes"]:
            weights_of(given)
        else:
            with pytest.raises(ValueError, match="of a cell that takes one"):
                weights_of(given)


def test_a_variant_names_the_gain_that_it_lacks():
    given = arguments_of(ENTRIES[INDEX["lstm_normalised"]])
    for name in set(given["extras"]) - OPTIONAL:
        extras = {k: v for k, v in given["extras"].items() if k != name}
        with pytest.raises(ValueError, match=f"{name} may not be None"):
            weights_of(given | {"extras": extras})


# ---- as long as they live ------------------------------------------------------------------------


def forward(of, y):
    """One step of an LSTM from zeros."""
    states = [tuple(np.zeros((1, 2, HIDDEN), y.dtype) for _ in range(2)) for _ in range(2)]
    call = DirectionCall(False, 0, states[0], (), of, y, states[1])
    x = np.ones((1, 2, INPUTS), y.dtype)
    runtime.in_workspace(runtime.core.forward, x, (call,), None, None, 0)
    return y.copy()


def test_weights_hold_their_arrays_and_read_them_in_every_call():
    given = arguments_of(ENTRIES[INDEX["lstm"]])
    of, y = weights_of(given), np.empty((1, 2, HIDDEN), np.float32)
    w_ih, wanted = given["w_ih"], forward(of, y)
    w_ih *= 2
    doubled = forward(of, y)
    assert (doubled != wanted).any()
    w_ih /= 2
    assert_same_bits(forward(of, y), wanted)
    held = weakref.ref(given["w_hh"])
    del given
    gc.collect()
    assert held() is not None
    assert_same_bits(forward(of, y), wanted)
    del of
    gc.collect()
    assert held() is None


def test_gradients_hold_their_arrays_and_their_weights():
    given = arguments_of(ENTRIES[INDEX["lstm_peephole"]])
    of = weights_of(given)
    targets = targets_of(given) | {"extras": {"weight_peephole": np.ones(3 * HIDDEN, np.float32)}}
    held = [weakref.ref(a) for a in (given["w_ih"], targets["extras"]["weight_peephole"])]
    gradients = gradients_of(of, targets)
    del given, of, targets
    gc.collect()
    assert all(array() is not None for array in held)
    del gradients
    gc.collect()
    assert all(array() is None for array in held)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_neither_is_copied_because_a_copy_would_have_the_addresses_of_the_original(duplicate):
    given = arguments_of(ENTRIES[INDEX["lstm"]])
    of = weights_of(given)
    for each in of, gradients_of(of, targets_of(given)):
        with pytest.raises(TypeError, match="cannot pickle"):
            duplicate(each)


# ---- of one shape --------------------------------------------------------------------------------


def zeros_of(given):
    """A pass with such weights and what comes back to it, each apart from the other's weights."""
    of, hidden = weights_of(given), given["hidden"]
    features, dtype = len(given["w_hr"]) if "w_hr" in given else hidden, given["w_ih"].dtype
    states = ENTRIES[given["cell"]]["states"]

    def state():
        return tuple(np.zeros((1, 2, n), dtype) for n in (features, hidden)[:states])

    y = np.zeros((4, 2, features), dtype)
    tape = np.zeros(runtime.core.tape_size(of, 4, 2), np.uint8)
    call = DirectionCall(False, 0, state(), (), of, y, state(), tape)
    dweights = gradients_of(of, targets_of(given))
    return call, BackwardBuffers(y, state(), None, state(), (), dweights, (None,) * states)


LSTM = arguments_of(ENTRIES[INDEX["lstm"]]) if ENTRIES else {}
OTHERS = {
    "cell": lambda: arguments_of(ENTRIES[INDEX["lstm_variant"]]),
    "hidden": lambda: LSTM | {"hidden": 1, "w_ih": np.ones((4, 3), F4), "w_hh": np.ones((4, 1), F4),
                              "b_ih": None, "b_hh": None},
    "inputs": lambda: LSTM | {"w_ih": np.ones((20, 2), F4)},
    "dtype": lambda: arguments_of(ENTRIES[INDEX["lstm"]], "float64"),
    "projection": lambda: arguments_of(ENTRIES[INDEX["lstm"]], projected=PROJECTED),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_weights_gradients_and_directions_of_different_shapes_do_not_go_together(other):
    def run(function, *arguments):
        runtime.in_workspace(function, np.ones((4, 2, INPUTS), F4), *arguments, None, None, 0)

    core = runtime.core
    (call, buffers), (second, its_buffers) = zeros_of(LSTM), zeros_of(LSTM)
    other_call, other_buffers = zeros_of(other())
    run(core.forward, (call, second))
    run(core.backward, (call, second), (buffers, its_buffers))
    with pytest.raises((ValueError, TypeError), match="passes of different cells|dtype|expected"):
        run(core.forward, (call, other_call))
    mixed = buffers._replace(dweights=other_buffers.dweights)
    with pytest.raises(ValueError, match="passes of different cells"):
        run(core.backward, (call,), (mixed,))
    with pytest.raises((ValueError, TypeError), match="passes of different cells|dtype|expected"):
        run(core.backward, (call, other_call), (buffers, other_buffers))
