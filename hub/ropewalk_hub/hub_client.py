"""The one place that speaks JupyterHub's REST interface, as the platform's own service or with a person's token.

Everything becomes one of our errors: a hub that is away is `Unavailable`. Not here: what a notebook's state means
(``notebooks.py``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from ropewalk_core.errors import Internal, Limited, NotFound, RopewalkError, StorageFull, Unauthenticated, Unavailable

_ROOM = 2**20
_MAKE_ROOM = "Ask your administrator to make room on the disk of the platform's home; your files are as they were."
_SAME_START = 60.0
"""Seconds within which a server's token is made and the server is said to have started."""
RESTART = "Stop your notebook on the Notebooks page, and start it again."
AWAY = "JupyterHub does not answer; it is being restarted."


class HubClient:
    """JupyterHub's REST interface.

    Parameters
    ----------
    url
        Base URL on the loopback address.
    token
        The platform's service token.
    folder
        Where the hub's database is; to say of a full disk that it is full.
    host
        The name people use, sent as Host.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        host: str,
        folder: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._folder = folder
        self._http = httpx.AsyncClient(
            base_url=f"{url}/hub/api",
            headers={"Authorization": f"token {token}", "Host": host},
            timeout=httpx.Timeout(10.0),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def answers(self) -> bool:
        """Say whether the hub is there."""
        try:
            return (await self._http.get("/", timeout=1.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def user(self, name: str) -> dict[str, Any] | None:
        """Return a user's model, None before their first sign-in to the hub."""
        try:
            model: dict[str, Any] = await self._json("GET", f"/users/{quote(name, safe='')}")
            return model
        except NotFound:
            return None

    async def users(self) -> list[dict[str, Any]]:
        """Return all users."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self._json("GET", f"/users?limit=200&offset={len(found)}")
            found.extend(page)
            if len(page) < 200:
                return found

    async def ensure_user(self, name: str) -> None:
        """Make the hub know a person."""
        response = await self._send("POST", f"/users/{quote(name, safe='')}", None)
        if response.status_code not in (201, 409):
            raise _error(response)

    async def start(self, name: str, options: dict[str, Any]) -> bool:
        """Ask for the user's server; True when it runs already."""
        response = await self._send("POST", f"/users/{quote(name, safe='')}/server", options)
        if response.status_code in (201, 202):
            return False
        if response.status_code == 400 and "already" in response.text:
            return True
        raise _error(response)

    async def stop(self, name: str) -> None:
        """Ask for the user's server to stop; one that is stopped is stopped already."""
        response = await self._send("DELETE", f"/users/{quote(name, safe='')}/server", None)
        if response.status_code not in (202, 204, 400, 404):
            raise _error(response)

    async def end_browser_tokens(self, name: str) -> None:
        """Revoke every token that the hub gave for this user; only the running server's own one stays."""
        path = f"/users/{quote(name, safe='')}/tokens"
        try:
            listed = await self._json("GET", path)
        except NotFound:
            return
        tokens = listed.get("api_tokens", [])
        own = _token_of_server(tokens, await self.user(name))
        for token in tokens:
            if token["id"] != own:
                response = await self._send("DELETE", f"{path}/{quote(str(token['id']), safe='')}", None)
                if response.status_code not in (204, 404):
                    raise _error(response)

    async def whose(self, token: str) -> dict[str, Any]:
        """Return the model of whoever a hub token belongs to, or raise `Unauthenticated`."""
        response = await self._send("GET", "/user", None, headers={"Authorization": f"token {token}"})
        if response.status_code in (401, 403, 404):
            await self._check_well()
            raise Unauthenticated("The hub does not know this token.", hint=RESTART)
        if response.status_code != 200:
            raise _error(response)
        model: dict[str, Any] = response.json()
        return model

    async def _check_well(self) -> None:
        """Raise if the hub refuses everybody: it answers 403 to a good token when its database cannot be written.

        Raises
        ------
        StorageFull, Unavailable
            If its disk is full, or it does not know our own token either.
        """
        if self._folder is not None and _room(self._folder) < _ROOM:
            raise StorageFull("The disk of the platform is full, so JupyterHub cannot tell who asks.", hint=_MAKE_ROOM)
        response = await self._send("GET", "/user", None)
        if response.status_code in (401, 403, 404):
            raise Unavailable("JupyterHub refuses everybody; it cannot use its database.")

    async def progress(self, name: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the hub's words while a server starts."""
        path = f"/users/{quote(name, safe='')}/server/progress"
        try:
            async with self._http.stream("GET", path, timeout=httpx.Timeout(10.0, read=120.0)) as response:
                if response.status_code != 200:
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
        except httpx.HTTPError as error:
            raise Unavailable(AWAY) from error

    async def _json(self, method: str, path: str) -> Any:
        response = await self._send(method, path, None)
        if response.status_code != 200:
            raise _error(response)
        return response.json()

    async def _send(
        self, method: str, path: str, body: Any, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(AWAY) from error


def _room(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _token_of_server(tokens: list[dict[str, Any]], user: dict[str, Any] | None) -> str | None:
    """Return which token the hub made when it started the user's server.

    Its note alone says nothing: people make tokens with any note. Its time does: it was made as the server started.
    """
    server = ((user or {}).get("servers") or {}).get("") or {}
    started = _time(server.get("started"))
    if started is None:
        return None
    near = []
    for token in tokens:
        created = _time(token.get("created"))
        if created is not None and str(token.get("note") or "").startswith("Server at "):
            near.append((abs(created - started), str(token["id"])))
    distance, found = min(near, default=(_SAME_START, ""))
    return found if distance < _SAME_START else None


def _time(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _error(response: httpx.Response) -> RopewalkError:
    try:
        message = str(response.json().get("message", ""))
    except (ValueError, AttributeError):
        message = ""
    if response.status_code >= 500 and "disk is full" in message:
        return StorageFull("The disk of the platform is full, so JupyterHub can change nothing.", hint=_MAKE_ROOM)
    if response.status_code == 404:
        return NotFound(message or "The hub does not know this.")
    if response.status_code == 429:
        wait = response.headers.get("retry-after", "30")
        return Limited("Too many servers start at once.", retry_after=float(wait) if wait.isdecimal() else 30.0)
    if response.status_code >= 500 and message:
        return Unavailable(f"The notebook server could not be changed: {message[:300]}")
    return Internal(f"The hub answered {response.status_code}: {message[:300]}")
