"""What a file of parts holds, looked at in the order in which a stranger's file must be.

First names, then dtypes and shapes, then elements. What is not wanted is not read.

It must not know: formats, parts.
"""

import math

import numpy as np

from fastrnn import checks
from fastrnn.train.files import PICKLED
from fastrnn.train.state import EXTRA, OPTIMIZER
from fastrnn.train.texts import Twice, memory_of, object_of

_ADDRESSABLE = 2**62  # bytes; NumPy makes no larger array, even without elements


class Contents:
    """The arrays that are wanted, and extra, all of them checked but for their elements.

    source, file : the `files.Source`, and the `Npz` or `Tensors` that reads it
    wanted : name -> what has its dtype and shape
    has_optimizer : bool
        Whether that of an optimizer is among what is wanted; else the file may hold one.
    """

    def __init__(self, source, file, wanted, *, has_optimizer):
        self._source, self._file = source, file
        self._wanted, self._has_optimizer = wanted, has_optimizer
        self._owner = "parts and optimizer" if has_optimizer else "parts"
        self._extras = self._checked_names()
        self._found = file.describe([*wanted, *self._extras])
        for name in wanted:
            self._check_wanted(name)
        for name in self._extras:
            self._check_extra(name)

    def state(self):
        """Name -> array, of all that is wanted."""
        return {name: self._array(name) for name in self._wanted}

    def extra(self):
        """Name -> array, or what JSON said."""
        extra = self._values() if EXTRA in self._extras else {}
        for name in self._extras:
            if name == EXTRA:
                continue
            key = name.removeprefix(f"{EXTRA}.")
            if key in extra:
                raise self._source.refused("it comes twice", name)
            extra[key] = self._array(name)
        return extra

    def _checked_names(self):
        """The names of extra; ValueError for some that come twice, are missing or unknown."""
        names, compared, extras = set(), set(), []
        for name in self._file.names():
            if name in names:
                raise self._source.refused("it comes twice", name)
            names.add(name)
            kind = name.partition(".")[0]
            if kind == EXTRA:
                extras.append(name)
            elif kind != OPTIMIZER or self._has_optimizer:
                compared.add(name)
        checks.same_names(str(self._source.path), compared, self._wanted, self._owner)
        return extras

    def _check_wanted(self, name):
        found, like = self._found[name], self._wanted[name]
        label = self._label(name)
        if isinstance(found.dtype, str):
            hint = f": {PICKLED}" if "O" in found.dtype else ""
            raise TypeError(
                f"{label} must be {like.dtype} like {self._owner}, got "
                f"{checks.shown(found.dtype)}{hint}"
            )
        checks.like(label, found, like, self._owner)

    def _check_extra(self, name):
        found, source = self._found[name], self._source
        is_dtype = isinstance(found.dtype, np.dtype)
        if name == EXTRA:
            if not is_dtype or found.dtype.kind != "U" or found.shape != ():
                raise TypeError(f"{self._label(name)} must be a text of JSON")
            source.take(found.dtype.itemsize // 2, name)  # for the text and as much again
            return
        if not is_dtype or found.dtype.kind not in "biuf":
            got = checks.shown(found.dtype)
            raise TypeError(f"{self._label(name)} must be an array of numbers, got dtype {got}")
        source.take(math.prod(found.shape) * found.dtype.itemsize, name)
        if math.prod([size or 1 for size in found.shape]) * found.dtype.itemsize >= _ADDRESSABLE:
            raise source.refused(f"its shape overflows an address: {found.shape}", name)

    def _values(self):
        """What the text `extra` says."""
        text, source = self._file.text(EXTRA), self._source
        source.take(max(0, memory_of(text) - 2 * len(text)), EXTRA)
        try:
            return object_of(text)
        except Twice as error:
            raise source.refused(f"it has {checks.shown(error.args[0])} twice", EXTRA) from None
        except ValueError as error:
            raise source.refused(str(error), EXTRA) from None

    def _array(self, name):
        array = self._file.array(name)
        if array.dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
            raise self._source.refused("its flags must be bytes 0 and 1", name)
        return array

    def _label(self, name):
        return f"{checks.shown(name)} of {self._source.path}"
