"""The dashboard as a person uses it: sign in with the keyboard, start the notebook, fill a form, look at every page.

Each function does one errand and returns what it saw; what that proves is said in `__main__`.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page

from tests.tour import keyboard
from tests.tour.lab import ask
from tests.tour.stage import BUILD, Platform

ACCOUNT, PASSWORD, FULL_NAME = "ada", "seven ropes hold the mast", "Ada"
NEXT_ACCOUNT = "grace"
PAGES = (
    "/",
    "/notebooks",
    "/services",
    "/functions",
    "/workflows",
    "/people",
    "/account",
    "/secrets",
    "/services/new/voila",
)


def first_administrator(page: Page, platform: Platform) -> str:
    """Open the one-time link, choose a password, and return the address that one lands on. Keyboard only."""
    answer = page.goto(platform.first)
    if answer and answer.status == 404:  # used before, by a request whose answer was perhaps lost
        page.goto(f"{platform.origin}/")
        return sign_in(page, platform) if "/sign-in" in page.url else page.url
    keyboard.fill(page, page.get_by_label("Account", exact=True), ACCOUNT)
    keyboard.fill(page, page.get_by_label("Your name"), FULL_NAME)
    keyboard.fill(page, page.get_by_label("Password", exact=True), PASSWORD)
    picture(page, "first-administrator")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/first/" not in url)
    return page.url


def sign_in(page: Page, platform: Platform, account: str = ACCOUNT) -> str:
    """Sign in from the sign-in page and return the address that one lands on. Keyboard only."""
    page.goto(f"{platform.origin}/")
    page.wait_for_url(re.compile("/sign-in"))
    picture(page, "sign-in")
    keyboard.fill(page, page.get_by_label("Account", exact=True), account)
    keyboard.fill(page, page.get_by_label("Password", exact=True), PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/sign-in" not in url)
    return page.url


def sign_out(page: Page, platform: Platform, *, again: bool = False) -> None:
    """Sign out from the dashboard's corner; when it is done again, it may have been done."""
    page.goto(f"{platform.origin}/")
    if again and "/sign-in" in page.url:
        return
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/sign-in|/sign-out"))


def start_notebook(page: Page, platform: Platform) -> str:
    """Start the notebook from the home page with the keyboard, wait for JupyterLab, and return its address."""
    page.goto(f"{platform.origin}/")
    picture(page, "home-first")
    start = page.get_by_role("button", name="Start notebook").or_(page.get_by_role("link", name="Open notebook"))
    keyboard.press(page, start.first)
    there = page.locator("#jp-main-dock-panel, .jp-Launcher, .jp-NotebookPanel").first
    refused = page.locator("p.note", has_text=re.compile(r"RW-[A-Z-]+"))
    there.or_(refused).first.wait_for(timeout=90_000 * platform.patience)
    assert there.count(), f"the notebook was not started: {page.locator('body').inner_text()}"
    assert re.search(r"/user/|/lab", page.url), page.url
    return page.url


def lab_address(platform: Platform) -> str:
    """Return the tour's address in the person's JupyterLab."""
    parts = urlsplit(platform.origin)
    return f"{parts.scheme}://{ACCOUNT}.{parts.hostname}:{platform.port}/user/{ACCOUNT}/lab/tree/tour.ipynb"


def contents_address(platform: Platform) -> str:
    """Return the tour's address in the Contents API."""
    return lab_address(platform).replace("/lab/tree/", "/api/contents/")


def picture(page: Page, name: str) -> None:
    """Take a screenshot, in light and in dark."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
        page.screenshot(path=BUILD / f"{name}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")


def look_at_pages(page: Page, platform: Platform) -> dict[str, str]:
    """Open every page, take its picture, and return what is wrong with which."""
    wrong: dict[str, str] = {}
    for path in PAGES:
        answer = page.goto(f"{platform.origin}{path}")
        if answer is None or not answer.ok:
            wrong[path] = f"status {answer.status if answer else 'none'}"
        elif not page.locator("h1").count():
            wrong[path] = "no heading"
        picture(page, "page-" + (path.strip("/").replace("/", "-") or "home"))
    return wrong


def function_page(page: Page, platform: Platform, payload: str) -> str:
    """Call the function with the form of its page and return the answer that stands there."""
    page.goto(f"{platform.origin}/functions/digits")
    for name, value in json.loads(payload).items():
        page.get_by_label(re.compile(f"^{name}")).fill(json.dumps(value))
    page.get_by_role("button", name="Call", exact=True).click()
    answer = page.locator("#tried pre").first
    answer.wait_for()
    picture(page, "page-function")
    return answer.inner_text()


def run_page(page: Page, platform: Platform, run: str) -> str:
    """Return the text of a run's page."""
    page.goto(f"{platform.origin}/workflows/{run}")
    picture(page, "page-run")
    return page.locator("main").inner_text()


