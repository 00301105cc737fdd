"""Who is next for a worker: each caller's calls in the order in which they came, and the callers in turn. Pure.

So whoever sends a thousand calls of a shared function makes others wait for one of them and not for all. When the queue
is full, who has only a few calls in it may still wait. Not here: workers (``pool``), and how much memory calls may take
(``room``). Rejected: one line for all (who floods is nearly all of it).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
QUEUE = 100
"""Calls of one function that may wait for a worker; further ones are refused."""
FLOOR = 8
"""Calls of each caller that may wait however many others do."""


class Turns(Generic[T]):
    """The calls that wait; each is a future that becomes a worker."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[asyncio.Future[T]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[asyncio.Future[T]]:
        for line in self._lines.values():
            yield from line

    def add(self, caller: str, waiting: asyncio.Future[T]) -> bool:
        """Let a call wait, and say whether there was room for it."""
        line = self._lines.get(caller, ())
        if self._count >= QUEUE and len(line) >= FLOOR:
            return False
        self._lines.setdefault(caller, deque()).append(waiting)
        self._count += 1
        return True

    def remove(self, caller: str, waiting: asyncio.Future[T]) -> bool:
        """Take a call out that waits no longer, and say whether it was there."""
        line = self._lines.get(caller)
        if line is None or waiting not in line:
            return False
        line.remove(waiting)
        self._count -= 1
        if not line:
            del self._lines[caller]
        return True

    def next(self) -> asyncio.Future[T] | None:
        """Take out the call whose turn it is, and put its caller behind all others; None if nobody waits."""
        while self._lines:
            caller, line = next(iter(self._lines.items()))
            waiting = line.popleft()
            self._count -= 1
            if waiting.done():  # who asked left; that was nobody's turn
                if not line:
                    del self._lines[caller]
                continue
            del self._lines[caller]
            if line:
                self._lines[caller] = line
            return waiting
        return None
