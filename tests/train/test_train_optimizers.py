"""Clipping and optimizers: steps compared with PyTorch's; valid and invalid arguments."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw, every_dtype

import fastrnn
from fastrnn import train

pytestmark = pytest.mark.no_kernels


@every_dtype
@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda p: train.SGD(p, 0.1), ("SGD", {"lr": 0.1})),
        (lambda p: train.SGD(p, 0.1, momentum=0.9), ("SGD", {"lr": 0.1, "momentum": 0.9})),
        (lambda p: train.Adam(p, 0.01), ("Adam", {"lr": 0.01})),
        (lambda p: train.Adam(p, 0.1, (0.8, 0.99), 1e-3),
         ("Adam", {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3})),
        (lambda p: train.SGD(p, 0.1, 0.9, weight_decay=0.2),
         ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2})),
        (lambda p: train.Adam(p, 0.01, weight_decay=0.01), ("AdamW", {"lr": 0.01})),
        (lambda p: train.Adam(p, 0.1, weight_decay=0.5),
         ("AdamW", {"lr": 0.1, "weight_decay": 0.5})),
    ],
    ids=["SGD", "momentum", "Adam", "Adam otherwise", "SGD decays", "AdamW", "AdamW decays more"],
)  # fmt: skip
def test_optimizers_are_pytorchs(make, theirs, dtype):
    torch = pytest.importorskip("torch")
    ours = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
    other = [torch.from_numpy(p.copy()).requires_grad_() for p in ours]
    optimizer, theirs = make(ours), getattr(torch.optim, theirs[0])(other, **theirs[1])
    for step in range(20):
        gradients = [draw(p.size, dtype=dtype, seed=step + p.size) for p in ours]
        optimizer.step(gradients)
        for p, g in zip(other, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        theirs.step()
    for p, wanted in zip(ours, other, strict=True):
        tolerance = 100 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(p, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert p.dtype == dtype


@every_dtype
def test_gradients_are_clipped_to_a_common_norm_or_each_to_a_value(dtype):
    for largest in (0.5, 100):
        gradients = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
        before = np.concatenate(gradients)
        norm = train.clip_by_norm(gradients, largest)
        np.testing.assert_allclose(norm, np.linalg.norm(before), rtol=1e-6)
        wanted = before * min(1, largest / norm)
        np.testing.assert_allclose(np.concatenate(gradients), wanted, rtol=1e-6)
        assert all(g.dtype == dtype for g in gradients)
    train.clip_by_value(gradients, 0.25)
    assert_same_bits(np.concatenate(gradients), np.clip(before, -0.25, 0.25).astype(dtype))


@pytest.mark.parametrize("make", [lambda p: train.SGD(p, 0.1), train.Adam], ids=["SGD", "Adam"])
def test_gradients_that_do_not_fit_change_nothing(make):
    parameters = [draw(4), draw(3)]
    optimizer, before = make(parameters), pickle.dumps(parameters)
    for sizes in ((4,), (4, 3, 3), (3, 4), (4, 1)):
        with pytest.raises(ValueError, match="gradients must be like the parameters"):
            optimizer.step([draw(n) for n in sizes])
        assert pickle.dumps(parameters) == before
    wanted = [draw(4), draw(3)]
    make(wanted).step([draw(4), draw(3)])
    optimizer.step([draw(4), draw(3)])  # as without the refused ones
    assert_same_bits(parameters, wanted)


# ---- parameters ----------------------------------------------------------------------------------

every_optimizer = pytest.mark.parametrize(
    "make", [lambda p: train.SGD(p, 0.1, momentum=0.9), train.Adam], ids=["SGD", "Adam"]
)


@every_optimizer
@pytest.mark.parametrize(
    "given",
    [
        lambda parts: [part.flat for part in parts],
        lambda parts: (part.flat for part in parts),
        lambda parts: parts,
        lambda parts: (parts[0], parts[1].flat),
    ],
    ids=["list", "generator", "parts", "tuple"],
)
def test_parameters_are_arrays_or_parts_of_any_sequence(make, given):
    parts, others = ([fastrnn.GRU(2, 3, rng=0), train.Dense(3, 2, rng=1)] for _ in range(2))
    gradients = [draw(part.flat.size, dtype="float32") for part in parts]
    make([part.flat for part in others]).step(gradients)
    make(given(parts)).step(gradients)
    assert_same_bits([part.flat for part in parts], [part.flat for part in others])
    assert (parts[0].flat != fastrnn.GRU(2, 3, rng=0).flat).any()


@every_dtype
@every_optimizer
@pytest.mark.parametrize("shape", [(5,), (2, 3), (), (0,)], ids=str)
def test_one_array_is_one_parameter(make, shape, dtype):
    ours, wanted = (np.asarray(draw(*shape, dtype=dtype)) for _ in range(2))
    gradient = np.asarray(draw(*shape, dtype=dtype, seed=1))
    optimizer, other = make(ours), make([wanted])
    for _ in range(3):
        optimizer.step(gradient)
        other.step([gradient])
    assert len(optimizer.parameters) == 1 and optimizer.parameters[0] is ours
    assert_same_bits(ours, wanted)
    assert ours.dtype == dtype and (ours != np.asarray(draw(*shape, dtype=dtype))).all()


@every_optimizer
def test_one_part_is_one_parameter(make):
    dense, other = train.Dense(3, 2, rng=0), train.Dense(3, 2, rng=0)
    gradient = dense.backward(draw(4, 3, dtype="f4"), draw(4, 2, dtype="f4"))
    make(dense).step(gradient)  # both stand for their flat
    make([other.flat]).step([gradient.flat])
    assert_same_bits(dense.flat, other.flat)


@every_optimizer
def test_columns_of_one_array_are_separate_parameters(make):
    whole, wanted = draw(5, 4), [draw(5, 4)[:, i].copy() for i in range(4)]
    gradients = [draw(5, seed=i) for i in range(4)]
    make([whole[:, i] for i in range(4)]).step(gradients)
    make(wanted).step(gradients)
    assert_same_bits(whole, np.stack(wanted, axis=1))


def read_only(array):
    array.flags.writeable = False
    return array


WRITEABLE = "must be a writeable array of float32 or float64, got "
UNFIT = {
    "integers": (lambda: [draw(3), np.arange(3)], TypeError, r"\[1\] " + WRITEABLE + "int64"),
    "half": (lambda: np.ones(3, "f2"), TypeError, r"\[0\] " + WRITEABLE + "float16"),
    "objects": (lambda: np.array([draw(3), None], object), TypeError, WRITEABLE + "object"),
    "numbers": (lambda: [1.5, 2.5], TypeError, r"\[0\] " + WRITEABLE + "float"),
    "nested": (lambda: [[draw(3)], draw(2)], TypeError, r"\[0\] " + WRITEABLE + "list"),
    "read-only": (lambda: [read_only(draw(3))], TypeError, WRITEABLE + "a read-only one: of"),
    "masked": (lambda: [np.ma.array(draw(3))], TypeError, "must be an array without a mask"),
    "none of them": (list, ValueError, "must hold at least one array, got none"),
    "None": (lambda: None, TypeError, "must be a list of arrays, got NoneType"),
    "a string": (lambda: "layer.flat", TypeError, "must be a list of arrays, got str"),
    "a set": (lambda: {train.Dense(3, 2)}, TypeError, "must be a list of arrays, got set"),
    "a dict": (lambda: {"w": draw(3)}, TypeError, r"got dict: give list\(.*.values\(\)\)"),
    "twice": (lambda: 2 * [draw(3)], ValueError, r"\[1\] must not share memory with .*\[0\]"),
    "a view": (lambda: (lambda a: [draw(2), a, a[1:2]])(draw(3)), ValueError, r"\[2\] must not sh"),
}
every_unfit = pytest.mark.parametrize(
    ("given", "error", "message"), UNFIT.values(), ids=UNFIT.keys()
)


@every_optimizer
@every_unfit
def test_parameters_that_cannot_be_trained_are_refused_by_name(make, given, error, message):
    with pytest.raises(error, match=f"parameters.*{message}") as caught:
        make(given())
    assert str(draw(3)[0])[:5] not in str(caught.value)  # no elements in the message


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: train.SGD(p, float("nan")), ValueError, "learning_rate must be .* got nan"),
        (lambda p: train.SGD(p, -0.1), ValueError, "learning_rate must be a finite number of at"),
        (lambda p: train.SGD(p, 10**400), ValueError, "learning_rate must be"),
        (lambda p: train.Adam(p, float("inf")), ValueError, "learning_rate must be"),
        (lambda p: train.Adam(p, "0.1"), TypeError, "learning_rate must be .* got str"),
        (lambda p: train.Adam(p, True), TypeError, "learning_rate must be .* got bool"),
        (lambda p: train.Adam(p, None), TypeError, "learning_rate must be .* got NoneType"),
        (lambda p: train.Adam(p, [0.1]), TypeError, "learning_rate must be .* got list"),
        (lambda p: train.SGD(p, 0.1, momentum=1.5), ValueError, "momentum must be from 0 to 1"),
        (lambda p: train.SGD(p, 0.1, momentum="0"), TypeError, "momentum must be .* got str"),
        (lambda p: train.Adam(p, 0.1, (0.9, 1.0)), ValueError, r"betas\[1\] must be from 0 to bel"),
        (lambda p: train.Adam(p, 0.1, 0.9), TypeError, "betas must be a pair of numbers, got fl"),
        (lambda p: train.Adam(p, 0.1, (0.9,)), TypeError, "betas must be a pair of numbers, got 1"),
        (lambda p: train.Adam(p, weight_decay=-1), ValueError, "weight_decay must be a finite"),
        (lambda p: train.SGD(p, 0.1, weight_decay=np.inf), ValueError, "weight_decay must be a fi"),
        (
            lambda p: train.SGD(p, 0.1, weight_decay="L2"),
            TypeError,
            "weight_decay must be a finite",
        ),
        (lambda p: train.Adam(p, epsilon=-1), ValueError, "epsilon must be a finite number above"),
        (lambda p: train.Adam(p, epsilon=0), ValueError, "epsilon must be a finite number above 0"),
        (lambda p: train.Adam(p, epsilon=np.inf), ValueError, "epsilon must be a finite number"),
    ],
)
def test_numbers_out_of_range_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call([draw(3)])


@every_optimizer
def test_a_learning_rate_that_is_assigned_or_loaded_is_checked(make):
    optimizer = make([draw(3)])
    optimizer.learning_rate = np.float32(0.5)
    for bad in (-1, float("nan"), "0.1"):
        with pytest.raises((ValueError, TypeError), match="learning_rate must be"):
            optimizer.learning_rate = bad
    bad = {name: array + 1 for name, array in optimizer.state().items()}
    bad["learning_rate"] = np.array(np.nan)
    before = pickle.dumps(optimizer.state())
    with pytest.raises(ValueError, match="learning_rate of state must be"):
        optimizer.load(bad)
    assert pickle.dumps(optimizer.state()) == before and optimizer.learning_rate == 0.5


def test_a_state_of_a_negative_number_of_updates_is_refused():
    adam = train.Adam([draw(3)])
    with pytest.raises(ValueError, match="updates of state must be .* got -1"):
        adam.load({**adam.state(), "updates": np.array(-1)})


def test_numbers_of_numpy_are_as_good_as_pythons():
    ours, wanted = draw(50, dtype="f4"), draw(50, dtype="f4")
    numbers = [0.1, (0.9, 0.99), 1e-3]
    for p, kind in ((ours, np.float64), (wanted, float)):
        rate, betas, epsilon = numbers
        adam = train.Adam([p], kind(rate), tuple(map(kind, betas)), kind(epsilon))
        for seed in range(5):
            adam.step([draw(50, dtype="f4", seed=seed)])
    assert_same_bits(ours, wanted)


# ---- gradients -----------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        ([draw(4, dtype="f4")], ValueError, r"of shapes \[\(4,\), \(3,\)\], got \[\(4,\)\]"),
        (draw(4, dtype="f4"), ValueError, "gradients must be like the parameters"),
        ([draw(4, dtype="f4"), draw(3)], TypeError,
         r"gradients\[1\] must be float32 like parameters\[1\], got float64: cast it with .astype"),
        ([draw(4, dtype="f4"), np.arange(3)], TypeError, r"gradients\[1\] must be an array of flo"),
        ([draw(4, dtype="f4"), None], TypeError, r"gradients\[1\] must be an array of float32"),
        ([draw(4, dtype="f4"), draw(3) * 1j], TypeError, r"gradients\[1\] must be an array of flo"),
        ({"a": draw(4, dtype="f4")}, TypeError, "gradients must be a list of arrays, got dict"),
        (None, TypeError, "gradients must be a list of arrays, got NoneType"),
        ([train.Dense(1, 2, rng=0), draw(3)], TypeError,
         r"gradients\[0\] must be what backward returned, got the Dense itself, whose arrays are"),
        (fastrnn.GRU(1, 1, rng=0), TypeError, r"gradients\[0\] .* got the GRU itself"),
    ],
    ids=[
        "too few", "one", "wider", "integers", "None", "complex", "dict", "nothing", "a part",
        "a layer",
    ],
)  # fmt: skip
def test_gradients_that_do_not_fit_are_refused_by_name(make, gradients, error, message):
    parameters = [draw(4, dtype="f4"), draw(3, dtype="f4")]
    optimizer, before = make(parameters), pickle.dumps(parameters)
    state = pickle.dumps(optimizer.state())
    with pytest.raises(error, match=message):
        optimizer.step(gradients)
    assert pickle.dumps(parameters) == before and pickle.dumps(optimizer.state()) == state


@every_optimizer
def test_the_gradient_of_an_embedding_may_have_the_shape_of_its_table(make):
    ids, (table, other) = [[0, 2], [2, 2]], (train.Embedding(3, 4, rng=0) for _ in range(2))
    layer = fastrnn.GRU(4, 5, rng=1)
    y, _, tape = layer.forward(ids, embedding=table.params["weight"])
    grads = tape.backward(np.ones_like(y))
    optimizer = make(part for part in [layer, table])
    copy.copy(optimizer).step([grads, np.asfortranarray(grads.embedding)])
    make(other.flat).step(grads.embedding.ravel())
    assert_same_bits(table.flat, other.flat)
    make(other).step(grads.embedding)
    with pytest.raises(ValueError, match=r"gradients\[1\] may also be \(3, 4\): transposed"):
        make([layer, table]).step([grads, grads.embedding.T])


@every_optimizer
def test_a_gradient_of_another_shape_and_the_same_size_is_refused_with_the_fix(make):
    table, gradient = train.Embedding(3, 4, rng=0), draw(3, 4, dtype="f4")
    before = table.flat.copy()
    for optimizer, g, fix in (
        (make(table.flat), gradient, r"the parts and not their flat, or gradients\[0\].ravel"),
        (make([draw(3, 4)]), draw(12), r"give gradients\[0\].reshape\(\(3, 4\)\)"),
    ):
        with pytest.raises(ValueError, match=fix):
            optimizer.step(g)
    assert_same_bits(table.flat, before)


@every_optimizer
def test_gradients_may_lie_anyhow(make):
    ours, wanted, gradient = draw(4, 3), draw(4, 3), draw(4, 3, seed=1)
    wide = np.zeros((8, 6))
    wide[::2, ::-2] = gradient
    make([wanted]).step([gradient])
    optimizer = make([ours])
    optimizer.step(g for g in [read_only(wide[::2, ::-2])])
    assert_same_bits(ours, wanted)


# ---- clipping ------------------------------------------------------------------------------------

LARGE_AND_SMALL = {
    "float32": [1e19, 3e38, 1e-20, 1e-38, 1e-42],
    "float64": [1e155, 1e300, 1e-170, 1e-300, 1e-320],
}


@pytest.mark.parametrize(
    ("dtype", "size"), [(dtype, size) for dtype, sizes in LARGE_AND_SMALL.items() for size in sizes]
)
def test_a_norm_neither_overflows_nor_vanishes(dtype, size):
    fifth = np.array(size, dtype) / 5
    before = [3 * fifth * np.ones(1, dtype), fifth * np.ones((2, 8), dtype)]  # 3² + 16 = 5²
    gradients = [g.copy() for g in before]
    near = {"rtol": 1e-6 if size >= np.finfo(dtype).tiny else 0.3}  # subnormals have few digits
    np.testing.assert_allclose(train.clip_by_norm(gradients, np.inf), size, **near)
    assert_same_bits(gradients, before)
    np.testing.assert_allclose(train.clip_by_norm(gradients, size / 2), size, **near)
    np.testing.assert_allclose(gradients[0], before[0] / 2, **near)
    np.testing.assert_allclose(gradients[1], before[1] / 2, **near)
    if size > 1:
        train.clip_by_norm(gradients, 1.0)
        np.testing.assert_allclose([g.max() for g in gradients], [0.6, 0.2], rtol=1e-6)


def test_finite_gradients_whose_norm_is_no_float_are_clipped():
    gradients = [np.full(4, 1.5e308), np.array([3.0], "f4"), np.full((2, 2), -1.5e308)]
    assert train.clip_by_norm(gradients, np.inf) == np.inf
    assert (gradients[0] == 1.5e308).all()
    assert train.clip_by_norm(gradients, 1.0) == np.inf
    assert train.clip_by_norm(gradients, np.inf) == pytest.approx(1)
    np.testing.assert_allclose(gradients[2], -(8**-0.5))


@every_dtype
@pytest.mark.parametrize("optimizer", [partial(train.SGD, momentum=0.9), train.Adam])
def test_tiny_gradients_are_rounded_without_a_warning(optimizer, dtype):
    """Squares of 1e-30, and momentum after many steps without a gradient, are 0 in float32."""
    parameter, gradient = np.ones(2, dtype), np.array([1e-30, np.finfo(dtype).tiny], dtype)
    with np.errstate(all="raise"):
        steps = optimizer(parameter, 0.1)
        for _ in range(3):
            train.clip_by_norm(gradient, 1e-31)
            steps.step(gradient)
    assert np.isfinite(parameter).all()


@every_dtype
def test_a_largest_value_beyond_the_dtype_clips_infinity_alone(dtype):
    most, gradient = float(np.finfo(dtype).max), np.array([1, np.inf, -np.inf, np.nan], dtype)
    with np.errstate(all="raise"):
        train.clip_by_value(gradient, 1e39)
    most = min(1e39, most)
    np.testing.assert_array_equal(gradient, np.array([1, most, -most, np.nan], dtype))
    train.clip_by_value(infinite := np.array([np.inf], dtype), np.inf)
    assert infinite[0] == np.inf


def test_gradients_of_both_dtypes_have_one_norm():
    gradients = [np.array([3e30], "f4"), np.array([4e300]), np.array(0.0), np.zeros(0, "f4")]
    assert train.clip_by_norm(gradients, 4.0) == pytest.approx(4e300)
    np.testing.assert_allclose(gradients[1], [4.0])
    assert gradients[0].dtype == np.float32 and gradients[0] == 0  # 3e-270


def test_norms_keep_their_digits():
    gradient = np.full(1_000_000, np.float32(0.1))
    assert train.clip_by_norm(gradient, np.inf) == pytest.approx(
        1000 * float(gradient[0]), rel=1e-7
    )


@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_are_left_as_they_are(bad, dtype):
    gradients = [draw(3, dtype=dtype), np.array([1, bad, 2], dtype)]
    before = [g.copy() for g in gradients]
    norm = train.clip_by_norm(gradients, 0.1)
    assert not np.isfinite(norm)
    assert_same_bits(gradients, before)


@pytest.mark.parametrize("clip", [train.clip_by_norm, train.clip_by_value])
def test_what_is_clipped_is_one_array_or_several_of_any_sequence(clip):
    one, whole = draw(6), draw(6)
    several, lying = [draw(6)[:2], draw(6)[2:]], draw(6).reshape(2, 3).T
    for given in (one, (g for g in several), [lying], [whole[::2], whole[1::2]]):
        clip(given, 0.1)
    if clip is train.clip_by_norm:
        assert np.linalg.norm(one) == pytest.approx(0.1)
    for other in (np.concatenate(several), lying.T.reshape(-1), whole):
        np.testing.assert_allclose(other, one, rtol=1e-14)


@pytest.mark.parametrize("clip", [train.clip_by_norm, train.clip_by_value])
@every_unfit
def test_gradients_that_cannot_be_clipped_in_place_are_refused(clip, given, error, message):
    with pytest.raises(error, match=f"gradients.*{message}"):
        clip(given(), 1.0)


def test_arrays_are_compared_with_those_that_they_may_overlap_alone(monkeypatch):
    compared, shares_memory = [], np.shares_memory

    def counted(*arrays):
        compared.append(arrays)
        return shares_memory(*arrays)

    monkeypatch.setattr(np, "shares_memory", counted)
    separate = [draw(4) for _ in range(1000)]
    train.clip_by_norm(separate, 1.0)
    assert len(compared) < 1000
    for at in (0, 500, 1000):
        given = [*separate[:at], separate[700][1:2], *separate[at:]]
        first, second = sorted((at, 700 + (at <= 700)))
        with pytest.raises(ValueError, match=rf"\[{second}\] must not share .*\[{first}\]"):
            train.clip_by_norm(given, 1.0)
    whole = draw(1000)
    with pytest.raises(ValueError, match=r"\[3\] must not share memory with gradients\[0\]"):
        train.clip_by_norm([whole, draw(3), draw(2), whole[-1:], draw(1)], 1.0)


@pytest.mark.parametrize("clip", [train.clip_by_norm, train.clip_by_value])
@pytest.mark.parametrize(
    ("largest", "error"), [(-1, ValueError), (np.nan, ValueError), ("1", TypeError)]
)
def test_a_largest_that_is_none_is_refused(clip, largest, error):
    gradient = draw(3)
    with pytest.raises(error, match="largest must be a number of at least 0"):
        clip([gradient], largest)
    assert_same_bits(gradient, draw(3))


@pytest.mark.parametrize("make", [train.SGD, train.Adam])
def test_an_attribute_that_there_is_not_cannot_be_assigned(make):
    optimizer = make(draw(3), 0.1)
    with pytest.raises(AttributeError, match=f"{make.__name__} has no lr: it has learning_rate, "):
        optimizer.lr = 0.2
    optimizer.learning_rate = 0.2
    for copied in (copy.copy(optimizer), copy.deepcopy(optimizer)):
        with pytest.raises(AttributeError, match="has no lr"):
            copied.lr = 0.2

    class Own(make):
        def __init__(self, parameters):
            super().__init__(parameters, 0.1)
            self.warmup = 5

    assert Own(draw(3)).warmup == 5


@pytest.mark.parametrize("make", [lambda p: train.SGD(p, 0.1, 0.9), lambda p: train.Adam(p, 0.1)])
def test_a_shallow_copy_has_sums_of_its_own_and_the_same_parameters(make):
    parameter, gradient = draw(3), draw(3, seed=1)
    optimizer = make(parameter)
    copied, before = copy.copy(optimizer), optimizer.state()
    copied.step([gradient])
    assert_same_bits(optimizer.state(), before)
    assert copied.parameters[0] is parameter


@every_dtype
def test_a_huge_gradient_leaves_adams_parameters_finite(dtype):
    """Its square is beyond the range of floats: the running mean is then the largest float."""
    parameter = draw(3, dtype=dtype)
    adam, huge = train.Adam(parameter), np.finfo(dtype).max / 4
    for size in (huge, 1, 1, huge, -huge, 1):
        adam.step([np.full(3, size, dtype)])
    assert np.isfinite(parameter).all()
