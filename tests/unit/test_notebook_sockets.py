"""Who is believed while the hub is away, which open connections are closed, and that looking at them never ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import traitlets
from jupyterhub.services import auth
from jupyterhub.singleuser.extension import JupyterHubIdentityProvider
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler
from traitlets.config import Config

from ropewalk_hub import notebook_sockets
from ropewalk_hub.notebook_sockets import LastingIdentity, PatientAuth


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


class Answer:
    """What the hub answers over HTTP."""

    def __init__(self, status: int, text: str = "{}") -> None:
        self.status, self._text = status, text

    async def text(self) -> str:
        return self._text

    async def json(self) -> Any:
        return json.loads(self._text)


class Visits:
    """Visits of one person to a notebook server; each asks the hub, whose next answer is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.auth = PatientAuth(api_token="own", api_url="http://hub.test/hub/api", cache_max_age=20)
        self.clock, self.asked, self._monkeypatch = 1000.0, 0, monkeypatch
        monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: self.clock))

    async def come(self, answer: Answer | Exception, *, token: str = "browser", use_cache: bool = True) -> Any:
        async def fetch(url: str, **keywords: Any) -> Answer:
            self.asked += 1
            if isinstance(answer, Exception):
                raise answer
            return answer

        self._monkeypatch.setattr(auth, "fetch", fetch)
        return await self.auth.user_for_token(token, use_cache=use_cache, sync=False)


KNOWN, REFUSED = Answer(200, json.dumps(ADA)), ConnectionRefusedError()


@pytest.mark.parametrize("away", [REFUSED, TimeoutError(), Answer(502), Answer(503), Answer(504)])
async def test_a_hub_that_is_away_is_believed_for_two_minutes(
    monkeypatch: pytest.MonkeyPatch, away: Answer | Exception
) -> None:
    visits = Visits(monkeypatch)
    assert await visits.come(KNOWN) == ADA
    for _ in range(4):
        visits.clock += 21
        assert await visits.come(away) == ADA
        asked = visits.asked
        assert await visits.come(away) == ADA and visits.asked == asked
    with pytest.raises(HTTPError):  # somebody whom the hub never knew
        await visits.come(away, token="stranger")
    with pytest.raises(HTTPError):  # and a look at open connections is told that the hub is away
        await visits.come(away, use_cache=False)
    visits.clock += 42
    with pytest.raises(HTTPError):
        await visits.come(away)


@pytest.mark.parametrize("no", [Answer(403), Answer(404), Answer(400)])
async def test_a_hub_that_says_no_is_heeded(monkeypatch: pytest.MonkeyPatch, no: Answer) -> None:
    visits = Visits(monkeypatch)
    assert await visits.come(KNOWN) == ADA
    visits.clock += 21
    assert await visits.come(REFUSED) == ADA
    visits.clock += 21
    with contextlib.suppress(HTTPError):
        assert await visits.come(no) is None
    visits.clock += 21
    with contextlib.suppress(HTTPError):
        assert await visits.come(REFUSED) is None  # nor is it believed later what it said before


def test_the_server_asks_the_hub_in_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "own")
    made = LastingIdentity(config=Config(HubOAuth={"cache_max_age": 20})).hub_auth
    assert isinstance(made, PatientAuth) and made.cache.max_age == 20
