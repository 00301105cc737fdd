"""A hostile page, signed-in administrator before it: reads nothing and changes nothing on the platform.

The page is that of a service, a script in one's own notebook (as a cell's output may hold), or a page that another
person's notebook server may send. On same-site names each attack is first seen to work, from the same page, on a
platform without its guard: what is refused is refused by the guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser import unguarded
from tests.browser.rig import HOSTILE, TLS_ADDRESS, Answer, World, heard
from tests.browser.unguarded import Unguarded
from tests.tour.lab import ask

FORM = "application/x-www-form-urlencoded"
READS = ("/api/v1/me", "/people", "/api/v1/accounts", "/account", "/")
SITE = {"name": "planted", "template": "site", "value.folder": "site"}
WRITES: dict[str, dict[str, Any]] = {
    "approve by REST": {"act": "fetch", "path": "/api/v1/accounts/carol/approve", "method": "POST"},
    "approve by the page's form": {"act": "form", "path": "/people/carol/approve"},
    "approve in text/plain": {"act": "form", "path": "/people/carol/approve", "type": "text/plain"},
    "approve in parts": {"act": "form", "path": "/people/carol/approve", "type": "multipart/form-data"},
    "approve by beacon": {"act": "beacon", "path": "/people/carol/approve", "body": ""},
    "deactivate": {"act": "fetch", "path": "/people/bob/deactivate", "method": "POST", "type": FORM, "body": "a=b"},
    "launch a service": {"act": "form", "path": "/services/new/site", "fields": SITE},
    "write a file": {
        "act": "fetch", "path": "/api/v1/files/ada/planted.txt", "method": "PUT", "mode": "cors", "body": "x",
    },
    "plant a secret": {"act": "form", "path": "/secrets", "fields": {"name": "PLANTED", "secret": "x"}},
    "take a token": {
        "act": "fetch", "path": "/api/v1/token", "method": "POST", "mode": "cors",
        "type": "application/json", "body": '{"audience": "functions"}',
    },
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "a token in text/plain": {
        "act": "fetch", "path": "/api/v1/token", "method": "POST", "mode": "cors",
        "type": "text/plain", "body": '{"audience": "functions"}',
    },
    "start the notebook": {"act": "form", "path": "/notebooks/start"},
    "start it by REST": {"act": "fetch", "path": "/api/v1/notebooks/ada/start", "method": "POST"},
    "start it at the hub": {"act": "fetch", "path": "/hub/api/users/ada/server", "method": "POST"},
    "a token of the hub": {"act": "fetch", "path": "/hub/api/users/ada/tokens", "method": "POST", "mode": "cors"},
    "remove a secret": {"act": "form", "path": "/secrets/MINE/remove"},
    "remove the service": {"act": "form", "path": "/services/evil/remove"},
    "change the password": {"act": "form", "path": "/account/password", "fields": {"old": "x", "password": "y"}},
    "sign out": {"act": "form", "path": "/sign-out"},
    "an administrator's rights": {"act": "fetch", "path": "/api/v1/accounts/bob", "method": "PATCH", "mode": "cors"},
}  # fmt: skip


def run(page: Page, attack: dict[str, Any], origin: str) -> tuple[dict[str, Any], list[Answer]]:
    """Let the page attack; return what it learned, and what the platform answered."""
    given = attack | {"url": origin + attack["path"]}
    with heard(page, origin) as answers:
        learned: dict[str, Any] = page.evaluate("(one) => window.evil[one.act](one)", given)
        page.wait_for_timeout(50)
    return learned, answers


def becomes(page: Page, state: Callable[[], str], wanted: str) -> bool:
    """Say whether the state is soon the wanted one; a form or a beacon is still on its way when the page goes on."""
    for _ in range(100):
        if state() == wanted:
            return True
        page.wait_for_timeout(50)
    return False


def from_service(world: World) -> Page:
    """Return the page of a service of Ada's own: user code is a stranger even to its owner's sign-in."""
    page = world.signed_in().new_page()
    page.goto(world.people("evil--ada") + "/")
    assert page.locator("h1").inner_text() == "Free ropes"
    return page


def from_notebook(world: World) -> Page:
    """Return a page of Ada's notebook server in which a script runs, as the output of a cell may hold one."""
    if world.notebook_state() != "running":
        world.start_notebook()
    page = world.signed_in().new_page()
    page.goto(world.notebook("ada") + "lab", wait_until="domcontentloaded")
    page.evaluate(HOSTILE.read_text().split("<script>")[1].split("</script>")[0])
    return page


