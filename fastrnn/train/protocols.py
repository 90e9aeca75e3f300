"""The types of the arguments and results of training, for type checkers only.

No module imports this one at run time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]  # of float32 or float64
FloatDType: TypeAlias = (
    Literal["float32", "float64"]
    | type[np.float32]
    | type[np.float64]
    | np.dtype[np.float32]
    | np.dtype[np.float64]
    | np.dtype[np.floating[Any]]  # the dtype of an array whose width is unknown
)


class HasParams(Protocol):
    """A layer, a `Dense`, an `Embedding`, or a part of the user's own."""

    @property
    def params(self) -> Mapping[str, NDArray[Any]]: ...


class HasFlat(Protocol):
    """A layer or a part, or the gradients that `backward` returns."""

    @property
    def flat(self) -> Floats: ...


Buffers: TypeAlias = Floats | HasFlat | Iterable[Floats | HasFlat]


class Optimizer(Protocol):
    """`SGD`, `Adam`, or one of the user's own."""

    @property
    def parameters(self) -> Sequence[Floats]: ...
    def step(self, gradients: list[Floats], /) -> object: ...
    def state(self) -> Mapping[str, NDArray[Any]]: ...
    def load(self, state: dict[str, NDArray[Any]], /) -> object: ...


class Comm(Protocol):
    """A communicator of mpi4py: what `fastrnn.distributed.together` needs of it, and `rank`."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def allgather(self, sendobj: Any) -> list[Any]: ...
    def bcast(self, obj: Any) -> Any: ...
    def Allgather(self, sendbuf: Any, recvbuf: Any) -> object: ...
    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> object: ...


class Mean(Protocol):
    """The function that `fastrnn.distributed.together` gives."""

    def __call__(
        self, loss: SupportsFloat, gradients: Buffers, count: SupportsFloat
    ) -> tuple[float, list[Floats]]: ...


Parts: TypeAlias = Mapping[str, HasParams] | Sequence[HasParams]
Seed: TypeAlias = int | np.integer[Any] | np.random.Generator | None
