"""Gates: the dict of gates that a tape gives, with the facts of the run that pictures of it need.

It must not know: layers, pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastrnn._typing import Bools, Floats, Ints


class Run(NamedTuple):
    """How a layer came to its gates. L*D passes, T steps, B rows.

    first : (L*D, B, H) array, the state before the first step: c, or h of a cell without c.
    reverse : for each pass, True if it takes the steps from the last to the first.
    lengths : (B,) integers, or None if each row has T steps.
    mask : (T, B) booleans, False where a row keeps its state; None for True.
    reset : (T, B) booleans, True where a row's state is reset before that step; None for False.
    reset_to : "zero" or "initial", the state after a reset.
    options : the options of the cell that are not the default: name -> value.
    """

    first: Floats
    reverse: tuple[bool, ...]
    lengths: Ints | None
    mask: Bools | None
    reset: Bools | None
    reset_to: str
    options: dict[str, object]


class Gates(dict[str, "Floats"]):
    """Name -> array, and the `Run`. `dict(gates)` is without the run, `gates.copy()` has it."""

    def __init__(self, arrays: dict[str, Floats], run: Run) -> None:
        super().__init__(arrays)
        self.run = run

    def copy(self) -> Gates:
        """A shallow copy. That of `dict` would be without the run, and another picture."""
        return Gates(self, self.run)
