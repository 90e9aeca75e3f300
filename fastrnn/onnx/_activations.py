"""The activations of ONNX's recurrent operators: names, alpha and beta, functions in NumPy.

Source: the operators RNN, LSTM and GRU of ONNX, opset 22; for the defaults of alpha and beta the
operators of the same names.

It must not know: nodes, cells, kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.checks import shown
from fastrnn.reference.cells import sigmoid


class Activation(NamedTuple):
    """An activation; alpha and beta are None if it has none."""

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __call__(self, p):
        """Apply the function to an array."""
        return _KINDS[self.name.lower()].function(p, self)

    def is_like(self, name, alpha=None, beta=None):
        """Return whether it is that one; alpha and beta are compared as float32, as files have."""
        mine, its = [
            tuple([None if number is None else np.float32(number) for number in pair])
            for pair in ((self.alpha, self.beta), (alpha, beta))
        ]
        return self.name == name and mine == its


class _Kind(NamedTuple):
    """An activation's name and function, and the defaults of alpha and beta.

    None : the function has no such number. _REQUIRED : it has no default.
    """

    name: str
    function: object
    alpha: float | None = None
    beta: float | None = None


_REQUIRED = float("nan")


def _elu(p, a):
    return np.where(p < 0, a.alpha * np.expm1(np.minimum(p, 0)), p)


# NaN stays NaN in each of them.
_KINDS = {
    kind.name.lower(): kind
    for kind in (
        _Kind("Relu", lambda p, a: np.maximum(p, 0)),
        _Kind("Tanh", lambda p, a: np.tanh(p)),
        _Kind("Sigmoid", lambda p, a: sigmoid(p)),
        _Kind("Affine", lambda p, a: a.alpha * p + a.beta, _REQUIRED, _REQUIRED),
        _Kind("LeakyRelu", lambda p, a: np.where(p < 0, a.alpha * p, p), 0.01),
        _Kind("ThresholdedRelu", lambda p, a: np.where(p < a.alpha, 0, p), 1.0),
        _Kind("ScaledTanh", lambda p, a: a.alpha * np.tanh(a.beta * p), _REQUIRED, _REQUIRED),
        _Kind("HardSigmoid", lambda p, a: np.clip(a.alpha * p + a.beta, 0, 1), 0.2, 0.5),
        _Kind("Elu", _elu, 1.0),
        _Kind("Softsign", lambda p, a: p / (1 + np.abs(p))),
        _Kind("Softplus", lambda p, a: np.logaddexp(p, 0)),
    )
}


def activations_of(names, alphas, betas, owner):
    """The `Activation` of each name; case does not count.

    alphas, betas : lists; each function that has such a number takes the next one, in order, or the
    default if the list is at its end. Some programs write a number for every function instead: if
    the two readings differ, the list is refused.
    """
    kinds = []
    for name in names:
        kind = _KINDS.get(name.lower())
        if kind is None:
            known = ", ".join(k.name for k in _KINDS.values())
            raise ValueError(f"activations of {owner} must be among {known}, got {shown(name)}")
        kinds.append(kind)
    numbers = [
        _numbers(attribute, given, [getattr(kind, which) for kind in kinds], kinds, owner)
        for attribute, given, which in (
            ("activation_alpha", alphas, "alpha"), ("activation_beta", betas, "beta"),
        )
    ]  # fmt: skip
    return tuple(map(Activation, [kind.name for kind in kinds], *numbers))


def _numbers(attribute, given, defaults, kinds, owner):
    """The number of each function, None for one that has none."""
    takes = [index for index, default in enumerate(defaults) if default is not None]
    if len(given) > len(takes):
        by_place = [given[k] for k in takes] if len(given) == len(kinds) else None
        if by_place != [*given[: len(takes)]]:
            raise ValueError(
                f"{attribute} of {owner} must have a number for each activation that takes one, "
                f"{len(takes)} of them, got {len(given)}"
            )
    found = list(defaults)
    for index, number in zip(takes, given, strict=False):
        found[index] = number
    for index in takes[len(given) :]:
        if defaults[index] is _REQUIRED:
            raise ValueError(
                f"{attribute} of {owner} must have a number for {kinds[index].name}, which has no "
                "default"
            )
    return found
