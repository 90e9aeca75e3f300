"""Training by several processes: the bits of one that adds parts, and errors that end all.

The body of a test runs in each process of an `mpiexec`, which runs this file. Its argument is the
communicator.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("mpi4py")
if shutil.which("mpiexec") is None:
    pytest.skip("needs mpiexec", allow_module_level=True)

from pages import blocks
from problems import assert_same_bits
from training import draw

import fastrnn
from fastrnn import distributed, train

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

# Open MPI refuses to run as root, and more processes than cores.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "FASTRNN_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # else a process that waits takes all of a core
}
BODIES = {}


def mpiexec(size, *command, seconds=60, **options):
    """The ended `mpiexec -n size python command`."""
    paths = [str(pathlib.Path(__file__).parent / "support"), os.environ.get("PYTHONPATH")]
    return subprocess.run(
        ["mpiexec", "-n", str(size), sys.executable, *map(str, command)],
        env={**os.environ, **ALLOWED, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=seconds,
        **options,
    )


def by_processes(*sizes):
    """A test whose body runs in so many processes."""

    def decorated(body):
        BODIES[body.__name__] = body

        @pytest.mark.parametrize("size", sizes)
        def test(size, tmp_path):
            ended = mpiexec(size, "-m", "mpi4py", __file__, body.__name__, cwd=tmp_path)
            assert ended.returncode == 0, ended.stderr

        test.__doc__ = body.__doc__
        return test

    return decorated


def by_two_of_which_one_fails(*words):
    """A test whose body fails in a process: all end at once, and the words are said once."""

    def decorated(body):
        BODIES[body.__name__] = body

        def test(tmp_path):
            begin = time.monotonic()
            ended = mpiexec(2, __file__, body.__name__, cwd=tmp_path)
            assert ended.returncode != 0 and time.monotonic() - begin < 30
            for word in words:
                assert ended.stderr.count(word) == 1, ended.stderr

        test.__doc__ = body.__doc__
        return test

    return decorated


# ---- a model and its data ------------------------------------------------------------------------


def network(seed=0, dtype="float32"):
    """An embedding, a layer and a head, and their optimizer."""
    parts = {
        "table": train.Embedding(7, 3, dtype=dtype, rng=seed),
        "layer": fastrnn.GRU(3, 4, dtype=dtype, rng=seed),
        "head": train.Dense(4, 2, dtype=dtype, rng=seed),
    }
    return parts, train.Adam(parts.values(), 0.05)


def texts(rows, seed=0):
    """ids (T, B) of T = 6 steps, targets (T, B), lengths (B,)."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(7, size=(6, rows))
    return ids, rng.integers(2, size=(6, rows)), rng.integers(1, 7, size=rows)


def computed(parts, ids, targets, lengths):
    """The loss over the steps of some rows, its gradients, the number of the steps."""
    table, layer, head = parts.values()
    y, _, tape = layer.forward(ids, embedding=table.params["weight"], lengths=lengths)
    loss, d = train.cross_entropy(head(y), targets, lengths=lengths)
    of_head = head.backward(y, d)
    grads = tape.backward(of_head.x)
    return loss, [grads.embedding, grads, of_head], lengths.sum()


def of_rows(batch, rows):
    """These rows of a minibatch."""
    return [array[..., rows] for array in batch]


def _array(gradient):
    return gradient if isinstance(gradient, np.ndarray) else gradient.flat


# ---- the same numbers ----------------------------------------------------------------------------


