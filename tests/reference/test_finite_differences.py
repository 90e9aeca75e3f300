"""The check of a cell: right derivatives pass, and each usual mistake is named."""

import dataclasses
import pickle
import re

import numpy as np
import pytest
from variants import VARIANTS, variant_cell

from fastrnn import reference
from fastrnn.reference import by_row, sigmoid
from fastrnn.reference.variants import reference_cell

pytestmark = pytest.mark.no_kernels

# ---- what is right -------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", reference.CELLS)
def test_the_cells_that_there_are_pass(cell):
    report, row = reference.check(cell, rng=2), reference.CELLS[cell]
    states = "hc"[: row.states]
    sides = "a" if row.added else "au"
    gates = [f"d{side}_{name}".rstrip("_") for side in sides for name in row.names or [""]]
    phases = {0: [], 1: ["v"], 2: ["v_0", "v_1"]}[len(row.phases)]
    weights = ["dw_ih", "dw_hh", "db_ih", "db_hh"] if row.phases else ["dw_ih", "db_ih"]
    of_step = [*phases, *gates, *(f"d{s}_prev" for s in states)]
    assert list(report) == [*of_step, "dx", *(f"d{s}0" for s in states), *weights]
    assert report.ok and not report.wrong and max(report.values()) < 1e-8
    assert str(report).startswith(f"All {len(report)} derivatives are right")


@pytest.mark.parametrize("name", VARIANTS)
def test_their_variants_pass(name):
    cell, given = VARIANTS[name]
    report = reference.check(reference_cell(variant_cell(cell, **given)), rng=3)
    assert report.ok
    if "peephole" in given:
        assert report["dp weight_peephole"] < 1e-6
    if "layer_norm" in given:
        assert report["dp bias_ih"] < 1e-6


def test_a_projection_passes():
    report = reference.check(dataclasses.replace(reference.CELLS["lstm"], projects=True))
    assert report.ok and report["dw_hr"] < 1e-8


@pytest.mark.parametrize(("steps", "batch", "inputs", "hidden"), [(1, 1, 1, 1), (5, 3, 2, 7)])
def test_any_sizes_will_do(steps, batch, inputs, hidden):
    for cell in reference.CELLS:
        assert reference.check(cell, steps=steps, batch=batch, inputs=inputs, hidden=hidden).ok


# ---- what is wrong -------------------------------------------------------------------------------

RNN = """
da[0] = dh * (1 - h * h)
return (du[0] @ w,)
"""
LSTM = """
dc = dc + dh * o * (1 - tanh_c * tanh_c)
da[0] = dc * g * i * (1 - i)
da[1] = dc * c_prev * f * (1 - f)
da[2] = dc * i * (1 - g * g)
da[3] = dh * tanh_c * o * (1 - o)
return (by_row(du) @ w, dc * f)
"""
GRU = """
da[1] = dh * (h_prev - n) * z * (1 - z)
da[2] = dh * (1 - z) * (1 - n * n)
da[0] = da[2] * u_n * r * (1 - r)
du[:2] = da[:2]
du[2] = da[2] * r
return (dh * z + by_row(du) @ w,)
"""
TEXTS = {
    "rnn_tanh": ("h = saved; (dh,) = dstate", RNN),
    "lstm": ("i, f, g, o, c_prev, tanh_c = saved; dh, dc = dstate", LSTM),
    "gru_after": ("r, z, n, h_prev, u_n = saved; (dh,) = dstate", GRU),
}


def mutant(name, right="", wrong=""):
    """A cell whose derivative has the text `wrong` in place of `right`."""
    begin, text = TEXTS[name]
    assert right in text
    lines = [begin, *text.replace(right, wrong).strip().split("\n")]
    code = "\n    ".join(["def derivative(dstate, saved, w, da, du):", *lines])
    scope = {"np": np, "by_row": by_row}
    exec(code, scope)
    return dataclasses.replace(reference.CELLS[name], derivative=scope["derivative"])


@pytest.mark.parametrize("name", TEXTS)
def test_the_texts_without_a_mistake_pass(name):
    assert reference.check(mutant(name)).ok


