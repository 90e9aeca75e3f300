"""PyTorch as an independent check: outputs, states and all gradients of every cell it has."""

import warnings

import numpy as np
import pytest
from decorators import every_backend, every_dtype
from problems import layer_of

import fastrnn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

T, B, I, H = 6, 3, 4, 7  # noqa: E741 - as in all the equations
THEIRS = {
    "rnn_tanh": lambda *args, **kw: torch.nn.RNN(*args, nonlinearity="tanh", **kw),
    "rnn_relu": lambda *args, **kw: torch.nn.RNN(*args, nonlinearity="relu", **kw),
    "lstm": lambda *args, **kw: torch.nn.LSTM(*args, **kw),
    "gru_after": lambda *args, **kw: torch.nn.GRU(*args, **kw),
}
NETS = {
    "one": {},
    "no bias": {"bias": False},
    "stacked": {"num_layers": 2},
    "both ways": {"bidirectional": True},
    "stacked both ways": {"num_layers": 2, "bidirectional": True},
    "stacked both ways, no bias": {"num_layers": 2, "bidirectional": True, "bias": False},
    "batch first": {"num_layers": 2, "batch_first": True},
}
PROJECTED = {
    "projected": {"proj_size": 3},
    "projected stack both ways": {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    "projected, no bias": {"bias": False, "proj_size": 3},
}
every_cell_of_torch = pytest.mark.parametrize("cell", THEIRS)
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def pair(cell, net, dtype, i=I, h=H):
    """A layer of PyTorch's, and ours with its parameters."""
    torch.manual_seed(0)
    theirs = THEIRS[cell](i, h, **net).to(getattr(torch, dtype))
    ours = layer_of(cell, i, h, dtype=dtype, **net)
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    ours.load(theirs.state_dict())
    return theirs, ours


def draw(rng, *shape, dtype):
    return rng.uniform(-1, 1, shape).astype(dtype)


def tensors(arrays):
    return tuple(torch.from_numpy(a.copy()).requires_grad_() for a in arrays)


def alone(arrays):
    return arrays if len(arrays) > 1 else arrays[0]


def both(state):
    return state if isinstance(state, tuple) else (state,)


def assert_near(got, wanted, dtype, name):
    wanted = wanted.detach().numpy()
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, name
    atol = 100 * float(np.finfo(dtype).eps) * max(1.0, np.abs(wanted).max(initial=0.0))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol, err_msg=name)


def assert_same_parameter_gradients(grads, theirs, dtype):
    for name, parameter in theirs.named_parameters():
        assert_near(grads.params[name], parameter.grad, dtype, name)


@every_backend
@every_cell_of_torch
@every_dtype
@every_net
def test_outputs_states_and_gradients_are_pytorchs(cell, net, dtype, backend):
    theirs, ours = pair(cell, net, dtype)
    rng, lead = np.random.default_rng(1), (B, T) if net.get("batch_first") else (T, B)
    directions, states = ours.num_directions, 2 if cell == "lstm" else 1
    whole = (ours.num_layers * directions, B, H)
    x, dy = draw(rng, *lead, I, dtype=dtype), draw(rng, *lead, H * directions, dtype=dtype)
    state, dstate = (tuple(draw(rng, *whole, dtype=dtype) for _ in range(states)) for _ in range(2))
    (x_t, *state_t), dy_t, dstate_t = tensors((x, *state)), tensors((dy,))[0], tensors(dstate)
    y_t, last_t = theirs(x_t, alone(tuple(state_t)))
    loss = (y_t * dy_t).sum() + sum(
        (s * d).sum() for s, d in zip(both(last_t), dstate_t, strict=True)
    )
    loss.backward()

    y, last, tape = ours.forward(x, alone(state))
    grads = tape.backward(dy, alone(dstate))
    assert_near(y, y_t, dtype, "y")
    assert_near(grads.x, x_t.grad, dtype, "dx")
    for name, got, wanted in zip("hc", both(last), both(last_t), strict=False):
        assert_near(got, wanted, dtype, name)
    for name, got, wanted in zip("hc", both(grads.state), state_t, strict=False):
        assert_near(got, wanted.grad, dtype, f"d{name}0")
    assert_same_parameter_gradients(grads, theirs, dtype)


