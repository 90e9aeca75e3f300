"""Flat passes: one direction on plain arrays, with a tape that is one array of bytes.

A tape has a header and sections. The header has the sizes and options that `run_backward` needs
beyond the user's arrays. The sections are lengths, masks, resets, dropout masks, and the kernels'
own tape. Every section begins at a multiple of 64 bytes from the tape's begin, and a tape has no
address in it: the user may copy, move and store it. Every byte is written, so equal calls give
equal tapes. A tape may come from a stranger: `read` compares every size in it with the sizes of the
arrays. The other bytes are values of gates and masks, and no address is computed from them.

It must not know: what users call, layers.
"""

from typing import NamedTuple

import numpy as np

from fastrnn import _version, checks
from fastrnn._cells import options
from fastrnn._cells.registry import (
    CELLS,
    Cell,
    kernel_gradients,
    kernel_weights,
    projected,
    variant,
    with_masks,
)
from fastrnn._engine import ids, ragged, runtime
from fastrnn._engine.dropout_masks import DropoutMasks
from fastrnn._engine.passes import (
    BackwardBuffers,
    DirectionCall,
    gradient_of,
    run_passes,
    run_passes_backward,
)

_ALIGN = 64
_MAGIC, _FORMAT = b"frnntape", 1
_X = ("features", "one_hot", "embedding")  # the kinds of x
_DTYPES = {dtype.name.encode(): dtype for dtype in checks.DTYPES}
_MOST_STEPS = _MOST_BYTES = 2**62  # the most steps between checkpoints; bytes of a tape or y

