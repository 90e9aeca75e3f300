"""Calls of the functions on plain arrays: they check the arguments and run a flat pass.

It must not know: which functions there are, kernels, backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from fastrnn import checks
from fastrnn._cells import options
from fastrnn._cells.registry import projected, takes, variant
from fastrnn._engine import flat, ids, ragged
from fastrnn._engine.dropout_masks import DropoutMasks, drawn

if TYPE_CHECKING:
    from fastrnn._typing import Floats


_NO_GRADIENT = (
    "dy or dlast must be the gradient of a loss, got None for each: give dy (like y) or dlast "
    "(like the final state)"
)


class _Fields(NamedTuple):
    w_ih: Floats
    w_hh: Floats | None
    b_ih: Floats | None
    b_hh: Floats | None
    extras: Mapping[str, Floats]


class Parameters(_Fields):
    """The parameters of a function, or their gradients: a named tuple.

    Attributes
    ----------
    w_ih, w_hh : matrices
    b_ih, b_hh : 1-D arrays or None
    extras : mapping of str to arrays
        The other parameters by name; None makes an empty dict.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.functional import Parameters
    >>> Parameters(np.ones((4, 2)), np.ones((4, 4))).b_ih is None
    True
    """

    __slots__ = ()

    def __new__(
        cls, w_ih: Floats, w_hh: Floats | None, b_ih: Floats | None = None,
        b_hh: Floats | None = None, extras: Mapping[str, Floats] | None = None,
    ) -> Parameters:  # fmt: skip
        return super().__new__(cls, w_ih, w_hh, b_ih, b_hh, {} if extras is None else extras)


class Batch(NamedTuple):
    """The other arguments of a function, not yet checked."""

    reverse: object
    lengths: object
    mask: object
    reset: object
    reset_to: object
    one_hot: object
    embedding: object
    checkpoint: object
    return_tape: object

    @property
    def rows(self):
        """The arguments of `ragged.rows`."""
        return self.lengths, self.mask, self.reset, self.reset_to


# ---- options -------------------------------------------------------------------------------------

_DRAWN = ("recurrent_dropout", "rng", "recurrent_mask", "zoneout_masks")


def _cell_with(cell, function, projects, given):
    """The cell with its options, and a dict of the arguments about masks."""
    masks = {name: given.pop(name) for name in _DRAWN if name in given}
    known = options.Options._fields
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    cell = variant(cell, options.checked(cell.states, **given))
    if projects:
        cell = projected(cell)
        _without_zoneout(cell, masks.get("zoneout_masks") is not None)
    return cell, masks


def _without_zoneout(cell, masks):
    """ValueError if a projected cell has zoneout, or masks for it."""
    if masks or (cell.options is not None and cell.options.zoneout):
        raise ValueError(
            "zoneout must be 0, and zoneout_masks None, with weight_hr: a projected h has no "
            "zoneout"
        )


def _with_extras(weights):
    """Return the `Parameters`; TypeError unless their extras are a mapping."""
    if not isinstance(weights.extras, Mapping):
        kind = type(weights.extras).__name__
        raise TypeError(f"extras must be a mapping of names to arrays, got a {kind}")
    return weights


def _parameters_of(cell, weights):
    """w_ih, w_hh, b_ih, b_hh and the cell's extras, checked; None for a bias that is left out."""
    names = [extra.kind for extra in cell.extras]
    wanted = [n for n in names if n in weights.extras or not n.startswith("bias")]
    checks.same_names("extras", weights.extras, wanted, "the cell's extra parameters")
    w_hr = None
    if cell.projects:
        w_hr = checks.as_array("weight_hr", weights.extras["weight_hr"])
        if w_hr.ndim != 2 or not 0 < len(w_hr) < w_hr.shape[1]:
            raise ValueError(
                "weight_hr must be (proj_size, hidden_size) with proj_size less than hidden_size, "
                f"got {w_hr.shape}"
            )
        w_hr = checks.dense(w_hr)
    four = checks.weights(cell, weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh, w_hr)
    hidden, dtype = len(four[0]) // cell.gates, four[0].dtype
    others = []
    for kind, units, _ in cell.extras:
        if kind not in wanted:
            others.append(None)
            continue
        array = checks.of_dtype(kind, weights.extras[kind], dtype)
        if units is not None:
            array = checks.shaped(kind, array, (f"{units}*hidden_size",), (units * hidden,))
        others.append(checks.dense(array))
    return (*four, *others)


