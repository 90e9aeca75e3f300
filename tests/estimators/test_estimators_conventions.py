"""The estimators' conventions without scikit-learn: parameters, text, copies, errors of data."""

import copy
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from training import draw

from fastrnn.estimators import (
    Forecaster,
    NotFittedError,
    RNNRegressor,
    SequenceClassifier,
    network,
)

pytestmark = pytest.mark.any_isa

OF_SEQUENCES = [RNNRegressor, SequenceClassifier]
every_of_sequences = pytest.mark.parametrize("kind", OF_SEQUENCES, ids=lambda kind: kind.__name__)

X, Y = draw(12, 5, 2), np.arange(12) % 3
RAGGED = [x[: 2 + i % 4] for i, x in enumerate(X)]


def quick(kind, **params):
    return kind(**{"hidden_size": 3, "epochs": 2, "random_state": 0, **params})


def forecaster(**params):
    return Forecaster(
        **{"window": 4, "horizon": 2, "hidden_size": 3, "epochs": 2, "random_state": 0, **params}
    )


FITTED = [
    (lambda: quick(RNNRegressor).fit(RAGGED, Y), lambda e: e.predict(RAGGED)),
    (lambda: quick(SequenceClassifier).fit(RAGGED, Y), lambda e: e.predict_proba(RAGGED)),
    (lambda: forecaster().fit(draw(60)), lambda e: np.array([e.predict(), *e.predict_interval()])),
]
every_fitted = pytest.mark.parametrize(
    "fitted, results", FITTED, ids=["regressor", "classifier", "forecaster"]
)


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RNNRegressor, SequenceClassifier, lambda: Forecaster(4, 2)])
def test_parameters_are_read_and_set_by_name(kind):
    estimator = kind()
    params = estimator.get_params()
    assert params["hidden_size"] == 32 and params["random_state"] is None
    assert all(getattr(estimator, name) is value for name, value in params.items())
    assert type(estimator)(**params).get_params() == params
    assert estimator.set_params(hidden_size=7, cell="lstm") is estimator
    assert estimator.get_params() == params | {"hidden_size": 7, "cell": "lstm"}
    assert estimator.set_params().hidden_size == 7


def test_unknown_parameters_are_refused_and_none_is_set():
    estimator = RNNRegressor()
    with pytest.raises(
        ValueError, match="a parameter of RNNRegressor must be one of 'hidden_size', .* got 'hide'"
    ):
        estimator.set_params(hidden_size=5, hide=3)
    assert estimator.hidden_size == 32


def test_the_text_has_what_differs_from_the_defaults():
    assert repr(SequenceClassifier()) == "SequenceClassifier()"
    assert repr(RNNRegressor(8, cell="lstm")) == "RNNRegressor(hidden_size=8, cell='lstm')"
    assert repr(Forecaster(24, 6, 12)) == "Forecaster(window=24, horizon=6, season=12)"


@every_fitted
def test_fit_returns_the_estimator_and_changes_no_parameter(fitted, results):
    estimator = fitted()
    before = type(estimator)(**estimator.get_params())
    assert repr(estimator) == repr(before)
    assert not [name for name in vars(before) if name.endswith("_") or name.startswith("_")]


# ---- the same bits -------------------------------------------------------------------------------


@every_fitted
def test_the_same_seed_gives_the_same_bits(fitted, results):
    assert results(fitted()).tobytes() == results(fitted()).tobytes()


@every_fitted
def test_copies_give_the_same_bits(fitted, results):
    estimator = fitted()
    wanted = results(estimator).tobytes()
    for other in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert results(other).tobytes() == wanted and repr(other) == repr(estimator)


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_a_generator_is_drawn_from_and_training_does_not_set_it_back(kind):
    generator = kind(5)
    estimator = quick(RNNRegressor, random_state=generator, dropout=0.5)
    first, second = (estimator.fit(X, Y).predict(X) for _ in range(2))
    assert estimator.random_state is generator and (first != second).any()
    assert (
        quick(RNNRegressor, random_state=kind(5), dropout=0.5).fit(X, Y).predict(X) == first
    ).all()


# ---- errors --------------------------------------------------------------------------------------


def test_before_fit_there_is_an_error_of_two_kinds():
    for use in (
        lambda: RNNRegressor().predict(X),
        lambda: RNNRegressor().score(X, Y),
        lambda: SequenceClassifier().predict_proba(X),
        lambda: Forecaster(4, 2).predict(),
        lambda: Forecaster(4, 2).predict_interval(),
    ):
        with pytest.raises(NotFittedError, match="must be fitted first: call fit") as caught:
            use()
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, AttributeError)


NAN, INF = X.copy(), [x.copy() for x in RAGGED]
NAN[3, 2, 1], INF[2][1, 0] = np.nan, np.inf


