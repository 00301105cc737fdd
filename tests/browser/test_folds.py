"""A function's page in a real browser: its folded parts by keyboard, by address and without scripts, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ropewalk_core.model import State
from ropewalk_hub.security import cookie_name
from tests.browser.test_try import served
from tests.pages.stage import Stage
from tests.ports import free_port
from tests.tour import keyboard

TICK = "window.htmx.trigger(document.body, 'rw:tick')"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a served stage; nothing here changes what the next test looks at."""
    folder: Path = tmp_path_factory.mktemp("folds")
    with served(folder / "home", free_port()) as one:
        yield one


def opened(chromium: Browser, stage: Stage, width: int, scripts: bool = True) -> Page:
    """Return an empty page of the signed-in person's."""
    context = chromium.new_context(viewport={"width": width, "height": 800}, java_script_enabled=scripts)
    context.set_default_timeout(20_000)
    door = stage.platform.settings.door
    context.add_cookies([{"name": cookie_name(door), "value": stage.cookie, "url": door.origin}])
    return context.new_page()


def at(stage: Stage, path: str = "") -> str:
    return f"{stage.platform.settings.door.origin}/functions/digits{path}"


def fold(page: Page, title: str) -> Locator:
    """Return the line of a folded part."""
    return page.locator("details.fold > summary", has_text=title)


def narrow(page: Page) -> bool:
    width = page.viewport_size
    return width is not None and page.evaluate("document.documentElement.scrollWidth") <= width["width"]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_it_folds_and_unfolds_by_keyboard(chromium: Browser, stage: Stage, width: int, scripts: bool) -> None:
    page = opened(chromium, stage, width, scripts)
    page.goto(at(stage))
    who = page.get_by_label("Who", exact=True)
    expect(who).to_be_hidden()
    expect(page.get_by_role("button", name="Call", exact=True)).to_be_visible()
    keyboard.press(page, fold(page, "Who may call it"))
    expect(who).to_be_visible()
    assert narrow(page)
    page.keyboard.press("Enter")
    expect(who).to_be_hidden()
    keyboard.press(page, fold(page, "Remove"))
    expect(page.get_by_text("cannot be brought back")).to_be_visible()
    expect(page.get_by_role("button", name="Remove digits")).to_be_visible()
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_an_address_or_a_refused_form_opens_its_part(chromium: Browser, stage: Stage, scripts: bool) -> None:
    page = opened(chromium, stage, 360, scripts)
    page.goto(at(stage, "#triggers"))
    expect(page.get_by_label("in the time zone")).to_be_visible()
    expect(page.get_by_label("Who", exact=True)).to_be_hidden()
    page.goto(at(stage))
    keyboard.press(page, page.get_by_role("link", name="Change"))
    expect(page.get_by_label("Who", exact=True)).to_be_in_viewport()
    keyboard.fill(page, page.get_by_label("Web pages that may call it"), "nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_text("'nonsense' is no origin of web pages.")).to_be_in_viewport()
    field = page.get_by_label("Web pages that may call it")
    expect(field).to_have_value("nonsense")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_in_viewport()
    expect(page.get_by_label("in the time zone")).to_be_hidden()
    assert narrow(page)
    page.context.close()


@pytest.mark.parametrize("name", ["access", "revisions", "triggers", "settings", "code"])
def test_every_part_fits_a_telephone(chromium: Browser, stage: Stage, name: str) -> None:
    page = opened(chromium, stage, 360)
    page.goto(at(stage, f"#{name}"))
    expect(page.locator(f"#{name}")).to_be_visible()
    assert narrow(page)
    acts = page.locator(f"#{name} button:visible")
    boxes = [acts.nth(number).bounding_box() for number in range(acts.count())]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)  # none hides beside a table
    page.context.close()


def test_a_refresh_leaves_what_was_opened_and_typed(chromium: Browser, stage: Stage) -> None:
    page = opened(chromium, stage, 1280)
    page.goto(at(stage, "#revisions"))
    share = page.get_by_label("Calls of 100 for revision 2")
    share.fill("40")
    call = page.locator("#call-c4 > summary")
    keyboard.press(page, call)
    expect(page.locator("#call-c4 .trace")).to_be_visible()
    first = page.locator("#call-c0")
    first.evaluate("(one) => { one.dataset.seen = 'yes'; }")
    with page.expect_response(at(stage)):
        page.evaluate(TICK)
    expect(page.locator("#call-c0[data-seen]")).to_have_count(0)  # that part is another one now
    expect(page.locator("#call-c4 .trace")).to_be_visible()
    expect(call).to_be_focused()
    expect(page.locator("#call-c0 .note").last).to_be_hidden()
    with page.expect_response(at(stage)):
        page.evaluate("window.htmx.trigger(document.body, 'rw:function')")
    page.wait_for_timeout(300)
    expect(share).to_have_value("40")
    expect(share).to_be_visible()
    page.context.close()


def test_what_a_call_prints_is_open_while_it_goes_on(chromium: Browser, stage: Stage) -> None:
    calls = stage.things.calls["digits"]
    running = calls[0].model_copy(update={"id": "now", "ended": None, "state": State.RUNNING, "logs": "epoch 1\n"})
    page = opened(chromium, stage, 360)
    page.goto(at(stage))
    calls.insert(0, running)
    page.evaluate(TICK)
    log = page.locator("#call-now pre")
    expect(log).to_be_visible()
    keyboard.press(page, page.locator("#call-now > summary"))
    calls[0] = running.model_copy(update={"logs": "epoch 1\nepoch 2\n"})
    page.evaluate(TICK)
    expect(log).to_contain_text("epoch 2")
    expect(log).to_be_hidden()  # whoever folds it is not made to look again
    keyboard.press(page, page.locator("#call-now > summary"))
    expect(log).to_be_visible()
    calls[0] = running.model_copy(update={"state": State.DONE, "ended": running.started + 1})
    page.evaluate(TICK)
    expect(page.locator("#call-now[data-open]")).to_have_count(0)
    expect(log).to_be_hidden()
    calls.pop(0)
    page.context.close()
