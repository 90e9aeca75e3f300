"""Layer normalisation of the products: (V2), (V3), (V12) and (V13) of variants.py.

q, a and u are (G, B, H). A group is a range of gates [first, last) that are normalised together,
row by row.
"""

import numpy as np

from fastrnn.reference.cells import by_row

_EPSILON = 1e-5
_SHIFTS = {"ih": "bias_ih", "hh": "bias_hh", "c": "bias_ln_c"}  # the bias of each normalised array


def normalised(q, groups):
    """(V2) for q (G, B, H), in each group of gates -> N, and 1 / sqrt(var + epsilon)."""
    n, scales = np.empty_like(q), np.empty((len(q), q.shape[1], 1), q.dtype)
    for first, last in groups:
        part = q[first:last]
        part = part - part.mean((0, 2), keepdims=True)
        scale = 1 / np.sqrt(np.square(part).mean((0, 2), keepdims=True) + _EPSILON)
        n[first:last], scales[first:last] = part * scale, scale
    return n, scales


def normalised_back(dn, n, scales, groups):
    """(V12)."""
    dq = np.empty_like(dn)
    for first, last in groups:
        d, k = dn[first:last], n[first:last]
        along = (d * k).mean((0, 2), keepdims=True)
        dq[first:last] = scales[first:last] * (d - d.mean((0, 2), keepdims=True) - k * along)
    return dq


def affine(n, params, side):
    """gain N + bias for N (G, B, H); the bias may be None."""
    gates, _, units = n.shape
    q = n * params[f"weight_ln_{side}"].reshape(gates, 1, units)
    bias = params[_SHIFTS[side]]
    return q if bias is None else q + bias.reshape(gates, 1, units)


def affine_back(dq, n, params, side, dparams):
    """The gradient dN of N. It also fills in (V13)."""
    gates, _, units = n.shape
    dparams[f"weight_ln_{side}"][...] = by_row(dq * n)
    if _SHIFTS[side] in dparams:
        dparams[_SHIFTS[side]][...] = by_row(dq)
    return dq * params[f"weight_ln_{side}"].reshape(gates, 1, units)


def sides(o, a, u, params, groups):
    """(V3) -> a, u, and the values that its derivative reads."""
    if not o.layer_norm:
        return a, u, None
    normed = normalised(a, groups), normalised(u, groups)
    a, u = (affine(n, params, s) for (n, _), s in zip(normed, ("ih", "hh"), strict=True))
    return a, u, normed


def sides_back(normed, params, dparams, da, du, groups):
    """Turn da and du, the gradients of (V3), into those of the products, in place."""
    if normed is None:
        return
    for d, (n, scales), side in zip((da, du), normed, ("ih", "hh"), strict=True):
        dn = affine_back(d, n, params, side, dparams)
        d[...] = normalised_back(dn, n, scales, groups)