def _masks_of(cell, shape, features, dtype, *, recurrent_dropout=0.0, rng=None,
              recurrent_mask=None, zoneout_masks=None):  # fmt: skip
    """The `DropoutMasks` of a pass of this shape, (T, B, H), drawn or the user's; or None."""
    recurrent_dropout = checks.fraction("recurrent_dropout", recurrent_dropout)
    zoneout = () if cell.options is None else cell.options.zoneout
    ready = recurrent_mask is not None or zoneout_masks is not None
    if rng is None:
        if recurrent_dropout and recurrent_mask is None:
            raise ValueError(
                "rng must be a generator or a seed where recurrent_dropout is not 0, got None: "
                "leave recurrent_dropout out for inference, or give recurrent_mask"
            )
        return _ready_masks(cell, shape, features, dtype, recurrent_mask, zoneout_masks)
    if ready or not (recurrent_dropout or zoneout):
        raise ValueError(
            "rng must be None with recurrent_mask or zoneout_masks, and if both recurrent_dropout "
            "and zoneout are 0"
        )
    steps, batch, hidden = shape
    rng = checks.generator("rng", rng)
    factors = drawn(rng, (steps, batch, features), dtype, recurrent_dropout, ()).recurrent
    return DropoutMasks(factors, drawn(rng, shape, dtype, 0.0, zoneout).zoneout)


def _ready_masks(cell, shape, features, dtype, recurrent_mask, zoneout_masks):
    if recurrent_mask is None and zoneout_masks is None:
        return None
    name = "zoneout_masks"
    if recurrent_mask is not None:
        symbols = ("B", _features_symbol(cell))
        recurrent_mask = _own_mask(
            "recurrent_mask", recurrent_mask, symbols, (shape[1], features), dtype
        )
    zoneout = ()
    if zoneout_masks is not None:
        parts, symbols = checks.state_parts(cell, zoneout_masks, name), ("T", "B", "hidden_size")
        labels = [name] if len(parts) == 1 else [f"{state} of {name}" for state in cell.states]
        zoneout = tuple([
            _own_mask(label, part, symbols, shape, dtype)
            for label, part in zip(labels, parts, strict=True)
        ])  # fmt: skip
    return DropoutMasks(recurrent_mask, zoneout)


def _own_mask(name, value, symbols, shape, dtype):
    """A dense copy of a mask: the user may change it before `backward`."""
    array = checks.of_dtype(name, value, dtype)
    return checks.shaped(name, array, symbols, shape).copy()


def _features_symbol(cell):
    return "proj_size" if cell.projects else "hidden_size"


# ---- the size of a tape --------------------------------------------------------------------------


def size_of_tape(cell, dtype, sizes, checkpoint, flags, given):
    """Bytes of a tape on this backend.

    sizes : T, B, hidden_size and proj_size. flags : dict of the booleans of `flat.Sizes`, from
    lengths on.
    """
    steps, batch, hidden, width = sizes
    width = checks.positive("proj_size", width, 0)
    flags = {name: checks.flag(name, value) for name, value in flags.items()}
    cell, about_masks = _cell_with(cell, "tape_size", width > 0, given)
    if about_masks:
        raise TypeError(
            f"tape_size() got an unexpected keyword argument {next(iter(about_masks))!r}: use "
            "recurrent_mask=True and zoneout_masks=True for masks that a function draws"
        )
    if width:
        _without_zoneout(cell, flags["zoneout_masks"])
    masked = flags["recurrent_mask"] or flags["zoneout_masks"]
    if masked and not takes(cell, "recurrent_dropout"):
        raise ValueError(
            f"recurrent_mask and zoneout_masks must be False for {cell.function}, which draws none"
        )
    hidden = checks.positive("hidden_size", hidden)
    if width >= hidden:
        raise ValueError(f"proj_size must be less than hidden_size = {hidden}, got {width}")
    return flat.size_of(flat.Sizes(
        cell, checks.dtype(dtype), checks.positive("steps", steps, 0),
        checks.positive("batch", batch, 0), hidden, width or hidden,
        0 if checkpoint is None else checks.positive("checkpoint", checkpoint), **flags,
    ))  # fmt: skip


# ---- forward -------------------------------------------------------------------------------------


