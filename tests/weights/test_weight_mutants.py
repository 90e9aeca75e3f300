"""Mutants of weight files make layers, or are refused by a message with the file's name."""

import json
import zipfile

import numpy as np
import pytest
from mutants import mutant, mutant_of_header, mutant_of_json, mutant_of_members
from strangers import DEFLATED, MIB, Member, memory_below, zip_of
from weight_files import written

import fastrnn
from fastrnn import GRU, LSTM
from fastrnn._weights import description

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]

KINDS = fastrnn.RNN, LSTM, GRU, fastrnn.MinGRU, fastrnn.MinLSTM
COUNT = 2000  # of each format


def makers_of(suffix, folder):
    """Functions that make mutants of saved files: rng -> bytes."""
    pytest.importorskip("safetensors")
    one = LSTM(2, 3, 2, dropout=0.5, peephole=True, bidirectional=True, merge="sum", rng=0)
    two = {"a.b": GRU(2, 3, clip=2.5, reset_after=False), "c": fastrnn.MinLSTM(2, 3, bias=False)}
    path, wholes = folder / f"whole{suffix}", []
    for layers in (one, two):
        fastrnn.save(path, layers)
        wholes.append(path.read_bytes())
    written(path, {"lstm." + name: array.astype("f2") for name, array in one.params.items()})
    wholes.append(path.read_bytes())
    makers = of_zip if suffix == ".npz" else of_tensors
    found = [maker for whole in wholes for maker in makers(whole, folder)]
    return [*found, *(of_description(path, layers) for layers in ({"": one}, two))]


def of_description(path, layers):
    """Of the description alone, in a file that is whole."""
    text = json.loads(description.text_of(layers))
    arrays = {
        f"{name}.{key}" if name else key: array
        for name, layer in layers.items()
        for key, array in layer.params.items()
    }
    return lambda rng: written(path, arrays, mutant_of_json(rng, text)).read_bytes()


def of_zip(whole, folder):
    (folder / "zip").write_bytes(whole)
    with zipfile.ZipFile(folder / "zip") as file:
        members = [
            Member(name.encode(), file.read(name), DEFLATED * (place % 2))
            for place, name in enumerate(file.namelist())
        ]
    packed = zip_of(members)
    return [
        lambda rng: mutant(rng, whole),
        lambda rng: mutant(rng, packed),
        lambda rng: mutant_of_members(rng, members),
    ]


def of_tensors(whole, folder):
    length = 8 + int.from_bytes(whole[:8], "little")
    header, data = whole[8:length], whole[length:]
    return [lambda rng: mutant(rng, whole), lambda rng: mutant_of_header(rng, header, data)]


def load_mutants(suffix, folder, count, seed):
    """Load so many mutants -> the number of refusals; no other errors are allowed."""
    makers, rng, refused = makers_of(suffix, folder), np.random.default_rng(seed), 0
    path = folder / f"mutant{suffix}"
    for index in range(count):
        path.write_bytes(makers[index % len(makers)](rng))
        try:
            found = fastrnn.load(path, dtype="float32" if index % 2 else None)
            layers = found.values() if isinstance(found, dict) else [found]
            assert layers and all(type(layer) in KINDS for layer in layers)
            assert sum(layer.flat.nbytes for layer in layers) < MIB
        except (ValueError, TypeError) as error:
            assert type(error) in (ValueError, TypeError) and str(path) in str(error)
            assert len(str(error)) < 2000 and str(error).isprintable()
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    return refused


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_two_thousand_mutants_are_loaded_or_refused_in_words(suffix, tmp_path):
    refused = load_mutants(suffix, tmp_path, COUNT - 200, seed=0)
    assert 0.6 * COUNT < refused < 0.9 * COUNT  # some change an element alone
    with memory_below(2 * MIB):
        load_mutants(suffix, tmp_path, 200, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("seed", range(2, 5))
def test_many_mutants(suffix, seed, tmp_path):
    load_mutants(suffix, tmp_path, 5000, seed)
