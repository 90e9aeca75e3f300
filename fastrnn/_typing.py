"""Names of the types in public signatures, for type checkers only.

Modules import most names under `if TYPE_CHECKING:`, which takes no time. At run time the module has
only two type variables, for generic classes, and the types that layers put in for them.

State : the type of a layer's final state: `Floats`, for the LSTM a `Pair`.
Given : the type of a state argument: `Floats`, for the LSTM a `GivenPair`. None in it is zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:  # a generic class without its types is one of any: `stream: fastrnn.Stream`
    import typing_extensions

    State = typing_extensions.TypeVar("State", default=Any)
    Given = typing_extensions.TypeVar("Given", default=Any)
else:
    State = TypeVar("State")
    Given = TypeVar("Given")

# This is NDArray[np.floating[Any]], without the time to import numpy.typing.
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]
Pair: TypeAlias = tuple[Floats, Floats]
GivenPair: TypeAlias = tuple[Floats | None, Floats | None]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, Protocol, SupportsIndex

    from numpy.typing import NDArray

    class Tensor(Protocol):
        """The methods of PyTorch's tensors that this package uses."""

        def detach(self) -> Any: ...

    class HasStateDict(Protocol):
        """A module of PyTorch, or another object with this method."""

        def state_dict(self) -> Any: ...

    class IsDense(Protocol):
        """A dense layer, as `train.Dense` is one."""

        @property
        def params(self) -> Mapping[str, Floats]: ...
        @property
        def activation(self) -> HeadActivation: ...

    Ints: TypeAlias = NDArray[np.integer[Any]]
    Bools: TypeAlias = NDArray[np.bool_]
    Bytes: TypeAlias = NDArray[np.uint8]

    # X: features or ids. Dy: a pair with merge=None. Values, Source: parameters to copy.
    X: TypeAlias = Floats | Ints
    Dy: TypeAlias = Floats | GivenPair | None
    Values: TypeAlias = Floats | Tensor
    Source: TypeAlias = Mapping[str, Any] | HasStateDict

    # Flags: masks or resets.
    Lengths: TypeAlias = Ints | Sequence[int] | SupportsIndex
    Flags: TypeAlias = Bools | Sequence[bool] | Sequence[Sequence[bool]]

    RowIndex: TypeAlias = SupportsIndex | slice | Sequence[int] | Ints | Bools

    Seed: TypeAlias = int | np.integer[Any] | np.random.Generator | None
    DType: TypeAlias = (
        Literal["float32", "float64"] | type[np.floating[Any]] | np.dtype[np.floating[Any]]
    )
    Merge: TypeAlias = Literal["concat", "sum", "mean", "mul"] | None
    DropoutMask: TypeAlias = Literal["step", "sequence"]
    ResetTo: TypeAlias = Literal["zero", "initial"]
    Nonlinearity: TypeAlias = Literal["tanh", "relu"]
    Activation: TypeAlias = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_onnx"]
    Init: TypeAlias = Literal["pytorch", "glorot", "orthogonal", "glorot_orthogonal", "keras"]
    Precision: TypeAlias = Literal["bfloat16-weights", "bfloat16", "int8"]
    HeadActivation: TypeAlias = Literal["sigmoid", "softmax"] | None
    CellName: TypeAlias = Literal["rnn", "lstm", "gru", "min_gru", "min_lstm"]
    Backend: TypeAlias = Literal["core", "reference"]
