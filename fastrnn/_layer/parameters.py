"""Parameters by name, each a view into one flat buffer; assignment copies into the buffer.

An owner keeps one buffer for its life, because optimizers, views and tapes refer to it. So a value
that is assigned to `flat`, to `params` or to a name in `params` is copied into the buffer, after a
check of its name, shape and dtype. The owners are layers, the parts of fastrnn.train and the
gradients of a tape.

It must not know: cells, the names of parameters.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn._typing import Floats

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
    from typing import Any, NoReturn

    from fastrnn._typing import Source, Values


# The text beside the arrays in a file of `fastrnn.save`. NumPy gives it with an .npz's arrays.
DESCRIPTION = "fastrnn"


def size_of(shapes):
    """The number of elements of all parameters; shapes is a dict from names to shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def views_of(flat, shapes):
    """Name -> view into flat; the parameters lie one after another."""
    views, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = flat[at : at + size].reshape(shape)
        at += size
    return views


def _array_of(name, value):
    """The value as an array of float32 or float64; it may be a tensor of PyTorch."""
    if not hasattr(value, "detach"):
        return checks.as_array(name, value)
    try:
        array = value.detach().cpu().numpy()
        if array.dtype in checks.DTYPES:
            return array
    except (TypeError, RuntimeError):  # NumPy has no such dtype, or the tensor has no data
        pass
    raise TypeError(
        f"{name} must be an array of float32 or float64, got a tensor of {value.dtype}: "
        "convert it, for example with .float()"
    )


def copy_into(targets, values, flat):
    """Copy each value into the array of its name, all of them or none.

    targets : dict from names to views into `flat`. values : dict from some of these names to
    arrays.

    Raises
    ------
    ValueError, TypeError
        For a value of another shape or dtype; nothing is copied then.
    """
    checked = {}
    for name, value in values.items():
        target = targets[name]
        if value is target:
            continue  # params[name] -= step changes the view and then assigns it
        if isinstance(value, int | float | np.number):
            whole = name if target is flat else f"params[{name!r}]"
            raise ValueError(
                f"{name} must be an array of shape {target.shape}, got {value!r}: to fill all of "
                f"it use {whole}[...] = {value!r}"
            )
        array, owner = _array_of(name, value), "the parameters"
        checks.same_dtype(name, array, flat.dtype, owner, value)
        checked[name] = checks.shaped(name, array, None, target.shape)
    for name, array in checked.items():
        if np.may_share_memory(array, flat):  # copying the other values would change this one
            checked[name] = array.copy()
    for name, array in checked.items():
        targets[name][...] = array


class Parameters(MutableMapping[str, Floats]):
    """Parameters by name: a mapping whose arrays are views into one buffer.

    Assignment copies into the view: `params["bias_hh_l0"] = np.zeros(64, "float32")`.
    `params.update(...)` copies several arrays at once. Names cannot be added or removed. A copy, a
    pickle, `params | other` and `dict(params)` are dicts. In a deep copy and a pickle the arrays
    are copies, in the others they are the views.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.RNN(3, 4, rng=0)
    >>> layer.params["bias_hh_l0"] = np.arange(4, dtype="float32")
    >>> layer.flat[-4:]
    array([0., 1., 2., 3.], dtype=float32)
    >>> list(layer.params)
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """

    __slots__ = ("_arrays", "_flat")

    def __init__(self, arrays, flat):
        self._arrays = arrays
        self._flat = flat

    def __getitem__(self, name: str) -> Floats:
        try:
            return self._arrays[name]
        except KeyError:
            names = ", ".join(self._arrays)
            raise KeyError(f"no parameter is called {name!r}; their names are {names}") from None

    def __len__(self) -> int:
        return len(self._arrays)

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._arrays)

    def keys(self) -> KeysView[str]:
        return self._arrays.keys()

    def values(self) -> ValuesView[Floats]:
        return self._arrays.values()

    def items(self) -> ItemsView[str, Floats]:
        return self._arrays.items()

    def copy(self) -> dict[str, Floats]:
        """A dict of the views.

        Examples
        --------
        >>> import fastrnn
        >>> sorted(fastrnn.RNN(3, 4, bias=False).params.copy())
        ['weight_hh_l0', 'weight_ih_l0']
        """
        return dict(self._arrays)

    def __setitem__(self, name: str, value: Values) -> None:
        self.update({name: value})

    def update(
        self, other: Mapping[str, Values] | Iterable[tuple[str, Values]] = (), /, **named: Values
    ) -> None:
        """Copy arrays, by name, into the views: all of them or none.

        Parameters
        ----------
        other : mapping, or pairs of a name and an array
        **named : arrays

        Raises
        ------
        KeyError
            For unknown names.
        ValueError, TypeError
            For other shapes and dtypes.

        Examples
        --------
        >>> import numpy as np
        >>> import fastrnn
        >>> layer, zeros = fastrnn.RNN(3, 4, rng=0), np.zeros(4, "float32")
        >>> layer.params.update(bias_ih_l0=zeros, bias_hh_l0=zeros)
        >>> bool(layer.flat[-8:].any())
        False
        """
        values = dict(other, **named)
        unknown = [name for name in values if name not in self._arrays]
        if unknown:
            raise KeyError(
                f"no parameter is called {', '.join(map(repr, unknown))}; their names are "
                f"{', '.join(self._arrays)}, and no other can be added"
            )
        copy_into(self._arrays, values, self._flat)

    def setdefault(self, name: str, default: Values | None = None) -> Floats:
        """The view of that name; names cannot be added.

        Parameters
        ----------
        name : str
        default : ignored
            KeyError is raised for an unknown name, whatever the default.

        Examples
        --------
        >>> import fastrnn
        >>> fastrnn.RNN(3, 4).params.setdefault("weight_ih_l0").shape
        (4, 3)
        """
        if name not in self._arrays:
            self.update({name: default})  # raises KeyError
        return self._arrays[name]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._arrays | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._arrays

    def __ior__(self, other: Mapping[str, Values] | Iterable[tuple[str, Values]]) -> Parameters:
        self.update(other)
        return self

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            "parameters cannot be removed, because each is a part of one buffer: "
            "dict(params) is a dict of your own"
        )

    __delitem__ = pop = popitem = clear = _refuse

    def __reduce__(self):
        return dict, (self._arrays,)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {array.shape}" for name, array in self._arrays.items())
        return f"Parameters of {self._flat.dtype}: {{{shapes}}}"


