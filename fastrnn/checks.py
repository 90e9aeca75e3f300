"""Checks of arguments, with their messages. The kernels can read the arrays that are returned.

A message names the argument, what was expected in symbols and numbers, what came, and the likely
fix. Shapes and values raise ValueError, dtypes TypeError. An array of floats keeps its dtype; it is
copied only if the kernels cannot read it. Ids, lengths and flags are copied once, ids and lengths
as int64, flags as bytes 0 and 1.
"""

import importlib
import operator
import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

_INT64 = np.dtype(np.int64)

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

# Sizes beyond this overflow an address. C checks the products that it computes itself.
_LIMIT = 2**62


def _cast(name, value, dtype):
    """The code of a cast of the value to dtype, for a message."""
    named = name if name.isidentifier() else ""
    if hasattr(value, "detach"):  # a tensor of PyTorch
        return f"{named}.{'double' if dtype == np.float64 else 'float'}()"
    if hasattr(value, "dtype") or hasattr(value, "astype"):
        return f'{named}.astype("{dtype}")'
    return f'numpy.asarray({named or "..."}, "{dtype}")'


def unmasked(**arrays):
    """TypeError if one of these is a masked array, because NumPy would silently ignore the mask."""
    for name, value in arrays.items():
        parts = value if isinstance(value, list | tuple) else (value,)
        if any(_is_masked(part) for part in parts):
            filled = f"{name if name.isidentifier() else ''}.filled(value)"
            raise TypeError(
                f"{name} must be an array without a mask, got a masked array: use {filled}, and "
                "lengths=, mask= or weights= for elements that do not count"
            )


def _is_masked(value):
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return False
    return isinstance(value, np.ma.MaskedArray)  # np.ma: NumPy imports it on first use


def plain(name, value, make=np.asarray):
    """The array make(value); TypeError for masked arrays, and for tuples and mappings of arrays."""
    if type(value) is not np.ndarray:
        unmasked(**{name: value})
        if isinstance(value, Mapping) and any(isinstance(a, np.ndarray) for a in value.values()):
            raise TypeError(
                f"{name} must be one array, got {type(value).__name__}: take one of its arrays, or "
                "the `flat` of its owner"
            )
        if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
            got, fields = f"a tuple of {len(value)}", getattr(value, "_fields", None)
            hint = "a layer returns (y, state), and an LSTM's state is (h, c): take one of them"
            if fields:
                got, hint = type(value).__name__, f"take one of its fields, {', '.join(fields)}"
            raise TypeError(f"{name} must be one array, got {got}: {hint}")
    return make(value)


def converted(name, value, wanted, make=np.asarray):
    """The array of `plain`. A ValueError of NumPy, as for unequal lists, gets name and `wanted`."""
    try:
        return plain(name, value, make)
    except ValueError as error:
        raise ValueError(f"{name} must be {wanted}: {error}") from None


def as_array(name, value, dtype="float32"):
    """An ndarray of float32 or float64 in the machine's byte order, else TypeError.

    dtype : the one that the message proposes.
    """
    array = converted(name, value, "an array of float32 or float64")
    if array.dtype in DTYPES:
        return array
    got, fix = f"dtype {array.dtype}", f"convert it, for example with {_cast(name, value, dtype)}"
    if array.dtype == object and not isinstance(value, np.ndarray):
        got = type(value).__name__
    elif array.dtype == object:
        fix = "it has rows of unequal length, or elements that are no numbers"
    raise TypeError(f"{name} must be an array of float32 or float64, got {got}: {fix}")


def of_dtype(name, value, dtype, owner="the weights"):
    """The array of `as_array`; TypeError unless it has this dtype."""
    return same_dtype(name, as_array(name, value, dtype), dtype, owner, value)


def same_dtype(name, array, dtype, owner="the weights", value=None):
    """TypeError unless the array has this dtype; value is what the user gave, if not the array."""
    if array.dtype != dtype:
        given = array if value is None else value
        raise TypeError(
            f"{name} must be {dtype} like {owner}, got {array.dtype}: "
            f"cast it with {_cast(name, given, dtype)}"
        )
    return array


def features(name, value, dtype, ids_are="one_hot=True or embedding="):
    """The value as an array of this dtype; the message for integers says how to pass ids."""
    if type(value) is np.ndarray and value.dtype == dtype:
        return value
    array = converted(name, value, "an array of float32 or float64")
    if array.dtype.kind in "iu":
        raise TypeError(
            f"{name} must be {dtype}, got {array.dtype}: cast it with {name}.astype('{dtype}'), "
            f"or, if these are ids, give {ids_are}"
        )
    return of_dtype(name, value, dtype)


