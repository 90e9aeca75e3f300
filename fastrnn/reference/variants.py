"""The variants of the cells in plain NumPy. Like the cells of cells.py, through_time.py runs them.

In C the same equations are in the kernels' *_variant.h and norm.h.

Each option changes equations of cells.py. Several options act together, in the order of this list.
Steps and derivatives have an `Options` as first argument. m and d are the dropout masks of a pass,
or None (dropout_masks.py). P, gain and bias are parameters.

    (V1)  v_t = m h_{t-1}                       recurrent dropout: one m (B, H) for all steps, 0 or
                                                1/(1-p); so (G3') has r m h_{t-1}; (G4) has h_{t-1}
    (V2)  N(q) = (q - mean q) / sqrt(var q + 1e-5)       over the features of a row
    (V3)  a_t = gain_ih N(W_ih x_t) + b_ih      layer normalisation, in place of (S1) and (S2)
          u_t = gain_hh N(W_hh v_t) + b_hh
    (V4)  p_i := p_i + P_i c_{t-1}              peepholes, as p_f
    (V5)  p_o := p_o + P_o c_t
    (V6)  p := min(max(p, -clip), clip)         every pre-activation, last before its activation
    (V7)  sigmoid(p) := min(max(s p + 1/2, 0), 1)        hard sigmoid, s = 1/6 or 1/5
    (V8)  f = 1 - i                             coupled gates: i g o
    (V9)  c_t := min(max(c_t, -cell_clip), cell_clip)    after (L5), before (V5) and (L6)
    (V10) h_t = o tanh(gain_c N(c_t) + bias_c)  layer normalisation, in place of (L6)
    (V11) state_t := d_t state_{t-1} + (1 - d_t) state_t          zoneout, of h and of c

In (V3) N normalises all gates of a row together in the LSTM; in the GRU r and z together, and n
alone. (V5) and (V10) read the c_t before (V11), and (V10) does not change it. A gradient is 0 where
a bound of (V6), (V7) or (V9) is reached: it is chosen, not multiplied, so NaN does not spread. d_t
is 0 or 1, drawn for each element and step; without masks it is its expectation.

    (V12) dq = (dN - mean dN - N mean(dN N)) / sqrt(var q + 1e-5)           the derivative of (V2)
    (V13) dgain = sum dq_out N, db = sum dq_out        for q_out = gain N + b of (V3), (V10); (S9)
    (V14) dP_i = sum dp_i c_{t-1}, dP_o = sum dp_o c_t; dc_t and dc_{t-1} gain dp_o P_o, dp_i P_i
    (V15) da_i = dc_t (g - c_{t-1}) i (1 - i)          (L8) and (L9) where gates are coupled

    peepholes             Gers, Schraudolph and Schmidhuber, Learning precise timing with LSTM
                          recurrent networks, 2002; here the gradient through c_t is complete
    coupled gates         Greff et al., LSTM: a search space odyssey, 2017 (CIFG)
    recurrent dropout     Gal and Ghahramani, A theoretically grounded application of dropout in
                          recurrent neural networks, 2016
    zoneout               Krueger et al., Zoneout: regularizing RNNs by randomly preserving hidden
                          activations, 2017
    layer normalisation   Ba, Kiros and Hinton, Layer normalization, 2016, supplement: (20) to (22)
                          for the LSTM, (26) to (28) for the GRU, whose reset gate acts after the
                          product. The two shifts there and the bias b are one: b_ih and b_hh here
    hard sigmoid          s = 1/5: ONNX, Keras 2; s = 1/6: PyTorch, Keras 3
"""

from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from fastrnn._cells.options import Options
from fastrnn.reference.cells import CELLS, Cell, by_gate, by_row, no_gates, sigmoid
from fastrnn.reference.layernorm import (
    affine,
    affine_back,
    normalised,
    normalised_back,
    sides,
    sides_back,
)

# ---- activations, bounds -------------------------------------------------------------------------


class _Activation(NamedTuple):
    """of : function p -> value. back : (gradient of the value, value) -> gradient of p."""

    of: object
    back: object


# These are functions with names, not lambdas, because pickled tapes refer to them.


def _hard_sigmoid(slope, p):
    return np.clip(slope * p + 0.5, 0, 1)


def _hard_sigmoid_back(slope, d, s):
    return np.where((s <= 0) | (s >= 1), 0, slope * d)


def _sigmoid_back(d, s):
    return d * s * (1 - s)


def _tanh_back(d, s):
    return d * (1 - s * s)


def _relu(p):
    return np.maximum(p, 0)


def _relu_back(d, s):
    return np.where(s <= 0, 0, d)


def _hard(slope):
    return _Activation(partial(_hard_sigmoid, slope), partial(_hard_sigmoid_back, slope))


