"""Room: how much of the gateway's memory calls may take, each account's and all together.

A call is charged its payload before that is read, and a large answer beside that; both until the last byte has left.
Each account's first few small calls are always taken; any other payload without room is refused at once, as calls
beyond a pool's queue are. An answer waits, however long, for its call has run: in turn, the account that holds least
first. As payloads never wait and answers wait for answers only, nobody waits in a circle. An answer from a pod is
charged before it is read; one from a worker on this machine is here already, and keeps the worker from its next call
until there is room, so beside the room there is one at most for each call that workers run at the same time.
Not here: what calls are. Rejected: a bound on the number of calls (a thousand small ones are fine, fifty large ones are
not).
"""

from __future__ import annotations

import asyncio
import sys
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
FLOOR = 8
"""Calls of each account that are charged the least and have room whatever others hold."""


class Room:
    """The room for calls.

    Parameters
    ----------
    settings
        How large payloads and answers may be.
    """

    def __init__(self, settings: Settings) -> None:
        largest = settings.limits.payload + MAX_HEADER
        self._payloads = Share(_OF_ONE * largest, _OF_ALL * largest)
        self._answers = Share(_OF_ONE * largest, _OF_ALL * largest)
        self._floor = Share(FLOOR * SMALL, sys.maxsize)

    @contextmanager
    def call(self, owner: str, size: int) -> Iterator[Place]:
        """Keep room for a call of an account and its payload.

        Raises
        ------
        Limited
            If there is none.
        """
        charge = max(size, SMALL)
        shares = (self._floor, self._payloads) if charge == SMALL else (self._payloads,)
        share = next((one for one in shares if one.take(owner, charge)), None)
        if share is None:
            raise Limited("Too many calls, or too large ones, are under way already.", field="queue")
        place = Place(self._answers, owner)
        try:
            yield place
        finally:
            place.leave()
            share.give(owner, charge)


class Place:
    """The room of one call's answer."""

    def __init__(self, answers: Share, owner: str) -> None:
        self._answers, self._owner = answers, owner
        self._size = 0

    async def answer(self, size: int) -> None:
        """Wait for room for an answer."""
        if size > SMALL:
            await self._answers.wait(self._owner, size)
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
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []

    def take(self, owner: str, size: int) -> bool:
        """Take some and say whether they were there."""
        if size > self._left or not self._may(owner, size):
            return False
        self._held[owner] += size
        self._left -= size
        return True

    async def wait(self, owner: str, size: int) -> None:
        """Take some in turn: who holds least comes first, then who has waited longest."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((owner, size, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()
            else:
                self.give(owner, size)
            raise

    def give(self, owner: str, size: int) -> None:
        """Give some back."""
        self._left += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._serve()

    def _may(self, owner: str, size: int) -> bool:
        return self._held[owner] + size <= self._of_one

    def _serve(self) -> None:
        """Give to those who wait, until one whose turn it is does not fit; nobody overtakes that one."""
        self._waiting = [one for one in self._waiting if not one[2].done()]
        while able := [one for one in self._waiting if self._may(*one[:2])]:
            first = min(able, key=lambda one: self._held[one[0]])
            if not self.take(*first[:2]):
                return
            self._waiting.remove(first)
            first[2].set_result(None)
