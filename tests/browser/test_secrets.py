"""Secrets by keyboard: stored, refused, replaced, removed; on a real platform a function has one, and no log does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ropewalk_hub.security import cookie_name
from tests.browser.rig import World
from tests.browser.test_try import served
from tests.held import holding
from tests.pages.stage import OWNER, Stage
from tests.ports import free_port
from tests.tour import keyboard

VALUE = "xyzzy-plover-4711"
SOURCE = "import os\n\ndef handler():\n    return len(os.environ['WALKED'])\n"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return a served stage."""
    with served(tmp_path / "home", free_port()) as one:
        yield one


def store(page: Page, name: str, value: str) -> None:
    """Fill the form by keyboard and send it."""
    keyboard.fill(page, page.get_by_label("Name", exact=True), name)
    keyboard.fill(page, page.get_by_label("Value", exact=True), value)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_a_walk_by_keyboard(chromium: Browser, stage: Stage, width: int, scripts: bool) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, java_script_enabled=scripts)
    context.set_default_timeout(20_000)
    door = stage.platform.settings.door
    context.add_cookies([{"name": cookie_name(door), "value": stage.cookie, "url": door.origin}])
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{door.origin}/account")
    keyboard.press(page, page.get_by_role("link", name="See and store them"))

    name, value = page.get_by_label("Name", exact=True), page.get_by_label("Value", exact=True)
    store(page, "two words", VALUE)
    expect(page.get_by_text("'two words' cannot be the name of a variable.")).to_be_visible()
    expect(name).to_be_focused()
    assert (name.input_value(), value.input_value()) == ("two words", "") and VALUE not in page.content()
    store(page, "DB_PASSWORD", VALUE)
    expect(page.get_by_role("status").filter(has_text="DB_PASSWORD is stored.")).to_be_visible()

    keyboard.press(page, page.get_by_role("link", name="Replace DB_PASSWORD"))
    expect(page.get_by_role("heading", name="Replace a secret")).to_be_visible()
    expect(value).to_be_focused()
    page.keyboard.type("another")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Workers that start from now on have it.")).to_be_visible()

    if scripts:  # stored elsewhere meanwhile: the open page says so by itself
        address = f"{door.origin}/api/v1/secrets/{OWNER}/LATE"
        assert page.request.put(address, data={"value": VALUE}, headers={"origin": door.origin}).ok
        expect(page.get_by_role("link", name="Replace LATE")).to_be_visible()
    last = page.get_by_role("button", name="Remove DB_PASSWORD")
    expect(last).to_be_hidden()
    keyboard.press(page, page.locator("#remove-DB_PASSWORD > summary"))
    expect(page.get_by_text("Its value cannot be brought back.").first).to_be_visible()
    keyboard.press(page, last)
    expect(page.locator("#remove-DB_PASSWORD")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not [one for one in said if "Content Security Policy" in one or "Error" in one]
    context.close()


def test_a_function_has_it_and_no_log_does(here: World) -> None:
    page = here.signed_in().new_page()
    answers: list[str] = []
    page.on(
        "response", lambda one: answers.append(one.text()) if "text/html" in one.header_value("content-type") else None
    )
    page.goto(f"{here.origin}/secrets")
    store(page, "two words", VALUE)
    expect(page.get_by_text("cannot be the name of a variable")).to_be_visible()
    store(page, "WALKED", VALUE)
    expect(page.get_by_role("status").filter(has_text="WALKED is stored.")).to_be_visible()
    spec = {"name": "walked", "bundle": {"files": {"cell.py": SOURCE}, "entry": "cell:handler"}, "secrets": ["WALKED"]}
    answer = here.ask("PUT", "/api/v1/functions/ada/walked", json=spec)
    assert answer.status_code < 300 and VALUE not in answer.text, answer.text

    page.goto(f"{here.origin}/functions/walked")
    keyboard.press(page, page.get_by_role("button", name="Call", exact=True))
    expect(page.get_by_label("Answer")).to_have_text(str(len(VALUE)))
    assert holding(here.home, VALUE) == ["secrets/accounts/ada/WALKED"]
    assert not any(VALUE.encode() in one.read_bytes() for one in here.home.parent.glob("*.log"))

    page.goto(f"{here.origin}/secrets")
    keyboard.press(page, page.locator("#remove-WALKED > summary"))
    expect(page.get_by_text("Workers of walked cannot start any more until it is stored again.")).to_be_visible()
    keyboard.press(page, page.get_by_role("button", name="Remove WALKED"))
    expect(page.get_by_text("not stored", exact=True)).to_be_visible()
    keyboard.press(page, page.get_by_role("link", name="walked", exact=True))
    expect(page.get_by_text("There is no secret WALKED, which it needs.")).to_be_visible()
    keyboard.press(page, page.get_by_role("link", name="Store it"))
    expect(page.get_by_label("Value", exact=True)).to_be_focused()
    assert page.get_by_label("Name", exact=True).input_value() == "WALKED"
    assert holding(here.home, VALUE) == [] and answers and not any(VALUE in one for one in answers)
    page.goto(f"{here.origin}/functions/walked#remove")
    keyboard.press(page, page.get_by_role("button", name="Remove walked"))
    page.wait_for_url(f"{here.origin}/functions")
    page.close()
