"""What the platform tells the gateway and hears from it: snapshots by long poll, and records of calls.

The gateway's cursor also tells a deploy that its route has arrived. Not here: HTTP (``internal.py``), the gateway's
side (``gateway/directory.py``).
"""

from __future__ import annotations

import asyncio

from ropewalk_core.journal import Journal
from ropewalk_core.model import CallReport, Snapshot
from ropewalk_hub.backends import Traffic
from ropewalk_hub.issuer import Issuer
from ropewalk_workflows.records import RUN

PATIENCE = 4.0
"""Seconds a poll waits for news, which runs are not; with the way there and back a gateway is at most 5 s behind."""


class GatewayFeed:
    """Builds snapshots.

    Parameters
    ----------
    journal, issuer, traffic
        Where their parts come from; ``traffic`` is the backend's.
    """

    def __init__(self, journal: Journal, issuer: Issuer, traffic: Traffic) -> None:
        self._journal, self._issuer, self._traffic = journal, issuer, traffic
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Answer polls that wait, and let no other wait: the process ends."""
        self._ending.set()

    async def snapshot(self, after: int | None) -> Snapshot:
        """Return the present snapshot; when the gateway has it already, wait for news or for `PATIENCE`."""
        if after is not None:
            self._traffic.gateway_asked(after)
            if self._journal.newest(without=RUN) <= after and not self._ending.is_set():
                await self._news(after)
        cursor = self._journal.cursor  # read first: what comes meanwhile is in the next snapshot too
        return Snapshot(
            cursor=cursor,
            keys=self._issuer.keys.public(),
            accounts=self._issuer.accounts.rules(),
            ended_sessions=self._issuer.sessions.ended(),
            functions=self._traffic.functions(),
            services=self._traffic.services(),
        )

    def record_calls(self, report: CallReport) -> None:
        """Remember what the gateway reports."""
        self._traffic.record_calls(report)

    async def _news(self, after: int) -> None:
        waits = [
            asyncio.ensure_future(self._journal.wait(after, timeout=PATIENCE, without=RUN)),
            asyncio.ensure_future(self._ending.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
