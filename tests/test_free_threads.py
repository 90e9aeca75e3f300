"""Several Python threads use one object at once: right to the last bit, or a clear error.

`docs/free-threads.md` says which objects threads may share. The tests hold with Python's global
lock and without it; without it they can fail at many more places. `four` runs a function in four
threads that begin together.
"""

import pickle
import sys
import sysconfig

import numpy as np
import pytest
from decorators import every_backend
from problems import assert_same_bits, at_once, run_python

import fastrnn
from fastrnn import estimators, train
from fastrnn._engine import runtime

# `thread_unsafe`: pytest-run-parallel would run a test of threads in several threads.
pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.usefixtures("hurried"),
    pytest.mark.thread_unsafe(reason="makes its own threads"),
]

T, B, I, H = 12, 4, 6, 16  # noqa: E741 - as in all the equations
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (T, B, I)).astype("float32")
IDS = rng.integers(0, I, (T, B))
free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python"
)


def four(function, times=1):
    """All results of `function`, called `times` times in each of four threads."""
    return [result for results in at_once([function] * 4, times) for result in results]


@free_threaded
def test_an_import_leaves_the_global_lock_off():
    code = "import sys, fastrnn; print(sys._is_gil_enabled())"
    done = run_python(code, "-W", "error", PYTHON_GIL="")
    assert done.stdout.strip() == "False", done.stderr


# ---- weights -------------------------------------------------------------------------------------


@every_backend
def test_threads_make_the_second_form_of_frozen_weights_at_once(backend):
    """The first long call, and the first of ids, pack weights while other threads read them."""
    layer = fastrnn.LSTM(I, H, rng=0)

    def calls(frozen):
        with fastrnn.backend(backend):
            return frozen.step(X[0]), frozen(X), frozen(IDS, one_hot=True), frozen.nbytes > 0

    wanted = calls(layer.freeze())
    for _ in range(20 if backend == "core" else 1):
        frozen = layer.freeze()
        for got in four(lambda frozen=frozen: calls(frozen)):
            assert_same_bits(got[:3], wanted[:3])


@pytest.mark.parametrize("precision", ["bfloat16-weights", "bfloat16", "int8"])
def test_threads_share_narrow_weights_and_a_head(precision):
    layer, head = fastrnn.GRU(I, H, 2, rng=0), train.Dense(H, 3, activation="softmax", rng=1)
    frozen = layer.freeze(precision, head=head)
    wanted = layer.freeze(precision, head=head)(X)
    for got in four(lambda: pickle.loads(pickle.dumps(frozen))(X), 5):
        assert_same_bits(got, wanted)
    for got in four(lambda: frozen(X), 20):
        assert_same_bits(got, wanted)


@every_backend
def test_threads_share_a_layer_that_nobody_trains(backend):
    layer = fastrnn.GRU(I, H, 2, bidirectional=True, rng=0)

    def calls():
        with fastrnn.backend(backend):
            batch = rng_of_thread().integers(1, B + 1)  # the zero state is kept for one size
            x = X[:, :batch]
            return batch, layer(x), layer(IDS[:, :batch], one_hot=True, mask=x[..., 0] > 0)

    for batch, *got in four(calls, 10):
        x = X[:, :batch]
        with fastrnn.backend(backend):
            wanted = [layer(x), layer(IDS[:, :batch], one_hot=True, mask=x[..., 0] > 0)]
        assert_same_bits(got, wanted)


def rng_of_thread():
    return np.random.default_rng()


def test_calls_during_an_assignment_of_weights_have_no_wild_results():
    """They may have old and new weights side by side; every h is within -1 to 1 all the same."""
    layer, old = fastrnn.GRU(I, H, rng=0), fastrnn.GRU(I, H, rng=1).flat.copy()
    new = fastrnn.GRU(I, H, rng=2).flat.copy()

    def assign():
        layer.flat, layer.params["bias_hh_l0"] = old, new[-3 * H :]

    def call():
        y, _ = layer(X)
        grads = layer.forward(X)[2].backward(y)
        return np.abs(y).max() <= 1 and np.isfinite(grads.flat).all()

    *_, answers = at_once([assign, assign, call, call], 30)
    assert all(answers)


