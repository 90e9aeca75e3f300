"""A program as users write it, for a type checker: test_typing.py says what it must find here."""

import pathlib
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastrnn
from fastrnn import GRU, LSTM, RNN, convert, distributed, estimators, reference, train
from fastrnn.functional import Parameters
from fastrnn.train.protocols import Comm

Floats = NDArray[np.float32]
AnyFloats = NDArray[np.floating[Any]]


def train_lstm(layer: LSTM, x: Floats, target: Floats) -> float:
    y, (h, c), tape = layer.forward(x, lengths=[3, 5], mask=np.ones((5, 2), bool))
    grads = tape.backward(2 * (y - target) / y.size, (None, np.ones_like(c)))
    layer.flat -= 0.1 * grads.flat
    layer.params["bias_hh_l0"] -= grads.params["bias_hh_l0"]
    d_h, d_c = grads.state
    assert grads.x is not None and grads.x.shape == x.shape
    norms = tape.gradient_norms(np.ones_like(y))
    return float(np.square(y - target).mean() + abs(d_h).max() + d_c.sum() + norms["h"].sum())


def train_gru(layer: GRU, ids: NDArray[np.int64], table: Floats, checkpoint: int | None) -> Floats:
    y, h, tape = layer.forward(ids, embedding=table, checkpoint=checkpoint, train=False)
    y, h, tape = layer.forward(ids, h, embedding=table, reset_to="initial")
    grads = tape.backward(None, np.ones_like(h), need_x=True)
    grads = tape.backward(last=np.ones_like(layer.last(h)))
    assert grads.embedding is not None
    layer.flat = layer.flat - grads.flat
    return (table - grads.embedding).astype(np.float32)


def classify(layer: LSTM | GRU, texts: list[str], path: pathlib.Path) -> float:
    targets = np.arange(len(texts)) % 2
    words = train.Vocabulary((w for text in texts for w in text.split()), unknown="?")
    x, lengths = train.pad([words.encode(text.split()) for text in texts])
    table, head = train.Embedding(len(words), 3, rng=0), train.Dense(4, 2, rng=0)
    dropout = train.Dropout(0.5, rng=0)
    dropout.rate, dropout.rng = 0.25, 1
    if isinstance(layer, LSTM):
        y, state, tape = layer.forward(x, lengths=lengths, embedding=table.params["weight"])
        output, factors = dropout.forward(layer.last(state))
        loss, d = train.cross_entropy(head(output), targets)
        over_time = train.cross_entropy(head(y), x % 2, lengths=lengths, batch_first=False)[0]
        loss += over_time + train.mean_squared_error(y, y, lengths=[1, 2])[0]
        last = dropout.backward(factors, head.backward(output, d).x)
        grads = tape.backward(last=last, need_x=False)
        layer.flat -= grads.flat
    else:
        frozen = layer.freeze(head=head)
        _, h = frozen(x, lengths=lengths, embedding=table.params["weight"])
        loss = float(frozen.last(h).sum() + dropout(layer.last(h)).sum())
    train.save(path, {"layer": layer, "dropout": dropout, "head": head})
    return loss + len("".join(words.decode(x[:, 0])))


def light_step(
    a: AnyFloats, state: tuple[AnyFloats, ...], w: AnyFloats, b: AnyFloats
) -> tuple[tuple[AnyFloats], tuple[AnyFloats], tuple[AnyFloats, ...]]:
    (h,) = state
    f, n = reference.sigmoid(a[0] + h @ w.T + b), np.tanh(a[1])
    return (f * h + (1 - f) * n,), (h,), (f, n, h)


def light_derivative(
    dstate: tuple[AnyFloats, ...],
    saved: tuple[AnyFloats, ...],
    w: AnyFloats,
    da: AnyFloats,
    du: AnyFloats,
) -> tuple[AnyFloats]:
    (dh,), (f, n, h) = dstate, saved
    da[0] = dh * (h - n) * f * (1 - f)
    da[1] = dh * (1 - f) * (1 - n * n)
    return (dh * f + reference.by_row(du[:1]) @ w,)


