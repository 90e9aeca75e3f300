"""Decorators that run a test once for each cell, dtype, backend and so on."""

import pytest
from problems import BACKENDS, DTYPES, FUSED_ISAS, ISAS, LAYOUTS, VARIED

from fastrnn._cells.registry import CELLS

every_cell = pytest.mark.parametrize("cell", CELLS)
every_varied_cell = pytest.mark.parametrize("cell", VARIED)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])

# conftest.py's fixtures of these names choose the backend and the instruction set for the test.
every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
every_isa = pytest.mark.parametrize("isa", ISAS, indirect=True)
every_fused_isa = pytest.mark.parametrize("isa", FUSED_ISAS, indirect=True)

# The best instruction set and the generic one; the slow tests take those between, whose bits are
# those of the best one.
outer_isas = pytest.mark.parametrize(
    "isa",
    [pytest.param(isa, marks=[pytest.mark.slow] * (isa in ISAS[1:-1])) for isa in ISAS],
    indirect=True,
)
