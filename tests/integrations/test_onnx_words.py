"""fastrnn.onnx.run_node and prepare: what is refused, and in which words."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_models import case_of, helper, node_of  # noqa: E402

import fastrnn.onnx  # noqa: E402
from fastrnn.onnx import run_node  # noqa: E402

pytestmark = pytest.mark.any_isa


def refused(words, case, error=ValueError, **arguments):
    with pytest.raises(error, match=words):
        run_node(node_of(case), case.inputs, **arguments)


def test_dtypes_are_named():
    half = case_of("GRU", dtype="float16")
    refused(
        "W of GRU 'node' must be an array of float32 or float64, got dtype float16", half, TypeError
    )
    mixed = case_of("GRU")
    mixed.inputs["X"] = mixed.inputs["X"].astype("float64")
    refused("X of GRU 'node' must be float32 like W, got float64", mixed, TypeError)
    mixed = case_of("GRU", given=["initial_h"])
    mixed.inputs["initial_h"] = mixed.inputs["initial_h"].astype("int64")
    refused("initial_h of GRU 'node' must be", mixed, TypeError)


@pytest.mark.filterwarnings("ignore:.*runs in NumPy")
@pytest.mark.parametrize(
    "name", ["X", "W", "R", "B", "initial_h", "initial_c", "P", "sequence_lens"]
)
def test_shapes_are_named(name):
    given = ["B", "initial_h", "initial_c", "P"]
    for kind in ("Tanh", "Softsign"):
        case = case_of("LSTM", given=given, activations=["Sigmoid", kind, "Tanh"])
        case.inputs["sequence_lens"] = np.array([1, 2, 3], "int32")
        array = case.inputs[name]
        case.inputs[name] = array[:, :-1] if name in ("W", "R") else array[..., :-1]
        refused(f"{name} of LSTM 'node' must", case)


def test_lengths_are_checked():
    case = case_of("GRU")
    case.inputs["sequence_lens"] = np.array([1, 6, 3], "int32")
    refused("sequence_lens of GRU 'node' must be from 0 to seq_length = 5, got 6", case)
    case.inputs["sequence_lens"] = np.array([1.0, 2.0, 3.0])
    refused("sequence_lens of GRU 'node' must be integers", case, TypeError)


@pytest.mark.parametrize(
    "kind, attributes, words",
    [
        ("GRU", {"direction": "both"}, "direction of GRU 'node' must be one of 'forward'"),
        ("GRU", {"direction": "bidirectional"}, "W of GRU 'node' must be"),
        ("GRU", {"hidden_size": 5}, "hidden_size of GRU 'node' must be that of R, 4, got 5"),
        ("GRU", {"clip": 0.0}, "clip of GRU 'node' must be a positive number, got 0"),
        ("GRU", {"layout": 2}, "layout of GRU 'node' must be 0 or 1, got 2"),
        ("GRU", {"layout": 1.0}, "layout of GRU 'node' must be one INT"),
        ("GRU", {"input_forget": 1}, "has the attribute input_forget, which GRU does not have"),
        ("LSTM", {"linear_before_reset": 1}, "attribute linear_before_reset, which LSTM does not"),
        ("RNN", {"output_sequence": 1}, "has the attribute output_sequence"),
        ("LSTM", {"activations": ["Tanh"]}, "activations of LSTM 'node' must have 3 names"),
        ("RNN", {"activations": ["Gelu"]}, "must be among Relu, .*, got Gelu"),
        ("RNN", {"activations": ["Affine"]}, "activation_alpha .* Affine, which has no default"),
        (
            "RNN",
            {"activations": ["ScaledTanh"], "activation_alpha": [1.0]},
            "activation_beta .* ScaledTanh, which has no default",
        ),
    ],
)  # fmt: skip
def test_attributes_are_named(kind, attributes, words):
    refused(words, case_of(kind, **attributes))


def test_an_attribute_has_one_value_of_its_own():
    node = node_of(case_of("GRU", layout=0))
    node.attribute.append(node.attribute[0])
    with pytest.raises(ValueError, match="layout of GRU 'node' must be one INT"):
        run_node(node, {})
    del node.attribute[1]
    node.attribute[0].ref_attr_name = "layout"  # of the function that the node is in
    with pytest.raises(ValueError, match="layout of GRU 'node' must be one INT"):
        run_node(node, {})


def test_opsets_decide_which_attributes_there_are():
    case = case_of("GRU", layout=1)
    refused("attribute layout, which GRU does not have in opset 7", case, opset_version=7)
    refused("must be of opset 7 or later, got 6", case_of("GRU"), opset_version=6)


def test_other_nodes_inputs_and_devices_are_refused():
    case = case_of("GRU")
    with pytest.raises(ValueError, match="node must be an RNN, LSTM or GRU of ONNX, got Add 'sum'"):
        run_node(helper.make_node("Add", ["a", "b"], ["sum"]), [1, 2])
    other = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], "own", domain="com.example")
    with pytest.raises(ValueError, match="got LSTM 'own' of the domain com.example"):
        run_node(other, case.inputs)
    with pytest.raises(ValueError, match="device must be 'CPU'"):
        run_node(node_of(case), case.inputs, "CUDA")
    with pytest.raises(ValueError, match="must be 3 arrays, got 2: its inputs are X, W, R"):
        run_node(node_of(case), [1, 2])
    with pytest.raises(ValueError, match="missing are R; unknown are Z"):
        run_node(node_of(case), {"X": 1, "W": 2, "Z": 3})
    with pytest.raises(TypeError, match="inputs must be a mapping from names to arrays, or a list"):
        run_node(node_of(case), case.inputs["X"])
    with pytest.raises(ValueError, match="must have the inputs X, W and R, lacks W"):
        run_node(helper.make_node("GRU", ["X", "", "R"], ["Y"]), [1, 2])
    with pytest.raises(ValueError, match="must have at most 6 inputs, got 7"):
        run_node(helper.make_node("GRU", [*"XWRBLHC"], ["Y"]), [1] * 7)
    with pytest.raises(ValueError, match="must have at most 2 outputs, got 3"):
        run_node(helper.make_node("GRU", [*"XWR"], [*"YHC"]), case.inputs)
    with pytest.raises(ValueError, match="GRU 'Y' has two outputs called 'Y'"):
        run_node(helper.make_node("GRU", [*"XWR"], [*"YY"]), case.inputs)
    twice, arrays = helper.make_node("GRU", [*"XWRBB"], ["Y"]), [*case.inputs.values()]
    with pytest.raises(ValueError, match="have two arrays for 'B', which it reads twice"):
        run_node(twice, [*arrays, np.zeros(1), np.ones(1)])
    left_out = node_of(case_of("LSTM", given=["initial_c"]))
    with pytest.raises(ValueError, match="have an array where it leaves out an input: use None"):
        run_node(left_out, [*arrays, np.zeros(32), None, None, None])
    for node in ("GRU", None, helper.make_graph([], "graph", [], [])):
        with pytest.raises(
            TypeError, match=f"node must be an onnx.NodeProto.*{type(node).__name__}"
        ):
            run_node(node, case.inputs)
    for opset in (None, "22", 22.0):
        with pytest.raises(TypeError, match="opset_version must be an integer, got"):
            run_node(node_of(case), case.inputs, opset_version=opset)


def test_models_with_other_operators_are_refused_by_name():
    nodes = [
        node_of(case_of("GRU")),
        helper.make_node("MatMul", ["Y", "head"], ["logits"], "head/MatMul"),
    ]
    info = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "graph", [], [info]))
    with pytest.raises(ValueError, match="does not run: MatMul 'head/MatMul'. fastrnn.onnx.load"):
        fastrnn.onnx.prepare(model)
