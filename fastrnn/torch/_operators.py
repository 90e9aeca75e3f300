"""Operators of torch's: one direction of one layer, which torch.compile and torch.export can see.

fastrnn::rnn, fastrnn::gru and fastrnn::lstm run forward, fastrnn::rnn_backward and so on backward.
The tape is a tensor of bytes: a head of 64, which are 1 if the kernels wrote the tape and 0 if not,
and the kernels' section of a tape (`fastrnn._engine.flat`). Its size follows from shapes, so torch
can plan it.

In eager mode modules do not call them, because an operator takes longer than a direct call.

It must not know: modules, stacks.
"""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrnn import checks
from fastrnn._cells import options
from fastrnn._cells.registry import CELLS, projected, variant
from fastrnn._engine import flat, ragged, runtime
from fastrnn._layer.structure import Structure
from fastrnn.torch import _equations
from fastrnn.torch._net import DTYPES, array_of
from fastrnn.torch._tracing import NO_SCRIPT

_HEAD = 64  # bytes before the kernels' section, which keep it aligned


def spec_of(cell, bias):
    """The text by which an operator knows a cell: its name and options, and whether it has biases.

    It is a text because operators take no other objects.
    """
    given = {} if cell.options is None else cell.options.non_default()
    return json.dumps({"cell": cell.name, "projects": cell.projects, "bias": bias, **given})


@functools.cache
def cell_of(spec):
    """The cell, and whether it has biases, of a result of `spec_of`."""
    given = json.loads(spec)
    plain, projects, bias = CELLS[given.pop("cell")], given.pop("projects"), given.pop("bias")
    cell = variant(plain, options.checked(plain.states, **given))
    return projected(cell) if projects else cell, bias


class Call(NamedTuple):
    """The arguments of a forward pass.

    x : (T, B, I). state : a tuple of (B, H). parameters : the cell's, without those that it has
    not. lengths : (B,) integers or None. mask, reset : (T, B) booleans or None. keep : False makes
    an empty tape, as under no_grad; a backward pass then runs forward again.
    """

    x: Tensor
    state: tuple
    parameters: tuple
    lengths: Tensor | None
    mask: Tensor | None
    reset: Tensor | None
    reset_to: str
    reverse: bool
    keep: bool
    spec: str

    def structure(self):
        """The `Structure` of a layer of this pass alone; ValueError for shapes that do not fit."""
        cell, bias = cell_of(self.spec)
        w_ih, (h, *_) = self.parameters[0], self.state
        hidden = int(w_ih.shape[0]) // cell.gates
        proj_size = int(h.shape[-1]) if cell.projects else 0
        if self.x.dtype not in DTYPES:
            raise TypeError(f"x must be float32 or float64, got {self.x.dtype}")
        structure = Structure(
            cell, int(w_ih.shape[1]), hidden, proj_size, 1, bias, False, False, "concat",
            DTYPES[self.x.dtype], self.reverse,
        )  # fmt: skip
        self._check(structure)
        return structure

    def _check(self, structure):
        x, batch = self.x, self.x.shape[1]
        if x.shape[2] != structure.input_size:
            raise ValueError(
                f"x must be (T, B, input_size) with input_size = {structure.input_size}, got "
                f"{tuple(x.shape)}"
            )
        named = [("x", x, tuple(x.shape))]
        sizes = zip(structure.cell.states, self.state, structure.state_sizes, strict=True)
        named += [(name, tensor, (batch, size)) for name, tensor, size in sizes]
        shapes = structure.shapes.items()
        if len(shapes) != len(self.parameters):
            raise ValueError(
                f"parameters must be {', '.join(structure.shapes)}, got {len(self.parameters)}"
            )
        named += [(n, t, s) for (n, s), t in zip(shapes, self.parameters, strict=True)]
        for name, tensor, shape in named:
            if tensor.device.type not in ("cpu", "meta"):
                raise RuntimeError(f"{name} must be on the CPU, got {tensor.device}")
            if tensor.dtype is not x.dtype:
                raise TypeError(f"{name} must be {x.dtype}, the dtype of x, got {tensor.dtype}")
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} must be {shape}, got {tuple(tensor.shape)}")

    def rows(self):
        """The `ragged.Rows` of the call, or None."""
        steps, batch = self.x.shape[:2]
        given = [array_of(t) for t in (self.lengths, self.mask, self.reset)]
        return ragged.rows(steps, batch, *given, self.reset_to, False)

    def flat(self, structure):
        """The call as the engine takes it."""
        named = dict(zip(structure.shapes, map(_dense, self.parameters), strict=True))
        state = tuple(map(_dense, self.state))
        x = checks.rows(array_of(self.x))
        own = structure.parameters(0, named)
        return flat.Flat(structure.cell, x, state, own, self.reverse, self.rows())


def _dense(tensor):
    return checks.dense(array_of(tensor))


def _new_tape(call, structure):
    """A tape for a call, which nobody has written."""
    if not call.keep:
        return call.x.new_empty(0, dtype=torch.uint8)
    of_a_step = 0
    if runtime.core is not None:
        s = structure
        one = flat.Sizes(
            s.cell, s.dtype, 1, 1, s.hidden_size, s.features, checkpoint=0, lengths=False,
            mask=False, reset=False, recurrent_mask=False, zoneout_masks=False,
        )  # fmt: skip
        of_a_step = flat.bytes_of_kernels(one)
    steps, batch, _ = call.x.shape
    return call.x.new_empty(_HEAD + steps * batch * of_a_step, dtype=torch.uint8)


