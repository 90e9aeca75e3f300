"""fastrnn.torch: what is refused and in which words, attributes, autocast and examples."""

import doctest
import pathlib
import re
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch_modules import (  # noqa: E402
    CELLS,
    KINDS,
    B,
    H,
    I,
    T,
    assert_close,
    assert_equal,
    draw,
    leaves,
    own,
    pair,
    x_for,
)

import fastrnn.torch  # noqa: E402
from fastrnn.torch import GRU, LSTM, RNN  # noqa: E402

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]


def test_ids_need_an_embedding():
    with pytest.raises(TypeError, match=r"input must be torch.float32.* ids need a torch.nn.Embed"):
        fastrnn.torch.GRU(I, H)(torch.zeros(4, 2, dtype=torch.int64))


def test_mistakes_are_told_in_words():
    module = LSTM(I, H)
    x = draw(T, B, I, dtype=torch.float32)
    with pytest.raises(TypeError, match=r"input must be torch.float32.*input.to"):
        module(x.double())
    with pytest.raises(ValueError, match=r"input must be .* input_size = 3, got \(6, 4, 2\)"):
        module(x[..., :2])
    with pytest.raises(TypeError, match="hx must be a pair"):
        module(x, x)
    with pytest.raises(ValueError, match=r"h of hx must be .* = \(1, 4, 5\), got \(6, 4, 3\)"):
        module(x, (x, x))
    with pytest.raises(TypeError, match=r"hx must be torch.float32.* got torch.bfloat16"):
        GRU(I, H)(x, torch.zeros(1, B, H).bfloat16())
    with pytest.raises(ValueError, match=r"input must be \(B, input_size\)"):
        fastrnn.torch.GRUCell(I, H)(x[0, :, :2])
    with pytest.raises(ValueError, match=r"hx must be \(4, 5\), got \(3, 5\)"):
        fastrnn.torch.GRUCell(I, H)(x[0], torch.zeros(3, H))
    with pytest.raises(ValueError, match=r"^c of hx must be \(4, 5\), got \(3, 5\)$"):
        fastrnn.torch.LSTMCell(I, H)(x[0], (torch.zeros(B, H), torch.zeros(3, H)))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a list"):
        torch.func.vmap(lambda x: module(x, ([1.0], x)))(x[None])
    with pytest.raises(TypeError, match="hx must be a pair .* tuple of 3"):
        module(x, (x, x, x))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a tuple"):
        GRU(I, H)(x, (x,))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a tuple"):
        fastrnn.torch.GRUCell(I, H)(x[0], (x[0], x[0]))
    with pytest.raises(TypeError, match="hx must be a Tensor, got a list"):
        fastrnn.torch.LSTMCell(I, H)(x[0], ([1.0], x[0]))
    with pytest.raises(TypeError, match="input must be a Tensor, got a list"):
        GRU(I, H)([1.0])
    with pytest.raises(TypeError, match="input must be dense.* got torch.sparse_coo: use input.to"):
        module(x.to_sparse())
    with pytest.raises(TypeError, match="c of hx must be dense.* got torch.sparse_coo"):
        module(x, (torch.zeros(1, B, H), torch.zeros(1, B, H).to_sparse()))
    with pytest.raises(RuntimeError, match="lengths must be on the CPU.* got meta"):
        module(x, lengths=torch.ones(B, dtype=torch.int64, device="meta"))
    with pytest.raises(TypeError, match="mask must be dense"):
        module(x, mask=torch.ones(T, B, dtype=torch.bool).to_sparse())
    with pytest.raises(TypeError, match="lengths must be integers, got dtype float32"):
        module(x, lengths=torch.ones(B, requires_grad=True))
    with pytest.raises(TypeError, match=r"LSTM\(\) got an unexpected keyword argument 'foo'"):
        LSTM(I, H, foo=1)
    with pytest.raises(RuntimeError, match=r"use module.float.*fastrnn.torch.restore"):
        module.half()(x.half())
    with pytest.raises(RuntimeError, match="must be on the CPU"):
        LSTM(I, H, device="meta")(x)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 5, 2, 1])
    with pytest.raises(ValueError, match="must be None with a PackedSequence"):
        RNN(I, H)(packed, lengths=[6, 5, 2, 1])
    with pytest.raises(ValueError, match="nonlinearity"):
        RNN(I, H, nonlinearity="sigmoid")
    with pytest.raises(ValueError, match="peephole has no meaning"):
        GRU(I, H, peephole=True)
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        GRU(I, H, dropout=0.5)