@every_of_sequences
@pytest.mark.parametrize(
    "x, error, message",
    [
        (NAN, ValueError, r"X\[3\] must have no NaN and no inf in float32, got nan at \[2, 1\]"),
        (INF, ValueError, r"X\[2\] must have no NaN and no inf in float32, got inf at \[1, 0\]"),
        (X[0], ValueError, r"y must be .*\(5,.* got \(12,"),
        (
            X[0, :, 0],
            ValueError,
            r"X\[0\] must be \(1, 1\), got \(\): .* for one sequence use \[X\]",
        ),
        (
            X[None],
            ValueError,
            r"X\[0\] must be .* got \(12, 5, 2\): X is \(N, T, F\), \(N, T\) or a list",
        ),
        (X[:0], ValueError, "X must have at least one sequence, got none"),
        ([*RAGGED[:11], X[0, :0]], ValueError, r"X\[11\] must be \(1, 2\), got \(0, 2\)"),
        ([*RAGGED[:11], X[0, :, :1]], ValueError, r"X\[11\] must be \(5, 2\), got \(5, 1\)"),
        (
            X.astype(str),
            TypeError,
            r"X\[0\] must be real numbers, and not sparse, got ndarray of dtype <U",
        ),
        (X + 1j, TypeError, "got ndarray of dtype complex128"),
        ([*RAGGED[:11], [[1, 2], [3]]], ValueError, r"X\[11\] must be an array of numbers"),
        (np.ma.masked_array(X, X > 0), TypeError, "without a mask"),
    ],
)
def test_sequences_that_cannot_be_read(kind, x, error, message):
    with pytest.raises(error, match=message):
        quick(kind).fit(x, Y)


@every_of_sequences
def test_targets_for_other_sequences(kind):
    for y, got in ((Y[:9], r"\(9,"), (3, r"\(\)")):
        with pytest.raises(ValueError, match=rf"y must be .*\(12,.* got {got}"):
            quick(kind).fit(X, y)
    with pytest.raises((TypeError, ValueError), match=r"y must be .* got (NoneType|\(\))"):
        quick(kind).fit(X, None)
    fitted = quick(kind).fit(X, Y)
    with pytest.raises(ValueError, match=r"y must "):
        fitted.score(X, Y[:9])


@every_of_sequences
def test_predict_refuses_other_features(kind):
    with pytest.raises(ValueError, match=r"X\[0\] must be \(5, 2\), got \(5, 3\)"):
        quick(kind).fit(X, Y).predict(draw(4, 5, 3))


@every_of_sequences
@pytest.mark.parametrize(
    "params, message",
    [
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"cell": "gur"}, "cell must be one of 'rnn', 'lstm', 'gru'"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1"),
        ({"learning_rate": -1}, "learning_rate must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"patience": 0, "validation_fraction": 0.5}, "patience must be"),
        ({"validation_fraction": 1}, "validation_fraction must be a number from 0 to below 1"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_parameters_are_checked_in_fit_and_an_error_leaves_the_estimator_as_it_was(
    kind, params, message
):
    estimator = quick(kind).fit(X, Y)
    before = estimator.predict(X)
    with pytest.raises(ValueError, match=message):
        estimator.set_params(**params).fit(X, Y)
    assert (estimator.predict(X) == before).all()


REFITS = [
    (lambda: quick(RNNRegressor, epochs=1).fit(X, Y), lambda e: e.fit(X, X[:, 0])),
    (lambda: quick(SequenceClassifier, epochs=1).fit(X, Y), lambda e: e.fit(X, Y % 2 == 0)),
    (
        lambda: forecaster(epochs=1, networks=2).fit(draw(40)),
        lambda e: e.set_params(horizon=3, window=5).fit(draw(50)),
    ),
]


@pytest.mark.parametrize("fitted, refit", REFITS, ids=["regressor", "classifier", "forecaster"])
def test_ctrl_c_after_training_leaves_what_was_learnt_or_gives_all_of_the_new(
    fitted, refit, monkeypatch
):
    """Python runs the handler of a signal between two instructions, so also between two lines."""
    trained, lines = [], 0

    def training(*args, original=network.Network.train, **options):
        trained.append(original(*args, **options))
        return trained[-1]

    def interrupting(frame, event, arg):
        nonlocal lines
        if "estimators" not in frame.f_code.co_filename:
            return None
        if event == "line" and len(trained) == needed:
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return interrupting

    monkeypatch.setattr(network.Network, "train", training)
    fitted()
    needed, ends = len(trained), []
    for at in itertools.count(1):
        estimator = fitted()
        before = dict(vars(estimator))
        trained.clear()
        lines, traced = 0, sys.gettrace()
        sys.settrace(interrupting)
        try:
            refit(estimator)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
        learnt = {name for name in before if name.startswith("_") or name.endswith("_")}
        learnt -= {"_axes", "n_features_in_"}  # equal ones are the same object
        same = {getattr(estimator, name) is before[name] for name in learnt}
        assert len(same) == 1, f"interrupted at line {at} after training, some are new"
        ends += same
        if lines < at:
            break
    assert ends[0] and not ends[-1]


@every_of_sequences
@pytest.mark.parametrize(
    "params, message",
    [
        ({"num_layers": "2"}, "num_layers must be an integer"),
        ({"dropout": None}, "dropout must be a number"),
        ({"bidirectional": 1}, "bidirectional must be True or False"),
        ({"verbose": 2}, "verbose must be True or False"),
        ({"random_state": "0"}, "random_state must be"),
    ],
)
def test_parameters_of_other_types(kind, params, message):
    with pytest.raises(TypeError, match=message):
        quick(kind, **params).fit(X, Y)


def test_scikit_learn_is_not_imported():
    program = (
        "import sys, numpy as np; from fastrnn.estimators import RNNRegressor as R\n"
        "R(2, epochs=1).fit(np.ones((4, 3)), [1, 2, 3, 4]).predict(np.ones((4, 3)))\n"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
