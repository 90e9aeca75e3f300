"""Types of the compiled module, which functional.py, stream.py and runtime.py use."""

from collections.abc import Sequence

import numpy as np

_Array = np.ndarray
_Maybe = np.ndarray | None

class Sizes:
    packed: int
    forward: int
    tape: int
    backward: int
    def __init__(
        self, cell: int, itemsize: int, steps: int, batch: int, input: int, hidden: int
    ) -> None: ...

class Stepper:
    def __init__(
        self, layers: Sequence[tuple], batch: int, work: _Array, outputs: list[_Array]
    ) -> None: ...
    def step(self, x: _Array, out: _Array) -> bool: ...

def forward(
    cell: int,
    reverse: bool,
    x: _Array,
    first: tuple[_Array, ...],
    weights: tuple[_Maybe, ...],
    y: _Array,
    last: tuple[_Array, ...],
    tape: _Maybe,
    work: _Array,
) -> None: ...
def backward(
    cell: int,
    reverse: bool,
    x: _Array,
    first: tuple[_Array, ...],
    weights: tuple[_Maybe, ...],
    y: _Array,
    tape: _Array,
    dy: _Maybe,
    dlast: tuple[_Maybe, ...],
    dx: _Maybe,
    dfirst: tuple[_Array, ...],
    dweights: tuple[_Maybe, ...],
    work: _Array,
) -> None: ...
def isa() -> str: ...
def isas_compiled() -> list[str]: ...
def isas_available() -> list[str]: ...
def select_isa(isa: str) -> bool: ...
def compiler() -> str: ...
def set_num_threads(n: int) -> None: ...
def apply(function: str, x: _Array) -> _Array: ...
def probe_fma(rounds: int, dtype: int = 0) -> float: ...
def probe_read(buffer: _Array, rounds: int) -> None: ...
