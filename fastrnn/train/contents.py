"""The contents of a checkpoint, checked so that a stranger's file can do no harm.

Names are checked first, then dtypes and shapes, then elements. Elements that are not wanted are not
read.

It must not know: formats, parts.
"""

import math

import numpy as np

from fastrnn import checks
from fastrnn._files import objects
from fastrnn._files.sources import PICKLED
from fastrnn._files.texts import memory_of
from fastrnn.train.generators import checked, longest_text
from fastrnn.train.state import EXTRA, GENERATORS, LAST, OPTIMIZER, State

_LOAD_ALL = "a part with a generator, such as a Dropout? To train further, load all parts"


class CheckpointContents:
    """The wanted arrays and `extra` of a file. `__init__` checks everything but their elements.

    source, file : the `sources.Source`, and the `Npz` or `Tensors` that reads it
    wanted : name -> an object with the dtype and shape of the array; None for `extra` alone
    generators : name of a part -> its generator; the file may have its state
    drawing : the names of parts that draw from their generators
    has_optimizer : bool
        True if arrays of an optimizer are wanted. If not, the file may still have some.

    has_last : bool
        True if the file has a last epoch beside these contents.
    """

    def __init__(self, source, file, wanted, generators, *, drawing, has_optimizer):
        self._source, self._file = source, file
        self._any, self._wanted, self._has_optimizer = wanted is None, wanted or {}, has_optimizer
        self._generators, self._drawing = generators, drawing
        self._owner = "parts and optimizer" if has_optimizer else "parts"
        self._extras, self._texts = [], []  # names of arrays and of texts
        self.has_last = False
        self._sort_names()
        checks_of = dict.fromkeys(self._wanted, self._check_wanted)
        checks_of |= dict.fromkeys(self._extras, self._check_extra)
        checks_of |= dict.fromkeys(self._texts, self._check_text)
        for name, found in file.describe(checks_of):  # each is checked before the next is read
            checks_of[name](name, found)

    def state(self):
        """The wanted `State`, with the states of generators that the file has."""
        states = {}
        if GENERATORS in self._texts:
            states = self._object(GENERATORS)
            missing = [name for name in states if name not in self._generators]
            if missing and self._has_optimizer:  # training would go on with other numbers
                missing = ", ".join(map(checks.shown, missing[:3]))
                raise self._source.refused(f"the parts lack {missing}: {_LOAD_ALL}", GENERATORS)
            states = objects.said(
                self._source, GENERATORS, checked, states, self._generators, self._drawing
            )
        return State({name: self._array(name) for name in self._wanted}, states)

    def extra(self):
        """Name -> array, or the value from JSON."""
        extra = self._object(EXTRA) if EXTRA in self._texts else {}
        for name in self._extras:
            key = name.removeprefix(f"{EXTRA}.")
            if key in extra:
                raise self._source.refused("it comes twice", name)
            extra[key] = self._array(name)
        return extra

    def _sort_names(self):
        """ValueError for names that come twice, are missing or are unknown."""
        names, compared = set(), set()
        for name in self._file.names():
            if name in names:
                raise self._source.refused("it comes twice", name)
            names.add(name)
            kind = name.partition(".")[0]
            if kind == LAST:
                self.has_last = True
            elif name == EXTRA or name == GENERATORS and (self._generators or self._has_optimizer):
                self._texts.append(name)
            elif kind == EXTRA:
                self._extras.append(name)
            elif name != GENERATORS and (kind != OPTIMIZER or self._has_optimizer):
                compared.add(name)
        if not self._any:
            checks.same_names(str(self._source.path), compared, self._wanted, self._owner)

    def _check_wanted(self, name, found):
        like = self._wanted[name]
        if isinstance(found.dtype, str):
            hint = f": {PICKLED}" if "O" in found.dtype else ""
            raise TypeError(
                f"{self._label(name)} must be {like.dtype} like {self._owner}, got "
                f"{checks.shown(found.dtype)}{hint}"
            )
        checks.like(self._label(name), found, like, self._owner)

    def _check_extra(self, name, found):
        dtype, shape = found.dtype, found.shape
        if isinstance(dtype, str) or dtype.kind not in "biuf":
            raise TypeError(
                f"{self._label(name)} must be an array of numbers, got dtype {checks.shown(dtype)}"
            )
        self._source.take(math.prod(shape) * dtype.itemsize, name)
        try:
            checks.fits(
                dtype.itemsize, *shape
            )  # NumPy cannot make a larger array, even without elements
        except ValueError:
            raise self._source.refused(f"its shape overflows an address: {shape}", name) from None

    def _check_text(self, name, found):
        length = objects.length_of(self._label(name), found)
        if name == EXTRA:
            if not self._file.counts_texts:
                self._source.take(2 * length, name)  # the text, and the strings in it
        elif length > longest_text(self._generators):
            raise self._source.refused(
                f"it has {length} characters, more than the states of the parts' generators: do "
                f"they lack {_LOAD_ALL}",
                name,
            )

    def _object(self, name):
        """The object of a text, which is JSON."""
        text = self._file.text(name)
        if name == EXTRA and not self._file.counts_texts:
            self._source.take(max(0, memory_of(text) - 2 * len(text)), name)
        return objects.read(self._source, name, text)

    def _array(self, name):
        array = self._file.array(name)
        if array.dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
            raise self._source.refused("its flags must be bytes 0 and 1", name)
        return array

    def _label(self, name):
        return f"{checks.shown(name)} of {self._source.path}"


class Within:
    """The arrays and texts of a file whose names begin with `prefix`, by the rest of their names.

    It is read as the file is.
    """

    def __init__(self, file, prefix):
        self._file, self._prefix = file, prefix
        self.counts_texts = file.counts_texts

    def names(self):
        for name in self._file.names():
            if name.startswith(self._prefix):
                yield name.removeprefix(self._prefix)

    def describe(self, names):
        for name, found in self._file.describe([self._prefix + name for name in names]):
            yield name.removeprefix(self._prefix), found

    def array(self, name):
        return self._file.array(self._prefix + name)

    def text(self, name):
        return self._file.text(self._prefix + name)