def forward(function, cell, x, state, weights, batch, given):
    """Check the arguments and run forward -> y, the final state as a tuple, the tape or None."""
    projects = "weight_hr" in _with_extras(weights).extras
    cell, masks = _cell_with(cell, function, projects, given)
    parameters = _parameters_of(cell, weights)
    x, rows = _checked_x(x, parameters, batch.one_hot, batch.embedding, batch.rows)
    hidden, dtype = len(parameters[0]) // cell.gates, parameters[0].dtype
    features = len(parameters[4]) if cell.projects else hidden
    sizes = (features, hidden)[: len(cell.states)]
    state = checks.state(cell, state, x.shape[1], sizes, dtype)
    masks = _masks_of(cell, (*x.shape[:2], hidden), features, dtype, **masks)
    keep = checks.flag("return_tape", batch.return_tape)
    checkpoint = 0
    if batch.checkpoint is not None:
        checkpoint = checks.positive("checkpoint", batch.checkpoint)
        if not keep:
            raise ValueError("checkpoint must be None without return_tape=True")
    reverse = checks.flag("reverse", batch.reverse)
    f = flat.Flat(cell, x, state, parameters, reverse, rows, masks, checkpoint)
    return flat.run(f, keep)


def _checked_x(x, parameters, one_hot, embedding, rows):
    """x as an array or as `Ids`, and the `Rows` of the batch; rows : arguments of `ragged.rows`."""
    (_, inputs), dtype = parameters[0].shape, parameters[0].dtype
    of_ids = ids.wanted(one_hot, embedding)
    x = ids.integers("x", x, (2,)) if of_ids else checks.sequence("x", x, dtype, inputs)
    rows = ragged.rows(*x.shape[:2], *rows)
    return (ids.checked("x", x, inputs, embedding, dtype, rows) if of_ids else x), rows


# ---- backward ------------------------------------------------------------------------------------


def backward(function, tape, x, y, state, weights, dy, dlast, embedding, need_x):
    """Check the arguments and run backward -> dx, the state's gradients (a tuple), `Parameters`."""
    header, tape = flat.read_header(tape)
    if header.function != function:
        raise ValueError(
            f"tape must be of fastrnn.{function}, got one of fastrnn.{header.function}"
        )
    cell, weights = header.cell, _given(weights)
    parameters = _parameters_of(cell, weights)
    (_, inputs), dtype = parameters[0].shape, parameters[0].dtype
    hidden = len(parameters[0]) // cell.gates
    features = len(parameters[4]) if cell.projects else hidden
    if (embedding is not None) != (header.x == "embedding"):
        had, got = ("one", "None") if embedding is None else ("none", "an array")
        raise ValueError(f"embedding must be as in the tape's pass, which had {had}, got {got}")
    of_ids = header.x != "features"
    x = ids.integers("x", x, (2,)) if of_ids else checks.sequence("x", x, dtype, inputs)
    vocabulary = 0
    if of_ids:
        vocabulary = inputs
        if embedding is not None:
            vocabulary = len(ids.checked_embedding(embedding, inputs, dtype))
    sizes = (features, hidden)[: len(cell.states)]
    state = checks.state(cell, state, x.shape[1], sizes, dtype)
    shape = *x.shape[:2], inputs
    contents = flat.read(header, tape, shape, vocabulary, state, parameters)
    if of_ids:
        x = ids.checked("x", x, inputs, embedding, dtype, contents.rows)
    shape, symbols = (*x.shape[:2], features), ("T", "B", _features_symbol(cell))
    y = checks.shaped("y", checks.of_dtype("y", y, dtype), symbols, shape)
    dlast = checks.gradient_of_state(cell, dlast, x.shape[1], sizes, dtype, "dlast")
    checks.some_gradient(_NO_GRADIENT, dy, *dlast)
    dy = checks.optional("dy", dy, shape, symbols, dtype)
    f = flat.Flat(
        cell, x, state, parameters, header.reverse, contents.rows, contents.masks,
        header.sizes.checkpoint,
    )  # fmt: skip
    dx, dstate, gradients = flat.run_backward(
        f, contents.kernels, checks.rows(y), None if dy is None else checks.rows(dy), dlast,
        checks.flag("need_x", need_x),
    )  # fmt: skip
    kinds = [extra.kind for extra in cell.extras]
    pairs = zip(kinds, gradients[4:], strict=True)
    extras = {kind: gradient for kind, gradient in pairs if gradient is not None}
    return dx, dstate, Parameters(*gradients[:4], extras)


def _given(weights):
    """The `Parameters` of the user's weights, of which the last three may be left out."""
    is_sequence = isinstance(weights, tuple | list)
    if not is_sequence or not 2 <= len(weights) <= 5:
        got = type(weights).__name__
        raise TypeError(
            "weights must be a tuple (w_ih, w_hh, b_ih, b_hh, extras), of which the last three may "
            f"be left out, got a {got}" + (f" of {len(weights)}" if is_sequence else "")
        )
    return _with_extras(Parameters(*weights))
