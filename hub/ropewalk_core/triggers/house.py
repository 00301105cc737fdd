"""What all triggers of a home share, whatever they call: the book, what fires them, and what they wait for.

A *target* is a kind of thing that triggers call: functions, saved workflows. Each has a desk of its own (``desk``),
which is its port. Not here: what a target does when it is called; that is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ropewalk_core.errors import RopewalkError
from ropewalk_core.journal import Journal, Operation
from ropewalk_core.model import Call, DurableCall, State, TriggerSpec
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.triggers.book import Book
from ropewalk_core.triggers.firing import Fire, Firer, Made
from ropewalk_core.triggers.occasions import Firing
from ropewalk_core.triggers.watching import Ends, FileWatch, Look


@dataclass(frozen=True)
class Target:
    """A kind of thing that triggers call.

    Parameters
    ----------
    kind
        ``function`` or ``workflow``.
    there
        Whether an account has one of this name.
    check
        Raises if this one, which is there, cannot be called by such a trigger.
    fire
        Asks for a call, or a run, for each firing; the same firing gives the same again.
    outcome
        Returns where a call or run stands; None if it is not kept any more.
    """

    kind: str
    there: Callable[[str, str], bool]
    check: Callable[[str, str, TriggerSpec], None]
    fire: Fire
    outcome: Callable[[str, str], State | None]


class TriggerHouse:
    """All triggers of a home, and what has them fire.

    Parameters
    ----------
    settings, journal, clock
        Limits, where triggers are kept, time.
    targets
        What triggers may call.
    active
        Whether an account may have anything run.
    look
        Looks into a folder of an account's files; None where nothing does.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        targets: Sequence[Target],
        *,
        active: Callable[[str], bool],
        look: Look | None = None,
    ) -> None:
        self.limits, self.journal, self.clock, self.look = settings.limits, journal, clock, look
        self.targets = {one.kind: one for one in targets}
        self.book = Book(journal)
        self.firer = Firer(journal, clock, self.limits, self.book, there=self.there, active=active, fire=self._fire)
        self.ends = Ends(journal, clock, self.book, self.firer)
        self.files = (
            FileWatch(journal, clock, self.limits, self.book, self.firer, look=look, active=active) if look else None
        )
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Have triggers fire, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.firer.run())
            group.create_task(self.ends.run())
            if self.files is not None:
                group.create_task(self.files.run())

    def note(self, call: DurableCall) -> Sequence[Operation]:
        """Return what belongs in the batch that ends a durable call."""
        return self.ends.note(call)

    def noted(self, call: DurableCall) -> None:
        """Fire for a durable call whose end is on disk."""
        self.ends.noted(call)

    async def calls(self, calls: Sequence[Call]) -> None:
        """Fire for calls that have ended, as they are recorded."""
        await self.ends.calls(calls)

    def there(self, kind: str, owner: str, name: str) -> bool:
        """Say whether what a trigger calls, or follows, is there; of a kind that nobody knows nothing is."""
        return kind in self.targets and self.targets[kind].there(owner, name)

    def lock(self, owner: str) -> asyncio.Lock:
        """Return the lock of whoever adds triggers to an account, so that they are counted."""
        return self._locks.setdefault(owner, asyncio.Lock())

    async def _fire(self, firings: Sequence[Firing]) -> Sequence[Made | RopewalkError]:
        """Have each target called for its own firings, and return what came of all, in their order."""
        kinds = list(dict.fromkeys(one.trigger.kind for one in firings))
        own = [[one for one in firings if one.trigger.kind == kind] for kind in kinds]
        made = await asyncio.gather(*(self.targets[kind].fire(some) for kind, some in zip(kinds, own, strict=True)))
        found = {kind: iter(results) for kind, results in zip(kinds, made, strict=True)}
        return [next(found[one.trigger.kind]) for one in firings]
