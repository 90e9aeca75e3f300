"""Frozen layers: the layer's own bits, from weights that are packed once."""

import copy
import gc
import os
import pickle
import signal
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from decorators import every_backend, every_cell, every_dtype, outer_isas
from problems import (
    BACKENDS,
    FUSED_ISAS,
    assert_close,
    assert_same_bits,
    at_once,
    layer_of,
    misaligned,
    read_only,
)
from variants import VARIANTS

import fastrnn
from fastrnn._engine import runtime

T, B, I, H = 7, 3, 4, 21  # noqa: E741 - as in all the equations
V = 9  # rows of an embedding

# Stacks and directions; W_ih that enters in a step, or by a product over several steps.
NETS = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "two directions": {"num_layers": 2, "bidirectional": True},
    "batch_first": {"num_layers": 2, "batch_first": True},
    "reversed": {"num_layers": 2, "reverse": True},
    "merged": {"bidirectional": True, "merge": "mean"},
    "a pair": {"bidirectional": True, "merge": None},
    "no bias": {"bias": False},
}
SIZES = [(1, 1), (1, 3), (7, 1), (7, 3), (40, 1), (3, 70), (0, 2), (2, 0)]
FEW = [(1, 1), (7, 3), (0, 2)]


def draw(*shape, dtype="float32", seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def sequence(layer, t=T, b=B):
    shape = (b, t) if layer.batch_first else (t, b)
    return draw(*shape, layer.input_size, dtype=layer.dtype)


def given_to(layer, t, b):
    """Arguments by keyword that a call may get, by name."""
    rng = np.random.default_rng(2)
    shape = (b, t) if layer.batch_first else (t, b)
    lengths = rng.integers(0, t + 1, b)
    mask, reset = rng.random(shape) < 0.7, rng.random(shape) < 0.3
    _, state = layer(sequence(layer, 2, b))
    return {
        "nothing": {},
        "a state": {"state": state},
        "rows": {"lengths": lengths, "mask": mask, "reset": reset},
        "resets": {"reset": reset, "reset_to": "initial", "state": state},
        "a mask": {"mask": mask, "zero_output_for_mask": layer.merge is not None},
        "gates": {"return_gates": True, "lengths": lengths},
    }


def agree(got, wanted, dtype="float32"):
    if runtime.uses_core():
        assert_same_bits(got, wanted)
    else:
        assert_close(got, wanted, dtype)


# ---- calls ---------------------------------------------------------------------------------------


@every_backend
@every_cell
@pytest.mark.parametrize(
    "net, inputs",
    [(net, I) for net in NETS.values()] + [(NETS["batch_first"], 60), (NETS["two directions"], 60)],
    ids=[*NETS, "many inputs", "many inputs, two directions"],
)
def test_a_call_is_the_layers_bit_for_bit(cell, net, inputs, backend):
    layer = layer_of(cell, inputs, H, **net)
    frozen = layer.freeze()
    for t, b in SIZES if backend == "core" else FEW:
        x = sequence(layer, t, b)
        for given in given_to(layer, t, b).values():
            answer = frozen(x, **given)
            assert_same_bits(answer, layer(x, **given))
            if given.keys() <= {"state"}:
                assert_same_bits(answer, layer.forward(x, **given)[:2])


@outer_isas
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", VARIANTS)
def test_so_are_those_of_variants(name, dtype, isa):
    cell, options = VARIANTS[name]
    for net in {"num_layers": 2}, {"bidirectional": True}:
        layer = layer_of(cell, I, H, dtype=dtype, **options, **net)
        frozen = layer.freeze()
        for t, b in SIZES[:4]:
            x = sequence(layer, t, b)
            for given in given_to(layer, t, b).values():
                assert_same_bits(frozen(x, **given), layer(x, **given))


@every_backend
@every_dtype
@pytest.mark.parametrize("inputs", [4, 60])
def test_so_are_those_of_a_projection(dtype, inputs, backend):
    layer = layer_of("lstm", inputs, H, 2, proj_size=5, dtype=dtype)
    frozen = layer.freeze()
    for t, b in SIZES:
        x = sequence(layer, t, b)
        for given in given_to(layer, t, b).values():
            assert_same_bits(frozen(x, **given), layer(x, **given))


@every_backend
@every_cell
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_ids_are_taken_as_by_the_layer(cell, net, backend):
    layer = layer_of(cell, I, H, **net)
    frozen, embedding = layer.freeze(), draw(V, I)
    for t, b in FEW:
        shape = (b, t) if layer.batch_first else (t, b)
        ids = np.random.default_rng(3).integers(0, I, shape)
        for given in given_to(layer, t, b).values():
            for more in {"one_hot": True}, {"embedding": embedding}:
                assert_same_bits(frozen(ids, **given, **more), layer(ids, **given, **more))


@every_cell
def test_a_sequence_without_a_batch_is_taken(cell):
    layer = layer_of(cell, I, H, 2)
    assert_same_bits(layer.freeze()(draw(T, I)), layer(draw(T, I)))


@every_cell
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 40])
def test_the_number_of_threads_does_not_show(cell, threads, batch):
    layer = layer_of(cell, 70, 130)
    x = sequence(layer, 5, batch)
    with fastrnn.threads(1):
        wanted = layer(x)
    with fastrnn.threads(threads):
        assert_same_bits(layer.freeze()(x), wanted)


