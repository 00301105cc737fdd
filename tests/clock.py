"""A clock that tests move by hand, and over which every sleep jumps."""

from __future__ import annotations

import asyncio


class Hands:
    """A `Clock` at so many seconds; who sleeps lets others go on first."""

    def __init__(self, now: float = 1_800_000_030.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def steady(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0.001)