EACH_GATE = "sum(du[k] @ w[4 * k : 4 * k + 4].T for k in range(3))"
# The cell, what stands in place of what, the first derivative that is wrong, the cause.
MISTAKES = [
    # signs and constant factors
    ("rnn_tanh", "1 - h * h", "h * h - 1", "da", "the sign is wrong"),
    ("rnn_tanh", "dh * (1", "2 * dh * (1", "da", "a constant factor: it is 2 times"),
    ("rnn_tanh", "dh * (1", "-1.003 * dh * (1", "da", "a constant factor: it is -1.003 times"),
    ("lstm", "= dc * i", "= 0.5 * dc * i", "da_g", "a constant factor: it is 0.5 times"),
    ("gru_after", "h_prev - n", "n - h_prev", "da_z", "the sign is wrong"),
    # factors
    ("rnn_tanh", " * (1 - h * h)", "", "da", r"the factor \(1 - h_t\^2\) is missing"),
    ("rnn_tanh", "1 - h * h", "1 - h", "da", r"\(1 - h_t\^2\) is missing, and \(1 - h_t\) stands"),
    ("lstm", " * (1 - g * g)", "", "da_g", r"the factor \(1 - g\^2\) is missing"),
    ("lstm", "c_prev * f", "f", "da_f", "the factor c_prev is missing"),
    ("lstm", "f * (1 - f)", "(1 - f)", "da_f", "the factor f is missing"),
    ("lstm", " * i * (1 - i)", "", "da_i", r"the factor i \(1 - i\) is missing"),
    ("lstm", "dc * g", "dc * g * f", "da_i", "the factor f must not be there"),
    ("lstm", "dc * g", "-dc", "da_i", "the factor g is missing, and the sign is wrong"),
    ("lstm", "dc * g", "dc * i", "da_i", "the factor g is missing, and i stands in its place"),
    ("lstm", "tanh_c * o * (1 - o)", "o", "da_o", r"tanh\(c_t\) and \(1 - o\) are missing"),
    ("gru_after", "u_n", "h_prev", "da_r", "factor u_n is missing, and h_prev stands in its place"),
    ("gru_after", "(h_prev - n)", "h_prev", "da_z", "the factor h_prev - n is missing, and h_prev"),
    ("lstm", "dc * f)", "dc)", "dc_prev", "the factor f is missing"),
    # paths
    ("lstm", "dc = dc + dh * o", "dc = dc + 0 * dh * o", "da_i",
     "in the part that comes from dh_t: it is 0: the derivative leaves this path out"),
    ("lstm", "dc = dc + dh", "dc = dh", "da_i", r"the term dc g i \(1 - i\) is missing"),
    ("lstm", "dh * o * (1 - tanh_c * tanh_c)", "dh * o", "da_i",
     r"in the part that comes from dh_t: the factor \(1 - tanh\(c_t\)\^2\) is missing"),
    ("lstm", "da[3] = dh", "da[3] = dc", "da_o",
     "in the part that comes from dc_t: it must be 0: the step does not depend on it"),
    ("rnn_tanh", "du[0] @ w", "0 * dh", "dh_prev", "it is 0: the derivative leaves this path out"),
    ("rnn_tanh", "du[0] @ w", "dh", "dh_prev", "the term W_hh.T da is missing, and dh stands in"),
    ("rnn_tanh", "du[0] @ w", "du[0] @ w + dh", "dh_prev", "the term dh must not be there"),
    ("gru_after", "dh * z + ", "", "dh_prev", "the term dh z is missing"),
    ("gru_after", "dh * z + ", "- dh * z + ", "dh_prev", "the term dh z has the wrong sign"),
    ("gru_after", "dh * z + ", "dh * (1 - z) + ", "dh_prev", r"dh z is missing, and dh \(1 - z\)"),
    ("gru_after", " + by_row(du) @ w", "", "dh_prev", "the term W_hh.T du is missing"),
    ("gru_after", " + by_row(du) @ w", " - by_row(du) @ w", "dh_prev", "W_hh.T du has the wrong"),
    ("gru_after", "by_row(du)", "by_row(da)", "dh_prev", "W_n.T du_n is missing, and W_n.T da_n"),
    ("lstm", "by_row(du) @ w", "by_row(du[:3]) @ w[:12]", "dh_prev", "W_o.T da_o is missing"),
    ("gru_after", "du[2] = da[2] * r", "du[2] = da[2]", "du_n", "it is what da_n must be"),
    # matrices, orders
    ("rnn_tanh", "@ w", "@ w.T", "dh_prev", "W_hh is transposed"),
    ("gru_after", "by_row(du) @ w", EACH_GATE, "dh_prev", "W_hh of each gate is transposed"),
    ("gru_after", "by_row(du) @ w", "by_row(du[:2]) @ w[:8] + du[2] @ w[8:].T", "dh_prev",
     "W_n is transposed"),
    ("lstm", "by_row(du) @ w, dc * f", "dc * f, by_row(du) @ w", "dh_prev",
     "it is what dc_prev must be: exchanged"),
    ("lstm", "da[0] = dc * g * i * (1 - i)\nda[1] =", "da[1] = dc * g * i * (1 - i)\nda[0] =",
     "da_i", "it is what da_f must be: exchanged"),
    # not filled in
    ("rnn_tanh", "da[0] = dh", "da = dh", "da", "it is not filled in: assign to it in place"),
    ("gru_after", "du[2] = da[2] * r", "pass", "du_n", "it is not filled in"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "right", "wrong", "name", "cause"), MISTAKES, ids=[" ".join(m[:3]) for m in MISTAKES]
)
def test_a_mistake_is_named_with_its_cause(cell, right, wrong, name, cause):
    report = reference.check(mutant(cell, right, wrong), strict=False)
    first = next(iter(report.wrong))
    assert first == name
    assert np.isnan(report[name]) or report[name] > 1e-3
    assert re.search(cause, report.wrong[name].cause), report.wrong[name].cause