def from_neighbour(world: World) -> Page:
    """Return a page at the address of Bob's notebook server, which may send any page to whoever comes.

    The browser is handed what such a server would send, so no server of Bob's needs to run; the page's origin, and
    all that it asks for, are real.
    """
    page = world.signed_in().new_page()
    address = world.notebook("bob") + "free-ropes"
    page.route(address, lambda route: route.fulfill(body=HOSTILE.read_text(), content_type="text/html"))
    page.goto(address)
    assert page.locator("h1").inner_text() == "Free ropes"
    return page


PAGES = {"service": from_service, "notebook": from_notebook, "neighbour": from_neighbour}


@pytest.fixture(scope="package")
def careless(worlds: dict[str, World]) -> Iterator[dict[str, Unguarded]]:
    """Return platforms without a guard, of the same site as the guarded ones, with Ada signed in."""
    found: dict[str, Unguarded] = {}
    with unguarded.running("open.rope.test", "http") as http, unguarded.running("open.hemp.test", "https") as https:
        worlds["https"].front.listen(TLS_ADDRESS, https.port, to=https.port, tls=True)
        for which, one in (("http", http), ("https", https)):
            page = worlds[which].signed_in().new_page()
            page.goto(f"{one.origin}/sign-in")
            page.get_by_label("Account", exact=True).fill("ada")
            page.get_by_label("Password", exact=True).fill(unguarded.PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda url: "/sign-in" not in url)
            page.close()
            found[which] = one
        yield found


def test_the_attacks_work_where_there_is_no_guard(same_site: World, careless: dict[str, Unguarded]) -> None:
    target = careless["https" if same_site.scheme == "https" else "http"]
    page = from_service(same_site)
    for path in READS:
        learned, _ = run(page, {"act": "fetch", "path": path, "mode": "cors"}, target.origin)
        assert learned["status"] == 200 and "ada" in learned["text"], path
    accounts = target.platform.issuer.accounts
    for name, attack in WRITES.items():
        accounts.set_state("carol", "waiting")
        accounts.set_state("bob", "active")
        learned, answers = run(page, attack, target.origin)
        if attack["act"] != "beacon":  # a browser keeps the answer of a beacon to itself
            assert answers and answers[0].status < 400, f"{name}: {answers} {learned}"
        if name.startswith("approve"):
            assert becomes(page, lambda: accounts.get("carol").state, "active"), name  # type: ignore[union-attr]
        if name == "deactivate":
            assert becomes(page, lambda: accounts.get("bob").state, "deactivated")  # type: ignore[union-attr]
        if name.startswith("take"):
            assert "token" in learned["text"]
    assert target.platform.journal.get("service", "ada", "planted") is not None
    assert target.platform.journal.get("secret", "ada", "PLANTED") is not None
    page.close()


@pytest.mark.parametrize("kind", list(PAGES))
def test_a_hostile_page_reads_and_changes_nothing(everywhere: World, kind: str) -> None:
    page = PAGES[kind](everywhere)
    before = everywhere.state()
    for path in READS:
        for mode in ("cors", "no-cors"):
            learned, _ = run(page, {"act": "fetch", "path": path, "mode": mode}, everywhere.origin)
            assert learned["kind"] in ("error", "opaque") and not learned["text"], f"{path} {learned}"
    for name, attack in (WRITES | MORE).items():
        learned, answers = run(page, attack, everywhere.origin)
        assert not learned.get("text"), f"{name}: {learned}"
        bad = [one for one in answers if one.method not in ("GET", "OPTIONS") and one.status != 403]
        assert not bad, f"{name}: {bad}"
    assert everywhere.state() == before
    page.close()


LOOKS = ("/sign-out", "/oidc/end-session", "/hub/spawn/ada", "/hub/token", "/notebooks/start")


@pytest.mark.parametrize("kind", ["service", "neighbour"])
def test_what_a_hostile_page_shows_changes_nothing(everywhere: World, kind: str) -> None:
    page = PAGES[kind](everywhere)
    everywhere.ask("POST", "/api/v1/notebooks/ada/stop", json={})  # so that starting it would show
    before = everywhere.state()
    # On plain http with a name of its own, browsers do not say which page asks: see docs/limits.md.
    told = everywhere.scheme == "https" or everywhere.host == "localhost"
    for path in (*LOOKS, "/hub/logout") if told else LOOKS:
        for tag in ("img", "iframe", "script"):
            run(page, {"act": "element", "path": path, "tag": tag}, everywhere.origin)
    assert everywhere.state() == before  # Ada is signed in, and the notebook as it was
    assert everywhere.ask("GET", "/account").status_code == 200
    page.close()


