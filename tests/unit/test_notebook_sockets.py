"""Which open connections of a notebook server are closed, and that looking at them never ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import pytest
import traitlets
from jupyterhub.singleuser.extension import JupyterHubIdentityProvider
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

from ropewalk_hub import notebook_sockets
from ropewalk_hub.notebook_sockets import LastingIdentity


class Socket(WebSocketHandler):
    """An open connection, without one."""

    def __init__(self, token: str) -> None:
        self.token, self.closed = token, asyncio.Event()
        self.ws_connection = cast(Any, object())

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        assert code == 1008
        self.ws_connection = None
        self.closed.set()


class Hub:
    """What the hub says of each token; an exception is raised."""

    api_token = "own"

    def __init__(self, **says: Any) -> None:
        self.says = says

    def get_token(self, handler: Socket) -> str:
        return handler.token

    async def user_for_token(self, token: str, *, use_cache: bool, sync: bool) -> Any:
        assert not use_cache and not sync
        said = self.says.get(token)
        if isinstance(said, Exception):
            raise said
        return said


class Identity(LastingIdentity):
    hub_auth = traitlets.Any()


ADA = {"name": "ada"}
AWAY = HTTPError(502)


@pytest.mark.parametrize(
    ("token", "says", "closed"),
    [
        ("browser", {"browser": ADA, "own": ADA}, False),
        ("browser", {"own": ADA}, True),
        ("", {"own": ADA}, True),
        ("own", {}, False),
        ("browser", {}, False),  # the hub refuses everybody
        ("browser", {"browser": AWAY, "own": AWAY}, False),
        ("browser", {"own": AWAY}, False),
    ],
)
async def test_only_a_connection_whose_sign_in_has_ended_is_closed(token: str, says: Any, closed: bool) -> None:
    identity, socket = Identity(hub_auth=Hub(**says)), Socket(token)
    identity._open.add(socket)
    await identity.look()
    assert socket.closed.is_set() is closed


async def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get_user(identity: Any, handler: Any) -> Any:
        return ADA

    monkeypatch.setattr(JupyterHubIdentityProvider, "get_user", get_user)
    monkeypatch.setattr(notebook_sockets, "EVERY", 0)
    hub = Hub(browser=ValueError("half of an answer"), own=ADA)
    identity, socket = Identity(hub_auth=hub), Socket("browser")
    assert await identity.get_user(socket) == ADA
    for _ in range(10):
        await asyncio.sleep(0)
    del hub.says["browser"]
    async with asyncio.timeout(20):
        await socket.closed.wait()
    looking = identity._looking
    assert looking is not None
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
