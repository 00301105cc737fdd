"""Every notebook under docs/functions and docs/workflows runs from first cell to last, on a real platform."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.platform_rig import House

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = [*sorted((DOCS / "functions").glob("*.ipynb")), *sorted((DOCS / "workflows").glob("*.ipynb"))]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_runs_as_it_stands(house: House, guide: Path) -> None:
    notebook = nbformat.read(guide, as_version=4)
    nbformat.validate(notebook)
    kernel = house.kernel()
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        assert not cell.outputs and cell.execution_count is None, f"cell {number} is kept with what it once gave"
        said = kernel.run(cell.source)
        assert "Traceback (most recent call last)" not in said or "error.details" in cell.source, (number, said)
    left = kernel.run("import ropewalk; print([one.name for one in ropewalk.functions.list()])")
    assert left.strip() == "[]", "a guide leaves nothing behind"