@every_backend
@every_dtype
@pytest.mark.parametrize("net", PROJECTED.values(), ids=PROJECTED)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projections_are_pytorchs(net, dtype, backend):
    theirs, ours = pair("lstm", net, dtype)
    rng, passes = np.random.default_rng(1), ours.num_layers * ours.num_directions
    x, dy = draw(rng, T, B, I, dtype=dtype), draw(rng, T, B, 3 * ours.num_directions, dtype=dtype)
    state = draw(rng, passes, B, 3, dtype=dtype), draw(rng, passes, B, H, dtype=dtype)
    x_t, *state_t = tensors((x, *state))
    y_t, last_t = theirs(x_t, tuple(state_t))
    ((y_t * torch.from_numpy(dy)).sum() + sum(s.sum() for s in last_t)).backward()

    y, last, tape = ours.forward(x, state)
    grads = tape.backward(dy, tuple(np.ones_like(s) for s in last))
    assert_near(y, y_t, dtype, "y")
    assert_near(grads.x, x_t.grad, dtype, "dx")
    for got, wanted in zip(last, last_t, strict=True):
        assert_near(got, wanted, dtype, "state")
    for got, wanted in zip(grads.state, state_t, strict=True):
        assert_near(got, wanted.grad, dtype, "dstate")
    assert_same_parameter_gradients(grads, theirs, dtype)


@every_backend
@every_cell_of_torch
@every_net
def test_no_state_and_no_batch_mean_what_they_mean_in_pytorch(cell, net, backend):
    theirs, ours = pair(cell, net, "float64")
    rng = np.random.default_rng(2)
    for shape in ((T, I), (T, B, I)):
        x = draw(rng, *shape, dtype="float64")
        y_t, last_t = theirs(torch.from_numpy(x))
        y, last = ours(x)
        assert_near(y, y_t, "float64", "y")
        for got, wanted in zip(both(last), both(last_t), strict=True):
            assert_near(got, wanted, "float64", "state")


def packed(x, lengths, batch_first):
    return torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.from_numpy(lengths), batch_first=batch_first, enforce_sorted=False
    )


@every_backend
@every_cell_of_torch
@every_dtype
@every_net
def test_lengths_are_pytorchs_packed_sequences(cell, net, dtype, backend):
    theirs, ours = pair(cell, net, dtype)
    by_batch = net.get("batch_first", False)
    rng, lead = np.random.default_rng(1), (5, T) if by_batch else (T, 5)
    lengths = np.array([3, T, 1, 4, T])  # PyTorch refuses a length of 0
    x, dy = draw(rng, *lead, I, dtype=dtype), draw(rng, *lead, H * ours.num_directions, dtype=dtype)
    (x_t,) = tensors((x,))
    packed_y, last_t = theirs(packed(x_t, lengths, by_batch))
    y_t, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, by_batch, total_length=T)
    loss = (y_t * torch.from_numpy(dy)).sum() + sum(s.sum() for s in both(last_t))
    loss.backward()

    y, last, tape = ours.forward(x, lengths=lengths)
    ones = tuple(np.ones_like(s) for s in both(last))
    grads = tape.backward(dy, alone(ones))
    assert_near(y, y_t, dtype, "y")
    for got, wanted in zip(both(last), both(last_t), strict=True):
        assert_near(got, wanted, dtype, "state")
    assert_near(grads.x, x_t.grad, dtype, "dx")
    assert_same_parameter_gradients(grads, theirs, dtype)


