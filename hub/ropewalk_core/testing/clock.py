"""A clock that tests move: sleeping costs no time. Not here: fakes of anything that could be real."""

from __future__ import annotations

import asyncio
import heapq


class SimulatedClock:
    """A `Clock` whose time jumps to the next sleeper as soon as everything else waits.

    Parameters
    ----------
    wall
        Unix time at the start.
    """

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._wall, self._steady, self._order = wall, 0.0, 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._mover: asyncio.Task[None] | None = None

    def wall(self) -> float:
        """Return the simulated Unix time."""
        return self._wall

    def steady(self) -> float:
        """Return the simulated seconds since the start."""
        return self._steady

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator or a bad time server does."""
        self._wall += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass and wake those whose time has come."""
        self._wall += seconds
        self._steady += seconds
        while self._sleepers and self._sleepers[0][0] <= self._steady:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait in simulated time."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._steady + seconds, self._order, future))
        if self._mover is None or self._mover.done():
            self._mover = asyncio.create_task(self._move())
        await future

    async def _move(self) -> None:
        """Jump to the next sleeper after letting everybody else run a few rounds."""
        while self._sleepers:
            for _ in range(20):
                await asyncio.sleep(0)
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if self._sleepers:
                self.advance(max(0.0, self._sleepers[0][0] - self._steady))
