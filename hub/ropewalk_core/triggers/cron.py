"""Schedules in cron's five fields, and the moments at which they come due in a time zone. Pure.

A schedule whose hours begin with ``*`` runs on through a change of the clock: what the clock skips does not come, what
it repeats comes twice. Any other comes due when the clock on the wall first shows its time or a later one: a time that
is skipped comes once, right after the gap, and a repeated one once. Not here: what has fired (``occasions``). Rejected:
croniter (given up by its author and handed on), and cronsim, which steps by whole hours and so leaves out 02:00 where
the clock is moved by half an hour; both only walk forward, and the latest moment is what is asked for most.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ropewalk_core.errors import BadInput

HORIZON = 10 * 366
"""Days that the next moment is looked for; a schedule without one in them is refused."""
NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(\*|[0-9a-z]{1,3}(?:-[0-9a-z]{1,3})?)(?:/([0-9]{1,2}))?", re.ASCII)
_EXAMPLE = "Write five fields (minute, hour, day of month, month, weekday), as in '*/5 * * * *' or '0 2 * * mon-fri'."


@dataclass(frozen=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Schedule:
    """A schedule that was read. Weekdays are 0 (Sunday) to 6; make one with `parse`."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    """Whether the day of the month or the weekday is enough: neither field begins with a star, as in Debian's cron."""
    flowing: bool
    """Whether it runs on through changes of the clock."""

    @cached_property
    def times(self) -> tuple[int, ...]:
        """Its times of a day, in minutes after midnight."""
        return tuple(60 * hour + minute for hour in sorted(self.hours) for minute in sorted(self.minutes))

    def falls_on(self, day: date) -> bool:
        """Say whether it has moments on this day of the calendar."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either else (of_month and of_week)


def parse(text: str) -> Schedule:
    """Return the schedule that a text describes, in any case of letters.

    Raises
    ------
    BadInput
        If it is none.
    """
    words = NAMES.get(text.strip().lower(), text).lower().split()
    if len(words) != len(_FIELDS):
        names = ", ".join(NAMES)
        raise BadInput(f"{text[:60]!r} is no schedule.", field="every", hint=f"{_EXAMPLE} Names are {names}.")
    found = [_numbers(field, word) for field, word in zip(_FIELDS, words, strict=True)]
    return Schedule(
        minutes=found[0],
        hours=found[1],
        days=found[2],
        months=found[3],
        weekdays=frozenset(one % 7 for one in found[4]),
        either=not (words[2].startswith("*") or words[4].startswith("*")),
        flowing=words[1].startswith("*"),
    )


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name in the tz database, such as ``Europe/Athens``.

    Raises
    ------
    BadInput
        If there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = "Write a name of the tz database, such as Europe/Athens or America/New_York, or UTC."
        raise BadInput(f"There is no time zone {name[:60]!r}.", field="zone", hint=hint) from error


def after(schedule: Schedule, zone: ZoneInfo, moment: float) -> int | None:
    """Return the first moment later than one, in Unix seconds; None if there is none within `HORIZON` days."""
    start = _day(zone, moment) - timedelta(days=1)
    for ahead in range(HORIZON):
        found = moments(schedule, zone, start + timedelta(days=ahead))
        if found and found[-1] > moment:
            return found[bisect_right(found, moment)]
    return None


def latest(schedule: Schedule, zone: ZoneInfo, since: float, until: float) -> int | None:
    """Return the last moment that is later than ``since`` and not later than ``until``; None if there is none."""
    if until <= since:
        return None
    day, first = _day(zone, until) + timedelta(days=1), _day(zone, since) - timedelta(days=1)
    while day >= first:
        found = moments(schedule, zone, day)
        if found and found[0] <= until:
            last = found[bisect_right(found, until) - 1]
            return last if last > since else None
        day -= timedelta(days=1)
    return None


class _Moments:
    """The moments of a day of 24 hours, each worked out when it is asked for: most are not."""

    def __init__(self, times: tuple[int, ...], midnight: int) -> None:
        self._times, self._midnight = times, midnight

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, place: int) -> int:
        return self._midnight + 60 * self._times[place]


def moments(schedule: Schedule, zone: ZoneInfo, day: date) -> _Moments | tuple[int, ...]:
    """Return the moments of one day of the calendar in Unix seconds, in order."""
    if not schedule.falls_on(day):
        return ()
    offset = _offset(zone, day)
    if offset == _offset(zone, day + timedelta(days=1)):
        return _Moments(schedule.times, calendar.timegm(day.timetuple()) - offset)
    return _of_odd_day(schedule, zone, day)


@lru_cache(maxsize=1024)
def _of_odd_day(schedule: Schedule, zone: ZoneInfo, day: date) -> tuple[int, ...]:
    """Return the moments of a day on which the clock is moved."""
    midnight_there = datetime(day.year, day.month, day.day)
    found: set[int] = set()
    for one in schedule.times:
        found.update(_shown(zone, midnight_there + timedelta(minutes=one), schedule.flowing))
    return tuple(sorted(found))


def _shown(zone: ZoneInfo, clock: datetime, flowing: bool) -> tuple[int, ...]:
    """Return when the clock shows a time, on a day on which it is moved."""
    first, second = (int(clock.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    if first == second:
        return (first,)
    if first < second:  # it is shown twice
        return (first, second) if flowing else (first,)
    return () if flowing else (_moved(zone, second, first),)


def _moved(zone: ZoneInfo, before: int, since: int) -> int:
    """Return the second at which the clock is moved, between one before it and one since."""
    wanted = datetime.fromtimestamp(since, zone).utcoffset()
    while since - before > 1:
        middle = (before + since) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == wanted:
            since = middle
        else:
            before = middle
    return since


def _offset(zone: ZoneInfo, day: date) -> int:
    """Return the seconds that the clock is ahead of UTC when a day begins."""
    ahead = datetime(day.year, day.month, day.day, tzinfo=zone).utcoffset()
    return int(ahead.total_seconds()) if ahead is not None else 0


def _day(zone: ZoneInfo, moment: float) -> date:
    return datetime.fromtimestamp(moment, UTC).astimezone(zone).date()


def _numbers(field: _Field, text: str) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        step = int(match[2]) if match and match[2] else 1
        if match is None or not step:
            raise _wrong(field, item)
        first, dash, last = match[1].partition("-")
        if first == "*":
            low, high = field.least, 6 if field.name == "weekday" else field.most
        else:
            low = _number(field, first)
            high = _number(field, last) if dash else field.most if match[2] else low
        if high < low:
            raise _wrong(field, item)
        found.update(range(low, high + 1, step))
    return frozenset(found)


def _number(field: _Field, text: str) -> int:
    if text in field.words:
        return field.words.index(text) + field.least
    if not text.isdigit() or not field.least <= int(text) <= field.most:
        raise _wrong(field, text)
    return int(text)


def _wrong(field: _Field, text: str) -> BadInput:
    names = f", or {field.words[0]} to {field.words[-1]}" if field.words else ""
    said = f"{text[:30]!r} is no {field.name} of a schedule."
    return BadInput(said, field="every", hint=f"Use {field.least} to {field.most}{names}, '*', 1-5, 1,3 or */2.")
