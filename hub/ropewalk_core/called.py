"""What the gateway reported of calls: the latest records in memory, figures and costs in the journal too.

Records are a ring for each function, lossy by contract. Figures add up in memory and are written once a minute, one
record for each function that was called meanwhile and one for each account, so that a platform that is killed loses the
last minute and no more. What was written is dropped from memory again: a thousand idle functions take none. A report
that is sent again, because its answer was lost, counts once. Not here: counting (the gateway), arithmetic
(``figures``). Rejected: a row for each call (the journal would be on the path of calls).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Container

from ropewalk_core import figures
from ropewalk_core.errors import NotFound, RopewalkError
from ropewalk_core.figures import Cell, Series
from ropewalk_core.journal import Journal, Operation, Put, Remove
from ropewalk_core.model import Call, CallReport, Costs, Figures, LogLine, Window
from ropewalk_core.ports import Clock
from ropewalk_core.tasks import heard

RING = 200
"""Calls that are remembered for each function."""
KEPT = 16 * 2**20
"""Characters of logs and tracebacks that are remembered for each account; beyond it, functions that print more than
their share forget theirs, so it may be twice as much."""
EVERY = 60.0
"""Seconds between two writes; what a killed platform loses at most."""
LOOKS = 15.0
"""Seconds for which somebody who looked at calls counts as watching."""
FIGURES, COSTS = "figures", "costs"
_ACCOUNT = "account"
_MISSED = 5
_log = logging.getLogger(__name__)
Key = tuple[str, str]
"""An owner and a function; of the whole account the function is empty."""


class CallBook:
    """Everything that is known of calls.

    Parameters
    ----------
    journal, clock
        Where figures are kept, and time.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self._rings: dict[Key, deque[Call]] = {}
        self._texts: Counter[Key] = Counter()  # of a function, and of the whole account
        self._functions: Counter[str] = Counter()
        self._running: dict[str, Call] = {}
        self._looked: dict[Key, float] = {}
        self._changed: dict[Key, Series] = {}
        self._writing: dict[Key, Series] = {}
        self._heard = ("", 0)
        self._news = asyncio.Event()
        self.total = Cell()
        """All that was reported since this process began."""
        self.errors: Counter[str] = Counter()
        """Records of failures since then, by code."""
        self.state: dict[str, int] = {}
        self.seen = float("-inf")
        """When the gateway was last heard of, in the clock's steady time."""

    def record(self, report: CallReport, known: Container[Key]) -> None:
        """Take a report; of functions that are gone, only what their account spent."""
        self.state, self.seen = report.state, self._clock.steady()
        self._news.set()
        self._news = asyncio.Event()
        if report.life and (report.life, report.number) == self._heard:
            return
        self._heard = (report.life, report.number)
        for call in report.calls:
            if call.code:
                self.errors[call.code] += 1
            if (call.owner, call.function) not in known:
                continue
            if call.ended is None:
                self._running[call.id] = call
            else:
                self._remember(call)
        going = set(report.running)
        self._running = {one: call for one, call in self._running.items() if one in going}
        for owner, function, minute, packed in report.cells:
            try:
                self._count((owner, function), minute * 60.0, Cell.unpacked(packed), known)
            except ValueError as error:
                _log.warning("figures of %s's %s are not kept: %s", owner, function, error)

    def latest(self, owner: str, name: str, limit: int) -> tuple[Call, ...]:
        """Return the latest calls, newest first; those that go on and take long are before all others."""
        self.watch(owner, name)
        running = [one for one in self._running.values() if (one.owner, one.function) == (owner, name)]
        ended = list(self._rings.get((owner, name), ()))
        return tuple((ended + running)[::-1][: max(1, min(limit, RING))])

    def watch(self, owner: str, name: str) -> None:
        """Note that somebody looks: workers are asked what calls of this function print while they go on."""
        self._looked[owner, name] = self._clock.steady()

    def watched(self) -> list[Key]:
        """Return the functions at which somebody looked lately."""
        since = self._clock.steady() - LOOKS
        self._looked = {key: at for key, at in self._looked.items() if at > since}
        return list(self._looked)

    def news(self) -> asyncio.Event:
        """Return what is set when the gateway reports the next time."""
        return self._news

    async def printed(self, owner: str, name: str, call: str, after: int, follow: bool) -> AsyncIterator[LogLine]:
        """Yield what one call prints, a line as soon as it is whole; an offset counts characters of its log.

        Raises
        ------
        NotFound
            If there is no record of it.
        """
        missed = _MISSED
        while True:
            news, calls = self._news, self.latest(owner, name, RING)
            found = next((one for one in calls if one.id == call), None)
            if found is None and missed >= _MISSED:
                raise NotFound("There is no record of this call.", field="call", hint="The latest calls have one.")
            if found is None:  # it goes on no more, and its record is in the next report
                missed += 1
                await heard(news, 1.0)
                continue
            missed = 0
            over = found.ended is not None or not follow
            for line in _lines(found.logs[after:], over):
                after += len(line)
                yield LogLine(offset=after, text=line.rstrip("\r\n"), at=found.ended or self._clock.wall())
            if over:
                return
            await heard(news, LOOKS / 2)

    async def prints(self, owner: str, name: str, after: int, follow: bool) -> AsyncIterator[LogLine]:
        """Yield what all calls of a function print, each line after its call's identifier; offsets count lines.

        With ``follow``, what calls print from now on.
        """
        told = {one.id: len(one.logs) for one in self.latest(owner, name, RING) if follow and one.ended is not None}
        offset = 0
        while True:
            news, calls = self._news, self.latest(owner, name, RING)
            for one in reversed(calls):
                for line in _lines(one.logs[told.get(one.id, 0) :], one.ended is not None):
                    told[one.id] = told.get(one.id, 0) + len(line)
                    offset += 1
                    if follow or offset > after:
                        text = f"{one.id} {line.rstrip()}"
                        yield LogLine(offset=offset, text=text, at=one.ended or self._clock.wall())
            if not follow:
                return
            told = {one.id: told.get(one.id, 0) for one in calls}
            await heard(news, LOOKS / 2)

    def has(self, owner: str, name: str, call: str) -> bool:
        """Say whether there is a record of a call."""
        return any(one.id == call for one in self._rings.get((owner, name), ()))

    def figures(self, owner: str, name: str, window: Window) -> Figures:
        """Return the figures of a function."""
        return self._series((owner, name)).figures(window, self._clock.wall(), owner=owner, function=name)

    def costs(self, owner: str, name: str = "") -> Costs:
        """Return what a function, or without a name the whole account, cost by day."""
        return Costs(owner=owner, function=name, days=self._series((owner, name)).days(self._clock.wall()))

    def forget(self, owner: str, name: str) -> None:
        """Forget a function whose figures were removed (`forgetting`); what it cost stays with its account."""
        if (ring := self._rings.pop((owner, name), None)) is not None:
            self._functions[owner] -= 1
            for call in ring:
                self._weigh(call, -1)
        for series in (self._changed, self._writing):  # what is being written may fail, and would be written again
            series.pop((owner, name), None)
        self._running = {key: one for key, one in self._running.items() if (one.owner, one.function) != (owner, name)}

    async def keep(self) -> None:
        """Write down what was counted."""
        if not (batch := self._batch()):
            return
        self._writing, self._changed = self._changed, {}
        try:
            await self._journal.write(*batch)
        except RopewalkError as error:
            _log.warning("figures of calls are written later: %s", error.message)
            self._changed = self._writing | self._changed
        finally:
            self._writing = {}

    def keep_now(self) -> None:
        """Hand what was counted to the journal, which writes it before it closes."""
        if batch := self._batch():
            self._journal.submit(batch)

    def _batch(self) -> list[Operation]:
        expires = self._clock.wall() + figures.DAYS * 86400.0
        return [Put(*_place(key), one.packed(), expires=expires) for key, one in self._changed.items()]

    def _count(self, key: Key, at: float, cell: Cell, known: Container[Key]) -> None:
        self.total.add(cell)
        now = self._clock.wall()
        if key in known:
            self._counted(key).add(at, cell, now)
        self._counted((key[0], "")).spend(at, cell, now)

    def _counted(self, key: Key) -> Series:
        """Return where something is counted, to be written down."""
        if key not in self._changed:
            self._changed[key] = self._series(key)
        return self._changed[key]

    def _series(self, key: Key) -> Series:
        """Return what is counted in memory, else what is written down, else nothing."""
        if (found := self._changed.get(key) or self._writing.get(key)) is not None:
            return found
        record = self._journal.get(*_place(key))
        try:
            return Series.unpacked(record.body) if record is not None else Series()
        except ValueError as error:
            _log.warning("the figures of %s's %s begin anew: %s", *key, error)
            return Series()

    def _remember(self, call: Call) -> None:
        key = (call.owner, call.function)
        if key not in self._rings:
            self._rings[key] = deque()
            self._functions[call.owner] += 1
        ring = self._rings[key]
        ring.append(call)
        self._weigh(call, 1)
        while len(ring) > RING or (len(ring) > 1 and self._too_much(key)):
            self._weigh(ring.popleft(), -1)

    def _weigh(self, call: Call, sign: int) -> None:
        for key in ((call.owner, call.function), (call.owner, "")):
            self._texts[key] += sign * (len(call.logs) + len(call.traceback) + len(call.error))
            if not self._texts[key]:
                del self._texts[key]

    def _too_much(self, key: Key) -> bool:
        """Say whether an account's calls hold too much text, and those of this function more than their share of it."""
        owner = key[0]
        return self._texts[owner, ""] > KEPT and self._texts[key] > KEPT // self._functions[owner]


def forgetting(owner: str, name: str) -> Remove:
    """Return what removes the figures of a function, for the batch that removes it."""
    return Remove(*_place((owner, name)))


def _lines(text: str, over: bool) -> list[str]:
    """Return the lines of a log; the last one only if it is whole, or nothing follows."""
    lines = text.split("\n")
    whole = [f"{one}\n" for one in lines[:-1]]
    return [*whole, lines[-1]] if over and lines[-1] else whole


def _place(key: Key) -> tuple[str, str, str]:
    return (FIGURES, key[0], key[1]) if key[1] else (COSTS, key[0], _ACCOUNT)
