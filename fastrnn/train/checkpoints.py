"""Parts and optimizers in files, .npz or .safetensors, never pickled.

A file has the arrays of state.py, so PyTorch's names behind those of the parts; `extra.name` for
each array that was given beside them; as the text `extra` the JSON of what else was given; and as
the text `rng` the states of the parts' random generators.

Files may come from anybody: contents.py looks at them, npz.py and tensors.py read them.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.train import generators, npz, tensors
from fastrnn.train.contents import Contents
from fastrnn.train.files import PICKLED, opened, replace
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
from fastrnn.train.texts import Twice, object_of

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, SupportsIndex

    from fastrnn.train.protocols import Optimizer, Parts

_WRITERS = {".npz": npz.write, ".safetensors": tensors.write}
_READERS = {".npz": npz.Npz, ".safetensors": partial(tensors.Tensors, texts=TEXTS)}
_OF_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def save(
    path: str | PathLike[str], parts: Parts, optimizer: Optimizer | None = None, **extra: object
) -> None:
    """Write parameters, the state of an optimizer, and of random generators, to a file.

    A layer with dropout, recurrent dropout or zoneout draws from its own generator, whose state is
    kept too, so that training goes on bit for bit. With an optimizer the states of all layers'
    generators are kept, for dropout may be turned on later; without one, those of layers that draw
    as they are now.

    The file is written beside its place and then moved there, so a reader finds the old one or the
    new one, whatever happens meanwhile. It keeps the mode of the file that it replaces; a new one
    has the mode that the umask says. Where path is a symbolic link, the file that it leads to is
    replaced.

    Parameters
    ----------
    path : str or path
        Its suffix says the format: .npz, which NumPy reads, or .safetensors, which needs the
        package of that name.
    parts : dict from names to parts, or list of parts
        Layers, `Dense`, `Embedding` or whatever has `params`, a mapping of arrays. The parameters
        are called `name.weight_ih_l0` and so on, in a list `0.weight_ih_l0`: the names that
        PyTorch gives the same parts in a module. A part of your own that has `rng`, a
        numpy.random.Generator, has a state too; it draws, unless it has `draws` and that is False.
    optimizer : SGD or Adam, or None
    **extra : arrays of numbers, or what JSON holds
        An epoch, a vocabulary, the state of a generator: comes back from `load`.

    Raises
    ------
    ValueError, TypeError
        For another suffix, and for values that cannot be kept; nothing is written.
    ModuleNotFoundError
        Where safetensors is not installed.

    Examples
    --------
    >>> from fastrnn import train
    >>> head = train.Dense(3, 2, rng=0)
    >>> train.save("model.npz", {"head": head}, train.Adam(head), words=["yes", "no"])
    """
    path, write = Path(path), writer_of(path)
    (arrays, states), values = state_of(named(parts), optimizer), {}
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
    replace(path, lambda file: write(file, arrays, texts))


def load(
    path: str | PathLike[str],
    parts: Parts,
    optimizer: Optimizer | None = None,
    *,
    max_extra: SupportsIndex = 2**24,
) -> dict[str, Any]:
    """Read what `save` wrote into the same parts, and into an optimizer of the same kind.

    Training goes on from there, bit for bit, as if it had never ended, dropout included: the
    generators of layers go on from where they were, whether the layers draw now or later. A file
    without their states, of layers without dropout or written before they were kept, leaves them as
    they are; so does a state of another kind of generator where the layer does not draw.

    The file may come from anybody. Nothing in it is run, and loading takes at most twice as much
    memory as parts and optimizer have, and `max_extra`, and some MiB.

    Parameters
    ----------
    path, parts
        As for `save`; parts of the same names, shapes and dtypes as those in the file.
    optimizer : SGD or Adam, or None
        None leaves alone what the file has of one. The learning rate is loaded too; momentum, betas
        and epsilon are not in the file: make it with those that it was saved with.
    max_extra : int
        Bytes of memory that `extra` may take, 16 MiB; JSON counts by what it takes at most while
        it is read, some 100 bytes for each value and 200 for each name.

    Returns
    -------
    extra : dict
        What `save` was given; what was not an array as JSON has it, so a tuple is a list.

    Raises
    ------
    ValueError, TypeError
        For a file that cannot be read or is not whole, for a pickled one, for names, shapes and
        dtypes that are not those of parts and optimizer, for states of another kind of generator
        of a layer that draws, and for more extra than `max_extra`: nothing is changed. The message
        says the file, the array and the reason.
    OSError
        Where there is no such file (`FileNotFoundError`), or it may not be read.

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
    path, reader = Path(path), _of_suffix(path, _READERS)
    parts, max_extra = named(parts), checks.positive("max_extra", max_extra, 0)
    wanted = wanted_of(parts, optimizer)
    with opened(path, max_extra, len(wanted)) as source:
        contents = Contents(
            source, reader(source), wanted, generators_of(parts),
            drawing=drawing(parts), has_optimizer=optimizer is not None,
        )  # fmt: skip
        state, extra = contents.state(), contents.extra()
    put_back(state, parts, optimizer, name=str(path))
    return extra


def writer_of(path):
    """The function that writes the format of the suffix; ValueError for another."""
    write = _of_suffix(path, _WRITERS)
    if write is tensors.write:
        tensors.package()
    return write


def _of_suffix(path, forms):
    suffix = Path(path).suffix
    if suffix not in forms:
        hint = f": {PICKLED}" if suffix.lower() in _OF_PICKLES else ""
        raise ValueError(f"path must end in {' or '.join(forms)}, got {str(path)!r}{hint}")
    return forms[suffix]


# ---- what goes into a file -----------------------------------------------------------------------


def _text_of(values):
    """JSON that `load` reads."""
    text = json.dumps(values, default=_plain)
    try:
        object_of(text)
    except Twice as error:
        raise ValueError(
            f"extra must have no name twice in JSON, whose names are texts, got {error.args[0]!r}"
        ) from None
    return text


def _plain(value):
    """NumPy's numbers for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"extra must be arrays of numbers or what JSON holds, got {type(value).__name__} in it"
    )
