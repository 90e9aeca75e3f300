"""Mutants of checkpoints load, or are refused by a message with the file's name."""

import zipfile

import numpy as np
import pytest
from mutants import mutant, mutant_of_header, mutant_of_members
from strangers import DEFLATED, MIB, Member, Target, memory_below, zip_of
from training import draw

from fastrnn import train

pytestmark = pytest.mark.no_kernels


def whole_files(path):
    """Functions that make mutants of saved files: rng -> suffix and bytes."""
    pytest.importorskip("safetensors")
    dense = train.Dense(3, 2, rng=1)
    dense.rng = np.random.default_rng(1)
    whole, extra = {}, {"epoch": 3, "words": ["a", "b"], "table": draw(6), "on": np.ones(2, bool)}
    for suffix in (".npz", ".safetensors"):
        train.save(path / f"x{suffix}", {"d": dense}, train.Adam([dense.flat]), **extra)
        whole[suffix] = (path / f"x{suffix}").read_bytes()
    with zipfile.ZipFile(path / "x.npz") as file:
        methods = [0, DEFLATED] * len(file.namelist())
        inside = [Member(n.encode(), file.read(n), m) for n, m in zip(file.namelist(), methods)]  # noqa: B905
    packed, tensors = zip_of(inside), whole[".safetensors"]
    length = 8 + int.from_bytes(tensors[:8], "little")
    return [
        lambda rng: (".npz", mutant(rng, whole[".npz"])),
        lambda rng: (".npz", mutant(rng, packed)),
        lambda rng: (".npz", mutant_of_members(rng, inside)),
        lambda rng: (".safetensors", mutant(rng, tensors)),
        lambda rng: (".safetensors", mutant_of_header(rng, tensors[8:length], tensors[length:])),
    ]


def load_mutants(path, count, seed):
    """Load so many mutants -> the number of refusals; no other errors are allowed."""
    makers, rng, refused = whole_files(path), np.random.default_rng(seed), 0
    targets = {s: Target(path / f"m{s}", True) for s in (".npz", ".safetensors")}
    for index in range(count):
        suffix, data = makers[index % len(makers)](rng)
        target = targets[suffix]
        try:
            target.load(data, max_extra=2**16)
            targets[suffix] = Target(target.path, True)
        except (ValueError, TypeError) as error:
            assert type(error) in (ValueError, TypeError) and str(target.path) in str(error)
            assert len(str(error)) < 2000 and str(error).isprintable()
            assert target.now() == target.before
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    return refused


@pytest.mark.slow
def test_two_thousand_mutants_are_loaded_or_refused_in_words(tmp_path):
    assert load_mutants(tmp_path, 1800, seed=0) > 1500
    with memory_below(2 * MIB):
        assert load_mutants(tmp_path, 200, seed=1) > 150


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_mutants(seed, tmp_path):
    load_mutants(tmp_path, 10_000, seed)