class Buffer:
    """The base of owners of parameters: `flat` is the buffer, `params` has its views by name."""

    _derived = frozenset({"_arrays", "_params"})  # copies and pickles compute these

    def _hold(self, flat, shapes):
        self._shapes = shapes
        self._flat = flat
        self._derive()

    def _derive(self):
        """Set the attributes in `_derived`; their views are into this object's buffer."""
        self._arrays = views_of(self._flat, self._shapes)
        self._params = Parameters(self._arrays, self._flat)

    @property
    def flat(self) -> Floats:
        """The buffer of all parameters. Assignment copies into it."""
        return self._flat

    @flat.setter
    def flat(self, value: Values) -> None:
        copy_into({"flat": self._flat}, {"flat": value}, self._flat)

    @property
    def params(self) -> Parameters:
        """The parameters by name. Assignment copies from a mapping, which must have every name."""
        return self._params

    @params.setter
    def params(self, value: Source) -> None:
        if value is not self._params:
            copy_into(self._arrays, self._named(value, ""), self._flat)

    def _named(self, params, prefix):
        """A dict of exactly these names, from a mapping or an object with a `state_dict`."""
        if callable(getattr(params, "state_dict", None)):
            params = params.state_dict()
        if not hasattr(params, "keys"):
            raise TypeError(
                "params must be a mapping from names to arrays or have a state_dict, got "
                f"{type(params).__name__}: of a layer give layer.params"
            )
        keys = {str(key): key for key in params.keys()}  # noqa: SIM118 - not all iterate over keys
        names = {name[len(prefix) :] for name in keys if name.startswith(prefix)}
        names.discard(DESCRIPTION)
        if names != set(self._arrays):
            raise ValueError(self._other_names(names, prefix))
        return {name: params[keys[prefix + name]] for name in self._arrays}

    def _other_names(self, names, prefix):
        missing = ", ".join(name for name in self._arrays if name not in names) or "none"
        unknown = ", ".join(sorted(names - set(self._arrays))) or "none"
        first = next(iter(self._arrays))
        longer = {name.removesuffix(first) for name in names if name.endswith(first)}
        hint = "compare the arguments of both objects"
        if len(longer) == 1 and "" not in longer:
            hint = f"use prefix={prefix + longer.pop()!r}"
        elif names and not prefix and names.isdisjoint(self._arrays):
            hint = "names of another system? Give its arrays the names and shapes of params"
        behind = f" behind {prefix!r}" if prefix else ""
        return (
            f"params must have the names of {type(self).__name__}.params{behind}: missing are "
            f"{missing}; unknown are {unknown}: {hint}"
        )

    def __getstate__(self):
        return {name: v for name, v in self.__dict__.items() if name not in self._derived}

    def __setstate__(self, state):
        checks.align(state["_flat"])
        self.__dict__.update(state)
        self._derive()


class Trainable(Buffer):
    """A `Buffer` whose owner has sizes and options that cannot change."""

    _fixed = frozenset()  # attributes that cannot change: the parameters follow from them

    def load(self, params: Source, prefix: str = "") -> None:
        """Copy parameters from a mapping of arrays, or from a PyTorch module.

        Parameters
        ----------
        params : mapping from names to arrays, or an object with a `state_dict` method
            All names of `self.params` and no others, with arrays or tensors of their shapes and
            dtype. They may be views into this object's own buffer.
        prefix : str
            The beginning of the names: `prefix="encoder."` takes `encoder.weight_ih_l0`. Names that
            do not begin with it are left out.

        Raises
        ------
        ValueError
            For names or shapes that do not fit.
        TypeError
            For another dtype. After an error all parameters are unchanged.

        Examples
        --------
        >>> import fastrnn
        >>> one, other = fastrnn.GRU(3, 5, rng=0), fastrnn.GRU(3, 5, rng=1)
        >>> other.load(one.params)
        >>> other.load({"gru." + name: array for name, array in one.params.items()}, "gru.")
        >>> bool((one.flat == other.flat).all())
        True
        """
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a text, got {type(prefix).__name__}")
        copy_into(self._arrays, self._named(params, prefix), self._flat)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to assign parameters and fixed attributes, because this would change no result."""
        if "_flat" in self.__dict__:
            kind = type(self).__name__
            if name in self._fixed:
                raise AttributeError(
                    f"{name} cannot be changed after {kind} was made: make another {kind}, "
                    "and copy the parameters that fit with load"
                )
            if name in self._shapes:
                raise AttributeError(
                    f"{name} is a parameter, not an attribute: use params[{name!r}] = value"
                )
        super().__setattr__(name, value)
