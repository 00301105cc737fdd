"""Reconcile: what was asked and what is become steps, and a queue carries them out.

`plan` is pure and compares, it never remembers. `KeyedQueue` merges duplicate keys, never runs one key twice at once,
and waits longer after each failure of a key (5 ms to 300 s); a key that succeeds is forgotten. Not here: what a step
does (the backends). Rejected: a task per object, which cannot tell a duplicate from a change.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from ropewalk_core.ports import Clock

K = TypeVar("K", bound=Hashable)
W = TypeVar("W")
H = TypeVar("H")

FIRST_WAIT = 0.005
LONGEST_WAIT = 300.0
LATEST_AGAIN = 1.0  # after a failure during which it was asked for again: what it failed at may have passed meanwhile

_log = logging.getLogger(__name__)


class Act(StrEnum):
    """What to do about one key."""

    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True)
class Step(Generic[K, W, H]):
    """One thing to do: the key, what is wanted and what is."""

    act: Act
    key: K
    want: W | None = None
    have: H | None = None


def plan(want: Mapping[K, W], have: Mapping[K, H], *, same: Callable[[W, H], bool]) -> list[Step[K, W, H]]:
    """Return the steps that turn what is into what is wanted; removals first, then by the order of ``want``.

    Parameters
    ----------
    want, have
        What was asked and what is, by key.
    same
        Whether a thing that is satisfies what is wanted.
    """
    removals: list[Step[K, W, H]] = [Step(Act.REMOVE, key, None, one) for key, one in have.items() if key not in want]
    changes = [
        Step(Act.CHANGE if key in have else Act.CREATE, key, one, have.get(key))
        for key, one in want.items()
        if key not in have or not same(one, have[key])
    ]
    return [*removals, *changes]


def wait_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(max(0, failures - 1), 64)))


@dataclass
class _Entry:
    due: float
    failures: int = 0
    running: bool = False
    again: bool = False
    last_error: str = ""


class KeyedQueue(Generic[K]):
    """Runs one handler over keys.

    Parameters
    ----------
    handle
        Brings one key from what is to what is wanted. It may return seconds after which to look again, or None.
        Any exception counts as a failure and is tried again after a growing wait.
    clock
        Steady time and sleep.
    workers
        Keys that run at the same time.
    """

    def __init__(self, handle: Callable[[K], Awaitable[float | None]], clock: Clock, *, workers: int = 8) -> None:
        self._handle, self._clock = handle, clock
        self._entries: dict[K, _Entry] = {}
        self._heap: list[tuple[float, int, K]] = []  # due, order of asking, key
        self._order = 0
        self._changed = asyncio.Event()
        self._free = asyncio.Semaphore(workers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, key: K, *, after: float = 0.0) -> None:
        """Ask for a key to be handled ``after`` some seconds; asking again merges, and the earlier time wins.

        A key that is being handled is handled once more afterwards, because what is wanted may have changed meanwhile;
        if it failed, within `LATEST_AGAIN` seconds.
        """
        due = self._clock.steady() + after
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(due)
        elif entry.running:
            entry.again = entry.again or after == 0.0
            return
        elif due >= entry.due:
            return
        self._schedule(key, entry, due)

    def failures(self, key: K) -> tuple[int, str]:
        """Return how many times in a row the key failed, and the last error."""
        entry = self._entries.get(key)
        return (entry.failures, entry.last_error) if entry else (0, "")

    async def idle(self) -> None:
        """Wait until no key is due, waiting or running; that is so when this returns."""
        while not self._idle.is_set():
            await self._idle.wait()

    async def run(self) -> None:
        """Carry out keys for ever; when cancelled, cancel what runs and wait for it."""
        try:
            while True:
                await self._free.acquire()
                try:
                    key = await self._next_due()
                except asyncio.CancelledError:
                    self._free.release()
                    raise
                task = asyncio.create_task(self._carry_out(key))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_due(self) -> K:
        """Wait for the earliest key that is due, mark it as running and return it."""
        while True:
            self._changed.clear()
            while self._heap and self._stale(*self._heap[0]):
                heapq.heappop(self._heap)
            wait = self._heap[0][0] - self._clock.steady() if self._heap else None
            if wait is not None and wait <= 0:
                key = heapq.heappop(self._heap)[2]
                self._entries[key].running = True
                return key
            await self._change_or(wait)

    async def _change_or(self, seconds: float | None) -> None:
        """Wait for a new key, at most so many seconds of the injected clock."""
        change = asyncio.ensure_future(self._changed.wait())
        waits: set[asyncio.Future[object]] = {change}  # type: ignore[arg-type]
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _carry_out(self, key: K) -> None:
        entry, again = self._entries[key], None
        try:
            again = await self._handle(key)
            entry.failures, entry.last_error = 0, ""
        except asyncio.CancelledError:
            entry.running = False
            raise
        except Exception as error:  # noqa: BLE001  # any failure of a step is tried again; it must not end the queue
            entry.failures += 1
            entry.last_error = str(error)
            again = wait_after(entry.failures)
            _log.warning("%s failed %d times in a row: %s", key, entry.failures, error)
        finally:
            self._free.release()
        entry.running = False
        if entry.again:
            entry.again, again = False, min(again or 0.0, LATEST_AGAIN) if entry.failures else 0.0
        if again is None:
            del self._entries[key]
            if not self._entries:
                self._idle.set()
        else:
            self._schedule(key, entry, self._clock.steady() + again)

    def _schedule(self, key: K, entry: _Entry, due: float) -> None:
        entry.due = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))
        self._idle.clear()
        self._changed.set()

    def _stale(self, due: float, _order: int, key: K) -> bool:
        """Say whether the heap's item was overtaken by a later call for its key."""
        entry = self._entries.get(key)
        return entry is None or entry.running or entry.due != due