EXCHANGED = "are batch and time exchanged in x?"


def _shape_text(symbols, numbers):
    if len(numbers) == 0:
        return "a single number"
    comma = "," if len(numbers) == 1 else ""
    text = f"({', '.join(map(str, numbers))}{comma})"
    return text if symbols is None else f"({', '.join(symbols)}{comma}) = {text}"


def shaped(name, array, symbols, numbers, hint=None):
    """ValueError unless the array has exactly this shape; symbols name the axes in the message."""
    if array.shape != tuple(numbers):
        hint = _hint_of_shape(array.shape, tuple(numbers)) if hint is None else hint
        raise ValueError(
            f"{name} must be {_shape_text(symbols, numbers)}, got {array.shape}"
            + (f": {hint}" if hint else "")
        )
    return array


def _hint_of_shape(got, wanted):
    """The likely fix of a shape, or None."""
    if (1, *got) == wanted:
        return "[None] adds the first axis"
    if sorted(map(str, got)) != sorted(map(str, wanted)):  # a size of any number is a text
        return None
    moved = [axis for axis, (n, of) in enumerate(zip(got, wanted, strict=True)) if n != of]
    if len(moved) != 2:
        return None
    axes = f"{moved[0]}, {moved[1]}"
    return "transposed?" if len(got) == 2 else f"two axes exchanged? swapaxes({axes}) fits"


def features_last(shape, features):
    """The end of a message about an x whose last axis has not these features."""
    if features not in shape[:-1] or len(shape) not in (2, 3):
        return ""
    axis = shape.index(features)
    return f": the features are the last axis; swapaxes({axis}, {len(shape) - 1}) fits"


def other_cell(gates, rows, hidden, recurrent=True):
    """A hint for a matrix with these rows, if they are the gates of another cell; else None."""
    cells = {1: "an RNN's", 3: "a GRU's or a coupled LSTM's", 4: "an LSTM's"}
    if not recurrent:
        cells = {2: "a MinGRU's", 3: "a MinLSTM's"}
    found, rest = divmod(rows, max(hidden, 1))
    if rest or found == gates or found not in cells or gates not in cells:
        return None
    of_found, of_own = (f"{n} gate{'s' * (n > 1)}, {cells[n]}" for n in (found, gates))
    return f"these are {of_found}; here are {of_own}"


def shown(name):
    """A text from a file or a user in a form for messages: of bounded length, on one line."""
    text = str(name)
    if len(text) > 100:
        text = text[:100] + "..."
    return text if text.isprintable() else ascii(text)


def module(name, user):
    """The optional module of this name; ModuleNotFoundError, which says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name not in (name, package):  # something else that the module needs
            raise
        raise ModuleNotFoundError(
            f"{user} needs {package}: pip install {package}", name=error.name
        ) from None


def no_layer(value, otherwise=""):
    """The end of a message about an object in the place of a layer: its class, and a way out.

    otherwise : the end for an object of no known kind, with its colon
    """
    name = type(value).__name__
    if hasattr(value, "state_dict"):
        name = f"{type(value).__module__}.{name}"
        return f"{name}: make a fastrnn layer of its sizes, and layer.load(module)"
    if hasattr(value, "precision"):
        return f"{name}: use the layer that was frozen"
    return f"{name}: use its .layer" if hasattr(value, "layer") else name + otherwise


def _listed(names, most=8):
    names = [shown(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def same_names(name, names, wanted, owner):
    """ValueError unless the names are those wanted."""
    if set(names) != set(wanted):
        missing = _listed([key for key in wanted if key not in names])
        unknown = _listed(sorted(str(key) for key in names if key not in wanted))
        raise ValueError(
            f"{name} must have the names of {owner}: missing are {missing}; unknown are {unknown}"
        )


def like(name, array, wanted, owner):
    """Return the array if it has the dtype and shape of `wanted`; no element is read."""
    same_dtype(name, array, wanted.dtype, owner)
    return shaped(name, array, None, wanted.shape)


def arrays_like(name, arrays, wanted, owner):
    """A dict of arrays with exactly the names, shapes and dtypes of `wanted`."""
    same_names(name, arrays, wanted, owner)
    return {
        key: like(f"{key} of {name}", plain(f"{key} of {name}", arrays[key]), of, owner)
        for key, of in wanted.items()
    }


def dense(array):
    """The array itself if it is C-contiguous and aligned, else such a copy."""
    return np.require(array, requirements=["C", "A"])


def rows(array):
    """The array itself if its last axis is contiguous, else a contiguous copy."""
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    itemsize = array.itemsize
    last_fits = array.shape[-1] <= 1 or array.strides[-1] == itemsize
    if last_fits and array.flags.aligned and all(s % itemsize == 0 for s in array.strides):
        return array
    fits(itemsize, *array.shape)
    return dense(array)


def output(name, out, symbols, shape, dtype):
    """TypeError or ValueError unless `out` is a writeable array of this shape and dtype."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(out).__name__}")
    of_dtype(name, out, dtype)
    shaped(name, out, symbols, shape)
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")


