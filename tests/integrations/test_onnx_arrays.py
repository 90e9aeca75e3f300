"""The operators that move numbers, against onnx's reference implementation."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

from fastrnn.onnx._arrays import Operation  # noqa: E402
from fastrnn.onnx._tensors import Source  # noqa: E402

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

helper = onnx.helper

X = np.arange(60, dtype="float32").reshape(3, 4, 5)
LAST, FAR = 2**63 - 1, -(2**63)


def ints(*values):
    return np.array(values, "int64")


def slices(starts, ends, axes=None, steps=None):
    given = [starts, ends, axes, steps]
    while given[-1] is None:
        given.pop()
    return ("Slice", [X, *(None if g is None else ints(*g) for g in given)], {})


CASES = [
    ("Identity", [X], {}),
    ("Transpose", [X], {}),
    ("Transpose", [X], {"perm": [1, 2, 0]}),
    ("Squeeze", [X[:, :1, None]], {}),
    ("Squeeze", [X[:, :1], ints(1)], {}),
    ("Squeeze", [X[:1, :, None], ints(-2, 0)], {}),
    ("Unsqueeze", [X, ints(0)], {}),
    ("Unsqueeze", [X, ints(-1, 1)], {}),
    ("Reshape", [X, ints(0, -1)], {}),
    ("Reshape", [X, ints(5, 0, 3)], {}),
    ("Reshape", [X[:0], ints(0, 7)], {"allowzero": 1}),
    slices([1], [3]),
    slices([0, 1], [2, LAST]),
    slices([1, -4], [LAST, -1], [2, 1]),
    slices([-1], [FAR], [1], [-1]),
    slices([-1], [-9], [1], [-2]),
    slices([3], [0], [-2], [-2]),
    slices([9], [1], [2], [-3]),
    slices([0], [9], [0], [2]),
    slices([-9], [LAST], [2], [2]),
    ("Concat", [X, X[:1], X], {"axis": 0}),
    ("Concat", [X, X[:, :, :2]], {"axis": -1}),
    ("Gather", [X, ints(2, 0, -1)], {}),
    ("Gather", [X, np.int64(1)], {"axis": 1}),
    ("Gather", [X, np.array([[0, 1], [3, -2]], "int32")], {"axis": -1}),
    ("Expand", [X[:, :1], ints(2, 3, 4, 1)], {}),
    ("Expand", [X, ints(1)], {}),
    ("Shape", [X], {}),
    ("Shape", [X], {"start": 1}),
    ("Shape", [X], {"start": -2, "end": -1}),
    ("Cast", [X], {"to": onnx.TensorProto.DOUBLE}),
    ("Cast", [X.astype("float16")], {"to": onnx.TensorProto.FLOAT}),
    ("Mul", [ints(2, 3), ints(4)], {}),
    ("ConstantOfShape", [ints(2, 0, 3)], {}),
    (
        "ConstantOfShape",
        [ints(2, 3)],
        {"value": onnx.numpy_helper.from_array(np.array([7], "int64"))},
    ),
    ("Constant", [], {"value": onnx.numpy_helper.from_array(X)}),
    ("Constant", [], {"value_int": 3}),
    ("Constant", [], {"value_ints": [3, 4]}),
    ("Constant", [], {"value_float": 0.5}),
    ("Constant", [], {"value_floats": [0.5, 2.0]}),
]
SPLITS = [
    ([X, ints(1, 2)], {}, 2),
    ([X, ints(1, 0, 4)], {"axis": 2}, 3),
    ([X], {"axis": 1, "num_outputs": 2}, 2),
    ([X], {"axis": -1, "num_outputs": 3}, 3),  # the last one is smaller
]


def check(kind, inputs, attributes, outputs=1):
    names = [f"in{k}" if array is not None else "" for k, array in enumerate(inputs)]
    node = helper.make_node(kind, names, [f"out{k}" for k in range(outputs)], **attributes)
    infos = [helper.make_tensor_value_info(n, 1, None) for n in names if n]
    made = [helper.make_tensor_value_info(n, 1, None) for n in node.output]
    graph = helper.make_graph([node], "graph", infos, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if name}
    wanted = ReferenceEvaluator(model).run(None, feeds)
    got = Operation(node, Source())(inputs)
    for array, answer in zip(got, wanted, strict=True):
        assert array.dtype == answer.dtype
        np.testing.assert_array_equal(array, answer, strict=True)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case[0] for case in CASES])
def test_each_operator(number):
    check(*CASES[number])


@pytest.mark.parametrize("number", range(len(SPLITS)))
def test_split(number):
    inputs, attributes, outputs = SPLITS[number]
    check("Split", inputs, attributes, outputs)


@pytest.mark.parametrize(
    "kind, attributes, wanted",
    [
        ("Squeeze", {"axes": [1]}, X[:, 0]),
        ("Unsqueeze", {"axes": [0, 2]}, X[:, :1][None, :, None]),
        ("Slice", {"starts": [1], "ends": [2], "axes": [2]}, X[:, :1, 1:2]),
        ("Slice", {"starts": [1], "ends": [3]}, X[1:3, :1]),
    ],
)
def test_what_is_an_input_now_was_an_attribute(kind, attributes, wanted):
    """Until opset 9 of Slice, and 12 of the others."""
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    (got,) = Operation(node, Source())([X[:, :1]])
    np.testing.assert_array_equal(got, wanted, strict=True)


@pytest.mark.parametrize(
    ("starts", "ends", "steps", "wanted"),
    [
        ([-9], [FAR], [-1], X[:1]),
        ([FAR], [FAR], [-2], X[:1]),
        ([-9, 3], [-9, -9], [-1, -3], X[:1, ::-3]),
        ([-9], [0], [-1], X[:0]),
        ([-9], [-1], [-1], X[:0]),
        ([-3], [-4], [-1], X[:1]),
    ],
)
def test_a_slice_backwards_begins_at_the_first_element_at_least(starts, ends, steps, wanted):
    """As the specification says, and ONNX Runtime does; onnx's reference follows Python."""
    node = helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])
    inputs = [X, ints(*starts), ints(*ends), ints(*range(len(starts))), ints(*steps)]
    (got,) = Operation(node, Source())(inputs)
    np.testing.assert_array_equal(got, wanted, strict=True)


