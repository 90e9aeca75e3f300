"""Types of the compiled module, which passes.py, stream.py and runtime.py use."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

_Array = np.ndarray
_Maybe = np.ndarray | None
_T = TypeVar("_T")

most_threads: int
ALIGN: int

def cells() -> list[dict]: ...
def extras() -> tuple[str, ...]: ...

class Sizes:
    packed: int
    forward: int
    tape: int
    backward: int
    def __init__(
        self,
        cell: int,
        itemsize: int,
        steps: int,
        batch: int,
        input: int,
        hidden: int,
        ragged: bool = False,
        checkpoint: int = 0,
        tokens: bool = False,
        projected: int = 0,
    ) -> None: ...

class Stepper:
    def __init__(
        self,
        layers: Sequence[tuple],
        batch: int,
        state: tuple[_Array, ...],
        work: _Array,
        outputs: list[_Array],
        table: _Array | None = None,
        count: int = -1,
    ) -> None: ...
    def alone(self, function: Callable[[], _T]) -> _T: ...
    def step(self, x: _Array, out: _Array) -> bool: ...
    def feed(self, x: _Array, out: _Array) -> bool: ...

def remember_main_thread() -> None: ...
def forward(
    cell: int,
    x: _Array,
    passes: tuple[tuple, ...],
    rows: tuple | None,
    tokens: tuple | None,
    checkpoint: int,
    work: _Array,
) -> int: ...
def backward(
    cell: int,
    x: _Array,
    passes: tuple[tuple, ...],
    rows: tuple | None,
    tokens: tuple | None,
    checkpoint: int,
    work: _Array,
) -> int: ...
def tape_slots(
    cell: int, tape: _Array, dtype: int, steps: int, batch: int, hidden: int
) -> _Array: ...
def boundary(buffer: _Array) -> int: ...
def table_size(cell: int, dtype: int, hidden: int, count: int) -> int: ...
def tabulate(
    cell: int, x: _Maybe, weights: tuple, count: int, table: _Array, work: _Array
) -> int: ...
def goes_by_blocks(rows: int) -> bool: ...
def product(a: _Array, b: _Array, c: _Array, work: _Array) -> int: ...
def build_id() -> str: ...
def isa() -> str: ...
def isas_compiled() -> list[str]: ...
def isas_available() -> list[str]: ...
def select_isa(isa: str) -> bool: ...
def compiler() -> str: ...
def set_num_threads(n: int) -> None: ...
def set_threads_here(n: int) -> None: ...
def apply(function: str, x: _Array) -> _Array: ...
def probe_fma(rounds: int, dtype: int = 0) -> float: ...
def probe_read(buffer: _Array, rounds: int) -> None: ...