_TANH = _Activation(np.tanh, _tanh_back)
_RELU = _Activation(_relu, _relu_back)
_GATES = {
    "sigmoid": _Activation(sigmoid, _sigmoid_back),
    "hard_sigmoid": _hard(1 / 6),
    "hard_sigmoid_onnx": _hard(1 / 5),
}


def _bounded(p, bound):
    return p if bound is None else np.clip(p, -bound, bound)


def _within(d, p, bound):
    """The gradient of p from that of `_bounded(p, bound)`."""
    return d if bound is None else np.where(np.abs(p) >= bound, 0, d)


def _value(o, activation, p):
    """(V6), then the activation."""
    return activation.of(_bounded(p, o.clip))


def _back(o, activation, d, value, p):
    return _within(activation.back(d, value), p, o.clip)


def _after_dropout(v, m):
    """(V1); also its derivative, with a gradient as v."""
    return v if m is None else v * m


# ---- RNN -----------------------------------------------------------------------------------------


def _rnn_step(phi, o, a, state, w, b, params, m):
    """(R1)."""
    (h_prev,) = state
    v = _after_dropout(h_prev, m)
    p = a[0] + (v @ w.T + b)
    h = _value(o, phi, p)
    return (h,), (v,), (p, h)


def _rnn_derivative(phi, o, dstate, saved, w, da, du, params, m, dparams):
    """(R2), (R3)."""
    (dh,), (p, h) = dstate, saved
    da[0] = _back(o, phi, dh, h, p)
    return (_after_dropout(du[0] @ w, m),)


# ---- LSTM ----------------------------------------------------------------------------------------

# The rows of p are i f g o, with coupled gates i g o. The rows of P are the same without g.


def _lstm_step(o, a, state, w, b, params, m):
    """(L1) to (L6)."""
    h_prev, c_prev = state
    v = _after_dropout(h_prev, m)
    a, u, normed = sides(o, a, by_gate(v @ w.T + b, len(a)), params, ((0, len(a)),))
    p, gate = a + u, _GATES[o.recurrent_activation]
    peepholes = _peepholes(o, params, c_prev)
    if o.peephole:
        p[: len(peepholes) - 1] += peepholes[:-1] * c_prev
    i, g = _value(o, gate, p[0]), _value(o, _TANH, p[-2])
    f = 1 - i if o.coupled else _value(o, gate, p[1])
    c = _bounded(f * c_prev + i * g, o.cell_clip)
    if o.peephole:
        p[-1] += peepholes[-1] * c
    out = _value(o, gate, p[-1])
    e, of_c = c, None
    if o.layer_norm:
        of_c = normalised(c[None], ((0, 1),))
        (e,) = affine(of_c[0], params, "c")
    tanh_c = np.tanh(e)
    return (out * tanh_c, c), (v,), (p, i, f, g, out, c_prev, c, tanh_c, normed, of_c)


def _peepholes(o, params, c):
    """(gates but g, 1, H), or None."""
    return params["weight_peephole"].reshape(-1, 1, c.shape[1]) if o.peephole else None


def _lstm_outer(o, dstate, saved, params, dparams):
    """da_o and the full gradient of c_t: (L11), (L7)."""
    p, _, _, _, out, _, c, tanh_c, _, of_c = saved
    dh, dc = dstate
    da_o = _back(o, _GATES[o.recurrent_activation], dh * tanh_c, out, p[-1])
    de = _TANH.back(dh * out, tanh_c)
    if o.layer_norm:
        de = affine_back(de[None], of_c[0], params, "c", dparams)
        (de,) = normalised_back(de, *of_c, ((0, 1),))
    dc = dc + de
    return da_o, dc + da_o * _peepholes(o, params, c)[-1] if o.peephole else dc


def _lstm_derivative(o, dstate, saved, w, da, du, params, m, dparams):
    """(L7) to (L13)."""
    p, i, f, g, _, c_prev, c, _, normed, _ = saved
    gate, peepholes = _GATES[o.recurrent_activation], _peepholes(o, params, c)
    da[-1], dc = _lstm_outer(o, dstate, saved, params, dparams)
    dc = _within(dc, c, o.cell_clip)
    di = dc * (g - c_prev) if o.coupled else dc * g
    da[0] = _back(o, gate, di, i, p[0])
    if not o.coupled:
        da[1] = _back(o, gate, dc * c_prev, f, p[1])
    da[-2] = _back(o, _TANH, dc * i, g, p[-2])
    dc_prev = dc * f
    if o.peephole:
        inner = da[: len(peepholes) - 1]
        dc_prev = dc_prev + (inner * peepholes[:-1]).sum(0)
        seen = np.concatenate([inner * c_prev, da[-1:] * c])
        dparams["weight_peephole"][...] = by_row(seen)
    if o.layer_norm:
        du[...] = da
    sides_back(normed, params, dparams, da, du, ((0, len(da)),))
    return _after_dropout(by_row(du) @ w, m), dc_prev