# ---- training ------------------------------------------------------------------------------------


@every_backend
def test_threads_train_on_one_layer_each_with_its_own_tape(backend, monkeypatch):
    """The tapes are large enough to get old buffers, and too large to keep all of them."""
    monkeypatch.setattr(runtime, "_FRESH_BYTES", 1)
    monkeypatch.setattr(runtime, "_KEPT_BYTES", 2 * 10**5)
    layer = fastrnn.LSTM(I, H, 2, rng=0)

    def gradients(batch):
        with fastrnn.backend(backend):
            y, _, tape = layer.forward(X[:, :batch])
            return tape.backward(y, need_x=False).flat

    wanted = {batch: gradients(batch) for batch in (1, 2, 3, 4)}
    functions = [lambda batch=batch: (batch, gradients(batch)) for batch in wanted]
    for results in at_once(functions, 40 if backend == "core" else 4):
        for batch, got in results:
            assert_same_bits(got, wanted[batch])


@every_backend
def test_threads_share_a_tape(backend):
    layer = fastrnn.GRU(I, H, 2, bidirectional=True, merge="mul", rng=0)
    with fastrnn.backend(backend):
        y, state, tape = layer.forward(X, lengths=[T, 3, 0, 5])

    def read():
        norms = tape.gradient_norms(y)["h"]
        return tape.backward(y, last=layer.last(state)).flat, norms, tape.gates()["z"]

    wanted = read()
    for got in four(read, 3):
        assert_same_bits(got, wanted)
    copy = pickle.loads(four(lambda: pickle.dumps(tape))[0])
    assert_same_bits(copy.backward(y, last=layer.last(state)).flat, wanted[0])


def test_threads_that_draw_from_one_generator_get_numbers_of_their_own():
    """Each mask is right; which thread gets which one is chance."""
    shared = np.random.default_rng(3)
    layers = [fastrnn.GRU(I, H, 2, dropout=0.5, rng=shared) for _ in range(4)]
    for layer in layers:
        layer.flat = layers[0].flat
    shared.bit_generator.state = state = np.random.default_rng(4).bit_generator.state
    draws = [lambda layer=layer: layer.forward(X)[0].tobytes() for layer in layers]
    got = {y for results in at_once(draws, 5) for y in results}
    assert len(got) == 20
    shared.bit_generator.state = state
    assert got == {layers[0].forward(X)[0].tobytes() for _ in range(20)}


def test_threads_train_models_of_their_own():
    def trained():
        layer, head = fastrnn.GRU(I, H, rng=0), train.Dense(H, 1, rng=1)

        def loss(x):
            y, _, tape = layer.forward(x)
            value, dy = train.mean_squared_error(head(y), x[..., :1])
            of_head = head.backward(y, dy)
            return value, [tape.backward(of_head.x, need_x=False), of_head]

        adam = train.Adam([layer, head], 0.01)
        train.fit({"layer": layer, "head": head}, loss, lambda _: [X], optimizer=adam, epochs=4)
        return layer.flat, head.flat

    wanted = trained()
    for got in four(trained):
        assert_same_bits(got, wanted)


def test_threads_share_a_vocabulary_and_trained_parts():
    vocabulary = train.Vocabulary("a rnn reads one word after another".split())
    embedding, head = train.Embedding(len(vocabulary), I, rng=0), train.Dense(I, 2, rng=0)

    def read():
        ids = vocabulary.encode("one word after a word".split())
        return ids, embedding(ids), head(embedding(ids))

    wanted = read()
    for got in four(read, 20):
        assert_same_bits(got, wanted)


def test_threads_predict_while_one_fits_again():
    """Each prediction is that of one fit, the old or the new one."""
    series = rng.uniform(-1, 1, (20, 5))
    model = estimators.RNNRegressor(4, epochs=1, validation_fraction=0, random_state=0)
    few = series[:3]
    targets = [series[:, 0], 1000 + 50 * series[:, 1]]
    wanted = [model.fit(series, y).predict(few) for y in targets]
    model.fit(series, targets[0])

    def fit():
        for y in targets:
            model.fit(series, y)

    _, *predictions = at_once([fit, *[lambda: model.predict(few)] * 3], 10)
    for got in (p for of_thread in predictions for p in of_thread):
        assert any(np.array_equal(got, right) for right in wanted), got


