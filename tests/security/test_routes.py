"""Every route says who may use it, and the anonymous get nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, WebSocketRoute

from ropewalk_hub.api.accounts import exchanging
from ropewalk_hub.argo_api.common import bearer
from ropewalk_hub.metrics import scraping
from ropewalk_hub.security import Public, administrator, signed
from tests.identity.stage import Stage, make

ASKS = {signed, administrator, exchanging, scraping, bearer}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    made.add("alice", administrator=True)
    made.add("bob")
    yield made
    await made.close()


@dataclass(frozen=True)
class Found:
    path: str
    methods: frozenset[str]
    dependant: Any
    public: str = ""


def walk(stage: Stage) -> list[Found]:
    """Every route that a request can reach, through routers within routers."""
    found: list[Found] = []
    waiting: list[Any] = list(stage.app.routes)
    while waiting:
        route = waiting.pop()
        if hasattr(route, "effective_candidates"):
            waiting.extend(route.effective_candidates())
            assert not route.effective_low_priority_routes()
            continue
        dependant = getattr(route, "dependant", None)
        assert dependant is not None, f"{route} is no ordinary route and needs a rule of its own"
        assert not isinstance(getattr(route, "original_route", route), Mount | WebSocketRoute)
        reasons = [call.reason for call in dependencies(dependant) if isinstance(call, Public)]
        found.append(Found(route.path, frozenset(route.methods), dependant, " ".join(reasons)))
    return found


def dependencies(dependant: Any) -> Iterator[Any]:
    for one in dependant.dependencies:
        yield one.call
        yield from dependencies(one)


def test_every_route_is_marked(stage: Stage) -> None:
    routes = walk(stage)
    unmarked = [
        one for one in routes if not one.public and not any(call in ASKS for call in dependencies(one.dependant))
    ]
    assert not unmarked
    assert {"/sign-in", "/oidc/token", "/door/open", "/people", "/api/v1/me", "/events"} <= {one.path for one in routes}
    assert len(routes) > 60


def test_argo_clients_are_asked_for_a_token_alone(stage: Stage) -> None:
    """No cookie says who asks there, and a token nowhere else only: each route has the one marker."""
    for one in walk(stage):
        markers = {call for call in dependencies(one.dependant) if call in ASKS}
        assert (markers == {bearer}) is (one.path == "/argo" or one.path.startswith("/argo/")), one.path


async def test_a_cookie_is_nobody_to_argo_clients(stage: Stage) -> None:
    alice = await stage.signed_in("alice")
    for path in ("api/v1/workflows/alice", "api/v1/userinfo", "artifacts/alice/a/b/c", "elsewhere"):
        answer = await alice.get(f"/argo/{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, 16), path
    assert (await alice.post("/argo/api/v1/workflows/alice", json={})).status_code == 401


def test_public_routes_say_why(stage: Stage) -> None:
    public = [one for one in walk(stage) if one.public]
    assert all(len(one.public) > 10 for one in public)
    # Whoever makes another one public changes this list, and thinks.
    assert {one.path for one in public} == {
        "/.well-known/openid-configuration",
        "/help/errors",
        "/oidc/authorize",
        "/oidc/end-session",
        "/oidc/jwks",
        "/oidc/revoke",
        "/oidc/token",
        "/oidc/userinfo",
        "/first/{code}",
        "/sign-in",
        "/sign-out",
        "/sign-up",
        "/static/{name}",
        "/api/v1/openapi.json",
        "/api/v1/signed/{token}",
    }


async def test_the_anonymous_are_sent_away_everywhere(stage: Stage) -> None:
    browser = stage.browser(accept="application/json")
    for route in walk(stage):
        if route.public:
            continue
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        for method in route.methods:
            answer = await browser.request(method, path)
            assert answer.status_code in (401, 403), (method, path, answer.status_code, answer.text[:200])
            assert "location" not in answer.headers


async def test_pages_send_the_anonymous_to_the_sign_in(stage: Stage) -> None:
    for path in ("/", "/notebooks", "/services", "/functions", "/workflows", "/people", "/account"):
        answer = await stage.browser().get(path)
        assert (answer.status_code, answer.headers["location"][:14]) == (303, "/sign-in?next=")


async def test_administrators_pages_refuse_others(stage: Stage) -> None:
    bob = await stage.signed_in("bob")
    for method, path in [
        ("GET", "/people"),
        ("POST", "/people/bob/approve"),
        ("POST", "/people/alice/deactivate"),
        ("GET", "/api/v1/accounts"),
        ("POST", "/api/v1/accounts/alice/deactivate"),
    ]:
        answer = await bob.request(method, path)
        assert answer.status_code == 403, path
    assert stage.issuer.accounts.get("alice").state == "active"


async def test_another_persons_things_do_not_exist(stage: Stage) -> None:
    bob = await stage.signed_in("bob")
    for path in ("notebooks/alice", "services/alice", "functions/alice", "workflows/alice", "files/alice/"):
        answer = await bob.get(f"/api/v1/{path}", headers={"accept": "application/json"})
        assert answer.status_code == 404, path


async def test_no_page_describes_the_interface_to_the_anonymous_but_the_published_one(stage: Stage) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/internal/ready", "/internal/token", "/metrics"):
        assert (await stage.browser().get(path)).status_code in (404, 303), path
