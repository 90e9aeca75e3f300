"""fastrnn's operators, one direction of one layer each."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_traced import draw  # noqa: E402

import fastrnn  # noqa: E402
import fastrnn.torch  # noqa: E402
from fastrnn._cells import options  # noqa: E402
from fastrnn._cells.registry import CELLS, projected, variant  # noqa: E402
from fastrnn._layer.structure import Structure  # noqa: E402
from fastrnn.torch._operators import OPERATORS, spec_of  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),  # forward mode's own
]

T, B, I, H, P = 5, 3, 2, 6, 4  # noqa: E741 - as in all the equations
PLAIN = {
    "rnn_tanh": ("rnn_tanh", {}), "rnn_relu": ("rnn_relu", {}), "lstm": ("lstm", {}),
    "lstm, projected": ("lstm", {"proj_size": P}), "gru_after": ("gru_after", {}),
    "gru_before": ("gru_before", {}), "lstm, no bias": ("lstm", {"bias": False}),
}  # fmt: skip
VARIANTS = {
    "lstm, peephole": ("lstm", {"peephole": True, "clip": 2.0}),
    "lstm, coupled": ("lstm", {"coupled": True, "zoneout": (0.1, 0.2)}),
    "lstm, normalised": ("lstm", {"layer_norm": True, "bias": False}),
    "gru, normalised": ("gru_after", {"layer_norm": True}),
    "gru, hard": ("gru_before", {"recurrent_activation": "hard_sigmoid"}),
}


class Problem:
    """The arguments of an operator, and of the function of the same cell."""

    def __init__(
        self, name, dtype=torch.float64, ragged=False, reverse=False, grad=True, keep=True
    ):
        self.name, given = (PLAIN | VARIANTS)[name]
        given = dict(given)
        proj_size, bias = given.pop("proj_size", 0), given.pop("bias", True)
        plain = CELLS[self.name]
        cell = variant(plain, options.checked(plain.states, **given))
        cell = projected(cell) if proj_size else cell
        np_dtype = np.dtype(str(dtype).removeprefix("torch."))
        sizes = (cell, I, H, proj_size, 1, bias, False, False, "concat", np_dtype, reverse)
        self.structure, self.given, self.reverse = Structure(*sizes), given, reverse
        self.operator = OPERATORS[cell.function]
        self.x = draw(T, B, I, dtype=dtype, grad=grad)
        self.state = [
            draw(B, size, dtype=dtype, grad=grad, seed=k)
            for k, size in enumerate(self.structure.state_sizes)
        ]
        shapes = self.structure.shapes.values()
        self.parameters = [draw(*s, dtype=dtype, grad=grad, seed=k) for k, s in enumerate(shapes)]
        self.rows = (None, None, None)
        if ragged:
            mask = torch.arange(T * B).reshape(T, B) % 3 > 0
            reset = torch.arange(T * B).reshape(T, B) % 4 == 1
            self.rows = torch.tensor([T, 2, 0]), mask, reset
        self.end = ("initial", reverse, keep, spec_of(cell, bias))

    def arguments(self):
        return (self.x, *self.state, self.parameters, *self.rows, *self.end)

    def tensors(self):
        return (self.x, *self.state, *self.parameters)

    def run(self, *tensors):
        """y and the final state as functions of `tensors()`."""
        x, *rest = tensors or self.tensors()
        count = len(self.state)
        found = self.operator(x, *rest[:count], rest[count:], *self.rows, *self.end)
        return found[:-1]

    def by_function(self, dys):
        """What `fastrnn.lstm` and its like return, and all gradients, as flat lists of arrays."""
        cell = self.structure.cell
        x, *rest = [t.detach().numpy() for t in self.tensors()]
        state, own = rest[: len(self.state)], rest[len(self.state) :]
        named = dict(zip(self.structure.names(0), own, strict=True))
        plain = [named.pop(kind, None) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        rows = [None if r is None else r.numpy() for r in self.rows]
        given = dict(zip(("lengths", "mask", "reset"), rows, strict=True)) | self.given
        if cell.function == "rnn":
            given["nonlinearity"] = self.name.removeprefix("rnn_")
        if cell.function == "gru":
            given["reset_after"] = self.name == "gru_after"
        state = tuple(state) if len(state) > 1 else state[0]
        y, last, tape = getattr(fastrnn, cell.function)(
            x, state, *plain, reverse=self.reverse, reset_to="initial", return_tape=True,
            extras=named or None, **given,
        )  # fmt: skip
        dy, *dlast = [d.numpy() for d in dys]
        dx, dstate, dweights = getattr(fastrnn, f"{cell.function}_backward")(
            tape, x, y, state, (*plain, named or None), dy,
            tuple(dlast) if len(dlast) > 1 else dlast[0],
        )  # fmt: skip
        extras = dict(dweights[4] or {}) if len(dweights) > 4 else {}
        of_weights = [a for a in (*dweights[:4], *extras.values()) if a is not None]
        return [y, *_arrays(last)], [dx, *_arrays(dstate), *of_weights]


def _arrays(state):
    return state if isinstance(state, tuple) else (state,)


def outer(problem):
    """Gradients of y and of the final state."""
    y, *last = problem.run()
    return [draw(*t.shape, dtype=t.dtype, seed=k) for k, t in enumerate((y, *last))]


def gradients_of(problem, dys):
    return torch.autograd.grad(problem.run(), problem.tensors(), dys)


every_problem = pytest.mark.parametrize("name", PLAIN | VARIANTS)
ragged = pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
reverse = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


# ---- the operators -------------------------------------------------------------------------------


@every_problem
@every_dtype
@ragged
@reverse
def test_an_operator_has_the_bits_of_the_function(name, dtype, ragged, reverse):
    problem = Problem(name, dtype, ragged, reverse)
    dys = outer(problem)
    results, gradients = problem.by_function(dys)
    for got, wanted in zip(problem.run(), results, strict=True):
        np.testing.assert_array_equal(got.detach(), wanted)
    for got, wanted in zip(gradients_of(problem, dys), gradients, strict=True):
        np.testing.assert_array_equal(got, wanted)


@every_problem
@ragged
def test_torchs_own_checks_of_operators(name, ragged):
    problem = Problem(name, ragged=ragged, reverse=ragged)
    torch.library.opcheck(problem.operator, problem.arguments())


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_and_their_gradients_agree_with_finite_differences(name):
    problem = Problem(name, ragged=True, reverse=True)
    if name == "rnn_relu":  # not at a kink: inputs far from it
        problem.parameters[2].data += 3
    assert torch.autograd.gradcheck(problem.run, problem.tensors())
    assert torch.autograd.gradgradcheck(problem.run, problem.tensors(), fast_mode=True)


@every_problem
def test_without_a_tape_backward_runs_forward_again(name):
    kept, other = (Problem(name, ragged=True, keep=keep) for keep in (True, False))
    assert kept.operator(*kept.arguments())[-1].numel() > 0
    assert other.operator(*other.arguments())[-1].numel() == 0
    dys = outer(kept)
    for a, b in zip(gradients_of(kept, dys), gradients_of(other, dys), strict=True):
        assert torch.equal(a, b)


@every_problem
@pytest.mark.parametrize("order", [("core", "reference"), ("reference", "core")])
def test_backward_may_run_on_another_backend_than_forward(name, order):
    problem = Problem(name, ragged=True)
    dys = outer(problem)
    wanted = gradients_of(problem, dys)
    with fastrnn.backend(order[0]):
        results = problem.run()
    with fastrnn.backend(order[1]):
        got = torch.autograd.grad(results, problem.tensors(), dys)
    torch.testing.assert_close(got, wanted)


def test_y_that_was_changed_before_backward_is_refused():
    problem = Problem("gru_after")
    y, _ = problem.run()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_of_gradients_of_options_are_refused():
    problem = Problem("lstm, peephole")
    y, *_ = problem.run()
    with pytest.raises(NotImplementedError, match="gradients of gradients need a cell without"):
        torch.autograd.grad(y.sum(), problem.x, create_graph=True)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({0: draw(T, B, I + 1)}, ValueError, r"x must be .* input_size = 2, got \(5, 3, 3\)"),
        ({0: draw(T, B, I).half()}, TypeError, "x must be float32 or float64, got torch.float16"),
        ({0: draw(T, B, I).float()}, TypeError, "h must be torch.float32, the dtype of x"),
        ({1: draw(B + 1, H)}, ValueError, r"h must be \(3, 6\), got \(4, 6\)"),
        ({3: [draw(4 * H, I)]}, ValueError, "parameters must be weight_ih_l0, .*, got 1"),
        ({4: torch.tensor([T + 1, 1, 1])}, ValueError, "lengths must be .* 0 to T = 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words):
    problem = Problem("lstm", grad=False)
    arguments = [change.get(k, a) for k, a in enumerate(problem.arguments())]
    with pytest.raises(error, match=words):
        problem.operator(*arguments)
