"""Who holds the mutexes of an account, and who waits for them: first come, first served, across all its runs. Pure.

What is durable is with the leaves: one that began and has not ended holds its mutexes (``leaves``), so this is put
together again after a restart. All that a leaf names it gets at once or not at all, and only leaves hold any, so nobody
waits in a circle. Not here: what a run does with a lock. Rejected: giving a lock up between two attempts, which Argo
does not either: what a failed attempt left half done is not for others to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Who: TypeAlias = tuple[str, str]
"""A run and a leaf of it."""


class Locks:
    """The mutexes of one account."""

    def __init__(self) -> None:
        self._held: dict[str, Who] = {}
        self._waiting: dict[Who, frozenset[str]] = {}

    def ask(self, who: Who, names: Sequence[str], *, holds: bool) -> None:
        """Put a leaf behind those that wait; or note that it has its mutexes already."""
        for name in names:
            if self._held.get(name) == who:  # by an earlier life of the run
                del self._held[name]
        if holds:
            self._held |= dict.fromkeys(names, who)
        else:
            self._waiting[who] = frozenset(names)

    def given(self, over: Callable[[Who], bool], suspended: Callable[[Who], bool]) -> list[Who]:
        """Take the mutexes of those that are over back, and return who got theirs; one of a suspended run gets none."""
        self._held = {name: who for name, who in self._held.items() if not over(who)}
        self._waiting = {who: names for who, names in self._waiting.items() if not over(who)}
        taken, found = set(self._held), []
        for who, names in self._waiting.items():
            if suspended(who):
                continue
            if taken.isdisjoint(names):
                self._held |= dict.fromkeys(names, who)
                found.append(who)
            taken |= names  # nobody who came later goes past
        for who in found:
            del self._waiting[who]
        return found
