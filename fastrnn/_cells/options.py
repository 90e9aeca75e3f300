"""The options that make a cell a variant: one frozen record, whose values `checked` checks.

It must not know: the mathematics (variants.py), which parameters follow (registry.py), layers.
"""

import math
from typing import NamedTuple

from fastrnn import checks

# "hard_sigmoid" is two functions, clip(s p + 1/2, 0, 1) with different slopes s.
GATE_ACTIVATIONS = ("sigmoid", "hard_sigmoid", "hard_sigmoid_onnx")


class Options(NamedTuple):
    """The options of a cell. With the defaults the cell is the plain one.

    Attributes
    ----------
    clip : float or None
        Bound of every pre-activation; None is no bound.
    cell_clip : float or None
        Bound of c; None is no bound.
    recurrent_activation : str
        The activation of the gates: one of GATE_ACTIVATIONS.
    zoneout : tuple of float
        For each array of the state the probability that an element keeps its value at a step;
        () is no zoneout.
    peephole : bool
        i, f and o read c.
    coupled : bool
        The forget gate is 1 - i.
    layer_norm : bool
        The products with x and h are normalised, and in the LSTM c too.
    """

    clip: float | None = None
    cell_clip: float | None = None
    recurrent_activation: str = "sigmoid"
    zoneout: tuple[float, ...] = ()
    peephole: bool = False
    coupled: bool = False
    layer_norm: bool = False

    def non_default(self):
        """The options that differ from their defaults, as arguments of a layer: name -> value."""
        defaults = self._field_defaults
        given = {name: value for name, value in self._asdict().items() if value != defaults[name]}
        if len(set(self.zoneout)) == 1:
            given["zoneout"] = self.zoneout[0]
        return given

    def numbers(self):
        """The options that are numbers for the kernels: name -> value, without None."""
        given = self._asdict()
        given["recurrent_activation"] = _SLOPES[self.recurrent_activation]
        return {name: value for name, value in given.items() if isinstance(value, float)}


# The slope of each hard sigmoid; None for the sigmoid.
_SLOPES = {"sigmoid": None, "hard_sigmoid": 1 / 6, "hard_sigmoid_onnx": 1 / 5}


def checked(
    states, *, clip=None, cell_clip=None, recurrent_activation="sigmoid", zoneout=0.0,
    peephole=False, coupled=False, layer_norm=False,
):  # fmt: skip
    """The `Options` for a user's arguments; states is ("h",) or ("h", "c").

    Raises
    ------
    ValueError, TypeError
        For values out of range and of other kinds. The message names the argument.
    """
    return Options(
        clip=bound("clip", clip),
        cell_clip=bound("cell_clip", cell_clip),
        recurrent_activation=checks.choice(
            "recurrent_activation", recurrent_activation, GATE_ACTIVATIONS
        ),
        zoneout=_of_states("zoneout", zoneout, states),
        peephole=checks.flag("peephole", peephole),
        coupled=checks.flag("coupled", coupled),
        layer_norm=checks.flag("layer_norm", layer_norm),
    )


def bound(name, value):
    """A positive float, or None for no bound, which infinity stands for too."""
    if value is None:
        return None
    number = checks.real(name, value, "a positive number or None")
    if not number > 0:
        raise ValueError(f"{name} must be a positive number or None, got {value}")
    return None if math.isinf(number) else number


def _of_states(name, value, states):
    """A probability for each array of the state, from one number for all or from a pair."""
    if isinstance(value, tuple | list):
        if len(states) == 1 or len(value) != len(states):
            of_two = " or a pair (of h, of c)" if len(states) > 1 else ""
            raise ValueError(f"{name} must be one number{of_two}, got {len(value)} of them")
        rates = tuple([
            checks.fraction(f"{name} of {state}", rate)
            for state, rate in zip(states, value, strict=True)
        ])  # fmt: skip
    else:
        rates = (checks.fraction(name, value),) * len(states)
    return rates if any(rates) else ()
