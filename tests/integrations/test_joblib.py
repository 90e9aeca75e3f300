"""joblib's processes: arrays that it maps are read in place, and the threads are as it says."""

import numpy as np
import pytest
from problems import assert_same_bits

import fastrnn
from fastrnn.estimators import Forecaster

joblib = pytest.importorskip("joblib")

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]

T, B, I, H = 2000, 8, 128, 2  # noqa: E741 - as in all the equations; x has 8 MB, y far less
CORES = joblib.cpu_count()


@pytest.fixture(autouse=True)
def _left_to_joblib(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def in_two(function, *arguments, **options):
    """The results of two calls in two processes."""
    call = joblib.delayed(function)(*arguments)
    return joblib.Parallel(n_jobs=2, **options)([call, call])


def looked_at(x, net):
    """y, whether x is mapped and read-only, and the most bytes that the call took."""
    import tracemalloc

    tracemalloc.start()
    y = net(x)[0]
    nbytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return y, isinstance(x, np.memmap) and not x.flags.writeable, nbytes


def test_a_mapped_input_is_read_in_place():
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype("float32")
    layer = fastrnn.LSTM(I, H, rng=0)
    for net in (layer, layer.freeze()):
        for y, mapped, nbytes in in_two(looked_at, x, net):
            assert mapped
            assert nbytes < x.nbytes / 2
            assert_same_bits(y, layer(x)[0])


def parameters_are_mapped(x, layer):
    return layer(x)[0], not layer.flat.flags.writeable


def test_the_parameters_of_a_large_layer_are_mapped_too():
    layer, x = fastrnn.LSTM(I, 400, rng=0), np.ones((3, 2, I), "float32")
    for y, mapped in in_two(parameters_are_mapped, x, layer):
        assert mapped
        assert_same_bits(y, layer(x)[0])


def forecast(series):
    forecaster = Forecaster(6, 3, epochs=2, networks=2, hidden_size=4, random_state=0)
    return forecaster.fit(series).predict()


def test_many_series_in_processes_have_the_forecasts_of_one_process():
    t = np.arange(60.0)
    many = [np.sin(t / k) + t for k in (2, 3, 4)]
    parallel = joblib.Parallel(n_jobs=2)(joblib.delayed(forecast)(y) for y in many)
    assert_same_bits(parallel, [forecast(y) for y in many])


def threads():
    return fastrnn.get_num_threads(), fastrnn.show_config()["threads from"]


# The last test: joblib ends its processes and makes new ones where the environment changes.
def test_the_threads_of_a_worker_are_those_that_joblib_says():
    each = max(1, CORES // 2)
    assert in_two(threads) == [(each, "OMP_NUM_THREADS")] * 2
    with joblib.parallel_config("loky", inner_max_num_threads=3):
        assert in_two(threads) == [(3, "OMP_NUM_THREADS")] * 2
