"""The programs of docs/programs.md, against the originals: the code of the page itself runs."""

import os
import pathlib
import re
import sys
import types
import wave
from importlib.util import find_spec

import numpy as np
import pytest

import fastrnn

pytestmark = pytest.mark.any_isa

PAGE = (pathlib.Path(__file__).parents[2] / "docs/programs.md").read_text()
SOUNDS = pathlib.Path("/usr/share/sounds/alsa")  # of Debian's package alsa-utils


def text_of(name):
    (code,) = re.findall(rf"```python {name}\n(.*?)```", PAGE, re.S)
    return code


def program(name):
    """The names that a program of the page defines."""
    code = text_of(name)
    names = {"__name__": name}
    exec(compile(code, f"docs/programs.md: {name}", "exec"), names)
    return types.SimpleNamespace(**names)


def folder_of(package):
    """Where an installed package lies, without importing it."""
    found = find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return pathlib.Path(found.submodule_search_locations[0])


# ---- voice activity ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def silero():
    """The path of the model, an ONNX Runtime session of it, and the program's detector."""
    path = folder_of("silero_vad") / "data/silero_vad_16k_sequence.onnx"
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, program("silero").Detector(path)


def chunks_of(samples):
    """(N, 576): each chunk of 512 samples, with the 64 samples before it."""
    chunks = samples[: len(samples) // 512 * 512].reshape(-1, 512)
    before = np.concatenate([np.zeros((1, 64), "f4"), chunks[:-1, -64:]])
    return np.concatenate([before, chunks], axis=1)


def by_onnxruntime(session, chunks):
    zeros = np.zeros((1, 1, 128), "f4")
    return session.run(None, {"input": chunks, "h": zeros, "c": zeros})[0]


def speech(name):
    """A recording at 16 kHz, as numbers from -1 to 1."""
    with wave.open(str(SOUNDS / name)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert (file.getframerate(), file.getnchannels()) == (48000, 1)
    return (samples[::3] / 32768).astype("f4")


@pytest.mark.parametrize(
    "name", ["Front_Center.wav", "Front_Left.wav", "Rear_Right.wav", "Side_Left.wav", "Noise.wav"]
)
def test_silero_decides_on_recordings_as_the_original(silero, name):
    session, detector = silero
    if not SOUNDS.is_dir():
        pytest.skip(f"{SOUNDS} has no recordings: apt-get install alsa-utils")
    chunks = chunks_of(speech(name))
    wanted, (got, _) = by_onnxruntime(session, chunks), detector(chunks)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got > 0.5, wanted > 0.5)
    assert name == "Noise.wav" or (wanted > 0.5).any()


def test_silero_goes_on_chunk_by_chunk(silero):
    session, detector = silero
    chunks = chunks_of(np.random.default_rng(0).normal(0, 0.1, 40 * 512).astype("f4"))
    state, got = None, []
    for chunk in chunks:
        probability, state = detector(chunk[None], state)
        got.append(probability)
    np.testing.assert_allclose(np.concatenate(got), by_onnxruntime(session, chunks), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(got), detector(chunks)[0], atol=1e-6)


def test_silero_is_used_as_the_page_says(silero):
    session, detector = silero
    sound = np.random.default_rng(1).normal(0, 0.1, 16000).astype("f4")
    code = text_of("silero-use").replace("detector = ", "# ")
    names = {"np": np, "detector": detector, "sound": sound}
    exec(code, names)
    wanted = by_onnxruntime(session, chunks_of(sound))
    np.testing.assert_allclose(names["probability"], wanted[-1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.alone
def test_a_chunk_takes_less_time_than_in_onnxruntime(silero):
    import timeit

    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = folder_of("silero_vad") / "data/silero_vad_16k_sequence.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    chunk, zeros = np.zeros((1, 576), "f4"), np.zeros((1, 1, 128), "f4")
    theirs = lambda: session.run(None, {"input": chunk, "h": zeros, "c": zeros})  # noqa: E731
    ours = lambda: silero[1](chunk, (zeros, zeros))  # noqa: E731
    with fastrnn.threads(1):
        ratios = []
        for _ in range(15):
            a, b = (min(timeit.repeat(f, number=20, repeat=5)) for f in (ours, theirs))
            ratios.append(a / b)
    assert min(ratios) < 1


# ---- phonemes ------------------------------------------------------------------------------------


@pytest.fixture
def g2p(monkeypatch):
    """A `g2p_en.G2p`; stubs stand for the data of nltk and for inflect, which words do not need."""
    folder_of("g2p_en")
    stubs = {name: types.ModuleType(name) for name in
             ("nltk", "nltk.corpus", "nltk.tokenize", "inflect")}  # fmt: skip
    stubs["nltk"].pos_tag = lambda words: [(word, "NN") for word in words]
    stubs["nltk"].data = types.SimpleNamespace(find=lambda name: None)
    stubs["nltk.corpus"].cmudict = types.SimpleNamespace(dict=dict)
    stubs["nltk.tokenize"].TweetTokenizer = lambda: types.SimpleNamespace(tokenize=str.split)
    stubs["inflect"].engine = lambda: None
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    import g2p_en

    yield g2p_en.G2p()
    for name in [name for name in sys.modules if name.startswith("g2p_en")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.filterwarnings(  # g2p_en's own: it leaves a file open
    "ignore::SyntaxWarning",
    "ignore::DeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_phonemes_are_those_of_g2p_en(g2p):
    rng, letters = np.random.default_rng(0), list("abcdefghijklmnopqrstuvwxyz'")
    words = ["".join(rng.choice(letters, rng.integers(1, 14))) for _ in range(1000)]
    phonemes, wanted = program("g2p").Phonemes(g2p), [g2p.predict(word) for word in words]
    assert phonemes(words) == wanted
    assert [phonemes([word])[0] for word in words[:100]] == wanted[:100]


# ---- reinforcement learning ----------------------------------------------------------------------


def test_an_update_of_ppo_is_that_of_the_loop_over_time():
    torch = pytest.importorskip("torch")
    agent = program("ppo").Agent(6, 32, 4)
    loop, args = looping(torch, agent), experience(torch, 40, 5, 6)
    results = [updated(torch, a, *args) for a in (agent, loop)]
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def looping(torch, agent):
    """The agent with torch.nn's LSTM in a loop over time, which zeroes the state at a beginning."""

    class Loop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(agent.lstm.input_size, agent.lstm.hidden_size)
            self.actor, self.critic = (torch.nn.Linear(m.in_features, m.out_features)
                                       for m in (agent.actor, agent.critic))  # fmt: skip
            self.load_state_dict(agent.state_dict())

        def forward(self, x, begins):
            h = c = x.new_zeros(1, x.shape[1], self.lstm.hidden_size)
            ys = []
            for x_t, begins_t in zip(x, begins, strict=True):
                stays = (~begins_t).to(x.dtype)[None, :, None]
                y, (h, c) = self.lstm(x_t[None], (stays * h, stays * c))
                ys.append(y)
            y = torch.cat(ys)
            return self.actor(y), self.critic(y).squeeze(-1), (h, c)

    return Loop()


def experience(torch, steps, rows, observations):
    """Observations, beginnings of episodes, actions, their old log p, advantages, returns."""
    draw = torch.Generator().manual_seed(0)
    shape = steps, rows
    return (
        torch.randn(*shape, observations, generator=draw),
        torch.rand(shape, generator=draw) < 0.05,
        torch.randint(4, shape, generator=draw),
        -torch.rand(shape, generator=draw) - 1,
        torch.randn(shape, generator=draw),
        torch.randn(shape, generator=draw),
    )


def updated(torch, agent, x, begins, actions, old, advantages, returns):
    """The loss of PPO (Schulman et al., 2017) and its gradients."""
    logits, values, _ = agent(x, begins)
    log_p = torch.log_softmax(logits, -1)
    ratio = (log_p.gather(-1, actions[..., None]).squeeze(-1) - old).exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    loss = -gain + 0.5 * (values - returns).square().mean() - 0.01 * entropy
    return loss, *torch.autograd.grad(loss, list(agent.parameters()))


# ---- Keras ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_reviews_are_scored_without_keras(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(200, 12, mask_zero=True),
        keras.layers.Bidirectional(keras.layers.LSTM(16), name="bidirectional"),
        keras.layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    path = tmp_path / "reviews.keras"
    model.save(path)
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 200, (7, 30)) * (np.arange(30) < rng.integers(1, 31, 7)[:, None])
    got = program("keras").Reviews(path)(ids)
    np.testing.assert_allclose(got, model.predict(ids, verbose=0), rtol=0, atol=1e-6)
