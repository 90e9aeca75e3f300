"""Load mutants of Keras' files: python keras_mutants.py FOLDER SEED COUNT prints the refusals.

It is a process of its own, so that the test sees it if a mutant ends the process.
"""

import faulthandler
import json
import pathlib
import resource
import sys

import numpy as np
from keras_by_hand import h5_of, hdf5_of, keras_2, keras_members, layer, model, numbered, weights
from mutants import mutant, mutant_of_json, mutant_of_members
from strangers import Member, zip_of

import fastrnn
from fastrnn.keras import load, load_weights


def makers():
    """Functions that make mutants: rng -> suffix and bytes."""
    rng = np.random.default_rng(0)
    lstm, gru = weights("LSTM", rng), weights("GRU", rng)
    arrays = numbered("layers/lstm/cell", lstm) | numbered("layers/gru/cell", gru)
    config = model([layer("LSTM", "lstm"), layer("GRU", "gru")])
    members = keras_members(config, arrays, {"layers/lstm": "lstm", "layers/gru": "gru"})
    whole = zip_of(members)
    of_keras_2 = h5_of(
        model([layer("LSTM", "lstm", 2), layer("GRU", "gru", 2)]),
        {"lstm": keras_2("lstm/lstm_cell", lstm), "gru": keras_2("gru/gru_cell", gru)},
    )
    alone = hdf5_of(arrays, {("layers/lstm/vars", "name"): "lstm"})

    def of_weights(rng):
        inside = Member(b"model.weights.h5", mutant(rng, members[2].data))
        return ".keras", zip_of([*members[:2], inside])

    def of_configuration(rng):
        entries = config["config"]["layers"]
        changed = [json.loads(mutant_of_json(rng, entry)) for entry in entries]
        text = json.dumps(model(changed)).encode()
        return ".keras", zip_of([members[0], Member(b"config.json", text), members[2]])

    return [
        of_configuration,
        lambda rng: (".keras", mutant(rng, whole)),
        lambda rng: (".keras", mutant_of_members(rng, members)),
        of_weights,
        lambda rng: (".h5", mutant(rng, of_keras_2)),
        lambda rng: (".h5", mutant(rng, of_keras_2)),
        lambda rng: (".weights.h5", mutant(rng, alone)),
    ]


def main(folder, seed, count):
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))  # of addresses; the files are small
    rng, refused, made = np.random.default_rng(seed), 0, makers()
    for index in range(count):
        suffix, data = made[index % len(made)](rng)
        path = pathlib.Path(folder, f"mutant{suffix}")
        path.write_bytes(data)  # it stays if the process ends here
        faulthandler.dump_traceback_later(60, exit=True)  # libhdf5 does not end
        layer = fastrnn.LSTM(3, 5, dtype="float64", rng=0)
        before = layer.flat.copy()
        try:
            if suffix == ".weights.h5":
                load_weights(path, {"lstm": layer})
            else:
                load(path)
        except (ValueError, TypeError, OSError) as error:
            assert str(path) in str(error) and len(str(error)) < 2000, error
            assert str(error).isprintable() and np.array_equal(layer.flat, before)
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    print(refused)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
