"""Ray: what a node has once, and what each actor has."""

import logging

import numpy as np
import pages
import pytest
from problems import assert_same_bits

import fastrnn

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels, pytest.mark.slow]

I, H = 256, 512  # noqa: E741 - as in all the equations; the parameters have 6 MB


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
            object_store_memory=200 * 2**20,
        )  # fmt: skip
        yield
        ray.shutdown()


def actor_of(net, cpus=1, **options):
    """An actor with a net. Its class is made here, so that Ray sends it and imports no test."""

    class Actor:
        def __init__(self, net):
            self.net = net

        def outputs(self, x):
            return self.net(x)[0]

        def where(self):
            """The file that holds the parameters, packed or not, and whether they are read-only."""
            if hasattr(self.net, "flat"):
                array = self.net.flat
            else:
                array = self.net._kernel_weights[0].content
            address, writeable = array.ctypes.data, array.flags.writeable
            for line in open("/proc/self/maps"):
                area, *_, file = line.split(None, 5)
                begin, end = (int(number, 16) for number in area.split("-"))
                if begin <= address < end:
                    return file.strip(), not writeable

        def threads(self):
            import fastrnn

            return fastrnn.get_num_threads()

    return ray.remote(num_cpus=cpus, **options)(Actor).remote(net)


@pytest.fixture
def actors(cluster):
    """A function that makes actors; they end with the test."""
    made = []

    def make(*arguments, **options):
        made.append(actor_of(*arguments, **options))
        return made[-1]

    yield make
    for actor in made:
        ray.kill(actor)


X = np.random.default_rng(0).standard_normal((7, 4, I)).astype("float32")
LAYER = fastrnn.LSTM(I, H, rng=0)


@pytest.mark.parametrize(
    "net",
    [LAYER, *(LAYER.freeze(precision, portable=False) for precision in (None, "int8"))],
    ids=["layer", "frozen", "frozen, int8"],
)
def test_parameters_and_packed_weights_are_on_a_node_once(actors, net):
    sent, x = ray.put(net), ray.put(X)
    pair = [actors(sent) for _ in range(2)]
    (file, read_only), other = ray.get([actor.where.remote() for actor in pair])
    assert other == (file, read_only)
    assert "plasma" in file and read_only
    for y in ray.get([actor.outputs.remote(x) for actor in pair]):
        assert_same_bits(y, net(X)[0])


@pytest.mark.parametrize("precision", [None, "int8"])
def test_a_frozen_layer_in_an_actor_gives_the_same_bits(actors, precision):
    frozen = LAYER.freeze(precision)
    (y,) = ray.get([actors(ray.put(frozen)).outputs.remote(X)])
    assert_same_bits(y, frozen(X)[0])


def test_calls_of_a_threaded_actor_run_at_once_on_one_copy(actors):
    actor = actors(LAYER.freeze(), cpus=2, max_concurrency=2)
    for y in ray.get([actor.outputs.remote(X) for _ in range(6)]):
        assert_same_bits(y, LAYER(X)[0])


@pytest.mark.parametrize("cpus", [1, 2])
def test_an_actor_has_a_thread_for_each_of_its_cores(actors, cpus):
    assert ray.get(actors(None, cpus=cpus).threads.remote()) == cpus


def test_the_program_of_the_page_runs(cluster, monkeypatch, capsys):
    """In the cluster that is there: to start another one takes ten seconds."""
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    (program,) = pages.blocks("how-to/several-processes.md", "python ray")
    exec(compile(program, "several-processes.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "the same bits: True\n"
