"""fastrnn.onnx.run_node: ONNX's node tests, ONNX Runtime, and the specification's equations."""

import warnings

import numpy as np
import onnx_oracle
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

import fastrnn.onnx  # noqa: E402
from fastrnn.onnx import _node, run_node  # noqa: E402

pytestmark = pytest.mark.any_isa

helper = onnx.helper
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


@pytest.fixture(autouse=True)
def _told(monkeypatch):
    """Nothing is said of nodes in NumPy, unless a test asks."""
    monkeypatch.setattr(_node, "_told", True)


def node_of(case, name="node"):
    names = [name if name in case.inputs else "" for name in INPUTS]
    while not names[-1]:
        names.pop()
    return helper.make_node(case.kind, names, ["Y", *case.states], name, **case.attributes)


def by_runtime(case):
    """The outputs by ONNX Runtime, which wants to be told the hidden size."""
    hidden = case.inputs["R"].shape[2]
    case = case._replace(attributes=case.attributes | {"hidden_size": hidden})

    def infos(arrays):
        return [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in arrays.items()
        ]  # fmt: skip

    empty = {name: np.empty(0, "float32") for name in ("Y", *case.states)}
    outputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in empty]
    graph = helper.make_graph([node_of(case)], "graph", infos(case.inputs), outputs)
    opset = helper.make_opsetid("", case.opset)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, case.inputs)


def is_for_runtime(case):
    """ONNX Runtime computes float32 in layout 0. The state of a row of no steps is 0 there."""
    if 0 in case.inputs.get("sequence_lens", ()):
        return False
    return case.inputs["X"].dtype == "float32" and not case.attributes.get("layout")


def assert_right(case):
    """Compare all outputs with the equations, and with ONNX Runtime where it takes the case."""
    got = run_node(node_of(case), case.inputs, opset_version=case.opset)
    dtype = case.inputs["X"].dtype
    wanted = [(onnx_oracle.outputs_of(case), {"float32": 3e-5, "float64": 1e-12}[dtype.name])]
    if is_for_runtime(case):
        wanted.append((by_runtime(case), 3e-5))
    for answers, tolerance in wanted:
        for array, answer in zip(got, answers, strict=True):
            assert array.dtype == dtype
            # Some activations have no bound, so h may grow step by step.
            largest = max(1, *np.abs(answer).reshape(-1))
            np.testing.assert_allclose(array, answer, rtol=0, atol=tolerance * largest)


def node_tests():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it computes all tests of all operators
        found = load_model_tests(kind="node")
    return [
        test
        for test in found
        if {n.op_type for n in test.model.graph.node} & {"RNN", "LSTM", "GRU"}
    ]


def test_all_node_tests_of_onnx_pass():
    tests = node_tests()
    assert len(tests) >= 18
    for test in tests:
        prepared = fastrnn.onnx.prepare(test.model)
        for inputs, outputs in test.data_sets:
            for got, wanted in zip(prepared.run(inputs), outputs, strict=True):
                assert got.dtype == wanted.dtype and got.shape == wanted.shape, test.name
                np.testing.assert_allclose(got, wanted, rtol=test.rtol, atol=test.atol)


def check_random(seeds):
    ragged = compared = 0
    for seed in seeds:
        case = onnx_oracle.drawn(np.random.default_rng(seed))
        ragged += "sequence_lens" in case.inputs
        compared += is_for_runtime(case)
        try:
            assert_right(case)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {case.kind} {case.attributes}") from error
    assert ragged > len(seeds) / 5 and compared > len(seeds) / 3


def test_random_nodes():
    check_random(range(100))


@pytest.mark.slow
def test_a_thousand_random_nodes():
    check_random(range(100, 1100))
