"""The form that tries a function, in a real browser and by keyboard: complaints, waiting, giving up, what came."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from ropewalk_hub.security import cookie_name
from tests.pages.stage import FAILURE, SCORE, Stage, deployed, furnish, make
from tests.ports import free_port
from tests.tour import keyboard


@contextlib.contextmanager
def served(home: Path, port: int) -> Iterator[Stage]:
    """Serve a stage from a thread."""
    stage = make(home, port)
    furnish(stage.things)
    deployed(stage.things, "score", SCORE)
    server = uvicorn.Server(uvicorn.Config(stage.app, port=port, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield stage
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return a served stage."""
    with served(tmp_path / "home", free_port()) as one:
        yield one


@pytest.fixture(params=[1200, 360])
def page(request: pytest.FixtureRequest, chromium: Browser, stage: Stage) -> Iterator[Page]:
    """Return the function's page, wide and narrow; nothing may be refused by its content security policy."""
    context = chromium.new_context(viewport={"width": request.param, "height": 800})
    door = stage.platform.settings.door
    context.add_cookies([{"name": cookie_name(door), "value": stage.cookie, "url": door.origin}])
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{door.origin}/functions/score")
    yield page
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert not [one for one in said if "Content Security Policy" in one or "Error:" in one]
    assert width <= request.param


def test_a_function_is_tried_without_a_mouse(page: Page, stage: Stage) -> None:
    count, call = page.get_by_role("textbox", name="count"), page.get_by_role("button", name="Call", exact=True)
    keyboard.fill(page, count, "many")
    page.keyboard.press("Enter")
    expect(page.get_by_text("'count' must be a whole number, not 'many'.")).to_be_visible()
    expect(count).to_be_focused()
    assert stage.things.acts == []

    stage.things.printed, stage.things.wait = "<b>half way</b>", 20.0
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    keyboard.press(page, call)
    expect(page.get_by_text("Calling for 1 s")).to_be_visible()
    stop = page.get_by_role("button", name="Stop waiting")
    keyboard.press(page, stop)
    expect(page.get_by_text("You stopped waiting. The call goes on")).to_be_visible()
    expect(call).to_be_focused()
    assert count.input_value() == "3" and len(stage.things.acts) == 1

    stage.things.wait = 0.0
    page.keyboard.press("Enter")
    expect(page.get_by_label("Answer")).to_have_text('{"digit": 7}')
    expect(page.get_by_label("What it printed")).to_have_text("<b>half way</b>")
    expect(call).to_be_focused()
    expect(page.locator("#live")).to_contain_text("done after")
    assert page.url.endswith("/functions/score")

    stage.things.answer = FAILURE
    page.keyboard.press("Enter")
    expect(page.get_by_label("Traceback")).to_have_text("ValueError: <b>x</b>")
    expect(page.get_by_label("Answer")).to_have_count(0)
    assert page.locator("#tried b").count() == 0


def test_a_payload_by_hand_keeps_its_place(page: Page, stage: Stage) -> None:
    page.get_by_text("Write the payload by hand").click()
    keyboard.fill(page, page.get_by_label("Payload"), "[1, 2")
    keyboard.press(page, page.locator("#call-by-hand"))
    expect(page.get_by_text("What you typed is not JSON (line 1, column 6).")).to_be_visible()
    keyboard.fill(page, page.get_by_label("Payload"), "[1, 2]")
    keyboard.press(page, page.locator("#call-by-hand"))
    expect(page.get_by_label("Answer")).to_have_text('{"digit": 7}')
    assert stage.things.acts == [("call", "[1, 2]")] and page.get_by_label("Payload").input_value() == "[1, 2]"


def test_a_platform_that_is_away_is_said(page: Page) -> None:
    page.route("**/call", lambda route: route.abort())
    keyboard.press(page, page.get_by_role("button", name="Call", exact=True))
    expect(page.get_by_text("The platform did not answer. Call again in a few seconds.")).to_be_visible()