_HEADER = np.dtype({
    "names": [
        "magic", "format", "by_kernels", "writer", "cell", "dtype", "steps", "batch", "input",
        "hidden", "features", "vocabulary", "checkpoint", "x", "reverse", "lengths", "mask",
        "reset", "to_initial", "recurrent_mask", "zoneout_masks", "checksums", "options",
    ],
    "formats": [
        "S8", "u4", "u1", "S48", "S16", "S8", "i8", "i8", "i8",
        "i8", "i8", "i8", "i8", "u1", "u1", "u1", "u1",
        "u1", "u1", "u1", "u1", "S192", "S512",
    ],
})  # fmt: skip
_HEADER_BYTES = -(-_HEADER.itemsize // _ALIGN) * _ALIGN


class Flat(NamedTuple):
    """The checked arguments of a pass on plain arrays.

    cell : the cell with its options. x : (T, B, I) array or `Ids`. state : tuple of (B, H) arrays.
    parameters : w_ih, w_hh, b_ih, b_hh and the cell's extras. rows : `ragged.Rows` or None.
    masks : `DropoutMasks`, its rows not sorted, or None.
    checkpoint : 0, or the number of steps between two checkpoints of the tape.
    """

    cell: Cell
    x: np.ndarray | ids.Ids
    state: tuple
    parameters: tuple
    reverse: bool = False
    rows: ragged.Rows | None = None
    masks: DropoutMasks | None = None
    checkpoint: int = 0


class Sizes(NamedTuple):
    """The sizes and flags that determine the size of a tape.

    features : of h, proj_size or hidden_size. lengths to zoneout_masks : whether the tape has them.
    """

    cell: Cell
    dtype: np.dtype
    steps: int
    batch: int
    hidden: int
    features: int
    checkpoint: int
    lengths: bool
    mask: bool
    reset: bool
    recurrent_mask: bool
    zoneout_masks: bool


def sizes_of(f):
    """The `Sizes` of a pass's tape."""
    hidden, masks = len(f.parameters[0]) // f.cell.gates, f.masks or DropoutMasks(None, ())
    has = [f.rows is not None and getattr(f.rows, name) is not None
           for name in ("lengths", "mask", "reset")]  # fmt: skip
    return Sizes(
        f.cell, f.parameters[0].dtype, *f.x.shape[:2], hidden, f.state[0].shape[1], f.checkpoint,
        *has, masks.recurrent is not None, bool(masks.zoneout),
    )  # fmt: skip


def _sections(s, by_kernels):
    """Name -> (dtype, shape) of each section of a tape of these sizes, in the tape's order."""
    flags, states = (s.steps, s.batch), range(len(s.cell.states))
    there = {}
    if s.lengths:
        there["lengths"] = np.dtype(np.int64), (s.batch,)
    there |= {n: (np.dtype(np.uint8), flags) for n in ("mask", "reset") if getattr(s, n)}
    if s.recurrent_mask:
        there["recurrent_mask"] = s.dtype, (s.batch, s.features)
    if s.zoneout_masks:
        there |= {f"zoneout_{i}": (s.dtype, (*flags, s.hidden)) for i in states}
    if by_kernels:
        there["kernels"] = np.dtype(np.uint8), (bytes_of_kernels(s),)
    return there


def bytes_of_kernels(s):
    """Bytes of the kernels' section of a tape: proportional to T * B."""
    masked = s.recurrent_mask or s.zoneout_masks
    cell = with_masks(s.cell) if masked else s.cell
    of_kernels = runtime.core.Sizes(
        cell.index, s.dtype, s.steps, s.batch, 0, s.hidden, checkpoint=s.checkpoint,
        projected=s.features if s.cell.projects else 0,
    )  # fmt: skip
    return of_kernels.tape - runtime.core.ALIGN


def _padded(nbytes):
    return -(-nbytes // _ALIGN) * _ALIGN


def _bytes_of(dtype, shape):
    nbytes = dtype.itemsize
    for size in shape:
        nbytes *= size
    return nbytes


def size_of(s, by_kernels=None):
    """Bytes of a tape; ValueError if the tape, or y, would have more than can be addressed.

    by_kernels : whether the kernels write the tape; None stands for this thread's backend.
    """
    by_kernels = runtime.uses_core() if by_kernels is None else by_kernels
    try:
        sections = _sections(s, by_kernels).values()
    except ValueError:  # a size of the kernels overflows
        raise _too_large(s) from None
    nbytes = _HEADER_BYTES + sum(_padded(_bytes_of(*section)) for section in sections)
    of_y = _bytes_of(s.dtype, (s.steps, s.batch, s.features))
    if max(nbytes, of_y) >= _MOST_BYTES:
        raise _too_large(s)
    return nbytes


def _too_large(s):
    return ValueError(
        f"a tape of T = {s.steps} steps and B = {s.batch} rows with hidden_size = {s.hidden} needs "
        "more bytes than can be addressed: use fewer steps or rows at a time"
    )


def _writer(by_kernels):
    return (runtime.writer() if by_kernels else f"fastrnn {_version.__version__}").encode()


# ---- forward -------------------------------------------------------------------------------------


def run(f, keep):
    """Run a pass forward -> y, the final state (a tuple), and its tape if keep, else None."""
    tape, kernels = _new_tape(f, sizes_of(f), runtime.uses_core()) if keep else (None, None)
    return *run_onto(f, kernels), tape


def run_onto(f, kernels):
    """Run a pass forward -> y, the final state (a tuple).

    kernels : an array of bytes that becomes the kernels' section of a tape, aligned to 64 bytes, or
        None. Without kernels it is not written.
    """
    dtype, sizes = f.parameters[0].dtype, sizes_of(f)
    checks.fits(dtype.itemsize, sizes.steps, sizes.batch, sizes.features)
    y = np.empty((sizes.steps, sizes.batch, sizes.features), dtype)
    last = tuple([np.empty((1, *s.shape), dtype) for s in f.state])
    if kernels is not None and _kernels_leave_gaps(sizes):
        kernels[...] = 0
    p = _direction_call(f, y, last, runtime.uses_core())._replace(tape=kernels)
    run_passes(f.cell, f.x, (p,), rows=f.rows, checkpoint=f.checkpoint)
    return y, tuple([s[0] for s in last])


def _direction_call(f, y, last, by_kernels):
    masks, weights = f.masks, None
    if by_kernels:
        weights = kernel_weights(f.cell if masks is None else with_masks(f.cell), f.parameters)
        sort_order = None if f.rows is None else f.rows.sort_order
        masks = masks if masks is None or sort_order is None else masks.sorted_by(sort_order)
    state = tuple([s[None] for s in f.state])
    return DirectionCall(f.reverse, 0, state, f.parameters, weights, y, last, None, masks)


def _new_tape(f, sizes, by_kernels):
    """A tape with everything but the kernels' section written, and that section or None."""
    nbytes = size_of(sizes, by_kernels)
    buffer = np.empty(nbytes + _ALIGN, np.uint8)
    begin = -buffer.ctypes.data % _ALIGN
    tape = buffer[begin : begin + nbytes]
    tape[:_HEADER_BYTES] = 0
    tape[: _HEADER.itemsize] = np.frombuffer(_header(f, sizes, by_kernels).tobytes(), np.uint8)
    values = {} if f.rows is None else {n: getattr(f.rows, n) for n in ("lengths", "mask", "reset")}
    if f.masks is not None:
        values["recurrent_mask"] = f.masks.recurrent
        values |= {f"zoneout_{i}": mask for i, mask in enumerate(f.masks.zoneout)}
    kernels = None
    for name, part, padding in _parts(tape, _sections(sizes, by_kernels)):
        padding[...] = 0
        if name == "kernels":
            kernels = part
        else:
            part[...] = values[name]
    return tape, kernels


def _kernels_leave_gaps(s):
    """Return whether the kernels leave some bytes of their section unwritten.

    Then the section is zeroed first. That takes up to a sixth of a forward pass, so it is not done
    otherwise.
    """
    padded_units = s.hidden * s.dtype.itemsize % _ALIGN > 0
    layer_norm = s.cell.options is not None and s.cell.options.layer_norm
    return padded_units or s.lengths or s.checkpoint > 0 or layer_norm


def _parts(tape, sections):
    """Yield the sections of a tape: name, the array, and the padding bytes behind it."""
    begin = _HEADER_BYTES
    for name, (dtype, shape) in sections.items():
        end = begin + _bytes_of(dtype, shape)
        part, begin = tape[begin:end], begin + _padded(end - begin)
        part = part if name == "kernels" else part.view(dtype).reshape(shape)
        yield name, part, tape[end:begin]


def _header(f, sizes, by_kernels):
    import json  # here, because an import of fastrnn should not wait for it

    given = {} if f.cell.options is None else f.cell.options.non_default()
    header = np.zeros((), _HEADER)
    values = sizes._asdict() | {
        "magic": _MAGIC, "format": _FORMAT, "by_kernels": by_kernels,
        "writer": _writer(by_kernels), "cell": f.cell.name, "dtype": sizes.dtype.name,
        "x": _kind_of_x(f.x), "input": f.x.shape[2], "vocabulary": _vocabulary_of(f.x),
        "reverse": f.reverse, "to_initial": f.rows is not None and f.rows.reset_to == "initial",
        "checksums": ",".join(_checksums(f.cell, f.state, f.parameters)),
        "options": json.dumps(given),
    }  # fmt: skip
    for name in _HEADER.names:
        header[name] = values[name]
    for name in "cell", "checksums", "options":
        assert header[name].item().decode() == values[name], f"{name} is longer than its field"
    return header


def _checksums(cell, state, parameters):
    """A text "name=checksum" for each bias and state; none for zeros, as for what is left out."""
    import zlib

    kinds = "b_ih", "b_hh", *(extra.kind for extra in cell.extras)
    named = [pair for pair in zip(kinds, parameters[2:], strict=True) if pair[0].startswith("b")]
    several = len(cell.states) > 1
    labels = [f"{name} of state" for name in cell.states] if several else ["state"]
    named += zip(labels, state, strict=True)
    given = [(name, array) for name, array in named if array is not None and array.any()]
    return [f"{name}={zlib.crc32(array):08x}" for name, array in given]


def _kind_of_x(x):
    if not isinstance(x, ids.Ids):
        return 0
    return 1 if x.embedding is None else 2


def _vocabulary_of(x):
    return x.vocabulary if isinstance(x, ids.Ids) else 0


# ---- backward ------------------------------------------------------------------------------------


class Header(NamedTuple):
    """The checked header of a tape: the arguments of its pass that are no arrays, and its sizes."""

    function: str
    cell: Cell
    x: str
    sizes: Sizes
    reverse: bool
    reset_to: str
    by_kernels: bool
    input: int
    vocabulary: int
    checksums: tuple


def read_header(tape):
    """The `Header` of a tape, and the tape as a dense array.

    Raises
    ------
    ValueError, TypeError
        If the value is no tape, or if another build wrote it.
    """
    tape = checks.converted("tape", tape, "a 1-D array of uint8")
    if tape.dtype != np.uint8:
        hint = ": use numpy.frombuffer(tape, 'uint8')" if tape.dtype.kind == "S" else ""
        raise TypeError(f"tape must be a 1-D array of uint8, got dtype {tape.dtype}{hint}")
    if tape.ndim != 1:
        raise ValueError(f"tape must be a 1-D array of uint8, got shape {tape.shape}")
    if tape.size < _HEADER_BYTES:
        raise _not_a_tape(f"{tape.size} bytes")
    tape = np.ascontiguousarray(tape)
    h = np.frombuffer(tape[: _HEADER.itemsize].tobytes(), _HEADER)[0]
    if h["magic"] != _MAGIC or h["format"] != _FORMAT or h["by_kernels"] > 1:
        raise _not_a_tape("bytes that do not begin as a tape does")
    by_kernels = bool(h["by_kernels"])
    if by_kernels and runtime.core is None:
        raise ValueError("tape was made by kernels, and this build has none: run forward again")
    if h["writer"] != _writer(by_kernels)[:48]:
        raise ValueError(
            f"tape must be of this build, {_writer(by_kernels).decode()}, got one that says "
            f"{checks.shown(h['writer'].decode('latin-1'))}: run forward again"
        )
    return _header_of(h, by_kernels), tape


def _not_a_tape(what):
    return ValueError(f"tape must be one that return_tape=True gave, got {what}")


def _header_of(h, by_kernels):
    numbers = [int(h[name]) for name in ("steps", "batch", "hidden", "features", "checkpoint")]
    inputs, vocabulary = int(h["input"]), int(h["vocabulary"])
    flags = [int(h[name]) for name in (
        "lengths", "mask", "reset", "recurrent_mask", "zoneout_masks", "reverse", "to_initial",
    )]  # fmt: skip
    import json

    steps, batch, hidden, features, checkpoint = numbers
    if min(*numbers, inputs, vocabulary) < 0 or max(flags) > 1 or not 0 < features <= hidden:
        raise _not_a_tape("a header with impossible sizes")
    *has, reverse, to_initial = map(bool, flags)
    try:
        plain, dtype = CELLS[h["cell"].decode("latin-1")], _DTYPES[h["dtype"]]
        kind = _X[h["x"]]
    except (KeyError, IndexError):
        raise _not_a_tape("a header of an unknown cell or dtype") from None
    try:  # json's own errors are ValueErrors; options of other names or kinds are TypeErrors
        given = options.checked(plain.states, **json.loads(h["options"]))
        cell = variant(plain, given)
        cell = projected(cell) if features < hidden else cell
    except (ValueError, TypeError, RecursionError) as error:
        raise _not_a_tape(f"a header with impossible options: {checks.shown(error)}") from None
    zoneout_masks = has[-1]
    if checkpoint > _MOST_STEPS or (cell.projects and (given.zoneout or zoneout_masks)):
        raise _not_a_tape("a header with impossible options")
    sizes = Sizes(cell, dtype, steps, batch, hidden, features, checkpoint, *has)
    reset_to = "initial" if to_initial else "zero"
    checksums = tuple(filter(None, h["checksums"].decode("latin-1").split(",")))
    return Header(
        plain.function, cell, kind, sizes, reverse, reset_to, by_kernels, inputs, vocabulary,
        checksums,
    )  # fmt: skip


class TapeContents(NamedTuple):
    """The sections of a tape: `rows` and `masks` as in `Flat`, and the kernels' section or None."""

    rows: ragged.Rows | None
    masks: DropoutMasks | None
    kernels: np.ndarray | None


def read(header, tape, x_shape, vocabulary, state, parameters):
    """The `TapeContents` of a tape.

    x_shape : (T, B, I). vocabulary : that of the ids; 0 for features. state, parameters : as in
    `Flat`, checked for the header's cell.

    Raises
    ------
    ValueError
        If the tape was written for arrays of other sizes, or for another state or bias.
    """
    s = header.sizes
    given = {
        "T": (s.steps, x_shape[0]), "B": (s.batch, x_shape[1]),
        "input_size": (header.input, x_shape[2]),
        "hidden_size": (s.hidden, len(parameters[0]) // s.cell.gates),
        "proj_size": (s.features, state[0].shape[1]),
        "the vocabulary": (header.vocabulary, vocabulary),
        "the dtype": (s.dtype.name, parameters[0].dtype.name),
    }  # fmt: skip
    for name, (of_tape, of_arrays) in given.items():
        if of_tape != of_arrays:
            raise ValueError(
                f"tape must be of the same arrays: {name} of its pass is {of_tape}, got {of_arrays}"
            )
    differing = sorted({*_checksums(s.cell, state, parameters)} ^ {*header.checksums})
    if differing:
        name = differing[0].partition("=")[0]
        hint = ": the initial state, not the final one" if name.endswith("state") else ""
        raise ValueError(
            f"{checks.shown(name)} must be that of the forward call whose tape this is{hint}"
        )
    if tape.size != size_of(s, header.by_kernels):
        raise _not_a_tape(f"{tape.size} bytes rather than {size_of(s, header.by_kernels)}")
    sections = _sections(s, header.by_kernels)
    parts = {name: _aligned(part) for name, part, _ in _parts(tape, sections)}
    flags = [None if n not in parts else parts[n] != 0 for n in ("mask", "reset")]
    rows = ragged.rows(s.steps, s.batch, parts.get("lengths"), *flags, header.reset_to)
    masks = None
    if s.recurrent_mask or s.zoneout_masks:
        zoneout = [parts[name] for name in parts if name.startswith("zoneout_")]
        masks = DropoutMasks(parts.get("recurrent_mask"), tuple(zoneout))
    return TapeContents(rows, masks, parts.get("kernels"))


def _aligned(array):
    """The array itself if it is aligned, else an aligned copy."""
    return np.require(array, requirements=["C", "A"])


def _for_kernels(part):
    """The kernels' section as the kernels take it: aligned to 64 bytes, else a copy.

    The copy has 64 more bytes, so that the kernels find an aligned address in it. An empty section
    is always copied: it has no memory of its own, so its address says nothing.
    """
    if part.size > 0 and part.ctypes.data % _ALIGN == 0:
        return part
    buffer = np.empty(part.size + _ALIGN, np.uint8)
    begin = runtime.core.boundary(buffer)
    buffer[begin : begin + part.size] = part
    return buffer


def run_backward(f, kernels, y, dy, dlast, need_x):
    """Run a pass backward -> dx, the state's gradients (a tuple), the parameters' (a tuple).

    kernels : the section of the tape that the kernels wrote. With None the reference runs: it
        recomputes the forward pass.
    """
    by_kernels = kernels is not None
    dtype = f.parameters[0].dtype
    last = tuple([np.empty((1, *s.shape), dtype) for s in f.state])
    p = _direction_call(f, y, last, by_kernels)
    if by_kernels:
        p = p._replace(tape=_for_kernels(kernels))
    else:
        with runtime.backend("reference"):
            p = p._replace(y=np.empty(y.shape, dtype))
            (p,) = run_passes(f.cell, f.x, (p,), keep=True, rows=f.rows)
    dx = gradient_of(f.x) if need_x else None
    dfirst = tuple([np.empty((1, *s.shape), dtype) for s in f.state])
    arrays = tuple([None if a is None else np.empty_like(a) for a in f.parameters])
    incoming = BackwardBuffers(
        dy, tuple([None if d is None else d[None] for d in dlast]), dx, dfirst, arrays,
        kernel_gradients(f.cell, p.weights, arrays) if by_kernels else None,
        (None,) * len(f.state),
    )  # fmt: skip
    run_passes_backward(f.x, (p,), (incoming,), f.rows, f.checkpoint)
    return dx, tuple([d[0] for d in dfirst]), arrays
