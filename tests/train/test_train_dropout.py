"""Dropout between parts: what it draws, its gradient, and a run that is resumed bit for bit."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from problems import assert_same_bits
from training import assert_slopes, draw, every_dtype

import fastrnn
from fastrnn import train


@every_dtype
@pytest.mark.parametrize("shape", [(300, 400), (10, 20, 30), (0, 3), ()], ids=str)
def test_elements_are_zero_or_divided_by_what_stays(shape, dtype):
    x = draw(*shape, dtype=dtype)
    y, factors = train.Dropout(0.25, rng=0).forward(x)
    assert y.dtype == factors.dtype == dtype
    assert y.shape == factors.shape == shape
    assert set(np.unique(factors)) <= {np.dtype(dtype).type(0), np.dtype(dtype).type(1 / 0.75)}
    assert_same_bits(y, x * factors)
    if x.size > 10_000:
        assert abs((factors == 0).mean() - 0.25) < 0.005  # four standard deviations


def test_a_call_is_inference_and_draws_nothing():
    dropout, x = train.Dropout(0.5, rng=0), draw(3, 4)
    before = dropout.rng.bit_generator.state
    assert_same_bits(dropout(x), x)
    assert dropout.rng.bit_generator.state == before


def test_rate_0_changes_nothing_and_draws_nothing():
    dropout, x = train.Dropout(0, rng=0), draw(3, 4)
    before = dropout.rng.bit_generator.state
    y, factors = dropout.forward(x)
    assert_same_bits((y, factors), (x, np.ones_like(x)))
    assert dropout.rng.bit_generator.state == before
    assert not dropout.draws
    dropout.rate = 1
    assert dropout.draws
    assert not dropout.forward(x)[0].any()


def test_what_is_not_finite_stays_visible_where_it_is_dropped_as_in_pytorch():
    bad = np.array([np.inf, -np.inf, np.nan])
    y, factors = train.Dropout(1.0).forward(bad)
    assert not factors.any() and np.isnan(y).all()
    assert np.isnan(train.Dropout(1.0).backward(factors, bad)).all()
    torch = pytest.importorskip("torch")
    assert torch.nn.functional.dropout(torch.from_numpy(bad), 1.0).isnan().all()


def test_the_seed_decides_what_is_drawn_and_each_call_draws_anew():
    x = np.ones((20, 20))
    a, b = train.Dropout(0.5, rng=3), train.Dropout(0.5, rng=np.random.default_rng(3))
    first = a.forward(x)[1]
    assert_same_bits(first, b.forward(x)[1])
    assert (a.forward(x)[1] != first).any()
    a.rng = 3
    assert_same_bits(a.forward(x)[1], first)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda d: pickle.loads(
    pickle.dumps(d))], ids=["copy", "deepcopy", "pickle"])  # fmt: skip
def test_a_copy_draws_what_the_original_would(copied):
    dropout = train.Dropout(0.5, rng=3)
    like = copied(dropout)
    state = dropout.rng.bit_generator.state
    got = like.forward(np.ones(50))[1]
    dropout.rng.bit_generator.state = state
    assert_same_bits(got, dropout.forward(np.ones(50))[1])


def test_the_gradient_is_that_of_finite_differences():
    dropout, x, dy = train.Dropout(0.5, rng=0), draw(4, 5), draw(4, 5, seed=1)
    _, factors = dropout.forward(x)

    def loss(x):
        dropout.rng = 0
        return np.vdot(dropout.forward(x)[0], dy)

    assert_slopes(loss, x, dropout.backward(factors, dy))


# ---- training ------------------------------------------------------------------------------------


def setup(path, epochs):
    """A network with dropout before and after its layer; a run of some epochs."""
    layer, head = fastrnn.LSTM(3, 4, rng=0), train.Dense(4, 2, rng=1)
    before, after = train.Dropout(0.3, rng=2), train.Dropout(0.5, rng=3)
    parts = {"layer": layer, "head": head, "before": before, "after": after}
    adam = train.Adam([layer, head], 0.01)
    x, targets = draw(5, 6, 3, dtype="float32"), np.arange(6) % 2

    def step(_):
        x_drawn, _ = before.forward(x)
        _, state, tape = layer.forward(x_drawn)
        output, factors = after.forward(layer.last(state))
        loss, d = train.cross_entropy(head(output), targets)
        of_head = head.backward(output, d)
        last = after.backward(factors, of_head.x)
        return loss, [tape.backward(last=last, need_x=False), of_head]

    def run(epochs, history=None, **options):
        return train.fit(
            parts, step, lambda epoch: range(3), optimizer=adam, epochs=epochs,
            checkpoint=path, history=history, progress=False, **options,
        )  # fmt: skip

    return parts, adam, run


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
def test_a_run_that_is_resumed_has_the_bits_of_one_that_is_not(tmp_path, name):
    parts, _, run = setup(tmp_path / "full" / name, 4)
    (tmp_path / "full").mkdir()
    wanted = run(4)
    path = tmp_path / name
    setup(path, 2)[2](2)
    others, adam, resume = setup(path, 4)
    others["after"].rng = 99  # the file has the state to go on from
    history = train.History(**train.load(path, others, adam)["history"])
    assert resume(4, history).loss == wanted.loss
    for key in ("layer", "head"):
        assert_same_bits(others[key].flat, parts[key].flat)
    assert_same_bits(*(p["after"].forward(np.ones(9))[1] for p in (parts, others)))


def test_after_an_epoch_that_was_not_the_best_a_resumed_run_draws_what_follows(tmp_path):
    options = {"validate": itertools.count().__next__, "resume": True}  # epoch 1 is the best
    parts, adam, run = setup(tmp_path / "run.npz", 4)
    run(2, **options)
    saved = (tmp_path / "run.npz").read_bytes()
    run(4, **options)
    others, other_adam, resume = setup(tmp_path / "killed.npz", 4)
    others["after"].rng = 99
    (tmp_path / "killed.npz").write_bytes(saved)
    resume(4, **options)
    files = [dict(np.load(tmp_path / name)) for name in ("run.npz", "killed.npz")]
    assert files[0].keys() == files[1].keys()
    for name in files[0].keys() - {"extra", "last_epoch.extra"}:  # they have the seconds
        assert (files[0][name] == files[1][name]).all(), name
    assert any(name == "last_epoch.rng" for name in files[0])


def test_after_an_interrupt_the_generator_is_that_of_the_best_epoch():
    dropout, head = train.Dropout(0.5, rng=0), train.Dense(4, 1, rng=1)
    states, count = [], 0

    def step(_):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        x, _ = dropout.forward(np.ones((2, 4), "float32"))
        loss, d = train.mean_squared_error(head(x), np.ones((2, 1), "float32"))
        states.append(dropout.rng.bit_generator.state)
        return loss, [head.backward(x, d)]

    with pytest.raises(KeyboardInterrupt):
        train.fit(
            [head, dropout], step, lambda epoch: [0], optimizer=train.SGD(head, 0.1), epochs=9,
            progress=False,
        )  # fmt: skip
    assert dropout.rng.bit_generator.state == states[1]


def test_a_network_is_saved_without_it_only_if_it_is_not_among_the_parts(tmp_path):
    head, dropout = train.Dense(2, 1, rng=0), train.Dropout(0.5, rng=0)
    train.save(tmp_path / "a.npz", {"head": head, "dropout": dropout})
    before = dropout.rng.bit_generator.state
    dropout.forward(np.ones(9))
    train.load(tmp_path / "a.npz", {"head": head, "dropout": dropout})
    assert dropout.rng.bit_generator.state == before


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train.Dropout(1.5), ValueError, "rate must be from 0 to 1, got 1.5"),
        (lambda: train.Dropout(True), ValueError, "rate must be from 0 to 1"),
        (lambda: train.Dropout("a"), TypeError, "rate must be a number, got str"),
        (lambda: train.Dropout(0.5, rng=-1), ValueError, "rng must be None, an integer"),
        (lambda: setattr(train.Dropout(0.5), "rate", -1), ValueError, "rate must be from 0 to 1"),
        (lambda: train.Dropout(0.5)(np.arange(3)), TypeError, "x must be an array of float32"),
        (lambda: train.Dropout(0.5).forward(np.arange(3)), TypeError, "x must be an array of"),
        (lambda: train.Dropout(0.5).forward(fastrnn.LSTM(2, 3)(draw(4, 2, dtype="f4"))),
         TypeError, r"a layer returns \(y, state\)"),
        (lambda: train.Dropout(0.5).backward(np.ones(3), np.ones(4)), ValueError,
         r"dy must be \(3,\), got \(4,\)"),
        (lambda: train.Dropout(0.5).backward(np.ones(3), np.ones(3, "f4")), TypeError,
         "dy must be float64 like factors, got float32"),
        (lambda: train.Adam(train.Dropout(0.5), 0.1), TypeError, "list of arrays, got Dropout"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