@by_processes(2)
def test_two_processes_have_the_bits_of_one_that_adds_two_half_batches(comm):
    together, alone = network(), network()

    def step(batch):
        return mean(*computed(together[0], *of_rows(batch, slice(comm.rank, None, 2))))

    def step_alone(batch):
        halves = [computed(alone[0], *of_rows(batch, slice(i, None, 2))) for i in range(2)]
        total = halves[0][2] + halves[1][2]
        shares = [float(count / total) for *_, count in halves]
        loss = shares[0] * halves[0][0] + shares[1] * halves[1][0]
        first, second = (
            [share * _array(g) for g in gradients]
            for share, (_, gradients, _) in zip(shares, halves, strict=True)
        )
        return loss, [a + b for a, b in zip(first, second, strict=True)]

    def batches(epoch):
        return (texts(8, seed) for seed in range(3))

    def run(model, step):
        parts, adam = model
        return train.fit(parts, step, batches, optimizer=adam, epochs=4, clip=0.1)

    with distributed.together(together[0], comm) as mean:
        history = run(together, step)
    wanted = run(alone, step_alone)
    assert history.loss == wanted.loss and history.loss[-1] < history.loss[0]
    for name, part in together[0].items():
        assert_same_bits(part.flat, alone[0][name].flat)


@by_processes(2, 4)
def test_parts_of_any_sizes_and_lengths_give_the_means_of_the_whole_minibatch(comm):
    parts, _ = network(dtype="float64")
    batch = texts(8)
    bounds = {2: [0, 3, 8], 4: [0, 1, 1, 6, 8]}[comm.size]  # the second of four has no row
    rows = slice(*bounds[comm.rank : comm.rank + 2])
    with distributed.together(parts, comm) as mean:
        loss, gradients = mean(*computed(parts, *of_rows(batch, rows)))
    wanted, of_whole, _ = computed(parts, *batch)
    np.testing.assert_allclose(loss, wanted, rtol=1e-14)
    for gradient, of in zip(gradients, of_whole, strict=True):
        np.testing.assert_allclose(gradient, _array(of), rtol=1e-12, atol=1e-15)


@by_processes(3, 4)
def test_exact_adds_in_the_order_of_the_processes(comm):
    every = [draw(1000, dtype="float32", seed=seed) * 10**seed for seed in range(comm.size)]
    own = every[comm.rank].copy()
    with distributed.together([], comm, exact=True) as mean:
        mean(0.5, own, 1)
    scaled = [gradient * (1 / comm.size) for gradient in every]
    assert_same_bits(own, functools.reduce(np.add, scaled))
    assert (own != functools.reduce(np.add, reversed(scaled))).any()  # the order matters here


@by_processes(2)
def test_gradients_may_lie_in_any_order(comm):
    values = np.arange(6.0).reshape(2, 3)
    layouts = [np.array(values), np.array(values, order="F"), np.repeat(values, 2, 1)[:, ::2]]
    for exact in (False, True):
        with distributed.together([], comm, exact=exact) as mean:
            own = layouts[comm.rank].copy(order="K"), layouts[2].T[::-1], np.array(3.0)
            mean(0.5, own, 1)
        for array, wanted in zip(own, (values, values.T[::-1], 3), strict=True):
            np.testing.assert_array_equal(array, wanted)


@by_processes(2)
def test_a_process_without_elements_has_no_effect(comm):
    own = np.array([[2.0, 4.0], [np.nan, np.inf]][comm.rank])
    with distributed.together([], comm) as mean:
        assert mean([0.5, np.nan][comm.rank], [own], [3, 0][comm.rank]) == (0.5, [own])
        assert_same_bits(own, np.array([2.0, 4.0]))
        loss, _ = mean(np.nan, [own], 0)
    assert loss == 0 and not own.any()


@by_processes(2)
def test_not_a_number_of_one_process_comes_to_all(comm):
    own = np.array([[1.0, 2.0], [np.nan, np.inf]][comm.rank])
    with distributed.together([], comm) as mean, np.errstate(all="raise"):
        loss, _ = mean([0.5, np.nan][comm.rank], [own], 4)
    assert np.isnan([loss, own[0]]).all() and own[1] == np.inf


@by_processes(3)
def test_all_begin_with_the_parameters_of_the_first_process(comm):
    parts, _ = network(seed=comm.rank)
    with distributed.together(parts, comm):
        for name, part in network(seed=0)[0].items():
            assert_same_bits(parts[name].flat, part.flat)


