"""What a prepared model keeps from one run to the next, and what it declares."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

import fastrnn.onnx  # noqa: E402

pytestmark = pytest.mark.any_isa

I, H = 3, 4  # noqa: E741
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def model(nodes, inputs, outputs, **constants):
    """inputs, outputs : name -> (dtype, shape)"""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, *value) for name, value in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def gru_with_zeros():
    """A GRU on x (B, T, I) whose initial state is made from the shape of x, as exporters write it;
    the sizes of the state are an output too."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("Shape", ["xt"], ["all"]),
        helper.make_node("Gather", ["all", "one"], ["rows"]),
        helper.make_node("Concat", ["one", "rows", "units"], ["sizes"], axis=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["h0"]),
        helper.make_node("GRU", ["xt", "W", "R", "", "", "h0"], ["y", "h"], hidden_size=H),
        helper.make_node("Squeeze", ["y", "one"], ["ys"]),
    ]
    weights = {"W": normal(1, 3 * H, I, seed=1), "R": normal(1, 3 * H, H, seed=2)}
    return model(
        nodes, {"x": (FLOAT, ["B", "T", I])},
        {"ys": (FLOAT, None), "h": (FLOAT, None), "sizes": (INT64, None)},
        one=np.array([1]), units=np.array([H]), **weights,
    )  # fmt: skip


def test_runs_of_other_shapes_in_turn_are_those_of_a_new_session():
    proto = gru_with_zeros()
    prepared = fastrnn.onnx.prepare(proto)
    for shape in (2, 5), (2, 5), (3, 5), (3, 5), (2, 5), (2, 7), (1, 1), (1, 1):
        x = normal(*shape, I, seed=shape[0])
        got, wanted = prepared.run({"x": x}), fastrnn.onnx.run_model(proto, {"x": x})
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        assert got[2].tolist() == [1, shape[0], H]


def test_what_follows_from_shapes_is_not_computed_again(monkeypatch):
    prepared, x, ran = fastrnn.onnx.prepare(gru_with_zeros()), normal(2, 5, I), []
    call = fastrnn.onnx._prepared.MovingStep.__call__
    monkeypatch.setattr(
        fastrnn.onnx._prepared.MovingStep, "__call__",
        lambda self, values: ran.extend(sorted(self.outputs)) or call(self, values),
    )  # fmt: skip
    prepared.run({"x": x})
    assert ran == ["xt", "all", "rows", "sizes", "h0", "ys"]
    ran.clear()
    prepared.run({"x": x})
    assert ran == ["xt", "ys"]


def test_kept_values_are_not_the_callers():
    prepared, x = fastrnn.onnx.prepare(gru_with_zeros()), normal(2, 5, I)
    for _ in range(3):
        *_, sizes = prepared.run({"x": x})
        assert sizes.tolist() == [1, 2, H]
        sizes[:] = -7


def test_constants_are_not_the_callers():
    """Outputs that are constants, and those that are views of constants in some run."""
    nodes = [
        helper.make_node("Concat", ["a", "a"], ["twice"], axis=0),
        helper.make_node("Identity", ["twice"], ["same"]),
        helper.make_node("Reshape", ["twice", "shape"], ["view"]),
        helper.make_node("Gather", ["a", "zero"], ["first"]),
    ]
    outputs = {name: (FLOAT, None) for name in ("twice", "same", "view", "first")}
    proto = model(
        nodes, {"shape": (INT64, ["N"])}, outputs, a=np.array([1, 2], "f4"), zero=np.array(0),
    )  # fmt: skip
    prepared = fastrnn.onnx.prepare(proto)
    for _ in range(3):
        got = prepared.run({"shape": np.array([2, 2])})
        assert [a.tolist() for a in got] == [[1, 2, 1, 2], [1, 2, 1, 2], [[1, 2], [1, 2]], 1]
        for array in got:
            assert isinstance(array, np.ndarray)
            array[...] = -7


def test_a_run_that_fails_keeps_nothing():
    prepared, x = fastrnn.onnx.prepare(gru_with_zeros()), normal(2, 5, I)
    wanted = prepared.run({"x": x})
    with pytest.raises(TypeError):
        prepared.run({"x": normal(3, 5, I).astype("i4")})
    for got, same in zip(prepared.run({"x": x}), wanted, strict=True):
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("kind", ["Reshape", "Expand", "ConstantOfShape", "Slice"])
def test_sizes_that_are_inputs_decide_in_each_run(kind):
    """Shapes do not follow from those of the inputs: nothing is kept."""
    inputs = {"ConstantOfShape": ["sizes"], "Slice": ["x", "zero", "sizes"]}
    nodes = [
        helper.make_node(kind, inputs.get(kind, ["x", "sizes"]), ["made"]),
        helper.make_node("Shape", ["made"], ["shape"]),
    ]
    prepared = fastrnn.onnx.prepare(
        model(nodes, {"x": (FLOAT, None), "sizes": (INT64, [None])}, {"shape": (INT64, None)},
              zero=np.array([0]))
    )  # fmt: skip
    x = {"Expand": normal(1, 1), "Slice": normal(6)}.get(kind, normal(6))
    for sizes in [6], [1], [3], [2]:
        sizes = [sizes[0], 6 // sizes[0]] if kind in ("Reshape", "Expand") else sizes
        (shape,) = prepared.run({"x": x, "sizes": np.array(sizes)})
        assert shape.tolist() == sizes


@pytest.mark.parametrize("kind", ["Squeeze", "Unsqueeze", "Split"])
def test_axes_and_parts_that_are_inputs_decide_in_each_run(kind):
    outputs = ["made", "rest"][: 1 + (kind == "Split")]
    nodes = [
        helper.make_node(kind, ["x", "numbers"], outputs),
        helper.make_node("Shape", ["made"], ["shape"]),
    ]
    prepared = fastrnn.onnx.prepare(
        model(nodes, {"x": (FLOAT, None), "numbers": (INT64, [None])}, {"shape": (INT64, None)})
    )
    x, cases = {
        "Squeeze": (normal(1, 6, 1), {(0,): [6, 1], (2,): [1, 6]}),
        "Unsqueeze": (normal(6), {(0,): [1, 6], (1,): [6, 1]}),
        "Split": (normal(6), {(2, 4): [2], (5, 1): [5]}),
    }[kind]
    for numbers, wanted in cases.items():
        (shape,) = prepared.run({"x": x, "numbers": np.array(numbers)})
        assert shape.tolist() == wanted


@pytest.mark.parametrize("shape", [(7, 2, 3), (5, 2, 1), (5, 2), (5, 2, 3, 1)])
def test_a_declared_shape_is_held_to(shape):
    prepared = fastrnn.onnx.prepare(fixed())
    assert prepared.run({"x": normal(5, 9, I)})[0].shape == (5, 1, 9, H)
    with pytest.raises(ValueError, match=r"^input 'x' must be \(5, any, 3\), as the model .* got"):
        prepared.run({"x": normal(*shape)})


def test_repr_shows_inputs_and_outputs():
    assert repr(fastrnn.onnx.prepare(fixed())) == "<fastrnn.onnx.Prepared x (5, any, 3) -> y>"


def fixed():
    """A GRU whose number of steps the model declares."""
    weights = {"W": normal(1, 3 * H, I, seed=1), "R": normal(1, 3 * H, H, seed=2)}
    node = helper.make_node("GRU", ["x", "W", "R"], ["y"], hidden_size=H)
    return model([node], {"x": (FLOAT, [5, "B", I])}, {"y": (FLOAT, None)}, **weights)