# ---- streams -------------------------------------------------------------------------------------


@every_backend
def test_threads_step_streams_of_their_own(backend):
    frozen = fastrnn.LSTM(I, H, 2, rng=0).freeze()
    embedding = rng.uniform(-1, 1, (9, I)).astype("float32")

    def run():
        with fastrnn.backend(backend):
            stream, of_ids = frozen.stream(B), frozen.stream(B, embedding=embedding)
            outputs = [stream.step(x) for x in X[:6]]
            outputs += [of_ids.step(ids) for ids in IDS[:2]]
            outputs += [stream.step(X[6, :2], rows=[3, 1]), stream.feed(X[7:])]
            return outputs, stream.state

    wanted = run()
    for got in four(run, 3):
        assert_same_bits(got, wanted)


def taken_or_refused(call):
    """1 if the call was taken, 0 if it was refused because another one of the stream ran."""
    try:
        call()
    except RuntimeError as error:
        assert "another thread is stepping this stream" in str(error)
        return 0
    return 1


@every_backend
@pytest.mark.parametrize("kind", ["step", "rows", "feed", "ids"])
def test_a_stream_that_threads_share_takes_whole_steps_or_refuses_them(backend, kind):
    """The state is that after as many steps as were taken: none is lost and none is mixed."""
    layer = fastrnn.RNN(I, H, rng=0, bias=False)
    stream, alone = (layer.stream(B, one_hot=kind == "ids") for _ in range(2))
    step = {
        "step": lambda s: s.step(X[0]),
        "rows": lambda s: s.step(X[0, :2], rows=[2, 1]),
        "feed": lambda s: s.feed(X[:3]),
        "ids": lambda s: s.step(IDS[0]),
    }[kind]
    taken = sum(
        four(lambda: taken_or_refused(lambda: step(stream)), 60 if backend == "core" else 10)
    )
    for _ in range(taken):
        step(alone)
    assert taken > 0
    assert_same_bits(stream.state, alone.state)


@every_backend
def test_a_stream_grows_and_is_copied_while_others_step_it(backend):
    """Every copy has as many rows as its batch size says, and can step."""
    stream = fastrnn.GRU(I, H, rng=0).stream(1)

    def step():
        try:
            stream.step(np.ones((stream.batch_size, I), "float32"))
        except ValueError:  # the stream has grown since batch_size was read
            pass

    def taken(call):
        """The result of a call, which is repeated until it is not refused."""
        results = []
        while not results:
            taken_or_refused(lambda: results.append(call()))
        return results[0]

    calls = [lambda: stream.grow(1), lambda: pickle.dumps(stream), step, stream.reset]
    _, copies, *_ = at_once([lambda call=call: taken(call) for call in calls], 15)
    assert stream.batch_size == 16
    for copy in map(pickle.loads, copies):
        assert len(copy.state[0]) == copy.batch_size
        copy.step(np.ones((copy.batch_size, I), "float32"))


# ---- settings ------------------------------------------------------------------------------------


def test_each_thread_has_its_own_backend_and_number_of_threads(keep_threads):
    layer = fastrnn.GRU(64, 96, rng=0)
    x = np.ones((20, 8, 64), "float32")
    wanted = layer(x)[0]

    def with_threads(n):
        with fastrnn.threads(n):
            y, _ = layer(x)
            return fastrnn.get_num_threads() == n and np.array_equal(y, wanted)

    def with_reference():
        with fastrnn.backend("reference"):
            return not runtime.uses_core() and np.allclose(layer(x)[0], wanted, atol=1e-5)

    def process():
        fastrnn.set_num_threads(2)
        return fastrnn.get_num_threads() == 2

    functions = [lambda: with_threads(1), lambda: with_threads(3), with_reference, process]
    assert all(all(results) for results in at_once(functions, 8))


@free_threaded
def test_the_lock_is_still_off_after_all_this():
    assert not sys._is_gil_enabled()