def test_attributes_that_decide_parameters_are_fixed():
    theirs, ours = pair("lstm")
    x = draw(B, T, I)
    ours(x.transpose(0, 1))
    theirs.batch_first = ours.batch_first = True
    assert_close(leaves(ours(x)), leaves(theirs(x)))
    ours.dropout = 0.3
    for name, value in {"num_layers": 3, "hidden_size": 9, "bidirectional": True}.items():
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(ours, name, value)
    with pytest.raises(AttributeError, match="nonlinearity is fixed: make a new RNNCell"):
        fastrnn.torch.RNNCell(I, H).nonlinearity = "relu"


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [(LSTM, "proj_size", 2), (LSTM, "bias", False), (LSTM, "mode", "GRU"), (GRU, "input_size", 9),
     (GRU, "reset_after", False), (GRU, "recurrent_dropout", 0.2), (RNN, "nonlinearity", "relu")],
)  # fmt: skip
def test_every_argument_that_decides_the_cell_is_fixed(make, name, value):
    module = make(I, H)
    setattr(module, name, getattr(module, name))
    with pytest.raises(AttributeError, match=f"^{name} is fixed: make a new {make.__name__}$"):
        setattr(module, name, value)


def test_cells_have_their_biases_as_attributes_of_none():
    cell = fastrnn.torch.GRUCell(I, H, bias=False)
    assert cell.bias_ih is None and cell.bias_hh is None


def test_normalisation_begins_with_gains_of_one():
    gru = GRU(I, H, layer_norm=True)
    begins = {name: p for name, p in gru.named_parameters() if "_ln_" in name}
    assert begins
    for name, parameter in begins.items():
        assert (parameter == (1 if name.startswith("weight") else 0)).all(), name


@pytest.mark.parametrize("given", [{}, {"lengths": [3, 1, 2, 2]}])
def test_reset_to_is_checked_without_a_reset(given):
    with pytest.raises(ValueError, match="reset_to must be one of 'zero', 'initial', got 'one'"):
        GRU(I, H)(draw(T, B, I, dtype=torch.float32), reset_to="one", **given)


def test_a_projection_has_no_zoneout():
    with pytest.raises(ValueError, match="zoneout must be 0 with proj_size"):
        LSTM(I, H, proj_size=2, zoneout=0.1)


def test_dropout_between_layers_says_nothing_of_infinities():
    module = RNN(I, H, 2, "relu", dropout=0.5)
    with torch.no_grad():
        module.bias_ih_l0.fill_(torch.inf)
    torch.manual_seed(0)
    assert module(draw(T, B, I, dtype=torch.float32))[0].isnan().any()  # of infinity times 0


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("wants", [False, True], ids=["inference", "training"])
def test_a_state_of_another_kind_is_refused_by_every_call(frozen, wants):
    x, h = draw(T, B, I, dtype=torch.float32), torch.zeros(1, B, H)
    others = {GRU: [(h,), (), (h, h), [h]], LSTM: [h, (h,), (), (h, h, h), [h]]}
    for kind, states in others.items():
        module = kind(I, H).freeze() if frozen else kind(I, H)
        with torch.set_grad_enabled(wants):
            for _ in range(2):  # the first call takes the long way
                for state in states:
                    with pytest.raises(TypeError, match="hx must be a (pair|Tensor)"):
                        module(x, state)
                module(x)


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_reset_to_is_judged_by_every_call(kind):
    module, x = kind(I, H), draw(T, B, I, dtype=torch.float32)
    for _ in range(2):  # the first call takes the long way
        with pytest.raises(ValueError, match="reset_to must be"):
            module(x, reset_to="last")
        module(x, reset_to="initial")
        module(x)


