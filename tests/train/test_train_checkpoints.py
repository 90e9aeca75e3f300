"""Checkpoints: round trips to the bit, PyTorch's names, and damaged files."""

import json
import os
import pickle
import stat
import sys
import types

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw

import fastrnn
from fastrnn import train
from fastrnn.train import checkpoints

pytestmark = pytest.mark.any_isa

OPTIMIZERS = {
    "SGD": lambda p: train.SGD(p, 0.1),
    "momentum": lambda p: train.SGD(p, 0.1, momentum=0.9),
    "Adam": lambda p: train.Adam(p, 0.01),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"model{request.param}"


def network(seed, dtype="float32"):
    layer = fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, dtype=dtype, rng=seed)
    return {
        "table": train.Embedding(7, 3, dtype=dtype, rng=seed),
        "encoder": layer,
        "head": train.Dense(8, 2, dtype=dtype, rng=seed),
    }


def flats(parts):
    return [part.flat for part in parts.values()]


def part_of(name, dtype="float32"):
    return types.SimpleNamespace(params={name: np.zeros(2, dtype)})


def some_steps(optimizer, first, last):
    for seed in range(first, last):
        optimizer.step([draw(p.size, dtype=p.dtype, seed=seed) for p in optimizer.parameters])


# ---- what comes back -----------------------------------------------------------------------------


@every_optimizer
def test_training_goes_on_as_if_it_had_never_ended(make, path):
    through = network(0)
    optimizer = make(flats(through))
    some_steps(optimizer, 0, 3)
    optimizer.learning_rate = 0.005
    train.save(path, through, optimizer)
    some_steps(optimizer, 3, 6)

    fresh = network(1)
    other = make(flats(fresh))
    some_steps(other, 7, 9)  # its earlier state has no effect
    train.load(path, fresh, other)
    some_steps(other, 3, 6)
    assert_same_bits(flats(fresh), flats(through))
    assert_same_bits(other.state(), optimizer.state())


@every_optimizer
def test_an_optimizer_goes_on_from_its_state_and_is_not_tied_to_it(make):
    parameters = [draw(4), draw(3)]
    optimizer = make(parameters)
    some_steps(optimizer, 0, 2)
    state, before = optimizer.state(), [p.copy() for p in parameters]
    some_steps(optimizer, 2, 4)
    wanted = [p.copy() for p in parameters]
    for p, value in zip(parameters, before, strict=True):
        p[...] = value
    optimizer.load(state)
    some_steps(optimizer, 2, 4)
    assert_same_bits(parameters, wanted)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_a_learning_rate_of_any_kind_goes_on_to_the_same_bits(kind):
    results = []
    for load in (False, True):
        parameters = [draw(50, dtype="float32")]
        adam = train.Adam(parameters, kind(0.25))
        some_steps(adam, 0, 2)
        if load:
            adam.load(adam.state())
        some_steps(adam, 2, 4)
        results.append(parameters)
    assert_same_bits(*results)


def test_parts_of_a_list_are_called_by_their_number(path):
    written, read = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=1)
    train.save(path, [written])
    train.load(path, {"0": read})
    assert_same_bits(read.flat, written.flat)


def test_whatever_has_params_is_a_part(path):
    written = types.SimpleNamespace(params={"w": draw(3, 2).T, "scale": np.array(2.0)})
    read = types.SimpleNamespace(params={"w": np.zeros((2, 3)), "scale": np.zeros(())})
    train.save(path, {"own": written})
    train.load(path, {"own": read})
    assert_same_bits(read.params, written.params)


def test_parameters_without_elements_come_back(path):
    written, read = fastrnn.GRU(0, 3, rng=0), fastrnn.GRU(0, 3, rng=1)
    train.save(path, {"layer": written})
    train.load(path, {"layer": read})
    assert_same_bits(read.flat, written.flat)


def test_an_optimizer_in_the_file_need_not_be_loaded(path):
    written, read = network(0), network(1)
    train.save(path, written, train.Adam(flats(written)))
    train.load(path, read)
    assert_same_bits(flats(read), flats(written))


def test_extras_come_back(path):
    dense, rng = train.Dense(3, 2, rng=0), np.random.default_rng(5)
    table = draw(4, 3).T
    extra = {
        "epoch": 3, "best": np.float32(0.5), "text": "ä\0\n\0", "words": ["a", "b"], "none": None,
        "rng": rng.bit_generator.state, "rate": 0.1,
    }  # fmt: skip
    train.save(path, {"d": dense}, **extra, table=table, flags=np.array([True]))
    got = train.load(path, {"d": dense})
    assert_same_bits(got.pop("table"), table)
    assert_same_bits(got.pop("flags"), np.array([True]))
    assert got == extra
    other = np.random.default_rng()
    other.bit_generator.state = got["rng"]
    assert other.random() == rng.random()