def test_split_by_an_attribute_and_into_equal_parts():
    node = helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3])
    first, second = Operation(node, Source())([X])
    assert first.shape == (3, 1, 5) and second.shape == (3, 3, 5)
    node = helper.make_node("Split", ["x"], ["a", "b"], axis=1)
    first, second = Operation(node, Source())([X])
    np.testing.assert_array_equal(second, X[:, 2:])


@pytest.mark.parametrize(
    "kind, inputs, attributes",
    [
        ("Transpose", [X], {"perm": [0, 0, 1]}),
        ("Transpose", [X], {"axes": [0, 1, 2]}),
        ("Transpose", [X, X], {}),
        ("Transpose", [X], {"perm": 3}),
        ("Concat", [X, X], {}),
        ("Concat", [X, None], {"axis": 0}),
        ("Concat", [X, X[0]], {"axis": 0}),
        ("Reshape", [X, ints(7, -1)], {}),
        ("Reshape", [X, None], {}),
        ("Reshape", [X, X], {}),
        ("Squeeze", [X, ints(1)], {}),
        ("Unsqueeze", [X], {}),
        ("Slice", [X], {}),
        ("Slice", [None, ints(1), ints(2)], {}),
        ("Slice", [X, ints(1, 2), ints(2)], {}),
        ("Slice", [X, ints(0), ints(2), ints(0), ints(0)], {}),
        ("Slice", [X, ints(0), ints(2), ints(3)], {}),
        ("Gather", [X, ints(3)], {}),
        ("Gather", [X, X], {}),
        ("Expand", [X, ints(2, 1)], {}),
        ("Cast", [X], {}),
        ("Cast", [X], {"to": 99}),
        ("Mul", [X, X], {}),
        ("Split", [X, ints(1, 1)], {}),
        ("Split", [X], {"num_outputs": 0}),
        ("Split", [X], {"num_outputs": 3}),
        ("Constant", [], {}),
        ("Constant", [], {"value_string": "a"}),
        ("Constant", [], {"value_int": 1, "value_ints": [1]}),
        ("ConstantOfShape", [ints(-1)], {}),
        ("ConstantOfShape", [ints(2)], {"value": onnx.numpy_helper.from_array(X)}),
    ],
)
def test_what_does_not_fit_is_a_value_error(kind, inputs, attributes):
    node = helper.make_node(kind, [f"in{k}" for k in range(len(inputs))], ["a", "b"], **attributes)
    with pytest.raises(ValueError):
        Operation(node, Source())(inputs)


@pytest.mark.parametrize("sizes", [(-1, 4), (4, -1)])
def test_split_takes_no_negative_size(sizes):
    node = helper.make_node("Split", ["x", "sizes"], ["a", "b"])
    with pytest.raises(ValueError, match="split must be sizes that sum to 3, got"):
        Operation(node, Source())([X, ints(*sizes)])


def test_lists_of_sizes_are_short():
    node = helper.make_node("Reshape", ["x", "sizes"], ["a"])
    with pytest.raises(ValueError, match=r"at most 64 integers, got int64 of shape \(65,\)"):
        Operation(node, Source())([X, ints(*[1] * 65)])


def test_an_attribute_of_a_function_is_no_value():
    """A node in a function's body can refer to an attribute of the function."""
    node = helper.make_node("Concat", ["x", "x"], ["a"], axis=1)
    node.attribute[0].ref_attr_name = "axis"
    with pytest.raises(ValueError, match="Concat has an attribute 'axis' that is not known, or of"):
        Operation(node, Source())


def test_bytes_are_counted_before_they_are_taken():
    many = ints(2**20, 2**20, 2**20)
    for kind, inputs, attributes in (
        ("Expand", [X[:1, :1, :1], many], {}),
        ("ConstantOfShape", [many], {}),
        ("Gather", [np.broadcast_to(X[:1, :1], (1, 2**20, 5)), np.zeros(10**6, int)], {}),
        ("Concat", [np.broadcast_to(X[0, 0], (2**20, 5))] * 3, {"axis": 0}),
        ("Cast", [np.broadcast_to(X[0, 0], (2**20, 5))], {"to": onnx.TensorProto.DOUBLE}),
        ("Reshape", [np.broadcast_to(X[0, 0], (2**20, 5)), ints(-1)], {}),
        ("Mul", [np.zeros((10**5, 1), int), np.zeros(10**5, int)], {}),
    ):
        names = [f"in{k}" for k in range(len(inputs))]
        node = helper.make_node(kind, names, ["out"], **attributes)
        with pytest.raises(ValueError, match="take many times its own size"):
            Operation(node, Source(size=0))(inputs)
