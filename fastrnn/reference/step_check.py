"""The check of one step: each result of a cell's derivative, and the likely cause of a wrong one.

It must not know: the equations of any cell, time.
"""

from __future__ import annotations

import numpy as np

from fastrnn.reference.causes import Values, cause_of, is_close
from fastrnn.reference.report import compared


@np.errstate(all="ignore")  # infinities are wrong, without a warning
def findings_of_step(probe, rtol):
    """Name -> `Finding`, of a `Probe`. The order is that in which mistakes should be mended."""
    names = _names_of(probe.cell)
    derived, second = probe.derived(probe.dstate), probe.derived(probe.dstate)
    if not all(np.array_equal(d, second[key], equal_nan=True) for key, d in derived.items()):
        raise ValueError(
            "derivative must give the same gradients when it is called again, but it does not: it "
            "must not change w_hh and what step saved"
        )
    wanted = {key: probe.differences(key, probe.dstate) for key in derived}
    findings = _operands(probe, rtol) | _separate(probe, rtol)
    of_results = _by_name(names, derived), _by_name(names, wanted)
    for name, got in of_results[0].items():
        findings[name] = compared(got, of_results[1][name], rtol)
    wrong = [name for name in of_results[0] if not findings[name].right]
    if wrong:
        for name, cause in _Causes(probe, names, derived, wanted).of(wrong).items():
            findings[name] = findings[name]._replace(cause=cause)
    return findings


def _names_of(cell):
    return cell.names or (("",) if cell.gates == 1 else tuple(map(str, range(cell.gates))))


def _by_name(names, gradients):
    """The gates' gradients one by one, and the other gradients: name -> array."""
    found = {}
    for key, gradient in gradients.items():
        if key in ("a", "u"):
            gates = zip(names, gradient, strict=False)  # u may have fewer
            found |= {f"d{key}_{name}".rstrip("_"): d for name, d in gates}
        else:
            found[f"d{key}" if key.startswith("p ") else f"d{key}_prev"] = gradient
    return found


def _operands(probe, rtol):
    """(S6) with the operands of the step, against differences with respect to w_hh."""
    cell, found = probe.cell, {}
    if not cell.phases:
        return found
    hidden, dstate = probe.a.shape[2], probe.dstate
    du, dw = probe.differences("u", dstate), probe.differences("w", dstate)
    for number, ((first, last), v) in enumerate(zip(cell.phases, probe.operands, strict=True)):
        got = np.einsum("gbh,bp->ghp", du[first:last], v).reshape(-1, v.shape[1])
        finding = compared(got, dw[first * hidden : last * hidden], rtol)
        gates = ", ".join(filter(None, _names_of(cell)[first:last]))
        cause = "as an operand, step must return the array that it multiplies by w_hh" + (
            f" in the gates {gates}" * bool(gates)
        )
        name = "v" if len(cell.phases) == 1 else f"v_{number}"
        found[name] = finding if finding.right else finding._replace(cause=cause)
    return found


def _separate(probe, rtol):
    """An entry "a + u" if the cell says that its step reads this sum alone, and that is not so."""
    cell = probe.cell
    if not (cell.added and cell.phases):
        return {}
    of_a = probe.differences("a", probe.dstate)[: cell.recurrent]
    finding = compared(of_a, probe.differences("u", probe.dstate), rtol)
    if finding.right:
        return {}
    cause = "the step reads a and u separately: make the cell with added=False, and fill in du too"
    return {"a + u": finding._replace(cause=cause)}


