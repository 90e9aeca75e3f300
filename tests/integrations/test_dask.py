"""Layers over Dask arrays: the bits of the undivided call, with threads and with processes."""

import os
from contextlib import closing

import numpy as np
import pytest
from problems import assert_same_bits

import fastrnn
from fastrnn import train

pytest.importorskip("distributed")
import dask
import dask.array as da
from dask.base import tokenize
from distributed import Client, LocalCluster

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

T, B, I, H = 9, 14, 5, 8  # noqa: E741 - as in all the equations
X = np.random.default_rng(0).standard_normal((T, B, I)).astype("float32")
LENGTHS = np.arange(B) % (T + 1)


@pytest.fixture(scope="module")
def client():
    """A cluster of two processes with a thread each; the number of threads is left to Dask."""
    before = os.environ.pop("OMP_NUM_THREADS", None)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        with closing(Client(cluster)) as client:
            yield client
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before


def outputs(x, net):
    return net(x)[0]


def features(x, lengths, net):
    return net.last(net(x, lengths=lengths)[1])


def divided(net):
    """y and the last outputs at `LENGTHS`, as Dask arrays of three chunks of the batch."""
    once, x = dask.delayed(net), da.from_array(X, chunks=(T, (5, 2, 7), I))
    chunks = x.chunks[0], x.chunks[1], (H,)
    y = x.map_blocks(outputs, net=once, chunks=chunks, meta=np.empty((0, 0, 0), "f4"))
    lengths = da.from_array(LENGTHS, chunks=x.chunks[1:2])
    last = da.blockwise(
        features, "bh", x, "tbi", lengths, "b", net=once, new_axes={"h": H}, concatenate=True,
        meta=np.empty((0, 0), "f4"),
    )  # fmt: skip
    return y, last


def of_whole(net):
    return outputs(X, net), features(X, LENGTHS, net)


NETS = {
    "layer": fastrnn.GRU(I, H, num_layers=2, rng=0),
    "frozen": fastrnn.LSTM(I, H, rng=0).freeze(),
    "int8": fastrnn.LSTM(I, H, rng=0).freeze("int8"),
    "head": fastrnn.LSTM(I, 3, rng=0).freeze(head=train.Dense(3, H, rng=0)),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


@every_net
def test_threads_give_the_bits_of_the_undivided_call(net):
    y, last = divided(net)
    assert (y.shape, last.shape, y.dtype) == ((T, B, H), (B, H), "f4")
    assert_same_bits(dask.compute(y, last, scheduler="threads", num_workers=2), of_whole(net))


@every_net
def test_processes_give_the_bits_of_the_undivided_call(net, client):
    assert_same_bits(client.gather(client.compute(divided(net))), list(of_whole(net)))


def threads():
    return fastrnn.get_num_threads(), fastrnn.show_config()["threads from"]


def test_a_worker_has_one_thread_because_dask_says_so(client):
    assert set(client.run(threads).values()) == {(1, "OMP_NUM_THREADS")}


class Counted:
    """A net that counts how often this process has unpickled it."""

    count = 0

    def __init__(self, net):
        self.net = net

    def __reduce__(self):
        return unpickled, (self.net,)

    def __call__(self, x):
        return self.net(x)


def unpickled(net):
    Counted.count += 1
    return Counted(net)


def unpickled_here():
    return Counted.count


@pytest.mark.parametrize("how", ["delayed", "scattered"])
def test_a_frozen_layer_is_sent_to_a_worker_once(client, how):
    net, x = Counted(NETS["frozen"]), da.from_array(X, chunks=(T, 1, I))
    before = client.run(unpickled_here)
    once = dask.delayed(net) if how == "delayed" else client.scatter(net, broadcast=True)
    chunks = x.chunks[0], x.chunks[1], (H,)
    y = x.map_blocks(outputs, net=once, chunks=chunks, meta=np.empty((0, 0, 0), "f4"))
    assert_same_bits(client.compute(y).result(), NETS["frozen"](X)[0])
    after = client.run(unpickled_here)
    assert {after[worker] - before[worker] for worker in after} <= {0, 1}


@pytest.mark.parametrize("hidden", [5, 33, 300])
def test_what_is_sent_arrives_at_any_address(client, hidden):
    """Dask places the buffers of a pickle one behind the other: most are unaligned."""
    layer = fastrnn.LSTM(I, hidden, rng=0)
    for net in (layer, layer.freeze(), [layer, layer.freeze(), X[:, :1].copy()]):
        alone = net[1] if isinstance(net, list) else net
        got = client.submit(outputs if alone is net else outputs_of_second, X, net).result()
        assert_same_bits(got, layer(X)[0])
    stream, wanted = layer.stream(B), layer.stream(B)
    assert_same_bits(client.submit(feed, stream, X).result(), wanted.feed(X))


def outputs_of_second(x, nets):
    return outputs(x, nets[1])


def feed(stream, x):
    return stream.feed(x)


def test_equal_layers_have_equal_tokens():
    def nets(seed):
        layer = fastrnn.LSTM(I, H, rng=seed)
        return [layer, layer.freeze(), layer.freeze("int8")]

    with dask.config.set({"tokenize.ensure-deterministic": True}):
        tokens = [tokenize(net) for net in nets(0)]
        assert tokens == [tokenize(net) for net in nets(0)]
        assert len({*tokens, *[tokenize(net) for net in nets(1)]}) == 6
