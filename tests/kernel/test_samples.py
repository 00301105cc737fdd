"""Every cell that we show to be pasted runs when pasted: those of the dashboard's pages, README and the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from ropewalk_core.catalog import Catalog
from ropewalk_core.flows import Run
from ropewalk_core.model import State, Status
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "hub" / "ropewalk_hub" / "pages" / "templates"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def of_templates() -> Iterator[tuple[str, list[str]]]:
    """Yield each text that a page hands to its ``code`` block as it stands."""
    for page in sorted(TEMPLATES.glob("*.html")):
        for call in Environment(autoescape=True).parse(page.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "code" and isinstance(call.args[0], nodes.Const):
                yield page.name, [str(call.args[0].value)]


def of_documents() -> Iterator[tuple[str, list[str]]]:
    """Yield the Python blocks of each document; the later ones go on where the earlier ones ended."""
    for page in DOCUMENTS:
        if cells := re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            yield page.name, cells


SAMPLES = [*of_templates(), *of_documents()]


@pytest.mark.parametrize("cells", [cells for _, cells in SAMPLES], ids=[page for page, _ in SAMPLES])
def test_a_cell_that_we_show_runs_when_pasted(platform: FakePlatform, notebook: Notebook, cells: list[str]) -> None:
    platform.scripts["run-0"] = [Run(id="run-0", owner="ada", name="run", status=Status(state=State.DONE))] * 9
    for cell in cells:
        notebook.run(cell)
        assert notebook.outcome.success, (cell, notebook.errors, notebook.outcome.error_in_exec)
    for service in platform.services.values():
        Catalog().check(service.spec.template, service.spec.values)
    for name in platform.functions:
        assert any(re.search(rf"(def|class|%%function|--as) {name}\b", cell, re.IGNORECASE) for cell in cells)
    assert platform.functions or platform.services or platform.submitted or platform.saved


def test_the_samples_are_found() -> None:
    found = {page for page, _ in SAMPLES}
    assert {"home.html", "functions.html", "services.html", "workflows.html", "README.md", "notebooks.md"} <= found
    shown = "".join(page.read_text() for page in TEMPLATES.glob("*.html")).count("A cell to paste")
    assert len(list(of_templates())) == shown


def test_what_an_empty_list_advises_can_be_pasted(platform: FakePlatform, notebook: Notebook) -> None:
    said = notebook.run("import ropewalk\nropewalk.services.list()")
    [advice] = re.findall(r"ropewalk\.services\.launch\(.*?\)", said)
    notebook.run(advice)
    assert notebook.outcome.success
    [service] = platform.services.values()
    Catalog().check(service.spec.template, service.spec.values)
