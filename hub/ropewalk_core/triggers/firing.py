"""Firing: occasions become durable calls or runs, account by account, and each is over once that is on disk.

What waits lies in memory, and is found again after a kill: moments by the schedule, ends in the journal, files in their
folder. The call comes first and the record that its occasion is over comes second; between the two a kill costs
nothing, because the same occasion asks for the same call again. Not here: what an occasion is (``occasions``), and
looking for files and ends of runs (``watching``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeAlias

from ropewalk_core.errors import Limited, NotFound, RopewalkError, StorageFull, Unavailable
from ropewalk_core.flows import Run
from ropewalk_core.journal import Journal, Operation, Remove
from ropewalk_core.model import DurableCall, Trigger, Why
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Limits
from ropewalk_core.tasks import heard
from ropewalk_core.triggers import records
from ropewalk_core.triggers.book import Book, Key
from ropewalk_core.triggers.occasions import (
    End,
    Firing,
    came_due,
    comes_next,
    followed,
    too_long,
    too_many,
    turn,
)

Made: TypeAlias = DurableCall | Run
"""What comes of a firing."""
Fire: TypeAlias = Callable[[Sequence[Firing]], Awaitable[Sequence[Made | RopewalkError]]]
"""Asks for a durable call or a run for each firing; the same firing gives the same again."""
_Outcome: TypeAlias = tuple[Firing, "Made | RopewalkError | None"]
"""A firing and what came of it; None if its trigger is gone or paused."""
SHARE, ROOM = 64, 512
"""Firings of one account, and of all, in one turn."""
FILES = 1000
"""Firings of one account beside which a file may still wait."""
AGAIN = 5.0
"""Seconds for which an account waits whose firing was refused for a reason that passes."""
_LOOK = 30.0
"""Seconds after which the agenda is looked at in any case: the clock on the wall may be set."""
_PASSES = (Limited, StorageFull, Unavailable)
_log = logging.getLogger(__name__)


class Firer:
    """Makes the calls that are due.

    Parameters
    ----------
    journal, clock, limits, book
        Where ends wait, time, how long chains may be, the triggers.
    there
        Whether there is something of this kind, owner and name to be called.
    active
        Whether an account may have anything run.
    fire
        Asks for the calls.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        limits: Limits,
        book: Book,
        *,
        there: Callable[[str, str, str], bool],
        active: Callable[[str], bool],
        fire: Fire,
    ) -> None:
        self._journal, self._clock, self._limits, self._book = journal, clock, limits, book
        self._there, self._active, self._fire = there, active, fire
        self._waiting: dict[str, dict[str, Firing]] = {}
        self._ends: dict[Key, set[str]] = {}
        self._known: dict[Key, int] = {}  # ends that are not over, and how many triggers each may fire
        self._open: Counter[str] = Counter()
        self._missed: dict[tuple[str, str], None] = {}  # of which there were ends too many
        self._resting: dict[str, float] = {}
        self._news = asyncio.Event()
        self._new_ends: deque[End] = deque()
        for owner in journal.weigh(records.END):
            after = ""
            while found := journal.page(records.END, owner, after=after, limit=1000):
                for record in found:
                    self.ended(records.end_of(record))
                after = found[-1].name

    # What comes in

    def poke(self) -> None:
        """Say that something may have come due."""
        self._news.set()

    def room_for(self, owner: str, source: str) -> bool:
        """Say whether one more end may wait; where none may, those that follow it will say so.

        An end counts once for each trigger that follows it, because so many firings lie in memory.
        """
        if self._open[owner] < self._limits.trigger_ends:
            return True
        self._missed[owner, source] = None
        return False

    def ended(self, end: End) -> None:
        """Take an end that is on disk; its triggers fire for it."""
        if (end.owner, end.key) not in self._known:
            weight = max(1, len(self._book.followers(end.owner, end.source)))
            self._known[end.owner, end.key] = weight
            self._open[end.owner] += weight
            self._new_ends.append(end)
            self.poke()

    def takes_files(self, owner: str) -> bool:
        """Say whether one more file of an account may wait; where none may, the next look finds it again."""
        return len(self._waiting.get(owner, ())) < FILES

    def wait(self, firing: Firing) -> None:
        """Have a firing wait for its turn; one that waits already does not wait twice."""
        self._waiting.setdefault(firing.trigger.owner, {}).setdefault(firing.key, firing)
        self.poke()

    # Turns

    async def run(self) -> None:
        """Fire what comes due, for ever."""
        while True:
            self._news.clear()
            if await self.step():
                await asyncio.sleep(0)  # where nothing was asked for, nothing was awaited
            else:
                await heard(self._news, self._pause())

    async def step(self) -> bool:
        """Do one turn; say whether there was anything to do."""
        ends = min(len(self._new_ends), ROOM)
        for _ in range(ends):
            await self._follow(self._new_ends[0])
            self._new_ends.popleft()  # only now: what failed comes again
        moments = self._moments()
        batch = self._turn()
        if batch:
            await self._carry_out(batch)
        await self._say_missed()  # last, because a call that was made takes back why one was not
        return bool(ends or moments or batch)

    async def _say_missed(self) -> None:
        """Say at those that follow an end that it was one too many."""
        for owner, source in list(self._missed):
            _log.warning("%s of %s ended more often than its triggers fire", source, owner)
            for key in self._book.followers(owner, source):
                await self._book.say(key, too_many(self._limits.trigger_ends))
            self._missed.pop((owner, source), None)

    def _pause(self) -> float:
        """Return the seconds until there is something to do by itself."""
        due, steady = self._book.next_due(), self._clock.steady()
        rests = [until - steady for until in self._resting.values()]
        return max(0.0, min([_LOOK, *rests, *([due - self._clock.wall()] if due is not None else [])]))

    def _moments(self) -> int:
        """Have the schedules that came due wait for their turn; return how many were looked at."""
        now = self._clock.wall()
        keys = self._book.due(now, ROOM)
        for key in keys:
            try:
                coming = self._moment(key, now)
            except RopewalkError as error:  # the journal's database is away, or the time zone is gone
                _log.warning("the schedule of the trigger %s is not looked at: %s", key[1], error)
                coming = now + 2 * _LOOK
            if coming is not None:
                self._book.schedule(key, coming)
        return len(keys)

    def _moment(self, key: Key, now: float) -> float | None:
        """Have a schedule wait for its turn if it came due; return when it is to be looked at again."""
        trigger = self._book.get(key)
        if trigger is None:
            return None
        if not self._active(key[0]):
            return now + 60.0
        if (occasion := came_due(trigger, now)) is not None:
            waiting = self._waiting.get(key[0], {})
            for older in [one.key for one in waiting.values() if one.trigger.id == trigger.id]:
                del waiting[older]  # the latest moment alone fires
            self.wait(Firing(trigger, occasion))
        return comes_next(trigger, now)

    async def _follow(self, end: End) -> None:
        """Have those that follow an end wait for their turn; an end that nobody follows is forgotten."""
        firings: list[Firing] = []
        for key in self._book.followers(end.owner, end.source):
            trigger = self._book.get(key)
            occasion = followed(trigger, end) if trigger is not None else None
            if trigger is None or occasion is None:
                continue
            if (why := too_long(occasion.chain, self._limits.trigger_chain)) is not None:
                await self._book.say(key, why)
            else:
                firings.append(Firing(trigger, occasion))
        self._ends[end.owner, end.key] = {one.key for one in firings}
        for firing in firings:
            self.wait(firing)
        if not firings:
            await self._journal.write(*self._ended(end.owner, end.key, ()))

    def _turn(self) -> list[Firing]:
        """Return what is fired now; who was served comes last in the next turn."""
        now = self._clock.steady()
        self._resting = {owner: until for owner, until in self._resting.items() if until > now}
        ready = {
            owner: list(islice(firings.values(), SHARE))
            for owner, firings in self._waiting.items()
            if owner not in self._resting and self._active(owner)
        }
        batch = turn(ready, SHARE, ROOM)
        for owner in {one.trigger.owner for one in batch}:
            self._waiting[owner] = self._waiting.pop(owner)
        return batch

    # Carrying out

    async def _carry_out(self, batch: list[Firing]) -> None:
        """Ask for the calls of a batch and write down that their occasions are over."""
        live: list[Firing] = []
        gone: list[Firing] = []
        for firing in batch:
            (live if self._stands(firing) else gone).append(firing)
        try:
            results = await self._fire(live) if live else ()
        except RopewalkError as error:
            _log.warning("%d triggers wait: %s", len(live), error)
            for firing in live:
                self._rest(firing.trigger.owner)
            return
        outcomes: dict[Key, list[_Outcome]] = {}
        for firing, result in [*zip(live, results, strict=True), *((one, None) for one in gone)]:
            outcomes.setdefault(_key(firing), []).append((firing, result))
        await asyncio.gather(*(self._settled(key, found) for key, found in outcomes.items()))  # in one commit

    def _stands(self, firing: Firing) -> bool:
        trigger = self._book.get(_key(firing))
        return trigger is not None and not trigger.paused

    async def _settled(self, key: Key, found: Sequence[_Outcome]) -> None:
        try:
            await self._settle(key, found)
        except RopewalkError as error:  # they wait on, and the same calls are found again
            _log.warning("what the trigger %s has fired is not written down yet: %s", key[1], error)
            self._rest(key[0])

    async def _settle(self, key: Key, found: Sequence[_Outcome]) -> None:
        """Write down what came of the firings of one trigger."""
        late = [result for _, result in found if isinstance(result, _PASSES)]
        over = [(firing, result) for firing, result in found if not isinstance(result, _PASSES)]
        calls = found[0][0].trigger
        if any(isinstance(one, NotFound) for _, one in over) and not self._there(calls.kind, key[0], calls.name):
            await self._book.replace([key], ())  # what it calls was removed while it was made
        now = self._clock.wall()
        await self._book.change(key, lambda one: _told(one, over, late, now), lambda: self._also(key, over))
        for firing, _ in over:
            self._waiting.get(key[0], {}).pop(firing.key, None)
        if not self._waiting.get(key[0]):
            self._waiting.pop(key[0], None)
        if late:
            self._rest(key[0])

    def _also(self, key: Key, over: Sequence[_Outcome]) -> list[Operation]:
        """Return what is written down beside a trigger: files that it has seen, ends that all have fired for."""
        operations: list[Operation] = []
        files = {}
        for firing, _ in over:
            name, stamp = firing.occasion.mark
            if stamp:
                files[name] = stamp
            elif name:
                operations += self._ended(key[0], name, (firing.key,))
        if files and self._journal.get(records.TRIGGER, *key) is not None:
            seen, version = records.seen(self._journal, *key)
            operations.append(records.seeing(*key, seen | files, version))
        return operations

    def _ended(self, owner: str, end: str, fired: Sequence[str]) -> list[Operation]:
        """Return what forgets an end once the last of its firings is over."""
        left = self._ends.get((owner, end), set())
        left.difference_update(fired)
        if left:
            return []
        self._ends.pop((owner, end), None)
        if (weight := self._known.pop((owner, end), 0)) > 0:
            self._open[owner] -= weight
            self._open += Counter()
        return [Remove(records.END, owner, end)]

    def _rest(self, owner: str) -> None:
        self._resting[owner] = self._clock.steady() + AGAIN


def _told(
    trigger: Trigger,
    over: Sequence[_Outcome],
    late: Sequence[RopewalkError],
    now: float,
) -> Trigger:
    """Return a trigger after its firings: what it has called, up to when it is done, and why it did not fire."""
    calls = [one for _, one in over if isinstance(one, DurableCall | Run)]
    errors = [*late, *(one for _, one in over if isinstance(one, RopewalkError))]
    changed: dict[str, object] = {"why": _why(errors[-1]) if errors else trigger.why}
    if calls:
        changed |= {"fires": trigger.fires + len(calls), "fired": now, "call": calls[-1].id}
        changed |= {} if errors else {"why": None}
    if trigger.spec.every and over:
        changed["settled"] = max(trigger.settled, *(one.occasion.at for one, _ in over))
    return trigger.model_copy(update=changed)


def _why(error: RopewalkError) -> Why:
    return Why(cause=error.message, next=error.hint, code=error.code)


def _key(firing: Firing) -> Key:
    return firing.trigger.owner, records.name_of(firing.trigger)
