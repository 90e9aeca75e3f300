"""Random generators in checkpoints: a run with dropout goes on to the bit."""

import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from problems import assert_same_bits
from strangers import TOO_DEEP, Member, npy, zip_of
from training import draw

import fastrnn
from fastrnn import train

pytestmark = pytest.mark.any_isa

KINDS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
DRAWING = {
    "dropout": {"num_layers": 2, "dropout": 0.5},
    "recurrent dropout": {"recurrent_dropout": 0.5},
    "zoneout": {"zoneout": 0.3},
}


def batches(epoch):
    return [draw(5, 6, 3, dtype="float32", seed=seed) for seed in (epoch, 100 + epoch)]


class Run:
    """A layer that draws, a head, an optimizer, and epochs of training."""

    def __init__(self, seed, rng=None, **options):
        rng, options = seed if rng is None else rng, options or DRAWING["dropout"]
        self.layer = fastrnn.GRU(3, 4, rng=rng, **options)
        self.parts = {"layer": self.layer, "head": train.Dense(4, 2, rng=seed)}
        self.adam = train.Adam([part.flat for part in self.parts.values()], 0.01)
        self.history = train.History()

    def step(self, x):
        head = self.parts["head"]
        _, h, tape = self.layer.forward(x)
        loss, dy = train.mean_squared_error(head(h[-1]), x[0, :, :2])
        of_head, dh = head.backward(h[-1], dy), np.zeros_like(h)
        dh[-1] = of_head.x
        return loss, [tape.backward(None, dh, need_x=False).flat, of_head.flat]

    def fit(self, epochs, **options):
        options = {"step": self.step, "optimizer": self.adam, "history": self.history, **options}
        train.fit(
            self.parts, batches=batches, epochs=epochs, progress=False, **options
        )  # fmt: skip

    def load(self, path):
        extra = train.load(path, self.parts, self.adam)
        if "history" in extra:
            self.history = train.History(**extra["history"])

    def now(self):
        flats = [part.flat for part in self.parts.values()]
        return pickle.dumps((flats, self.adam.state(), self.layer._rng.bit_generator.state))


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"model{request.param}"


# ---- what goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", DRAWING.values(), ids=DRAWING)
def test_a_run_goes_on_as_if_it_had_never_ended(options, path):
    through, broken_off, fresh = (Run(seed, **options) for seed in (0, 0, 1))
    through.fit(4)
    broken_off.fit(2, checkpoint=path)
    fresh.fit(1)  # its earlier draws have no effect
    fresh.load(path)
    fresh.fit(4)
    assert fresh.history.loss == through.history.loss
    assert fresh.now() == through.now()


PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:]
import test_train_generators as tests
run = tests.Run(7)
run.load(sys.argv[1])
run.fit(4)
sys.stdout.buffer.write(run.now())
"""


def test_a_run_goes_on_in_another_process(tmp_path):
    through, broken_off, path = Run(0), Run(0), tmp_path / "x.npz"
    through.fit(4)
    broken_off.fit(2, checkpoint=path)
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", PROGRAM, path, here, here.parent / "support"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=here.parents[1])
    assert done.stdout == through.now()


@pytest.mark.parametrize("kind", KINDS)
def test_generators_of_every_kind_of_numpy_go_on(kind, path):
    generators = [np.random.Generator(getattr(np.random, kind)(seed)) for seed in (0, 1)]
    one, other = (Run(0, rng) for rng in generators)
    one.fit(1)
    generators[0].integers(9, dtype="u4")  # half a draw is kept for the next one
    train.save(path, one.parts)
    train.load(path, other.parts)
    draws = [(rng.integers(9, size=7, dtype="u4"), rng.random(999)) for rng in generators]
    assert_same_bits(draws[1], draws[0])


def test_whatever_has_a_generator_that_it_draws_from_is_a_part_that_draws(path):
    def part(seed, draws):
        dense = train.Dense(1, 1)
        dense.rng, dense.draws = np.random.default_rng(seed), draws
        return dense

    written, read = ({"a": part(seed, True), "b": part(seed, False)} for seed in (0, 1))
    train.save(path, written)
    train.load(path, read)
    assert read["a"].rng.random() == written["a"].rng.random()
    assert read["b"].rng.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize(
    "schedule", [(0.5, 0, 0, 0.5), (0, 0, 0.5, 0.5), (0, 0.5, 0.5, 0)], ids=str
)
def test_a_run_goes_on_where_dropout_was_turned_off_or_is_to_be_turned_on(schedule, path):
    class Scheduled(Run):
        def step(self, x):
            self.layer.dropout = schedule[len(self.history.loss)]
            return super().step(x)

    through, broken_off, fresh = (Scheduled(seed, num_layers=2) for seed in (0, 0, 1))
    through.fit(4)
    broken_off.fit(2, checkpoint=path)
    fresh.load(path)
    fresh.fit(4)
    assert fresh.history.loss == through.history.loss
    assert fresh.now() == through.now()


def test_after_fit_a_generator_is_as_after_the_best_epoch_though_dropout_was_turned_off():
    one, other, scores = Run(0), Run(0), iter([1, 2])

    def validate():
        if one.history.loss:
            one.layer.dropout = 0
        return next(scores)

    one.fit(2, validate=validate)
    other.fit(1)
    assert one.now() == other.now()


@pytest.mark.parametrize("interrupted", [False, True])
def test_after_fit_a_generator_is_as_after_the_best_epoch(interrupted):
    one, other, scores = Run(0), Run(0), iter([2, 1, 3])

    def step(x):
        if interrupted and len(one.history.loss) == 2:
            one.layer.forward(x)
            raise KeyboardInterrupt
        return one.step(x)

    try:
        one.fit(3, step=step, validate=lambda: next(scores))
    except KeyboardInterrupt:
        assert interrupted
    other.fit(2)
    assert one.now() == other.now()


# ---- what has no generator -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"num_layers": 2}, {"zoneout": 0.0, "recurrent_dropout": 0.0, "dropout": 0.0}],
    ids=["plain", "of 0"],
)
def test_a_layer_that_draws_nothing_leaves_no_state(options, tmp_path):
    train.save(tmp_path / "x.npz", Run(0, **options).parts)
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {*map("layer.{}".format, Run(0, **options).layer.params),
                             "head.weight", "head.bias"}  # fmt: skip


def test_a_file_without_a_state_leaves_the_generator_as_it_is(path):
    plain, drawing = Run(0, num_layers=2), Run(1)
    train.save(path, plain.parts)
    before = drawing.layer._rng.bit_generator.state
    train.load(path, drawing.parts)
    assert drawing.layer._rng.bit_generator.state == before
    assert_same_bits(drawing.layer.flat, plain.layer.flat)


def test_a_state_of_another_kind_is_of_no_account_to_a_layer_that_draws_nothing(path):
    plain = Run(0, num_layers=2)
    train.save(path, Run(2, np.random.Generator(np.random.Philox(2))).parts)
    before = plain.layer._rng.bit_generator.state
    train.load(path, plain.parts)
    assert plain.layer._rng.bit_generator.state == before
    with pytest.raises(ValueError, match="must be the state of a PCG64"):
        train.load(path, Run(0).parts)


def test_a_part_may_be_called_as_the_states_are(path):
    written, read = ({"rng": Run(seed).layer} for seed in (0, 1))
    train.save(path, written)
    train.load(path, read)
    assert read["rng"]._rng.random() == written["rng"]._rng.random()


# ---- states from strangers -----------------------------------------------------------------------


def state(kind, **changes):
    """The state of a generator as in JSON, with changes; the name a__b stands for b in a."""
    changed = getattr(np.random, kind)(0).state
    changed = json.loads(json.dumps(changed, default=np.ndarray.tolist))
    for name, value in changes.items():
        *outer, name = name.split("__")
        of = changed[outer[0]] if outer else changed
        of[name] = value
    return changed


def refuses(tmp_path, kind, text, error, words):
    """Assert that a layer with that kind of generator refuses a file, and does not change."""
    run, path = Run(0, np.random.Generator(getattr(np.random, kind)(5))), tmp_path / "x.npz"
    members = [
        Member(f"{name}.{key}.npy".encode(), npy(np.zeros_like(array)))
        for name, part in run.parts.items()
        for key, array in part.params.items()
    ]
    path.write_bytes(zip_of([*members, Member(b"rng.npy", npy(np.array(text)))]))
    before = run.now()
    with pytest.raises(error) as caught:
        train.load(path, run.parts)
    assert type(caught.value) is error
    assert all(word in str(caught.value) for word in (str(path), "rng", words))
    assert run.now() == before


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("PCG64", state("MT19937"), "must be the state of a PCG64, which the part has, got 'MT"),
        ("PCG64", state("PCG64DXSM"), "must be the state of a PCG64, which the part has, got 'PC"),
        ("PCG64", state("PCG64", state__state=-1), "layer.state.state must be an integer from 0"),
        ("PCG64", state("PCG64", state__inc=2**128), "layer.state.inc must be an integer from 0"),
        ("PCG64", state("PCG64", state__inc=True), "layer.state.inc must be an integer"),
        ("PCG64", state("PCG64", state__inc=1.0), "layer.state.inc must be an integer"),
        ("PCG64", state("PCG64", state__inc=None), "layer.state.inc must be an integer"),
        ("PCG64", state("PCG64", state=[1, 2]), "layer.state must have state, inc alone"),
        ("PCG64", state("PCG64", state__more=1), "layer.state must have state, inc alone"),
        ("PCG64", state("PCG64", has_uint32=2), "layer.has_uint32 must be an integer from 0 to 1"),
        ("PCG64", state("PCG64", uinteger=2**32), "layer.uinteger must be an integer from 0"),
        ("PCG64", [], "must be the state of a PCG64, which the part has, got None"),
        ("PCG64", {"bit_generator": "PCG64"}, "layer must have bit_generator, state, has"),
        ("MT19937", state("MT19937", state__pos=625), "layer.state.pos must be an integer from"),
        ("MT19937", state("MT19937", state__pos=-1), "layer.state.pos must be an integer from"),
        ("MT19937", state("MT19937", state__key=[0] * 623), "must be a list of 624 integers"),
        ("MT19937", state("MT19937", state__key=[2**32] * 624), "an integer from 0 to 4294"),
        ("MT19937", state("MT19937", state__key=["0"] * 624), "an integer from 0 to 42949"),
        ("MT19937", state("MT19937", state__key="0" * 624), "must be a list of 624 integers"),
        ("Philox", state("Philox", buffer_pos=5), "layer.buffer_pos must be an integer from"),
        ("Philox", state("Philox", buffer_pos=-9), "layer.buffer_pos must be an integer from"),
        ("Philox", state("Philox", buffer=[0] * 3), "layer.buffer must be a list of 4 integers"),
        ("SFC64", state("SFC64", state__state=[2**64] * 4), "an integer from 0 to 18446"),
    ],
)  # fmt: skip
def test_a_state_that_no_generator_of_this_kind_has_is_refused(kind, changed, words, tmp_path):
    refuses(tmp_path, kind, json.dumps({"layer": changed}), ValueError, words)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[]", ValueError, "must be an object"),
        ("{", ValueError, "JSON is broken"),
        ('{"layer": {}, "layer": {}}', ValueError, "it has layer twice"),
        ('{"layer": ' + "[" * 11_000, ValueError, TOO_DEEP),
        ("{}" + " " * 20_000, ValueError, "20002 characters, more than the states"),
        (["{}"], TypeError, "must be a string that holds JSON"),
        (1.0, TypeError, "must be a string that holds JSON"),
    ],
)
def test_a_text_that_has_no_states_is_refused(text, error, words, tmp_path):
    refuses(tmp_path, "PCG64", text, error, words)
