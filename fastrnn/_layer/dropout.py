"""Dropout between layers, and the settings of a layer that may change: dropout and rng.

Dropout: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
Only between layers: Zaremba, Sutskever and Vinyals, Recurrent neural network regularization, 2014.
One mask for all steps of a sequence: Gal and Ghahramani, A theoretically grounded application of
dropout in recurrent neural networks, 2016; Merity, Keskar and Socher, Regularizing and optimizing
LSTM language models, 2017 (locked, or variational, dropout).

It must not know: cells, passes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._engine.dropout_masks import dropout_factors

if TYPE_CHECKING:
    from fastrnn._typing import DropoutMask, Seed

MASKS = ("step", "sequence")


def warn_of_one_layer(dropout, num_layers, calls_up):
    """Warn, at the line that so many calls up leads to the caller, if dropout does nothing."""
    if dropout and num_layers == 1:
        warnings.warn(
            f"dropout acts between layers, so dropout = {dropout} does nothing with "
            "num_layers = 1: use more layers or dropout=0",
            UserWarning,
            stacklevel=calls_up + 2,
        )


class Dropout:
    """The settings of a layer that may be assigned at any time; the next `forward` uses them."""

    def _set_dropout(self, dropout, dropout_mask, recurrent_dropout, rng):
        self._dropout = checks.fraction("dropout", dropout)
        self._dropout_mask = checks.choice("dropout_mask", dropout_mask, MASKS)
        self._recurrent_dropout = self._checked_recurrent_dropout(recurrent_dropout)
        self._rng = checks.generator("rng", rng)

    def _warn_of_one_layer(self):
        """Warn at the line that creates the layer or assigns `dropout`: 3 calls up from here."""
        warn_of_one_layer(self._dropout, self.num_layers, 3)

    def _checked_recurrent_dropout(self, value):
        value = checks.fraction("recurrent_dropout", value)
        if value and not self._takes_recurrent_dropout():
            raise ValueError(
                f"recurrent_dropout must be 0 for {type(self).__name__}, which has no product with "
                f"h, got {value}"
            )
        return value

    @property
    def dropout(self) -> float:
        """Probability with which an element of y between two layers is zero in `forward`."""
        return self._dropout

    @dropout.setter
    def dropout(self, value: float) -> None:
        self._dropout = checks.fraction("dropout", value)
        self._warn_of_one_layer()

    @property
    def dropout_mask(self) -> DropoutMask:
        """ "step": a mask for each step; "sequence": one mask for all steps of a row."""
        return self._dropout_mask

    @dropout_mask.setter
    def dropout_mask(self, value: DropoutMask) -> None:
        self._dropout_mask = checks.choice("dropout_mask", value, MASKS)

    @property
    def recurrent_dropout(self) -> float:
        """Probability with which a unit of h is zero in the recurrent products of `forward`."""
        return self._recurrent_dropout

    @recurrent_dropout.setter
    def recurrent_dropout(self, value: float) -> None:
        self._recurrent_dropout = self._checked_recurrent_dropout(value)

    @property
    def rng(self) -> np.random.Generator:
        """The numpy.random.Generator that dropout and zoneout draw from; a seed may be assigned."""
        return self._rng

    @rng.setter
    def rng(self, value: Seed) -> None:
        self._rng = checks.generator("rng", value)

    def _with_dropout(self, x):
        """x (T, B, F) after dropout, and the factors that x was multiplied by."""
        shape = x.shape if self._dropout_mask == "step" else (1, *x.shape[1:])
        factors = dropout_factors(self._rng, shape, self.dtype, self._dropout)
        with np.errstate(all="ignore"):
            return x * factors, factors
