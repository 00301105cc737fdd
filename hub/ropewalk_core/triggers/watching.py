"""What triggers wait for besides the clock: new files, looked for again and again, and ends of calls and runs.

A file counts when two looks found it the same. Looks come one after the other, each account's at most so often that
they take a twentieth of one thread's time, and a folder with more entries than may be is not looked through. Ends of
durable calls are written down in the batch that ends the call; those of runs are read from the history, whose place is
written down with them. Not here: what fires (``occasions``, ``firing``). Rejected: asking the kernel for changes of
folders: it tells of no file that came while nobody listened, and there is nothing of the kind on a cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from ropewalk_core.errors import Conflict, RopewalkError, Unavailable
from ropewalk_core.journal import Journal, Operation, Put
from ropewalk_core.model import Call, DurableCall, Event, FileEntry, State, Trigger, Why
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Limits
from ropewalk_core.triggers import records
from ropewalk_core.triggers.book import Book, Key
from ropewalk_core.triggers.firing import FILES, Firer
from ropewalk_core.triggers.occasions import End, Firing, arrived, fresh, known_as, stamped, unseen
from ropewalk_core.triggers.wishes import FUNCTION, WORKFLOW, place

Look: TypeAlias = Callable[[str, str, str, int], Awaitable[Sequence[FileEntry]]]
"""Returns an account's files in a folder whose names fit a pattern; of a folder with more entries it is `TooLarge`."""
INTERVAL = 5.0
"""Seconds between two looks into a folder, if they do not take long."""
_SHARE = 20
_FORGOTTEN, _PATIENCE = 100, 10.0
_RUN = "run"
_ENDED = {one.value for one in State if one.terminal}
_PAGE = 500
_log = logging.getLogger(__name__)


async def found(look: Look, owner: str, trigger: Trigger, most: int) -> dict[str, str]:
    """Return the files that a trigger waits for as they are now: their stamps by name."""
    folder, pattern = place(trigger.spec.on_file)
    entries = await look(owner, folder, pattern, most)
    return {one.path.rpartition("/")[2]: stamped(one.size, one.modified) for one in entries}


@dataclass(frozen=True)
class _Look:
    """What a look found: all of it as one number, and by name no more of what is new than can wait.

    A full folder is thereby held by nobody's memory, however many triggers look into it.
    """

    whole: int
    coming: Mapping[str, str]


