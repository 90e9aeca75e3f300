"""The run of a module as torch's own operations and fastrnn's operators, for torch to trace.

torch.compile, torch.export and the transforms of torch.func follow these functions: a loop over the
layers of the stack and their directions.

It must not know: kernels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fastrnn._engine import ragged
from fastrnn.torch import _equations
from fastrnn.torch._net import array_of
from fastrnn.torch._operators import OPERATORS, spec_of
from fastrnn.torch._tracing import is_transformed, untransformed, unwrapped


class Plan(NamedTuple):
    """The passes of a stack, layer by layer.

    operator, spec : the operator's name, and its argument `spec`. cell, bias : what `spec` says.
    layers : for each layer its passes, each with reverse (a bool) and the names of its parameters.
    slots : the number of passes. sizes : the features of each array of the state.
    """

    operator: str
    spec: str
    cell: Any
    bias: bool
    layers: list
    slots: int
    sizes: tuple


def plan_of(structure, names):
    """The `Plan` of a structure; names : a dict from its parameters' names to the module's."""
    layers = [
        [(reverse, [names[n] for n in structure.names(slot).values()]) for slot, reverse, _ in one]
        for one in structure.passes_of_layers
    ]
    cell, bias = structure.cell, structure.bias
    spec = spec_of(cell, bias)
    return Plan(cell.function, spec, cell, bias, layers, structure.slots, structure.state_sizes)


def run_traced(module, plan, x, state, rows, dropout):
    """Run a module's plan by operations that torch follows.

    Returns y (T, B, D*H) and the final state, a tuple of tensors (L*D, B, H).

    x : (T, B, I). state : a tuple of tensors like the final state, or Nones for zeros. rows :
    lengths, mask and reset as (B,) and (T, B) tensors or Nones, and reset_to. dropout : that
    between layers, 0 for none.
    """
    run_pass = _equations_of(plan, rows) if is_transformed() else _operator_of(plan, rows)
    lasts = [[] for _ in plan.sizes]
    for index, passes in enumerate(plan.layers):
        if index and dropout:
            x = torch.nn.functional.dropout(x, dropout, training=True)
        outputs = []
        for reverse, names in passes:
            slot = len(lasts[0])
            first = [
                x.new_zeros((x.shape[1], size)) if s is None else s[slot]
                for s, size in zip(state, plan.sizes, strict=True)
            ]
            y, last = run_pass(x, first, [getattr(module, name) for name in names], reverse)
            outputs.append(y)
            for of_state, array in zip(lasts, last, strict=True):
                of_state.append(array)
        x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
    # An operator's backward pass reads y, so the user, who may change y, gets a copy.
    y = x.clone() if len(outputs) == 1 and torch.is_grad_enabled() else x
    return y, tuple([torch.stack(of_state) for of_state in lasts])


def _operator_of(plan, rows):
    """A function that runs a pass by fastrnn's operator."""
    operator, keep = OPERATORS[plan.operator], torch.is_grad_enabled()

    def run_pass(x, first, own, reverse):
        y, *last, _ = operator(x, *first, own, *rows, reverse, keep, plan.spec)
        return y, last

    return run_pass


def _equations_of(plan, rows):
    """A function that runs a pass by its equations, which the transforms of torch.func can map."""
    cell, bias = plan.cell, plan.bias
    _equations.must_have(cell, "torch.func's transforms and forward-mode differentiation")

    def run_pass(x, first, own, reverse):
        own = own if bias else [*own[:2], None, None, *own[2:]]
        given = any(t is not None for t in rows[:3])
        return _equations.direction(
            cell, x, first, own, reverse, _rows_of(x, *rows) if given else None
        )

    return run_pass


@torch.compiler.disable
def _rows_of(x, lengths, mask, reset, reset_to):
    tensors = [None if t is None else unwrapped(t) for t in (lengths, mask, reset)]
    with untransformed():
        given = list(map(array_of, tensors))
    return ragged.rows(*x.shape[:2], *given, reset_to, False)
