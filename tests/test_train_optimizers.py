"""Clipping and optimizers, step by step beside PyTorch's."""

import pickle

import numpy as np
import pytest
from problems import assert_same_bits
from training import draw, every_dtype

from fastrnn import train

pytestmark = pytest.mark.no_kernels


@every_dtype
@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda p: train.SGD(p, 0.1), ("SGD", {"lr": 0.1})),
        (lambda p: train.SGD(p, 0.1, momentum=0.9), ("SGD", {"lr": 0.1, "momentum": 0.9})),
        (lambda p: train.Adam(p, 0.01), ("Adam", {"lr": 0.01})),
        (lambda p: train.Adam(p, 0.1, (0.8, 0.99), 1e-3),
         ("Adam", {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3})),
    ],
    ids=["SGD", "momentum", "Adam", "Adam otherwise"],
)  # fmt: skip
def test_optimizers_are_pytorchs(make, theirs, dtype):
    torch = pytest.importorskip("torch")
    ours = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
    other = [torch.from_numpy(p.copy()).requires_grad_() for p in ours]
    optimizer, theirs = make(ours), getattr(torch.optim, theirs[0])(other, **theirs[1])
    for step in range(20):
        gradients = [draw(p.size, dtype=dtype, seed=step + p.size) for p in ours]
        optimizer.step(gradients)
        for p, g in zip(other, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        theirs.step()
    for p, wanted in zip(ours, other, strict=True):
        tolerance = 100 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(p, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert p.dtype == dtype


@every_dtype
def test_gradients_are_clipped_to_a_common_norm_or_each_to_a_value(dtype):
    for largest in (0.5, 100):
        gradients = [draw(4, dtype=dtype), draw(3, dtype=dtype, seed=1)]
        before = np.concatenate(gradients)
        norm = train.clip_by_norm(gradients, largest)
        np.testing.assert_allclose(norm, np.linalg.norm(before), rtol=1e-6)
        wanted = before * min(1, largest / norm)
        np.testing.assert_allclose(np.concatenate(gradients), wanted, rtol=1e-6)
        assert all(g.dtype == dtype for g in gradients)
    train.clip_by_value(gradients, 0.25)
    assert_same_bits(np.concatenate(gradients), np.clip(before, -0.25, 0.25).astype(dtype))


@pytest.mark.parametrize("make", [lambda p: train.SGD(p, 0.1), train.Adam], ids=["SGD", "Adam"])
def test_gradients_that_do_not_fit_change_nothing(make):
    parameters = [draw(4), draw(3)]
    optimizer, before = make(parameters), pickle.dumps(parameters)
    for sizes in ((4,), (4, 3, 3), (3, 4), (4, 1)):
        with pytest.raises(ValueError, match="gradients must be like the parameters"):
            optimizer.step([draw(n) for n in sizes])
        assert pickle.dumps(parameters) == before
    wanted = [draw(4), draw(3)]
    make(wanted).step([draw(4), draw(3)])
    optimizer.step([draw(4), draw(3)])  # as if those had never come
    assert_same_bits(parameters, wanted)
