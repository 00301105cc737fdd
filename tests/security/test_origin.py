"""Who may change something from where: the full product of what a browser, a hostile page or a program can send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from ropewalk_hub.security import allowed_origin
from tests.identity.stage import ORIGIN, PASSWORD, Stage, make

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "WEBSOCKET", "PROPFIND")
SITES = (None, "same-origin", "same-site", "cross-site", "none", "nonsense")
ORIGINS = (
    None,
    ORIGIN,
    "null",
    "",
    "http://alice.localhost:8000",
    "http://localhost:8001",
    "https://localhost:8000",
    "http://localhost",
    "http://localhost:8000.evil.test",
    "http://evil.test",
    "http://LOCALHOST:8000",
)
CREDENTIALS = (None, "Bearer x", "Basic x", "token x")


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("path", ["/services/new", "/oidc/token"])
def test_every_combination(cookie: bool, path: str) -> None:
    for method, site, origin, credential in product(METHODS, SITES, ORIGINS, CREDENTIALS):
        given = {
            "sec-fetch-site": site,
            "origin": origin,
            "authorization": credential,
            "cookie": "a=b" if cookie else None,
        }
        headers = Headers({key: value for key, value in given.items() if value is not None})
        got = allowed_origin(method, headers, path, ORIGIN)
        assert got is expected(method, site, origin, credential, cookie, path), (method, given)


def expected(
    method: str, site: str | None, origin: str | None, credential: str | None, cookie: bool, path: str
) -> bool:
    """The rule, written a second time and in another order."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return True
    a_program = not cookie and (credential in ("Bearer x", "token x") or path == "/oidc/token")
    our_page = origin == ORIGIN or (origin is None and site in ("same-origin", "none"))
    return a_program or our_page


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    made.add("alice", administrator=True)
    yield made
    await made.close()


@pytest.mark.parametrize("origin", ["http://alice.localhost:8000", "http://localhost:8001", "null", "http://evil.test"])
async def test_a_hostile_page_changes_nothing(stage: Stage, origin: str) -> None:
    stage.add("bob", active=False)
    browser = await stage.signed_in()
    for path, data in [
        ("/people/bob/approve", {}),
        ("/account/password", {"old": PASSWORD, "password": "a hostile password"}),
        ("/sign-out", {}),
        ("/sign-in", {"account": "alice", "password": PASSWORD}),
        ("/oidc/end-session", {}),
        ("/api/v1/accounts/bob/approve", {}),
    ]:
        answer = await browser.post(path, data=data, headers={"origin": origin})
        assert answer.status_code == 403, path
        assert answer.json()["code"] == "RW-WRONG-ORIGIN"
        assert answer.headers["content-type"] == "application/problem+json"
    assert stage.issuer.accounts.get("bob").state == "waiting"
    assert (await browser.get("/account")).status_code == 200


async def test_no_origin_and_no_fetch_metadata_is_refused(stage: Stage) -> None:
    browser = await stage.signed_in()
    del browser.headers["origin"]
    assert (await browser.post("/sign-out")).status_code == 403
    assert (await browser.post("/sign-out", headers={"sec-fetch-site": "same-site"})).status_code == 403
    assert (await browser.post("/sign-out", headers={"sec-fetch-site": "same-origin"})).status_code == 303


async def test_a_bearer_token_beside_a_cookie_does_not_help_a_hostile_page(stage: Stage) -> None:
    browser = await stage.signed_in()
    headers = {"origin": "http://evil.test", "authorization": "Bearer x"}
    assert (await browser.post("/api/v1/token", json={}, headers=headers)).status_code == 403