@by_processes(2)
def test_processes_may_be_some_of_all(comm):
    alone, own = comm.Split(comm.rank), np.array([1.0 + comm.rank])
    with distributed.together([own_part(own)], alone) as mean:
        mean(0.0, own, 1)
    assert own == 1 + comm.rank


def own_part(array):
    part = train.Dense(1, 1, dtype="float64")
    part.flat[...] = array
    return part


# ---- with fit ------------------------------------------------------------------------------------


@by_processes(2)
def test_validation_stopping_dropout_and_resuming_are_the_same_in_all(comm):
    """Each validates on its rows; all read one checkpoint; dropout follows epoch and process."""

    def run(checkpoint, last, **options):
        parts, adam = network(seed=comm.rank)
        parts["dropout"] = dropout = train.Dropout(0.3)
        table, layer, head, _ = parts.values()

        def step(batch):
            ids, targets, lengths = of_rows(batch, slice(comm.rank, None, comm.size))
            y, _, tape = layer.forward(ids, embedding=table.params["weight"], lengths=lengths)
            output, factors = dropout.forward(y)
            loss, d = train.cross_entropy(head(output), targets, lengths=lengths)
            of_head = head.backward(output, d)
            grads = tape.backward(dropout.backward(factors, of_head.x))
            return mean(loss, [grads.embedding, grads, of_head], lengths.sum())

        def batches(epoch):
            dropout.rng = np.random.default_rng([epoch, comm.rank])
            if epoch > last:
                raise KeyboardInterrupt
            return (texts(8, seed) for seed in range(3))

        def validate():
            own = of_rows(texts(9, seed=9), slice(comm.rank, None, comm.size))
            loss, _, count = computed({n: parts[n] for n in ("table", "layer", "head")}, *own)
            return mean(loss, [], count)[0]

        with distributed.together(parts, comm) as mean:
            try:
                history = train.fit(
                    parts, step, batches, optimizer=adam, epochs=60, validate=validate,
                    patience=5, clip=1.0, checkpoint=checkpoint, **options,
                )  # fmt: skip
            except KeyboardInterrupt:
                return None
        return history, parts

    history, parts = run("run.npz", 99)
    assert 4 < len(history.loss) < 60
    assert comm.allgather(history.validation) == [history.validation] * 2
    assert run("stopped.npz", 4) is None
    again, resumed = run("stopped.npz", 99, resume=True)
    assert again.validation == history.validation and again.loss == history.loss
    for name in ("table", "layer", "head"):
        assert_same_bits(resumed[name].flat, parts[name].flat)


# ---- what does not agree -------------------------------------------------------------------------


@by_processes(1)
def test_arguments_that_do_not_fit_are_refused(comm):
    own = np.ones(3)
    with pytest.raises(TypeError, match="exact must be True or False"):
        distributed.together([], comm, exact=1).__enter__()
    with pytest.raises(TypeError, match="parts must be a dict"):
        distributed.together(own, comm).__enter__()
    with pytest.raises(TypeError, match="comm must be .*COMM_WORLD, got 0"):
        distributed.together([], comm.rank).__enter__()
    with pytest.raises(TypeError, match="COMM_WORLD, got <module"):
        distributed.together([], sys.modules["mpi4py.MPI"]).__enter__()
    with distributed.together([], comm) as mean:
        for count in (-1, np.nan, np.inf):
            with pytest.raises(ValueError, match="count must be from 0 to 1e300"):
                mean(0.5, [own], count)
        with pytest.raises(TypeError, match="loss must be a number"):
            mean("much", [own], 1)
        with pytest.raises(TypeError, match=r"gradients\[0\] must be a writeable array"):
            mean(0.5, [np.ones(3, int)], 1)
        with pytest.raises(TypeError, match="must be what backward returned, got the Dense itself"):
            mean(0.5, [train.Dense(2, 1, rng=0)], 1)
        with pytest.raises(ValueError, match="must not share memory"):
            mean(0.5, [own, own], 1)
        assert mean(0.5, iter([own]), 1)[1][0] is own


