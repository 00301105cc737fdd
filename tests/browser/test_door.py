"""The doors as a person's browser meets them: signing in by keyboard, services, another port, the end of a sign-in."""

from __future__ import annotations

import re
import time

from playwright.sync_api import expect

from tests.browser.rig import PASSWORD, World
from tests.tour import keyboard


def test_signing_in_needs_no_mouse_and_a_wrong_password_costs_no_typing(here: World) -> None:
    context = here.context()
    page = context.new_page()
    page.goto(f"{here.origin}/services?state=running")
    page.wait_for_url(re.compile("/sign-in"))
    account, password = page.get_by_label("Account", exact=True), page.get_by_label("Password", exact=True)
    keyboard.fill(page, account, "ada")
    keyboard.fill(page, password, "not this one at all")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert account.input_value() == "ada" and not password.input_value()
    keyboard.fill(page, password, PASSWORD)
    keyboard.press(page, page.get_by_role("button", name="Sign in"))
    page.wait_for_url(f"{here.origin}/services?state=running")
    context.close()


def test_a_service_sends_a_stranger_through_the_door_and_back(everywhere: World) -> None:
    context = everywhere.context()
    page = context.new_page()
    page.goto(everywhere.people("evil--ada") + "/index.html?x=1")
    assert page.url.startswith(f"{everywhere.origin}/sign-in")
    page.get_by_label("Account", exact=True).fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(everywhere.people("evil--ada") + "/index.html?x=1")
    assert page.locator("h1").inner_text() == "Free ropes"
    cookies = [one for one in context.cookies() if one.get("name") == "ropewalk-door"]
    assert [(one.get("domain"), one.get("httpOnly")) for one in cookies] == [(f"evil--ada.{everywhere.host}", True)]
    context.close()


def test_somebody_elses_service_is_not_there(everywhere: World) -> None:
    page = everywhere.signed_in("bob").new_page()
    answer = page.goto(everywhere.people("evil--ada") + "/")
    assert answer is not None and answer.status == 404 and "Free ropes" not in page.content()
    page.close()


def test_another_port_says_which_address_to_open(here: World) -> None:
    other = here.front.listen("127.0.0.1", 0, to=here.port)
    context = here.context()
    page = context.new_page()
    answer = page.goto(f"http://localhost:{other}/")
    assert answer is not None and answer.status == 421
    page.get_by_role("link", name=here.origin).click()
    page.wait_for_url(re.compile(f"^{here.origin}/sign-in"))
    # The people's door behind another port leads to the right address by itself.
    services = here.front.listen("127.0.0.1", 0, to=here.port + 1)
    desk = here.signed_in().new_page()
    desk.goto(f"http://evil--ada.localhost:{services}/")
    assert desk.url == here.people("evil--ada") + "/" and desk.locator("h1").inner_text() == "Free ropes"
    desk.close()
    context.close()


def test_a_sign_in_that_ends_in_mid_form_loses_no_typing(here: World) -> None:
    context = here.context()
    page = context.new_page()
    page.goto(f"{here.origin}/sign-in?next=/services/new/site")
    _sign_in(page, "ada")
    page.wait_for_url(re.compile("/services/new/site"))
    page.get_by_label(re.compile("^Name")).fill("typed-with-care")
    page.get_by_label(re.compile("^Folder")).fill("site")
    other = context.new_page()
    other.goto(here.origin)
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url(re.compile("/sign-in"))
    other.close()
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_label("Password", exact=True)).to_be_visible()
    _sign_in(page, "ada")
    expect(page.get_by_text("typed-with-care")).to_be_visible()
    page.locator("main form button").first.click()
    page.wait_for_url(re.compile("/services/typed-with-care"))
    here.ask("DELETE", "/api/v1/services/ada/typed-with-care")
    context.close()


def test_signing_out_closes_a_services_websocket(everywhere: World) -> None:
    (everywhere.folder / "notes.py").write_text("import marimo\n\napp = marimo.App()\n")
    body = {"name": "desk", "template": "editor", "values": {"folder": ""}}
    assert everywhere.ask("PUT", "/api/v1/services/ada/desk", json=body).status_code < 300
    context = everywhere.context()
    page = context.new_page()
    carried: list[str] = []
    closed: list[float] = []

    def note(socket) -> None:  # type: ignore[no-untyped-def]
        socket.on("framereceived", lambda _: carried.append(socket.url))
        socket.on("close", lambda _: closed.append(time.monotonic()))

    page.goto(f"{everywhere.origin}/sign-in")
    _sign_in(page, "ada")
    page.on("websocket", note)
    page.goto(everywhere.people("desk--ada") + "/?file=notes.py")
    end = time.monotonic() + 60
    while not carried and time.monotonic() < end:
        page.wait_for_timeout(200)
    assert carried, page.content()[:2000]
    assert not closed
    other = context.new_page()
    other.goto(everywhere.origin)
    out = other.get_by_role("button", name="Sign out")
    assert out.count() == 1, (other.url, other.content()[:2000])
    out.click()
    other.wait_for_url(re.compile("/sign-in"))
    left, bound = time.monotonic(), 15.0
    while not closed and time.monotonic() - left < bound:
        page.wait_for_timeout(100)
    assert closed, f"open {bound:g} s after the sign-out"
    page.goto(everywhere.people("desk--ada") + "/")
    assert page.url.startswith(f"{everywhere.origin}/sign-in")
    everywhere.ask("DELETE", "/api/v1/services/ada/desk")
    context.close()


def _sign_in(page, account: str) -> None:  # type: ignore[no-untyped-def]
    page.get_by_label("Account", exact=True).fill(account)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/sign-in" not in url)