def test_pages_of_the_platform_are_not_framed_held_or_shared(everywhere: World, careless: dict[str, Unguarded]) -> None:
    page = from_service(everywhere)
    for path in ("/people", "/account", "/services/new/site"):
        run(page, {"act": "element", "path": path, "tag": "iframe"}, everywhere.origin)
        assert all(frame.url.startswith("chrome-error:") for frame in page.frames[1:]), path
    learned, _ = run(page, {"act": "opened", "path": "/people"}, everywhere.origin)
    assert not learned["text"]
    if everywhere.scheme == "https":  # browsers heed this header only there
        assert learned["kind"] == "severed"
    style = {"act": "element", "path": "/static/style.css", "tag": "link"}
    assert run(page, style, everywhere.origin)[0]["kind"] == "error"
    page.close()
    if everywhere.host == "localhost":
        return
    page, target = from_service(everywhere), careless[everywhere.scheme]
    run(page, {"act": "element", "path": "/people", "tag": "iframe"}, target.origin)
    assert "carol" in page.frames[1].locator("body").inner_text()
    assert run(page, {"act": "opened", "path": "/people"}, target.origin)[0]["kind"] == "held"
    assert run(page, style, target.origin)[0]["kind"] == "loaded"
    page.close()


def test_no_websocket_from_another_page(everywhere: World) -> None:
    own = from_notebook(everywhere)
    base = everywhere.notebook("ada").replace("http", "ws", 1)
    events = {"act": "socket", "url": base + "api/events/subscribe"}
    script = "(one) => window.evil[one.act](one)"
    assert own.evaluate(script, events)["kind"] == "open"  # the notebook's own page may
    own.close()
    door = everywhere.people("evil--ada").replace("http", "ws", 1)
    targets = [events["url"], *(f"{everywhere.origin.replace('http', 'ws', 1)}{one}" for one in ("/events", "/hub/"))]
    for page in (from_neighbour(everywhere), from_service(everywhere)):
        for url in (*targets, f"{door}/" if "bob" in page.url else targets[0]):
            assert page.evaluate(script, events | {"url": url})["kind"] == "error", f"{page.url} {url}"
        page.close()


def test_a_neighbours_page_cannot_use_the_notebook(everywhere: World) -> None:
    own = from_notebook(everywhere)
    base = everywhere.notebook("ada") + "api/"
    lists = [base + name for name in ("terminals", "kernels", "sessions", "contents")]
    before = [ask(own, one) for one in lists]
    assert [status for status, _ in before] == [200] * 4
    page, origin = from_neighbour(everywhere), everywhere.notebook("ada").removesuffix("/user/ada/")
    files = {"act": "fetch", "path": "/user/ada/api/contents", "mode": "cors"}
    assert run(page, files, origin)[0] == {"kind": "error", "status": 0, "text": ""}
    for path in ("api/terminals", "api/kernels", "api/sessions", "api/contents", "api/shutdown"):
        for kind in ("text/plain", FORM):
            attack = {"act": "fetch", "path": f"/user/ada/{path}", "method": "POST", "type": kind, "body": "{}"}
            answers = [one for one in run(page, attack, origin)[1] if one.url == attack["path"]]
            assert all(one.status in (403, 404) for one in answers), answers  # Jupyter hides what it refuses
    assert [ask(own, one) for one in lists] == before
    page.close()
    own.close()


def test_a_tossed_cookie_makes_nobody_somebody_else(everywhere: World) -> None:
    everywhere.signed_in("bob")
    cookies = everywhere.contexts["bob"].cookies(everywhere.origin)
    bobs = next(one for one in cookies if "ropewalk" in one.get("name", "") and "hub" not in one.get("path", ""))
    page = from_service(everywhere)
    context = page.context
    for path in ("/", "/api", "/account"):
        value = f"{bobs.get('name')}={bobs.get('value')}; Domain={everywhere.host}; Path={path}"
        value += "; Secure" if everywhere.scheme == "https" else ""
        page.evaluate("(value) => window.evil.cookie({value})", value)
    tossed = [one for one in context.cookies(everywhere.origin) if one.get("value") == bobs.get("value")]
    assert bool(tossed) == (everywhere.host == "rope.test")  # elsewhere the browser itself refuses
    desk = context.new_page()
    desk.goto(everywhere.origin + "/account")
    assert "bob" not in desk.locator("body").inner_text()
    desk.goto(everywhere.origin + "/")
    assert "/sign-in" not in desk.url
    assert desk.evaluate("async () => (await (await fetch('/api/v1/me')).json()).name") == "ada"
    desk.close()
    page.close()
    context.clear_cookies(domain=f".{everywhere.host}")