@every_backend
def test_arguments_that_do_not_fit_are_refused_as_by_the_layer(backend):
    layer = layer_of("lstm", I, H)
    frozen, x = layer.freeze(), draw(T, B, I)
    state = layer(x)[1]
    for wrong in (
        {"x": draw(T, B, I + 1)}, {"x": draw(T, B, I, dtype="float64")}, {"x": [["a"] * I] * T},
        {"x": x, "state": state[0]}, {"x": x, "state": (state[0][:, 1:], state[1])},
        {"x": x, "lengths": [1, 2, 8]}, {"x": x, "one_hot": True}, {"x": x, "reset_to": "ones"},
        {"x": x, "return_gates": 2}, {"x": x, "zero_output_for_mask": "yes"},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)) as of_layer:
            layer(**wrong)
        with pytest.raises(of_layer.type) as of_frozen:
            frozen(**wrong)
        assert str(of_frozen.value) == str(of_layer.value)


# ---- out -----------------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize("net", [NETS[name] for name in NETS if name != "a pair"])
@pytest.mark.parametrize(
    "change",
    [np.array, np.asfortranarray, misaligned, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]],
    ids=["dense", "Fortran", "misaligned", "strided"],
)
def test_out_is_written_and_returned(net, change, backend):
    layer = layer_of("gru_after", I, H, **net)
    frozen, x = layer.freeze(), sequence(layer)
    for given in given_to(layer, T, B).values():
        wanted = layer(x, **given)
        out = change(np.full_like(wanted[0], 9))
        got = frozen(x, **given, out=out)
        assert got[0] is out
        assert_same_bits(got, wanted)


@every_backend
@pytest.mark.parametrize("strides", [(20, 0), (0, 20), (20, 4), (60, 16), (-60, 20), (20, 140)])
def test_rows_of_out_may_share_memory(strides, backend):
    """y is then what stays of it; the state is right all the same."""
    layer, x = layer_of("lstm", I, 5), draw(T, B, I)
    memory = np.zeros(999, "f4")[400:]
    out = np.lib.stride_tricks.as_strided(memory, (T, B, 5), (*strides, 4))
    y, state = layer.freeze()(x, out=out)
    wanted = np.lib.stride_tricks.as_strided(np.zeros(999, "f4")[400:], (T, B, 5), (*strides, 4))
    wanted[...] = layer(x)[0]
    assert_same_bits((y, state), (wanted, layer(x)[1]))


@every_backend
@pytest.mark.parametrize("net", [{}, {"batch_first": True}, {"bidirectional": True}])
def test_out_stays_writeable(net, backend):
    layer = layer_of("lstm", I, H, **net)
    frozen, x = layer.freeze(), sequence(layer)
    out = np.empty_like(layer(x)[0])
    for _ in range(2):
        frozen(x, out=out, return_gates=True)
        assert out.flags.writeable