def launch_by_form(page: Page, platform: Platform, folder: Path, *, again: bool = False) -> tuple[str, int]:
    """Launch the site template with its form, open it, stop it; return its text and how many links to it are left.

    When it is done again, the service may be there.
    """
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "index.html").write_text("<h1>Launched by a form</h1>")
    there = page.goto(f"{platform.origin}/services/handmade") if again else None
    if there is None or not there.ok:
        page.goto(f"{platform.origin}/services")
        page.locator('#catalogue a[href="/services/new/site"]').click()
        page.get_by_label(re.compile("^Name")).fill("handmade")
        page.get_by_label(re.compile("^Folder")).fill("site")
        picture(page, "page-launch")
        page.get_by_role("button", name="Launch").click()
        page.wait_for_url(re.compile("/services/handmade"))
    page.locator(".state-running").first.wait_for(timeout=60_000)
    picture(page, "page-service")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open", exact=True).click()
    heading = opened.value.locator("h1")
    heading.wait_for()
    said = heading.inner_text()
    opened.value.close()
    page.get_by_role("button", name="Stop and remove").click()
    page.wait_for_url(re.compile("/services/?$"))
    links, end = page.locator('a[href="/services/handmade"]'), time.monotonic() + 20
    while links.count() and time.monotonic() < end:  # the page follows by itself
        time.sleep(0.2)
    return said, links.count()


def open_report(context: BrowserContext, address: str) -> tuple[str, int]:
    """Open the report in another tab, move its slider, and return its text and how many websockets carried frames."""
    page = context.new_page()
    carried: set[str] = set()
    page.on("websocket", lambda one: one.on("framereceived", lambda _: carried.add(one.url)))
    page.goto(address, timeout=60_000)
    page.get_by_text("images of 0").or_(page.get_by_text(re.compile(r"images of \d"))).first.wait_for(timeout=60_000)
    slider = page.get_by_role("slider").first
    if slider.count():
        slider.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(1500)
    text = page.locator("body").inner_text()
    picture(page, "service-report")
    page.close()
    return text, len(carried)


def open_as_stranger(browser: Browser, address: str) -> str:
    """Open an address in a browser that never signed in, and return where one ends up."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    ended = page.url
    context.close()
    return ended


def welcome(browser: Browser, page: Page, platform: Platform, *, again: bool = False) -> str:
    """Let somebody sign up, see them refused, approve them, let them in; return where they land.

    When it is done again, they may have been approved.
    """
    context = browser.new_context()
    newcomer = context.new_page()
    newcomer.goto(f"{platform.origin}/sign-up")
    newcomer.get_by_label("Account", exact=True).fill(NEXT_ACCOUNT)
    newcomer.get_by_label("Password", exact=True).fill(PASSWORD)
    newcomer.keyboard.press("Enter")
    newcomer.wait_for_load_state()
    page.goto(f"{platform.origin}/people")
    approve = page.locator("tr", has_text=NEXT_ACCOUNT).get_by_role("button", name="Approve")
    if not again or approve.count():
        approve.click()
    page.locator("tr", has_text=NEXT_ACCOUNT).get_by_text("active").wait_for()
    landed = sign_in(newcomer, platform, NEXT_ACCOUNT)
    context.close()
    return landed


def session_ends(page: Page, address: str, seconds: float = 60) -> float | None:
    """Ask from a tab that is still open until the notebook refuses; return the seconds it took, or None."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if ask(page, address)[0] != 200:
            return time.monotonic() - started
        time.sleep(1)
    return None
