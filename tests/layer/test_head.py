"""freeze(head=dense): calls, steps and feeds return the outputs of a dense layer that reads y."""

import copy
import pickle

import numpy as np
import pytest
from decorators import every_backend, every_dtype
from problems import BACKENDS, assert_close, assert_same_bits, misaligned

import fastrnn
from fastrnn import train

ACTIVATIONS = [None, "sigmoid", "softmax"]
T, B, I, H = 6, 3, 4, 9  # noqa: E741 - as in all the equations

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
needs_core = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")


def features(*shape, dtype="float32"):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def pair_of(outputs=5, activation=None, dtype="float32", width=H, **options):
    """A layer, and a dense layer that reads its y."""
    layer = fastrnn.LSTM(I, H, rng=0, dtype=dtype, **options)
    return layer, train.Dense(width, outputs, activation=activation, dtype=dtype, rng=1)


@every_backend
@every_dtype
@every_activation
def test_calls_steps_and_feeds_return_the_outputs_of_the_head(activation, dtype, backend):
    layer, dense = pair_of(5, activation, dtype, num_layers=2)
    x = features(T, B, I, dtype=dtype)
    with fastrnn.backend(backend):
        frozen = layer.freeze(head=dense)
        y, state = layer(x)
        got, last = frozen(x)
        assert_close(got, dense(y), dtype)
        assert_close(last, state, dtype)
        out = np.full((T, B, 5), np.nan, dtype)
        assert frozen(x, out=out)[0] is out
        assert_same_bits(out, got)
        streams = [frozen.stream(B) for _ in range(3)]
        stepped = np.stack([streams[0].step(x_t) for x_t in x])
        fed = streams[1].feed(x)
        filled = streams[2].feed(x, out=np.full_like(out, np.nan))
        assert_close((stepped, fed, filled), (got, got, got), dtype)
        carried = None
        for x_t, y_t in zip(x, got, strict=True):
            one, carried = frozen.step(x_t, carried)
            assert_close(one, y_t, dtype)
        if backend == "core":
            assert_same_bits((stepped, fed, filled, one), (got, got, got, got[-1]))
            assert_same_bits(streams[0].state, state)


@needs_core
@every_dtype
@pytest.mark.parametrize("outputs", [1, 7, 8, 9, 16, 17, 33, 130])
@pytest.mark.parametrize("inputs", [1, 15, 700, 1100])
def test_a_sum_is_one_chain_that_begins_with_the_bias(inputs, outputs, dtype):
    """The pre-activations of an RNN are such chains; W_hh = 0 adds exact zeros."""
    dense = train.Dense(inputs, outputs, dtype=dtype, rng=0)
    chains = fastrnn.RNN(inputs, outputs, nonlinearity="relu", dtype=dtype)
    chains.params["weight_ih_l0"] = dense.params["weight"]
    chains.params["bias_ih_l0"] = dense.params["bias"]
    for name in ("weight_hh_l0", "bias_hh_l0"):
        chains.params[name] = 0 * chains.params[name]
    layer = fastrnn.GRU(1, inputs, dtype=dtype, rng=3)
    x = features(1, 11, 1, dtype=dtype)
    with fastrnn.backend("core"):
        y, _ = layer(x)
        got, _ = layer.freeze(head=dense)(x)
        assert_same_bits(np.maximum(got, 0) + 0.0, chains(y)[0] + 0.0)


@needs_core
@every_activation
def test_the_same_bits_on_any_number_of_threads(activation):
    layer, dense = pair_of(3000, activation)
    frozen, x = layer.freeze(head=dense), features(40, 8, I)
    with fastrnn.backend("core"):
        expected = [frozen(x[:, b : b + 1])[0] for b in range(8)]
        for threads in 1, 2, 3, 7:
            with fastrnn.threads(threads):
                assert_same_bits(frozen(x)[0], np.concatenate(expected, axis=1))


