"""Calls of a `Net` or a `Frozen` on tensors; those of a `Net` with gradients, too.

It must not know: modules, packed sequences.
"""

import torch

from fastrnn._engine.passes import with_weights
from fastrnn._layer.tape import Tape
from fastrnn.torch import _equations
from fastrnn.torch._net import DTYPES, Net, array_of, places, view_of
from fastrnn.torch._tracing import is_followed, is_watched


def run(net, x, state, rows, parameters, train=False):
    """Run a `Net` or a `Frozen` -> y and the final state, a tuple of tensors.

    state : a tuple of tensors, or of Nones for zeros. rows : lengths, mask, reset and reset_to, or
    None. parameters : the net's tensors in the order of its structure's shapes. train : True draws
    dropout and zoneout. A `Frozen` computes no gradients and draws nothing.
    """
    tensors = x, *state, *parameters
    if torch.is_grad_enabled() and isinstance(net, Net) and wants_gradient(tensors):
        y, *last = _Call.apply(net, rows, train, len(state), *tensors)
        return y, tuple(last)
    if rows is None and not train:
        given = tuple([s for s in state if s is not None])
        answer = run_shortly(net, x, given) if len(given) in (0, len(state)) else None
        if answer is not None:
            y, last = answer
            return y, last if len(state) > 1 else (last,)
    x, state = view_of(x), _state_of(state)
    if isinstance(net, Net):
        y, last, _ = net._run(x, state, rows, False, False, None, train=train)
    elif rows is None:
        y, last = net(x, state)
    else:
        y, last = net(x, state, **dict(zip(_ROWS, rows, strict=True)))
    return torch.from_numpy(y), _tensors_of(last)


def run_shortly(net, x, state):
    """The same without gradients, rows and training -> y and the final state.

    The state of a cell with one state is a tensor. It returns None where `run` must take the call.

    state : a tuple of tensors, () for zeros. Their shapes and dtypes need not be checked before.
    It is the way of short calls, which notice microseconds.
    """
    view = None
    if state:
        view = view_of(state[0]) if len(state) == 1 else tuple([view_of(s) for s in state])
    answer = net._run_shortly(view_of(x), view)
    if answer is None:
        return None
    y, last = answer
    if type(last) is tuple:
        return torch.from_numpy(y), tuple([torch.from_numpy(s) for s in last])
    return torch.from_numpy(y), torch.from_numpy(last)


def wants_gradient(tensors):
    """Return whether one of the tensors, or Nones, wants a gradient."""
    return any([t is not None and t.requires_grad for t in tensors])


_ROWS = "lengths", "mask", "reset", "reset_to"


def _state_of(tensors):
    """A state as a layer takes it, over the tensors' memory; None if all of it is None."""
    if tensors[0] is None and tensors[-1] is None:
        return None
    if len(tensors) == 1:
        return view_of(tensors[0])
    return tuple([view_of(t) for t in tensors])


def _tensors_of(state):
    if isinstance(state, tuple):
        return tuple([torch.from_numpy(s) for s in state])
    return (torch.from_numpy(state),)


_NO_TENSORS = 4  # the first arguments of _Call.forward: net, rows, train, states


class _Call(torch.autograd.Function):
    """A call with gradients of x, the state and the parameters."""

    @staticmethod
    def forward(ctx, net, rows, train, states, x, *others):
        y, last, ctx.record = net._run(
            array_of(x), _state_of(others[:states]), rows, False, False, None, keep=True,
            train=train,
        )  # fmt: skip
        ctx.net, ctx.states, ctx.places = net, states, places((x, *others[states:]))
        ctx.input_shape = x.shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *others)
        # `backward` reads y, so the user, who may change y or move its memory, gets a copy.
        return torch.from_numpy(y.copy()), *_tensors_of(last)

    @staticmethod
    def backward(ctx, dy, *dlast):
        if torch.compiler.is_compiling() or is_watched():
            return _unwatched_gradients(ctx, dy, dlast)
        return _gradients(ctx, dy, dlast)


def _gradients(ctx, dy, dlast):
    x, *others = ctx.saved_tensors  # RuntimeError if one of them was changed in place
    structure, states = ctx.net._structure, ctx.states
    wanted, parameters = ctx.needs_input_grad[_NO_TENSORS:], others[states:]
    if dy is None and all(d is None for d in dlast):  # a function above gave no gradient
        return (None,) * len(ctx.needs_input_grad)
    if torch.is_grad_enabled() or is_followed((dy, *dlast)):
        layers, unbatched, rows, *_ = ctx.record
        drawn = any(p.dropout_masks is not None for _, _, passes in layers for p in passes)
        what = "create_graph=True, is_grads_batched=True and torch.func's transforms"
        _equations.must_have(structure.cell, what, drawn)
        found = _equations.gradients(
                structure, rows, (x, others[:states], parameters), (dy, *dlast),
                [of_x for _, of_x, _ in layers], unbatched,
            )  # fmt: skip
    else:
        record = ctx.record
        # share_memory() moves memory; hooks on saved tensors, as checkpoint's, give copies.
        if places((x, *parameters)) != ctx.places:
            record = _with_arrays_of(ctx, x, parameters)
        grads = Tape(structure, record).backward(view_of(dy), _state_of(dlast), need_x=wanted[0])
        arrays = [grads.x, *_arrays_of(grads.state), *grads.params.values()]
        pairs = zip(arrays, wanted, strict=True)
        found = [torch.from_numpy(array) if wants else None for array, wants in pairs]
    return (*(None,) * _NO_TENSORS, *found)


# torch.compile must not follow the backward pass of a call that it left.
_unwatched_gradients = torch.compiler.disable(_gradients)


def _with_arrays_of(ctx, x, parameters):
    """The record of the forward pass with other arrays of the same values."""
    structure = ctx.net._structure
    tensors = dict(zip(structure.shapes, parameters, strict=True))
    _check_same_kind(ctx, {"input": x, **tensors})
    net = Net(structure, tensors, places(parameters))
    layers = [
        (
            x_of_layer,
            factors,
            tuple([
                with_weights(structure.cell, p._replace(parameters=net._parameters[p.slot]))
                for p in passes
            ]),
        )
        for x_of_layer, factors, passes in ctx.record.layers
    ]  # fmt: skip
    (_, *of_first), *others = layers
    (dense, _) = structure._checked_x(array_of(x))
    return ctx.record._replace(layers=[(dense, *of_first), *others])


def _check_same_kind(ctx, named):
    """RuntimeError for a tensor that has another dtype or shape than in the forward pass."""
    structure = ctx.net._structure
    dtype, shapes = structure.dtype, (ctx.input_shape, *structure.shapes.values())
    for (name, tensor), shape in zip(named.items(), shapes, strict=True):
        same = tensor.dtype in DTYPES and DTYPES[tensor.dtype] == dtype
        if tensor.shape != shape or not same:
            raise RuntimeError(
                f"{name} must stay {dtype} of shape {tuple(shape)} until the backward pass has "
                f"run, got {tensor.dtype} of shape {tuple(tensor.shape)}: call backward() before "
                "module.double() or its like"
            )


def _arrays_of(state):
    return state if isinstance(state, tuple) else (state,)
