"""The layers of an open file, checked so that a stranger's file can do no harm.

Names are compared first, then the description, dtypes and shapes. Then memory is taken for the
layers, and elements are read.

It must not know: formats.
"""

import contextlib

import numpy as np

from fastrnn._files import objects
from fastrnn._files.sources import Limit
from fastrnn._files.texts import memory_of
from fastrnn._weights import description, names
from fastrnn._weights.plan import planned
from fastrnn.checks import shown

LIMIT = Limit(
    names=2**25,
    extra=0,
    reason="its names take more than 32 MiB of memory: save the recurrent layers in a file of "
    "their own",
)

# Layers may take _PACKED times the bytes of the file, and _SMALL bytes in any case. Without this
# limit a small file could fill the memory, because deflate packs a thousand zeros into a byte.
_PACKED, _SMALL = 100, 2**20


class WeightContents:
    """The layers behind a prefix: `plans`, then `filled` for each.

    source, file : the `sources.Source`, and the `Npz` or `Tensors` that reads it

    Attributes
    ----------
    single : bool
        True if there is one layer, at the prefix itself. Its name is "" then.
    """

    def __init__(self, source, file, prefix):
        self._source, self._file = source, file
        found = self._names()
        described = found.pop(description.NAME, False)
        every = names.prefixes(found)
        with self._named():
            chosen, self.single = names.chosen(every, prefix)
            arrays = names.parameters(found, every)
        self._prefixes = {names.layer_name(each.removeprefix(prefix)): each for each in chosen}
        self._arrays = {name: arrays[each] for name, each in self._prefixes.items()}
        wanted = [array for own in self._arrays.values() for array in own.values()]
        self._headers = dict(file.describe(wanted + [description.NAME] * described))
        self._described = {}
        if described:
            layers = [names.layer_name(each) for each in every]
            self._described = objects.said(
                source, description.NAME, description.checked, self._description(), layers
            )

    def plans(self, given):
        """Name of a layer -> `Plan`, which fits the file's arrays and the limit of memory.

        In the order of the description, because files of safetensors have an order of their own.
        """
        order = {name: place for place, name in enumerate(self._described)}
        chosen = sorted(self._prefixes, key=lambda name: order.get(self._own_name(name), 0))
        plans = {name: self._plan(name, given) for name in chosen}
        most = _PACKED * self._source.size + _SMALL
        needed = sum(plan.nbytes for plan in plans.values())
        if needed > most:
            raise self._source.refused(
                f"its layers take {needed} bytes of memory, more than {_PACKED} times the file's: "
                "save it without compression"
            )
        return plans

    def filled(self, name, layer):
        """The layer, whose parameters now have the values of the file."""
        for parameter, array in self._arrays[name].items():
            try:
                with np.errstate(over="raise", invalid="ignore"):
                    layer.params[parameter][...] = self._file.array(array)
            except FloatingPointError:
                raise self._source.refused(
                    f"it has a number that {layer.dtype} does not hold", array
                ) from None
        return layer

    def _plan(self, name, given):
        found = {key: self._headers[array] for key, array in self._arrays[name].items()}
        own = self._own_name(name)
        label = f"{f'layer {shown(own)!r} of ' if own else ''}{self._source.path}"
        return planned(label, found, self._described.get(own), given)

    def _own_name(self, name):
        """The name that a layer has in the file, where the prefix is a part of it."""
        return names.layer_name(self._prefixes[name])

    def _names(self):
        """The names of all arrays and texts, as keys of a dict, which keeps their order."""
        found = {}
        for name in self._file.names():
            if name in found:
                raise self._source.refused("it comes twice", name)
            found[name] = True
        return found

    @contextlib.contextmanager
    def _named(self):
        """Add the file's name to a ValueError."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self._source.path}: {error}") from None

    def _description(self):
        """The object of the description."""
        source, name, counted = self._source, description.NAME, self._file.counts_texts
        length = objects.length_of(f"{name} of {source.path}", self._headers[name])
        if not counted:
            source.take_for_names(2 * length, name)
        text = self._file.text(name)
        if not counted:
            source.take_for_names(max(0, memory_of(text) - 2 * length), name)
        return objects.read(source, name, text)