async def test_nobody_else_may_read_our_answers(stage: Stage) -> None:
    browser = await stage.signed_in()
    answer = await browser.get("/account", headers={"origin": "http://alice.localhost:8000"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host",
    [
        "localhost:9000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "evil.test",
        "localhost",
        "localhost:8000.evil.test",
        "x.evil:8000",
    ],
)
async def test_another_address_says_which_one_to_open(stage: Stage, host: str) -> None:
    answer = await stage.browser().get("/sign-in", headers={"host": host})
    assert answer.status_code == 421
    assert ORIGIN in answer.text and "ssh -L 8000:localhost:8000 -L 8001:localhost:8001" in answer.text
    assert answer.headers["content-security-policy"] == "default-src 'none'"


async def test_a_host_is_never_rendered_as_markup(stage: Stage) -> None:
    answer = await stage.browser().get("/", headers={"host": "<script>alert(1)</script>"})
    assert answer.status_code == 421 and "<script" not in answer.text


async def test_a_persons_host_without_a_server_leads_to_the_hub_and_shows_nothing_of_ours(stage: Stage) -> None:
    browser = await stage.signed_in()
    there = {"host": "alice.localhost:8000"}
    started = await browser.get("/user/alice/lab/tree/a%20b?x=1", headers=there)
    assert started.headers["location"] == f"{ORIGIN}/hub/user/alice/lab/tree/a%20b?x=1"
    assert (await browser.get("/", headers=there)).headers["location"] == f"{ORIGIN}/notebooks"
    assert (await browser.get("/dashboard", headers=there)).headers["location"] == f"{ORIGIN}/"
    for path in ("/sign-in", "/account", "/api/v1/me", "/oidc/jwks", "/static/style.css", "/userx"):
        assert (await browser.get(path, headers=there)).status_code == 404, path
    assert (await browser.post("/user/alice/", headers=there)).status_code == 404
    page = await browser.get("/nope", headers=there | {"accept": "text/html"})
    assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
    for words in ("does not exist", 'href="/user/alice/lab"', f'href="{ORIGIN}"', f"{ORIGIN}/help/errors#RW-NOT-FOUND"):
        assert words in page.text
    program = await browser.post("/user/alice/api/kernels", headers=there | {"accept": "application/json"})
    assert program.json()["code"] == "RW-NOT-FOUND" and "No notebook runs here" in program.json()["message"]
    wrong_port = await browser.get("/", headers={"host": "viewer--alice.localhost:8000"})
    assert "http://viewer--alice.localhost:8001/" in wrong_port.text


async def test_siblings_ask_on_the_loopback_address_for_machine_endpoints_only(stage: Stage) -> None:
    machine = stage.machine()
    there = {"host": "127.0.0.1:41234"}
    assert (await machine.get("/oidc/jwks", headers=there)).status_code == 200
    assert (await machine.post("/oidc/token", headers=there)).status_code == 400
    for path in ("/oidc/authorize", "/sign-in", "/api/v1/me", "/"):
        assert (await machine.get(path, headers=there)).status_code == 421


async def test_argo_clients_inside_a_cluster_ask_by_an_internal_name_with_a_token_alone(stage: Stage) -> None:
    alice = stage.issuer.accounts.get("alice")
    token = {"authorization": f"Bearer {stage.issuer.tokens.make(alice, 'server:alice', 'api')[0]}"}
    machine, there = stage.machine(), {"host": "127.0.0.1:41234"}
    assert (await machine.get("/argo/api/v1/userinfo", headers=there | token)).json()["name"] == "alice"
    for path, headers in (
        ("/argo/api/v1/userinfo", {}),
        ("/argo/api/v1/userinfo", token | {"cookie": "a=b"}),
        ("/argo/api/v1/userinfo", token | {"host": "elsewhere:8000"}),
        ("/api/v1/me", token),
        ("/argonaut", token),
    ):
        assert (await machine.get(path, headers=there | headers)).status_code == 421, (path, headers)


async def test_a_second_session_cookie_is_taken_away_and_not_believed(stage: Stage) -> None:
    stage.add("carol")
    own, planted = [(await stage.signed_in(one)).cookies["ropewalk-session"] for one in ("alice", "carol")]
    both = f"ropewalk-session={own}; ropewalk-session={planted}"
    browser = stage.browser(cookie=both)
    asked = await browser.get("/services/new/site?x=1")
    assert (asked.status_code, asked.headers["location"]) == (307, "/services/new/site?x=1")
    gone = asked.headers.get_list("set-cookie")
    assert all("Max-Age=0" in one and "Domain=localhost" in one for one in gone)  # never our own, which has no domain
    assert any("Path=/services/new/" in one for one in gone)
    assert (await browser.post("/account/password", data={"old": "x", "password": "y"})).status_code == 403
    lookalike = stage.browser(cookie=f"ropewalk-session={own}; x-ropewalk-session=1; other=ropewalk-session=2")
    assert (await lookalike.get("/account")).status_code == 200
