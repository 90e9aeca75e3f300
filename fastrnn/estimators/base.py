"""What the estimators have in common: scikit-learn's conventions, and checks of data.

scikit-learn is not imported. Only `__sklearn_tags__` needs it, and only scikit-learn calls that.

It must not know: networks, what an estimator learns.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import checks

if TYPE_CHECKING:
    from typing import Self


class NotFittedError(ValueError, AttributeError):
    """`predict` or `score` was called before `fit`; scikit-learn's error has the same bases.

    Examples
    --------
    >>> from fastrnn import estimators
    >>> try:
    ...     estimators.RNNRegressor().predict([[1.0, 2.0, 3.0]])
    ... except estimators.NotFittedError as error:
    ...     print(error)
    RNNRegressor must be fitted first: call fit
    """


class Estimator:
    """Parameters that are read, set, printed and cloned by the names in the signature."""

    _estimator_type: str | None = None  # scikit-learn before 1.6 reads it

    @classmethod
    def _defaults(cls):
        return {name: p.default for name, p in inspect.signature(cls).parameters.items()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor: name -> value.

        Parameters
        ----------
        deep : bool
            Has no effect, because no parameter is an estimator.

        Examples
        --------
        >>> from fastrnn import estimators
        >>> estimators.Forecaster(24, 12).get_params()["window"]
        24
        """
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor. The next `fit` uses them.

        Parameters
        ----------
        **params
            Name -> value.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that the constructor does not have; nothing is set then.

        Examples
        --------
        >>> from fastrnn import estimators
        >>> estimators.RNNRegressor().set_params(hidden_size=8)
        RNNRegressor(hidden_size=8)
        """
        for name in params:
            checks.choice(f"a parameter of {type(self).__name__}", name, self._defaults())
        vars(self).update(params)
        return self

    def __repr__(self) -> str:
        """The parameters that differ from their defaults."""
        defaults, given = self._defaults(), self.get_params()
        shown = [f"{n}={v!r}" for n, v in given.items() if repr(v) != repr(defaults[n])]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_tags__(self):
        """scikit-learn calls this to learn what kind of estimator it has."""
        utils, kind = importlib.import_module("sklearn.utils"), self._estimator_type
        tags = utils.Tags(kind, utils.TargetTags(required=kind is not None))
        tags.classifier_tags = utils.ClassifierTags() if kind == "classifier" else None
        tags.regressor_tags = utils.RegressorTags() if kind == "regressor" else None
        tags.input_tags.three_d_array = True
        return tags

    def _fitted(self):
        """This estimator as it is now, which a later `fit` in another thread does not change."""
        if not hasattr(self, "history_"):
            raise NotFittedError(f"{type(self).__name__} must be fitted first: call fit")
        return copy.copy(self)


# ---- data ----------------------------------------------------------------------------------------


def sequences(X, features=None):
    """X as a list of (T, F) tables of numbers; a sequence (T,) has one feature.

    X : (N, T, F) or (N, T) array, or N arrays (T, F) or (T,), of any lengths
    features : the F that X must have; None takes that of the first sequence
    """
    if not isinstance(X, list | tuple):  # a table of pandas, for example
        X = np.atleast_1d(checks.converted("X", X, "an array of numbers"))
    if len(X) == 0:
        raise ValueError("X must have at least one sequence, got none")
    hint, found = "X is (N, T, F), (N, T) or a list; for one sequence use [X]", []
    for index, sequence in enumerate(X):
        found.append(table(f"X[{index}]", sequence, columns=features, hint=hint))
        features = found[0].shape[1]
    return found


def table(name, value, rows=None, columns=None, hint=None):
    """The value as (N, K) float64 numbers, finite in float32 too; one of (N,) has one column.

    rows, columns : the N and the K that it must have; None for any from 1
    """
    array = checks.converted(name, value, "an array of numbers")
    if array.dtype == object:  # of numbers, as for sequences whose lengths happen to be equal
        array = checks.converted(name, array.tolist(), "an array of numbers")
    if array.dtype.kind not in "biuf":
        got = f"{type(value).__name__} of dtype {array.dtype}"
        raise TypeError(f"{name} must be real numbers, and not sparse, got {got}")
    array = array.astype(np.float64, copy=False)
    single(name, array, "fill what is missing or leave it out, scale what is large")
    array = array[:, None] if array.ndim == 1 else array
    found = max([1, *array.shape[:1]]), max([1, *array.shape[1:2]])
    sizes = rows or found[0], found[1] if columns is None else columns
    return checks.shaped(name, array, None, sizes, hint)


def single(name, array, hint="use numbers of a size like that in fit"):
    """The array as float32; ValueError for NaN, inf and numbers beyond float32."""
    fits = np.abs(array) <= np.finfo(np.float32).max  # not for NaN
    if not fits.all():
        place = tuple(np.argwhere(~fits)[0].tolist())
        got = f"{array[place]} at {list(place)}"
        raise ValueError(f"{name} must have no NaN and no inf in float32, got {got}: {hint}")
    return array.astype(np.float32)


def generator(random_state):
    """A new generator, whose seed is drawn from random_state.

    Training sets the states of the layers' generators, which must not be the user's.
    """
    seed = checks.generator("random_state", random_state).integers(2**63)
    return np.random.default_rng(seed)


def scale_of(columns):
    """(mean, deviation) of each column of (N, F); the deviation of a constant one counts as 1."""
    # Of what a column differs by: squares of tiny numbers would be 0, and the deviation of a
    # constant column may be a rounding error.
    unit = np.maximum(np.ptp(columns, axis=0), np.finfo(np.float64).tiny)
    deviation = unit * ((columns - columns[0]) / unit).std(axis=0)
    return columns.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
