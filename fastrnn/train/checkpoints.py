"""Parts and optimizers in files, .npz or .safetensors, never pickled.

A file has the arrays of state.py, so PyTorch's names behind those of the parts; `extra.name` for
each array that was given beside them; and as `extra` the JSON of what else was given.
"""

import json
import os
from pathlib import Path

import numpy as np

from fastrnn.train.state import EXTRA, OPTIMIZER, named, put_back, state_of

# What readers raise for files that were cut or damaged.
_BROKEN = (ValueError, TypeError, KeyError, RuntimeError, EOFError)


def save(path, parts, optimizer=None, **extra):
    """Write parameters, and the state of an optimizer, to a file.

    The file is written beside its place and then moved there, so a reader finds the old one or the
    new one, whatever happens meanwhile.

    Parameters
    ----------
    path : str or path
        Its suffix says the format: .npz, which NumPy reads, or .safetensors, which needs the
        package of that name.
    parts : dict from names to parts, or list of parts
        Layers, `Dense`, `Embedding` or whatever has `params`, a dict of arrays. The parameters
        are called `name.weight_ih_l0` and so on, in a list `0.weight_ih_l0`: the names that
        PyTorch gives the same parts in a module.
    optimizer : SGD or Adam, or None
    **extra : arrays of numbers, or what JSON holds
        An epoch, a vocabulary, the state of a generator: comes back from `load`.

    Raises
    ------
    ValueError, TypeError
        For another suffix, and for values that cannot be kept; nothing is written.
    ModuleNotFoundError
        Where safetensors is not installed.
    """
    path, (write, _) = Path(path), form_of(path)
    arrays, values = state_of(named(parts), optimizer), {}
    for name, value in extra.items():
        if isinstance(value, np.ndarray):
            arrays[f"{EXTRA}.{name}"] = value.copy()
        else:
            values[name] = value
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    text = json.dumps(values, default=_plain) if values else None
    _replace(path, lambda file: write(file, arrays, text))


def load(path, parts, optimizer=None):
    """Read what `save` wrote into the same parts, and into an optimizer of the same kind.

    Training goes on from there, bit for bit, as if it had never ended (but dropout, which draws
    from its layer's own generator).

    Parameters
    ----------
    path, parts
        As for `save`; parts of the same names, shapes and dtypes as those in the file.
    optimizer : SGD or Adam, or None
        None leaves alone what the file has of one. The learning rate is loaded too.

    Returns
    -------
    extra : dict
        What `save` was given; what was not an array as JSON has it, so a tuple is a list.

    Raises
    ------
    ValueError, TypeError
        For a file that cannot be read, and for names, shapes and dtypes that are not those of parts
        and optimizer: nothing is changed.
    """
    path, (_, read) = Path(path), form_of(path)
    try:
        arrays, text = read(path)
        extra = dict(json.loads(text))
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from error
    state = {}
    for name, array in arrays.items():
        owner, _, key = name.partition(".")
        if owner == EXTRA:
            extra[key] = array
        elif owner != OPTIMIZER or optimizer is not None:
            state[name] = array
    put_back(state, named(parts), optimizer, name=str(path))
    return extra


def _plain(value):
    """NumPy's numbers for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"extra must be arrays of numbers or what JSON holds, got {type(value).__name__} in it"
    )


def _replace(path, write):
    """Write the file at path wholly or not at all."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(beside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


# ---- formats: write(file, arrays, text) and read(path) -> arrays, text ---------------------------


def form_of(path):
    """The two functions of the format that the suffix says; ValueError for another."""
    suffix = Path(path).suffix
    if suffix not in _FORMS:
        raise ValueError(f"path must end in {' or '.join(_FORMS)}, got {str(path)!r}")
    if suffix == ".safetensors":
        _safetensors()
    return _FORMS[suffix]


def _write_npz(file, arrays, text):
    if text is not None:
        arrays = {**arrays, EXTRA: np.array(text)}
    np.savez(file, **arrays)  # no array of objects among them, so nothing is pickled


def _read_npz(path):
    from zipfile import BadZipFile  # here, for it would make the package slower to import

    try:
        # NumPy leaves a file open that it opened itself and found broken.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except BadZipFile as error:
        raise ValueError(error) from error
    return arrays, str(arrays.pop(EXTRA, "{}"))


def _safetensors():
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a .safetensors file needs safetensors: pip install safetensors, or use .npz"
        ) from None
    return safetensors


def _write_safetensors(file, arrays, text):
    metadata = None if text is None else {EXTRA: text}
    file.write(_safetensors().numpy.save(arrays, metadata))


def _read_safetensors(path):
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            return arrays, (file.metadata() or {}).get(EXTRA, "{}")
    except safetensors.SafetensorError as error:
        raise ValueError(error) from error


_FORMS = {
    ".npz": (_write_npz, _read_npz),
    ".safetensors": (_write_safetensors, _read_safetensors),
}
