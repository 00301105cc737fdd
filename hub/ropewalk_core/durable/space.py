"""How much of the journal each account's durable calls take, and whether more fits.

Counted by looking when somebody asks, and from then on by what changes; it is counted anew where nothing seems to fit,
because calls may have expired. Not here: what a call is, and what becomes of one that does not fit. Rejected: looking
through all that is kept at the start of the platform, or at each call.
"""

from __future__ import annotations

import asyncio

from ropewalk_core.durable import shelves
from ropewalk_core.errors import StorageFull
from ropewalk_core.journal import Journal
from ropewalk_core.model import DurableCall, State
from ropewalk_core.ports import Clock

_RECOUNT = 10.0
"""Seconds between two counts of what one account has."""


class Space:
    """What is taken, by account.

    Parameters
    ----------
    journal, clock
        Where calls are kept, time.
    limit
        Bytes that one account's calls may take.
    """

    def __init__(self, journal: Journal, clock: Clock, limit: int) -> None:
        self._journal, self._clock, self._limit = journal, clock, limit
        self.used: dict[str, int] = {}
        """Of those who asked for space; all that is kept is never looked through."""
        self._counted: dict[str, float] = {}
        self._counting = asyncio.Lock()

    def charge(self, owner: str, weight: int) -> None:
        """Note that an account's calls take so much more, or less."""
        if owner in self.used:
            self.used[owner] = max(0, self.used[owner] + weight)

    async def fits(self, owner: str, weight: int) -> bool:
        """Say whether an account's calls may take so much more, counting anew when they do not seem to."""
        if not self.surely(owner, weight):
            await self._count(owner)
        return self.surely(owner, weight)

    def surely(self, owner: str, weight: int) -> bool:
        """Say whether it is known, without a look, that so much more fits."""
        return owner in self.used and self.used[owner] + weight <= self._limit

    async def _count(self, owner: str) -> None:
        async with self._counting:
            now = self._clock.steady()
            if owner not in self.used or now - self._counted[owner] > _RECOUNT:
                self.used[owner] = await asyncio.to_thread(shelves.used, self._journal, owner)
                self._counted[owner] = now

    def full(self) -> StorageFull:
        """Return the refusal of what does not fit."""
        return StorageFull(
            f"Your durable calls and their results take all of the {self._limit} bytes that they may.",
            field="limits.durable_bytes",
            hint="Forget those that you do not need (`ropewalk durable forget`), or wait until the oldest are.",
        )


def weight(call: DurableCall) -> int:
    """Return how much of the journal a call takes: a traceback in its record is more than any other record holds."""
    arguments = 0 if call.status.state in (State.DONE, State.STOPPED) else call.size
    return shelves.CHARGE + arguments + (call.result or 0) + shelves.beyond(call.problem)
