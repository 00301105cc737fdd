"""Room: how much of the gateway's memory calls may take, each account's and all together.

A call is charged its payload before that is read, and its answer before that is read or sent; both until the last
byte has left. A payload without room is refused at once, as calls beyond a pool's queue are; an answer waits a while,
for its call has run. As payloads never wait and answers wait for answers only, nobody waits in a circle. Not here:
what calls are. Rejected: a bound on the number of calls (a thousand small ones are fine, fifty large ones are not).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ropewalk_core.errors import Limited
from ropewalk_core.settings import Settings
from ropewalk_runtime.frames import MAX_HEADER

SMALL = 128 * 2**10
"""Bytes that every call is charged at least, whatever it carries; an answer up to this size is paid with it."""
_OF_ONE, _OF_ALL = 3, 5
"""How many of the largest payloads, and as many of the largest answers, are here at the same time. With copies that are
on their way, five of 32 MiB took 0.7 GiB; on a cluster there is 1."""
_PATIENCE = 30.0


class Room:
    """The room for calls.

    Parameters
    ----------
    settings
        How large payloads and answers may be.
    patience
        Seconds that an answer waits for room.
    """

    def __init__(self, settings: Settings, patience: float = _PATIENCE) -> None:
        largest = settings.limits.payload + MAX_HEADER
        self._payloads = Share(_OF_ONE * largest, _OF_ALL * largest)
        self._answers = Share(_OF_ONE * largest, _OF_ALL * largest)
        self._patience = patience

    @contextmanager
    def call(self, owner: str, size: int) -> Iterator[Place]:
        """Keep room for a call of an account and its payload.

        Raises
        ------
        Limited
            If there is none.
        """
        charge = max(size, SMALL)
        if not self._payloads.take(owner, charge):
            raise Limited("Too many calls, or too large ones, are under way already.", field="queue")
        place = Place(self._answers, owner, self._patience)
        try:
            yield place
        finally:
            place.leave()
            self._payloads.give(owner, charge)


class Place:
    """The room of one call's answer."""

    def __init__(self, answers: Share, owner: str, patience: float) -> None:
        self._answers, self._owner, self._patience = answers, owner, patience
        self._size = 0

    async def answer(self, size: int) -> None:
        """Wait for room for an answer.

        Raises
        ------
        Limited
            If none came.
        """
        if size <= SMALL:
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._answers.wait(self._owner, size)
        except TimeoutError:
            raise Limited(
                "Too many large answers wait to be read already.",
                field="queue",
                hint="It has run. Read the answers of other calls, then call again if it may run twice.",
                details={"wait": False},
            ) from None
        self._size += size

    def leave(self) -> None:
        """Give the room back."""
        self._answers.give(self._owner, self._size)
        self._size = 0


class Share:
    """Bytes of memory, a part of them for one account at most.

    Parameters
    ----------
    of_one, of_all
        The most that one account and all together may have.
    """

    def __init__(self, of_one: int, of_all: int) -> None:
        self._of_one, self._left = of_one, of_all
        self._held: Counter[str] = Counter()
        self._news = asyncio.Event()

    def take(self, owner: str, size: int) -> bool:
        """Take some and say whether they were there."""
        if size > self._left or self._held[owner] + size > self._of_one:
            return False
        self._held[owner] += size
        self._left -= size
        return True

    async def wait(self, owner: str, size: int) -> None:
        """Take some as soon as they are there."""
        while not self.take(owner, size):
            self._news.clear()
            await self._news.wait()

    def give(self, owner: str, size: int) -> None:
        """Give some back."""
        self._left += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._news.set()
