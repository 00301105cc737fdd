"""The executed notebook on the page of its run: opened by keyboard, seen, and nothing of it runs or leads away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ropewalk_hub.security import cookie_name
from tests.browser.test_try import served
from tests.pages import stage as stages
from tests.pages.stage import Stage, furnish
from tests.ports import free_port
from tests.tour import keyboard

RUN = "/workflows/run-5k2m9qv0w3"
HOSTILE = """<!doctype html><title>kept</title><p id="told">told</p>
<meta http-equiv="refresh" content="0; url=/people"><img src="/static/icon.svg" onerror="told.textContent = 'ran'">
<script>told.textContent = 'ran'; parent.document.title = top.document.title = 'ran'</script>
<form action="/workflows/run-5k2m9qv0w3/remove" method="post"><button>Send it</button></form>
<a href="/people" target="_top">Lead away</a>"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Return a served stage, one step of whose run left a hostile page."""
    monkeypatch.setattr(stages, "PAGE", HOSTILE.encode())
    with served(tmp_path / "home", free_port()) as one:
        furnish(one.things)
        yield one


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_nothing_of_it_runs(chromium: Browser, stage: Stage, scripts: bool) -> None:
    context = chromium.new_context(java_script_enabled=scripts)
    context.set_default_timeout(20_000)
    door = stage.platform.settings.door
    context.add_cookies([{"name": cookie_name(door), "value": stage.cookie, "url": door.origin}])
    page = context.new_page()
    page.goto(f"{door.origin}{RUN}?step=train2")
    title, acts = page.title(), list(stage.things.acts)
    keyboard.press(page, page.locator("details.executed > summary"))
    frame = page.frame_locator("details.executed iframe")
    expect(frame.locator("#told")).to_have_text("told")
    frame.get_by_role("button", name="Send it").click()
    frame.get_by_role("link", name="Lead away").click()
    expect(frame.locator("#told")).to_have_text("told")
    assert page.title() == title and page.url.endswith("step=train2")

    with context.expect_page() as opened:
        keyboard.press(page, page.get_by_role("link", name="Open it alone"))
    alone = opened.value
    expect(alone.locator("#told")).to_have_text("told")
    alone.get_by_role("button", name="Send it").click()
    expect(alone.locator("#told")).to_have_text("told")
    assert alone.title() == "kept" and list(stage.things.acts) == acts
    context.close()
