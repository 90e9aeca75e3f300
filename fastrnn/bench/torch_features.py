"""What a careful user of PyTorch writes for ragged batches, resets, ids and layer normalisation.

A way is a function (given, x) -> y; x is (T, B, I), or ids (T, B). Each feature has the ways that
are known to be good; the benchmark takes the fastest.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class Given:
    """A layer, what its calls take besides x (Case.extra_arrays), and gains of normalisation."""

    layer: torch.nn.Module
    cell: str
    H: int
    extra: dict[str, Tensor]
    norms: dict[str, Tensor]

    @classmethod
    def of(cls, layer, cell: str, H: int, extra: dict) -> Given:
        found = {name: torch.from_numpy(value) for name, value in extra.items()}
        norms = {name: found.pop(name) for name in list(found) if "_ln_" in name}
        for gain in norms.values():
            gain.requires_grad_()
        return cls(layer, cell, H, found, norms)


# ---- lengths -------------------------------------------------------------------------------------


def packed(given: Given, x: Tensor) -> Tensor:
    rnn = torch.nn.utils.rnn
    sequence = rnn.pack_padded_sequence(x, given.extra["lengths"], enforce_sorted=False)
    return rnn.pad_packed_sequence(given.layer(sequence)[0], total_length=len(x))[0]


def padded(given: Given, x: Tensor) -> Tensor:
    """All steps of all rows, and zeros beyond the ends; good enough for one direction."""
    inside = torch.arange(len(x))[:, None] < given.extra["lengths"]
    return given.layer(x)[0] * inside[:, :, None]


# ---- resets --------------------------------------------------------------------------------------


def _zero_state(given: Given, rows: int):
    zeros = torch.zeros(1, rows, given.H)
    return (zeros, zeros) if given.cell == "lstm" else zeros


def _kept(state, keep: Tensor):
    return tuple(s * keep for s in state) if isinstance(state, tuple) else state * keep


def by_step(given: Given, x: Tensor) -> Tensor:
    """One call of the layer a step."""
    keep = (~given.extra["reset"]).to(x.dtype)[:, None, :, None]
    state, rows = _zero_state(given, x.shape[1]), []
    for x_t, keep_t in zip(x.split(1), keep, strict=True):
        y, state = given.layer(x_t, _kept(state, keep_t))
        rows.append(y)
    return torch.cat(rows)


def by_segment(given: Given, x: Tensor) -> Tensor:
    """One call from a step in which any row is reset to the next such step."""
    reset = given.extra["reset"]
    keep = (~reset).to(x.dtype)[:, None, :, None]
    begins = sorted({0, *torch.nonzero(reset.any(1)).ravel().tolist()})
    state, parts = _zero_state(given, x.shape[1]), []
    for begin, end in zip(begins, [*begins[1:], len(x)], strict=True):
        y, state = given.layer(x[begin:end], _kept(state, keep[begin]))
        parts.append(y)
    return torch.cat(parts)


# ---- ids -----------------------------------------------------------------------------------------


def embedded(given: Given, ids: Tensor) -> Tensor:
    return given.layer(functional.embedding(ids, given.extra["embedding"]))[0]


# ---- layer normalisation -------------------------------------------------------------------------


def _lstm_steps(
    a: Tensor, w_hh: Tensor, gain: Tensor, b_hh: Tensor, gain_c: Tensor, shift_c: Tensor
) -> Tensor:
    H = w_hh.shape[1]
    h = torch.zeros(a.shape[1], H)
    c, rows = h, []
    for a_t in a.unbind(0):
        u = functional.layer_norm(torch.mm(h, w_hh.t()), [4 * H], gain, b_hh)
        i, f, g, o = (a_t + u).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(functional.layer_norm(c, [H], gain_c, shift_c))
        rows.append(h)
    return torch.stack(rows)


def _gru_steps(a: Tensor, w_hh: Tensor, gain: Tensor, b_hh: Tensor) -> Tensor:
    H = w_hh.shape[1]
    h, rows = torch.zeros(a.shape[1], H), []
    for a_t in a.unbind(0):
        u = torch.mm(h, w_hh.t())
        u_rz = functional.layer_norm(u[:, : 2 * H], [2 * H], gain[: 2 * H], b_hh[: 2 * H])
        u_n = functional.layer_norm(u[:, 2 * H :], [H], gain[2 * H :], b_hh[2 * H :])
        r, z = torch.sigmoid(a_t[:, : 2 * H] + u_rz).chunk(2, 1)
        n = torch.tanh(a_t[:, 2 * H :] + r * u_n)
        h = n + z * (h - n)
        rows.append(h)
    return torch.stack(rows)


def _normalised(given: Given, x: Tensor, steps) -> Tensor:
    """The inputs' product and its normalisation for all steps at once, then a loop over time."""
    parameters, norms, H = dict(given.layer.named_parameters()), given.norms, given.H
    w_ih, w_hh = parameters["weight_ih_l0"], parameters["weight_hh_l0"]
    b_ih, b_hh = parameters["bias_ih_l0"], parameters["bias_hh_l0"]
    gain, gain_hh = norms["weight_ln_ih_l0"], norms["weight_ln_hh_l0"]
    q = x @ w_ih.t()
    if given.cell == "lstm":
        a = functional.layer_norm(q, [4 * H], gain, b_ih)
        return steps(a, w_hh, gain_hh, b_hh, norms["weight_ln_c_l0"], norms["bias_ln_c_l0"])
    parts = [
        functional.layer_norm(q[..., part], [len(gain[part])], gain[part], b_ih[part])
        for part in (slice(0, 2 * H), slice(2 * H, None))
    ]
    return steps(torch.cat(parts, -1), w_hh, gain_hh, b_hh)


_LOOPS = {"lstm": _lstm_steps, "gru": _gru_steps}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer Pythons: it warns that it is no longer developed
    _SCRIPTED = {cell: torch.jit.script(steps) for cell, steps in _LOOPS.items()}


def loop(given: Given, x: Tensor) -> Tensor:
    return _normalised(given, x, _LOOPS[given.cell])


def scripted(given: Given, x: Tensor) -> Tensor:
    return _normalised(given, x, _SCRIPTED[given.cell])


WAYS = {
    "lengths": {"packed": packed, "padded": padded},
    "reset": {"by step": by_step, "by segment": by_segment},
    "ids": {"embedding": embedded},
    "layer_norm": {"loop": loop, "scripted": scripted},
}
