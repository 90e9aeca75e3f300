"""Files as Keras writes them, made by h5py alone, and what its layers compute, in NumPy alone."""

import io
import json

import h5py
import numpy as np
from strangers import Member, zip_of

DTYPE = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}}
CALL = {"return_sequences": True, "return_state": True, "go_backwards": False, "stateful": False}
H, INPUTS = 5, 3
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


def layer(kind, name, major=3, **options):
    """A serialized layer, as it is in a configuration."""
    config = {"name": name, "dtype": DTYPE if major == 3 else "float64", "units": H}
    config |= {"activation": "tanh", "use_bias": True} | CALL
    if kind != "SimpleRNN":
        config["recurrent_activation"] = "hard_sigmoid"
    if kind == "GRU":
        config["reset_after"] = True
    module = {"module": "keras.layers", "registered_name": None} if major == 3 else {}
    return module | {"class_name": kind, "config": config | options}


def weights(kind, rng, reset_after=True):
    """kernel, recurrent kernel and bias."""
    width = GATES[kind] * H
    bias = (2, width) if kind == "GRU" and reset_after else (width,)
    return [rng.normal(size=shape) for shape in [(INPUTS, width), (H, width), bias]]


def model(layers, kind="Sequential"):
    return {"module": "keras", "class_name": kind, "config": {"name": "model", "layers": layers}}


LSTM = model([layer("LSTM", "lstm")])


def calls(layers, inbound):
    """The layers with what each call of theirs reads, in the form of Keras 2."""
    for one, names in zip(layers, inbound, strict=True):
        one |= {"name": one["config"]["name"], "inbound_nodes": []}
        one["inbound_nodes"] += [[[name, 0, 0, {}] for name in call] for call in names]
    return layers


def hdf5_of(arrays, attributes=None, **options):
    """The bytes of an HDF5 file; arrays : path -> array. options : those of h5py.File."""
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        for path, array in arrays.items():
            h5[path] = array
        for (path, name), value in (attributes or {}).items():
            h5.require_group(path).attrs[name] = value
    return file.getvalue()


def keras_members(config, arrays, names=None, version="3.15.1"):
    """The members of a .keras; names : group -> the name that it records."""
    recorded = {(f"{group}/vars", "name"): name for group, name in (names or {}).items()}
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return [
        Member(b"metadata.json", json.dumps({"keras_version": version}).encode()),
        Member(b"config.json", text),
        Member(b"model.weights.h5", hdf5_of(arrays, recorded)),
    ]


def keras_of(config, arrays, names=None, version="3.15.1"):
    return zip_of(keras_members(config, arrays, names, version))


def numbered(group, arrays):
    return {f"{group}/vars/{index}": array for index, array in enumerate(arrays)}


def h5_of(config, named, version="2.3.1"):
    """The bytes of an .h5; named : layer -> {name of a weight: array}."""
    arrays, attributes = {}, {("/", "model_config"): json.dumps(config)}
    attributes["/", "keras_version"] = version
    for name, of_layer in named.items():
        group = f"model_weights/{name}"
        arrays |= {f"{group}/{weight}": array for weight, array in of_layer.items()}
        attributes[group, "weight_names"] = [weight.encode() for weight in of_layer]
    return hdf5_of(arrays, attributes)


def keras_2(prefix, arrays):
    """The names that Keras 2 gives to the weights of a cell."""
    names = ("kernel:0", "recurrent_kernel:0", "bias:0")
    return {f"{prefix}/{name}": array for name, array in zip(names, arrays, strict=True)}


def run(kind, arrays, x, slope, reset_after=True):
    """y (B, T, H) and the states: the equations of Keras' cells, with its order of gates."""

    def gate(p):
        return np.clip(slope * p + 0.5, 0, 1)

    kernel, recurrent, bias = arrays
    h, c, ys = np.zeros((len(x), H)), np.zeros((len(x), H)), []
    for t in range(x.shape[1]):
        if kind == "GRU":
            b_x, b_h = bias if reset_after else (bias, np.zeros_like(bias))
            x_z, x_r, x_h = np.split(x[:, t] @ kernel + b_x, 3, axis=1)
            h_z, h_r, h_h = np.split(h @ recurrent + b_h, 3, axis=1)
            z, r = gate(x_z + h_z), gate(x_r + h_r)
            inner = r * h_h if reset_after else (r * h) @ np.split(recurrent, 3, axis=1)[2]
            h = z * h + (1 - z) * np.tanh(x_h + inner)
        elif kind == "LSTM":
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            c = gate(f) * c + gate(i) * np.tanh(g)
            h = gate(o) * np.tanh(c)
        else:
            h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias)
        ys.append(h)
    return np.stack(ys, axis=1), [h, c] if kind == "LSTM" else [h]


def lstm_arrays(seed=0):
    """Weights of `LSTM`: path -> array."""
    return numbered("layers/lstm/cell", weights("LSTM", np.random.default_rng(seed)))


def written(folder, data, name="model.keras"):
    """The path of a new file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path
