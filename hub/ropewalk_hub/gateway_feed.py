"""What the platform tells the gateway and hears from it: snapshots by long poll, and records of calls.

The gateway's cursor also tells a deploy that its route has arrived. Not here: HTTP (``internal.py``), the gateway's
side (``gateway/directory.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ropewalk_core.journal import Journal
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.services import KIND as SERVICE
from ropewalk_core.local.services import socket_path
from ropewalk_core.model import Call, Service, ServiceRoute, Snapshot
from ropewalk_core.settings import Settings
from ropewalk_hub.issuer import Issuer

PATIENCE = 4.0
"""Seconds a poll waits for news; with the way there and back a gateway is never more than 5 s behind."""


class GatewayFeed:
    """Builds snapshots.

    Parameters
    ----------
    settings, journal, issuer, functions
        Where their parts come from; ``functions`` is the backend itself, not its guard.
    """

    def __init__(self, settings: Settings, journal: Journal, issuer: Issuer, functions: LocalFunctions) -> None:
        self._settings, self._journal, self._issuer, self._functions = settings, journal, issuer, functions
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Answer polls that wait, and let no other wait: the process ends."""
        self._ending.set()

    async def snapshot(self, after: int | None) -> Snapshot:
        """Return the present snapshot; when the gateway has it already, wait for news or for `PATIENCE`."""
        if after is not None:
            self._functions.gateway_asked(after)
            if self._journal.cursor <= after and not self._ending.is_set():
                await self._news(after)
        cursor = self._journal.cursor  # read first: what comes meanwhile is in the next snapshot too
        return Snapshot(
            cursor=cursor,
            keys=self._issuer.keys.public(),
            accounts=self._issuer.accounts.rules(),
            ended_sessions=self._issuer.sessions.ended(),
            functions=self._functions.routes(),
            services=self._services(),
        )

    def record_calls(self, calls: Sequence[Call]) -> None:
        """Remember what the gateway reports."""
        self._functions.record_calls(calls)

    async def _news(self, after: int) -> None:
        waits = [
            asyncio.ensure_future(self._journal.wait(after, timeout=PATIENCE)),
            asyncio.ensure_future(self._ending.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _services(self) -> tuple[ServiceRoute, ...]:
        found = [Service.model_validate(one.body) for one in self._journal.page(SERVICE, limit=100_000)]
        return tuple(
            ServiceRoute(
                owner=one.owner,
                name=one.spec.name,
                socket=str(socket_path(self._settings, one.owner, one.spec.name)),
                state=one.status.state,
            )
            for one in found
        )