@by_processes(2)
def test_gradients_of_other_sizes_or_dtypes_are_refused_in_all(comm):
    forms = [(3, "f4"), (4, "f4")], [(3, "f4"), (3, "f8")]
    with distributed.together([], comm) as mean:
        for pair in forms:
            with pytest.raises(ValueError, match="process 0: mean of float32 .3,.*process 1: mea"):
                mean(0.5, np.ones(*pair[comm.rank]), 1)


@by_processes(2)
def test_parameters_that_differ_are_refused_in_all(comm):
    part = own_part(0)
    with distributed.together([part], comm) as mean:
        for call in range(1, 17):
            part.flat[0] = (
                call if comm.rank == 0 or call not in (4, 5, 8) else np.nextafter(call, 0)
            )
            if call in (4, 8):
                with pytest.raises(ValueError, match="equal parameters, got .*checksum"):
                    mean(0.5, [], 1)
            else:
                mean(0.5, [], 1)


@by_two_of_which_one_fails("OSError: no disk")
def test_an_error_of_one_process_ends_all(comm):
    with distributed.together([], comm) as mean:
        mean(0.5, [], 1)
        if comm.rank == 1:
            raise OSError("no disk")
        mean(0.5, [], 1)  # would wait for ever


@by_two_of_which_one_fails()
def test_an_exit_of_one_process_ends_all(comm):
    with distributed.together([], comm) as mean:
        if comm.rank == 1:
            sys.exit()
        mean(0.5, [], 1)


@by_two_of_which_one_fails("TypeError: parts must be")
def test_an_error_before_the_context_ends_all_too(comm):
    with distributed.together([] if comm.rank else {"a"}, comm) as mean:
        mean(0.5, [], 1)


def _uneven(comm):
    parts, adam = network()

    def step(batch):
        return mean(*computed(parts, *of_rows(batch, slice(comm.rank, None, comm.size))))

    def batches(epoch):
        return (texts(8, seed) for seed in range(3 + comm.rank))

    with distributed.together(parts, comm) as mean:
        train.fit(parts, step, batches, optimizer=adam, epochs=2)


BODIES["uneven"] = _uneven


def test_a_process_without_further_minibatches_ends_all():
    ended = mpiexec(2, __file__, "uneven")
    assert ended.returncode != 0
    assert "process 0: end, checksum" in ended.stderr
    assert "process 1: mean of float32 (7, 3)" in ended.stderr


def _unlike(comm):
    with distributed.together([], comm, exact=comm.rank == 1) as mean:
        mean(0.5, np.ones(3), 1)  # would wait for ever


BODIES["unlike"] = _unlike


def test_processes_that_would_add_in_different_ways_end():
    ended = mpiexec(2, "-m", "mpi4py", __file__, "unlike")
    assert ended.returncode != 0
    assert "process 0: begin (exact=False) with; process 1: begin (exact=True)" in ended.stderr


# ---- the page ------------------------------------------------------------------------------------


PROGRAMS = dict(
    zip(("waves", "ragged"), blocks("how-to/several-machines.md", "python"), strict=True)
)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("name", "words", "limit"), [("waves", "epoch .*, error", 0.36), ("ragged", "loss", 0.01)]
)
def test_the_programs_of_the_page_learn(size, name, words, limit, tmp_path):
    (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
    ended = mpiexec(size, "-m", "mpi4py", f"{name}.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (said,) = re.findall(rf"^{words} ([0-9.]+)$", ended.stdout, re.M)
    assert float(said) < limit


if __name__ == "__main__":
    from mpi4py.MPI import COMM_WORLD

    BODIES[sys.argv[1]](COMM_WORLD)