# ---- GRU -----------------------------------------------------------------------------------------

_GRU_GROUPS = ((0, 2), (2, 3))


def _gru_after_step(o, a, state, w, b, params, m):
    """(G1) to (G4)."""
    (h_prev,) = state
    v, gate = _after_dropout(h_prev, m), _GATES[o.recurrent_activation]
    a, u, normed = sides(o, a, by_gate(v @ w.T + b, 3), params, _GRU_GROUPS)
    p = a[:2] + u[:2]
    r, z = _value(o, gate, p)
    p_n = a[2] + r * u[2]
    n = _value(o, _TANH, p_n)
    return ((1 - z) * n + z * h_prev,), (v,), (p, p_n, r, z, n, h_prev, u[2], normed)


def _gru_after_derivative(o, dstate, saved, w, da, du, params, m, dparams):
    """(G5) to (G9)."""
    (dh,) = dstate
    p, p_n, r, z, n, h_prev, u_n, normed = saved
    gate = _GATES[o.recurrent_activation]
    da[1] = _back(o, gate, dh * (h_prev - n), z, p[1])
    da[2] = _back(o, _TANH, dh * (1 - z), n, p_n)
    da[0] = _back(o, gate, da[2] * u_n, r, p[0])
    du[:2] = da[:2]
    du[2] = da[2] * r
    sides_back(normed, params, dparams, da, du, _GRU_GROUPS)
    return (dh * z + _after_dropout(by_row(du) @ w, m),)


def _gru_before_step(o, a, state, w, b, params, m):
    """(G1), (G2), (G3'), (G4)."""
    (h_prev,) = state
    k = 2 * h_prev.shape[1]
    v, gate = _after_dropout(h_prev, m), _GATES[o.recurrent_activation]
    p = a[:2] + by_gate(v @ w[:k].T + b[:k], 2)
    r, z = _value(o, gate, p)
    reset = r * v
    p_n = a[2] + (reset @ w[k:].T + b[k:])
    n = _value(o, _TANH, p_n)
    return ((1 - z) * n + z * h_prev,), (v, reset), (p, p_n, r, z, n, h_prev, v)


def _gru_before_derivative(o, dstate, saved, w, da, du, params, m, dparams):
    """(G5), (G6), (G7') to (G9')."""
    (dh,) = dstate
    p, p_n, r, z, n, h_prev, v = saved
    k = 2 * h_prev.shape[1]
    gate = _GATES[o.recurrent_activation]
    da[1] = _back(o, gate, dh * (h_prev - n), z, p[1])
    da[2] = _back(o, _TANH, dh * (1 - z), n, p_n)
    dv = du[2] @ w[k:]
    da[0] = _back(o, gate, dv * v, r, p[0])
    return (dh * z + _after_dropout(dv * r, m) + _after_dropout(by_row(du[:2]) @ w[:k], m),)


# ---- the cells -----------------------------------------------------------------------------------


def _mixed(zoneout, arrays, others):
    """(V11) for each array of the state; `zoneout` is d_t of each, or empty."""
    if not zoneout:
        return arrays
    return tuple([d * b + (1 - d) * a for d, a, b in zip(zoneout, arrays, others, strict=True)])


def _masks_of(o, masks):
    """The mask of h or None, and d_t of (V11) for each array of the state or ().

    d_t is the drawn zoneout masks, and the probabilities, their expectation, if none were drawn.
    """
    m, drawn = (None, ()) if masks is None else masks
    return m, drawn or o.zoneout


def _step(step, o, a, state, w, b, params, masks):
    """A cell's step, then (V11)."""
    m, zoneout = _masks_of(o, masks)
    after, operands, saved = step(o, a, state, w, b, params, m)
    mixed = _mixed(zoneout, after, state)
    return mixed, operands, (saved, mixed)


def _derivative(derivative, o, dstate, saved, w, da, du, params, masks, dparams):
    """The derivative of (V11): the sum of the gradients through the step and past it."""
    m, zoneout = _masks_of(o, masks)
    through = (
        tuple([(1 - d) * ds for d, ds in zip(zoneout, dstate, strict=True)]) if zoneout else dstate
    )
    before = derivative(o, through, saved[0], w, da, du, params, m, dparams)
    if not zoneout:
        return before
    return tuple([b + d * ds for b, d, ds in zip(before, zoneout, dstate, strict=True)])


