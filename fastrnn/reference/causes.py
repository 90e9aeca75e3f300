"""The likely cause of a wrong derivative, found by trying usual mistakes.

A gradient that should be W is G. If G is a known mistake of W at every element (the negative, W
without a factor that the step has, W with another gate's), a mistake of another kind would not give
the same numbers. `Values` names the arrays that a derivative is made of.

It must not know: the equations of any cell, finite differences.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from fastrnn.reference.cells import sigmoid

_CLOSE = 1e-5  # relative; differences are good to 1e-9, and no two values here are so alike


def is_close(got, wanted):
    """Whether two arrays are the same but for the errors of differences."""
    scale = np.abs(wanted).max(initial=0.0)
    return bool(scale and np.abs(got - wanted).max(initial=0.0) <= _CLOSE * scale)


class Values:
    """The values of a step by name, and the factors and terms that derivatives make of them.

    Attributes
    ----------
    factors : dict
        Text -> (B, H) array, simple ones first.
    """

    def __init__(self, probe, names):
        self.probe, self.names = probe, names
        named = self._named()
        self.factors = {}
        for form, of in _FORMS:
            self.factors |= {form.format(name): of(v) for name, v in named.items()}
        gates = {name: v for name, v in named.items() if "_" not in name}
        h = probe.before[0]
        if h.shape == probe.dstate[0].shape:
            self.factors |= {f"h_prev - {name}": h - v for name, v in gates.items()}
        self.factors = _without_equals(self.factors)

    def _named(self):
        """Name -> (B, H) array: states, gates, pre-activations, what the step saved."""
        probe, units = self.probe, self.probe.a.shape[1:]
        named = dict(zip(("h_prev", "c_prev"), probe.before, strict=False))
        named |= dict(zip(("h_t", "c_t"), probe.after, strict=False))
        if len(probe.after) == 2:
            named["tanh(c_t)"] = np.tanh(probe.after[1])
        named |= self._gates()
        for index, name in enumerate(self.names):
            named[f"a_{name}"] = probe.a[index]
            if index < len(probe.u):
                named[f"u_{name}"] = probe.u[index]
        saved = _arrays_of(probe.saved, units)
        named |= {f"saved[{index}]": array for index, array in saved.items()}
        return _without_equals({name: v for name, v in named.items() if v.shape == units})

    def _gates(self):
        """The gates by name: those that `gates_of` gives, then sigmoid and tanh of p_k = a_k + u_k.

        One that the step saves has the gate's name, and another one its formula.
        """
        probe, found = self.probe, {}
        shown, _ = probe.cell.gates_of(probe.saved)
        found |= {name: v for name, v in shown.items() if name != "c"}
        saved = _arrays_of(probe.saved, probe.a.shape[1:]).values()
        for index, name in enumerate(self.names):
            p = probe.a[index] + (probe.u[index] if index < len(probe.u) else 0)
            for of, text in ((sigmoid, "sigmoid"), (np.tanh, "tanh")):
                is_saved = any(np.allclose(of(p), v, rtol=1e-12) for v in saved)
                label = name if is_saved else f"{text}(p_{name})"
                found.setdefault(label, of(p))
        return found


_FORMS = [
    ("{}", lambda v: v), ("(1 - {})", lambda v: 1 - v), ("(1 - {}^2)", lambda v: 1 - v * v),
    ("{0} (1 - {0})", lambda v: v * (1 - v)),
]  # fmt: skip


def _without_equals(named):
    """The entries whose arrays are no copies of an earlier one."""
    kept = {}
    for name, value in named.items():
        if not any(np.allclose(value, v, rtol=1e-12, atol=0) for v in kept.values()):
            kept[name] = value
    return kept


def _arrays_of(saved, shape):
    """Index -> array, of the arrays of this shape in what a step saved."""
    parts = saved if isinstance(saved, tuple | list) else [saved]
    found = {}
    for index, part in enumerate(parts):
        if isinstance(part, np.ndarray) and part.shape == shape:
            found[str(index)] = part
        elif isinstance(part, np.ndarray) and part.shape[1:] == shape:
            found |= {f"{index}][{k}": of for k, of in enumerate(part)}
    return found


def cause_of(got, wanted, values, others=None, terms=None, transposed=None):
    """The likely cause as a text, or "".

    values : `Values`
    others : name -> array, what other derivatives should be
    terms : name -> array like `wanted`, terms that it may be a sum of
    transposed : name of a matrix -> a term with it, and the same with its transpose
    """
    if np.isnan(got).any():
        return "it is not filled in: assign to it in place, as in da[0] = ..."
    if not np.abs(wanted).max():
        return "it must be 0: the step does not depend on it"
    if not got.any():
        return "it is 0: the derivative leaves this path out"
    if is_close(got, -wanted):
        return "the sign is wrong"
    for name, other in (others or {}).items():
        if other.shape == got.shape and is_close(got, other):
            return f"it is what {name} must be: exchanged?"
    for name, (right, wrong) in (transposed or {}).items():
        if is_close(got, wanted - right + wrong):
            return f"{name} is transposed: for the rows of a batch, W^T d is d @ w, not d @ w.T"
    factors = values.factors if got.shape == values.probe.a.shape[1:] else {}
    terms = (terms or {}) | _products(values.probe.dstate, factors)
    terms = {name: term for name, term in terms.items() if term.shape == got.shape}
    return (
        _constant(got, wanted) or _factor(got, wanted, factors)
        or (factors and _factor_for_another(got, wanted, factors))
        or _term(got, wanted, terms) or _term_for_another(got, wanted, terms)
        or _term_of_two_factors(got, wanted, values.probe.dstate, factors)
    )  # fmt: skip


def _products(dstate, factors):
    """The terms that are the gradient of h or c times a factor or none: text -> array."""
    found = {}
    for name, d in zip(("dh", "dc"), dstate, strict=False):
        found[name] = d
        found |= {f"{name} {text}": d * f for text, f in factors.items()}
    return found


def _constant(got, wanted):
    ratio = np.vdot(wanted, got) / np.vdot(wanted, wanted)
    if ratio and is_close(got, ratio * wanted):
        return f"a constant factor: it is {ratio:.6g} times what it must be"
    return ""


def _factor(got, wanted, factors):
    for sign, also in ((1, ""), (-1, ", and the sign is wrong")):
        for name, factor in factors.items():
            if is_close(sign * got * factor, wanted):
                return f"the factor {name} is missing{also}"
            if is_close(sign * got, wanted * factor):
                return f"the factor {name} must not be there{also}"
    return ""


def _term(got, wanted, terms):
    """A term that is missing, that has the wrong sign, or that must not be there."""
    gap = wanted - got
    for name, term in terms.items():
        if is_close(gap, term):
            return f"the term {name} is missing"
        if is_close(gap, 2 * term):
            return f"the term {name} has the wrong sign"
        if is_close(gap, -term):
            return f"the term {name} must not be there"
    return ""


def _factor_for_another(got, wanted, factors):
    names, each = list(factors), np.array(list(factors.values()))
    for name, factor in factors.items():
        index = _first_close(got * factor, wanted * each)
        if index is not None and names[index] != name:
            return f"the factor {name} is missing, and {names[index]} stands in its place"
        index = _first_close(got * factor * each, wanted)
        if index is not None and names[index] != name:
            return f"the factors {name} and {names[index]} are missing"
    return ""


def _term_for_another(got, wanted, terms):
    names, each, gap = list(terms), np.array(list(terms.values())), wanted - got
    for name, term in terms.items():
        index = _first_close(gap, term - each)
        if index is not None:
            return f"the term {name} is missing, and {names[index]} stands in its place"
    return ""


def _term_of_two_factors(got, wanted, dstate, factors):
    names, each, gap = list(factors), np.array(list(factors.values())), wanted - got
    for d, (name, factor) in product(zip(("dh", "dc"), dstate, strict=False), factors.items()):
        terms = d[1] * factor * each
        for ratio, fault in ((1, "is missing"), (2, "has the wrong sign"), (-1, "must not be")):
            index = _first_close(gap, ratio * terms)
            if index is not None:
                there = " there" * (ratio < 0)
                return f"the term {d[0]} {name} {names[index]} {fault}{there}"
    return ""


def _first_close(got, wanted):
    """The index of the first of several arrays that is close; None if none is."""
    got, wanted = np.broadcast_arrays(got, wanted)
    if not len(got):
        return None
    axes = tuple(range(1, got.ndim))
    scales, errors = abs(wanted).max(axis=axes), abs(got - wanted).max(axis=axes)
    close = (scales > 0) & (errors <= _CLOSE * scales)
    return int(close.argmax()) if close.any() else None