class _Causes:
    """The likely causes of wrong derivatives.

    derived, wanted : as `Probe.derived` and `Probe.differences` give them
    """

    def __init__(self, probe, names, derived, wanted):
        self.probe, self.names = probe, names
        self.derived, self.wanted = derived, wanted
        self.got_by_name, self.wanted_by_name = _by_name(names, derived), _by_name(names, wanted)
        self.values = Values(probe, names)

    def of(self, wrong):
        """Name -> cause, "" for the first one if it has none."""
        causes, same = {}, {}
        for name in wrong:
            earlier = self._with_the_same_error(name, causes)
            if earlier is not None:
                same.setdefault(earlier, []).append(name)
                causes[name] = f"the same error as in {earlier}, so perhaps one mistake"
            else:
                causes[name] = self._of_gate_gradients(name, wrong) or self._of_one(name)
        for name, others in same.items():
            also = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} the same error"
            text = f"{also}: one reads the other, or they read the same"
            causes[name] = "; ".join(filter(None, (causes[name], text)))
        for name in wrong[1:]:
            causes[name] = causes[name] or f"not known: it may read {wrong[0]}, which is wrong"
        return causes

    def _with_the_same_error(self, name, earlier):
        """The first of the earlier wrong ones that is wrong by the same factor everywhere."""
        got, wanted = self.got_by_name, self.wanted_by_name
        for other in earlier:
            if got[name].shape == got[other].shape and is_close(
                got[name] * wanted[other], wanted[name] * got[other]
            ):
                return other
        return None

    def _of_gate_gradients(self, name, wrong):
        """The cause of a dh_prev that is wrong because du is."""
        if name != "dh_prev" or not any(w.startswith(("da", "du")) for w in wrong):
            return ""
        key = "u" if "u" in self.derived else "a"
        count = self.probe.cell.recurrent
        errors = self.derived[key][:count] - self.wanted[key][:count]
        if np.isnan(errors).any():
            return f"it reads d{key}, which is not filled in"
        got, wanted = self.derived["h"], self.wanted["h"]
        if errors.size and is_close(got - sum(self._products(errors)), wanted):
            return f"it follows from d{key}, which is wrong"
        return ""

    def _products(self, gates, transposed=False):
        """W^T d of each gate's d."""
        hidden = self.probe.a.shape[2]
        blocks = [self.probe.w[k * hidden : (k + 1) * hidden] for k in range(len(gates))]
        return [d @ (w.T if transposed else w) for d, w in zip(gates, blocks, strict=True)]

    def _of_one(self, name):
        """The cause of one derivative; for a cell with h and c also of the part that is wrong."""
        got, wanted, dstate = self.got_by_name, self.wanted_by_name, self.probe.dstate
        others = {key: array for key, array in wanted.items() if key != name}
        terms, transposed = self._terms() if name == "dh_prev" else ({}, {})
        cause = cause_of(got[name], wanted[name], self.values, others, terms, transposed)
        if cause or len(dstate) == 1:
            return cause
        for index, which in enumerate(("h", "c")):
            alone = tuple(d * (i == index) for i, d in enumerate(dstate))
            part = _by_name(self.names, self.probe.derived(alone))[name]
            of_part = {key: self.probe.differences(key, alone) for key in self.derived}
            of_part = _by_name(self.names, of_part)[name]
            if not compared(part, of_part, 1e-6).right:
                cause = cause_of(part, of_part, self.values)
                if cause:
                    return f"in the part that comes from d{which}_t: {cause}"
        return ""

    def _terms(self):
        """The terms of dh_prev that are products with W_hh: name -> array, and name -> wrong one.

        The second has, for a gate's matrix, the term with the matrix in place of its transpose.
        """
        count, derived = self.probe.cell.recurrent, self.derived
        labels = [name or "hh" for name in self.names[:count]]
        terms, transposed = {}, {}
        for key in "ua":
            if key in derived:
                products = self._products(derived[key][:count])
                of = [f"W_{k}^T d{key}" + f"_{k}" * (k != "hh") for k in labels]
                terms |= dict(zip(of, products, strict=True))
                if count > 1:
                    terms[f"W_hh^T d{key}"] = sum(products)
        gates = derived.get("u", derived["a"])[:count]
        if self.probe.w.shape[1] == self.probe.a.shape[2]:
            right, wrong = self._products(gates), self._products(gates, transposed=True)
            for k, *pair in zip(labels, right, wrong, strict=True):
                transposed[f"W_{k}"] = pair
            transposed["W_hh of each gate"] = sum(right), sum(wrong)
        return terms, transposed