@every_backend
def test_out_may_be_the_embedding(backend):
    layer, ids = layer_of("gru_after", I, 2, bidirectional=True), np.array([[0, 1], [2, 3], [4, 1]])
    memory = draw(24)
    embedding = memory[:20].reshape(5, 4)
    wanted = layer(ids, embedding=embedding.copy())
    got = layer.freeze()(ids, embedding=embedding, out=memory.reshape(3, 2, 4))
    assert_same_bits(got, wanted)


@every_backend
@pytest.mark.parametrize("layers", [1, 2])
def test_out_may_be_x_or_the_state(layers, backend):
    layer = layer_of("gru_after", H, H, layers)
    frozen, x = layer.freeze(), draw(layers, B, H)
    wanted = layer(x, x)
    for shifted in 0, 1:
        memory = np.zeros((layers + 1, B, H), "float32")
        memory[:layers] = x
        got = frozen(memory[:layers], x, out=memory[shifted:][:layers])
        assert_same_bits(got, wanted)
    state = x.copy()
    assert_same_bits(frozen(x, state, out=state), wanted)


@every_backend
@pytest.mark.parametrize(
    "out, error, message",
    [
        ([1.0], TypeError, "out must be an array, got list"),
        (np.zeros((T, B, H)), TypeError, "out must be float32 like the weights, got float64"),
        (np.zeros((T, B, 1), "f4"), ValueError, r"out must be \(T, B, features of y\)"),
        (read_only(np.zeros((T, B, H), "f4")), ValueError, "out must be writeable"),
    ],
)
def test_an_out_that_is_not_like_y_is_refused(out, error, message, backend):
    frozen = layer_of("gru_after", I, H).freeze()
    with pytest.raises(error, match=message):
        frozen(draw(T, B, I), out=out)


def test_a_pair_of_outputs_takes_no_out():
    frozen = layer_of("gru_after", I, H, bidirectional=True, merge=None).freeze()
    with pytest.raises(ValueError, match="out must be None with merge=None"):
        frozen(draw(T, B, I), out=np.zeros((T, B, 2 * H), "f4"))


# ---- steps and streams ---------------------------------------------------------------------------


@every_backend
@every_cell
@every_dtype
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_from_a_state_of_the_callers_are_the_sequence(cell, dtype, batch_first, backend):
    layer = layer_of(cell, I, H, 2, dtype=dtype, batch_first=batch_first)
    frozen, x, state = layer.freeze(), draw(T, B, I, dtype=dtype), None
    y, last = layer(x.swapaxes(0, 1) if batch_first else x)
    y = y.swapaxes(0, 1) if batch_first else y
    out = np.empty((B, H), dtype)
    for t in range(T):
        before = copy.deepcopy(state)
        got, after = frozen.step(x[t], state)
        answer = frozen.step(x[t], state, out)
        assert answer[0] is out
        assert_same_bits(answer, (got, after))
        assert_same_bits(state, before)
        state = after
        agree(got, y[t], dtype)
    agree(state, last, dtype)


@every_backend
def test_steps_take_ids(backend):
    layer = layer_of("lstm", I, H, 2)
    frozen, ids, embedding = layer.freeze(), np.array([[1, 3, 0], [2, 2, 1]]), draw(V, I)
    for options in {"one_hot": True}, {"embedding": embedding}:
        y, state = frozen.step(ids[0], **options)
        y, state = frozen.step(ids[1], state, **options)
        agree((y, state), (layer(ids, **options)[0][1], layer(ids, **options)[1]))


