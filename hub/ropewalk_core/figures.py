"""How many calls, how long, how many failed, what they cost: counts that add up, in bounded space. Pure.

A `Cell` counts the calls of one stretch of time; its times are a histogram with fixed buckets, eight for each doubling
from 0.1 ms to nearly two hours, so that cells of any gateway and any minute add up, and a quantile is wrong by
`ERROR` at most. A `Series` keeps a function's cells by minute, by quarter of an hour and by day, and forgets the
oldest. Not here: where it is kept (``called``), and what is counted (the gateway). Rejected: keeping the times
themselves (no bound), quantiles of each minute (they do not add up), and a sketch whose buckets move (two of them
disagree about where a call lies).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ropewalk_core.model import Figure, Figures, Spent, Window

LEAST = 1e-4
"""Seconds; shorter ones count as this."""
PER_DOUBLING = 8
BUCKETS = 26 * PER_DOUBLING
"""The number of the last bucket, which also holds all that is longer: 1 h 50 min, twice what a call may take."""
ERROR = 2 ** (1 / (2 * PER_DOUBLING)) - 1
"""How far a quantile may be from the exact one, as a part of it: 4.4 %."""
WINDOWS: dict[Window, tuple[int, int]] = {"hour": (60, 60), "day": (900, 96)}
"""Seconds of a bar, and how many bars there are."""
DAYS = 31
"""Days of which the cost is kept, this one included."""
_DAY = 86400
_MOST = 2**53


def bucket(seconds: float) -> int:
    """Return the number of the bucket of a time; nonsense counts as the shortest."""
    if not seconds > LEAST:
        return 0
    return min(math.ceil(math.log2(min(seconds, 1e9) / LEAST) * PER_DOUBLING), BUCKETS)


def middle(number: int) -> float:
    """Return the seconds by which a bucket is spoken of."""
    return LEAST * math.exp2((number - 0.5) / PER_DOUBLING) if number > 0 else LEAST


def upper(number: int) -> float:
    """Return the longest time that counts in a bucket, in seconds."""
    return LEAST * math.exp2(number / PER_DOUBLING)


def quantile(times: Mapping[int, int], share: float) -> float | None:
    """Return the time below which this share of the counted ones lies, by the nearest rank; None if none is counted."""
    rank = max(1, math.ceil(share * sum(times.values())))
    for number in sorted(times):
        rank -= times[number]
        if rank <= 0:
            return middle(number)
    return None


@dataclass(slots=True)
class Cell:
    """The calls of one stretch of time.

    Parameters
    ----------
    calls, errors, left, cold
        All that ended, those that failed, those whose caller left, those for which a worker was started.
    unkept
        Calls of which there is no record, because more came than are kept.
    cpu, gb_seconds
        What they cost.
    seconds, times
        The sum, and how many by bucket, of the times of calls that a worker had and answered or failed: from coming in
        to their end.
    """

    calls: int = 0
    errors: int = 0
    left: int = 0
    cold: int = 0
    unkept: int = 0
    cpu: float = 0.0
    gb_seconds: float = 0.0
    seconds: float = 0.0
    times: dict[int, int] = field(default_factory=dict)

    def add(self, other: Cell) -> None:
        """Count what another one counted too."""
        self.calls += other.calls
        self.errors += other.errors
        self.left += other.left
        self.cold += other.cold
        self.unkept += other.unkept
        self.cpu += other.cpu
        self.gb_seconds += other.gb_seconds
        self.seconds += other.seconds
        for number, count in other.times.items():
            self.times[number] = self.times.get(number, 0) + count

    def took(self, seconds: float) -> None:
        """Count a time."""
        number = bucket(seconds)
        self.seconds += seconds if number else 0.0
        self.times[number] = self.times.get(number, 0) + 1

    def packed(self) -> list[Any]:
        """Return it as JSON."""
        times = [part for pair in sorted(self.times.items()) for part in pair]
        amounts = [round(one, 6) for one in (self.cpu, self.gb_seconds, self.seconds)]
        return [self.calls, self.errors, self.left, self.cold, self.unkept, *amounts, times]

    @classmethod
    def unpacked(cls, told: Any) -> Cell:
        """Return what `packed` gave. Raises `ValueError` if it is something else."""
        try:
            *numbers, times = told
            pairs = list(zip(times[::2], times[1::2], strict=True))
            calls, errors, left, cold, unkept = (_count(one) for one in numbers[:5])
            cpu, gb_seconds, seconds = (_amount(one) for one in numbers[5:])
            by_bucket = {min(_count(number), BUCKETS): _count(count) for number, count in pairs}
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"These are no figures: {str(told)[:100]}") from error
        return cls(calls, errors, left, cold, unkept, cpu, gb_seconds, seconds, by_bucket)


def total(cells: Iterable[Cell]) -> Cell:
    """Return the sum of some cells."""
    found = Cell()
    for one in cells:
        found.add(one)
    return found


class Series:
    """A function's cells, by the number of their stretch since 1970."""

    def __init__(self) -> None:
        self._cells: dict[Window, dict[int, Cell]] = {window: {} for window in WINDOWS}
        self._days: dict[int, Cell] = {}

    def add(self, at: float, cell: Cell, now: float) -> None:
        """Count a cell at a moment; both are Unix times, and what lies ahead of now counts as now."""
        for window, (step, bars) in WINDOWS.items():
            if (number := int(min(at, now) // step)) > int(now // step) - bars:
                self._cells[window].setdefault(number, Cell()).add(cell)
        self.spend(at, cell, now)

    def spend(self, at: float, cell: Cell, now: float) -> None:
        """Count only what a cell cost."""
        if (day := int(min(at, now) // _DAY)) > int(now // _DAY) - DAYS:
            self._days.setdefault(day, Cell()).add(_without_times(cell))
        self._forget(now)

    def figures(self, window: Window, now: float, *, owner: str, function: str) -> Figures:
        """Return the bars of a window that ends now, oldest first, and their sum."""
        step, bars = WINDOWS[window]
        last, cells = int(now // step), self._cells[window]
        numbers = range(last - bars + 1, last + 1)
        return Figures(
            owner=owner,
            function=function,
            window=window,
            step=step,
            total=figure(total(cells[one] for one in numbers if one in cells), numbers[0] * step),
            bars=tuple(figure(cells.get(one, _NOTHING), one * step) for one in numbers),
        )

    def days(self, now: float) -> tuple[Spent, ...]:
        """Return what the calls of each day cost, the latest first; a day without calls is left out."""
        self._forget(now)
        return tuple(spent(day, self._days[day]) for day in sorted(self._days, reverse=True))

    def packed(self) -> dict[str, Any]:
        """Return it as JSON."""
        body: dict[str, Any] = {window: _packed(cells) for window, cells in self._cells.items() if cells}
        return body | {"days": _packed(self._days)}

    @classmethod
    def unpacked(cls, told: Mapping[str, Any]) -> Series:
        """Return what `packed` gave. Raises `ValueError` if it is something else."""
        found = cls()
        found._cells = {window: _unpacked(told.get(window, {})) for window in WINDOWS}
        found._days = _unpacked(told.get("days", {}))
        return found

    def _forget(self, now: float) -> None:
        for window, (step, bars) in WINDOWS.items():
            _keep(self._cells[window], bars, int(now // step))
        _keep(self._days, DAYS, int(now // _DAY))


def figure(cell: Cell, at: float) -> Figure:
    """Return what a cell says, for people and programs."""
    return Figure(
        at=at,
        calls=cell.calls,
        errors=cell.errors,
        left=cell.left,
        cold=cell.cold,
        unkept=cell.unkept,
        p50=quantile(cell.times, 0.50),
        p95=quantile(cell.times, 0.95),
        p99=quantile(cell.times, 0.99),
        cpu=cell.cpu,
        gb_seconds=cell.gb_seconds,
    )


def spent(day: int, cell: Cell) -> Spent:
    """Return what the calls of a day cost."""
    date = time.strftime("%Y-%m-%d", time.gmtime(day * _DAY))
    return Spent(day=date, calls=cell.calls, cpu=cell.cpu, gb_seconds=cell.gb_seconds)


_NOTHING = Cell()


def _without_times(cell: Cell) -> Cell:
    return replace(cell, seconds=0.0, times={})


def _keep(cells: dict[int, Cell], count: int, last: int) -> None:
    """Forget what is older than so many; what lies ahead, because the clock was set back, counts as the last."""
    for number in list(cells):
        if number <= last - count:
            del cells[number]
        elif number > last:
            cells.setdefault(last, Cell()).add(cells.pop(number))


def _packed(cells: Mapping[int, Cell]) -> dict[str, Any]:
    return {str(number): cell.packed() for number, cell in cells.items()}


def _unpacked(told: Any) -> dict[int, Cell]:
    if not isinstance(told, Mapping):
        raise ValueError("no cells")
    return {int(number): Cell.unpacked(cell) for number, cell in told.items()}


def _count(told: Any) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= _MOST:
        raise ValueError("not a count")
    return told


def _amount(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= 1e15:
        raise ValueError("not an amount")
    return float(told)