@every_backend
def test_every_form_of_a_call(backend):
    x = features(T, B, I)
    with fastrnn.backend(backend):
        for options in (
            {"batch_first": True},
            {"bidirectional": True},
            {"bidirectional": True, "merge": "sum", "batch_first": True},
            {"proj_size": 3},
        ):
            width = {"bidirectional": 2 * H, "proj_size": 3}.get(next(iter(options)), H)
            width = H if "merge" in options else width
            layer, dense = pair_of(5, "sigmoid", width=width, **options)
            frozen = layer.freeze(head=dense)
            lengths, mask = np.array([6, 2, 0]), np.ones((T, B), bool)
            mask[1] = False
            given = x.swapaxes(0, 1) if "batch_first" in options else x
            rows = {"lengths": lengths, "mask": mask.T if "batch_first" in options else mask}
            y, state = layer(given, **rows, zero_output_for_mask=True)
            got, last = frozen(given, **rows, zero_output_for_mask=True)
            assert_close((got, last), (dense(y), state), "float32")
            got, _, gates = frozen(given, return_gates=True)
            assert_close(got, dense(layer(given)[0]), "float32")
            assert set(gates) == set(layer(given, return_gates=True)[2])
            assert_close(frozen(x[:, 0])[0], dense(layer(x[:, 0])[0]), "float32")
            wide = np.empty((*got.shape[:-1], 10), "float32")[..., ::2]
            assert frozen(given, out=wide)[0] is wide
            assert_same_bits(wide, got)


@every_backend
@pytest.mark.parametrize("precision", ["bfloat16-weights", "int8"])
def test_a_head_is_at_full_precision(precision, backend):
    layer, dense = pair_of(5, "softmax")
    x = features(T, B, I)
    with fastrnn.backend(backend):
        y, state = layer.freeze(precision)(x)
        got, last = layer.freeze(precision, head=dense)(x)
        assert_close(got, dense(y), "float32")
        assert_same_bits(last, state)


@every_backend
def test_streams_of_ids_and_of_some_rows(backend):
    layer, dense = pair_of(5, "softmax", batch_first=True)
    ids = np.array([[1, 0, 3], [2, 2, 1]])
    embedding = features(7, I)
    with fastrnn.backend(backend):
        frozen = layer.freeze(head=dense)
        for options in {"one_hot": True}, {"embedding": embedding}:
            stream = frozen.stream(2, **options)
            y = dense(layer(ids, **options)[0])
            assert_close(stream.feed(ids), y, "float32")
            stream.reset()
            out = np.empty((1, 3, 5), "float32")
            assert stream.feed(ids[1:], out, rows=[1]) is out
            assert_close(out, y[1:], "float32")
            stream.reset()
            assert_close(stream.step(ids[:, 0]), y[:, 0], "float32")
            stream.grow(1)
            alone = copy.copy(stream)
            new, old = stream.step(ids[:, 0], rows=[2, 0])
            first = frozen.stream(1, **options).step(ids[:1, 0])
            assert_close(new, first[0], "float32")
            assert_close(old, alone.step(ids[1:, 0], rows=0)[0], "float32")


@needs_core
@every_activation
@pytest.mark.parametrize("hidden", [3, 300])  # a short step keeps Python's lock
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_steps_out_may_overlap_x_and_be_rows_of_any_array(activation, hidden, one_hot):
    layer = fastrnn.GRU(I, hidden, rng=0, num_layers=2)
    frozen = layer.freeze(head=train.Dense(hidden, I, activation=activation, rng=1))
    x = np.array([[1, 0, 3], [3, 2, 1]]) if one_hot else features(2, B, I)
    wanted = frozen(x, one_hot=one_hot)[0]
    stream, room = frozen.stream(B, one_hot=one_hot), np.zeros(B * I + 64, "float32")
    out = room[:12].reshape(B, I)
    for x_t, y_t in zip(x, wanted, strict=True):
        if not one_hot:
            room[1 : 1 + x_t.size] = x_t.ravel()
            x_t = room[1 : 1 + x_t.size].reshape(B, I)  # one number further on than out
        assert stream.step(x_t, out=out) is out
        assert_same_bits(out, y_t)
    stream.reset()
    wide = np.full((2, 2 * I), np.nan, "float32")[:, ::2]
    x_1 = x[1][[2, 0]]
    expected = frozen(x_1[None], one_hot=one_hot)[0][0]
    assert stream.step(x_1, out=wide, rows=np.array([2, 0])) is wide
    assert_same_bits(wide, expected)


