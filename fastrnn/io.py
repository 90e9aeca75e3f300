"""Weight files: layers in .safetensors or .npz, with PyTorch's names; also files of PyTorch.

`save` writes a description of the layers beside their arrays: see _weights/description.py. A file
without one is taken as PyTorch's. Files may come from strangers: fastrnn/_files bounds their
memory, _weights/ compares names, dtypes and shapes before an element is read.

It must not know: passes, training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastrnn import checks
from fastrnn._files.formats import reader_of, writer_of
from fastrnn._files.sources import opened, replace
from fastrnn._weights import description
from fastrnn._weights.contents import LIMIT, WeightContents
from fastrnn._weights.plan import Given
from fastrnn.layers import CLASSES

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from fastrnn._typing import CellName, DType, Seed
    from fastrnn.layers import GRU, LSTM, RNN, MinGRU, MinLSTM

    Layer = LSTM | GRU | RNN | MinGRU | MinLSTM

_SAVED = "a layer, or a dict from names to layers"
_NOT_SAVED = (
    ": an RNN, LSTM, GRU, MinGRU or MinLSTM can be saved; fastrnn.train.save takes other parts "
    "too, such as a head, and a vocabulary's tokens"
)


def save(path: str | PathLike[str], layers: Layer | Mapping[str, Layer]) -> None:
    """Write the parameters of layers to a file, with what `load` needs to make the layers again.

    The names of arrays are PyTorch's: for one layer `weight_ih_l0` and so on, for the layers of a
    dict `name.weight_ih_l0`. So PyTorch reads the file too: `module.load_state_dict` takes what
    `safetensors.torch.load_file` returns. The cell and the options are a text in the file, which
    others ignore. The state of the layer's generator is not written; `fastrnn.train.save` writes
    it, for a training that continues.

    A model of several parts in one file, as a layer with a head, an embedding and the tokens of a
    vocabulary, is written by `fastrnn.train.save`, whose docstring has an example.

    The new file is written under another name and then moved to path, so a reader always finds a
    complete file, the old or the new one.

    Parameters
    ----------
    path : str or path
        The suffix decides the format: .safetensors, which needs the package of that name, or .npz,
        which NumPy reads.
    layers : layer, or dict from names to layers
        With "encoder.lstm" as a name, the file has `encoder.lstm.weight_ih_l0` and so on.

    Raises
    ------
    ValueError, TypeError
        For another suffix, for a dict without layers or with other things in it, and for names
        that the format does not hold; nothing is written.
    ModuleNotFoundError
        For .safetensors, if safetensors is not installed.

    Examples
    --------
    >>> import fastrnn
    >>> encoder, decoder = fastrnn.LSTM(3, 5, rng=0), fastrnn.GRU(5, 5, rng=1)
    >>> fastrnn.save("encoder.npz", encoder)
    >>> fastrnn.save("both.npz", {"encoder": encoder, "decoder": decoder})
    """
    path = checks.path("path", path, layers)
    write = writer_of(path)
    layers = _named(layers)
    arrays = {
        f"{name}.{key}" if name else key: array
        for name, layer in layers.items()
        for key, array in layer.params.items()
    }
    texts = {description.NAME: description.text_of(layers)}
    replace(path, lambda file: write(file, arrays, texts))


def load(
    path: str | PathLike[str], prefix: str = "", *, cell: CellName | None = None,
    dtype: DType | None = None, rng: Seed = None, **options: Any,
) -> Any:  # fmt: skip
    """Make the layers of a file that `save` or PyTorch wrote.

    The result is a layer if the names of its arrays are the prefix and a parameter's name:
    `weight_ih_l0` for "", `encoder.lstm.weight_ih_l0` for "encoder.lstm.". Otherwise it is a dict
    from the names of all layers behind the prefix to layers, also if there is only one: from the
    file of a whole PyTorch model for example {"encoder.lstm": layer, ...}. Arrays of its other
    modules are left out. The number of layers in a file never decides.

    A file of `save` says which cells and options its layers have: each is made as it was, and
    computes the same numbers, bit for bit. Its generator is a new one (see `rng`).

    Any other file is taken as PyTorch's. The cell and the sizes follow from names and shapes:
    weight_ih_l0 is (G*H, I) and weight_hh_l0 (G*H, H), with G = 1 in an RNN, 3 in a GRU and 4 in an
    LSTM. Numbers of layers, a second direction, biases and proj_size are seen too. Not seen are
    the options, which are PyTorch's defaults unless you give others: an RNN has tanh, a GRU resets
    after the product, x is (T, B, I), dropout is 0. The parameters of torch.nn.LSTMCell and its
    like, without _l0, are a layer.

    The file may come from a stranger. Nothing in it is executed. Names, dtypes and shapes are
    compared before memory is taken for a layer. Loading takes at most twice the memory of the
    layers, plus 64 MiB; with `dtype`, plus four times the bytes of the largest array. Layers take
    at most 100 times the bytes of the file, plus 1 MiB.

    Parameters
    ----------
    path : str or path
        A .safetensors or .npz. Reading needs no package. A model of PyTorch is saved by
        `safetensors.torch.save_file(model.state_dict(), path)`.
    prefix : str
        The beginning of the names, with its dot. Other arrays are left out.
    cell : {"rnn", "lstm", "gru", "min_gru", "min_lstm"}, or None
        For a file of others whose cell the shapes do not tell.
    dtype : {"float32", "float64"}, or None
        The arrays are converted to it, which may round them. None keeps theirs, and refuses arrays
        of float16 and bfloat16.
    rng : None, int or numpy.random.Generator
        The generator of each layer, for dropout and zoneout. Nothing is drawn from it here.
    **options : arguments of the layers
        `nonlinearity="relu"`, `batch_first=True` and so on override what the file says, for all
        layers that are loaded.

    Returns
    -------
    layers : layer, or dict from names to layers

    Raises
    ------
    ValueError, TypeError
        For a file that is damaged or pickled; for a prefix without layers; for names, shapes and
        dtypes that do not fit a layer; for options that the layer does not have or that contradict
        its arrays. The message names the file, the array and the reason.
    OSError
        If there is no such file (`FileNotFoundError`), or it may not be read.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.RNN(3, 5, nonlinearity="relu", batch_first=True, rng=0)
    >>> fastrnn.save("layer.npz", layer)
    >>> fastrnn.load("layer.npz")
    fastrnn.RNN(3, 5, batch_first=True, nonlinearity="relu", dtype="float32")

    A file with PyTorch's names that says nothing about options:

    >>> np.savez("model.npz", **{"rnn." + name: a for name, a in layer.params.items()})
    >>> fastrnn.load("model.npz")
    {'rnn': fastrnn.RNN(3, 5, nonlinearity="tanh", dtype="float32")}
    >>> same = fastrnn.load("model.npz", "rnn.", nonlinearity="relu", batch_first=True)
    >>> bool((same.flat == layer.flat).all())
    True
    """
    path = checks.path("path", path)
    reader = reader_of(path, (description.NAME,))
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a text, got {type(prefix).__name__}")
    given = Given(cell, None if dtype is None else checks.dtype(dtype), options)
    with opened(path, LIMIT) as source:
        contents = WeightContents(source, reader(source), prefix)
        plans = contents.plans(given)
        layers = {name: contents.filled(name, plan.made(rng)) for name, plan in plans.items()}
    return layers[""] if contents.single else layers


def _named(layers):
    """A dict from names to layers; the name of a single layer is ""."""
    kinds = tuple(CLASSES.values())
    if type(layers) in kinds:
        return {"": layers}
    if not isinstance(layers, Mapping):
        raise TypeError(f"layers must be {_SAVED}, got {checks.no_layer(layers, _NOT_SAVED)}")
    if not layers:
        raise ValueError(f"layers must be {_SAVED}, got an empty dict")
    for name, layer in layers.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"layers must have texts as names, got {name!r}")
        if type(layer) not in kinds:
            got = checks.no_layer(layer, _NOT_SAVED)
            raise TypeError(f"layers[{name!r}] must be a layer, got {got}")
    return dict(layers)
