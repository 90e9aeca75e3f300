"""The registry: both backends list the same cells, and tests cover every one of them."""

import pytest
from decorators import every_cell
from variants import VARIANTS, variant_cell

from fastrnn import reference
from fastrnn._cells import registry
from fastrnn._cells.registry import CELLS
from fastrnn._engine import runtime
from fastrnn.reference import variants

pytestmark = pytest.mark.any_isa

LISTED = variants.cells()


@pytest.mark.usefixtures("core")
def test_both_backends_list_the_same_cells():
    assert runtime.core.cells() == LISTED


def test_plain_cells_are_in_the_reference():
    assert CELLS.keys() == reference.CELLS.keys()
    for name, cell in CELLS.items():
        other = reference.CELLS[name]
        assert (cell.gates, len(cell.states)) == (other.gates, other.states)
        assert cell.recurrent == (other.gates if other.phases else 0)


def test_the_problems_that_meet_finite_differences_name_every_variant():
    cells = [variant_cell(cell, **given) for cell, given in VARIANTS.values()]
    met = {LISTED[cell.index]["name"] for cell in cells}
    assert met == {entry["name"] for entry in LISTED if entry["name"] != entry["plain"]}


GIVEN = {
    "clip": 0.5, "cell_clip": 0.5, "recurrent_activation": "hard_sigmoid", "zoneout": 0.1,
    "peephole": True, "coupled": True, "layer_norm": True,
}  # fmt: skip


@pytest.mark.parametrize("option", GIVEN)
@every_cell
def test_a_cell_refuses_the_options_that_no_variant_of_it_takes(cell, option):
    takes = set().union(
        *(entry["takes"] | entry["has"] for entry in LISTED if entry["plain"] == cell)
    )
    if option in takes:
        entry = LISTED[variant_cell(cell, **{option: GIVEN[option]}).index]
        assert entry["plain"] == cell and option in entry["takes"] | entry["has"]
    else:
        with pytest.raises(ValueError, match=f"{option} has no meaning for the cell {cell}"):
            variant_cell(cell, **{option: GIVEN[option]})


@every_cell
def test_a_cell_takes_dropout_masks_if_it_has_a_variant(cell):
    has_variant = any(entry["plain"] == cell != entry["name"] for entry in LISTED)
    assert registry.takes(CELLS[cell], "recurrent_dropout") == has_variant
    if has_variant:
        assert registry.with_masks(CELLS[cell]).options is not None
    else:
        with pytest.raises(ValueError, match=f"a dropout mask has no meaning for the cell {cell}"):
            registry.with_masks(CELLS[cell])


@every_cell
def test_only_cells_that_take_one_have_a_projection(cell):
    if registry.takes(CELLS[cell], "proj_size"):
        assert registry.projected(CELLS[cell]).projects
    else:
        with pytest.raises(ValueError, match=f"proj_size has no meaning for the cell {cell}"):
            registry.projected(CELLS[cell])
