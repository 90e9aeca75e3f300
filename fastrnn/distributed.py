"""Training by several processes, with mpi4py. It must not know: networks, optimizers, epochs."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.train.buffers import writeable
from fastrnn.train.state import arrays_of, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastrnn.train.protocols import Comm, Mean, Parts

__all__ = ["together"]


@contextmanager
def together(parts: Parts, comm: Comm, *, exact: bool = False) -> Iterator[Mean]:
    """Train parts by all processes of comm: each computes its elements of every minibatch.

    All begin with the parameters of process 0. An error that leaves the `with` block ends all.

    Parameters
    ----------
    parts : dict from names to parts, or list of parts
        All that is trained, as for `train.fit`.
    comm : mpi4py.MPI.Comm, such as mpi4py.MPI.COMM_WORLD
    exact : bool
        Add gradients in the order of the processes, with memory for those of all. Else MPI chooses
        the order, which may change the last bits if there are more than two.

    Yields
    ------
    mean : function of (loss, gradients, count)
        It takes the mean loss of this process's elements, the list of its gradients, and `count`:
        the number of these elements, or the sum of their weights, or 0. It returns the loss and the
        gradients of the elements of all, in the same arrays. All must call it equally often with
        equal parameters (compared in calls 1, 2, 4, ... and at the end), else a ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import distributed, train
    >>> from mpi4py.MPI import COMM_WORLD as comm
    >>> head, x = train.Dense(1, 1, rng=0), np.ones((8, 1), "float32")
    >>> with distributed.together([head], comm) as mean:
    ...     own = x[comm.rank :: comm.size]
    ...     loss, d = train.mean_squared_error(head(own), 3 * own)
    ...     loss, gradients = mean(loss, [head.backward(own, d)], len(own))
    """
    MPI, run = (checks.module(f"mpi4py.{name}", "fastrnn.distributed") for name in ("MPI", "run"))
    if not isinstance(comm, MPI.Comm):
        raise TypeError(f"comm must be a communicator such as mpi4py.MPI.COMM_WORLD, got {comm!r}")
    calls, parameters = 0, []

    def meet(doing, arrays, value=None, compare=False):  # all must do the same; gives all values
        doing = " ".join([doing, *(f"{array.dtype} {array.shape}" for array in arrays)])
        if compare:
            doing += f", checksum {zlib.crc32(b''.join(a.tobytes() for a in parameters)):08x}"
        every = comm.allgather((doing, value))
        if any(other != doing for other, _ in every):
            got = "; ".join(f"process {i}: {other}" for i, (other, _) in enumerate(every))
            raise ValueError(f"processes must take the same steps with equal parameters, got {got}")
        return [value for _, value in every]

    @np.errstate(all="ignore")
    def mean(loss, gradients, count):
        nonlocal calls
        calls += 1
        count = checks.number("count", count, "from 0 to 1e300", lambda n: 0 <= n <= 1e300)
        arrays = writeable("gradients", gradients, parts=False, least=0)
        every = meet("mean of", arrays, (count, checks.real("loss", loss)), calls & calls - 1 == 0)
        total = sum(n for n, _ in every)
        for array in arrays:  # `own` in C order, for MPI adds in the order of the memory
            own = np.array(array * (count / total) if count else np.zeros_like(array), order="C")
            if exact:
                comm.Allgather(own, rows := np.empty((comm.size, *own.shape), own.dtype))
                own = sum(rows[1:], rows[0])
            else:
                comm.Allreduce(MPI.IN_PLACE, own)
            array[...] = own
        return sum((n / total * value for n, value in every if n), 0.0), arrays

    try:
        exact, parameters = checks.flag("exact", exact), list(arrays_of(named(parts)).values())
        meet(f"begin (exact={exact}) with", parameters)
        for array, first in zip(parameters, comm.bcast(parameters), strict=True):
            array[...] = first
        yield mean
        meet("end", (), compare=True)
    except BaseException as error:
        if comm.size > 1:
            run.set_abort_status(isinstance(error, SystemExit) and error.code or 1)  # for the exit
        raise