@every_backend
@pytest.mark.parametrize(
    "x, error, message",
    [
        (draw(I), ValueError, r"x must be \(B, input_size\) with input_size = 4, got \(4,\)"),
        (draw(1, B, I), ValueError, r"x must be \(B, input_size\) with input_size = 4"),
        (
            draw(B, I + 1),
            ValueError,
            r"x must be \(B, input_size\) with input_size = 4, got \(3, 5",
        ),
        (draw(B, I, dtype="float64"), TypeError, "x must be float32 like the weights"),
        (np.zeros((B, I), int), TypeError, "x must be float32|x must be"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(x, error, message, backend):
    with pytest.raises(error, match=message):
        layer_of("gru_after", I, H).freeze().step(x)


def test_layers_of_two_directions_have_no_steps():
    frozen = layer_of("gru_after", I, H, bidirectional=True).freeze()
    for call in frozen.stream, lambda: frozen.step(draw(B, I)):
        with pytest.raises(ValueError, match="a bidirectional layer cannot stream"):
            call()


@every_backend
@every_cell
@pytest.mark.parametrize("options", [{}, {"one_hot": True}, {"embedding": draw(V, I)}])
def test_streams_of_one_frozen_layer_are_separate(cell, options, backend):
    layer = layer_of(cell, I, H, 2)
    frozen, xs = layer.freeze(), [sequence(layer) + n for n in range(4)]
    if options:
        xs = [np.random.default_rng(n).integers(0, I, (T, B)) for n in range(4)]
    streams = [frozen.stream(B, **options) for _ in xs]
    for t in range(T):
        for x, stream in zip(xs, streams, strict=True):
            agree(stream.step(x[t]), layer(x, **options)[0][t])


@pytest.mark.usefixtures("core")
def test_streams_of_one_frozen_layer_share_its_weights():
    layer = layer_of("lstm", 256, 256)
    frozen = layer.freeze()
    streams = [frozen.stream() for _ in range(2)]
    before = frozen.nbytes
    tracemalloc.start()
    streams += [frozen.stream() for _ in range(10)]
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert frozen.nbytes == before and grown < before / 10


@every_backend
def test_streams_with_equal_embeddings_share_one_copy(backend):
    frozen, embedding = layer_of("lstm", I, H).freeze(), draw(50_000, I)
    embedding[3] = np.nan
    ids = np.array([7])
    tracemalloc.start()
    try:
        streams = [frozen.stream(embedding=embedding) for _ in range(10)]
        streams += [copy.deepcopy(streams[0]), pickle.loads(pickle.dumps(streams[0]))]
        first = streams[0].step(ids)
        embedding[7] += 1  # an equal array has the same copy, another one has another
        streams.append(frozen.stream(embedding=embedding))
        assert tracemalloc.get_traced_memory()[0] < 3.5 * embedding.nbytes
    finally:
        tracemalloc.stop()
    for stream in streams[1:10]:
        assert_same_bits(stream.step(ids), first)
    assert (streams[-1].step(ids) != first).any()
    del streams, stream
    assert len(frozen._embeddings) == 0


@pytest.mark.usefixtures("hurried")
def test_threads_make_streams_with_embeddings_at_once():
    frozen = layer_of("gru_after", I, H).freeze()

    def make(seed):
        kept = []  # the embeddings that the other threads' calls look through
        for i in range(60):
            embedding = draw(V, I, seed=1000 * seed + i)
            kept.append(frozen.stream(embedding=embedding))
        return embedding, kept[-1].step(ids)

    ids = np.array([3])
    functions = [lambda seed=seed: make(seed) for seed in range(4)]
    for answers in at_once(functions, 1):
        ((embedding, y),) = answers
        assert_same_bits(y, frozen.stream(embedding=embedding).step(ids))


# ---- a snapshot ----------------------------------------------------------------------------------


@every_backend
def test_attributes_are_not_set_in_vain(backend):
    frozen = layer_of("lstm", I, H).freeze()
    stream = frozen.stream(2)
    for name, value in ("precision", "int8"), ("head", None), ("batch_first", True):
        with pytest.raises(AttributeError, match="freeze the layer again"):
            setattr(frozen, name, value)
    for name, value in ("embedding", None), ("batch_size", 3), ("one_hot", True):
        with pytest.raises(AttributeError, match="of a stream only `state` can"):
            setattr(stream, name, value)
    assert pickle.loads(pickle.dumps(frozen)).precision is None
    assert repr(stream) == f"<fastrnn.Stream of {frozen!r}, batch_size=2>"


def test_messages_say_what_to_write_instead():
    layer = layer_of("lstm", I, H)
    dense, table = fastrnn.train.Dense(H, 2), fastrnn.train.Embedding(9, I)
    frozen = layer.freeze()
    stream, ids = frozen.stream(1), np.zeros((1,), int)
    for call, error, message in (
        (lambda: layer.freeze(dense), TypeError, r"got a Dense: a head is freeze\(head=\.\.\.\)"),
        (lambda: layer.freeze(head=lambda y: y), TypeError, r"make a train\.Dense\(inputs, outp"),
        (lambda: frozen.stream(embedding=table), TypeError, r'embedding\.params\["weight"\]'),
        (lambda: frozen.step(draw(I)), ValueError, r"x\[None\] is a batch of one row"),
        (lambda: stream.step(draw(I)), ValueError, r"\[None\] adds the first axis"),
        (lambda: stream.step(ids), TypeError, "give one_hot=True or embedding= where you make the"),
        (lambda: frozen(ids[None]), TypeError, "if these are ids, give one_hot=True or embedding="),
        (lambda: frozen(draw(T, B, I), (draw(B, H),) * 2), ValueError, r"\[None\] adds the first"),
    ):
        with pytest.raises(error, match=message):
            call()


@every_backend
@pytest.mark.parametrize("has_head", [False, True])
def test_it_goes_with_its_last_user(has_head, backend):
    """And not later, when the garbage collector runs: a server may freeze anew again and again."""
    layer = layer_of("lstm", I, H)
    head = fastrnn.train.Dense(H, 2) if has_head else None
    gc.collect()
    gc.disable()
    try:
        frozen = layer.freeze(head=head)
        stream = frozen.stream(2)
        stream.step(draw(2, I), rows=[1, 0])
        gone = weakref.ref(frozen), weakref.ref(stream)
        del frozen, stream
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


@every_backend
@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_the_layer_may_change_or_go(cell, backend):
    layer = layer_of(cell, I, H, 2)
    frozen, x = layer.freeze(), draw(T, B, I)
    wanted = layer(x)
    layer.flat[...] = 0.5
    assert_same_bits(frozen(x), wanted)
    buffer = weakref.ref(layer._flat)
    del layer
    gc.collect()
    assert buffer() is None
    assert_same_bits(frozen(x), wanted)


@every_backend
@pytest.mark.parametrize("name", [*VARIANTS][::4])
def test_copies_and_pickles_have_the_same_bits(name, backend):
    cell, options = VARIANTS[name]
    frozen, x = layer_of(cell, I, H, 2, **options).freeze(), draw(T, B, I)
    assert copy.copy(frozen) is frozen and copy.deepcopy([frozen])[0] is frozen
    loaded = pickle.loads(pickle.dumps(frozen))
    assert loaded.nbytes == frozen.nbytes
    assert_same_bits(loaded(x), frozen(x))
    stream = loaded.stream(B)
    stream.feed(x[:3])
    again = pickle.loads(pickle.dumps(stream))
    assert_same_bits(again.feed(x[3:]), copy.deepcopy(stream).feed(x[3:]))


@pytest.mark.usefixtures("core")
@pytest.mark.skipif(len(FUSED_ISAS) < 2, reason="needs two instruction sets")
def test_it_goes_on_with_the_instruction_set_that_packed_it():
    layer, x = layer_of("lstm", 60, H), draw(9, 1, 60)
    ids = np.random.default_rng(0).integers(0, 60, (9, 1))
    selected = runtime.core.isa()
    try:
        wanted = {}
        for isa in runtime.core.isas_available():
            runtime.select_isa(isa)
            wanted[isa] = layer(x), layer(ids, one_hot=True)
        for isa in runtime.core.isas_available():
            runtime.select_isa(isa)
            frozen = layer.freeze()
            runtime.select_isa("generic")  # both W_ih's other form and the table come after this
            assert_same_bits((frozen(x), frozen(ids, one_hot=True)), wanted[isa])
    finally:
        runtime.select_isa(selected)


@pytest.mark.usefixtures("core")
@every_cell
def test_nbytes_is_what_there_is(cell):
    layer = layer_of(cell, 64, 64)
    frozen, size = layer.freeze(), layer.flat.nbytes
    assert size <= frozen.nbytes < 1.1 * size + 2000
    frozen(draw(1, 1, 64))
    assert size <= frozen.nbytes < 1.1 * size + 2000
    frozen(draw(90, 1, 64))  # a product over all steps
    frozen(np.zeros((3, 1), int), one_hot=True)
    w_ih = layer.params["weight_ih_l0"].nbytes
    assert frozen.nbytes <= 1.1 * (size + 2 * w_ih) + 4000


def test_its_sizes_are_the_layers():
    layer = layer_of("gru_after", I, H, 2, bidirectional=True, batch_first=True, dtype="float64")
    frozen = layer.freeze()
    for name in (
        "input_size",
        "hidden_size",
        "num_layers",
        "bidirectional",
        "batch_first",
        "merge",
        "dtype",
    ):
        assert getattr(frozen, name) == getattr(layer, name)
    assert repr(frozen) == (
        "<fastrnn.Frozen gru_after 4, 21, num_layers=2, bidirectional=True float64>"
    )


@pytest.mark.skipif(len(BACKENDS) < 2, reason="needs the kernels")
def test_either_backend_runs_what_the_other_one_froze():
    layer, x = layer_of("lstm", I, H, 2, proj_size=5), draw(T, B, I)
    with fastrnn.backend("reference"):
        frozen, wanted = layer.freeze(), layer(x)
    assert_same_bits(frozen(x), layer(x))
    with fastrnn.backend("reference"):
        assert_same_bits(layer.freeze()(x), wanted)
        assert_same_bits(frozen(x), wanted)


@pytest.mark.posix
@pytest.mark.usefixtures("core")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_ends_a_call_and_the_next_one_is_right():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    layer, x = fastrnn.LSTM(64, 256, rng=0), np.ones((60000, 1, 64), "f4")  # most of a second
    frozen = layer.freeze()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Stop):
            frozen(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert_same_bits(frozen(x[:5]), layer(x[:5]))


# ---- threads and processes -----------------------------------------------------------------------


@pytest.mark.usefixtures("core")
def test_threads_may_call_it_from_the_first_call_on():
    layer = layer_of("lstm", 60, H)
    x, ids = draw(9, 1, 60), np.random.default_rng(0).integers(0, 60, (9, 1))
    wanted = layer(x), layer(ids, one_hot=True), layer(x[:1])
    for _ in range(20):
        frozen = layer.freeze()
        calls = [
            lambda f=frozen: (f(x), f(ids, one_hot=True), f(x[:1])),
            lambda f=frozen: (f(x), f(ids, one_hot=True), f(x[:1])),
            lambda f=frozen: (f.stream().feed(x), f.stream(one_hot=True).feed(ids)),
        ] * 3
        for answer in at_once(calls, 1):
            for got in answer if isinstance(answer, list) else [answer]:
                if len(got) == 3:
                    assert_same_bits(got, wanted)
                else:
                    assert_same_bits(got, (wanted[0][0], wanted[1][0]))


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("core")
def test_a_forked_child_may_call_it_while_a_thread_of_the_parent_packs():
    layer = layer_of("lstm", 400, 200)
    x = draw(9, 1, 400)
    wanted = layer(x)
    for _ in range(5):
        frozen = layer.freeze()
        other = threading.Thread(target=frozen, args=(x,))
        other.start()
        child = os.fork()
        if child == 0:
            try:
                assert_same_bits(frozen(x), wanted)
            except BaseException:  # noqa: BLE001 - the child must not go on as pytest
                os._exit(1)
            os._exit(0)
        other.join()
        assert os.waitpid(child, 0)[1] == 0
