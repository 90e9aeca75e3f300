"""The registry of cells: what Python must know of each to name, allocate and check.

A row here matches a row of csrc/cells.c; `index` is the one of csrc/fastrnn.h. The reference
(reference.py) and the kernels know the mathematics under the same name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One recurrent cell.

    Attributes
    ----------
    name : str
        As in `fastrnn.reference.forward`.
    index : int
        As in `csrc/fastrnn.h`.
    function : str
        The public function that runs it: "rnn", "lstm" or "gru".
    gates : int
        G: the weights have G * hidden_size rows.
    states : tuple of str
        ("h",) or ("h", "c").
    shown : tuple of str
        What a step's gates are called, in the order of a tape's slots; c, if any, last.
    """

    name: str
    index: int
    function: str
    gates: int
    states: tuple[str, ...]
    shown: tuple[str, ...]


_ROWS = (
    Cell("rnn_tanh", 0, "rnn", 1, ("h",), ()),
    Cell("rnn_relu", 1, "rnn", 1, ("h",), ()),
    Cell("lstm", 2, "lstm", 4, ("h", "c"), ("i", "f", "g", "o", "c")),
    Cell("gru_after", 3, "gru", 3, ("h",), ("r", "z", "n")),
    Cell("gru_before", 4, "gru", 3, ("h",), ("r", "z", "n")),
)

CELLS = {cell.name: cell for cell in _ROWS}
