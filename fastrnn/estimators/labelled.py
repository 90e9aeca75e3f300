"""Estimators of one result for a whole sequence: `RNNRegressor` and `SequenceClassifier`.

It must not know: how a network is trained, series to forecast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import checks
from fastrnn.estimators import base
from fastrnn.estimators.network import Network
from fastrnn.train import cross_entropy, mean_squared_error, pad, softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.layers import GRU, LSTM, RNN, MinGRU, MinLSTM
    from fastrnn.train import Dense, History
    from fastrnn.train.protocols import Seed


class _OfSequences(base.Estimator):
    """The parameters of both estimators, and what they share: training, and outputs."""

    layer_: RNN | LSTM | GRU | MinGRU | MinLSTM
    head_: Dense
    history_: History
    n_features_in_: int
    x_mean_: NDArray[np.float64]
    x_scale_: NDArray[np.float64]

    def __init__(
        self, hidden_size: int = 32, num_layers: int = 1, *, cell: str = "gru",
        bidirectional: bool = False, dropout: float = 0.0, learning_rate: float = 0.01,
        batch_size: int = 16, epochs: int = 100, patience: int = 15,
        validation_fraction: float = 0.15, random_state: Seed = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.hidden_size, self.num_layers, self.cell = hidden_size, num_layers, cell
        self.bidirectional, self.dropout, self.learning_rate = bidirectional, dropout, learning_rate
        self.batch_size, self.epochs, self.patience = batch_size, epochs, patience
        self.validation_fraction, self.random_state = validation_fraction, random_state
        self.verbose = verbose

    def _train(self, X, targets, outputs, loss, **learnt):
        """Train, and set the attributes at once, so that an error or Ctrl-C changes none of them.

        learnt : more attributes
        """
        rng = base.generator(self.random_state)
        rows, held_out = self._split(targets.reshape(len(X), -1)[:, 0], rng)
        mean, scale = base.scale_of(np.concatenate(X))
        network, inputs = Network(self, len(mean), outputs, rng), _padded(X, mean, scale)
        history = network.train(self, inputs, targets, loss, rows, held_out, rng)
        vars(self).update(
            learnt, _network=network, layer_=network.layer, head_=network.head, history_=history,
            x_mean_=mean, x_scale_=scale, n_features_in_=len(mean),
        )  # fmt: skip
        return self

    def _split(self, targets, rng):
        """(indices to train on, held-out ones), the latter spread evenly over the sorted targets.

        So the held-out sequences have all classes, or small and large targets. targets : (N,).
        """
        name, wanted = "validation_fraction", "a number from 0 to below 1"
        fraction = checks.number(name, self.validation_fraction, wanted, lambda n: 0 <= n < 1)
        order = np.lexsort((rng.random(len(targets)), targets))
        places = np.arange(int(len(order) * fraction)) + rng.random()
        places = (places * len(order) / max(1, len(places))).astype(int)
        return np.delete(order, places), order[places]

    def _outputs(self, X):
        X = base.sequences(X, self.n_features_in_)
        inputs = _padded(X, self.x_mean_, self.x_scale_)
        return self._network(inputs, np.arange(len(X))).astype(np.float64)


def _padded(X, mean, scale):
    """The function of indices that `Network` reads: sequences, scaled and padded to one length."""
    X = [base.single(f"X[{i}]", (sequence - mean) / scale) for i, sequence in enumerate(X)]
    return lambda rows: pad([X[row] for row in rows])


class RNNRegressor(_OfSequences):
    """Predict numbers, one or several for each sequence, by a recurrent network.

    A linear head reads the last output of the layer. Adam minimises the mean squared error of the
    scaled targets (`fastrnn.train`). Features and targets are scaled to mean 0 and deviation 1 over
    all sequences of `fit`.

    The methods and attributes follow scikit-learn's conventions: `clone`, `cross_val_score`,
    `GridSearchCV` and `Pipeline` take it. scikit-learn is not needed.

    Parameters
    ----------
    hidden_size, num_layers : int
        Units of each layer, and the number of layers.
    cell : {"gru", "lstm", "rnn", "min_gru", "min_lstm"}
    bidirectional : bool
        Read each sequence in both directions.
    dropout : float
        The fraction of each layer's outputs that is set to 0 in training.
    learning_rate : float
    batch_size : int
        Sequences of a minibatch.
    epochs : int
        The most passes over the training sequences.
    patience : int
        Stop after this number of epochs without an improvement on the held-out sequences. The
        parameters of the best epoch are kept.
    validation_fraction : float
        The fraction of the sequences that is held out of training and chooses the epoch. The
        held-out sequences have small and large targets alike. With 0, or with too few sequences
        for one, all epochs are run.
    random_state : None, int or numpy.random.Generator
        The seed of the first parameters, the order of sequences, the held-out ones and dropout. An
        int gives the same bits in each `fit`.
    verbose : bool
        Show a progress bar on a terminal.

    Attributes
    ----------
    layer_ : layer
        For example for `layer_.freeze()`. It reads `(x - x_mean_) / x_scale_` in float32.
    head_ : fastrnn.train.Dense
        Its outputs are `(y - y_mean_) / y_scale_`.
    history_ : fastrnn.train.History
        The losses of the epochs.
    n_features_in_ : int
        F, the features of a step.
    x_mean_, x_scale_ : (F,) arrays
    y_mean_, y_scale_ : (K,) arrays

    Examples
    --------
    The target is the sum of a sequence. The sequences have different lengths:

    >>> import numpy as np
    >>> from fastrnn.estimators import RNNRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.uniform(-1, 1, (length, 1)) for length in rng.integers(5, 10, 300)]
    >>> y = [sequence.sum() for sequence in X]
    >>> model = RNNRegressor(hidden_size=16, epochs=40, random_state=0).fit(X[:200], y[:200])
    >>> model.score(X[200:], y[200:]) > 0.9
    True
    """

    _estimator_type = "regressor"
    y_mean_: NDArray[np.float64]
    y_scale_: NDArray[np.float64]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on sequences and their targets.

        Parameters
        ----------
        X : (N, T, F) array, (N, T) array, or list of N arrays (T, F) or (T,)
            N sequences of T steps with F features; the arrays of a list may have different T. With
            one axis less F is 1. The numbers must be finite.
        y : (N,) or (N, K) array
            K numbers for each sequence; they must be finite.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For arguments that do not fit, before anything is trained.
        FloatingPointError
            If training diverges: use a smaller learning_rate.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import RNNRegressor
        >>> X = np.random.default_rng(0).standard_normal((20, 5, 3))
        >>> model = RNNRegressor(epochs=2, random_state=0).fit(X, X[:, 0, :2])
        >>> model.predict(X).shape
        (20, 2)
        """
        X = base.sequences(X)
        table = base.table("y", y, rows=len(X), hint="a row for each sequence")
        mean, scale = base.scale_of(table)
        targets = ((table - mean) / scale).astype(np.float32)
        learnt = {"y_mean_": mean, "y_scale_": scale, "_axes": checks.plain("y", y).ndim}
        return self._train(X, targets, len(mean), mean_squared_error, **learnt)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the targets of sequences.

        Parameters
        ----------
        X : as for `fit`
            The lengths may differ from those in `fit`.

        Returns
        -------
        y : (N,) or (N, K) float64 array, as in `fit`

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            For another number of features, and for numbers that are not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import RNNRegressor
        >>> X = np.random.default_rng(0).standard_normal((20, 5))  # F = 1
        >>> RNNRegressor(epochs=2).fit(X, X[:, 0]).predict(X[:3]).shape
        (3,)
        """
        fitted = self._fitted()
        y = fitted._outputs(X) * fitted.y_scale_ + fitted.y_mean_
        return y[:, 0] if fitted._axes == 1 else y

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """R^2, the fraction of the variance that is predicted; for several targets the mean.

        Parameters
        ----------
        X, y : as for `fit`

        Returns
        -------
        score : float
            1 is perfect; 0 is what the mean of y would score. For constant targets it is 1 if the
            prediction is exact, else 0.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import RNNRegressor
        >>> X = np.random.default_rng(0).standard_normal((20, 5))
        >>> RNNRegressor(epochs=2).fit(X, X[:, 0]).score(X, X[:, 0]) <= 1
        True
        """
        fitted = self._fitted()
        predicted = fitted.predict(X).reshape(-1, len(fitted.y_mean_))
        y = base.table("y", y, *predicted.shape, hint="a row for each sequence")
        left = np.mean(((y - predicted) / base.scale_of(y)[1]) ** 2, axis=0)
        left = np.where(np.ptp(y, axis=0) > 0, left, left > 0)
        return float(np.mean(1 - left))


class SequenceClassifier(_OfSequences):
    """Predict the class of each sequence by a recurrent network.

    A linear head reads the last output of the layer. Adam minimises the cross-entropy
    (`fastrnn.train`). Features are scaled to mean 0 and deviation 1 over all sequences of `fit`.

    The methods and attributes follow scikit-learn's conventions: `clone`, `cross_val_score` (with
    stratified folds), `GridSearchCV` and `Pipeline` take it. scikit-learn is not needed.

    Parameters
    ----------
    hidden_size, num_layers : int
        Units of each layer, and the number of layers.
    cell : {"gru", "lstm", "rnn", "min_gru", "min_lstm"}
    bidirectional : bool
        Read each sequence in both directions.
    dropout : float
        The fraction of each layer's outputs that is set to 0 in training.
    learning_rate : float
    batch_size : int
        Sequences of a minibatch.
    epochs : int
        The most passes over the training sequences.
    patience : int
        Stop after this number of epochs without an improvement on the held-out sequences. The
        parameters of the best epoch are kept.
    validation_fraction : float
        The fraction of the sequences that is held out of training and chooses the epoch; each class
        has its part in it. With 0, or with too few sequences for one, all epochs are run.
    random_state : None, int or numpy.random.Generator
        The seed of the first parameters, the order of sequences, the held-out ones and dropout. An
        int gives the same bits in each `fit`.
    verbose : bool
        Show a progress bar on a terminal.

    Attributes
    ----------
    classes_ : (K,) array
        The labels in y, sorted.
    layer_ : layer
        For example for `layer_.freeze()`. It reads `(x - x_mean_) / x_scale_` in float32.
    head_ : fastrnn.train.Dense
        Its outputs are logits, in the order of `classes_`.
    history_ : fastrnn.train.History
        The losses of the epochs.
    n_features_in_ : int
        F, the features of a step.
    x_mean_, x_scale_ : (F,) arrays

    Examples
    --------
    Waves that become slower, and waves that become faster; they have different lengths:

    >>> import numpy as np
    >>> from fastrnn.estimators import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> steps = [np.arange(length) for length in rng.integers(20, 40, 120)]
    >>> X = [np.sin(t**2 / 50) for t in steps[:60]] + [np.sin((40 - t)**2 / 50) for t in steps[60:]]
    >>> y = ["faster"] * 60 + ["slower"] * 60
    >>> model = SequenceClassifier(hidden_size=16, random_state=0).fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.9
    True
    """

    _estimator_type = "classifier"
    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on sequences and their classes.

        Parameters
        ----------
        X : (N, T, F) array, (N, T) array, or list of N arrays (T, F) or (T,)
            N sequences of T steps with F features; the arrays of a list may have different T. With
            one axis less F is 1. The numbers must be finite.
        y : (N,) array or list
            Labels of one type that can be sorted: texts, integers, booleans, or floats that are
            whole numbers. At least two different ones.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For arguments that do not fit, before anything is trained.
        FloatingPointError
            If training diverges: use a smaller learning_rate.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import SequenceClassifier
        >>> X = np.random.default_rng(0).standard_normal((20, 5, 3))
        >>> SequenceClassifier(epochs=2).fit(X, ["no", "yes"] * 10).classes_.tolist()
        ['no', 'yes']
        """
        X = base.sequences(X)
        y = _labels(y, len(X))
        classes, indices = np.unique(y, return_inverse=True)
        floats = [c for c in classes if isinstance(c, float | np.floating)]
        odd = [*classes[classes != classes], *(c for c in floats if not c.is_integer())]
        if odd:
            hint = "leave out what is missing, and for continuous targets use RNNRegressor"
            raise ValueError(f"y must be labels, got {odd[0]}: {hint}")
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes, got {len(classes)} class")
        return self._train(X, indices, len(classes), cross_entropy, classes_=classes)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the most probable class of each sequence.

        Parameters
        ----------
        X : as for `fit`
            The lengths may differ from those in `fit`.

        Returns
        -------
        y : (N,) array of labels, as in `classes_`

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            For another number of features, and for numbers that are not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import SequenceClassifier
        >>> X = np.random.default_rng(0).standard_normal((20, 5))  # F = 1
        >>> SequenceClassifier(epochs=2).fit(X, [0, 1] * 10).predict(X[:3]).shape
        (3,)
        """
        fitted = self._fitted()
        columns = fitted._outputs(X).argmax(axis=1)
        return fitted.classes_[columns]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : as for `predict`

        Returns
        -------
        probabilities : (N, K) float64 array
            A column for each of `classes_`; a row's sum is 1.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As for `predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import SequenceClassifier
        >>> X = np.random.default_rng(0).standard_normal((20, 5))
        >>> SequenceClassifier(epochs=2).fit(X, [0, 1] * 10).predict_proba(X[:3]).shape
        (3, 2)
        """
        return softmax(self._fitted()._outputs(X))

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Accuracy: the fraction of the sequences whose class is predicted.

        Parameters
        ----------
        X, y : as for `fit`

        Returns
        -------
        score : float

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import SequenceClassifier
        >>> X = np.random.default_rng(0).standard_normal((20, 5))
        >>> 0 <= SequenceClassifier(epochs=2).fit(X, [0, 1] * 10).score(X, [0, 1] * 10) <= 1
        True
        """
        predicted = self.predict(X)
        return float(np.mean(_labels(y, len(predicted), predicted) == predicted))


def _labels(y, count, like=()):
    """y as an array (N,) of numbers, of texts, of bytes or of times, as those in `like` are.

    NumPy makes texts of a list of texts and numbers; texts never equal numbers or bytes.
    """
    array = checks.converted("y", y, "an array of labels")
    checks.shaped("y", array, ("N",), (count,), "a label for each sequence, use y.ravel()")
    labels = [*(y if isinstance(y, list | tuple) else array), *like]
    kinds = {np.asarray(label).dtype.kind.strip("biuf"): label for label in labels}
    if len(kinds) > 1 or "O" in kinds:
        got = " and ".join(map(repr, kinds.values()))
        raise TypeError(f"y must be labels of one type, like those of fit, got {got}")
    return array