def test_derivatives_that_follow_from_a_wrong_one_say_so():
    report = reference.check(mutant("gru_after", " * (1 - n * n)", ""), strict=False)
    assert list(report.wrong) == ["da_r", "da_n", "du_r", "du_n", "dh_prev"]
    assert "da_n, du_r, du_n have the same error" in report.wrong["da_r"].cause
    assert "the same error as in da_r" in report.wrong["da_n"].cause
    assert report.wrong["dh_prev"].cause == "it follows from du, which is wrong"


def test_a_mistake_that_is_not_a_usual_one_is_named_without_a_cause():
    report = reference.check(mutant("rnn_tanh", "1 - h * h", "np.cos(7 * dh)"), strict=False)
    assert report.wrong["da"].cause == ""
    assert "da " in str(report) and "likely cause: it follows from da" in str(report)


def test_the_error_has_the_report_as_its_message():
    cell = mutant("lstm", " * (1 - g * g)", "")
    report = reference.check(cell, strict=False)
    with pytest.raises(ValueError, match="2 of 7 derivatives are wrong") as caught:
        reference.check(cell)
    assert str(caught.value) == str(report) == repr(report)
    found = report.wrong["da_g"]
    row, unit = found.index
    assert f"da_g     WRONG  at [{row}, {unit}]: must be {found.wanted:.6g}, got" in str(report)
    assert not report.ok and report["da_i"] < 1e-8 < report["da_g"] == found.error
    assert "dx" not in report  # it would follow from the step's mistake


@pytest.mark.parametrize("factor", [1.00001, 1 - 1e-5])
def test_a_small_error_is_an_error(factor):
    cell = mutant("rnn_tanh", "dh *", f"{factor!r} * dh *")
    assert list(reference.check(cell, strict=False).wrong) == ["da", "dh_prev"]
    assert reference.check(cell, rtol=1e-3).ok


def light(factor):
    """h_t = 0.001 sigmoid(a + u) h_{t-1}, which saves p and not the gate; da times a factor."""

    def step(a, state, w, b):
        (h,) = state
        p = a[0] + h @ w.T + b
        return (1e-3 * sigmoid(p) * h,), (h,), (p, h)

    def derivative(dstate, saved, w, da, du):
        (dh,), (p, h) = dstate, saved
        f = sigmoid(p)
        da[0] = factor(f) * 1e-3 * dh * h * f * (1 - f)
        return (1e-3 * dh * f + da[0] @ w,)

    return reference.Cell(1, 1, step, derivative, phases=((0, 1),), names=("f",))


def test_errors_of_small_derivatives_are_relative_to_these():
    assert reference.check(light(lambda f: 1)).ok
    assert "da_f" in reference.check(light(lambda f: 1.0001), strict=False).wrong


