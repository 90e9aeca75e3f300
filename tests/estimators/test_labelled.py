"""RNNRegressor and SequenceClassifier: what they learn, and what they read to learn it."""

import numpy as np
import pytest
from training import draw

from fastrnn import train
from fastrnn.estimators import RNNRegressor, SequenceClassifier

pytestmark = pytest.mark.any_isa


def ragged(count, features, seed=0):
    lengths = np.random.default_rng(seed).integers(4, 12, count)
    return [draw(length, features, seed=seed + i) for i, length in enumerate(lengths, 1)]


SEQUENCES = ragged(240, 2)
SUMS = np.array([x.sum(axis=0) for x in SEQUENCES])
LEARNT, KEPT_APART = slice(160), slice(160, None)
CLASSES = np.array(["falls", "rises"])[(SUMS[:, 0] > 0).astype(int)]


def regressor(**params):
    return RNNRegressor(**{"hidden_size": 12, "epochs": 40, "random_state": 0, **params})


def classifier(**params):
    return SequenceClassifier(**{"hidden_size": 12, "epochs": 30, "random_state": 0, **params})


# ---- what they learn -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [{}, {"cell": "lstm", "bidirectional": True}, {"num_layers": 2, "dropout": 0.05}],
    ids=["gru", "two directions", "two layers"],
)
def test_sums_of_ragged_sequences_are_learnt(params):
    model = regressor(**params).fit(SEQUENCES[LEARNT], SUMS[LEARNT, 0])
    assert model.score(SEQUENCES[KEPT_APART], SUMS[KEPT_APART, 0]) > 0.9


@pytest.mark.parametrize("cell", ["rnn", "min_gru", "min_lstm"])
def test_other_cells_are_trained_too(cell):
    model = regressor(cell=cell, epochs=20).fit(SEQUENCES[LEARNT], SUMS[LEARNT, 0])
    assert model.score(SEQUENCES[KEPT_APART], SUMS[KEPT_APART, 0]) > 0.5


def test_several_targets_have_scales_of_their_own():
    y = SUMS * [1, 1000] + [5, -300]
    model = regressor().fit(SEQUENCES[LEARNT], y[LEARNT])
    found = model.predict(SEQUENCES[KEPT_APART])
    assert found.shape == (80, 2) and found.dtype == np.float64
    for column in (0, 1):
        left = np.var(y[KEPT_APART, column] - found[:, column])
        assert left < 0.1 * np.var(y[KEPT_APART, column])


def test_classes_are_learnt_and_have_probabilities():
    model = classifier().fit(SEQUENCES[LEARNT], CLASSES[LEARNT])
    x, y = SEQUENCES[KEPT_APART], CLASSES[KEPT_APART]
    assert model.score(x, y) > 0.9
    assert model.score(x, y) == np.mean(model.predict(x) == y)
    assert model.classes_.tolist() == ["falls", "rises"]
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert (model.classes_[probabilities.argmax(axis=1)] == model.predict(x)).all()
    likelihood = probabilities[np.arange(80), (y == "rises").astype(int)]
    assert -np.log(likelihood).mean() < 0.3  # of two equal chances it would be 0.69


@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [7, -2, 5], [2.0, 0.0, 1.0], [b"z", b"x", b"y"]], ids=str
)
def test_labels_of_any_type_come_back(labels):
    y = [labels[i % 3] for i in range(30)]
    model = classifier(epochs=1).fit(draw(30, 4), y)
    assert model.classes_.tolist() == sorted(labels)
    assert set(model.predict(draw(30, 4)).tolist()) <= set(labels)


def test_booleans_are_labels():
    found = classifier(epochs=1).fit(draw(8, 4), [True, False] * 4).predict(draw(8, 4))
    assert found.dtype == np.bool_


# ---- what they read ------------------------------------------------------------------------------


def test_layouts_of_the_same_sequences_give_the_same_bits():
    x, y = draw(20, 6, 1), np.arange(20)
    objects = np.empty(20, object)
    objects[:] = list(x)
    wanted = regressor(epochs=2).fit(x, y).predict(x).tobytes()
    for same in (x[:, :, 0], list(x), list(x[:, :, 0]), x[:, :, 0].tolist(), objects, x.tolist()):
        assert regressor(epochs=2).fit(same, y).predict(same).tobytes() == wanted


def test_integers_and_float32_are_read():
    x = np.arange(40).reshape(10, 4) % 7
    wanted = regressor(epochs=2).fit(x, np.arange(10)).predict(x)
    assert (regressor(epochs=2).fit(x.astype("float32"), range(10)).predict(x) == wanted).all()


