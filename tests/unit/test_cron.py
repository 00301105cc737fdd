"""Schedules: what is read, what is refused, and when they come due, beside a clock that is watched by the minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput
from ropewalk_core.triggers import cron

CHANGES = (
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),  # at midnight
    ("America/Havana", "2026-11-01"),
    ("Asia/Beirut", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"),  # a day that never was
    ("Asia/Kathmandu", "2026-06-01"),  # a quarter of an hour apart
    ("UTC", "2026-02-28"),
)


def unix(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def following(text: str, zone: str, start: str, count: int) -> list[str]:
    """Return the next moments in UTC."""
    schedule, moment, found = cron.parse(text), unix(start, zone), []
    for _ in range(count):
        coming = cron.after(schedule, ZoneInfo(zone), moment)
        assert coming is not None
        moment = coming
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("*/5 * * * *", "2026-11-22T14:03", ["22 14:05", "22 14:10"]),
        ("*/5 * * * *", "2026-11-22T14:05", ["22 14:10"]),
        ("@hourly", "2026-11-22T14:03", ["22 15:00"]),
        ("@Daily", "2026-11-22T14:03", ["23 00:00"]),
        ("@weekly", "2026-11-22T14:03", ["29 00:00"]),
        ("0 2 * * mon-fri", "2026-11-20T14:03", ["23 02:00", "24 02:00"]),
        ("0 2 * * 5-7", "2026-11-22T14:03", ["27 02:00", "28 02:00", "29 02:00"]),
        ("30 8,18 1 JAN *", "2026-11-22T14:03", ["01 08:30", "01 18:30"]),
        ("0 0 13 * fri", "2026-11-22T14:03", ["27 00:00", "04 00:00", "11 00:00", "13 00:00"]),  # either is enough
        ("0 0 */2 * fri", "2026-11-22T14:03", ["27 00:00", "11 00:00"]),  # both are needed
        ("10/20 0 * * *", "2026-11-22T14:03", ["23 00:10", "23 00:30", "23 00:50"]),
        ("0 0 29 2 *", "2026-11-22T14:03", ["29 00:00"]),
    ],
)
def test_when_it_comes_due(text: str, start: str, expected: list[str]) -> None:
    assert following(text, "UTC", start, len(expected)) == expected


def test_a_time_that_is_skipped_comes_once_after_the_gap() -> None:
    assert following("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["29 01:00", "30 00:30"]
    assert following("0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["29 01:00", "30 00:00"]
    assert following("30 * * * *", "Europe/Berlin", "2026-03-29T00:45", 3) == ["29 00:30", "29 01:30", "29 02:30"]


def test_a_time_that_is_repeated_comes_once_but_every_hour_is_every_hour() -> None:
    assert following("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]
    assert following("30 * * * *", "Europe/Berlin", "2026-10-25T01:45", 3) == ["25 00:30", "25 01:30", "25 02:30"]


def test_the_time_is_the_zones() -> None:
    assert following("0 9 * * *", "America/New_York", "2026-01-01T12:00", 1) == ["02 14:00"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "1,,2 * * * *",
        "-1 * * * *",
        "* * * mon *",
        "@reboot",
        "@every 5m",
        "1.5 * * * *",
        "٣ * * * *",
        "*-5 * * * *",
        "* * L * *",
        "*" * 5000,
    ],
)
def test_what_is_no_schedule_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        cron.parse(text)
    assert caught.value.field == "every" and len(str(caught.value)) < 600 and caught.value.hint


@pytest.mark.parametrize(
    "name", ["", "Nowhere", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 5000, "\0", "Ελλάδα"]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        cron.zone_of(name)
    assert caught.value.field == "zone"


def test_what_never_comes_says_so() -> None:
    assert cron.after(cron.parse("0 0 30 2 *"), ZoneInfo("UTC"), 0.0) is None
    assert cron.latest(cron.parse("0 0 30 2 *"), ZoneInfo("UTC"), 0.0, 86400.0 * 400) is None


def fields(least: int, most: int) -> st.SearchStrategy[str]:
    one = st.integers(least, most)
    span = st.tuples(one, one).map(sorted).map(lambda two: f"{two[0]}-{two[1]}")
    item = st.one_of(one.map(str), span, st.tuples(span, st.integers(1, 20)).map(lambda two: f"{two[0]}/{two[1]}"))
    several = st.lists(item, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.integers(1, 30).map(lambda step: f"*/{step}"), several)


schedules = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), st.just("*"), fields(0, 6)).map(" ".join)


def watched(text: str, zone: ZoneInfo, start: float, end: float) -> list[int]:
    """Return what a watcher sees who looks at the clock on the wall each minute: the rule, in another way."""
    schedule = cron.parse(text)
    minutes = range(int(start) - 2 * 86400, int(end), 60)
    clocks = [(one, datetime.fromtimestamp(one, zone).replace(tzinfo=None)) for one in minutes]

    def wanted(clock: datetime) -> bool:
        times = clock.minute in schedule.minutes and clock.hour in schedule.hours
        return times and schedule.falls_on(clock.date())

    if schedule.flowing:
        found = {one for one, clock in clocks if wanted(clock)}
    else:
        found = set()
        highest = clocks[0][1]
        for one, clock in clocks:
            while highest < clock:  # every time that the clock has reached or gone past since
                highest += timedelta(minutes=1)
                if wanted(highest):
                    found.add(one)
    return sorted(one for one in found if start < one < end)


@settings(max_examples=25, deadline=None)
@given(schedules, st.sampled_from(CHANGES))
def test_it_comes_due_as_a_watched_clock_shows_it(text: str, change: tuple[str, str]) -> None:
    zone, day = ZoneInfo(change[0]), unix(change[1])
    start, end = day - 7200, day + 86400 + 14_400
    schedule, expected, moment = cron.parse(text), watched(text, zone, start, end), start
    found: list[int] = []
    while (coming := cron.after(schedule, zone, moment)) is not None and coming < end:
        found.append(coming)
        moment = coming
    assert found == expected
    for until in (start, day, day + 7201, end - 60):
        before = [one for one in expected if one <= until]
        assert cron.latest(schedule, zone, start, until) == (before[-1] if before else None)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=40), schedules, st.text("*0123456789/-, mondayL#@", max_size=30)))
def test_no_text_breaks_it(text: str) -> None:
    try:
        schedule = cron.parse(text)
    except BadInput:
        return
    coming = cron.after(schedule, ZoneInfo("UTC"), 1_800_000_000.0)
    assert coming is None or coming > 1_800_000_000