def test_a_gate_that_the_step_does_not_save_is_named_by_its_formula():
    report = reference.check(light(lambda f: 1 / f), strict=False)
    assert report.wrong["da_f"].cause == "the factor sigmoid(p_f) is missing"


def test_a_tape_that_a_later_step_changes_is_noticed():
    kept = np.empty((2, 4))
    rnn = reference.CELLS["rnn_tanh"]

    def step(a, state, w, b):
        after, operands, h = rnn.step(a, state, w, b)
        if h.shape == kept.shape:
            kept[...] = h
            return after, operands, kept
        return after, operands, h

    report = reference.check(dataclasses.replace(rnn, step=step), strict=False)
    assert list(report.wrong)[0] == "dx"
    assert "hold an array that a later step changes" in report.wrong["dx"].cause


def test_a_wrong_operand_is_named():
    def step(a, state, w, b):
        after, operands, h = reference.CELLS["rnn_tanh"].step(a, state, w, b)
        return after, after, h  # h_t in place of h_{t-1}

    cell = dataclasses.replace(reference.CELLS["rnn_tanh"], step=step)
    report = reference.check(cell, strict=False)
    assert list(report.wrong) == ["v"]
    assert "the array that it multiplies by w_hh" in report.wrong["v"].cause


def test_a_cell_that_reads_a_and_u_separately_needs_added_false():
    cell = dataclasses.replace(reference.CELLS["gru_after"], added=True)
    report = reference.check(cell, strict=False)
    assert "added=False" in report.wrong["a + u"].cause


def test_a_parameter_of_its_own_is_named():
    plain = reference_cell(variant_cell("lstm", peephole=True))

    def derivative(dstate, saved, w, da, du, params, masks, dparams):
        before = plain.derivative(dstate, saved, w, da, du, params, masks, dparams)
        dparams["weight_peephole"] *= -1
        return before

    report = reference.check(dataclasses.replace(plain, derivative=derivative), strict=False)
    assert report.wrong["dp weight_peephole"].cause == "the sign is wrong"


@pytest.mark.parametrize("change", [lambda d: d + 1, lambda d: d * 0.3 + d**2], ids=["", "2"])
@pytest.mark.parametrize("name", ["peephole", "projection"])
def test_a_mistake_in_an_array_of_another_width_is_named_too(name, change):
    plain = reference_cell(variant_cell("lstm", peephole=True))
    cell = dataclasses.replace(plain, projects=name == "projection")

    def derivative(dstate, saved, w, da, du, params, masks, dparams):
        dh, dc = plain.derivative(dstate, saved, w, da, du, params, masks, dparams)
        if name == "projection":
            return change(dh), dc
        dparams["weight_peephole"][...] = change(dparams["weight_peephole"])
        return dh, dc

    report = reference.check(dataclasses.replace(cell, derivative=derivative), strict=False)
    wrong = "dh_prev" if name == "projection" else "dp weight_peephole"
    assert list(report.wrong) == [wrong]


def test_gates_without_names_have_numbers():
    cell = dataclasses.replace(mutant("lstm", " * (1 - g * g)", ""), names=None)
    assert next(iter(reference.check(cell, strict=False).wrong)) == "da_2"


def test_a_report_can_be_pickled():
    report = reference.check("lstm")
    assert dict(pickle.loads(pickle.dumps(report))) == dict(report)


# ---- a step or derivative that is no such function -----------------------------------------------


def with_step(change):
    def step(a, state, w, b):
        return change(a, state, *reference.CELLS["rnn_tanh"].step(a, state, w, b))

    return dataclasses.replace(reference.CELLS["rnn_tanh"], step=step)


def mixing(a, state, after, operands, h):
    return (h - h.mean(axis=0),), operands, h


