"""Estimators: `fit` and `predict` with scikit-learn's conventions, which is not needed.

base.py has these conventions and checks of data, network.py the network and its training.
labelled.py has the estimators of one result for a whole sequence. forecaster.py forecasts a series,
which it reads through seen.py.
"""

from fastrnn.estimators.base import NotFittedError
from fastrnn.estimators.forecaster import Forecaster
from fastrnn.estimators.labelled import RNNRegressor, SequenceClassifier

__all__ = ["Forecaster", "NotFittedError", "RNNRegressor", "SequenceClassifier"]