class FileWatch:
    """Looks for new files.

    Parameters
    ----------
    journal, clock, limits, book, firer
        The other parts.
    look
        Looks into a folder.
    active
        Whether an account may have anything run.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        limits: Limits,
        book: Book,
        firer: Firer,
        *,
        look: Look,
        active: Callable[[str], bool],
    ) -> None:
        self._journal, self._clock, self._limits, self._book, self._firer = journal, clock, limits, book, firer
        self._look, self._active = look, active
        self._before: dict[Key, _Look] = {}
        self._again: dict[Key, float] = {}
        self._rest: dict[str, float] = {}
        self._troubled: set[Key] = set()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            if not await self.step():
                await self._clock.sleep(INTERVAL / 5)

    async def step(self) -> bool:
        """Look into one folder of each account that is due; say whether there was any."""
        chosen = self._due(self._clock.steady())
        for key in chosen:
            await self._look_into(key)
        return bool(chosen)

    def _due(self, now: float) -> list[Key]:
        """Return the trigger of each account that was looked for the longest time ago, if it is time for it."""
        keys = self._book.watchers()
        known = set(keys)
        self._again = {key: at for key, at in self._again.items() if key in known}
        self._before = {key: look for key, look in self._before.items() if key in known}
        self._troubled &= known
        first: dict[str, Key] = {}
        for key in sorted(keys, key=lambda one: self._again.get(one, 0.0)):
            if self._again.get(key, 0.0) <= now and self._rest.get(key[0], 0.0) <= now:
                first.setdefault(key[0], key)
        return list(first.values())

    async def _look_into(self, key: Key) -> None:
        """Have what came wait for its turn to fire."""
        began = self._clock.steady()
        try:
            trigger = self._book.get(key)
            if trigger is None or trigger.paused or not self._active(key[0]):
                self._before.pop(key, None)
                return
            async with asyncio.timeout(_PATIENCE):
                now = await found(self._look, key[0], trigger, self._limits.trigger_entries)
            await self._compare(key, trigger, now)
            before_us = key not in self._again and trigger.why is not None  # said by a platform that was killed
            if before_us or key in self._troubled:
                await self._book.say(key, None)
                self._troubled.discard(key)
        except RopewalkError as error:
            await self._say(key, error)
        except TimeoutError:
            await self._say(key, Unavailable(f"The folder did not answer within {_PATIENCE:g} s."))
        finally:
            took = self._clock.steady() - began
            self._rest[key[0]] = began + _SHARE * took
            self._again[key] = began + max(INTERVAL, _SHARE * took)

    async def _compare(self, key: Key, trigger: Trigger, now: Mapping[str, str]) -> None:
        """Have what is new since the looks before wait for its turn, and forget files that are long gone."""
        before, whole = self._before.get(key), hash(frozenset(now.items()))
        if before is not None and before.whole == whole and not before.coming:
            return  # what is known is not read again for nothing
        seen, version = records.seen(self._journal, *key)
        coming = dict(islice(unseen(seen, now).items(), FILES))
        self._before[key] = _Look(whole, coming)
        folder = place(trigger.spec.on_file)[0]
        for name in fresh(before.coming if before else {}, coming):
            if not self._firer.takes_files(key[0]):
                break
            path = f"{folder}/{name}" if folder else name
            self._firer.wait(Firing(trigger, arrived(path, now[name])))
        if len(seen) > _FORGOTTEN + 2 * len(now):
            kept = {known: seen[known] for known in map(known_as, now) if known in seen}
            with suppress(Conflict):  # a file was seen just now: another look forgets
                await self._journal.write(records.seeing(*key, kept, version))

    async def _say(self, key: Key, error: RopewalkError) -> None:
        """Say at the trigger why nothing is looked for; a folder may come later."""
        self._troubled.add(key)
        try:
            await self._book.say(key, Why(cause=error.message, next=error.hint, code=error.code))
        except RopewalkError as unsaid:
            _log.warning(
                "the folder of the trigger %s is not looked into (%s), which is unsaid: %s", key, error, unsaid
            )


class Ends:
    """Notes the ends that somebody follows.

    Parameters
    ----------
    journal, clock, book, firer
        The other parts.
    """

    def __init__(self, journal: Journal, clock: Clock, book: Book, firer: Firer) -> None:
        self._journal, self._clock, self._book, self._firer = journal, clock, book, firer
        self._wanted = asyncio.Event()
        self._read: int | None = None  # up to where, which is written down with each end

    # Of durable calls: the desk asks while it ends one

    def note(self, call: DurableCall) -> Sequence[Operation]:
        """Return what belongs in the batch that ends a durable call."""
        return (records.noting(_durable_end(call)),) if self._wants(call.owner, f"{FUNCTION}:{call.function}") else ()

    def noted(self, call: DurableCall) -> None:
        """Fire for a durable call whose end is on disk, if it was noted there."""
        end = _durable_end(call)
        if not self._book.followers(end.owner, end.source):
            return
        try:
            there = self._journal.get(records.END, end.owner, end.key) is not None
        except RopewalkError:  # the database went away just now, and it was about to be there
            there = True
        if there:
            self._firer.ended(end)

    def _wants(self, owner: str, source: str) -> bool:
        """Say whether anybody follows these ends, and one more may wait."""
        return bool(self._book.followers(owner, source)) and self._firer.room_for(owner, source)

    # Of other calls, which are told in batches, and lossy

    async def calls(self, calls: Sequence[Call]) -> None:
        """Note calls that have ended, but for attempts of durable ones."""
        ends = [_call_end(one) for one in calls if not one.durable and one.ended is not None and one.state.terminal]
        ends = [one for one in ends if self._wants(one.owner, one.source)]
        if not ends:
            return
        try:
            await self._journal.write(*(records.noting(one) for one in ends))
        except RopewalkError as error:
            _log.warning("the ends of %d calls fire nothing: %s", len(ends), error)
            return
        for one in ends:
            self._firer.ended(one)

    # Of runs, which are in the history

    def placing(self) -> list[Operation]:
        """Return what belongs in the batch of a trigger that follows runs, while no other does."""
        return [] if self._book.follows_runs() else [_place(self._journal.cursor)]

    def followed(self) -> None:
        """Say that there is somebody who follows."""
        self._wanted.set()

    async def run(self) -> None:
        """Note the ends of runs, for ever."""
        while True:
            self._wanted.clear()
            if not self._book.follows_runs():
                self._read = None
                await self._wanted.wait()
                continue
            newest = self._journal.cursor
            if not await self.step():
                await self._journal.wait(newest)

    async def step(self) -> bool:
        """Note the ends in the next part of the history; say whether there was any history."""
        if self._read is None:
            record = self._journal.get(records.PLACE, "", _RUN)
            self._read = int(record.body["cursor"]) if record is not None else self._journal.cursor
        events = self._journal.events(after=self._read, kind=_RUN, limit=_PAGE)
        ends = [self._run_end(one) for one in events if one.type in _ENDED]
        ends = [one for one in ends if self._wants(one.owner, one.source)]
        if ends or len(events) == _PAGE:
            await self._journal.write(*(records.noting(one) for one in ends), _place(events[-1].cursor))
        self._read = events[-1].cursor if events else self._read
        for one in ends:
            self._firer.ended(one)
        return bool(events)

    def _run_end(self, event: Event) -> End:
        facts: dict[str, Any] = event.body
        record = self._journal.get(_RUN, event.owner, event.name)
        return End(
            event.owner,
            f"{WORKFLOW}:{facts.get('name', '')}",
            key=f"{event.name}@{event.cursor}",
            id=event.name,
            state=State(event.type),
            at=event.at,
            chain=int(record.body.get("chain", 0)) if record is not None else 0,
        )


def _place(cursor: int) -> Put:
    return Put(records.PLACE, "", _RUN, {"cursor": cursor})


def _durable_end(call: DurableCall) -> End:
    return End(
        owner=call.owner,
        source=f"{FUNCTION}:{call.function}",
        key=f"{call.id}@{call.attempt}.{call.status.state}",  # one that is replayed ends again
        id=call.id,
        state=call.status.state,
        at=call.ended or call.status.since,
        chain=call.chain,
        durable=True,
    )


def _call_end(call: Call) -> End:
    source = f"{FUNCTION}:{call.function}"
    return End(call.owner, source, key=call.id, id=call.id, state=call.state, at=call.ended or call.started)