def own_cell() -> float:
    cell = reference.Cell(2, 1, light_step, light_derivative, ((0, 1),), names=("f", "n"))
    report = reference.check(cell, strict=False)
    weights = reference.weights(cell, 3, 4, rng=0)
    y, _, tape = reference.forward(cell, np.ones((5, 2, 3)), None, *weights)
    _, _, *gradients = reference.backward(tape, np.ones_like(y))
    train.Adam(weights, 0.01, weight_decay=0.01).step(gradients)
    print(report.ok, {name: found.cause for name, found in report.wrong.items()})
    return report["da_f"]


def infer(layer: LSTM | GRU, x: Floats) -> Floats:
    y, _ = layer(x)
    return y.astype(np.float32)


def look(layer: LSTM, x: Floats, again: bool = False) -> dict[str, tuple[int, ...]]:
    y, (h, _), gates = layer(x, return_gates=True)
    y, state = layer(x, (h, None), return_gates=False)
    seen = layer(x, return_gates=again)
    y, (h, _) = seen[:2]
    gates = seen[2] if len(seen) == 3 else gates
    return {name: array.shape for name, array in gates.items()}


def remember(layer: GRU, x: Floats) -> NDArray[np.float64]:
    _, _, gates = layer(x, return_gates=True)
    memory = fastrnn.plot.memory_of(gates, row=1, layer=0, reverse=False)
    print(memory.name, memory.sizes.shape, memory.shares[-1], memory.state[0])
    return memory.terms(0)


def listen(layer: LSTM, chunks: list[Floats]) -> Floats:
    stream = layer.stream(batch_size=8)
    out = np.empty((8, layer.hidden_size), "float32")
    for chunk in chunks:
        for x_t in chunk:
            stream.step(x_t, out=out)
        stream.feed(chunk)
    h, c = stream.state
    stream.state = 0.5 * h, c
    stream.reset([0, 1])
    stream.reset(np.arange(8) < stream.batch_size)
    return out


def serve(layer: LSTM, x: Floats) -> Floats:
    frozen = layer.freeze()
    y, (h, c) = frozen(x, lengths=[3], out=np.empty((5, 1, 8), "float32"))
    y, (h, c) = frozen.step(x[0], (h, c))
    return frozen.stream(batch_size=2).step(y)


def ask(frozen: fastrnn.Frozen, x: Floats) -> Floats:
    y, _ = frozen(x)
    return y


def hear(stream: fastrnn.Stream, x_t: Floats) -> Floats:
    return stream.step(x_t).astype(np.float32)


def descend(layer: GRU, tape: fastrnn.Tape[Any, Any], dy: Floats) -> fastrnn.Gradients[Any]:
    grads = tape.backward(dy)
    layer.flat -= 0.1 * grads.flat
    return grads


def ends(windows: list[fastrnn.Window[Any, Any]]) -> list[int]:
    return [int(window.steps.stop) for window in windows]


def spell(layer: RNN, first: int) -> int:
    stream = layer.stream(one_hot=True)
    y_t = stream.step(first)
    y_t = stream.step([int(y_t.argmax())])
    stream.state = stream.state * 2
    return int(y_t.argmax())


def windows(layer: GRU, x: Floats, targets: Floats) -> None:
    state = None
    for window in fastrnn.tbptt(layer, x, 20, 40, state):
        dy = window.y - targets[window.steps]
        grads = window.backward(dy, np.zeros_like(window.state))
        layer.flat -= 0.1 * grads.flat


def functions(x: Floats, lstm: LSTM, gru: GRU, rnn: RNN) -> tuple[Floats, Floats]:
    names = "weight_ih_l0", "weight_hh_l0"
    bias = lstm.params["bias_ih_l0"]
    w_ih, w_hh = (lstm.params[name] for name in names)
    y, (h, c) = fastrnn.lstm(x, None, w_ih, w_hh, bias)
    y, (h, c) = fastrnn.lstm(x, (h, None), w_ih, w_hh, bias, bias, reverse=True)
    w_ih, w_hh = (gru.params[name] for name in names)
    y, h = fastrnn.gru(x, h, w_ih, w_hh, reset_after=False, lengths=np.array([1, 2]))
    w_ih, w_hh = (rnn.params[name] for name in names)
    y, h = fastrnn.rnn(x, h, w_ih, w_hh, nonlinearity="relu", reset_to="zero")
    flag = bool(np.any(y > 2))
    y = fastrnn.rnn(x, h, w_ih, w_hh, return_tape=flag)[0]
    h = fastrnn.gru(x, h, *(gru.params[name] for name in names), return_tape=flag)[1]
    c = fastrnn.lstm(x, None, *(lstm.params[name] for name in names), return_tape=flag)[1][1]
    y = fastrnn.min_gru(x, None, np.ones((8, 3), np.float32), return_tape=flag)[0]
    h = fastrnn.min_lstm(x, None, np.ones((12, 3), np.float32), return_tape=flag)[1]
    return y.astype(np.float32), (h + c).astype(np.float32)


