"""The equations of fastrnn.reference in torch's own operations, for gradients of gradients.

A backward pass of the kernels has no graph. Where one is wanted (create_graph=True),
`run_equations` computes the call again with operations that torch differentiates, and torch's
autograd does the rest. The transforms of torch.func (vmap, grad, jacfwd and so on) need such
operations too.

It must not know: kernels, modules.
"""

import torch


def _rnn(phi):
    """(R1)."""

    def step(a, w_hh, b_hh, state):
        (h,) = state
        return (phi(a + torch.nn.functional.linear(h, w_hh, b_hh)),)

    return step


def _lstm(a, w_hh, b_hh, state):
    """(L1) to (L6)."""
    h, c = state
    i, f, g, o = (a + torch.nn.functional.linear(h, w_hh, b_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_after(a, w_hh, b_hh, state):
    """(G1) to (G4)."""
    (h,) = state
    a_r, a_z, a_n = a.chunk(3, -1)
    u_r, u_z, u_n = torch.nn.functional.linear(h, w_hh, b_hh).chunk(3, -1)
    z = torch.sigmoid(a_z + u_z)
    n = torch.tanh(a_n + torch.sigmoid(a_r + u_r) * u_n)
    return ((1 - z) * n + z * h,)


def _gru_before(a, w_hh, b_hh, state):
    """(G1), (G2), (G3'), (G4)."""
    (h,) = state
    units = h.shape[-1]
    if b_hh is not None:
        a = a + b_hh
    a_rz, a_n = a[:, : 2 * units], a[:, 2 * units :]
    r, z = torch.sigmoid(a_rz + h @ w_hh[: 2 * units].T).chunk(2, -1)
    n = torch.tanh(a_n + (r * h) @ w_hh[2 * units :].T)
    return ((1 - z) * n + z * h,)


_STEPS = {
    "rnn_tanh": _rnn(torch.tanh),
    "rnn_relu": _rnn(torch.relu),
    "lstm": _lstm,
    "gru_after": _gru_after,
    "gru_before": _gru_before,
}


def must_have(cell, what, drawn=False):
    """NotImplementedError unless the equations of a cell with its options are here.

    what : what needs them. drawn : whether the call drew recurrent dropout.
    """
    if drawn or cell.options is not None or cell.name not in _STEPS:
        raise NotImplementedError(
            f"{what} need a cell without fastrnn's own options, got "
            f"{cell.options or 'recurrent_dropout'}"
        )


def _flags(array):
    return None if array is None else torch.from_numpy(array)[..., None]


def direction(cell, x, first, parameters, reverse, rows):
    """One direction of a layer: y (T, B, H), and its state (B, H) after the last step."""
    w_ih, w_hh, b_ih, b_hh, *w_hr = parameters
    steps, y, state = len(x), [], first
    works = within = resets = None
    if rows is not None:
        within, works = (_flags(a) for a in (rows.within(steps), rows.works(steps)))
        resets = None if rows.reset is None else _flags(rows.reset) & within
        x = torch.where(works, x, 0)  # x may have any values there, NaN too
    a = torch.nn.functional.linear(x, w_ih, b_ih)
    for t in reversed(range(steps)) if reverse else range(steps):
        if resets is not None:
            to = first if rows.reset_to == "initial" else [torch.zeros_like(s) for s in first]
            state = [torch.where(resets[t], b, s) for b, s in zip(to, state, strict=True)]
        new = _STEPS[cell.name](a[t], w_hh, b_hh, state)
        if w_hr:
            new = new[0] @ w_hr[0].T, *new[1:]  # (P1)
        if works is not None:
            new = [torch.where(works[t], n, s) for n, s in zip(new, state, strict=True)]
        state = new
        y.append(state[0] if within is None else torch.where(within[t], state[0], 0))
    y = torch.stack(y[::-1] if reverse else y) if y else x.new_empty((0, *first[0].shape))
    return y, state


def run_equations(structure, x, state, parameters, rows, factors=None, unbatched=False):
    """y and the final state, as a tuple of tensors, of a call.

    x, state : as the user gave them; the state is a tuple of tensors or Nones. parameters : tensors
    in the order of `structure.shapes`. rows : `ragged.Rows` or None. factors : for each layer those
    of dropout that its x was multiplied by, or None.
    """
    named = dict(zip(structure.shapes, parameters, strict=True))
    if unbatched:
        x, state = x[:, None], tuple([None if s is None else s[:, None] for s in state])
    elif structure.batch_first:
        x = x.transpose(0, 1)
    sizes = [(structure.slots, x.shape[1], size) for size in structure.state_sizes]
    first = [x.new_zeros(size) if s is None else s for s, size in zip(state, sizes, strict=True)]
    last = [None] * structure.slots
    of_layers = [None] * structure.num_layers if factors is None else factors
    for passes, of_x in zip(structure.passes_of_layers, of_layers, strict=True):
        if of_x is not None:
            x = x * torch.from_numpy(of_x)
        outputs = []
        for slot, reverse, _ in passes:
            own, before = structure.parameters(slot, named), [s[slot] for s in first]
            y, last[slot] = direction(structure.cell, x, before, own, reverse, rows)
            outputs.append(y)
        x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
    final = tuple([torch.stack(parts) for parts in zip(*last, strict=True)])
    if unbatched:
        return x[:, 0], tuple([s[:, 0] for s in final])
    return x.transpose(0, 1) if structure.batch_first else x, final


def gradients(structure, rows, tensors, incoming, factors=None, unbatched=False):
    """The gradients of a call, a list; with create_graph=True they are functions of the tensors.

    tensors : x, the state and the parameters; the state may have Nones. incoming : the gradients of
    y and of the final state, each a tensor or None. rows, factors, unbatched : as for
    `run_equations`.
    """
    x, state, parameters = tensors
    create_graph, states = torch.is_grad_enabled(), len(state)
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # A view of each: one tensor may be several arguments, and each has a gradient of its own.
        views = [None if t is None else t.view_as(t) for t in (x, *state, *parameters)]
        x, state, parameters = views[0], tuple(views[1 : 1 + states]), views[1 + states :]
        y, last = run_equations(structure, x, state, parameters, rows, factors, unbatched)
        pairs = zip((y, *last), incoming, strict=True)
        pairs = [(o, d) for o, d in pairs if d is not None and o.requires_grad]
        wanting = [k for k, view in enumerate(views) if view is not None and view.requires_grad]
        found, of = [None] * len(views), [None] * len(wanting)
        if pairs:
            outputs, incoming = zip(*pairs, strict=True)
            of = torch.autograd.grad(
                outputs, [views[k] for k in wanting], incoming, create_graph=create_graph,
                allow_unused=True,
            )  # fmt: skip
        for k, gradient in zip(wanting, of, strict=True):
            # Without steps nothing follows from x: its gradient is 0, as the kernels give it.
            found[k] = torch.zeros_like(views[k]) if gradient is None else gradient
    return found