def test_a_prediction_does_not_depend_on_the_others():
    model = classifier(epochs=2).fit(SEQUENCES[:30], CLASSES[:30])
    together = model.predict_proba(SEQUENCES)
    alone = np.concatenate([model.predict_proba([x]) for x in SEQUENCES[:9]])
    np.testing.assert_allclose(together[:9], alone, rtol=1e-6)
    np.testing.assert_allclose(model.predict_proba(SEQUENCES[::-1])[::-1], together, rtol=1e-6)


def test_the_arguments_are_not_changed():
    x, y = draw(20, 6, 2), draw(20)
    before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    regressor(epochs=2).fit(x, y).predict(x)
    assert (x == before[0]).all() and (y == before[1]).all()


def test_units_of_features_and_targets_do_not_matter():
    x, y = draw(40, 6, 2), draw(40)
    model = regressor(epochs=5).fit(x, y)
    other = regressor(epochs=5).fit(x * [64, 1 / 1024] + 4, 4096 * y - 512)
    np.testing.assert_allclose(
        other.predict(x * [64, 1 / 1024] + 4), 4096 * model.predict(x) - 512, rtol=1e-3
    )


def test_constant_features_and_targets_are_no_error():
    x = draw(20, 6, 2)
    x[:, :, 1] = 3
    model = regressor(epochs=2).fit(x, np.full(20, 4.0))
    assert np.isfinite(model.predict(x)).all()
    assert model.x_scale_[1] == 1 and model.y_scale_[0] == 1


def test_the_layer_and_the_head_are_the_model():
    model = regressor(epochs=2).fit(SEQUENCES[LEARNT], SUMS[LEARNT])
    x, lengths = train.pad([(x - model.x_mean_) / model.x_scale_ for x in SEQUENCES[KEPT_APART]])
    frozen = model.layer_.freeze()
    _, state = frozen(x.astype("float32"), lengths=lengths)
    y = model.head_(frozen.last(state)) * model.y_scale_ + model.y_mean_
    np.testing.assert_allclose(y, model.predict(SEQUENCES[KEPT_APART]), rtol=1e-5, atol=1e-5)
    assert model.n_features_in_ == 2


# ---- what is held out ----------------------------------------------------------------------------


def test_scales_are_those_of_all_sequences():
    model = regressor(epochs=1).fit(SEQUENCES, SUMS)
    steps = np.concatenate(SEQUENCES)
    np.testing.assert_allclose(model.x_mean_, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.x_scale_, steps.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.y_mean_, SUMS.mean(axis=0), rtol=1e-12)


