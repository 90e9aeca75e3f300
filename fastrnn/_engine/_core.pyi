"""Types of the compiled module, which passes.py, stream.py and runtime.py use."""

from collections.abc import Callable, MutableSequence, Sequence
from typing import Self, TypeVar

import numpy as np
from typing_extensions import disjoint_base

_Array = np.ndarray
_Maybe = np.ndarray | None
_T = TypeVar("_T")

most_threads: int
ALIGN: int
__pyx_capi__: dict[str, object]

def cells() -> list[dict]: ...
def precisions() -> tuple[str, ...]: ...
def extras() -> tuple[str, ...]: ...

DIRECTION_CALL: tuple[str, ...]
BACKWARD_BUFFERS: tuple[str, ...]
ROWS: tuple[str, ...]
DROPOUT_MASKS: tuple[str, ...]

@disjoint_base
class Sizes:
    @property
    def packed(self) -> int: ...
    @property
    def forward(self) -> int: ...
    @property
    def tape(self) -> int: ...
    @property
    def backward(self) -> int: ...
    def __init__(
        self,
        cell: int,
        dtype: np.dtype,
        steps: int,
        batch: int,
        input: int,
        hidden: int,
        *,
        ragged: bool = False,
        checkpoint: int = 0,
        ids: bool = False,
        projected: int = 0,
    ) -> None: ...

class Weights:
    def __new__(
        cls,
        cell: int,
        hidden: int,
        w_ih: _Maybe,
        w_hh: _Maybe = None,
        b_ih: _Maybe = None,
        b_hh: _Maybe = None,
        w_hr: _Maybe = None,
        extras: dict[str, _Maybe] = ...,
        *,
        numbers: dict[str, float] = ...,
        zoneout: tuple[float, ...] = (),
    ) -> Self: ...

@disjoint_base
class Packed:
    def __new__(
        cls,
        cell: int,
        hidden: int,
        w_ih: _Maybe,
        w_hh: _Maybe = None,
        b_ih: _Maybe = None,
        b_hh: _Maybe = None,
        w_hr: _Maybe = None,
        extras: dict[str, _Maybe] = ...,
        *,
        numbers: dict[str, float] = ...,
        zoneout: tuple[float, ...] = (),
        precision: str = "",
        scales: tuple[_Maybe, _Maybe, _Maybe] | None = None,
        whole: bool = False,
        content: _Maybe = None,
    ) -> Self: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def facts(self) -> tuple[int, int, np.dtype]: ...
    @property
    def content(self) -> _Array: ...
    def matrices(self) -> tuple[_Array, _Maybe, _Maybe]: ...
    def scales(self) -> tuple[_Array, _Maybe, _Maybe] | None: ...

@disjoint_base
class Gradients:
    def __new__(
        cls,
        of: Weights | Packed,
        w_ih: _Maybe,
        w_hh: _Maybe = None,
        b_ih: _Maybe = None,
        b_hh: _Maybe = None,
        w_hr: _Maybe = None,
        extras: dict[str, _Maybe] = ...,
    ) -> Self: ...

@disjoint_base
class Workspaces:
    def __new__(cls, spare: MutableSequence[_Array], kept: int) -> Self: ...

@disjoint_base
class Stepper:
    def __new__(
        cls,
        layers: list[Packed],
        batch: int,
        state: tuple[_Array, ...],
        work: _Array,
        outputs: list[_Array],
        workspaces: Workspaces,
        of_ids: bool = False,
    ) -> Self: ...
    def alone(self, function: Callable[[], _T]) -> _T: ...
    def handle(self) -> int: ...
    def replaced(self, function: Callable[[], _T]) -> _T: ...
    def step(self, given: _Array, wanted: _Array) -> bool: ...
    def step_with_head(self, head: Dense, given: _Array, wanted: _Array) -> bool: ...
    def step_some(
        self,
        of_rows: Stepper,
        rows: _Array,
        given: _Array,
        wanted: _Array,
        chunk: bool,
        head: Dense | None = None,
    ) -> bool: ...
    def feed(self, given: _Array, wanted: _Array) -> bool: ...

@disjoint_base
class Exchange:
    def __new__(cls, kind: type) -> Self: ...
    def places(self, tensors: tuple[object, ...]) -> bytes | None: ...
    def array(self, tensor: object) -> _Maybe: ...

@disjoint_base
class Runner:
    def __new__(
        cls,
        weights: list[Weights] | list[Packed],
        directions: int,
        reverse: bool,
        batch_first: bool,
        workspaces: Workspaces,
    ) -> Self: ...
    def run(
        self, given: _Array, state: _Array | tuple[_Array, ...] | None, wanted: _Maybe
    ) -> tuple | None: ...

@disjoint_base
class Dense:
    def __new__(
        cls,
        weight: _Maybe = None,
        bias: _Maybe = None,
        activation: int | None = None,
        *,
        content: _Maybe = None,
    ) -> Self: ...
    @property
    def content(self) -> _Array: ...
    @property
    def facts(self) -> tuple[int, int, int, np.dtype]: ...
    def apply(self, given: _Array, wanted: _Maybe) -> _Array | None: ...
    def arrays(self) -> tuple[_Array, _Array]: ...
    @property
    def nbytes(self) -> int: ...

def remember_main_thread() -> None: ...
def renew_packing_lock() -> None: ...
def forward(
    x: _Maybe,
    passes: tuple[tuple, ...],
    rows: tuple | None,
    ids: object,
    checkpoint: int,
    work: _Array,
) -> int: ...
def backward(
    x: _Maybe,
    passes: tuple[tuple, ...],
    gradients: Sequence[tuple],
    rows: tuple | None,
    ids: object,
    checkpoint: int,
    work: _Array,
) -> int: ...
def tape_size(weights: Weights | Packed, steps: int, batch: int, checkpoint: int = 0) -> int: ...
def tape_slots(weights: Weights | Packed, tape: _Array, steps: int, batch: int) -> _Array: ...
def boundary(buffer: _Array) -> int: ...
def step_size(layers: list[Packed], batch: int, of_ids: bool = False) -> int: ...
def build_id() -> str: ...
def isa() -> str: ...
def isas_compiled() -> list[str]: ...
def isa_is_fused(isa: str) -> bool: ...
def isas_available() -> list[str]: ...
def select_isa(isa: str) -> bool: ...
def extensions() -> list[str]: ...
def extensions_compiled() -> list[str]: ...
def use_extensions(which: int) -> int: ...
def compiler() -> str: ...
def set_num_threads(n: int) -> None: ...
def set_threads_here(n: int) -> None: ...
def apply(function: str, x: _Array) -> _Array: ...
def probe_fma(rounds: int, dtype: int = 0) -> float: ...
def probe_read(buffer: _Array, rounds: int) -> None: ...
