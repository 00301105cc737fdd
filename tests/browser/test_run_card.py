"""A run's card in a real JupyterLab: what a person sees, folds, presses and copies, and what stays without a kernel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests.browser.rig import World
from tests.tour.lab import Lab, ask

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

FLOW = """import pathlib, time
import ropewalk
from ropewalk import step, workflow

@step
def load(rows: int) -> list:
    print(f"read {rows} rows")
    return list(range(rows))

@step
def fit(rows: list) -> float:
    for epoch in range(600):
        print("epoch", epoch)
        if pathlib.Path("enough").exists():
            return 0.93
        time.sleep(0.2)

@workflow
def train(rows: int = 3):
    return fit(load(rows))

run = train.submit(rows=3)"""
CELLS = (FLOW, "found = run.result()")
SHOTS = Path(__file__).parents[2] / "build" / "browser"


@pytest.fixture
def lab(here: World) -> Iterator[Lab]:
    """Return a notebook open in JupyterLab, with a kernel."""
    context = here.signed_in()
    here.start_notebook()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    (here.folder / "card.ipynb").write_text(nbformat.writes(notebook))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_viewport_size({"width": 1300, "height": 1000})
    opened = Lab(page, notebook)
    page.goto(f"{here.notebook('ada')}lab/tree/card.ipynb?reset")
    opened.ready()
    yield opened
    page.close()


def test_a_run_is_seen_and_acted_on_and_its_picture_stays(here: World, lab: Lab) -> None:
    page, card, actions = (
        lab.page,
        lab.page.locator(".rw-card").first,
        lab.page.get_by_role("toolbar", name="Actions of"),
    )
    lab.run(0)
    expect(actions.get_by_role("button")).to_have_text(
        ["Suspend", "Stop", "Copy as Argo YAML", "Copy as Hera", "Copy as Python"], timeout=30_000
    )
    expect(card.get_by_text("epoch 3", exact=False).first).to_be_attached(timeout=30_000)
    assert card.locator("svg").count() == 2
    folded = card.locator("details[data-rw=Steps]")
    page.keyboard.press("Escape")
    folded.locator("summary").first.focus()
    page.keyboard.press("Enter")
    fit = folded.locator("details", has_text="fit")
    fit.locator("summary").focus()
    page.keyboard.press("Space")
    expect(fit.locator("pre").last).to_contain_text("epoch 9", timeout=30_000)
    assert folded.get_attribute("open") is not None and lab.cell(0).locator(".cm-focused").count() == 0
    _shot(page, "card-running")

    copied = actions.get_by_role("button", name="Copy as Hera")
    copied.focus()
    page.keyboard.press("Enter")
    expect(actions.get_by_role("status")).to_have_text("Copied as Hera.", timeout=15_000)
    assert "with Workflow(" in page.evaluate("navigator.clipboard.readText()")

    lab.select(1)
    page.keyboard.press("Shift+Enter")  # the kernel waits for the run now, and still hears
    actions.get_by_role("button", name="Stop").click()
    expect(card.locator(".rw-state").first).to_contain_text("stopped", timeout=30_000)
    expect(actions.get_by_role("button", name="Retry from failure")).to_be_visible(timeout=30_000)
    (here.folder / "enough").touch()
    actions.get_by_role("button", name="Retry from failure").click()
    expect(card.locator(".rw-state").first).to_contain_text("done", timeout=60_000)
    expect(actions.get_by_role("button")).to_have_count(3, timeout=30_000)
    assert lab.failed(1), "it was stopped, which the cell that waited says"
    expect(card.get_by_text("def fit(rows: list) -> float:", exact=False)).to_be_attached(timeout=30_000)
    _shot(page, "card-done")

    lab.save()
    end_kernels(here, page)
    expect(actions).to_be_hidden(timeout=30_000)
    expect(card).to_be_visible()
    page.reload()
    lab.ready()
    expect(card).to_be_visible()
    _shot(page, "card-later")
    (SHOTS / "later.json").write_text(json.dumps(lab.saved(here.notebook("ada") + "api/contents/card.ipynb")))
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    expect(actions).to_be_hidden()
    timeline = card.locator("details[data-rw=Timeline]")
    timeline.locator("summary").focus()
    page.keyboard.press("Space")
    assert timeline.get_attribute("open") is None, "without a kernel too"
    _shot(page, "card-later")
    found = lab.saved(here.notebook("ada") + "api/contents/card.ipynb")
    html = "".join(one.data["text/html"] for one in found.cells[0].outputs if "text/html" in one.get("data", {}))
    assert html.count("<svg") == 2 and "<script" not in html and re.search(r"<summary>Copy as", html)


def end_kernels(here: World, page: Page) -> None:
    """Shut all kernels down, as JupyterLab's own list of what runs does."""
    base = here.notebook("ada")
    _, text = ask(page, f"{base}api/kernels")
    kernels: list[dict[str, Any]] = json.loads(text)
    script = """async (address) => {
        const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
        await fetch(address, {method: "DELETE", headers: {"X-XSRFToken": token[1]}});
    }"""
    for one in kernels:
        page.evaluate(script, f"{base}api/kernels/{one['id']}")


def _shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")