# `_step` saves a pair: the values that the cell's step saved, and the state after (V11).


def _lstm_gates(saved):
    (_, i, f, g, out, c_prev, *_), (_, c) = saved
    return {"i": i, "f": f, "g": g, "o": out, "c": c}, c_prev


def _gru_gates(saved):
    return dict(zip("rzn", saved[0][2:5], strict=True)), None


_GATES_OF = {"rnn": no_gates, "lstm": _lstm_gates, "gru": _gru_gates}


def _reaches_c(o, dstate, saved, params, masks, dparams):
    """(L7). With zoneout h_t reads the c_t before (V11), not the one of the state."""
    _, zoneout = _masks_of(o, masks)
    return dstate[1] if zoneout else _lstm_outer(o, dstate, saved[0], params, dparams)[1]


_FUNCTIONS = {
    "rnn_tanh": (partial(_rnn_step, _TANH), partial(_rnn_derivative, _TANH)),
    "rnn_relu": (partial(_rnn_step, _RELU), partial(_rnn_derivative, _RELU)),
    "lstm": (_lstm_step, _lstm_derivative),
    "gru_after": (_gru_after_step, _gru_after_derivative),
    "gru_before": (_gru_before_step, _gru_before_derivative),
}


@lru_cache
def reference_cell(cell, takes_masks=False):
    """The reference's cell for a `fastrnn._cells.registry.Cell`.

    takes_masks : True if the pass has `DropoutMasks`, which the cells of cells.py do not take.
    """
    plain = CELLS[cell.name]
    if cell.options is None and not takes_masks:
        return replace(plain, projects=True) if cell.projects else plain
    o, (step, derivative) = cell.options or Options(), _FUNCTIONS[cell.name]
    return Cell(
        gates=cell.gates,
        states=plain.states,
        step=partial(_step, step, o),
        derivative=partial(_derivative, derivative, o),
        phases=((0, cell.gates),) if len(plain.phases) == 1 else plain.phases,
        added=plain.added and not o.layer_norm,
        extras=tuple((e.kind, e.units) for e in cell.extras if e.units is not None),
        projects=cell.projects,
        biased=not o.layer_norm,
        gates_of=_GATES_OF[cell.function],
        reaches_c=partial(_reaches_c, o) if plain.states == 2 else None,
        names=("i", "g", "o") if o.coupled else plain.names,
    )


# ---- the list of cells ---------------------------------------------------------------------------

_OF_ANY = {"clip", "recurrent_dropout", "zoneout"}
_OF_GATED = _OF_ANY | {"recurrent_activation"}
_TAKES = {
    "rnn_tanh": _OF_ANY, "rnn_relu": _OF_ANY, "gru_after": _OF_GATED, "gru_before": _OF_GATED,
    "lstm": _OF_GATED | {"cell_clip", "proj_size"},
}  # fmt: skip
_OWN = {
    "rnn_tanh": [()], "rnn_relu": [()], "gru_before": [()],
    "lstm": [(), ("coupled",), ("peephole",), ("coupled", "peephole"), ("layer_norm",),
             ("coupled", "layer_norm")],
    "gru_after": [(), ("layer_norm",)],
}  # fmt: skip


def cells():
    """The list of cells and variants, the same as that of the compiled module's `cells`.

    Options that change gates or parameters have a variant of their own. layer_norm and peephole
    together have none, because the normalised LSTM takes peepholes as an option.
    """
    listed = []
    for name, plain in CELLS.items():
        projects = {"proj_size"} & _TAKES.get(name, set())
        listed.append(_listed(name, name, plain, projects, ()))
        for own in _OWN.get(name, []):
            with_peepholes = name == "lstm" and "layer_norm" in own
            takes = _TAKES[name] | ({"peephole"} if with_peepholes else set())
            listed.append(_listed(_called(name, own), name, plain, takes, own))
    return listed


def _called(name, own):
    words = ["normalised" if word == "layer_norm" else word for word in own]
    return "_".join([name.removesuffix("_after"), *words]) if own else f"{name}_variant"


def _listed(name, plain_name, plain, takes, own):
    gates, extras = plain.gates - ("coupled" in own), {}
    if "layer_norm" in own:
        extras = {"weight_ln_ih": gates, "weight_ln_hh": gates}
        extras |= {"weight_ln_c": 1, "bias_ln_c": 1} if plain.states == 2 else {}
    if "peephole" in own or "peephole" in takes:
        extras["weight_peephole"] = gates - 1  # all gates but g
    return {
        "name": name, "plain": plain_name, "takes": frozenset(takes), "has": frozenset(own),
        "gates": gates, "recurrent": gates if plain.phases else 0, "states": plain.states,
        "extras": extras,
    }  # fmt: skip
