"""PyTorch as an independent check of rnn, lstm, gru and their backward."""

import warnings

import numpy as np
import pytest
from decorators import both_ways, every_backend, every_dtype
from flats import alone, both
from problems import BIASES, options_of

import fastrnn
from fastrnn._cells.registry import CELLS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

T, B, I, H, P = 6, 3, 4, 7, 2  # noqa: E741 - as in all the equations
THEIRS = {
    "rnn_tanh": lambda **kw: torch.nn.RNN(I, H, nonlinearity="tanh", **kw),
    "rnn_relu": lambda **kw: torch.nn.RNN(I, H, nonlinearity="relu", **kw),
    "lstm": lambda **kw: torch.nn.LSTM(I, H, **kw),
    "gru_after": lambda **kw: torch.nn.GRU(I, H, **kw),
}
every_cell_of_torch = pytest.mark.parametrize("cell", THEIRS)
LENGTHS = np.array([4, 6, 1])


class Case:
    """A layer of PyTorch's with its inputs; biases that a function does not get are zero."""

    def __init__(self, cell, dtype, biases=(1, 1), **options):
        torch.manual_seed(0)
        self.cell, self.dtype = CELLS[cell], dtype
        self.theirs = THEIRS[cell](**options).to(getattr(torch, dtype))
        named = dict(self.theirs.named_parameters())
        self.names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"]
        for name, there in zip(("bias_ih_l0", "bias_hh_l0"), biases, strict=True):
            if not there:
                named[name].data.zero_()
        self.tensors = [named.get(name) for name in self.names]
        arrays = [None if t is None else t.detach().numpy() for t in self.tensors]
        w_ih, w_hh, b_ih, b_hh, w_hr = arrays
        biases = [b if there else None for b, there in zip((b_ih, b_hh), biases, strict=True)]
        self.weights = w_ih, w_hh, *biases, {} if w_hr is None else {"weight_hr": w_hr}
        width = options.get("proj_size", H)
        rng, widths = np.random.default_rng(1), (width, H)[: len(self.cell.states)]

        def draw(*shape):
            return rng.uniform(-1, 1, shape).astype(dtype)

        self.x, self.dy = draw(T, B, I), draw(T, B, width)
        self.state, self.dlast = (tuple(draw(B, n) for n in widths) for _ in range(2))

    def ours(self, x=None, **options):
        """y, the final state, dx, dstate and the gradients of the weights, as a flat list."""
        x, (*four, extras) = self.x if x is None else x, self.weights
        function = getattr(fastrnn, self.cell.function)
        backward = getattr(fastrnn, f"{self.cell.function}_backward")
        options |= options_of(self.cell)
        y, last, tape = function(
            x, alone(self.state), *four, extras=extras, return_tape=True, **options
        )
        dx, dstate, (*dfour, dextras) = backward(
            tape, x, y, alone(self.state), self.weights, self.dy, alone(self.dlast),
            embedding=options.get("embedding"),
        )  # fmt: skip
        return [y, *both(last), dx, *both(dstate), *dfour, *dextras.values()]

    def wanted(self, x, run):
        """The same by autograd. x : what has a gradient. run : x and a state -> y, final state."""
        x, *state = (torch.from_numpy(a.copy()).requires_grad_() for a in (x, *self.state))
        y, last = run(x, alone(tuple(s[None] for s in state)))
        last = [s[0] for s in both(last)]
        loss = (y * torch.from_numpy(self.dy)).sum()
        for s, d in zip(last, self.dlast, strict=True):
            loss = loss + (s * torch.from_numpy(d)).sum()
        loss.backward()
        given = [*self.weights[:4], self.weights[4].get("weight_hr")]
        gradients = [
            None if array is None else tensor.grad
            for array, tensor in zip(given, self.tensors, strict=True)
        ]
        gradients = gradients[:4] if given[4] is None else gradients
        return [y, *last, x.grad, *(s.grad for s in state), *gradients]

    def assert_near(self, got, wanted):
        for number, (a, tensor) in enumerate(zip(got, wanted, strict=True)):
            assert (a is None) == (tensor is None), number
            if a is not None:
                b = tensor.detach().numpy()
                assert a.shape == b.shape and a.dtype == b.dtype, number
                atol = 100 * float(np.finfo(self.dtype).eps) * max(1.0, np.abs(b).max(initial=0.0))
                np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=str(number))


@every_backend
@every_cell_of_torch
@every_dtype
@both_ways
@pytest.mark.parametrize("biases", BIASES.values(), ids=BIASES)
def test_outputs_and_gradients_are_pytorchs(cell, dtype, reverse, biases, backend):
    case = Case(cell, dtype, biases)

    def run(x, state):
        y, last = case.theirs(x.flip(0) if reverse else x, state)
        return (y.flip(0) if reverse else y), last

    case.assert_near(case.ours(reverse=reverse), case.wanted(case.x, run))


@every_backend
@every_cell_of_torch
def test_ragged_batches_are_pytorchs_packed_sequences(cell, backend):
    case, pack = Case(cell, "float64"), torch.nn.utils.rnn

    def run(x, state):
        packed = pack.pack_padded_sequence(x, torch.from_numpy(LENGTHS), enforce_sorted=False)
        y, last = case.theirs(packed, state)
        return pack.pad_packed_sequence(y)[0], last

    case.assert_near(case.ours(lengths=LENGTHS), case.wanted(case.x, run))


@every_backend
@every_cell_of_torch
def test_embeddings_are_pytorchs(cell, backend):
    case, rng = Case(cell, "float64"), np.random.default_rng(2)
    ids, table = rng.integers(0, 8, (T, B)), rng.uniform(-1, 1, (9, I))

    def run(table, state):
        return case.theirs(torch.nn.functional.embedding(torch.from_numpy(ids), table), state)

    case.assert_near(case.ours(x=ids, embedding=table), case.wanted(table, run))


@every_backend
@every_dtype
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projections_are_pytorchs(dtype, backend):
    case = Case("lstm", dtype, proj_size=P)
    wanted = case.wanted(case.x, case.theirs)
    case.assert_near(case.ours(), wanted)
    case.assert_near(case.ours(checkpoint=2), wanted)
