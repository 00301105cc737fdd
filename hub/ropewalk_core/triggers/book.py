"""The triggers in memory, as the journal has them: which schedule is looked at next, and who follows whose end.

All that changes a trigger goes through here, but for the batch that removes its function. So whatever is about to act
reads the record again (`get`), and what is gone from the journal goes from memory then. Not here: what is decided.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ropewalk_core.errors import Conflict
from ropewalk_core.journal import Journal, Operation, Put, Record
from ropewalk_core.model import Trigger, Why
from ropewalk_core.triggers import records
from ropewalk_core.triggers.wishes import WORKFLOW

Key: TypeAlias = tuple[str, str]
"""Owner, and the name of the record."""


class Book:
    """All triggers of a home.

    Parameters
    ----------
    journal
        Where they are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: dict[Key, Trigger] = {}
        self._followers: dict[tuple[str, str], dict[Key, None]] = {}
        self._watchers: dict[Key, None] = {}
        self._due: dict[Key, float] = {}
        self._agenda: list[tuple[float, Key]] = []
        for owner in journal.weigh(records.TRIGGER):
            after = ""
            while found := journal.page(records.TRIGGER, owner, after=after, limit=1000):
                for record in found:
                    self._place(records.trigger_of(record))
                after = found[-1].name

    # Reading

    def get(self, key: Key) -> Trigger | None:
        """Return a trigger as it is in the journal; one that is gone is forgotten here too."""
        record = self._journal.get(records.TRIGGER, *key)
        if record is None:
            self._drop(key)
            return None
        return records.trigger_of(record)

    def of(self, owner: str, kind: str, name: str) -> list[Trigger]:
        """Return the triggers of one function, oldest first."""
        found = [records.trigger_of(one) for one in records.of(self._journal, owner, kind, name)]
        return sorted(found, key=lambda one: (one.created, one.id))

    def count(self, owner: str) -> int:
        """Return how many triggers an account has."""
        return self._journal.weigh(records.TRIGGER, owner).get(owner, (0, 0))[0]

    def followers(self, owner: str, source: str) -> list[Key]:
        """Return who follows the ends of something; some may be gone."""
        return list(self._followers.get((owner, source), ()))

    def follows_runs(self) -> bool:
        """Say whether the ends of any workflow are followed."""
        return any(source.startswith(f"{WORKFLOW}:") for _, source in self._followers)

    def watchers(self) -> list[Key]:
        """Return those that wait for files; some may be gone."""
        return list(self._watchers)

    def due(self, now: float, most: int) -> list[Key]:
        """Take from the agenda what is to be looked at now, at most so many; `schedule` puts it back."""
        found: list[Key] = []
        while len(found) < most and (first := self.next_due()) is not None and first <= now:
            key = heapq.heappop(self._agenda)[1]
            del self._due[key]
            found.append(key)
        return found

    def next_due(self) -> float | None:
        """Return when the next schedule is to be looked at."""
        while self._agenda and self._due.get(self._agenda[0][1]) != self._agenda[0][0]:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    def schedule(self, key: Key, due: float) -> None:
        """Have a trigger looked at then."""
        if key in self._known:
            self._due[key] = due
            heapq.heappush(self._agenda, (due, key))

    # Changing

    async def replace(self, gone: Sequence[Key], new: Sequence[Trigger], also: Sequence[Operation] = ()) -> None:
        """Remove triggers and add others, with what belongs to them, all or nothing.

        What those that are gone have asked for goes on.
        """
        operations = [one for key in gone for one in records.removing(*key)]
        for one in new:
            operations.append(Put(records.TRIGGER, one.owner, records.name_of(one), records.body_of(one), expect=0))
        await self._journal.write(*operations, *also)
        for key in gone:
            self._drop(key)
        for one in new:
            self._place(one)

    async def change(
        self, key: Key, change: Callable[[Trigger], Trigger], also: Callable[[], Sequence[Operation]] = tuple
    ) -> Trigger | None:
        """Return what became of a trigger, once that and what belongs to it are on disk; None if it is gone.

        What ``also`` returns is written in any case, so it must not make anything of a trigger that is gone. It is
        asked again when something of it changed meanwhile.
        """
        while True:
            record = self._journal.get(records.TRIGGER, *key)
            after = change(records.trigger_of(record)) if record is not None else None
            operations = [*(self._putting(record, after) if record and after else ()), *also()]
            try:
                if operations:
                    await self._journal.write(*operations)
            except Conflict:
                continue
            if after is None:
                self._drop(key)
            else:
                self._place(after)
            return after

    async def say(self, key: Key, why: Why | None) -> None:
        """Write down why a trigger does not fire, unless it says that already."""
        await self.change(key, lambda one: one.model_copy(update={"why": why}))

    def _putting(self, record: Record, after: Trigger) -> list[Operation]:
        body = records.body_of(after)
        if body == record.body:
            return []
        return [Put(records.TRIGGER, record.owner, record.name, body, expect=record.version)]

    def _place(self, trigger: Trigger) -> None:
        """Have memory agree with the journal; a schedule is looked at at once, and then when it comes due."""
        key = (trigger.owner, records.name_of(trigger))
        if (known := self._known.get(key)) is not None and known.paused == trigger.paused:
            self._known[key] = trigger
            return
        self._drop(key)
        self._known[key] = trigger
        if trigger.spec.after:
            self._followers.setdefault((trigger.owner, trigger.spec.after), {})[key] = None
        elif trigger.spec.on_file:
            self._watchers[key] = None
        elif not trigger.paused:
            self.schedule(key, 0.0)

    def _drop(self, key: Key) -> None:
        trigger = self._known.pop(key, None)
        self._due.pop(key, None)
        self._watchers.pop(key, None)
        if trigger is not None and trigger.spec.after:
            source = (trigger.owner, trigger.spec.after)
            self._followers.get(source, {}).pop(key, None)
            if not self._followers.get(source):
                self._followers.pop(source, None)
