"""Public calls as functions of their array arguments alone, for arrays of any kind."""

import numpy as np

import fastrnn
from fastrnn import train

T, B, I, H, V = 6, 4, 3, 5, 7  # noqa: E741 - as in all the equations

rng = np.random.default_rng(0)


def draw(*shape):
    return rng.uniform(-1, 1, shape).astype("float32")


ARRAYS = {
    "x": draw(T, B, I),
    "h": draw(1, B, H),
    "c": draw(1, B, H),
    "w_ih": draw(4 * H, I),
    "w_hh": draw(4 * H, H),
    "b_ih": draw(4 * H),
    "dy": draw(T, B, H),
    "dh": draw(1, B, H),
    "embedding": draw(V, I),
    "x_t": draw(B, I),
    "lengths": np.array([2, 6, 0, 5]),
    "ids": rng.integers(0, I, (T, B)),
    "ids_t": rng.integers(0, I, B),
    "mask": rng.random((T, B)) < 0.7,
    "reset": rng.random((T, B)) < 0.3,
    "classes": rng.integers(0, I, (T, B)),
    "targets": rng.random((T, B, I)).astype("float32"),
    "weights": rng.random((T, B)).astype("float32"),
    "series": draw(20, I),
    "horizon": np.array([1, 3, 4]),
    "columns": np.array([2, 0]),
    "rows": np.array([3, 1]),
    "chosen": np.array([True, False, True, False]),
}


def layer(**options):
    return fastrnn.LSTM(I, H, rng=0, **options)


def of_layer(a):
    y, state, tape = layer().forward(
        a["x"], (a["h"], a["c"]), lengths=a["lengths"], mask=a["mask"], reset=a["reset"]
    )
    grads = tape.backward(a["dy"], (a["dh"], None))
    inference = layer()(a["x"], lengths=a["lengths"], mask=a["mask"], reset=a["reset"])
    return y, state, grads.x, grads.flat, grads.state, inference


def of_ids(a):
    y, state, tape = layer().forward(a["ids"], one_hot=True, lengths=a["lengths"], reset=a["reset"])
    return y, state, tape.backward(a["dy"]).flat, layer()(a["ids"], one_hot=True)


def of_embedding(a):
    y, state, tape = layer().forward(a["ids"], embedding=a["embedding"], mask=a["mask"])
    grads = tape.backward(a["dy"])
    return y, state, grads.flat, grads.embedding


def of_function(a):
    state, weights = (
        (np.asarray(a["h"])[0], np.asarray(a["c"])[0]),
        (a["w_ih"], a["w_hh"], a["b_ih"]),
    )
    options = {"lengths": a["lengths"], "mask": a["mask"], "reset": a["reset"], "reverse": True}
    return (
        fastrnn.lstm(a["x"], state, *weights, **options),
        fastrnn.lstm(a["ids"], None, *weights, one_hot=True),
        fastrnn.lstm(a["ids"], None, *weights, embedding=a["embedding"]),
    )


def of_stream(a):
    stream = layer().stream(B)
    stream.state = a["h"], a["c"]
    of_hot, of_rows = layer().stream(B, one_hot=True), layer().stream(B, embedding=a["embedding"])
    return (
        stream.step(a["x_t"]), stream.feed(a["x"]), of_hot.step(a["ids_t"]), of_hot.feed(a["ids"]),
        of_rows.step(a["ids_t"]), of_rows.feed(a["ids"]),
    )  # fmt: skip


def of_frozen(a):
    frozen = layer().freeze()
    state = a["h"], a["c"]
    rows = {"lengths": a["lengths"], "mask": a["mask"], "reset": a["reset"]}
    return (
        frozen(a["x"], state), frozen(a["x"], state, **rows), frozen.step(a["x_t"], state),
        frozen(a["ids"], one_hot=True), frozen.step(a["ids_t"], one_hot=True),
        frozen(a["ids"], embedding=a["embedding"], **rows),
    )  # fmt: skip


def of_windows(a):
    options = {"lengths": a["lengths"], "mask": a["mask"], "reset": a["reset"]}
    windows = fastrnn.tbptt(layer(), a["x"], 2, 4, (a["h"], a["c"]), **options)
    answers = [(w.y, w.state, w.backward(np.asarray(a["dy"])[w.steps]).flat) for w in windows]
    ids = [w.y for w in fastrnn.tbptt(layer(), a["ids"], 4, one_hot=True)]
    return answers, ids


def of_loading(a):
    loaded = layer()
    loaded.load(dict(zip(loaded.params, (a["w_ih"], a["w_hh"], a["b_ih"], a["b_ih"]), strict=True)))
    return loaded.flat