@needs_core
@pytest.mark.parametrize("made, used", [("core", "reference"), ("reference", "core")])
def test_a_streams_head_runs_where_its_steps_do(made, used):
    """A stream keeps the backend that it was made under."""
    layer, dense = pair_of(33, "sigmoid")
    frozen, x = layer.freeze(head=dense), features(T, B, I)
    with fastrnn.backend(made):
        stream, witness = frozen.stream(B), frozen.stream(B)
        wanted = [witness.step(x_t) for x_t in x]
        expected = layer.freeze(head=dense)(x)[0] if made == "core" else np.stack(wanted)
    with fastrnn.backend(used):
        assert_same_bits(np.stack([stream.step(x_t) for x_t in x[:3]]), expected[:3])
        assert_same_bits(stream.feed(x[3:]), expected[3:])


@every_backend
def test_copies_and_pickles_have_the_head(backend):
    layer, dense = pair_of(5, "sigmoid")
    x = features(T, B, I)
    with fastrnn.backend(backend):
        frozen = layer.freeze(head=dense)
        bytes_without = layer.freeze().nbytes
        expected = frozen(x)
        dense.flat[...] = 0  # a snapshot
        stream = frozen.stream(B)
        first = stream.step(x[0])
        for other in copy.copy(frozen), copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen)):
            assert_same_bits(other(x), expected)
        for other in copy.deepcopy(stream), pickle.loads(pickle.dumps(stream)):
            assert_same_bits(other.step(x[1]), expected[0][1])
        if backend == "core":
            assert_same_bits(first, expected[0][0])
    assert frozen.nbytes >= bytes_without + 5 * (H + 1) * 4
    assert "head of 5" in repr(frozen)


@every_backend
def test_a_report_ends_with_the_outputs_of_the_head(backend):
    layer, dense = pair_of(5, "sigmoid", num_layers=2)
    x = features(T, B, I)
    with fastrnn.backend(backend):
        frozen = layer.freeze("bfloat16-weights", head=dense)
        *_, of_y, of_head = report = frozen.report(layer, x)
        assert len(report) == 3
        assert of_y == layer.freeze("bfloat16-weights").report(layer, x)[-1]
        size = np.abs(frozen(x)[0] - layer.freeze(head=dense)(x)[0])
        assert 0 < of_head.largest == pytest.approx(size.max(), rel=1e-4)
        assert of_head.mean == pytest.approx(size.mean(), rel=1e-4)


@every_backend
def test_softmax_of_infinite_and_large_numbers(backend):
    """It subtracts the largest number of a row first, so no exponential overflows."""
    layer, dense = pair_of(5, "softmax")
    dense.flat[...] = 0
    dense.params["bias"] = np.array([0, -np.inf, -np.inf, 1, 100], "float32")
    with fastrnn.backend(backend):
        y = layer.freeze(head=dense)(features(T, B, I))[0]
        assert np.isfinite(y).all() and (y[..., 4] == 1).all() and (y[..., 1:3] == 0).all()


@every_backend
def test_nan_and_infinity_stay_in_their_row(backend):
    layer, dense = pair_of(5, "softmax")
    dense.params["weight"] = np.full((5, H), 3e38, "float32")
    with fastrnn.backend(backend):
        x = features(T, B, I)
        clean = layer.freeze(head=pair_of(5, "softmax")[1])(x)[0]
        x[2, 1] = np.nan
        got = layer.freeze(head=pair_of(5, "softmax")[1])(x)[0]
        assert np.isnan(got[2:, 1]).all()
        assert_same_bits(np.delete(got, 1, 1), np.delete(clean, 1, 1))
        assert layer.freeze(head=dense)(features(0, B, I))[0].shape == (0, B, 5)
        assert layer.freeze(head=dense)(features(T, 0, I))[0].shape == (T, 0, 5)