def test_held_out_sequences_are_of_all_classes_and_sizes():
    rng = np.random.default_rng(0)
    y = np.array([0] * 20 + [1] * 40 + [2] * 100)
    rows, held_out = classifier(validation_fraction=0.25)._split(y, rng)
    assert np.bincount(y[held_out]).tolist() == [5, 10, 25]
    assert sorted([*rows, *held_out]) == list(range(160))
    y = draw(100)
    _, held_out = regressor(validation_fraction=0.2)._split(y, rng)
    assert (np.bincount(np.argsort(np.argsort(y))[held_out] // 20) == 4).all()


def test_training_stops_and_keeps_the_best_epoch():
    x, y = draw(60, 5), draw(60, seed=9)  # nothing to learn
    model = regressor(epochs=200, patience=4, learning_rate=0.03).fit(x, y)
    history = model.history_
    assert len(history.loss) == history.best_epoch + 4 < 200
    same = regressor(epochs=history.best_epoch, patience=4, learning_rate=0.03).fit(x, y)
    assert (same.predict(x) == model.predict(x)).all()


@pytest.mark.parametrize("count, fraction", [(20, 0.0), (3, 0.15), (1, 0.9)])
def test_with_nothing_held_out_all_epochs_are_made(count, fraction):
    model = regressor(epochs=7, patience=1, validation_fraction=fraction)
    model.fit(draw(count, 5), draw(count))
    assert len(model.history_.loss) == 7 and not model.history_.validation


# ---- scores and labels ---------------------------------------------------------------------------


def test_the_score_of_a_regressor():
    model = regressor(epochs=1, learning_rate=1e-9).fit(draw(20, 5), np.full(20, 2.0))
    y = np.array([1.0, 2.0, 3.0])  # all that is predicted is nearly 2, their mean
    assert abs(model.score(draw(3, 5), y)) < 1e-6
    assert model.score(draw(3, 5), [9, 9, 9]) == 0
    exact = model.predict(draw(3, 5))
    assert model.score(draw(3, 5), exact) == 1
    assert model.score(draw(3, 5), y[:, None]) == model.score(draw(3, 5), y)
    with pytest.raises(ValueError, match=r"y must be \(3, 1\), got \(3, 2\): a row for each"):
        model.score(draw(3, 5), draw(3, 2))


@pytest.mark.parametrize(
    "y, error, message",
    [
        (["a"] * 9, ValueError, "y must have at least two classes, got 1 class"),
        (np.linspace(0, 1, 9), ValueError, "got 0.125: .*continuous targets use RNNRegressor"),
        (np.array([0, 1, np.nan] * 3), ValueError, "y must be labels, got nan: leave out"),
        (["a", np.nan, "b"] * 3, TypeError, "y must be labels of one type, .* and"),
        (["a", 1, "b"] * 3, TypeError, "y must be labels of one type, .* and"),
        (np.array([0, 1, np.nan] * 3, object), ValueError, "got nan: leave out what is missing"),
        (np.array([0, 1, np.inf] * 3), ValueError, "y must be labels, got inf"),
        (np.array([0.5, 1.5, 2] * 3, object), ValueError, "got 0.5: .*continuous targets"),
        (np.array([0, 1, "NaT"] * 3, "M8[s]"), ValueError, "y must be labels, got NaT"),
        (np.eye(9), ValueError, r"y must be \(N,\) = \(9,\), got \(9, 9\): a label"),
        (np.array([1, "a", None] * 3, object), TypeError, "of one type, .* 1 and 'a' and None"),
        ([None] * 9, TypeError, "y must be labels of one type, .* got None"),
    ],
)
def test_labels_that_are_none(y, error, message):
    with pytest.raises(error, match=message):
        classifier().fit(draw(9, 5), y)


@pytest.mark.parametrize("labels, others", [("ab", [0, 1]), ([0, 1], "ab"), ("ab", [b"a", b"b"])])
def test_the_score_of_labels_of_another_type_is_refused(labels, others):
    model = classifier(epochs=1).fit(draw(8, 5), list(labels) * 4)
    with pytest.raises(
        TypeError, match="y must be labels of one type, like those of fit, got .* and"
    ):
        model.score(draw(2, 5), list(others))
    with pytest.raises(TypeError, match="labels of one type"):
        model.score(draw(2, 5), ["a", 0])
    assert 0 <= model.score(draw(2, 5), np.array(list(labels), object)) <= 1


def test_targets_of_three_axes_are_refused():
    with pytest.raises(ValueError, match=r"y must be \(9, 2\), got \(9, 2, 2\): a row for each"):
        regressor().fit(draw(9, 5), draw(9, 2, 2))
    with pytest.raises(ValueError, match="y must have no NaN"):
        regressor().fit(draw(9, 5), np.full(9, np.nan))


# ---- odd numbers ---------------------------------------------------------------------------------


def test_a_constant_feature_counts_as_of_deviation_1():
    x = np.full((37, 5), 0.1)  # the mean is rounded, so NumPy's deviation is not 0
    model = regressor(epochs=1).fit(x, np.arange(37.0))
    assert model.x_scale_.tolist() == [1]


def test_the_score_of_a_column_of_labels_is_refused():
    model = classifier(epochs=1).fit(SEQUENCES[:20], CLASSES[:20])
    with pytest.raises(
        ValueError, match=r"y must be \(N,\) = \(20,\), got \(20, 1\).*y\.ravel\(\)"
    ):
        model.score(SEQUENCES[:20], CLASSES[:20, None])


def test_numbers_that_would_overflow_are_refused():
    x = draw(20, 5)
    model = regressor(epochs=1).fit(1e-9 * x, x[:, 0])
    with pytest.raises(ValueError, match=r"X\[1\] must have .* of a size like that in fit"):
        model.predict(x[:2] * [[1], [1e35]])
    for given in [(1e300 * x, x[:, 0]), (x, 1e300 * x[:, 0])]:
        with pytest.raises(ValueError, match=r"no inf in float32, got .*e\+.*scale what is large"):
            regressor(epochs=1).fit(*given)


@pytest.mark.parametrize("power", [-1000, -700, -300, 100])
def test_numbers_whose_squares_are_0_are_learnt_from_as_others(power):
    """Powers of 2 change no digit."""
    x = draw(20, 5)
    y, tiny = x[:, :2], 2.0**power
    model, other = (regressor(epochs=2).fit(x * by, y * by) for by in (1, tiny))
    assert (other.predict(x * tiny) == model.predict(x) * tiny).all()
    assert other.score(x * tiny, y * tiny) == pytest.approx(model.score(x, y), rel=1e-12)


def test_objects_may_be_sequences_of_equal_lengths_too():
    x = draw(20, 5, 2)
    model = regressor(epochs=1).fit(np.array(list(x), object), x[:, 0, 0].astype(object))
    assert np.array_equal(model.predict(x), regressor(epochs=1).fit(x, x[:, 0, 0]).predict(x))
    for value in ("1", None, 1j):
        with pytest.raises(TypeError, match=r"X\[0\] must be real numbers"):
            model.predict(np.full((2, 5, 2), value, object))


def test_ragged_targets_are_refused_by_name():
    with pytest.raises(ValueError, match="^y must be an array of numbers: "):
        regressor().fit(draw(2, 5), [[1], [1, 2]])
