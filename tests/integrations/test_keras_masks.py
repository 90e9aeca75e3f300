"""fastrnn.keras.load: `mask_source` names a layer where Keras calls a layer with a mask.

What Keras does is seen in a call of the model, not derived.
"""

import numpy as np
import pytest
from keras_layers import QUIET, keras, kl

from fastrnn.keras import load

pytestmark = [
    pytest.mark.any_isa,
    QUIET,
    pytest.mark.filterwarnings("ignore:.*does not support masking"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

T, F = 4, 3


def lstm(name="seen", **options):
    return kl.LSTM(F, return_sequences=True, name=name, **options)


def within(name, count, which):
    """A model with an LSTM that reads one of its inputs; its outputs are in a dict."""
    inputs = [keras.Input((T, F)) for _ in range(count)]
    outputs = {"plain": kl.Conv1D(F, 1)(inputs[0]), "seq": lstm()(inputs[which])}
    return keras.Model(inputs if count > 1 else inputs[0], outputs, name=name)


def by_name(which):
    """A model whose inputs are in a dict; its LSTM reads one of them."""

    def build(e, u):
        inputs = {name: keras.Input((T, F), name=name) for name in "ba"}
        return keras.Model(inputs, lstm()(inputs[which]), name="m")({"a": u, "b": e})

    return build


def second_call(e, u):
    """The output of a model is the second call of a Sequential within it."""
    within, x = keras.Sequential([keras.Input((T, F)), kl.Dense(F)]), keras.Input((T, F))
    outputs = [within(kl.Conv1D(F, 1)(x)), within(x)]
    return lstm()(keras.Model(x, outputs, name="middle")(e)[1])


def in_models(e, u):
    """The output of a model is that of a model within it."""
    ends = [keras.Input((T, F)) for _ in range(2)]
    inner = keras.Model(ends[0], kl.Dense(F)(ends[0]), name="inner")
    return lstm()(keras.Model(ends[1], inner(ends[1]), name="middle")(e))


def shared(e, u):
    """The LSTM is the first layer of the file by its first call; the second call has the mask."""
    layer = lstm()
    y = layer(u)
    for _ in range(4):
        y = kl.Conv1D(F, 1)(y)
    return [y, layer(kl.Dense(F)(e))]


def with_states(e, u):
    _, h, c = lstm("other", return_state=True)(u)
    return lstm()(e, initial_state=[h, c])


def after_states(e, u):
    """In a model, a layer with initial states computes without the mask of x, but hands it on."""
    x = keras.Input((T, F))
    state = kl.GlobalAveragePooling1D()(x)
    inner = keras.Model(x, lstm("other")(x, initial_state=[state, state]))
    return lstm()(inner(e))


# From a masked tensor e and an unmasked one u to outputs -> whether the layer "seen" has a mask.
CASES = {
    "an Embedding": (lambda e, u: lstm()(e), True),
    "by keyword": (lambda e, u: lstm()(sequences=e), True),
    "no mask": (lambda e, u: lstm()(u), False),
    "with initial states": (with_states, False),
    "behind a layer with initial states": (after_states, True),
    "Add of one masked": (lambda e, u: lstm()(kl.Add()([e, u])), False),
    "Add of two masked": (lambda e, u: lstm()(kl.Add()([e, kl.Dense(F)(e)])), True),
    "an operator": (lambda e, u: lstm()(e + e), False),
    "another operator": (lambda e, u: lstm()(keras.ops.softmax(e)), False),
    "Concatenate of one masked": (lambda e, u: lstm()(kl.Concatenate()([u, e])), True),
    "Attention of a masked query": (lambda e, u: lstm()(kl.Attention()([e, u])), True),
    "Attention of a masked value": (lambda e, u: lstm()(kl.Attention()([u, e])), False),
    "heads of a masked query": (lambda e, u: lstm()(kl.MultiHeadAttention(1, 2)(e, u)), True),
    "heads of a masked value": (lambda e, u: lstm()(kl.MultiHeadAttention(1, 2)(u, e)), False),
    "an Embedding that goes back": (
        lambda e, u: lstm()(kl.ReversibleEmbedding(9, F, mask_zero=True)(keras.ops.argmax(u, -1))),
        True,
    ),
    "a model's only input": (lambda e, u: within("m", 1, 0)(e)["seq"], True),
    "a model's first input": (lambda e, u: within("m", 2, 0)([e, u])["seq"], True),
    "a model's second input": (lambda e, u: within("m", 2, 1)([e, u])["seq"], False),
    "a model's input by name": (by_name("b"), True),
    "a model's other input by name": (by_name("a"), False),
    "the second call of a Sequential": (second_call, True),
    "the second direction": (
        lambda e, u: lstm()(kl.Bidirectional(lstm("own"), merge_mode=None)(e)[1]), True,
    ),
    "a model's first output": (
        lambda e, u: lstm("after")(within("m", 2, 1)([u, e])["plain"]), True,
    ),
    "a Sequential": (
        lambda e, u: keras.Sequential([keras.Input((T, F)), kl.Dense(F), lstm()])(e), True,
    ),
    "a model in a model": (in_models, True),
    "shared": (shared, True),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("case", CASES)
def test_there_is_a_mask_where_keras_has_one(case, suffix, tmp_path, monkeypatch):
    build, expected = CASES[case]
    ids, u = keras.Input((T,), dtype="int32"), keras.Input((T, F))
    model = keras.Model([ids, u], build(kl.Embedding(9, F, mask_zero=True, name="table")(ids), u))
    model.save(tmp_path / f"model{suffix}")

    seen = {}

    def loop(self, sequences, initial_state, mask, training=False):
        seen[self.name] = seen.get(self.name, False) or mask is not None
        return original(self, sequences, initial_state, mask, training)

    original = kl.LSTM.inner_loop
    monkeypatch.setattr(kl.LSTM, "inner_loop", loop)
    rng = np.random.default_rng(0)
    model([np.array([[1, 2, 3, 0], [4, 5, 0, 0]]), rng.normal(size=(2, T, F)).astype("float32")])
    assert seen["seen"] is expected, "Keras differs from this test"

    loaded = load(tmp_path / f"model{suffix}")
    ours = {name.split("/")[-1]: one.mask_source for name, one in loaded.items()}
    for name in [name for name in ours if name.startswith("bidirectional")]:
        ours |= dict.fromkeys(("forward_own", "backward_own"), ours.pop(name))
    assert {name: source is not None for name, source in ours.items()} == seen
    embeddings = "table", "reversible_embedding"  # and no operation that stands for their mask
    assert all(source.startswith(embeddings) for source in ours.values() if source is not None)
