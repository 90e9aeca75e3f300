"""fastrnn.torch in several processes: data-parallel training, and workers that load data."""

import pytest
from problems import run_python

pytest.importorskip("torch")

pytestmark = [pytest.mark.any_isa, pytest.mark.slow]

DATA_PARALLEL = """
import copy, os, sys, tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastrnn.torch import LSTM

def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 8, 3, generator=generator)

def make():
    torch.manual_seed(0)
    return LSTM(3, 5, num_layers=2)

def loss(module, x):
    return module(x)[0].square().mean()

def work(rank, path):
    dist.init_process_group("gloo", init_method="file://" + path, rank=rank, world_size=2)
    module = make()
    parallel = torch.nn.parallel.DistributedDataParallel(module)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        loss(parallel, batch()[:, rank::2]).backward()
        optimizer.step()
    if rank == 0:
        torch.save([p.detach() for p in module.parameters()], path + ".pt")
    dist.barrier()
    # Nothing is freed: DDP's destructor holds the GIL while it waits for a thread of gloo, which
    # may want the GIL to free its last work. With torch.nn.LSTM too, some runs never ended.
    os._exit(0)

def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "meeting")
        mp.spawn(work, (path,), nprocs=2)
        trained = torch.load(path + ".pt")
    module = make()
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        loss(module, batch()).backward()
        optimizer.step()
    for a, b in zip(trained, module.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)
    print("equal")
"""

WORKERS = """
import torch
from fastrnn.torch import GRU

torch.manual_seed(0)
module = GRU(3, 5)
x = torch.randn(20, 7, 3)
module(x[0])

class Encoded(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, i):
        with torch.no_grad():
            return module(x[i])[0]

def main():
    loader = torch.utils.data.DataLoader(Encoded(), batch_size=4, num_workers=2)
    got = torch.cat(list(loader))
    with torch.no_grad():
        assert torch.equal(got, torch.stack([module(row)[0] for row in x]))
    print("equal")
"""


@pytest.mark.parametrize("program", [DATA_PARALLEL, WORKERS], ids=["data parallel", "workers"])
def test_processes_compute_what_one_does(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program + "\nif __name__ == '__main__':\n    main()\n")
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    done = run_python(code, timeout=300, OMP_NUM_THREADS="1")
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-3000:]
