"""The hub's page of a notebook that starts, when the hub is killed meanwhile; the pages are this test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

import ropewalk_hub

pytestmark = [pytest.mark.browser]

SCRIPT = Path(ropewalk_hub.__file__).with_name("pages") / "static" / "starting.js"
PAGE = """<section data-starting="/progress"><h1>Your notebook starts</h1><p role="status"></p>
<progress max="100" value="0"></progress></section><script src="/starting.js"></script>"""


def test_it_goes_on_when_the_hub_is_back(chromium: Browser) -> None:
    pages = [(200, PAGE), (503, "away"), (503, "away"), (200, "looked at"), (200, "<h1>JupyterLab</h1>")]
    page = chromium.new_page()

    def answer(route: Route) -> None:
        if route.request.url.endswith("/progress"):
            route.fulfill(status=503, body="away")
        elif route.request.url.endswith("/starting.js"):
            route.fulfill(body=SCRIPT.read_text(), content_type="text/javascript")
        else:
            status, body = pages.pop(0)
            route.fulfill(status=status, body=body, content_type="text/html")

    page.route("http://starting.localhost/**", answer)
    page.goto("http://starting.localhost/page")
    expect(page.get_by_role("status")).to_contain_text("started again")
    expect(page.get_by_role("heading")).to_have_text("JupyterLab", timeout=30_000)
    assert pages == []
    page.close()
