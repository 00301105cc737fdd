"""Where a client's token comes from, and when it takes a fresh one.

Inside a notebook the hub's token is exchanged for a ten-minute one; outside, the home's own user asks the platform over
``run/platform.sock``. Nobody pastes a token. Not here: what a token says (the issuer) and who checks it.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from ropewalk_core.errors import Unauthenticated, Unavailable, from_problem

EARLY = 60.0
"""Seconds before its end at which a token is renewed."""


@dataclass(frozen=True)
class Token:
    """A bearer token, its end, whose it is, and the address of the platform if the giver said so."""

    text: str
    expires: float
    account: str = ""
    api: str = ""
    host: str = ""


class TokenSource(Protocol):
    """Gives a fresh token for an audience."""

    async def fetch(self, audience: str) -> Token:
        """Return a fresh token, or raise `Unauthenticated` or `Unavailable`."""


@dataclass(frozen=True)
class FixedToken:
    """One token that somebody else renews; for tests and for scripts that were handed one."""

    text: str
    account: str = ""

    async def fetch(self, audience: str) -> Token:
        """Return the one token."""
        return Token(self.text, time.time() + 365 * 86400.0, self.account)


class HubToken:
    """Exchanges a notebook server's own hub token at ``POST /api/v1/token``."""

    def __init__(
        self, api: str, hub_token: str, *, host: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._api, self._hub_token, self._host, self._transport = api, hub_token, host, transport

    async def fetch(self, audience: str) -> Token:
        """Return a fresh token for the audience."""
        headers = {"Authorization": f"token {self._hub_token}"} | ({"Host": self._host} if self._host else {})
        async with httpx.AsyncClient(transport=self._transport, trust_env=False, timeout=10.0) as http:
            return _token(await _post(http, f"{self._api}/api/v1/token", {"audience": audience}, headers))


class HomeToken:
    """Asks the platform of a home over its socket, which only the home's own user can open."""

    def __init__(self, socket: Path, account: str = "") -> None:
        self._socket, self._account = socket, account

    async def fetch(self, audience: str) -> Token:
        """Return a fresh token for the audience."""
        if not self._socket.exists() and not held(self._socket.parent.parent / "lock"):
            raise Unavailable(
                "No platform runs in this home.",
                hint="Start it with `ropewalk up`, or name its folder with --home.",
                details={"wait": False},
            )
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        body = {"account": self._account, "audience": audience}
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=10.0) as http:
            return _token(await _post(http, "http://platform/internal/token", body, {}))


class NoToken:
    """For code that runs where there is no identity, such as a step: every request says so."""

    async def fetch(self, audience: str) -> Token:
        """Refuse."""
        raise Unauthenticated(
            "This code runs without an identity, so it cannot ask the platform.",
            hint="Do this from the notebook and pass the result in.",
        )


class Tokens:
    """Keeps one token per audience and renews it early; simultaneous requests share one renewal."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._have: dict[str, Token] = {}
        self._lock = asyncio.Lock()

    async def get(self, audience: str = "api", *, stale: str = "") -> Token:
        """Return a token that is good for a minute or more; ``stale`` is one that was refused."""
        if have := self._good(audience, stale):
            return have
        async with self._lock:
            if have := self._good(audience, stale):
                return have
            fresh = self._have[audience] = await self._source.fetch(audience)
            return fresh

    def _good(self, audience: str, stale: str) -> Token | None:
        have = self._have.get(audience)
        return have if have and have.text != stale and have.expires - EARLY > time.time() else None


def held(lock: Path) -> bool:
    """Say whether `ropewalk up` holds the home, so that its platform is there or comes back."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


async def _post(http: httpx.AsyncClient, url: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    try:
        response = await http.post(url, json=body, headers=headers)
    except httpx.TransportError as error:
        raise Unavailable(f"The platform does not answer ({type(error).__name__}).") from error
    try:
        answer: dict[str, Any] = response.json()
    except ValueError as error:
        raise Unavailable(f"The platform does not answer yet ({response.status_code}).") from error
    if response.is_error:
        raise from_problem(answer)
    return answer


def _token(answer: dict[str, Any]) -> Token:
    return Token(
        answer["token"],
        float(answer["expires"]),
        answer.get("account", ""),
        answer.get("api", ""),
        answer.get("host", ""),
    )