def has_rows(array):
    """Return whether kernels can write to an array: its rows are dense, aligned and separate."""
    if not (array.flags.aligned and array.dtype.isnative):
        return False
    *outer, row = zip(array.shape, array.strides, strict=True)
    extent = array.itemsize
    for size, stride in (row, *sorted(outer, key=lambda axis: abs(axis[1]))):
        if size > 1 and (abs(stride) < extent or (extent == array.itemsize and stride != extent)):
            return False
        extent = max(extent, size * abs(stride))
    return True


def align(value):
    """Give each unaligned array in `value`, also within tuples and lists, memory of its own.

    Only an array from a pickle can be unaligned, if its buffers were sent separately: Dask places
    them at any address. The array stays the same object, because other objects of that pickle, such
    as an optimizer, may refer to it.
    """
    if isinstance(value, tuple | list):
        for part in value:
            align(part)
    elif isinstance(value, np.ndarray) and not value.flags.aligned:
        # (the pickle's version, shape, dtype, whether in Fortran's order, bytes)
        value.__setstate__((1, value.shape, value.dtype, False, value.tobytes()))


def positive(name, value, least=1):
    """An int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if isinstance(value, bool) or not least <= number < _LIMIT:
        hint = ": it must be less than 2**62" if number >= _LIMIT else ""
        raise ValueError(f"{name} must be an integer of at least {least}, got {value}{hint}")
    return number


def real(name, value, wanted="a number"):
    """The value as a float; TypeError if it is no number, also for strings of digits."""
    try:
        if not isinstance(value, bool | np.bool_ | str | bytes | bytearray):
            return float(value)
    except OverflowError:  # an int larger than every float
        return np.inf if value > 0 else -np.inf
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")


def number(name, value, wanted, fits):
    """The value as a float for which fits(float) is true; `wanted` is the condition in words."""
    if np.ndim(value):
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")
    found = real(name, value, wanted)
    if not fits(found):
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return found


def exact(name, value, dtype, owner=None):
    """An array in `dtype`: the array itself, or a cast that changes no number.

    TypeError if the cast would change one.
    """
    array = plain(name, value)
    if array.dtype == dtype:
        return array
    wanted = f"{name} must be {dtype}" + (f" like {owner}" if owner else "")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{wanted}, or integers, got dtype {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
        if array.dtype.kind in "iu":  # beyond 2**62 the cast back could overflow
            changed = (array <= -(2**62)) | (array >= 2**62) | (cast.astype(np.int64) != array)
        else:
            changed = (cast != array) & (array == array)  # NaN stays NaN
    if changed.any():
        raise TypeError(
            f"{wanted}, or numbers that {dtype} holds exactly, got {array.dtype} with "
            f"{array[changed].flat[0]}: cast it with {_cast(name, array, dtype)}"
        )
    return cast


def integers(name, value, hint="", symbols=None, numbers=None):
    """A dense copy of an array of integers.

    The copy is made before the checks, because another thread may write to the user's array.
    symbols, numbers : the shape that the array must have; None for any.
    """
    array = converted(name, value, "integers", partial(np.array, order="C"))
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # NumPy converts an empty list to floats
    if array.dtype.kind not in "iu":
        kind = type(value).__name__ if array.dtype == object else f"dtype {array.dtype}"
        raise TypeError(f"{name} must be integers, got {kind}{hint}")
    return array if symbols is None else shaped(name, array, symbols, numbers)


def within(name, array, most, limit=""):
    """The integers as int64; ValueError unless all are from 0 to `most`."""
    flat = array.reshape(-1)
    # argmin and argmax are the quickest functions of NumPy for this.
    if flat.size and (flat.item(flat.argmin()) < 0 or flat.item(flat.argmax()) > most):
        outside = flat[(flat < 0) | (flat > most)]
        raise ValueError(f"{name} must be from 0 to {limit}{most}, got {outside[0]}")
    # Only this conversion turns C's other 64-bit integer, long long, into int64.
    return array if array.dtype is _INT64 else array.astype(np.int64)


def ids(name, value, count):
    """A dense int64 copy of integers from 0 to count - 1."""
    return within(name, integers(name, value), count - 1)


def flags(name, value):
    """The value as an array of booleans, not copied."""
    array = converted(name, value, "booleans")
    if array.dtype != np.bool_:
        kind = type(value).__name__ if array.dtype == object else f"dtype {array.dtype}"
        raise TypeError(f"{name} must be booleans, got {kind}: use {name} != 0")
    return array


def own_flags(array):
    """A dense copy of booleans, with bytes 0 and 1; every byte but 0 is True, as in NumPy."""
    return np.not_equal(array.view(np.uint8), 0, order="C")


def fraction(name, value):
    """A float from 0 to 1."""
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return number


def generator(name, value):
    """The numpy.random.Generator itself, or a new one from a seed, which is random for None."""
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be None, an integer from 0 or a numpy.random.Generator, got {value!r}"
        ) from None


def choice(name, value, allowed, elsewhere=MappingProxyType({})):
    """Return the value if it is one of the allowed strings.

    elsewhere : names of other systems in small letters -> the allowed one, for the message
    """
    if not isinstance(value, str) or value not in allowed:
        got = repr(value) if isinstance(value, str) else shown(repr(value))
        hint = _nearest(value, allowed, elsewhere) if isinstance(value, str) else None
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {got}"
            + (f": did you mean {hint!r}?" if hint else "")
        )
    return value


def _nearest(value, allowed, elsewhere):
    """The allowed string that is most like the value, or None."""
    value = value[:100].lower()
    if value in elsewhere:
        return elsewhere[value]
    likely = get_close_matches(value, [name for name in allowed if isinstance(name, str)], n=1)
    return likely[0] if likely else None


def flag(name, value):
    """The value as a bool; TypeError unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def not_told_twice(options, names):
    """TypeError for options of a layer that its arrays tell already."""
    for name in names:
        if name in options:
            raise TypeError(f"{name} follows from the arrays, got {options[name]!r}: leave it out")