def of_parts(a):
    embedding, dense = train.Embedding(V, I, rng=0), train.Dense(I, H, rng=0)
    return (
        embedding(a["ids"]),
        embedding.backward(a["ids"], a["x"]).flat,
        dense(a["x"]),
        dense.backward(a["x"], a["dy"]).flat,
        train.cross_entropy(a["x"], a["classes"]),
    )


def of_losses(a):
    weights = a["weights"]
    return (
        train.mean_squared_error(a["x"], a["targets"], weights=weights),
        train.binary_cross_entropy(a["x"], a["targets"], weights=weights),
        train.cross_entropy(a["x"], a["classes"], weights=weights),
        train.sigmoid(a["x"]),
        train.softmax(a["x"]),
    )


def of_other_functions(a):
    return (
        fastrnn.rnn(a["x"], None, np.asarray(a["w_ih"])[:H], np.asarray(a["w_hh"])[:H]),
        fastrnn.gru(a["x"], None, np.asarray(a["w_ih"])[: 3 * H], np.asarray(a["w_hh"])[: 3 * H]),
    )


def of_reference(a):
    weights = a["w_ih"], a["w_hh"], a["b_ih"]
    state = np.asarray(a["h"])[0], np.asarray(a["c"])[0]
    options = {"lengths": a["lengths"], "mask": a["mask"], "reset": a["reset"]}
    return fastrnn.reference.lstm(a["x"], state, *weights, **options)


def of_norms(a):
    _, _, tape = layer().forward(a["x"])
    return tape.gradient_norms(a["dy"], (a["dh"], None))


def of_steps(a):
    parameters = [np.ones((T, B, H), "float32") for _ in range(2)]
    sgd, adam = train.SGD(parameters[:1], 0.1, momentum=0.9), train.Adam(parameters[1:], 0.1)
    for _ in range(2):
        sgd.step([a["dy"]])
        adam.step([a["dy"]])
    return parameters, sgd.velocity, adam.square


def of_reset(a):
    stream = layer().stream(B)
    stream.state = ARRAYS["h"], ARRAYS["c"]
    stream.reset(a["rows"])
    after_rows = stream.state
    stream.reset(a["chosen"])
    return after_rows, stream.state


def of_series(a):
    return list(train.windows(a["series"], 5, a["horizon"], 4, targets=a["columns"]))


CALLS = {
    of_layer: ("x", "h", "c", "dy", "dh", "lengths", "mask", "reset"),
    of_ids: ("ids", "lengths", "reset", "dy"),
    of_embedding: ("ids", "embedding", "mask", "dy"),
    of_function: ("x", "ids", "w_ih", "w_hh", "b_ih", "embedding", "lengths", "mask", "reset"),
    of_stream: ("x_t", "x", "ids_t", "ids", "embedding", "h", "c"),
    of_frozen: (
        "x",
        "h",
        "c",
        "lengths",
        "mask",
        "reset",
        "x_t",
        "ids",
        "ids_t",
        "embedding",
    ),
    of_windows: ("x", "ids", "h", "c", "lengths", "mask", "reset"),
    of_loading: ("w_ih", "w_hh", "b_ih"),
    of_parts: ("ids", "x", "dy", "classes"),
    of_losses: ("x", "targets", "classes", "weights"),
    of_other_functions: ("x", "w_ih", "w_hh"),
    of_reference: ("x", "h", "c", "w_ih", "w_hh", "b_ih", "lengths", "mask", "reset"),
    of_norms: ("x", "dy", "dh"),
    of_steps: ("dy",),
    of_reset: ("rows", "chosen"),
    of_series: ("series", "horizon", "columns"),
}
PAIRS = [(call, name) for call, names in CALLS.items() for name in names]


# ---- calls that write into an array of the caller's ----------------------------------------------


def to_step(out):
    layer().stream(B).step(ARRAYS["x_t"], out)


def to_feed(out):
    layer().stream(B).feed(ARRAYS["x"], out)


def to_feed_batch_first(out):
    layer(batch_first=True).stream(B).feed(ARRAYS["x"].swapaxes(0, 1), out)


def to_clip_by_norm(gradient):
    train.clip_by_norm([gradient], 0.7)


def to_clip_by_value(gradient):
    train.clip_by_value([gradient], 0.2)


def to_sgd(parameter):
    sgd = train.SGD([parameter], 0.1, momentum=0.9)
    for _ in range(2):
        sgd.step(ARRAYS["dy"])


def to_adam(parameter):
    adam = train.Adam([parameter], 0.1)
    for _ in range(2):
        adam.step(ARRAYS["dy"])


WRITERS = {
    to_step: (B, H),
    to_feed: (T, B, H),
    to_feed_batch_first: (B, T, H),
    to_clip_by_norm: (T, B, H),
    to_clip_by_value: (T, B, H),
    to_sgd: (T, B, H),
    to_adam: (T, B, H),
}