@every_backend
@every_cell_of_torch
@every_dtype
@every_net
def test_ids_are_pytorchs_embeddings(cell, net, dtype, backend):
    theirs, ours = pair(cell, net, dtype)
    rng, lead = np.random.default_rng(1), (B, T) if net.get("batch_first") else (T, B)
    ids, dy = rng.integers(0, 9, lead), draw(rng, *lead, H * ours.num_directions, dtype=dtype)
    table = draw(rng, 9, I, dtype=dtype)
    (table_t,) = tensors((table,))
    y_t, _ = theirs(torch.nn.functional.embedding(torch.from_numpy(ids), table_t))
    y_t.backward(torch.from_numpy(dy))

    y, _, tape = ours.forward(ids, embedding=table)
    grads = tape.backward(dy)
    assert_near(y, y_t, dtype, "y")
    assert_near(grads.embedding, table_t.grad, dtype, "embedding")
    assert_same_parameter_gradients(grads, theirs, dtype)


@every_cell_of_torch
@every_dtype
def test_larger_layers_agree_too(cell, dtype):
    theirs, ours = pair(cell, {"num_layers": 2, "bidirectional": True}, dtype, 40, 65)
    rng = np.random.default_rng(3)
    x, dy = draw(rng, 20, 17, 40, dtype=dtype), draw(rng, 20, 17, 130, dtype=dtype)
    (x_t,) = tensors((x,))
    y_t, _ = theirs(x_t)
    y_t.backward(torch.from_numpy(dy))
    y, _, tape = ours.forward(x)
    grads = tape.backward(dy)
    assert_near(y, y_t, dtype, "y")
    assert_near(grads.x, x_t.grad, dtype, "dx")
    assert_same_parameter_gradients(grads, theirs, dtype)


@every_cell_of_torch
@every_net
def test_parameters_come_and_go_by_name_as_a_state_dict(cell, net):
    theirs, ours = pair(cell, net, "float32")
    restored = THEIRS[cell](I, H, **net)
    restored.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in ours.params.items()})
    for mine, other in zip(restored.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_module_is_loaded_as_it_is_and_tensors_of_other_kinds_are_refused():
    theirs, ours = pair("lstm", {"num_layers": 2}, "float32")
    whole = torch.nn.ModuleDict({"encoder": theirs, "head": torch.nn.Linear(H, 2)})
    wanted, head = ours.flat.copy(), fastrnn.train.Dense(H, 2)
    ours.flat = 0 * wanted
    ours.load(theirs)
    assert (ours.flat == wanted).all()
    ours.flat = 0 * wanted
    ours.load(whole, prefix="encoder.")
    head.load(whole, "head.")
    assert (ours.flat == wanted).all()
    assert (head.params["weight"] == whole["head"].weight.detach().numpy()).all()
    ours.params["weight_hh_l1"] = theirs.weight_hh_l1  # with its gradient
    assert (ours.flat == wanted).all()
    for kind in (torch.bfloat16, torch.half):
        whole.to(kind)
        with pytest.raises(TypeError, match=rf"weight_ih_l0 must be .*{kind}: .*\.float\(\)"):
            ours.load(whole, prefix="encoder.")
    with pytest.raises(TypeError, match="weight_ih_l0 must be float32 .*got float64"):
        ours.load(theirs.double())
    assert (ours.flat == wanted).all()


def test_tensors_that_share_the_buffer_are_copied_first():
    ours = layer_of("gru_after", I, H, rng=0)
    before = ours.flat.copy()
    ours.flat = torch.from_numpy(ours.flat).flip(0)
    assert (ours.flat == before[::-1]).all()
    shared = torch.from_numpy(ours.flat)
    swapped = dict(
        zip(("bias_ih_l0", "bias_hh_l0"), shared[-6 * H :].split(3 * H)[::-1], strict=True)
    )
    wanted = {name: tensor.numpy().copy() for name, tensor in swapped.items()}
    ours.params.update(swapped)
    assert all((ours.params[name] == array).all() for name, array in wanted.items())
