"""`Forecaster`: values of a series some steps ahead, with intervals.

It must not know: how a network is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn import checks
from fastrnn.estimators.base import Estimator, generator, scale_of, table
from fastrnn.estimators.network import Network
from fastrnn.estimators.seen import SeenSeries
from fastrnn.train import mean_squared_error

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from fastrnn.train import History
    from fastrnn.train.protocols import Seed

PENALTY = 10.0  # of the regression, beside the squares of regressors of about unit size


class Forecaster(Estimator):
    """Forecast a series up to `horizon` steps ahead, with intervals, by recurrent networks.

    A forecast is a sum of three. The first is naive: the last known value at the same place of the
    season, without a season the last value. Ridge regression learns the errors of the naive
    forecast, and a network learns the errors that are left then. Both read the last `window`
    values, the same values less those one season before, and X, the regression only the last row of
    X. Both forecast all steps at once. (Ridge regression is linear, with small weights: Hoerl and
    Kennard, Ridge regression: biased estimation for nonorthogonal problems, 1970.)

    The series of `fit` is cut into as many folds as there are networks. A regression and a
    network are trained without one fold, which chooses the network's epoch. If the network is of no
    use there, it forecasts 0. The forecast is the mean over all of them. Their errors in
    the left-out folds make the intervals: at each step ahead their quantiles, relative to how
    much the series has changed lately. (Barber, Candes, Ramdas and Tibshirani, Predictive inference
    with the jackknife+, 2021, have such errors; Lei and others, Distribution-free predictive
    inference for regression, 2018, errors relative to a spread.) The intervals cover `level` of the
    values if the errors to come are like those. They can cover less after a change of level, or in
    a season of the year that y does not have; and a little less, because a fold also chose its
    epoch.

    `get_params`, `set_params`, pickles and scikit-learn's `clone` work. scikit-learn is not needed.

    Parameters
    ----------
    window : int
        The number of last values that are read; with a season best as many as it has steps, or
        more.
    horizon : int
        The largest number of steps ahead.
    season : int or None
        The number of steps after which the series is similar: 12 for months, 24 for hours.
    hidden_size, num_layers : int
        Units of each layer, and the number of layers.
    cell : {"gru", "lstm", "rnn", "min_gru", "min_lstm"}
    dropout : float
        The fraction of each layer's outputs that is set to 0 in training.
    learning_rate : float
    batch_size : int
        Windows of a minibatch.
    epochs : int
        The most passes over the windows.
    patience : int
        Stop a network after this number of epochs without an improvement on its left-out fold.
        The parameters of the best epoch are kept.
    networks : int
        The number of networks and of folds, from 2.
    random_state : None, int or numpy.random.Generator
        The seed of the first parameters, the order of windows and dropout. An int gives the same
        bits in each `fit`.
    verbose : bool
        Show a progress bar for each network on a terminal.

    Attributes
    ----------
    history_ : list of fastrnn.train.History
        The losses of each network: mean squared errors in units of the variance of the naive
        forecast's errors.
    residuals_ : (n, horizon) array
        The relative errors in the left-out folds.

    Notes
    -----
    Three series of `fastrnn.data`, the last fifth kept apart, up to a season ahead (CO2: 26 weeks),
    from every time of the last fifth. Root mean squared errors of all steps, in the units of the
    series:

    ==================  ==========  =====  ==============  ==========  =============
    series              last value  drift  seasonal naive  regression  with networks
    ==================  ==========  =====  ==============  ==========  =============
    weekly CO2                3.22   3.22            1.87        0.56           0.56
    late departures          12.40  12.41            8.91        6.95           6.51
    hourly temperature        7.11   7.12            8.41        6.09           6.05
    ==================  ==========  =====  ==============  ==========  =============

    So networks help where a rule is not linear. The intervals of 80 % covered 83, 82 and 74 %.

    Examples
    --------
    A season of 12 steps that grows:

    >>> import numpy as np
    >>> from fastrnn.estimators import Forecaster
    >>> t = np.arange(240)
    >>> y = 0.1 * t + (1 + t / 240) * np.sin(2 * np.pi * t / 12)
    >>> forecaster = Forecaster(24, 6, season=12, random_state=0).fit(y[:228])
    >>> bool(np.abs(forecaster.predict() - y[228:234]).max() < 0.2)
    True
    >>> lower, upper = forecaster.predict_interval([1, 6], level=0.9)
    >>> bool((lower < upper).all())
    True
    """

    history_: list[History]
    residuals_: NDArray[np.float64]

    def __init__(
        self, window: int, horizon: int, season: int | None = None, *, hidden_size: int = 32,
        num_layers: int = 1, cell: str = "gru", dropout: float = 0.0, learning_rate: float = 0.003,
        batch_size: int = 64, epochs: int = 40, patience: int = 6, networks: int = 4,
        random_state: Seed = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.window, self.horizon, self.season = window, horizon, season
        self.hidden_size, self.num_layers, self.cell = hidden_size, num_layers, cell
        self.dropout, self.learning_rate, self.batch_size = dropout, learning_rate, batch_size
        self.epochs, self.patience, self.networks = epochs, patience, networks
        self.random_state, self.verbose = random_state, verbose

    def fit(self, y: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Train on a series.

        Parameters
        ----------
        y : (N,) array
            Values at even steps; the last one is now. They must be finite
            (`fastrnn.data.fill_gaps` fills gaps).
        X : (N, K) or (N,) array, or None
            Other numbers that are known with y: row t is known when y[t] is. A forecast reads the
            rows of its window, up to now, and none of the future. For something that is known
            before, such as a holiday or a schedule, give columns that are shifted: row t has what
            is planned for t + 1, or for each step of the horizon.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For arguments that do not fit and a series too short, before anything is trained.
        FloatingPointError
            If training diverges: use a smaller learning_rate.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import Forecaster
        >>> y = np.random.default_rng(0).standard_normal(200).cumsum()
        >>> Forecaster(8, 3, epochs=2).fit(y, X=np.sin(y)).predict().shape
        (3,)
        """
        window, horizon = (checks.positive(n, getattr(self, n)) for n in ("window", "horizon"))
        season = 1 if self.season is None else checks.positive("season", self.season)
        networks, needed = checks.positive("networks", self.networks), window + season
        if networks < 2:
            raise ValueError(
                "networks must be an integer of at least 2, got 1: the error of each fold comes "
                "from a network that has not seen it"
            )
        least = needed + horizon - 1 + max(networks, 4 * horizon + 2)
        y, X = _checked(y, X, least, columns=0 if X is None else None)
        seen = SeenSeries(y, X, (window, horizon, season))
        errors = sliding_window_view(y[needed:], horizon) - seen.naive()[:-horizon]
        mean, scale = scale_of(errors)
        targets, rng = (errors - mean) / scale, generator(self.random_state)
        folds = np.array_split(np.arange(len(targets)), networks)
        trained = [self._train(seen, targets, fold, rng) for fold in folds]
        models, histories, left = zip(*trained, strict=True)
        residuals = scale * np.concatenate(left) / seen.spread()[:-horizon]
        vars(self).update(  # at once, so that Ctrl-C changes none of them
            _models=models, _error_mean=mean, _error_scale=scale, _seen=seen.end_of(y, X),
            history_=list(histories), residuals_=residuals,
        )  # fmt: skip
        return self

    def _train(self, seen, targets, held_out, rng):
        """Train a regression and a network -> the pair, history, errors of held-out targets.

        The steps forecast in training and those forecast from held-out times do not overlap.
        """
        count, horizon = targets.shape
        rows = np.arange(count)
        rows = rows[(rows + horizon <= held_out[0]) | (rows - horizon >= held_out[-1])]
        x = seen.regressors()[:count]
        known = x[rows]
        squares = known.T @ known + PENALTY * np.eye(known.shape[1])
        weights = np.linalg.solve(squares, known.T @ targets[rows])
        left = (targets - x @ weights).astype(np.float32)
        network = Network(self, seen.windows.shape[2], horizon, rng)
        history = network.train(self, seen.inputs, left, mean_squared_error, rows, held_out, rng)
        if min(history.validation) > np.mean(left[held_out] ** 2):
            network.head.flat[:] = 0  # it learnt nothing that holds: it forecasts 0
        return (weights, network), history, left[held_out] - network(seen.inputs, held_out)

    def predict(
        self, fh: ArrayLike | None = None, *, y: ArrayLike | None = None, X: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Forecast the values after a series.

        Parameters
        ----------
        fh : None, int or sequence of ints
            The steps ahead: an int n for the steps 1 to n, a sequence for those that it has, None
            for 1 to horizon. Steps are from 1 to horizon.
        y : (M,) array, or None
            A series whose last value is now; the last window + season values are read (window + 1
            without a season). None is the series of `fit`.
        X : (M, K) or (M,) array, or None
            The other numbers that are known with this y, if `fit` had some.

        Returns
        -------
        forecast : float64 array with a value for each step

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            For steps beyond the horizon, a series too short, and numbers that are not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import Forecaster
        >>> y = np.random.default_rng(0).standard_normal(200).cumsum()
        >>> forecaster = Forecaster(8, 3, epochs=2).fit(y[:190])
        >>> forecaster.predict().shape, forecaster.predict([1, 3], y=y).shape
        ((3,), (2,))
        """
        return self._fitted()._forecast(fh, y, X)[0]

    def predict_interval(
        self, fh: ArrayLike | None = None, *, level: float = 0.8,
        y: ArrayLike | None = None, X: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
        """Bounds of the values after a series, each step by itself.

        Parameters
        ----------
        fh
            As for `predict`.
        level : float
            The fraction of the values that the bounds should cover, between 0 and 1.
        y, X
            As for `predict`.

        Returns
        -------
        lower, upper : float64 arrays with a value for each step

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As for `predict`, and for a level that is no such fraction.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrnn.estimators import Forecaster
        >>> y = np.random.default_rng(0).standard_normal(200).cumsum()
        >>> lower, upper = Forecaster(8, 3, epochs=2).fit(y).predict_interval(2, level=0.5)
        >>> bool((lower < upper).all()), upper.shape
        (True, (2,))
        """
        level = checks.number("level", level, "between 0 and 1", lambda n: 0 < n < 1)
        fitted = self._fitted()
        forecast, indices, spread = fitted._forecast(fh, y, X)
        tails = (1 - level) / 2, (1 + level) / 2
        lower, upper = np.quantile(fitted.residuals_[:, indices], tails, axis=0, method="weibull")
        return forecast + spread * lower, forecast + spread * upper

    def _forecast(self, fh, y, X):
        """(forecast, indices of its steps, spread) from the end of y."""
        seen = self._seen
        if y is not None:
            seen = seen.end_of(*_checked(y, X, seen.needed, seen.X.shape[1]))
        elif X is not None:
            raise ValueError("X must come with y: it has no rows of the future, see fit")
        indices, x = _indices(fh, len(self._error_mean)), seen.regressors()
        models = [x @ weights + network(seen.inputs, [0]) for weights, network in self._models]
        errors = self._error_mean + self._error_scale * np.mean(models, axis=0)
        return (seen.naive() + errors)[0, indices], indices, seen.spread()[0]


def _indices(fh, horizon):
    """The argument `fh` of `predict` as indices of steps, which count from 0."""
    steps = np.atleast_1d(checks.integers("fh", horizon if fh is None else fh))
    if steps.ndim > 1 or not ((steps >= 1) & (steps <= horizon)).all():
        wanted = f"a step or a list of steps from 1 to horizon = {horizon}"
        raise ValueError(f"fh must be {wanted}, got {fh}: fit with a larger horizon")
    return np.arange(steps[0]) if np.ndim(fh) == 0 else steps - 1


def _checked(y, X, least, columns):
    """(y (N,), X (N, K)) of numbers; K is 0 for None.

    least : the smallest N
    columns : the K that X must have; None for any from 1
    """
    y = table("y", y, columns=1, hint="one series")[:, 0]
    if len(y) < least:
        wanted = f"at least {least} values for this window, horizon and season"
        raise ValueError(f"y must have {wanted}, got {len(y)}")
    X = np.empty((len(y), 0)) if X is None else X
    hint = "a row for each value of y and none of the future, with the columns of fit"
    return y, table("X", X, len(y), columns, hint)