# ---- other readers -------------------------------------------------------------------------------


def test_the_extras_are_read_before_there_are_parts(path):
    words = train.Vocabulary("you are good".split())
    parts = {"layer": fastrnn.GRU(3, 5, dropout=0.5, num_layers=2), "head": train.Dense(5, 2)}
    numbers = np.arange(3)
    train.save(path, parts, train.Adam([*parts.values()]), words=words.tokens, numbers=numbers)
    extra = train.load(path)
    assert extra.keys() == {"words", "numbers"} and (extra["numbers"] == numbers).all()
    assert train.Vocabulary(extra["words"]).tokens == words.tokens
    with pytest.raises(ValueError, match="extra takes more memory than max_extra = 5"):
        train.load(path, max_extra=5)
    with pytest.raises(TypeError, match="optimizer must be None without parts"):
        train.load(path, None, train.Adam(np.ones(3)))
    with pytest.raises(ValueError, match="unknown are head.bias"):
        train.load(path, {})
    train.save(path, parts)
    assert train.load(path) == {}


def test_a_file_without_extras_is_the_state_dict_of_a_pytorch_module(path):
    torch = pytest.importorskip("torch")
    parts = network(0)
    train.save(path, parts)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            state = {name: torch.from_numpy(array) for name, array in file.items()}
    else:
        state = pytest.importorskip("safetensors.torch").load_file(path)
    module = torch.nn.Module()
    module.table, module.head = torch.nn.Embedding(7, 3), torch.nn.Linear(8, 2)
    module.encoder = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    module.load_state_dict(state)
    for name, part in parts.items():
        for key, value in getattr(module, name).state_dict().items():
            assert_same_bits(value.numpy(), part.params[key])


def test_what_pytorch_wrote_is_read(tmp_path):
    torch, path = pytest.importorskip("torch"), tmp_path / "theirs.safetensors"
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4), "head": torch.nn.Linear(4, 2)})
    save_file(module.state_dict(), path)
    parts = {"encoder": fastrnn.GRU(3, 4), "head": train.Dense(4, 2)}
    assert train.load(path, parts) == {}
    wanted = module.state_dict()
    for name, part in parts.items():
        for key, array in part.params.items():
            assert_same_bits(array, wanted[f"{name}.{key}"].numpy())


def test_nothing_in_a_file_is_a_pickle(path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickled")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    dense = train.Dense(3, 2)
    train.save(path, {"d": dense}, train.Adam([dense.flat]), epoch=1, table=draw(3))
    train.load(path, {"d": dense})


# ---- files on the way ----------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch):
    old, new = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=1)
    train.save(path, [old])

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        train.save(path, [new])
    assert os.listdir(path.parent) == [path.name]
    train.load(path, [new])
    assert_same_bits(new.flat, old.flat)


@pytest.mark.posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_new_files_have(umask, path):
    before = os.umask(umask)
    try:
        train.save(path, [train.Dense(3, 2)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o777])
def test_a_file_that_is_replaced_keeps_its_mode(mode, path):
    path.touch()
    path.chmod(mode)
    train.save(path, [train.Dense(3, 2)])
    train.load(path, [train.Dense(3, 2)])
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.posix
@pytest.mark.parametrize("allowed", [True, False])
def test_a_group_is_kept_without_the_owner_and_without_the_group_its_rights_go(
    allowed, path, monkeypatch
):
    path.touch()
    path.chmod(0o660)
    before, wanted = os.stat(path), []

    def chown(descriptor, uid, gid):
        if uid != -1 or not allowed:
            raise PermissionError
        wanted.append(gid)

    def another(descriptor):
        found = list(os_fstat(descriptor))
        found[stat.ST_GID] += 0 if wanted else 1  # not the group of the writing process
        return os.stat_result(found)

    os_fstat = os.fstat
    monkeypatch.setattr(os, "fchown", chown)
    monkeypatch.setattr(os, "fstat", another)
    train.save(path, [train.Dense(3, 2)])
    assert wanted == ([before.st_gid] if allowed else [])
    assert stat.S_IMODE(path.stat().st_mode) == (0o660 if allowed else 0o600)


