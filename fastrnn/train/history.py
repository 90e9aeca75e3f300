"""The `History` that `fit` returns.

It must not know: how an epoch is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """The results of each epoch that `fit` has completed.

    Attributes
    ----------
    loss : list of float
        The mean loss of an epoch's minibatches. All minibatches have the same weight.
    validation : list of float
        The results of `validate`; empty without it.
    seconds : list of float
        The time of training, without validation.

    Examples
    --------
    >>> from fastrnn import train
    >>> history = train.History()
    >>> history.add(loss=0.5, seconds=1.0, validation=0.6)
    >>> history.add(loss=0.4, seconds=1.0, validation=0.7)
    >>> history.best_epoch
    1
    """

    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the lowest validation; without validation the last one.

        Epochs count from 1. The result is 0 before the first epoch.
        """
        if not self.validation:
            return len(self.loss)
        return 1 + self.validation.index(min(self.validation))

    def add(self, loss: float, seconds: float, validation: float | None = None) -> None:
        """Add the results of an epoch.

        Parameters
        ----------
        loss, seconds, validation : float
            As the attributes have them; None adds no validation.

        Examples
        --------
        >>> from fastrnn import train
        >>> history = train.History()
        >>> history.add(loss=0.5, seconds=1.0)
        >>> history.loss
        [0.5]
        """
        self.loss.append(loss)
        self.seconds.append(seconds)
        if validation is not None:
            self.validation.append(validation)
