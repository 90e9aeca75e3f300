"""The registry: both backends list the same cells, and every one of them meets what proves it."""

import pytest
from variants import VARIANTS, row_of

from fastrnn import reference
from fastrnn._cells.registry import CELLS
from fastrnn._engine import runtime
from fastrnn.reference import variants

pytestmark = pytest.mark.any_isa

LISTED = variants.cells()


@pytest.mark.usefixtures("core")
def test_both_backends_list_the_same_cells():
    assert runtime.core.cells() == LISTED


def test_plain_cells_have_rows_in_the_reference():
    assert CELLS.keys() == reference.CELLS.keys()
    for name, cell in CELLS.items():
        other = reference.CELLS[name]
        assert (cell.gates, len(cell.states)) == (other.gates, other.states)


def test_finite_differences_meet_every_variant():
    rows = [row_of(cell, **given) for cell, given in VARIANTS.values()]
    met = {LISTED[row.index]["name"] for row in rows}
    assert met == {row["name"] for row in LISTED if row["name"] != row["plain"]}
