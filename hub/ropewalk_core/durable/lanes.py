"""Whose turn it is: the durable calls that are open, in memory, each in exactly one place. Pure.

A call is ready, waits for a time, or runs. Functions take turns, each runs as many calls as its workers take, and one
account has a share of the whole, so that a long queue of one is no wait for others. Not here: what the calls are; the
journal has that, and this is made anew from it. Rejected: asking the journal each time whose turn it is.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""Owner and function."""


class Lanes:
    """The open calls.

    Parameters
    ----------
    share
        Calls of one account that run at the same time at most.
    """

    def __init__(self, share: int) -> None:
        self._share = share
        self._of: dict[str, Key] = {}
        self._ready: dict[Key, dict[str, None]] = {}
        self._due: dict[str, float] = {}
        self._later: list[tuple[float, str]] = []
        self.running: dict[str, str] = {}
        """Who holds each call that runs."""
        self._busy: Counter[Key] = Counter()
        self._busy_of: Counter[str] = Counter()
        self._open_of: Counter[str] = Counter()

    def __contains__(self, call: str) -> bool:
        return call in self._of

    def key(self, call: str) -> Key | None:
        """Return whose call it is, if it is open."""
        return self._of.get(call)

    def open_of(self, owner: str) -> int:
        """Return how many calls of an account are open."""
        return self._open_of[owner]

    def wait(self, call: str, key: Key, due: float, now: float) -> None:
        """Have a call wait for its turn, or for a time first."""
        self.drop(call)
        self._enter(call, key)
        if due <= now:
            self._ready.setdefault(key, {})[call] = None
        else:
            self._due[call] = due
            heapq.heappush(self._later, (due, call))

    def run(self, call: str, key: Key, holder: str) -> None:
        """Note that a call runs."""
        self.drop(call)
        self._enter(call, key)
        self.running[call] = holder
        self._busy[key] += 1
        self._busy_of[key[0]] += 1

    def drop(self, call: str) -> None:
        """Forget a call."""
        key = self._of.pop(call, None)
        if key is None:
            return
        self._less(self._open_of, key[0])
        self._due.pop(call, None)
        if self.running.pop(call, None) is not None:
            self._less(self._busy, key)
            self._less(self._busy_of, key[0])
        ready = self._ready.get(key, {})
        ready.pop(call, None)
        if not ready:
            self._ready.pop(key, None)

    def pick(self, room: int, places: Callable[[Key], int], now: float) -> list[tuple[str, Key]]:
        """Return the calls whose turn it is, at most ``room``; they stay where they are until `run` is told.

        ``places`` says how many calls of a function may run at the same time.
        """
        self._promote(now)
        turns = deque((key, iter(calls), places(key)) for key, calls in self._ready.items())
        busy, busy_of = Counter(self._busy), Counter(self._busy_of)
        picked: list[tuple[str, Key]] = []
        while turns and len(picked) < room:
            key, calls, most = turns.popleft()
            if busy[key] >= most or busy_of[key[0]] >= self._share or (call := next(calls, None)) is None:
                continue
            picked.append((call, key))
            busy[key] += 1
            busy_of[key[0]] += 1
            turns.append((key, calls, most))
        for _, key in picked:  # who was served is last in the next round
            self._ready[key] = self._ready.pop(key)
        return picked

    def next_due(self) -> float | None:
        """Return when the next call that waits for a time is ready."""
        while self._later and self._due.get(self._later[0][1]) != self._later[0][0]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def _promote(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            call = heapq.heappop(self._later)[1]
            del self._due[call]
            self._ready.setdefault(self._of[call], {})[call] = None

    def _enter(self, call: str, key: Key) -> None:
        self._of[call] = key
        self._open_of[key[0]] += 1

    @staticmethod
    def _less(counter: Counter[Key] | Counter[str], key: Key | str) -> None:
        counter[key] -= 1  # type: ignore[index]
        if not counter[key]:  # type: ignore[index]
            del counter[key]