@pytest.mark.posix
def test_while_it_is_written_nobody_else_may_look_into_it(path, monkeypatch):
    modes = []

    def watch(_):
        modes.extend(p.stat().st_mode & 0o077 for p in path.parent.iterdir())

    train.save(path, [train.Dense(3, 2)])
    path.chmod(0o600)
    monkeypatch.setattr(os, "fsync", watch)
    monkeypatch.setattr(os, "fchmod", lambda file, mode: watch(file))
    train.save(path, [train.Dense(3, 2)])
    assert modes == 4 * [0]


@pytest.mark.posix
@pytest.mark.parametrize("there", [True, False], ids=["there", "new"])
def test_a_link_stays_and_leads_to_the_file_that_was_written(there, path):
    folder, dense = path.parent / "folder", train.Dense(3, 2, rng=0)
    folder.mkdir()
    if there:
        (folder / "target").touch(mode=0o600)
    path.symlink_to("folder/middle")
    (folder / "middle").symlink_to(folder / "target")
    train.save(path, [dense])
    assert path.is_symlink() and (folder / "middle").is_symlink()
    assert sorted(os.listdir(folder)) == ["middle", "target"]
    assert not there or stat.S_IMODE(path.stat().st_mode) == 0o600
    train.load(path, [read := train.Dense(3, 2, rng=1)])
    assert_same_bits(read.flat, dense.flat)


@pytest.mark.posix
def test_what_is_no_file_is_not_replaced(path):
    path.symlink_to(path)
    with pytest.raises(OSError, match="[Ss]ymbolic link"):
        train.save(path, [train.Dense(3, 2)])
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        train.save(path, [train.Dense(3, 2)])
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="must be a regular file or a new one"):
        train.save(path, [train.Dense(3, 2)])
    assert os.listdir(path.parent) == [path.name]


def test_a_name_as_long_as_a_folder_takes_is_written(path):
    path = path.with_name("x" * (255 - len(path.suffix)) + path.suffix)
    train.save(path, [train.Dense(3, 2)])
    assert os.listdir(path.parent) == [path.name]


def test_a_file_that_is_cut_is_refused_and_changes_nothing(path):
    dense = train.Dense(3, 2, rng=0)
    train.save(path, [dense], epoch=1)
    whole, before = path.read_bytes(), dense.flat.copy()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"cannot be read as {path.suffix}"):
            train.load(path, [dense])
    assert_same_bits(dense.flat, before)


def test_a_file_that_is_not_there_is_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        train.load(path, [train.Dense(3, 2)])


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda parts: parts.pop("head"), ValueError, "missing are none; unknown are head.bias"),
        (lambda parts: parts.update(more=train.Dense(1, 1)), ValueError, "missing are more.weight"),
        (lambda parts: parts.update(head=train.Dense(8, 3)), ValueError,
         r"head.weight of .*must be \(3, 8\), got \(2, 8\)"),
        (lambda parts: parts.update(head=train.Dense(8, 2, dtype="float64")), TypeError,
         "head.weight of .*must be float64 like parts"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_left_as_they_were(change, error, message, path):
    train.save(path, network(0))
    parts = network(1)
    change(parts)
    before = pickle.dumps(flats(parts))
    with pytest.raises(error, match=message):
        train.load(path, parts)
    assert pickle.dumps(flats(parts)) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: train.SGD(p, 0.1), "missing are optimizer.velocity.0"),
        (lambda p: train.Adam(p[:2]), "unknown are optimizer.mean.2"),
        (lambda p: train.Adam(p[::-1]), "optimizer.mean.0 of .*must be"),
    ],
    ids=["another kind", "fewer parameters", "in another order"],
)
def test_an_optimizer_that_does_not_fit_is_left_as_it_was_and_so_are_the_parts(make, message, path):
    written, parts = network(0), network(1)
    train.save(path, written, train.Adam(flats(written)))
    optimizer = make(flats(parts))
    before = pickle.dumps((flats(parts), optimizer.state()))
    with pytest.raises(ValueError, match=message):
        train.load(path, parts, optimizer)
    assert pickle.dumps((flats(parts), optimizer.state())) == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_learning_rate", -1.0, "learning_rate of state must be"),
        ("updates", -1, "updates of state"),
    ],
)
def test_an_optimizer_refuses_numbers_out_of_range_and_leaves_the_parts(name, value, message, path):
    written, parts = network(0), network(1)
    adam = train.Adam(flats(written))
    setattr(adam, name, value)  # past the checks
    train.save(path, written, adam)
    optimizer = train.Adam(flats(parts))
    before = pickle.dumps((flats(parts), optimizer.state()))
    with pytest.raises(ValueError, match=message) as caught:
        train.load(path, parts, optimizer)
    assert str(path) in str(caught.value)  # which file it was
    assert pickle.dumps((flats(parts), optimizer.state())) == before


