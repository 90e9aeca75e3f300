"""Dropout for the arrays between a network's parts, as between a layer and its head.

Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014. It is
inverted: training divides by 1 - rate, so inference changes nothing.

It must not know: layers, which have dropout of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._engine.dropout_masks import dropout_factors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from fastrnn.train.protocols import Floats, Seed


class Dropout:
    """Dropout: in training each element is 0 with probability `rate`, else divided by 1 - `rate`.

    As with a layer, a call is inference and `forward` is training. Give it to `fit`, `save` and
    `load` among the parts: then a run that is resumed draws the same numbers as one that was never
    interrupted. It has no parameters, so the optimizer does not get it.

    The `dropout` of a layer acts between the layers of a stack alone, never on its last y. This
    part is for an embedding before the layer and for y, or the last output, before the head.

    Parameters
    ----------
    rate : float
        Probability from 0 to 1 with which an element becomes 0. Rate 0 draws no random numbers.
    rng : None, int or numpy.random.Generator
        The generator that draws, or its seed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> dropout, x = train.Dropout(0.5, rng=0), np.ones((2, 4), "float32")
    >>> y, factors = dropout.forward(x)
    >>> y
    array([[0., 0., 0., 2.],
           [2., 2., 2., 2.]], dtype=float32)
    >>> bool((dropout(x) == x).all())
    True

    Between a layer and its head:

    >>> import fastrnn
    >>> layer, head = fastrnn.GRU(4, 8, rng=0), train.Dense(8, 1, rng=1)
    >>> parts = {"layer": layer, "dropout": dropout, "head": head}
    >>> adam = train.Adam([layer, head], 0.01)
    >>> def step(batch):
    ...     x, target = batch
    ...     y, state, tape = layer.forward(x)
    ...     output, factors = dropout.forward(layer.last(state))
    ...     loss, d = train.mean_squared_error(head(output), target)
    ...     of_head = head.backward(output, d)
    ...     return loss, [tape.backward(last=dropout.backward(factors, of_head.x)), of_head]
    >>> batches = [(np.ones((7, 2, 4), "float32"), np.ones((2, 1), "float32"))]
    >>> history = train.fit(parts, step, lambda epoch: batches, optimizer=adam, epochs=3)
    """

    def __init__(self, rate: float, *, rng: Seed = None) -> None:
        self._rate = checks.fraction("rate", rate)
        self._rng = checks.generator("rng", rng)

    @property
    def rate(self) -> float:
        """The probability with which an element becomes 0 in `forward`; it may be assigned."""
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        self._rate = checks.fraction("rate", value)

    @property
    def rng(self) -> np.random.Generator:
        """The numpy.random.Generator that `forward` draws from; a seed may be assigned."""
        return self._rng

    @rng.setter
    def rng(self, value: Seed) -> None:
        self._rng = checks.generator("rng", value)

    @property
    def draws(self) -> bool:
        """True if `forward` draws random numbers."""
        return self._rate > 0

    @property
    def params(self) -> Mapping[str, Floats]:
        """An empty mapping, because the part has no parameters."""
        return {}

    def __call__(self, x: ArrayLike) -> Floats:
        """Inference: return x as it is.

        Parameters
        ----------
        x : array of float32 or float64

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> train.Dropout(0.5)(np.array([1.0, 2.0]))
        array([1., 2.])
        """
        return checks.as_array("x", x)

    def forward(self, x: ArrayLike) -> tuple[Floats, Floats]:
        """Training: draw, and return y and the factors that `backward` takes.

        Parameters
        ----------
        x : array of float32 or float64, of any shape

        Returns
        -------
        y : array like x
            x * factors. Where x is infinite or NaN and its factor is 0, y is NaN and not 0, as in
            PyTorch: dropout does not hide that a network has diverged.
        factors : array like x
            0 or 1 / (1 - rate) for each element.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> y, factors = train.Dropout(0.5, rng=2).forward(np.arange(6.0))
        >>> y
        array([0., 2., 4., 6., 8., 0.])
        """
        x = checks.as_array("x", x)
        if self._rate == 0:
            factors = np.ones(x.shape, x.dtype)
        else:
            factors = dropout_factors(self._rng, x.shape, x.dtype, self._rate)
        with np.errstate(all="ignore"):  # infinities and NaN propagate without a warning
            return x * factors, factors

    def backward(self, factors: Floats, dy: ArrayLike) -> Floats:
        """Compute the gradient of x from that of y: dy * factors.

        Parameters
        ----------
        factors : array
            As `forward` returned them.
        dy : array like y

        Returns
        -------
        dx : array like x

        Raises
        ------
        ValueError, TypeError
            For shapes and dtypes that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn import train
        >>> dropout = train.Dropout(0.5, rng=2)
        >>> y, factors = dropout.forward(np.ones(4))
        >>> dropout.backward(factors, np.array([1.0, 2.0, 3.0, 4.0]))
        array([0., 4., 6., 8.])
        """
        factors = checks.as_array("factors", factors)
        dy = checks.of_dtype("dy", dy, factors.dtype, "factors")
        checks.shaped("dy", dy, None, factors.shape)
        with np.errstate(all="ignore"):
            return dy * factors

    def __repr__(self) -> str:
        return f"fastrnn.train.Dropout({self._rate})"
