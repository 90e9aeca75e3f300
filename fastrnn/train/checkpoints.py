"""Checkpoints: files of parts and optimizers, .npz or .safetensors, never pickled.

A file has the arrays of state.py, with a part's name before PyTorch's name of the parameter. An
array in **extra is called `extra.name`. The text `extra` is the JSON of all other extra values. The
text `rng` has the states of the parts' random generators.

Files may come from strangers: contents.py checks them, fastrnn/_files reads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._files.formats import reader_of, writer_of
from fastrnn._files.sources import Limit, opened, replace
from fastrnn._files.texts import Twice, object_of
from fastrnn.train import generators
from fastrnn.train.contents import CheckpointContents, Within
from fastrnn.train.state import (
    EXTRA,
    GENERATORS,
    TEXTS,
    drawing,
    generators_of,
    named,
    put_back,
    state_of,
    wanted_of,
)

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, SupportsIndex

    from fastrnn.train.protocols import Optimizer, Parts

# Names may take _NAMES bytes of memory, plus _NAMES_EACH for each wanted array, before they count
# as extra. A file may have names that are not wanted, such as the state of an optimizer.
_NAMES, _NAMES_EACH = 2**20, 2**13


def save(
    path: str | PathLike[str], parts: Parts, optimizer: Optimizer | None = None, **extra: object
) -> None:
    """Write parameters, the state of an optimizer, and of random generators, to a file.

    A layer with dropout, recurrent dropout or zoneout draws from its own generator. Its state is
    saved too, so that training continues bit for bit. With an optimizer the states of all layers'
    generators are saved, because dropout may be turned on later. Without one, only the states of
    layers that draw now are saved.

    The new file is written under another name and then moved to path, so a reader always finds a
    complete file, the old or the new one. It has the mode of the file that it replaces; without an
    old file the umask decides. If path is a symbolic link, the file that it leads to is replaced.

    Parameters
    ----------
    path : str or path
        The suffix decides the format: .npz, which NumPy reads, or .safetensors, which needs the
        package of that name.
    parts : dict from names to parts, or list of parts
        Layers, `Dense`, `Embedding` or any object with `params`, a mapping of arrays. The
        parameters are called `name.weight_ih_l0` and so on, for a list `0.weight_ih_l0`: PyTorch
        gives the same names to the same parts in a module. If a part of your own has `rng`, a
        numpy.random.Generator, its state is saved too. Such a part counts as one that draws, unless
        it has an attribute `draws` that is False.
    optimizer : SGD or Adam, or None
    **extra : arrays of numbers, or values for JSON
        For example an epoch, a vocabulary or the state of a generator; `load` returns them.

    Raises
    ------
    ValueError, TypeError
        For another suffix, and for values that cannot be saved; nothing is written.
    ModuleNotFoundError
        For .safetensors, if safetensors is not installed.

    Examples
    --------
    >>> from fastrnn import train
    >>> head = train.Dense(3, 2, rng=0)
    >>> train.save("model.npz", {"head": head}, train.Adam(head), words=["yes", "no"])

    A layer, its head and a vocabulary in one file, and all of them made from it again:

    >>> import fastrnn
    >>> def model(words, hidden):
    ...     return {"layer": fastrnn.GRU(len(words), hidden), "head": train.Dense(hidden, 2)}
    >>> words = train.Vocabulary("you are good".split(), unknown="?")
    >>> train.save("model.npz", model(words, 5), words=words.tokens, unknown="?", hidden=5)
    >>> extra = train.load("model.npz")
    >>> words = train.Vocabulary(extra["words"], unknown=extra["unknown"])
    >>> parts = model(words, extra["hidden"])
    >>> extra = train.load("model.npz", parts)
    >>> words.tokens, parts["layer"]
    (('?', 'you', 'are', 'good'), fastrnn.GRU(4, 5, dtype="float32"))
    """
    path = checks.path("path", path, parts)
    write = writer_of(path)
    arrays, texts = contents_of(state_of(named(parts), optimizer), extra)
    replace(path, lambda file: write(file, arrays, texts))


def contents_of(state, extra):
    """The arrays and the texts of a file with this `State` and these extra values, both dicts."""
    (arrays, states), values = (dict(state.arrays), state.generators), {}
    for name, value in extra.items():
        if isinstance(value, np.ndarray):
            arrays[f"{EXTRA}.{name}"] = value.copy()
        else:
            values[name] = value
    for name, array in arrays.items():
        checks.unmasked(**{name: array})
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    texts = {EXTRA: _text_of(values)} if values else {}
    if states:
        texts[GENERATORS] = generators.text_of(states)
    return arrays, texts


def load(
    path: str | PathLike[str],
    parts: Parts | None = None,
    optimizer: Optimizer | None = None,
    *,
    max_extra: SupportsIndex = 2**24,
) -> dict[str, Any]:
    """Load a file that `save` wrote into the same parts, and into an optimizer of the same kind.

    Training continues bit for bit as if it had not been interrupted, dropout included: generators
    of layers get their saved states, also those of layers that draw only later. Two kinds of
    generators do not change: one without a saved state (of a layer without dropout, or in an old
    file), and that of a layer that does not draw if the file has a state of another kind.

    The file may come from a stranger. Nothing in it is executed. Loading takes at most twice the
    memory of parts and optimizer, plus `max_extra`, plus some MiB.

    Parameters
    ----------
    path : str or path
        As for `save`.
    parts : dict from names to parts, or list of parts, or None
        Parts of the same names, shapes and dtypes as those in the file. Without an optimizer, a
        part that has only a generator, such as a `Dropout`, may be left out. With None nothing is
        loaded and `extra` alone is read, for example for sizes that the parts are made with.
    optimizer : SGD or Adam, or None
        With None the state of an optimizer in the file is ignored. The learning rate is loaded too.
        Momentum, betas, epsilon and weight decay are not in the file: make the optimizer with the
        same ones.
    max_extra : int
        Bytes of memory that `extra` may take, by default 16 MiB. JSON counts by the most memory
        that reading it can take: some 100 bytes for each value and 200 for each name.

    Returns
    -------
    extra : dict
        The `**extra` of `save`. Values that were not arrays come back from JSON: a tuple is a list.

    Raises
    ------
    ValueError, TypeError
        For a file that is damaged, incomplete or pickled; for names, shapes and dtypes other than
        those of parts and optimizer; for a state of another kind of generator, if the layer draws;
        for more extra than `max_extra`. Nothing is changed then. The message names the file, the
        array and the reason.
    OSError
        If there is no such file (`FileNotFoundError`), or it may not be read.

    Examples
    --------
    >>> from fastrnn import train
    >>> head, other = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=1)
    >>> train.save("model.npz", {"head": head}, epoch=3)
    >>> train.load("model.npz", {"head": other})
    {'epoch': 3}
    >>> bool((other.flat == head.flat).all())
    True
    """
    path = checks.path("path", path, parts)
    if parts is None and optimizer is not None:
        raise TypeError("optimizer must be None without parts, which it trains")
    parts = None if parts is None else named(parts)
    max_extra = checks.positive("max_extra", max_extra, 0)
    state, extra, _ = read(path, parts, optimizer, max_extra)
    if parts is not None:
        put_back(state, parts, optimizer, name=str(path))
    return extra


def read(path, parts, optimizer, max_extra, within=""):
    """(`State`, extra, True if there is a last epoch too) of a file; nothing is changed.

    parts : by name; None reads no state but extra.
    within : the beginning of the names that are read, with its dot
    """
    of_parts = {} if parts is None else parts
    wanted = wanted_of(of_parts, optimizer)
    reader = reader_of(path, [within + name for name in TEXTS])
    with opened(path, _limit(max_extra, len(wanted))) as source:
        file = reader(source)
        contents = CheckpointContents(
            source, Within(file, within) if within else file, None if parts is None else wanted,
            generators_of(of_parts), drawing=drawing(of_parts), has_optimizer=optimizer is not None,
        )  # fmt: skip
        extra = contents.extra()
        return contents.state(), extra, contents.has_last


def _limit(max_extra, wanted):
    """The `Limit` of a file; wanted is the number of wanted arrays."""
    return Limit(
        names=_NAMES + _NAMES_EACH * wanted,
        extra=max_extra,
        reason=f"extra takes more memory than max_extra = {max_extra} bytes: if you trust the "
        "file, load it with a larger max_extra",
    )


# ---- the contents of a file ----------------------------------------------------------------------


def _text_of(values):
    """The JSON of extra values, for `load`."""
    text = json.dumps(values, default=_plain)
    try:
        object_of(text)
    except Twice as error:
        raise ValueError(
            f"extra must have no name twice in JSON, whose names are texts, got {error.args[0]!r}"
        ) from None
    return text


def _plain(value):
    """A number of NumPy's as one of Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"extra must be arrays of numbers or what JSON holds, got {type(value).__name__} in it"
    )
