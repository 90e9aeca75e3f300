"""Public calls as functions of their array arguments alone, however these are held."""

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
}


def layer(**options):
    return fastrnn.LSTM(I, H, rng=0, **options)


def of_layer(a):
    y, state, tape = layer().forward(
        a["x"], (a["h"], a["c"]), lengths=a["lengths"], mask=a["mask"], reset=a["reset"]
    )
    grads = tape.backward(a["dy"], (a["dh"], None))
    again = layer()(a["x"], lengths=a["lengths"], mask=a["mask"], reset=a["reset"])
    return y, state, grads.x, grads.flat, grads.state, again


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


def of_windows(a):
    options = {"lengths": a["lengths"], "mask": a["mask"], "reset": a["reset"]}
    windows = fastrnn.tbptt(layer(), a["x"], 2, 4, (a["h"], a["c"]), **options)
    made = [(w.y, w.state, w.backward(np.asarray(a["dy"])[w.steps]).flat) for w in windows]
    ids = [w.y for w in fastrnn.tbptt(layer(), a["ids"], 4, one_hot=True)]
    return made, ids


def of_loading(a):
    made = layer()
    made.load(dict(zip(made.params, (a["w_ih"], a["w_hh"], a["b_ih"], a["b_ih"]), strict=True)))
    return made.flat


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


CALLS = {
    of_layer: ("x", "h", "c", "dy", "dh", "lengths", "mask", "reset"),
    of_ids: ("ids", "lengths", "reset", "dy"),
    of_embedding: ("ids", "embedding", "mask", "dy"),
    of_function: ("x", "ids", "w_ih", "w_hh", "b_ih", "embedding", "lengths", "mask", "reset"),
    of_stream: ("x_t", "x", "ids_t", "ids", "embedding", "h", "c"),
    of_windows: ("x", "ids", "h", "c", "lengths", "mask", "reset"),
    of_loading: ("w_ih", "w_hh", "b_ih"),
    of_parts: ("ids", "x", "dy", "classes"),
    of_losses: ("x", "targets", "classes", "weights"),
    of_other_functions: ("x", "w_ih", "w_hh"),
}
PAIRS = [(call, name) for call, names in CALLS.items() for name in names]