class Squashed(train.Dense):
    def __call__(self, x):
        return np.tanh(super().__call__(x))


@every_backend
def test_softmax_of_millions_of_outputs(backend):
    layer, dense = fastrnn.RNN(1, 1, rng=0), train.Dense(1, 2_000_000, activation="softmax", rng=0)
    dense.params["bias"] = np.random.default_rng(0).normal(0, 0.5, 2_000_000).astype("float32")
    with fastrnn.backend(backend):
        y = layer.freeze(head=dense)(np.ones((1, 1, 1), "float32"))[0]
    assert y.sum(dtype=float) == pytest.approx(1, rel=1e-6)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    layer, dense = pair_of()
    message = r"weight of head .* with 9 features, got \(2, 10\): make it by train.Dense\(9, outp"
    with pytest.raises(ValueError, match=message):
        layer.freeze(head=train.Dense(H + 1, 2))
    with pytest.raises(ValueError, match=r"train.Dense\(18, outputs\)"):
        fastrnn.GRU(I, H, bidirectional=True).freeze(head=dense)
    with pytest.raises(TypeError, match="weight of head"):
        layer.freeze(head=train.Dense(H, 2, dtype="float64"))
    with pytest.raises(TypeError, match="got a Squashed with a __call__ of its own"):
        layer.freeze(head=Squashed(H, 2))
    with pytest.raises(TypeError, match=r"head must be a train\.Dense"):
        layer.freeze(head=np.ones((H, 2)))
    with pytest.raises(ValueError, match="merge"):
        fastrnn.GRU(I, H, bidirectional=True, merge=None).freeze(head=dense)
    with pytest.raises(ValueError, match="activation must be one of None, 'sigmoid', 'softmax'"):
        train.Dense(H, 2, activation="relu")
    frozen, x = layer.freeze(head=dense), features(T, B, I)
    stream = frozen.stream(B)
    before = stream.step(x[0]), stream.state
    for out in (
        np.empty((B, H), "float32"),
        np.empty((B, 5)),
        [[0.0] * 5] * B,
        np.broadcast_to(np.float32(0), (B, 5)),
    ):
        with pytest.raises((TypeError, ValueError), match="out"):
            stream.step(x[0], out=out)
        with pytest.raises((TypeError, ValueError), match="out"):
            frozen.step(x[0], out=out)
        with pytest.raises((TypeError, ValueError), match="out"):
            stream.feed(x, out=out)
        with pytest.raises((TypeError, ValueError), match="out"):
            frozen(x, out=out)
    with pytest.raises(ValueError, match="x must be"):
        stream.feed(x[0, 0], out=np.empty((T, B, 5), "float32"))
    assert_same_bits(stream.state, before[1])
    odd = misaligned(np.empty((B, 5), "float32"))
    assert_same_bits(stream.step(x[1], out=odd), frozen(x[:2])[0][1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradients_of_a_dense_layer_with_an_activation(activation):
    dense = train.Dense(4, 3, activation=activation, dtype="float64", rng=0)
    x, dy = features(2, 5, 4, dtype="float64"), features(2, 5, 3, dtype="float64")
    got = dense.backward(x, dy)
    for array, gradient in (dense.flat, got.flat), (x, got.x):
        for index in np.ndindex(array.shape):
            kept, losses = array[index], []
            for step in 1e-6, -1e-6:
                array[index] = kept + step
                losses.append((dense(x) * dy).sum())
            array[index] = kept
            assert np.isclose((losses[0] - losses[1]) / 2e-6, gradient[index], rtol=1e-6, atol=1e-8)


@every_activation
def test_pytorch_as_a_witness(activation):
    torch = pytest.importorskip("torch")
    _, dense = pair_of(70, activation)
    y = features(T, B, H)
    p = torch.tensor(y) @ torch.tensor(dense.params["weight"]).T + torch.tensor(
        dense.params["bias"]
    )
    functions = {None: lambda p: p, "sigmoid": torch.sigmoid, "softmax": lambda p: p.softmax(-1)}
    assert_close(dense(y), functions[activation](p).numpy(), "float32")
