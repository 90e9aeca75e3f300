"""Mutants of models: load gives layers, or refuses them in words, with bounded memory."""

import warnings

import numpy as np
import pytest
from mutants import mutant
from strangers import MIB, memory_below

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")

import fastrnn  # noqa: E402
import fastrnn.onnx  # noqa: E402

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

helper, from_array = onnx.helper, onnx.numpy_helper.from_array


def arranged(folder):
    """A model whose weights follow from constants by most operators that move numbers."""
    rng = np.random.default_rng(0)
    kernel, recurrent = (rng.normal(size=s).astype("float32") for s in ((2, 12), (12, 3)))
    nodes = [
        helper.make_node("Transpose", ["kernel"], ["turned"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["turned", "zero"], ["W"]),
        helper.make_node("Slice", ["recurrent", "zero", "six", "zero"], ["upper"]),
        helper.make_node("Slice", ["recurrent", "six", "end", "zero"], ["lower"]),
        helper.make_node("Concat", ["upper", "lower"], ["R_2d"], axis=0),
        helper.make_node("Reshape", ["R_2d", "shape"], ["R"]),
        helper.make_node("Constant", [], ["row"], value=from_array(np.zeros(24, "float32"))),
        helper.make_node("Expand", ["row", "one_row"], ["B"]),
        helper.make_node("Split", ["P_both", "halves"], ["P", "rest"], axis=0),
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", "", "", "P"], ["Y"], "lstm", hidden_size=3, clip=1.0
        ),
    ]
    ints = {"zero": [0], "six": [6], "end": [99], "shape": [1, 12, 3], "one_row": [1, 24]}
    constants = {name: np.array(values) for name, values in (ints | {"halves": [1, 1]}).items()}
    constants |= {"kernel": kernel, "recurrent": recurrent, "P_both": np.zeros((2, 9), "float32")}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", 1, None)],
        [helper.make_tensor_value_info("Y", 1, None)],
        [from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def whole_files(folder):
    """Models: one of fastrnn's, one with arranged weights, one with external data."""
    layer = fastrnn.GRU(2, 3, 2, bidirectional=True, rng=0)
    fastrnn.onnx.export(layer, folder / "whole.onnx", lengths=True)
    whole = (folder / "whole.onnx").read_bytes()
    external = onnx.load_from_string(whole)
    onnx.save(
        external, folder / "external.onnx", save_as_external_data=True, size_threshold=0,
        location="mutant.data",
    )  # fmt: skip
    return [whole, arranged(folder), (folder / "external.onnx").read_bytes()]


# ---- mutants whose bytes are a valid message -----------------------------------------------------


def messages_of(message):
    """A message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from messages_of(inner)


def mutant_of_message(rng, whole):
    """A model with some fields changed, left out, or repeated."""
    model = onnx.load_from_string(whole)
    for _ in range(rng.choice([1, 1, 2, 4])):
        found = [m for m in messages_of(model) if m.ListFields()]
        message = found[rng.integers(len(found))]
        fields = message.ListFields()
        field, value = fields[rng.integers(len(fields))]
        if rng.random() < 0.15:
            message.ClearField(field.name)
        elif field.is_repeated:
            change_list(rng, value, field.message_type is not None)
        elif field.message_type is None:
            change(lambda new, m=message, n=field.name: setattr(m, n, new), rng, value)
    return model.SerializeToString()


def change(assign, rng, value):
    """Assign another value of the same type; those that do not fit the field change nothing."""
    odd = {
        int: [0, 1, -1, 2, 5, 13, 2**31 - 1, 2**62, -(2**63)],
        float: [0.0, -1.0, float("nan"), float("inf"), 1e-38],
        str: ["", "x", "W", "LSTM", "Concat", "..", "/etc/passwd", "9" * 40, "\ud7ff\n"],
        bytes: [b"", b"\xff", b"reverse", b"Softsign", bytes(8)],
    }
    choices = next((own for kind, own in odd.items() if isinstance(value, kind)), [value])
    try:
        assign(choices[rng.integers(len(choices))])
    except (ValueError, TypeError):
        pass


def change_list(rng, values, are_messages):
    """Change, repeat, drop or move an element."""
    at, which = int(rng.integers(len(values))), rng.integers(4)
    if which == 0:
        del values[at]
    elif which == 1 and are_messages:
        values.add().CopyFrom(values[at])
    elif which == 1:
        values.append(values[at])
    elif which == 2:
        others = list(values)
        del values[:]
        values.extend(others[::-1])
    elif not are_messages:
        change(lambda new: values.__setitem__(at, new), rng, values[at])


def load_mutants(folder, count, seed):
    """Load so many mutants -> the number of refusals; no other errors are allowed."""
    wholes, rng, refused = whole_files(folder), np.random.default_rng(seed), 0
    path = folder / "mutant.onnx"
    for whole in wholes:
        path.write_bytes(whole)
        assert fastrnn.onnx.load(path)
    for index in range(count):
        make = mutant if index % 4 == 0 else mutant_of_message
        path.write_bytes(make(rng, wholes[index % len(wholes)]))
        try:
            fastrnn.onnx.load(path)
        except (ValueError, TypeError) as error:
            assert len(str(error)) < 2000 and str(error).isprintable(), index
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    return refused


@pytest.mark.slow
def test_two_thousand_mutants_are_loaded_or_refused_in_words(tmp_path):
    assert load_mutants(tmp_path, 1800, seed=0) > 900
    with memory_below(24 * MIB):
        assert load_mutants(tmp_path, 200, seed=1) > 100


def test_some_mutants(tmp_path):
    assert load_mutants(tmp_path, 100, seed=2) > 30
