"""What the gateway reported of calls: the latest records in memory, figures and costs in the journal too.

Records are a ring for each function, lossy by contract. Figures add up in memory and are written once a minute, one
record for each function that was called meanwhile and one for each account, so that a platform that is killed loses the
last minute and no more. What was written is dropped from memory again: a thousand idle functions take none. A report
that is sent again, because its answer was lost, counts once. Not here: counting (the gateway), arithmetic
(``figures``). Rejected: a row for each call (the journal would be on the path of calls).
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Container

from ropewalk_core import figures
from ropewalk_core.errors import RopewalkError
from ropewalk_core.figures import Cell, Series
from ropewalk_core.journal import Journal, Operation, Put, Remove
from ropewalk_core.model import Call, CallReport, Costs, Figures, Window
from ropewalk_core.ports import Clock

RING = 200
"""Calls that are remembered for each function."""
KEPT = 16 * 2**20
"""Characters of logs and tracebacks that are remembered for each account."""
EVERY = 60.0
"""Seconds between two writes; what a killed platform loses at most."""
FIGURES, COSTS = "figures", "costs"
_ACCOUNT = "account"
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
        self._texts: Counter[str] = Counter()
        self._changed: dict[Key, Series] = {}
        self._writing: dict[Key, Series] = {}
        self._heard = ("", 0)
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
        if report.life and (report.life, report.number) == self._heard:
            return
        self._heard = (report.life, report.number)
        for call in report.calls:
            if call.code:
                self.errors[call.code] += 1
            if (call.owner, call.function) in known:
                self._remember(call)
        for owner, function, minute, packed in report.cells:
            try:
                self._count((owner, function), minute * 60.0, Cell.unpacked(packed), known)
            except ValueError as error:
                _log.warning("figures of %s's %s are not kept: %s", owner, function, error)

    def latest(self, owner: str, name: str, limit: int) -> tuple[Call, ...]:
        """Return the latest calls, newest first."""
        return tuple(list(self._rings.get((owner, name), ()))[::-1][: max(1, min(limit, RING))])

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
        """Forget a function that was removed; what it cost stays with its account."""
        self._texts[owner] -= sum(map(_text, self._rings.pop((owner, name), ())))
        self._changed.pop((owner, name), None)
        self._journal.submit([Remove(*_place((owner, name)))])

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
        for one in ((key,) if key in known else ()) + ((key[0], ""),):
            series = self._changed.get(one)
            if series is None:
                series = self._changed[one] = self._series(one)
            series.add(at, cell, self._clock.wall())

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
        ring = self._rings.setdefault((call.owner, call.function), deque())
        ring.append(call)
        self._texts[call.owner] += _text(call)
        while len(ring) > RING or (len(ring) > 1 and self._texts[call.owner] > KEPT):
            self._texts[call.owner] -= _text(ring.popleft())


def _place(key: Key) -> tuple[str, str, str]:
    return (FIGURES, key[0], key[1]) if key[1] else (COSTS, key[0], _ACCOUNT)


def _text(call: Call) -> int:
    return len(call.logs) + len(call.traceback) + len(call.error)