def gradients(x: Floats, lstm: LSTM, gru: GRU, rnn: RNN) -> list[Floats]:
    """With tapes, which are arrays."""
    names = "weight_ih_l0", "weight_hh_l0"
    w_ih, w_hh = (lstm.params[name] for name in names)
    hr, w_hh = {"weight_hr": np.ones((2, 4), np.float32)}, w_hh[:, :2]
    y, (h, c), tape = fastrnn.lstm(
        x, None, w_ih, w_hh, extras=hr, checkpoint=2, return_tape=True, cell_clip=3.0
    )
    moved = np.frombuffer(tape.tobytes(), np.uint8)
    dx, (dh, dc), dweights = fastrnn.lstm_backward(
        moved, x, y, None, (w_ih, w_hh, None, None, hr), None, (h, None)
    )
    assert dx is not None and dweights.b_ih is None
    found = [dx, dh, dc, dweights.w_ih, dweights.extras["weight_hr"]]
    ids, table = np.zeros((5, 2), np.int64), np.ones((7, 3), np.float32)
    w_ih, w_hh = (gru.params[name] for name in names)
    weights = Parameters(w_ih, w_hh)
    y, h, tape = fastrnn.gru(
        ids, None, w_ih, w_hh, embedding=table, return_tape=True, zoneout=0.1, rng=3
    )
    size = fastrnn.tape_size("gru", 5, 2, 4, np.float32, zoneout=0.1, zoneout_masks=True)
    assert tape.size == size
    dx, dstate, dweights = fastrnn.gru_backward(
        tape, ids, y, None, weights, y, h, embedding=table, need_x=True
    )
    assert dx is not None and dweights.w_hh is not None
    found += [dx, dstate, dweights.w_hh]
    w_ih, w_hh = (rnn.params[name] for name in names)
    mask = np.ones((2, 4), np.float32)
    y, h, tape = fastrnn.rnn(x, None, w_ih, w_hh, return_tape=True, recurrent_mask=mask)
    dx, dstate, dweights = fastrnn.rnn_backward(tape, x, y, None, [w_ih, w_hh], y, need_x=False)
    return [*(d.astype(np.float32) for d in found), dstate.astype(np.float32)]


def keep(layer: LSTM, folder: pathlib.Path) -> list[Floats]:
    fastrnn.save(folder / "one.npz", layer)
    fastrnn.save(str(folder / "all.npz"), {"encoder": layer, "decoder": GRU(4, 4)})
    same: LSTM = fastrnn.load(folder / "one.npz", batch_first=True)
    layers: dict[str, LSTM | GRU] = fastrnn.load(folder / "all.npz", dtype="float32", rng=0)
    gates = convert.to_gates(same, order="xh", by_columns=True)
    again = convert.from_gates("lstm", gates, order="xh", by_columns=True, batch_first=True)
    w_z, _ = convert.to_gates(GRU(3, 4, reset_after=False), update="new")["z"]
    after = convert.from_gates("gru", dict.fromkeys("rzn", w_z), update="old").reset_after
    params = convert.to_thinc(convert.from_thinc(convert.to_thinc(LSTM(3, 4)), 3, 4))
    print(after, again.proj_size, list(layers))
    return [w_z.astype(np.float32), params.astype(np.float32)]