def path(name, value, other=None):
    """The value as a Path; TypeError unless it is a str or a path of one.

    other : the next argument, which is the path if the two are exchanged
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(text, str):
        hint = f": the {name} comes first" if isinstance(other, str | os.PathLike) else ""
        raise TypeError(f"{name} must be a str or a pathlib.Path, got {type(text).__name__}{hint}")
    return Path(text)


def dtype(value):
    """A NumPy dtype, float32 or float64."""
    try:
        found = None if value is None else np.dtype(value)  # NumPy takes None for float64
    except (TypeError, ValueError, SyntaxError):  # NumPy parses strings
        found = None
    if found is None or found not in DTYPES:
        raise TypeError(f"dtype must be float32 or float64, got {value!r}")
    return found


@lru_cache(256)
def fits(itemsize, *sizes):
    """ValueError if the product of these sizes is more than memory can address."""
    total = itemsize
    for size in sizes:
        total *= size or 1
    if total >= _LIMIT:
        raise ValueError(
            f"sizes {' * '.join(map(str, sizes))} overflow the memory that can be addressed: "
            "use smaller sizes or fewer steps at a time"
        )


def weights(cell, w_ih, w_hh, b_ih, b_hh, w_hr=None):
    """w_ih, w_hh, b_ih and b_hh, dense, of one dtype and with shapes that agree.

    w_hr : a checked (proj_size, hidden_size) array, or None. With it w_hh has proj_size columns.
    """
    w_ih = as_array("w_ih", w_ih)
    g = "" if cell.gates == 1 else f"{cell.gates}*"
    if not cell.recurrent:
        return _weights_of_x(cell, w_ih, g, w_hh, b_ih, b_hh)
    w_hh = as_array("w_hh", w_hh)
    same_dtype("w_hh", w_hh, w_ih.dtype, "w_ih")
    for name, array in (("w_ih", w_ih), ("w_hh", w_hh)):
        _matrix(name, array, g)
    hidden, features = min(w_hh.shape), "hidden_size"
    if w_hr is not None:
        hidden, features = w_hr.shape[1], "proj_size"
    if hidden < 1:
        raise ValueError(f"w_hh must have at least one hidden unit, got {w_hh.shape}")
    gate_rows = cell.gates * hidden
    of_h = hidden if w_hr is None else len(w_hr)
    other = other_cell(cell.gates, len(w_hh), w_hh.shape[1]) if w_hr is None else None
    shaped("w_hh", w_hh, (f"{g}hidden_size", features), (gate_rows, of_h), other)
    inputs = w_ih.shape[1]
    hint = "transposed?" if w_ih.shape[1] == gate_rows else None
    if w_ih.shape[0] != gate_rows:
        shaped("w_ih", w_ih, (f"{g}hidden_size", "input_size"),
               (gate_rows, w_ih.shape[0] if hint else inputs), hint)  # fmt: skip
    biases = []
    for name, bias in (("b_ih", b_ih), ("b_hh", b_hh)):
        if bias is not None:
            bias = of_dtype(name, bias, w_ih.dtype)
            bias = dense(shaped(name, bias, (f"{g}hidden_size",), (gate_rows,)))
        biases.append(bias)
    return dense(w_ih), dense(w_hh), *biases


def _matrix(name, array, g):
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix with {g}hidden_size rows, got {array.shape}")


def _weights_of_x(cell, w_ih, g, w_hh, b_ih, b_hh):
    """Like `weights`, for a cell without a product with h: w_ih, None, b_ih, None."""
    if w_hh is not None or b_hh is not None:
        raise ValueError(f"w_hh and b_hh must be None for {cell.function}, which has no W_hh")
    _matrix("w_ih", w_ih, g)
    if len(w_ih) == 0:
        raise ValueError(f"w_ih must have at least one hidden unit, got {w_ih.shape}")
    if len(w_ih) % cell.gates:
        raise ValueError(f"w_ih must be ({g}hidden_size, input_size), got {w_ih.shape}")
    if b_ih is not None:
        b_ih = of_dtype("b_ih", b_ih, w_ih.dtype)
        b_ih = dense(shaped("b_ih", b_ih, (f"{g}hidden_size",), w_ih.shape[:1]))
    return dense(w_ih), None, b_ih, None


def sequence(name, value, dtype, input_size):
    """x as a (T, B, input_size) array that the kernels can read."""
    x = features(name, value, dtype)
    if x.ndim != 3:
        hint = f": for one sequence use {name}[:, None, :]" if x.ndim == 2 else ""
        raise ValueError(f"{name} must be (T, B, input_size), three axes, got {x.shape}{hint}")
    if x.shape[2] != input_size:
        raise ValueError(
            f"{name} must be (T, B, input_size) with input_size = {input_size}, got {x.shape}"
            + features_last(x.shape, input_size)
        )
    return rows(x)


def state(cell, value, batch, sizes, dtype, name="state"):
    """A state as a tuple of (B, size) arrays, h or h and c. None becomes zeros, also in a pair.

    sizes : the features of h and, for the LSTM, of c.
    """
    parts = gradient_of_state(cell, value, batch, sizes, dtype, name)
    return tuple([
        np.zeros((batch, size), dtype) if part is None else part
        for part, size in zip(parts, sizes, strict=True)
    ])  # fmt: skip


def gradient_of_state(cell, value, batch, sizes, dtype, name):
    """Like `state`, but None in it stays None."""
    fits(dtype.itemsize, batch, *sizes[:1])
    parts = [None for _ in cell.states] if value is None else state_parts(cell, value, name)
    checked = []
    for label, part, size in zip(cell.states, parts, sizes, strict=True):
        symbol = "hidden_size" if size == sizes[-1] else "proj_size"
        label = name if len(cell.states) == 1 else f"{label} of {name}"
        part = optional(label, part, (batch, size), ("B", symbol), dtype)
        checked.append(None if part is None else dense(part))
    return tuple(checked)


def state_parts(cell, value, name="state"):
    """The arrays of a state: h alone, or the pair (h, c)."""
    if len(cell.states) == 1:
        if isinstance(value, tuple):
            raise ValueError(
                f"{name} must be one array h, got a tuple of {len(value)}: "
                "only the LSTM has a pair (h, c)"
            )
        return (value,)
    if not isinstance(value, tuple | list) or len(value) != 2:
        got = f"{len(value)} of them" if isinstance(value, tuple | list) else type(value).__name__
        raise ValueError(f"{name} must be a pair (h, c) of arrays for the LSTM, got {got}")
    return tuple(value)


def some_gradient(message, *gradients):
    """ValueError if all are None or pairs of None: zeros as a result would hide the mistake.

    message : what to give instead
    """
    if all(gradient is None or _is_pair_of_none(gradient) for gradient in gradients):
        raise ValueError(message)


def _is_pair_of_none(value):
    return isinstance(value, tuple | list) and len(value) == 2 and value[0] is value[1] is None


def optional(name, value, shape, symbols, dtype, hint=None):
    """The value as an array of this shape and dtype; None, which stands for zeros, stays None."""
    if value is None:
        return None
    array = of_dtype(name, value, dtype)
    return shaped(name, array, symbols, shape, hint)