def _forward(call):
    """y, the arrays of the final state, and the tape."""
    structure = call.structure()
    tape, by_kernels = _new_tape(call, structure), call.keep and runtime.uses_core()
    # Without kernels all of the tape is 0, so that no memory of others is in it.
    tape[: _HEAD if by_kernels else None] = by_kernels
    y, last = flat.run_onto(call.flat(structure), tape.numpy()[_HEAD:] if by_kernels else None)
    return *[torch.from_numpy(a) for a in (y, *last)], tape


def _planned(call):
    """The results of `_forward`, with shapes alone."""
    if torch.onnx.is_in_onnx_export():  # it has no translation of these operators
        raise RuntimeError(NO_SCRIPT)
    structure, x = call.structure(), call.x
    y = x.new_empty((*x.shape[:2], structure.features))
    last = [x.new_empty((x.shape[1], size)) for size in structure.state_sizes]
    return y, *last, _new_tape(call, structure)


def _backward(dy, dlast, tape, y, call):
    """The gradients of x, of the arrays of the state, and of the parameters, in a list."""
    structure = call.structure()
    if tape.numel() == 0:
        tape = _forward(call._replace(keep=True))[-1]
    kernels = tape.numpy()[_HEAD:] if tape[0] else None
    f = call.flat(structure)
    incoming = checks.rows(array_of(dy)), tuple(map(_dense, dlast))
    dx, dfirst, arrays = flat.run_backward(f, kernels, array_of(y), *incoming, True)
    there = [a for a in arrays if a is not None]
    return [torch.from_numpy(a) for a in (dx, *dfirst, *there)]


# ---- the operators -------------------------------------------------------------------------------

_PLAIN = 4  # the last arguments are no tensors: reset_to, reverse, keep, spec
_OPTIONS = (
    "Tensor? lengths, Tensor? mask, Tensor? reset, str reset_to, bool reverse, bool keep, str spec"
)


def _register(name, states):
    """Register fastrnn::name and fastrnn::name_backward for a cell with these states."""
    of_state = ", ".join(f"Tensor {s}" for s in states)
    arguments = f"Tensor x, {of_state}, Tensor[] parameters, {_OPTIONS}"
    count, results = len(states), ", ".join(["Tensor"] * (len(states) + 2))

    def call_of(x, *rest):
        return Call(x, rest[:count], tuple(rest[count]), *rest[count + 1 :])

    forward = torch.library.custom_op(
        f"fastrnn::{name}", lambda *a: _forward(call_of(*a)), mutates_args=(),
        device_types="cpu", schema=f"({arguments}) -> ({results})",
    )  # fmt: skip
    forward.register_fake(lambda *a: _planned(call_of(*a)))
    of_gradients = "Tensor dy, " + ", ".join(f"Tensor d{s}" for s in states)
    backward = torch.library.custom_op(
        f"fastrnn::{name}_backward",
        lambda dy, *a: _backward(dy, a[:count], *a[count : count + 2], call_of(*a[count + 2 :])),
        mutates_args=(), device_types="cpu",
        schema=f"({of_gradients}, Tensor tape, Tensor y, {arguments}) -> Tensor[]",
    )  # fmt: skip

    @backward.register_fake
    def _(dy, *a):
        x, *rest = a[count + 2 :]
        return [torch.empty_like(t, memory_format=torch.contiguous_format)
                for t in (x, *rest[:count], *rest[count])]  # fmt: skip

    _register_autograd(forward, backward, call_of, count)
    return forward


def _register_autograd(forward, backward, call_of, count):
    """Make an operator differentiable; count : the number of its state's arrays."""

    def save(ctx, inputs, output):
        call, (y, *_, tape) = call_of(*inputs), output
        optional = [t for t in (call.lengths, call.mask, call.reset) if t is not None]
        ctx.there = [t is not None for t in (call.lengths, call.mask, call.reset)]
        ctx.rest = inputs[-_PLAIN:]
        ctx.save_for_backward(call.x, *call.state, *call.parameters, *optional, tape, y)

    def gradients(ctx, dy, *dlast):
        x, *saved = ctx.saved_tensors
        *saved, tape, y = saved
        optional = [saved.pop() if there else None for there in reversed(ctx.there)][::-1]
        inputs = x, *saved[:count], saved[count:], *optional, *ctx.rest
        dlast = dlast[:count]  # without that of the tape
        if torch.is_grad_enabled():
            call = call_of(*inputs)
            structure, state = call.structure(), [s[None] for s in call.state]
            _equations.must_have(structure.cell, "gradients of gradients")
            tensors, given = (call.x, state, call.parameters), (dy, *[d[None] for d in dlast])
            found = _equations.gradients(structure, call.rows(), tensors, given)
            found[1 : 1 + count] = [None if d is None else d[0] for d in found[1 : 1 + count]]
        else:
            found = backward(dy, *dlast, tape, y, *inputs)
        return *found[: 1 + count], list(found[1 + count :]), *(None,) * (3 + _PLAIN)

    forward.register_autograd(gradients, setup_context=save)


OPERATORS: dict[str, Any] = {
    "rnn": _register("rnn", ("h",)),
    "gru": _register("gru", ("h",)),
    "lstm": _register("lstm", ("h", "c")),
}
