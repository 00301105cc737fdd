"""What the gateway knows: the platform's last snapshot, polled from its socket, and looked up by name.

Until the first snapshot nothing is answered; after it the last one stays in force, however long the platform is away.
Not here: judging tokens (``tokens``). Rejected: asking the platform for each call.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
from pydantic import ValidationError

from ropewalk_core.errors import RopewalkError, Unavailable, from_problem
from ropewalk_core.model import AccountRule, FunctionRoute, ServiceRoute, Snapshot
from ropewalk_core.settings import Settings

log = logging.getLogger("ropewalk.gateway")
_POLL = 15.0


class Directory:
    """The last snapshot, indexed.

    Parameters
    ----------
    settings
        Where the platform's socket is.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = str(settings.run / "gateway" / "platform.sock")
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._snapshot: Snapshot | None = None
        self._functions: dict[tuple[str, str], FunctionRoute] = {}
        self._services: dict[tuple[str, str], ServiceRoute] = {}
        self._ended: frozenset[str] = frozenset()
        self._changed: list[Callable[[], None]] = []
        self.keys: dict[str, Any] = {}

    @property
    def known(self) -> bool:
        """Whether there is a snapshot at all."""
        return self._snapshot is not None

    def on_change(self, call: Callable[[], None]) -> None:
        """Call this after each new snapshot."""
        self._changed.append(call)

    def function(self, owner: str, name: str) -> FunctionRoute | None:
        """Return the route of a function, if there is one."""
        return self._functions.get((owner, name))

    def service(self, owner: str, name: str) -> ServiceRoute | None:
        """Return the route of a service, if there is one."""
        return self._services.get((owner, name))

    def functions(self) -> dict[tuple[str, str], FunctionRoute]:
        """Return all routes of functions."""
        return self._functions

    def alive(self, account: str, subject: str, session: str, epoch: int) -> bool:
        """Say whether what was once signed or opened still counts."""
        rule = self._rule(account)
        if rule is None or not rule.active or rule.subject != subject or epoch < rule.epoch:
            return False
        return session not in self._ended

    def active(self, account: str) -> bool:
        """Say whether anything may run for an account."""
        rule = self._rule(account)
        return rule is not None and rule.active

    def take(self, snapshot: Snapshot) -> None:
        """Put a new snapshot in force."""
        self._snapshot = snapshot
        self._functions = {(one.owner, one.name): one for one in snapshot.functions}
        self._services = {(one.owner, one.name): one for one in snapshot.services}
        self._ended = frozenset(snapshot.ended_sessions)
        self.keys = snapshot.keys
        for call in self._changed:
            call()

    async def follow(self) -> None:
        """Poll for ever."""
        pause = 0.05
        while True:
            try:
                await self._poll()
                pause = 0.05
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, RopewalkError) as error:
                if pause >= 1.0:
                    log.warning("the platform is away: %s", error)
                pause = min(1.0, pause * 2)
                await asyncio.sleep(pause)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request to the platform and return its JSON.

        Raises
        ------
        RopewalkError
            What the platform refused with, or `Unavailable`.
        """
        try:
            async with self._http().request(
                method, f"http://platform{path}", json=body, timeout=aiohttp.ClientTimeout(total=_POLL)
            ) as response:
                data = await response.json(content_type=None) if response.status != 204 else None
                if response.status >= 400:
                    raise from_problem(data if isinstance(data, dict) else {})
                return data
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable("The platform is being restarted.") from error

    async def exchange(
        self, method: str, path: str, content: bytes = b"", *, wait: float = 0.0, apart: bool = False
    ) -> bytes:
        """Send one request whose body and answer are JSON as bytes; ``wait`` is what the platform may wait by itself.

        ``apart`` is for what people wait for: it takes no connection from snapshots and from the gateway's own work.

        Raises
        ------
        RopewalkError
            What the platform refused with, or `Unavailable`.
        """
        timeout = aiohttp.ClientTimeout(total=_POLL + wait)
        try:
            async with self._http(apart).request(
                method,
                f"http://platform{path}",
                data=content,
                timeout=timeout,
                headers={"Content-Type": "application/json"},
            ) as response:
                body = await response.read()
                if response.status >= 400:
                    facts = json.loads(body)
                    raise from_problem(facts if isinstance(facts, dict) else {})
                return body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable("The platform is being restarted.") from error

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()

    async def _poll(self) -> None:
        cursor = self._snapshot.cursor if self._snapshot is not None else ""
        data = await self.ask("GET", f"/internal/snapshot?after={cursor}")
        if data is not None:
            self.take(Snapshot.model_validate(data))

    def _rule(self, account: str) -> AccountRule | None:
        return self._snapshot.accounts.get(account) if self._snapshot is not None else None

    def _http(self, apart: bool = False) -> aiohttp.ClientSession:
        if apart not in self._sessions or self._sessions[apart].closed:
            connector = aiohttp.UnixConnector(path=self._path)
            self._sessions[apart] = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._sessions[apart]