def test_an_optimizer_that_is_not_in_the_file_is_missed(path):
    parts = network(0)
    train.save(path, parts)
    with pytest.raises(ValueError, match="missing are optimizer.learning_rate"):
        train.load(path, parts, train.Adam(flats(parts)))


@pytest.mark.parametrize(
    ("save", "error", "message"),
    [
        (lambda p, d: train.save(p.with_suffix(".pt"), d), ValueError, "must end in .npz or .safe"),
        (lambda p, d: train.load(p.with_suffix(".pt"), d), ValueError, "must end in .npz or .safe"),
        (lambda p, d: train.save(p, d["d"]), TypeError, 'use {"layer": layer}'),
        (lambda p, d: train.save(p, {1: d["d"]}), ValueError, "names other than 'optimizer', 'e"),
        (lambda p, d: train.save(p, {"optimizer": d["d"]}), ValueError, "got 'optimizer'"),
        (lambda p, d: train.save(p, {"extra.x": d["d"]}), ValueError, "got 'extra.x'"),
        (lambda p, d: train.save(p, {"d": d["d"].flat}), TypeError, "part 'd' must have params"),
        (lambda p, d: train.save(p, {"a": part_of("b.c"), "a.b": part_of("c")}), ValueError,
         "one name each, got a.b.c twice"),
        (lambda p, d: train.save(p, {"a": part_of("b\0")}), ValueError, "must have no NUL in"),
        (lambda p, d: train.save(p, d, x={1j}), TypeError, "extra must be .* got set"),
        (lambda p, d: train.save(p, d, x=[draw(2)]), TypeError, "extra must be .* got ndarray"),
        (lambda p, d: train.save(p, d, x=np.array(["a"])), TypeError, "extra.x must be an array"),
        (lambda p, d: train.save(p, d, x=np.array([{}])), TypeError, "extra.x must be an array"),
        (lambda p, d: train.save(p, d, x=np.ma.array([1.0, 2.0], mask=[0, 1])), TypeError,
         "extra.x must be an array without a mask"),
        (lambda p, d: train.save(p, {"a": types.SimpleNamespace(params={"b": np.ma.zeros(2)})}),
         TypeError, "a.b must be an array without a mask"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_written(save, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save(tmp_path / "x.npz", {"d": train.Dense(3, 2)})
    assert os.listdir(tmp_path) == []


def test_a_dtype_that_safetensors_lacks_is_refused_and_nothing_written(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(
        TypeError, match="a.b must be of at most 64 bits in .safetensors, got .*npz"
    ):
        train.save(tmp_path / "x.safetensors", {"a": part_of("b", np.longdouble)})
    assert os.listdir(tmp_path) == []


def test_without_safetensors_it_says_how_to_get_it(tmp_path, monkeypatch):
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="pip install safetensors, or use .npz"):
        train.save(tmp_path / "x.safetensors", [train.Dense(3, 2)])
    assert os.listdir(tmp_path) == []


def test_safetensors_is_not_needed_to_read(tmp_path, monkeypatch):
    written, read = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=1)
    pytest.importorskip("safetensors")
    train.save(tmp_path / "x.safetensors", [written])
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    train.load(tmp_path / "x.safetensors", [read])
    assert_same_bits(read.flat, written.flat)


def test_the_extras_of_an_npz_are_json_that_anyone_can_read(tmp_path):
    train.save(tmp_path / "x.npz", [train.Dense(3, 2)], epoch=3)
    with np.load(tmp_path / "x.npz") as file:
        assert json.loads(str(file[checkpoints.EXTRA])) == {"epoch": 3}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_does_not_go_on_without_a_part_that_drew(tmp_path, dropout):
    """Its random numbers would be others. To use the model the part is not needed."""
    layer = fastrnn.GRU(3, 5, 2, dropout=dropout, rng=0)
    adam, path = train.Adam(layer), tmp_path / "run.npz"
    train.save(path, {"layer": layer, "dropout": train.Dropout(0.5, rng=1)}, adam)
    before = layer.flat.copy()
    with pytest.raises(ValueError, match="such as a Dropout. To train further, load all parts"):
        train.load(path, {"layer": layer}, adam)
    assert (layer.flat == before).all()
    other = fastrnn.GRU(3, 5, 2, dropout=dropout, rng=2)
    train.load(path, {"layer": other})
    assert (other.flat == before).all()
