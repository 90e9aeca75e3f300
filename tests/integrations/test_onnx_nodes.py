"""fastrnn.onnx.run_node: ONNX's node tests, ONNX Runtime, and the specification's equations."""

import warnings

import numpy as np
import onnx_oracle
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

from onnx_models import INPUTS, case_of, node_of  # noqa: E402

import fastrnn.onnx  # noqa: E402
from fastrnn.onnx import _node, run_node  # noqa: E402

pytestmark = pytest.mark.any_isa

helper = onnx.helper


@pytest.fixture(autouse=True)
def _told(monkeypatch):
    """Nothing is said of nodes in NumPy, unless a test asks."""
    monkeypatch.setattr(_node, "_told", True)


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


# ---- details -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", onnx_oracle.FUNCTIONS)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_each_activation_in_each_place(kind, name):
    """With the defaults of alpha and beta where there are some."""
    _, alpha, beta = onnx_oracle.FUNCTIONS[name]
    given = {}
    if alpha != alpha:  # NaN: required
        given = {"activation_alpha": [0.75], "activation_beta": [0.25]}
    for place in range(len(onnx_oracle.PLAIN[kind])):
        names = [*onnx_oracle.PLAIN[kind]]
        names[place] = name
        case = case_of(kind, T=3, given=["B"], dtype="float64", activations=names, **given)
        assert_right(case)


@pytest.mark.parametrize("given", [["initial_h"], ["initial_c"], ["initial_h", "initial_c"]])
def test_either_state_may_be_given_alone(given):
    assert_right(case_of("LSTM", given=given))


@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}, {"I": 0}, {"T": 0, "B": 0, "I": 0}])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("name", ["Tanh", "Softsign"])
def test_sizes_of_zero(kind, name, sizes):
    names = [*onnx_oracle.PLAIN[kind][:-1], name]
    case = case_of(kind, given=["B", "initial_h"], activations=names, **sizes)
    got = run_node(node_of(case), case.inputs)
    for array, wanted in zip(got, onnx_oracle.outputs_of(case), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["Tanh", "Softsign"])
def test_what_stands_beyond_the_length_is_not_read(name):
    case = case_of("GRU", D=2, direction="bidirectional", activations=["Sigmoid", name] * 2)
    lengths = np.array([5, 2, 0], "int32")
    clean = run_node(node_of(case), [*case.inputs.values()])
    case.inputs["sequence_lens"] = lengths
    for row, length in enumerate(lengths):
        case.inputs["X"][length:, row] = np.nan
    Y, Y_h = run_node(node_of(case), case.inputs)
    np.testing.assert_array_equal(Y[:, :, 0], clean[0][:, :, 0])
    assert np.isfinite(Y).all() and not Y[2:, :, 1].any() and not Y_h[:, 2].any()
    np.testing.assert_array_equal(Y_h[1, 1], Y[0, 1, 1])  # the reverse ends at the first step


def test_directions_with_other_activations():
    names = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Tanh", "Tanh"]
    assert_right(case_of("LSTM", D=2, direction="bidirectional", activations=names))
    names[4] = "Softsign"
    assert_right(case_of("LSTM", D=2, direction="bidirectional", activations=names))


