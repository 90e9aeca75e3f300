"""The report of a check of a cell: for each derivative its error, and of a wrong one the place.

It must not know: how derivatives are computed, causes of mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

# An error is relative to the largest element, or to this if all elements are smaller: the rounding
# errors of differences do not become smaller with them.
_SMALLEST = 1e-4


class Finding(NamedTuple):
    """A derivative that was compared with finite differences.

    Attributes
    ----------
    error : float
        The largest error of an element, relative to the largest element.
    index : tuple of int
        The element with that error: row and unit of a gradient of one step, (B, H).
    wanted, got : float
        The element by finite differences, and by the cell's derivative.
    right : bool
    cause : str
        The likely cause of a wrong one; "" if it cannot be told.

    Examples
    --------
    >>> from fastrnn import reference
    >>> finding = reference.check("lstm").findings["da_f"]
    >>> finding.right, finding.cause
    (True, '')
    """

    error: float
    index: tuple[int, ...]
    wanted: float
    got: float
    right: bool
    cause: str = ""


class Report(Mapping[str, float]):
    """What `check` found: a mapping from the name of each derivative to its relative error.

    ``print(report)`` shows it as a table. The first wrong derivative is the one to mend first.

    Attributes
    ----------
    findings : dict
        Name -> `Finding`.

    Examples
    --------
    >>> from fastrnn import reference
    >>> report = reference.check("rnn_tanh")
    >>> report.ok, list(report)
    (True, ['v', 'da', 'dh_prev', 'dx', 'dh0', 'dw_ih', 'dw_hh', 'db_ih', 'db_hh'])
    """

    def __init__(self, findings: dict[str, Finding]) -> None:
        self.findings = findings

    @property
    def ok(self) -> bool:
        """True if all derivatives are right."""
        return not self.wrong

    @property
    def wrong(self) -> dict[str, Finding]:
        """The wrong derivatives: name -> `Finding`."""
        return {name: found for name, found in self.findings.items() if not found.right}

    def __getitem__(self, name: str) -> float:
        return self.findings[name].error

    def __iter__(self) -> Iterator[str]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        number = len(self.wrong)
        head = f"All {len(self)} derivatives are right: they agree with finite differences."
        if number:
            verb, first = ("is", "") if number == 1 else ("are", ". Mend the first one first")
            head = f"{number} of {len(self)} derivatives {verb} wrong{first}:"
        width = max(map(len, self))
        lines = [_line(name.ljust(width), found) for name, found in self.findings.items()]
        return "\n".join([head, *lines])

    def __repr__(self) -> str:
        return str(self)


def _line(name, found):
    if found.right:
        return f"  {name}  right  (error {found.error:.0e})"
    place = ", ".join(map(str, found.index))
    text = f"  {name}  WRONG  at [{place}]: must be {found.wanted:.6g}, got {found.got:.6g}"
    return text + (f"\n  {' ' * len(name)}         likely cause: {found.cause}" * bool(found.cause))


def compared(got, wanted, rtol, cause=""):
    """The `Finding` of a derivative and its finite differences, two arrays of one shape."""
    scale = max(np.abs(wanted).max(initial=0.0), _SMALLEST)
    with np.errstate(all="ignore"):  # infinities are wrong, without a warning
        errors = np.abs(got - wanted) / scale
    if not errors.size:
        return Finding(0.0, (), 0.0, 0.0, True)
    largest = np.argmax(errors)  # the first NaN, if there is one
    index = tuple(int(i) for i in np.unravel_index(largest, errors.shape))
    error = float(errors[index])
    right = error <= rtol  # False for NaN
    return Finding(error, index, float(wanted[index]), float(got[index]), right, cause)