def writing(a, state, after, operands, h):
    a += 1
    return after, operands, h


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (with_step(lambda a, s, after, v, h: after), r"return three things.* got 1 of them"),
        (with_step(lambda a, s, after, v, h: (h, v, h)), "state that step returns must be"),
        (with_step(lambda a, s, after, v, h: (after, h, h)), "operands that step returns must"),
        (with_step(lambda a, s, after, v, h: ((h[0],), v, h)), r"\(2, 4\) arrays, got \(4,\) at 0"),
        (with_step(writing), "step must not change its arguments"),
        (with_step(lambda a, s, after, v, h: ((h * np.nan,), v, h)), "must return finite .* in h"),
        (with_step(lambda a, s, after, v, h: ((h.astype("f4"),), v, h)), "in float64.* float32"),
        (with_step(lambda a, s, after, v, h: [after, v, h]), "return three .* got a list of 3"),
        (with_step(lambda a, s, after, v, h: ([h], v, h)), r"1: write \(h,\), got a list of 1"),
        (with_step(lambda a, s, after, v, h: ((h.tolist(),), v, h)), "arrays, got a list of 2 at"),
        (with_step(lambda a, s, after, v, h: ((np.ma.array(h),), v, h)), "got MaskedArray at 0"),
        (with_step(mixing), "step must treat each row of the batch alone, but row 0"),
        (mutant("rnn_tanh", "(du[0] @ w,)", "du[0] @ w"), r"of 1: write \(h,\), got an array"),
        (mutant("lstm", "dc = dc +", "dc +="), "derivative must not change dstate.* dc = dc"),
        (mutant("rnn_tanh", "da[0]", "h *= 0.5; da[0]"), "must not change w_hh and what step"),
        (mutant("lstm", ", dc * f)", ",)"), "derivative must be a tuple of 2, got 1 of them"),
        (mutant("rnn_tanh", "@ w,)", "@ w + 1j,)"), "dstate of derivative .* dtype complex128"),
        (mutant("rnn_tanh", "@ w,)", "@ w > 0,)"), "dstate of derivative .* float64.* dtype bool"),
    ],
)  # fmt: skip
def test_a_step_or_derivative_of_another_form_is_refused(cell, message):
    with pytest.raises(ValueError, match=message):
        reference.check(cell)


@pytest.mark.parametrize("factor", ["np.inf", "np.nan", "1e308"])
def test_an_infinite_derivative_is_wrong_without_a_warning(factor):
    cell = mutant("rnn_tanh", "dh * (1 - h * h)", f"{factor} * dh")
    with np.errstate(all="raise"):
        report = reference.check(cell, strict=False)
    assert not report.ok and not report.wrong["da"].right


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reference.check("LSTM"), ValueError, "cell must be"),
        (lambda: reference.check(np.tanh), TypeError, "cell must be a Cell or the name of one"),
        (lambda: reference.check("lstm", hidden=0), ValueError, "hidden must be"),
        (lambda: reference.check("lstm", strict=1), TypeError, "strict must be"),
        (lambda: reference.check("lstm", rtol=None), TypeError, "rtol must be a finite number"),
        (lambda: reference.check("lstm", rtol=np.inf), ValueError, "rtol must be a finite number"),
        (lambda: reference.check("lstm", rng="a"), TypeError, "rng must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- one step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", reference.CELLS)
def test_a_step_is_that_of_the_loop(cell):
    rng, row = np.random.default_rng(0), reference.CELLS[cell]
    x, rows = rng.uniform(-1, 1, (3, 2, 4)), 5 * row.gates
    weights = [rng.uniform(-1, 1, shape) for shape in ((rows, 4), (rows, 5), rows, rows)]
    state = None
    for x_t in x:
        state = reference.step(cell, x_t, state, *weights)
    _, wanted = reference.infer(cell, x, None, *weights)
    for got, array in zip(state, wanted, strict=True):
        np.testing.assert_allclose(got, array, rtol=1e-13)


def test_a_step_takes_integers_for_ones_among_zeros():
    w_ih, w_hh = np.random.default_rng(0).uniform(-1, 1, (2, 8, 2))
    (h,) = reference.step("rnn_tanh", np.array([1, 0]), None, w_ih[:2], w_hh[:2])
    (other,) = reference.step("rnn_tanh", np.eye(2)[[1, 0]], None, w_ih[:2], w_hh[:2])
    np.testing.assert_allclose(h, other, rtol=1e-13)


@pytest.mark.parametrize("run", [reference.forward, reference.infer])
def test_the_loop_refuses_what_is_no_cell(run):
    weights = reference.weights("lstm", 2, 3)
    with pytest.raises(ValueError, match="cell must be one of 'rnn_tanh'"):
        run("LSTM", np.ones((4, 1, 2)), None, *weights)
    with pytest.raises(TypeError, match="cell must be a Cell or the name of one, got function"):
        run(lambda: None, np.ones((4, 1, 2)), None, *weights)