def test_a_parameter_of_another_shape_is_refused():
    module, x = GRU(I, H), draw(T, B, I, dtype=torch.float32)
    module(x)
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.data[:H])
    with pytest.raises(ValueError, match=r"weight_hh_l0 must be \(15, 5\), got \(5, 5\)"):
        module(x)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_parameter_that_is_none_is_refused(frozen):
    module, x = GRU(I, H), draw(T, B, I, dtype=torch.float32)
    module(x)
    (module.freeze() if frozen else module).weight_hh_l0 = None
    with torch.no_grad(), pytest.raises(TypeError, match="weight_hh_l0 must be a parameter, got N"):
        module(x)


def test_tensors_whose_sign_is_kept_apart():
    _, module = pair("gru")
    x = draw(T, B, I)
    negative = torch.complex(x, x).conj().imag
    assert negative.is_neg()
    assert_equal(leaves(module(negative)), leaves(module(-x)))


def test_parameters_without_memory_are_refused():
    module = GRU(I, H)
    x = draw(T, B, I, dtype=torch.float32)
    module.weight_hh_l0.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="weight_hh_l0 must have memory"):
        module(x)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="must have memory"):
        GRU(I, H)(x)


def test_autocast_gives_its_dtype():
    module, x = LSTM(I, H), draw(T, B, I, dtype=torch.float32).requires_grad_()
    wanted = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h, c) = module(x)
        low, _ = module(x.bfloat16())
        wide, _ = module.double()(x.double())
        module.float()
    assert {t.dtype for t in (y, h, c, low)} == {torch.bfloat16} and wide.dtype == torch.float64
    torch.testing.assert_close(y, wanted[0].bfloat16())
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", CELLS)
def test_autocast_of_a_cell_gives_its_dtype(kind):
    _, cell = pair(kind, torch.float32, kinds=CELLS)
    x = draw(B, I, dtype=torch.float32)
    wanted = leaves(cell(x))
    mapped = torch.func.vmap(lambda x: cell(x))  # by torch's own operations
    with torch.autocast("cpu", torch.bfloat16):
        for call, given in ((cell, x), (cell, x.bfloat16()), (mapped, x), (mapped, x.bfloat16())):
            got = leaves(call(given))
            assert {t.dtype for t in got} == {torch.bfloat16}
            for low, exact in zip(got, wanted, strict=True):
                torch.testing.assert_close(low.float(), exact, rtol=0.02, atol=0.02)


def test_gradients_of_gradients_under_autocast_are_those_without():
    module, x = GRU(I, H), draw(T, B, I, dtype=torch.float32).requires_grad_()
    dy = draw(T, B, H, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x)
        given = y, (x, *module.parameters()), dy.bfloat16()
        by_kernels = torch.autograd.grad(*given, retain_graph=True)
        got = torch.autograd.grad(*given, create_graph=True)
    assert_close([d.detach() for d in got], by_kernels)


def test_the_pages_examples_run():
    page = pathlib.Path(__file__).parents[2] / "docs/torch.md"
    names = {}
    for block in re.findall("```python\n(.*?)```", page.read_text(), re.S):
        exec(block, names)
    assert names["y"].shape == (100, 3, 64)


METHODS = ["forward", "freeze", "thaw", "train", "reset_parameters", "options"]


@pytest.mark.parametrize("name", [*fastrnn.torch.__all__, *(f"LSTM.{m}" for m in METHODS)])
def test_the_docstrings_examples_run(name):
    value = fastrnn.torch
    for part in name.split("."):
        value = getattr(value, part)
    (found,) = doctest.DocTestFinder(recurse=False).find(value, name)
    assert found.examples
    assert doctest.DocTestRunner().run(found).failed == 0


def test_no_call_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            _, module = pair(kind, batch_first=True, bidirectional=True)
            x = own(x_for(module))
            module(x)[0].sum().backward()
            with torch.no_grad():
                module(x)
