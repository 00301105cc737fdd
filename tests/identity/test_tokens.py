"""Ten-minute tokens, the hub's token exchange, and the people's door."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.routing import BaseRoute, Mount, Route

from ropewalk_core.errors import BadInput, Denied, NotApproved, Unauthenticated, Unavailable
from ropewalk_hub import hub_client
from ropewalk_hub.door import CODE_LIFE, redeem
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.platform import Platform
from tests.identity.stage import ORIGIN, Stage, query_of


async def test_a_token_says_who_for_what_and_until_when(stage: Stage) -> None:
    account = stage.issuer.accounts.get("bob")
    text, ends = stage.issuer.tokens.make(account, "server:bob", "functions")
    assert ends == pytest.approx(stage.clock.wall() + 600, abs=1)
    claims = jwt.decode(text, stage.issuer.keys.verifying, algorithms=["ES256"]).claims
    assert {key: claims[key] for key in ("iss", "sub", "aud", "account", "sid", "epoch")} == {
        "iss": ORIGIN,
        "sub": account.subject,
        "aud": "functions",
        "account": "bob",
        "sid": "server:bob",
        "epoch": 0,
    }
    assert stage.issuer.tokens.actor(text, "functions").account == "bob"


async def test_an_audience_is_not_another(stage: Stage) -> None:
    account = stage.issuer.accounts.get("bob")
    text, _ = stage.issuer.tokens.make(account, "server:bob", "functions")
    with pytest.raises(Unauthenticated):
        stage.issuer.tokens.actor(text, "api")
    with pytest.raises(BadInput):
        stage.issuer.tokens.make(account, "server:bob", "platform")


async def test_a_token_ends(stage: Stage) -> None:
    text, _ = stage.issuer.tokens.make(stage.issuer.accounts.get("bob"), "server:bob", "api")
    stage.clock.advance(600 + 61)  # a minute for clocks that differ
    with pytest.raises(Unauthenticated):
        stage.issuer.tokens.actor(text)


async def test_a_token_ends_with_its_sign_in(stage: Stage) -> None:
    browser = await stage.signed_in("bob")
    made = await browser.post("/api/v1/token", json={"audience": "api"})
    token = made.json()["token"]
    program = stage.machine()
    assert (await program.get("/api/v1/me", headers={"authorization": f"Bearer {token}"})).json()["name"] == "bob"
    await browser.post("/sign-out")
    assert (await program.get("/api/v1/me", headers={"authorization": f"Bearer {token}"})).status_code == 401


@pytest.mark.parametrize("change", ["alg", "key", "iss", "sub", "epoch", "sid", "account"])
async def test_a_false_token_is_nobody(stage: Stage, change: str) -> None:
    account = stage.issuer.accounts.get("bob")
    text, _ = stage.issuer.tokens.make(account, "server:bob", "api")
    claims = dict(jwt.decode(text, stage.issuer.keys.verifying, algorithms=["ES256"]).claims)
    key: Any = stage.issuer.keys.signing
    if change == "key":
        key = ECKey.generate_key("P-256", {"kid": key.kid})
    elif change != "alg":
        claims |= {"iss": "http://x", "sub": "x", "epoch": 7, "sid": "ses-0", "account": "alice"}.items() & {
            (change, {"iss": "http://x", "sub": "x", "epoch": 7, "sid": "ses-0", "account": "alice"}[change])
        }
    false = jwt.encode(stage.issuer.keys.header, claims, key, ["ES256"])
    if change == "alg":
        false = "eyJhbGciOiJub25lIn0." + text.split(".")[1] + "."
    with pytest.raises(Unauthenticated):
        stage.issuer.tokens.actor(false)


async def test_a_leaked_token_cannot_renew_itself(stage: Stage) -> None:
    browser = await stage.signed_in("bob")
    token = (await browser.post("/api/v1/token", json={"audience": "api"})).json()["token"]
    headers = {"authorization": f"Bearer {token}"}
    program = stage.machine()
    assert (await program.post("/api/v1/token", json={"audience": "api"}, headers=headers)).status_code == 403
    made = await program.post("/api/v1/token", json={"audience": "functions"}, headers=headers)
    assert made.status_code == 200
    functions = {"authorization": f"Bearer {made.json()['token']}"}
    assert (await program.get("/api/v1/me", headers=functions)).status_code == 401


# The hub's token


def with_hub(stage: Stage, answers: dict[str, tuple[int, Any]]) -> Platform:
    def answer(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("token ")
        status, body = {"service": (200, {"kind": "service", "name": "ropewalk"}), **answers}.get(token, (403, {}))
        return httpx.Response(status, json=body)

    transport, home = httpx.MockTransport(answer), stage.platform.settings.home
    hub = HubClient("http://hub.test", "service", host="localhost:8000", folder=home, transport=transport)
    platform = dataclasses.replace(stage.platform, hub=hub)
    stage.app.state.platform = platform
    return platform


OWN = {"kind": "user", "name": "bob", "scopes": ["users:activity!user=bob", "access:servers!server=bob/"]}


async def test_a_notebook_exchanges_its_own_token(stage: Stage) -> None:
    platform = with_hub(stage, {"good": (200, OWN)})
    made = await stage.machine().post(
        "/api/v1/token", json={"audience": "api"}, headers={"authorization": "token good"}
    )
    assert made.status_code == 200, made.text
    actor = stage.issuer.tokens.actor(made.json()["token"])
    assert (actor.account, actor.session) == ("bob", "server:bob")
    await platform.hub.close()


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "service", "name": "bob", "scopes": ["users:activity!user=bob"]},
        {"kind": "user", "name": "bob", "scopes": ["access:servers!server=alice/"]},  # a visitor's browser token
        {"kind": "user", "name": "bob", "scopes": ["self"]},
        {"kind": "user", "name": "bob", "scopes": ["users:activity!user=alice"]},
        {"kind": "user", "name": "nobody", "scopes": ["users:activity!user=nobody"]},
        {"kind": "user", "name": "carol", "scopes": ["users:activity!user=carol"]},
        {},
    ],
)
async def test_other_hub_tokens_become_nothing(stage: Stage, model: dict[str, Any]) -> None:
    stage.add("carol", active=False)
    platform = with_hub(stage, {"other": (200, model)})
    with pytest.raises(Unauthenticated):
        await platform.hub_actor("other")
    with pytest.raises(Unauthenticated):
        await platform.hub_actor("unknown")
    await platform.hub.close()


async def test_a_hub_that_is_away_is_said_so(stage: Stage) -> None:
    with pytest.raises(Unavailable):
        await stage.platform.hub_actor("any")


# The people's door

HOST = "viewer--bob.localhost:8001"


async def enter(stage: Stage, **changes: str) -> dict[str, str]:
    browser = await stage.signed_in("bob")
    asked = {"host": HOST, "next": "/x?y=1", "state": "s"} | changes
    answer = await browser.get("/door/open", params=asked)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith("http://viewer--bob.localhost:8001/_ropewalk/door?")
    return query_of(answer)


async def test_the_door_opens_once_for_its_host_and_state(stage: Stage) -> None:
    said = await enter(stage)
    assert (said["state"], said["next"]) == ("s", "/x?y=1")
    found = await redeem(stage.platform, said["code"], HOST, "s")
    assert found["account"] == "bob" and stage.issuer.sessions.by_id(found["sid"])
    with pytest.raises(Unauthenticated):
        await redeem(stage.platform, said["code"], HOST, "s")


@pytest.mark.parametrize(("host", "state"), [("other--bob.localhost", "s"), (HOST, "t"), (HOST, "")])
async def test_a_code_for_another_place_is_used_up(stage: Stage, host: str, state: str) -> None:
    said = await enter(stage)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await redeem(stage.platform, said["code"], host, state)
    with pytest.raises(Unauthenticated):
        await redeem(stage.platform, said["code"], HOST, "s")


async def test_a_code_ends_soon_and_with_its_sign_in(stage: Stage) -> None:
    said = await enter(stage)
    stage.clock.advance(CODE_LIFE + 1)
    with pytest.raises(Unauthenticated):
        await redeem(stage.platform, said["code"], HOST, "s")
    said = await enter(stage)
    stage.issuer.sign_out_everywhere("bob")
    with pytest.raises(Unauthenticated):
        await redeem(stage.platform, said["code"], HOST, "s")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"host": "viewer--alice.localhost:8001"}, 404),
        ({"host": "evil.test"}, 422),
        ({"host": "bob.localhost:8000"}, 422),
        ({"host": "viewer--bob.localhost.evil.test"}, 422),
        ({"host": "viewer--bob.localhost@evil.test"}, 422),
        ({"host": "viewer--bob.localhost/evil"}, 422),
        ({"state": ""}, 422),
    ],
)
async def test_the_door_leads_nowhere_else(stage: Stage, changes: dict[str, str], status: int) -> None:
    browser = await stage.signed_in("bob")
    answer = await browser.get("/door/open", params={"host": HOST, "next": "/", "state": "s"} | changes)
    assert answer.status_code == status
    assert "location" not in answer.headers


async def test_the_door_asks_the_anonymous_to_sign_in_first(stage: Stage) -> None:
    answer = await stage.browser().get("/door/open", params={"host": HOST, "state": "s"})
    assert answer.headers["location"].startswith("/sign-in?next=%2Fdoor%2Fopen%3Fhost%3D")


async def test_where_to_go_on_stays_a_path(stage: Stage) -> None:
    assert (await enter(stage, next="//evil.test"))["next"] == "/"


# The home's owner at a prompt


async def test_the_owners_prompt_gets_a_token_and_a_link(stage: Stage) -> None:
    from ropewalk_hub.internal import SIBLINGS, create_app

    app = create_app(stage.platform, SIBLINGS)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://inside") as inside:
        made = (await inside.post("/internal/token", json={"audience": "api"})).json()
        assert stage.issuer.tokens.actor(made["token"]).session == "cli:alice"
        named = (await inside.post("/internal/token", json={"account": "bob"})).json()
        assert stage.issuer.tokens.actor(named["token"], "functions").account == "bob"
        assert (await inside.post("/internal/token", json={"account": "nobody"})).status_code == 404
        assert (await inside.post("/internal/first")).json() == {"link": None}
        assert (await inside.get("/internal/ready")).json()["ready"] is True


def offered(route: BaseRoute, above: str = "") -> set[tuple[str, str]]:
    """Return method and path of all that a route leads to."""
    if isinstance(route, Mount):
        return {one for inner in route.routes for one in offered(inner, above + route.path)}
    assert isinstance(route, Route)
    return {(method, above + route.path) for method in (route.methods or ()) if method != "HEAD"}


async def test_the_gateways_own_socket_gives_it_what_it_needs_and_no_rights(stage: Stage) -> None:
    from ropewalk_hub.internal import GATEWAYS, create_app

    app = create_app(stage.platform, GATEWAYS)
    told = {one for route in app.routes for one in offered(route)}
    calls = "/internal/durable"
    assert told == {
        ("POST", f"{calls}/accept"),
        ("POST", f"{calls}/take"),
        ("POST", f"{calls}/report"),
        ("GET", f"{calls}/{{owner}}/{{call}}"),
        ("GET", f"{calls}/{{owner}}/{{call}}/result"),
        ("POST", f"{calls}/{{owner}}/{{call}}/cancel"),
        ("POST", f"{calls}/{{owner}}/{{call}}/replay"),
        ("GET", "/internal/ready"),
        ("GET", "/internal/snapshot"),
        ("POST", "/internal/calls"),
        ("POST", "/internal/door"),
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://inside") as inside:
        for path in ("token", "first", "runs/events"):
            assert (await inside.post(f"/internal/{path}", json={})).status_code == 404, path
        said = await enter(stage)
        entered = await inside.post("/internal/door", json={"code": said["code"], "host": HOST, "state": "s"})
        assert entered.json()["account"] == "bob"
        assert "private" not in (await inside.get("/internal/snapshot")).text


async def test_only_administrators_tokens_and_no_second_account_without_a_sandbox(stage: Stage) -> None:
    from ropewalk_core.errors import Conflict
    from ropewalk_core.model import Actor
    from ropewalk_hub.issuer.identity import IssuerIdentity

    stage.add("carol", active=False)
    alone = IssuerIdentity(stage.issuer, apart=lambda: False)
    with pytest.raises(Conflict, match="no working sandbox"):
        await alone.approve(Actor(account="alice", administrator=True), "carol")
    with pytest.raises(Denied):
        await stage.platform.identity.approve(Actor(account="bob"), "carol")
    with pytest.raises(NotApproved):
        await stage.platform.identity.token(Actor(account="carol", session="server:carol"), audience="api")


async def test_a_hub_without_its_database_is_not_taken_for_a_wrong_token(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def code(**answers: tuple[int, Any]) -> tuple[int, str]:
        platform = with_hub(stage, answers)
        ask = {"json": {"audience": "api"}, "headers": {"authorization": "token good"}}
        answer = await stage.machine().post("/api/v1/token", **ask)
        await platform.hub.close()
        return answer.status_code, answer.json()["code"]

    assert await code() == (401, "RW-SIGN-IN")
    assert await code(service=(403, {})) == (503, "RW-UNAVAILABLE")  # JupyterHub's answer to everybody
    full = {"message": "(sqlite3.OperationalError) database or disk is full"}
    assert await code(good=(500, full)) == (507, "RW-STORAGE-FULL")
    monkeypatch.setattr(hub_client, "_room", lambda folder: 0)
    assert await code() == (507, "RW-STORAGE-FULL")