@pytest.mark.parametrize("slope, activation", [(0.2, "hard_sigmoid_onnx"), (1 / 6, "hard_sigmoid")])
def test_hard_sigmoids_of_kernels_are_known(slope, activation):
    """In float64, too: a file has 0.2 as float32."""
    case = case_of(
        "GRU", given=["B"], dtype="float64", activations=["HardSigmoid", "Tanh"],
        activation_alpha=[slope], activation_beta=[0.5],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _node._told = False
        Y, _ = run_node(node_of(case), case.inputs)
    np.testing.assert_allclose(Y, onnx_oracle.outputs_of(case)[0], rtol=1e-13)


def test_a_list_that_is_read_in_one_way_alone_is_taken():
    """A number for each activation, and one for each that takes one."""
    names, values = ["Sigmoid", "LeakyRelu", "Tanh"], []
    for alphas in ([0.3], [0.3, 0.3, 0.3]):
        case = case_of("LSTM", activations=names, activation_alpha=alphas)
        values.append(run_node(node_of(case), case.inputs)[0])
    np.testing.assert_array_equal(*values)
    case = case_of("LSTM", activations=names, activation_alpha=[0.0, 0.3, 0.0])
    with pytest.raises(ValueError, match="for each activation that takes one, 1 of them, got 3"):
        run_node(node_of(case), case.inputs)


def test_a_process_is_told_once_of_numpy(monkeypatch):
    monkeypatch.setattr(_node, "_told", False)
    case = case_of("RNN", activations=["Softplus"])
    with pytest.warns(UserWarning, match="RNN 'node' runs in NumPy.*activations Softplus there"):
        run_node(node_of(case), case.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_node(node_of(case), case.inputs)


def test_the_warning_is_at_the_line_that_called(monkeypatch):
    case = case_of("RNN", activations=["Softplus"])
    plain, constant = [model_of(case, constants) for constants in ((), ("W", "R"))]
    x = {"X": case.inputs["X"]}
    prepared = fastrnn.onnx.prepare(plain)
    for call in (
        lambda: run_node(node_of(case), case.inputs),
        lambda: fastrnn.onnx.prepare(constant),
        lambda: fastrnn.onnx.run_model(constant, x),
        lambda: fastrnn.onnx.run_model(plain, case.inputs),
        lambda: prepared.run(case.inputs),
        lambda: fastrnn.onnx.Prepared(constant),
    ):
        monkeypatch.setattr(_node, "_told", False)
        with pytest.warns(UserWarning, match="runs in NumPy") as caught:
            call()
        assert [one.filename for one in caught] == [__file__]


def test_inputs_by_name_and_in_order():
    case = case_of("LSTM", given=["initial_c"])
    node = node_of(case)
    by_name = run_node(node, case.inputs)
    all_places = [case.inputs.get(name) for name in INPUTS[:7]]
    for inputs in ([*case.inputs.values()], tuple(case.inputs.values()), all_places):
        for got, wanted in zip(run_node(node, inputs), by_name, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_outputs_are_those_of_the_node():
    case = case_of("LSTM")
    wanted = run_node(node_of(case), case.inputs)
    node = helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"])
    nothing, Y_h = run_node(node, case.inputs)
    assert nothing is None
    np.testing.assert_array_equal(Y_h, wanted[1])


@pytest.mark.parametrize("T", [0, 3])
@pytest.mark.parametrize("name", ["Tanh", "Softsign"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_inputs_do_not_change(kind, name, T):
    names = [*onnx_oracle.PLAIN[kind][:-1], name]
    case = case_of(kind, T=T, given=["B", "initial_h"], activations=names)
    before = {name: array.copy() for name, array in case.inputs.items()}
    for outputs in (run_node(node_of(case), case.inputs) for _ in range(2)):
        for array in outputs:
            array += 1  # they are the caller's
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, before[name])


def model_of(case, constants=(), outputs=("Y",)):
    """A model of the node of a case; constants : the inputs that are initializers."""
    inputs = [name for name in case.inputs if name not in constants]
    infos = [
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names]
        for names in (inputs, outputs)
    ]
    tensors = [onnx.numpy_helper.from_array(case.inputs[name], name) for name in constants]
    graph = helper.make_graph([node_of(case)], "graph", *infos, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])


def test_weights_may_be_inputs_of_a_model():
    case = case_of("GRU", given=["B"])
    prepared = fastrnn.onnx.prepare(model_of(case))
    for scale in (1, 2):
        inputs = case.inputs | {"W": scale * case.inputs["W"]}
        (Y,) = prepared.run(inputs)
        np.testing.assert_array_equal(Y, run_node(node_of(case), inputs)[0])


def test_outputs_share_no_memory():
    """Neither with each other, nor with inputs and constants: they are the caller's."""
    case = case_of("GRU")
    model = model_of(case, ("W", "R"), outputs=("Y", "flat", "same", "turned", "W"))
    model.graph.node.extend([
        helper.make_node("Squeeze", ["Y"], ["flat"]),
        helper.make_node("Identity", ["X"], ["same"]),
        helper.make_node("Transpose", ["X"], ["turned"], perm=[1, 0, 2]),
    ])  # fmt: skip
    prepared = fastrnn.onnx.prepare(model)
    X = case.inputs["X"].copy()
    first = prepared.run({"X": X})
    copies = [array.copy() for array in first]
    for index, array in enumerate(first):
        array += 1
        copies[index] += 1
        for got, wanted in zip(first, copies, strict=True):
            np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(X, case.inputs["X"])
    for got, wanted in zip(prepared.run({"X": X}), copies, strict=True):
        np.testing.assert_array_equal(got + 1, wanted)
