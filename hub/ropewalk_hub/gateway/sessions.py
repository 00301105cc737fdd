"""Browsers on people's hosts: a session of the gateway's own, got from the platform's door with a one-time code.

The cookie is host-only and HttpOnly; the session ends with the sign-in that it came from, because the snapshot is
asked at each use. Sessions are kept in memory: after a restart the browser is sent through the door again, which its
owner does not see. Not here: who may sign in (the platform's door). Rejected: a cookie for the parent domain, which
every service could read and set.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import web

from ropewalk_core.errors import Denied, Unauthenticated
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.tokens import Caller

COOKIE = "ropewalk-door"
STATE = "ropewalk-door-state"
CALLBACK = "/_ropewalk/door"
_MOST = 10_000
_STATE_LIFE = 300


@dataclass(frozen=True)
class BrowserSession:
    """A signed-in browser on one host."""

    host: str
    caller: Caller


class Sessions:
    """The browsers that are signed in on people's hosts.

    Parameters
    ----------
    settings
        The door's addresses.
    directory
        Says which sign-ins have ended, and reaches the platform.
    """

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._door = settings.door
        self._life = settings.accounts.session
        self._directory = directory
        self._sessions: dict[str, BrowserSession] = {}

    def caller(self, request: web.Request) -> Caller | None:
        """Return who is signed in on this host in this browser, or None."""
        key = request.cookies.get(COOKIE, "")
        session = self._sessions.get(key)
        if session is None or session.host != request.host.lower():
            return None
        if not self.alive(session.caller):
            del self._sessions[key]
            return None
        return session.caller

    def alive(self, caller: Caller) -> bool:
        """Say whether the sign-in still counts."""
        return caller.ends > time.time() and self._directory.alive(
            caller.account, caller.subject, caller.session, caller.epoch
        )

    def to_door(self, request: web.Request) -> web.Response:
        """Send the browser to the platform's door, with the way back."""
        state = secrets.token_urlsafe(24)
        here = quote(request.path_qs, safe="")
        target = f"{self._door.origin}/door/open?host={quote(request.host.lower(), safe='')}&next={here}&state={state}"
        response = web.Response(status=302, headers={"Location": target, "Cache-Control": "no-store"})
        self._set(response, STATE, state, CALLBACK, _STATE_LIFE)
        return response

    async def from_door(self, request: web.Request) -> web.Response:
        """Exchange the one-time code, and open a session.

        Raises
        ------
        Unauthenticated
            If code and state do not belong to this browser and host.
        """
        state, code = request.cookies.get(STATE, ""), request.query.get("code", "")
        if not state or not code:
            raise Unauthenticated("This sign-in was not started in this browser.", hint="Open the address again.")
        host = request.host.lower()
        try:
            facts: Any = await self._directory.ask(
                "POST", "/internal/door", {"code": code[:200], "host": host, "state": state[:200]}
            )
        except (Unauthenticated, Denied) as error:
            raise Unauthenticated("The sign-in took too long.", hint="Open the address again.") from error
        key = secrets.token_urlsafe(32)
        ends = time.time() + self._life
        caller = Caller(
            account=str(facts["account"]),
            subject=str(facts["subject"]),
            session=str(facts["sid"]),
            epoch=int(facts.get("epoch", 0)),
            ends=ends,
        )
        if len(self._sessions) >= _MOST:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[key] = BrowserSession(host, caller)
        where = _local_path(request.query.get("next", "/"))
        response = web.Response(status=302, headers={"Location": where, "Cache-Control": "no-store"})
        self._set(response, COOKIE, key, "/", int(self._life))
        response.del_cookie(STATE, path=CALLBACK)
        return response

    async def sweep(self) -> None:
        """Forget sessions that ended, for ever."""
        while True:
            await asyncio.sleep(60)
            for key in [key for key, one in self._sessions.items() if not self.alive(one.caller)]:
                del self._sessions[key]

    def _set(self, response: web.Response, name: str, value: str, path: str, life: int) -> None:
        secure = self._door.scheme == "https"
        response.set_cookie(name, value, path=path, max_age=life, httponly=True, samesite="Lax", secure=secure)


def wants_page(request: web.Request) -> bool:
    """Say whether a browser's window asks, rather than a script or a program."""
    if request.method != "GET" or request.headers.get("Upgrade"):
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode else "text/html" in request.headers.get("Accept", "")


def own_origin(request: web.Request, scheme: str) -> str:
    """Return this host's origin as its own pages write it."""
    return f"{scheme}://{request.host.lower()}"


def check_origin(request: web.Request, scheme: str, *, strict: bool) -> None:
    """Refuse what another page sends with this browser's cookie.

    Parameters
    ----------
    request
        The request that came with a cookie.
    scheme
        The door's.
    strict
        Whether a missing Origin is refused even from a browser that says "same-origin" (websockets always send it).

    Raises
    ------
    Denied
        If it did not come from this host's own pages.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        if origin.lower() != own_origin(request, scheme):
            raise Denied("The request came from another page.", hint="Open the service at its own address.")
    elif strict or request.headers.get("Sec-Fetch-Site") not in ("same-origin", "none"):
        raise Denied("The request does not say which page it came from.", hint="Use a current browser.")


def _local_path(text: str) -> str:
    """Return a path on this host, never another address."""
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or not text.startswith("/") or text.startswith(("//", "/\\")):
        return "/"
    return text if text.isprintable() else "/"
