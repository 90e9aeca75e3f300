"""The estimators in scikit-learn: clone, folds, searches, pipelines, and its own checks.

scikit-learn's check_estimator knows tables (N, features). Here these are N sequences of one
feature; EXPECTED has the checks that do not hold of them, each with the reason.
"""

import pickle
import warnings

import numpy as np
import pytest
from training import draw

from fastrnn.estimators import Forecaster, NotFittedError, RNNRegressor, SequenceClassifier

sklearn = pytest.importorskip("sklearn")

from sklearn import base, exceptions, model_selection, pipeline, preprocessing  # noqa: E402
from sklearn.utils import estimator_checks, validation  # noqa: E402

pytestmark = pytest.mark.any_isa

LENGTHS = np.random.default_rng(0).integers(8, 20, 90)
CLASSES = np.array(["low", "middle", "high"])[np.arange(90) % 3]
SPEEDS = np.array([0.3, 0.6, 0.9])[np.arange(90) % 3]
SEQUENCES = [
    np.sin(speed * np.arange(n)[:, None] + [0, 1]) + 0.1 * draw(n, 2, seed=n)
    for n, speed in zip(LENGTHS, SPEEDS, strict=True)
]


def classifier(**params):
    return SequenceClassifier(**{"hidden_size": 8, "epochs": 40, "random_state": 0, **params})


def regressor(**params):
    return RNNRegressor(**{"hidden_size": 8, "epochs": 25, "random_state": 0, **params})


@pytest.mark.parametrize(
    "estimator", [regressor(cell="lstm"), classifier(), Forecaster(4, 2, networks=3)], ids=repr
)
def test_a_clone_has_the_parameters_and_nothing_learnt(estimator):
    other = base.clone(estimator)
    assert type(other) is type(estimator) and other is not estimator
    assert other.get_params() == estimator.get_params()
    with pytest.raises(exceptions.NotFittedError):
        validation.check_is_fitted(other)
    other.fit(*((draw(60),) if isinstance(other, Forecaster) else (SEQUENCES[:9], range(9))))
    validation.check_is_fitted(other)
    with pytest.raises(NotFittedError):
        base.clone(other).predict(SEQUENCES[:2])


def test_their_kinds():
    assert base.is_classifier(classifier()) and not base.is_regressor(classifier())
    assert base.is_regressor(regressor()) and not base.is_classifier(regressor())
    assert not base.is_regressor(Forecaster(4, 2)) and not base.is_classifier(Forecaster(4, 2))


def test_scores_of_folds_of_ragged_sequences():
    scores = model_selection.cross_val_score(classifier(), SEQUENCES, CLASSES, cv=3)
    assert scores.mean() > 0.9
    scores = model_selection.cross_val_score(regressor(), SEQUENCES, SPEEDS, cv=3)
    assert scores.mean() > 0.8
    scores = model_selection.cross_val_score(
        regressor(), SEQUENCES, SPEEDS, cv=3, scoring="neg_mean_absolute_error"
    )
    assert scores.mean() > -0.1


def test_a_classifier_gets_stratified_folds():
    """Sorted by class, plain folds would be trained without the class that they are judged by."""
    order = np.argsort(CLASSES)
    scores = model_selection.cross_val_score(
        classifier(), [SEQUENCES[i] for i in order], CLASSES[order], cv=3
    )
    assert scores.mean() > 0.9


def test_probabilities_of_folds_and_log_loss():
    found = model_selection.cross_val_predict(
        classifier(), SEQUENCES, CLASSES, cv=3, method="predict_proba"
    )
    assert found.shape == (90, 3)
    scores = model_selection.cross_val_score(
        classifier(), SEQUENCES, CLASSES, cv=3, scoring="neg_log_loss"
    )
    assert scores.mean() > -np.log(3) / 2


def test_a_search_over_a_grid():
    grid = {"hidden_size": [1, 8], "cell": ["rnn", "gru"]}
    search = model_selection.GridSearchCV(classifier(epochs=20), grid, cv=3).fit(SEQUENCES, CLASSES)
    assert search.best_params_["hidden_size"] == 8
    assert search.best_estimator_.layer_.hidden_size == 8
    assert search.score(SEQUENCES, CLASSES) > 0.8
    assert search.classes_.tolist() == sorted(set(CLASSES))
    copied = pickle.loads(pickle.dumps(search))
    assert (copied.predict_proba(SEQUENCES) == search.predict_proba(SEQUENCES)).all()


def test_a_pipeline_of_ragged_sequences():
    halves = preprocessing.FunctionTransformer(lambda X: [x[::2] for x in X])
    line = pipeline.make_pipeline(halves, classifier())
    scores = model_selection.cross_val_score(line, SEQUENCES, CLASSES, cv=3)
    assert scores.mean() > 0.8
    line.set_params(sequenceclassifier__hidden_size=5).fit(SEQUENCES, CLASSES)
    assert line[-1].layer_.hidden_size == 5 and line.classes_.tolist() == sorted(set(CLASSES))
    assert "SequenceClassifier(" in str(line) and "SequenceClassifier" in line._repr_html_()


def test_a_pipeline_of_a_table():
    X = draw(120, 10)
    line = pipeline.make_pipeline(preprocessing.StandardScaler(), regressor())
    assert model_selection.cross_val_score(line, X, X.sum(axis=1), cv=3).mean() > 0.8


def test_sequences_in_one_array_are_split():
    X = draw(120, 10, 2)
    train, test, *y = model_selection.train_test_split(X, X.sum(axis=1), random_state=0)
    assert regressor().fit(train, y[0]).score(test, y[1]) > 0.7


# ---- scikit-learn's own checks -------------------------------------------------------------------

STEPS = "the columns of X are steps, of any number, and n_features_in_ is 1"
DTYPES = "dtypes raise TypeError"
EXPECTED = {
    "check_n_features_in": STEPS,
    "check_n_features_in_after_fitting": STEPS,
    "check_estimators_unfitted": "NotFittedError is a class of fastrnn, with the same bases",
    "check_complex_data": DTYPES,
    "check_dtype_object": DTYPES,
    "check_estimators_empty_data_messages": "the message has T and F, not features alone",
    "check_fit2d_predict1d": "the message says what to use, in other words",
    "check_requires_y_none": "the message is that of any y that is no array of numbers",
    "check_supervised_y_2d": "y of (N, 1) is one of several targets; of a classifier an error",
}
OF_CLASSIFIERS = {"check_classifiers_train": STEPS}


@pytest.mark.parametrize(
    "estimator, expected",
    [(regressor(epochs=40), EXPECTED), (classifier(epochs=15), EXPECTED | OF_CLASSIFIERS)],
    ids=["regressor", "classifier"],
)
def test_scikit_learns_checks_hold_but_for_those_listed(estimator, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = estimator_checks.check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    passed = [result for result in results if result["status"] == "passed"]
    assert failed == set(expected) and len(passed) > 35
