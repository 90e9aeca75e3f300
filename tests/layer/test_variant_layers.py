"""Layers with options: variants keep what layers promise, and draw dropout masks as said."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from decorators import every_backend, every_dtype, every_varied_cell
from numpy.testing import assert_allclose
from problems import BACKENDS, assert_close, assert_same_bits, layer_of
from variants import VARIANTS

import fastrnn
from fastrnn import reference, train
from fastrnn._cells.registry import CELLS
from fastrnn.reference import variants

every_variant = pytest.mark.parametrize("name", VARIANTS)
NETS = {
    "one": {},
    "stacked both ways, batch first": {
        "num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.2,
    },
    "reversed": {"num_layers": 2, "reverse": True},
    "no bias, both ways, sum": {"bias": False, "bidirectional": True, "merge": "sum"},
}  # fmt: skip
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
DROPOUT = {"recurrent_dropout": 0.4, "zoneout": 0.3}
T, B, I, H = 5, 3, 2, 4  # noqa: E741 - as in all the equations


def layer(name, dtype="float64", **net):
    cell, given = VARIANTS[name]
    return layer_of(cell, I, H, dtype=dtype, **given | net)


def draw(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def state_of(layer, seed=1):
    rows = layer.num_layers * layer.num_directions
    parts = tuple(
        draw(rows, B, H, seed=seed + k, dtype=layer.dtype)
        for k in range(len(layer._structure.cell.states))
    )
    return parts if len(parts) > 1 else parts[0]


def arrays_of(state):
    return state if isinstance(state, tuple) else (state,)


def x_of(layer, seed=0):
    lead = (B, T) if layer.batch_first else (T, B)
    return draw(*lead, I, seed=seed, dtype=layer.dtype)


def rows_of(layer):
    """Lengths, a mask and resets for the layer."""
    rng = np.random.default_rng(3)
    mask, reset = rng.random((T, B)) < 0.7, rng.random((T, B)) < 0.3
    flags = {"mask": mask, "reset": reset}
    flags = {k: v.T if layer.batch_first else v for k, v in flags.items()}
    return flags | {"lengths": np.array([T, 2, 4]), "reset_to": "initial"}


# ---- parameters ----------------------------------------------------------------------------------


def extras_of(**given):
    params = layer_of("lstm", I, H, **given).params
    return {n: a.shape for n, a in params.items() if "_ln_" in n or "peephole" in n}


def test_options_add_parameters_behind_those_of_the_pass():
    wide, units = (4 * H,), (H,)
    normed = {"weight_ln_ih_l0": wide, "weight_ln_hh_l0": wide}
    normed |= {"weight_ln_c_l0": units, "bias_ln_c_l0": units}
    assert extras_of() == {}
    assert extras_of(peephole=True) == {"weight_peephole_l0": (3 * H,)}
    assert extras_of(peephole=True, coupled=True) == {"weight_peephole_l0": (2 * H,)}
    assert extras_of(layer_norm=True) == normed
    names = list(layer_of("lstm", I, H, 2, layer_norm=True, peephole=True).params)
    kinds = "weight_ih weight_hh bias_ih bias_hh weight_ln_ih weight_ln_hh weight_ln_c bias_ln_c"
    kinds = [*kinds.split(), "weight_peephole"]
    assert names == [kind + end for end in ("_l0", "_l1") for kind in kinds]
    gru = layer_of("gru_after", I, H, layer_norm=True, bidirectional=True).params
    assert list(gru)[-2:] == ["weight_ln_ih_l0_reverse", "weight_ln_hh_l0_reverse"]
    assert gru["weight_ln_hh_l0_reverse"].shape == (3 * H,)


def test_coupled_gates_have_three_gates_worth_of_weights():
    params = layer_of("lstm", I, H, coupled=True).params
    assert params["weight_ih_l0"].shape == (3 * H, I)
    assert params["bias_hh_l0"].shape == (3 * H,)


def test_without_bias_there_is_no_shift_anywhere():
    names = layer_of("lstm", I, H, layer_norm=True, bias=False).params
    assert not [name for name in names if name.startswith("bias")]


@every_variant
@every_net
def test_parameters_and_their_gradients_are_views_in_the_order_of_flat(name, net):
    one = layer(name, **net)
    grads = one.forward(x_of(one))[2].backward(None, state_of(one))
    for params, flat in ((one.params, one.flat), (grads.params, grads.flat)):
        assert_same_bits(np.concatenate([p.reshape(-1) for p in params.values()]), flat)
        assert all(np.shares_memory(p, flat) for p in params.values())
    assert {n: g.shape for n, g in grads.params.items()} == {
        n: p.shape for n, p in one.params.items()
    }


@every_variant
def test_a_variant_is_loaded_copied_pickled_and_repeated_by_its_repr(name):
    one = layer(name, bidirectional=True, recurrent_dropout=0.1)
    other, x = layer(name, bidirectional=True, recurrent_dropout=0.1, rng=1), x_of(one)
    other.load(one.params)
    assert_same_bits(other(x), one(x))
    copies = copy.deepcopy(one), pickle.loads(pickle.dumps(one))
    trained = one.forward(x)[0]
    for copied in copies:
        assert_same_bits(copied(x), one(x))
        assert_same_bits(copied.forward(x)[0], trained)  # the copy has the generator's state
        copied.flat[...] = 0
    assert one.flat.any()
    rebuilt = eval(repr(one), {"fastrnn": fastrnn})
    assert repr(rebuilt) == repr(one)
    assert (rebuilt.options, rebuilt.recurrent_dropout) == (one.options, 0.1)
    assert [p.shape for p in rebuilt.params.values()] == [p.shape for p in one.params.values()]


def test_repr_shows_what_was_asked_for():
    one = fastrnn.LSTM(2, 3, peephole=True, zoneout=(0.1, 0.2), clip=3, forget_bias=1)
    assert repr(one) == (
        "fastrnn.LSTM(2, 3, clip=3.0, zoneout=(0.1, 0.2), peephole=True, forget_bias=1.0, "
        'dtype="float32")'
    )
    one = fastrnn.GRU(2, 3, zoneout=0.1, recurrent_dropout=0.2, init="glorot_orthogonal")
    assert repr(one) == (
        "fastrnn.GRU(2, 3, zoneout=0.1, recurrent_dropout=0.2, init='glorot_orthogonal', "
        'dtype="float32")'
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_checkpoints_hold_the_parameters_of_variants(suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    one, other = (layer("lstm: all", rng=seed) for seed in (1, 2))
    train.save(tmp_path / f"one{suffix}", {"layer": one})
    train.load(tmp_path / f"one{suffix}", {"layer": other})
    assert_same_bits(other.flat, one.flat)
    with pytest.raises(ValueError, match="weight_ln_ih_l0"):
        train.load(tmp_path / f"one{suffix}", {"layer": layer_of("lstm", I, H)})


# ---- a call --------------------------------------------------------------------------------------


@every_variant
@every_dtype
@every_net
def test_a_layer_is_its_passes_one_after_another_on_either_backend(name, dtype, net):
    one, rows = layer(name, dtype, **net), {}
    first, state = one.batch_first, arrays_of(state_of(one))
    x, last = x_of(one), []
    z = x.swapaxes(0, 1) if first else x
    for index in range(one.num_layers):
        sides = []
        for direction in range(one.num_directions):
            row = index * one.num_directions + direction
            y, final = reference.infer(
                variants.reference_cell(one._structure.cell), z, tuple(s[row] for s in state),
                *one._parameters[row], reverse=one.reverse or direction == 1, **rows,
            )  # fmt: skip
            sides.append(y)
            last.append(final)
        z = np.concatenate(sides, axis=2)
    z = sides[0] + sides[1] if one.merge == "sum" else z
    wanted = z.swapaxes(0, 1) if first else z, tuple(np.stack(s) for s in zip(*last, strict=True))
    for backend in BACKENDS:
        with fastrnn.backend(backend):
            y, got = one(x, state_of(one))
            if backend == "reference":
                assert_same_bits((y, arrays_of(got)), wanted)
            assert_close((y, arrays_of(got)), wanted, dtype, factor=64)


@every_variant
def test_options_that_alter_nothing_leave_the_layer_to_the_kernels(name):
    cell, given = VARIANTS[name]
    neutral = {"clip": np.inf, "cell_clip": None, "zoneout": 0.0, "recurrent_activation": "sigmoid"}
    one = layer_of(cell, I, H, **{k: neutral.get(k, False) for k in given})
    plain = layer_of(cell, I, H)
    assert one._structure.cell is plain._structure.cell is CELLS[cell]
    assert_same_bits(one.flat, plain.flat)
    assert repr(one) == repr(plain)


@every_variant
@every_net
def test_a_ragged_batch_is_its_rows_one_by_one(name, net):
    one = layer(name, **net)
    x, state, rows = x_of(one), state_of(one), rows_of(one)
    y, last = one(x, state, **rows)
    for b in range(B):
        take = (b, slice(None)) if one.batch_first else (slice(None), b)
        of_row = {"mask": rows["mask"][take], "reset": rows["reset"][take], "reset_to": "initial"}
        alone = tuple(s[:, b] for s in arrays_of(state))
        y_row, last_row = one(
            x[take], alone if len(alone) > 1 else alone[0], lengths=rows["lengths"][b], **of_row
        )
        assert_close(y_row, y[take], "float64")
        assert_close(arrays_of(last_row), tuple(s[:, b] for s in arrays_of(last)), "float64")


@every_backend
@every_variant
def test_ids_are_columns_and_rows_of_an_embedding(name, backend):
    one, rng = layer(name, num_layers=2), np.random.default_rng(0)
    assert_equal = assert_same_bits if backend == "core" else partial(assert_close, dtype="float64")
    ids, table = rng.integers(0, 7, (T, B)), draw(7, I)
    state, dstate = state_of(one), state_of(one, seed=5)
    got = copy.deepcopy(one).forward(ids, state, embedding=table)
    wanted = one.forward(table[ids], state)
    assert_equal(got[:2], wanted[:2])
    grads, dense = got[2].backward(None, dstate), wanted[2].backward(None, dstate)
    assert_close(grads.flat, dense.flat, "float64")
    embedding = np.zeros_like(table)
    np.add.at(embedding, ids, dense.x)
    assert_close(grads.embedding, embedding, "float64")
    assert_equal(one(ids % I, one_hot=True), one(np.eye(I)[ids % I]))


@every_backend
@every_variant
def test_a_stream_is_the_layer_step_by_step(name, backend):
    one = layer(name, num_layers=2)
    x, state = x_of(one), state_of(one)
    y, last = one(x, state)
    stream = one.stream(B)
    stream.state = state
    got = [stream.step(x_t) for x_t in x[:2]]
    stream = pickle.loads(pickle.dumps(stream))
    got.append(stream.feed(x[2:4]))
    got.append(copy.deepcopy(stream).step(x[4], out=np.empty((B, H))))
    stream.feed(x[4:])
    assert_close(np.concatenate([g.reshape(-1, B, H) for g in got]), y, "float64")
    assert_close(stream.state, last, "float64")


@pytest.mark.parametrize("name", [n for n, (_, g) in VARIANTS.items() if "zoneout" not in g])
def test_windows_through_all_of_time_have_the_gradient_of_the_whole(name):
    one = layer(name)
    x, dy = x_of(one), draw(T, B, H, seed=4)
    windows = fastrnn.tbptt(one, x, 2, k2=T + 1)
    total = sum(window.backward(dy[window.steps]).flat for window in windows)
    assert_close(total, one.forward(x)[2].backward(dy).flat, "float64", factor=256)


# ---- gradients -----------------------------------------------------------------------------------


@every_variant
@every_net
def test_gradients_of_layers_are_finite_differences(name, net):
    """Along random directions, with dropout masks: a copy of the layer draws the same ones."""
    one = layer(name, **net, recurrent_dropout=0.25)
    start, x, state, rows, eps = copy.deepcopy(one), x_of(one), state_of(one), rows_of(one), 1e-6
    y, last, tape = one.forward(x, state, **rows, zero_output_for_mask=True)
    dy, dlast = draw(*y.shape, seed=7), state_of(one, seed=9)
    grads = tape.backward(dy, dlast)

    def loss(x, state, flat):
        layer = copy.deepcopy(start)
        layer.flat[...] = flat
        state = state if len(state) > 1 else state[0]
        y, last, _ = layer.forward(x, state, **rows, zero_output_for_mask=True)
        pairs = zip(arrays_of(last), arrays_of(dlast), strict=True)
        return np.vdot(y, dy) + sum(np.vdot(s, d) for s, d in pairs)

    for seed in range(3):
        way = [draw(*a.shape, seed=20 + seed) for a in (x, *arrays_of(state), start.flat)]
        sides = []
        for e in (eps, -eps):
            ends = [a + e * w for a, w in zip((x, *arrays_of(state), start.flat), way, strict=True)]
            sides.append(loss(ends[0], tuple(ends[1:-1]), ends[-1]))
        slopes = grads.x, *arrays_of(grads.state), grads.flat
        along = sum(np.vdot(g, w) for g, w in zip(slopes, way, strict=True))
        assert_allclose(along, (sides[0] - sides[1]) / (2 * eps), rtol=1e-6, atol=1e-8)
    assert_same_bits(tape.backward(dy, dlast).flat, grads.flat)


# ---- dropout masks -------------------------------------------------------------------------------


@every_backend
@every_varied_cell
@every_dtype
def test_recurrent_dropout_acts_in_training_alone(cell, dtype, backend):
    plain, one = (layer_of(cell, I, H, 2, dtype=dtype, recurrent_dropout=p) for p in (0.0, 0.5))
    x = x_of(one)
    assert_same_bits(one(x), plain(x))
    assert_same_bits(one.stream(B).feed(x), plain.stream(B).feed(x))
    assert (one.forward(x)[0] != plain.forward(x)[0]).any()


@every_varied_cell
def test_recurrent_dropout_is_one_mask_for_all_steps(cell):
    """A unit that dropout hides from the products has no gradient in its column of W_hh."""
    one = layer_of(cell, I, 50, recurrent_dropout=0.5, dtype="float64")
    grads = one.forward(draw(T, 1, I))[2].backward(draw(T, 1, 50))
    seen = np.abs(grads.params["weight_hh_l0"]).max(0) > 0
    if cell == "rnn_relu":
        assert 0 < seen.sum() <= 35  # other units may have no gradient either
    else:
        assert 15 <= seen.sum() <= 35


@every_varied_cell
def test_recurrent_dropout_of_all_is_a_layer_without_recurrence(cell):
    one, other = (layer_of(cell, I, H, recurrent_dropout=p, dtype="float64") for p in (1.0, 0.0))
    other.params["weight_hh_l0"][...] = 0
    x = x_of(one)
    assert_allclose(one.forward(x)[0], other.forward(x)[0], rtol=1e-13)


@every_varied_cell
def test_masks_are_drawn_for_each_pass_and_follow_from_rng(cell):
    one, same = (layer_of(cell, I, H, 2, bidirectional=True, **DROPOUT, rng=5) for _ in range(2))
    x = x_of(one)
    first, second = one.forward(x)[0], one.forward(x)[0]
    assert (first != second).any()
    assert_same_bits(same.forward(x)[0], first)
    assert_same_bits(same(x), one(x))
    assert_same_bits(same.forward(x)[0], second)


@every_varied_cell
def test_zoneout_of_one_keeps_the_state_for_ever(cell):
    one = layer_of(cell, I, H, 2, zoneout=1.0, dtype="float64")
    state = state_of(one)
    for y, last in (one(x_of(one), state), one.forward(x_of(one), state)[:2]):
        assert_same_bits(last, state)
        assert_same_bits(y, np.broadcast_to(arrays_of(state)[0][1], (T, B, H)).copy())


@every_varied_cell
def test_zoneout_keeps_elements_by_chance_and_a_call_takes_the_expectation(cell):
    one, plain = (layer_of(cell, I, 200, zoneout=z, dtype="float64") for z in (0.3, 0.0))
    x = draw(1, 50, I)
    state = tuple(draw(1, 50, 200, seed=k) for k in range(len(one._structure.cell.states)))
    packed = state if len(state) > 1 else state[0]
    answers = plain(x, packed)[1], one.forward(x, packed)[1], one(x, packed)[1]
    for old, new, got, mean in zip(state, *map(arrays_of, answers), strict=True):
        is_old = got == old
        assert_allclose(got, np.where(is_old, old, new), rtol=1e-9)
        assert abs(is_old.mean() - 0.3) < 0.02
        assert_allclose(mean, 0.3 * old + 0.7 * new, rtol=1e-9)


def test_zoneout_may_differ_for_h_and_c():
    one = layer_of("lstm", I, H, zoneout=(0.0, 1.0), dtype="float64")
    state = state_of(one)
    for _, (h, c) in (one(x_of(one), state), one.forward(x_of(one), state)[:2]):
        assert_same_bits(c, state[1])
        assert (h != state[0]).all()


# ---- errors --------------------------------------------------------------------------------------

REFUSED = [
    ("lstm", {"clip": 0}, ValueError, "clip must be a positive number or None, got 0"),
    ("lstm", {"clip": -1.0}, ValueError, "clip must be a positive"),
    ("lstm", {"clip": -(10**400)}, ValueError, "clip must be a positive"),
    ("lstm", {"clip": np.float32("nan")}, ValueError, "clip must be a positive"),
    ("lstm", {"clip": (1, 2)}, TypeError, "clip must be a positive number or None, got tuple"),
    ("lstm", {"clip": "3"}, TypeError, "clip must be a positive number or None, got str"),
    ("lstm", {"clip": True}, TypeError, "clip must be a positive number or None, got bool"),
    ("lstm", {"cell_clip": 0.0}, ValueError, "cell_clip must be a positive"),
    ("lstm", {"recurrent_activation": "relu"}, ValueError, "recurrent_activation must be one of"),
    ("gru_after", {"zoneout": 1.5}, ValueError, "zoneout must be from 0 to 1"),
    ("gru_after", {"zoneout": (0.1, 0.1)}, ValueError, "zoneout must be one number, got 2"),
    ("lstm", {"zoneout": (0.1,)}, ValueError, r"one number or a pair \(of h, of c\), got 1"),
    ("lstm", {"zoneout": (0.1, "c")}, TypeError, "zoneout of c must be a number"),
    ("lstm", {"recurrent_dropout": -0.1}, ValueError, "recurrent_dropout must be from 0 to 1"),
    ("lstm", {"recurrent_dropout": None}, TypeError, "recurrent_dropout must be a number"),
    ("lstm", {"peephole": 1}, TypeError, "peephole must be True or False"),
    ("lstm", {"coupled": "yes"}, TypeError, "coupled must be True or False"),
    ("lstm", {"layer_norm": None}, TypeError, "layer_norm must be True or False"),
    ("gru_before", {"layer_norm": True}, ValueError, "use reset_after=True"),
    ("lstm", {"init": "normal"}, ValueError, "init must be one of 'pytorch'"),
    ("lstm", {"forget_bias": "1"}, TypeError, "forget_bias must be a number or None"),
    ("lstm", {"forget_bias": np.inf}, ValueError, "forget_bias must be finite"),
    ("lstm", {"forget_bias": 1, "bias": False}, ValueError, "bias=False has no biases"),
    ("lstm", {"forget_bias": 1, "coupled": True}, ValueError, "coupled=True has no forget gate"),
]


@pytest.mark.parametrize(("cell", "given", "error", "message"), REFUSED)
def test_options_that_have_no_meaning_are_refused_by_name(cell, given, error, message):
    with pytest.raises(error, match=message):
        layer_of(cell, I, H, **given)


@pytest.mark.parametrize("given", ["peephole", "coupled", "cell_clip", "forget_bias"])
def test_options_of_the_lstm_alone_are_not_the_others(given):
    for cell in ("gru_after", "rnn_tanh"):
        with pytest.raises(TypeError, match=given):
            layer_of(cell, I, H, **{given: True})
