"""Every notebook under docs/functions runs from its first cell to its last, in a kernel of a real platform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.function_rig import needs_sandbox
from tests.platform_rig import House, ended

GUIDES = sorted((Path(__file__).parents[2] / "docs" / "functions").glob("*.ipynb"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    needs_sandbox()
    with ended(House()) as one:
        one.sign_up(one.up()["first"])
        one.start_notebook()
        yield one


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