def estimate(x: Floats, y: list[float]) -> tuple[float, NDArray[np.float64]]:
    model = estimators.RNNRegressor(8, cell="lstm", random_state=0).fit(x, y)
    tagger = estimators.SequenceClassifier(epochs=3, verbose=False).fit(list(x), ["a", "b"])
    print(model.predict(x) * model.y_scale_, tagger.predict_proba(x), tagger.classes_.tolist())
    print(
        model.layer_.hidden_size, model.history_.best_epoch, model.set_params(epochs=2).score(x, y)
    )
    forecaster = estimators.Forecaster(24, 12, season=12).fit(y, X=x[:, 0])
    lower, upper = forecaster.predict_interval([1, 12], level=0.9, y=y, X=x[:, 0])
    print(forecaster.history_[0].loss, forecaster.get_params()["window"], upper - lower)
    return tagger.score(x, ["a", "b"]), forecaster.predict(np.arange(1, 4))


def served(x: Floats) -> fastrnn.keras.Loaded:
    layers = fastrnn.keras.load("model.keras")
    fastrnn.keras.load_weights("model.weights.h5", {"gru": GRU(3, 4)})
    fastrnn.keras.to_keras(layers["lstm"], object())
    print(layers["lstm"](x, mask=x[..., 0] != 0), layers["lstm"].mask_zero)
    return fastrnn.keras.from_keras(object()).freeze("int8")


def together(layer: LSTM, head: train.Dense, x: Floats, comm: Comm) -> AnyFloats:
    with distributed.together({"layer": layer, "head": head}, comm, exact=True) as mean:
        y, _, tape = layer.forward(x[:, comm.rank :: comm.size])
        loss, gradients = mean(np.float32(0.5), [tape.backward(y), head.backward(y, y)], y.shape[1])
        train.clip_by_norm(gradients, 1.0 + mean(loss, [], count=1.5)[0])
    return gradients[0]


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    lstm = LSTM(3, 4, 2, dropout=0.2, dropout_mask="sequence", rng=rng, zoneout=(0.1, 0.0))
    gru = GRU(x.shape[2], 4, recurrent_activation="hard_sigmoid", init="keras", dtype=np.float32)
    rnn = RNN(3, 4, nonlinearity="relu", bidirectional=True, merge=None, dtype="float64")
    forwards, backwards = rnn(x.astype("float64"))[0]
    lstm.dropout, lstm.rng = 0.1, 7
    lstm.load({"a." + name: array for name, array in lstm.params.items()}, prefix="a.")
    lstm.params = LSTM(3, 4, 2).params
    gru.params.update(bias_hh_l0=np.zeros(12, np.float32))
    print(repr(lstm), lstm.num_layers * lstm.num_directions, gru.options.clip, rnn.dtype.itemsize)
    with fastrnn.threads(1), fastrnn.backend("reference"):
        infer(gru, x)
    fastrnn.set_num_threads(fastrnn.get_num_threads())
    print(fastrnn.show_config()["threads"], fastrnn.__version__)
    print(fastrnn.train.__doc__, fastrnn.plot.__doc__, fastrnn.demos.__doc__, fastrnn.bench.__doc__)

    print(train_lstm(lstm, x, np.ones((5, 2, 4), np.float32)), look(lstm, x))
    print(remember(gru, x))
    table = np.ones((10, 3), np.float32)
    print(train_gru(gru, rng.integers(0, 10, (5, 2)), table, 2).shape, backwards.shape)
    print(own_cell())
    listen(lstm, [np.repeat(x, 4, axis=1)])
    hear(lstm.stream(2), x[0])
    y, h, tape = gru.forward(x)
    descend(gru, tape, y.astype(np.float32))
    print(ends(list(fastrnn.tbptt(gru, x, 2))), h.shape)
    spell(RNN(3, 3), 1)
    windows(gru, np.tile(x, (10, 1, 1)), np.zeros((50, 2, 4), np.float32))
    functions(x, LSTM(3, 4), gru, RNN(3, 4))
    print(len(gradients(x, LSTM(3, 4), GRU(3, 4), RNN(3, 4))))
    with tempfile.TemporaryDirectory() as folder:
        keep(LSTM(3, 4), pathlib.Path(folder))
        texts, path = ["you are good", "you are not good"], pathlib.Path(folder) / "model.npz"
        print([classify(net, texts, path) for net in (LSTM(3, 4), GRU(3, 4))])


if __name__ == "__main__":
    main()
