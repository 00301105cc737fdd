"""What the gateway notes of calls: held where a worker tells it, bounded, counted where it is lost, sent once."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, Unavailable
from ropewalk_core.figures import Cell
from ropewalk_core.model import Bundle, Call, CallReport, FunctionRoute, FunctionSpec, State
from ropewalk_core.placement import Placement
from ropewalk_hub.gateway import records
from ropewalk_hub.gateway.records import Note, Records, amount

SPEC = FunctionSpec(name="double", bundle=Bundle(files={}, entry="c:h"), placement=Placement(cpu=2), concurrency=2)
HERE = FunctionRoute(owner="ada", name="double", revision="r1", spec=SPEC)
AFAR = HERE.model_copy(update={"url": "http://double.space.svc"})
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


class Platform:
    """Takes reports, unless it is away."""

    def __init__(self) -> None:
        self.reports: list[CallReport] = []
        self.raw: list[bytes] = []
        self.error: Exception | None = None
        self.watch: list[tuple[str, str]] = []

    async def exchange(self, method: str, path: str, content: bytes) -> bytes:
        assert (method, path) == ("POST", "/internal/calls")
        self.raw.append(content)
        if self.error is not None:
            raise self.error
        self.reports.append(CallReport.model_validate_json(content))
        return json.dumps({"watch": self.watch}).encode()


def note(number: int = 1, route: FunctionRoute = HERE, queued: float = 0.0) -> Note:
    return Note(f"call-{number}", route, "ada", queued, 3, 2**30, came=queued)


def over(one: Note, at: float, said: Any = None, state: State = State.DONE) -> Note:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records.time, "monotonic", lambda: at)  # type: ignore[attr-defined]
        one.over(state, 200, said)
    return one


def counted(one: Note) -> Cell:
    cell = Cell()
    one.count(cell)
    return cell


def made() -> tuple[Platform, Records]:
    platform = Platform()
    return platform, Records(cast(Any, platform), lambda: {"workers": 3})


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, st.booleans())
def test_whatever_a_worker_tells_is_a_record_with_sane_numbers(
    cpu: Any, took: Any, worker: Any, logs: Any, afar: bool
) -> None:
    one = note(route=AFAR if afar else HERE, queued=100.0)
    one.started = 101.0
    over(one, 103.0, {"cpu": cpu, "took": took, "worker": worker, "logs": logs})
    call = Call.model_validate_json(json.dumps(one.record(), allow_nan=False))
    assert 100.0 <= call.started <= 103.0 == call.ended
    assert 0.0 <= call.cpu <= 3.0 * 1024 and 0.0 <= call.gb_seconds <= 3.0
    assert len(call.worker) <= 100 and Cell.unpacked(counted(one).packed()).calls == 1


@pytest.mark.parametrize("odd", [None, True, "1", math.nan, -1, -math.inf, [], {}])
def test_what_is_no_number_is_not_taken(odd: object) -> None:
    assert amount(odd, 5.0) is None


@pytest.mark.parametrize(("told", "taken"), [(1, 1.0), (0.5, 0.5), (10**400, 5.0), (math.inf, 5.0), (0, 0.0)])
def test_a_number_is_no_larger_than_may_be(told: Any, taken: float) -> None:
    assert amount(told, 5.0) == taken


def test_a_call_costs_what_its_worker_spent_or_else_what_was_set_aside() -> None:
    told = note(queued=100.0)
    told.started = 101.0
    over(told, 105.0, {"cpu": 0.25})
    assert (told.cpu, told.gb_seconds) == (0.25, 2.0)  # 4 s of 1 GB, which two calls share
    untold = note(queued=100.0)
    untold.started = 101.0
    assert over(untold, 105.0).cpu == 4.0  # 4 s of two cores, which two calls share
    never = over(note(queued=100.0), 105.0, state=State.FAILED)
    assert (never.cpu, never.gb_seconds, counted(never).times) == (0.0, 0.0, {})
    assert never.record()["started"] == 105.0


@pytest.mark.parametrize("set_to", [0.0, 1e10])
def test_a_clock_that_is_set_meanwhile_costs_nobody_anything(set_to: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative cost would be no figures at all, and a year in a minute would be in them for a month."""
    one = note(queued=1e9)
    monkeypatch.setattr(records.time, "time", lambda: set_to)  # type: ignore[attr-defined]
    monkeypatch.setattr(records.time, "monotonic", lambda: 1e9 + 1.0)  # type: ignore[attr-defined]
    one.began("worker-1", False)
    over(one, 1e9 + 3.0)
    assert (one.started, one.ended, one.cpu, one.gb_seconds) == (1e9 + 1.0, 1e9 + 3.0, 2.0, 1.0)
    assert Cell.unpacked(counted(one).packed()).calls == 1


def test_a_pod_says_who_it_is_and_how_long_it_had_the_call() -> None:
    one = note(route=AFAR, queued=100.0)
    one.started = 100.1
    over(one, 104.0, {"took": 1.0, "worker": "fn--double-7d9c"})
    assert (one.worker, one.started) == ("fn--double-7d9c", 103.0)


async def test_notes_and_counts_reach_the_platform() -> None:
    platform, kept = made()
    for number, state in enumerate((State.DONE, State.FAILED, State.STOPPED)):
        one = note(number, queued=600.0)
        one.cold, one.started = number == 0, 601.0
        kept.add(over(one, 602.0, state=state))
    await kept.flush()
    [report] = platform.reports
    assert [one.state for one in report.calls] == [State.DONE, State.FAILED, State.STOPPED]
    assert report.state == {"workers": 3}
    [(owner, name, minute, packed)] = report.cells
    cell = Cell.unpacked(packed)
    assert (owner, name, minute) == ("ada", "double", 10)
    assert (cell.calls, cell.errors, cell.left, cell.cold, sum(cell.times.values())) == (3, 1, 1, 1, 2)
    await kept.flush()
    assert platform.reports[1].calls == () == platform.reports[1].cells and platform.reports[1].number == 2


async def test_a_batch_whose_answer_is_lost_is_sent_again_as_it_was() -> None:
    platform, kept = made()
    platform.error = Unavailable("away")
    kept.add(over(note(1), 60.0))
    await kept.flush()
    kept.add(over(note(2), 60.0))
    await kept.flush()
    platform.error = None
    await kept.flush()
    assert platform.raw[0] == platform.raw[1] == platform.raw[2] and kept._filled.is_set()
    await kept.flush()
    assert [[one.id for one in report.calls] for report in platform.reports] == [["call-1"], ["call-2"]]
    assert [report.number for report in platform.reports] == [1, 2]


async def test_a_batch_that_is_refused_holds_up_no_other() -> None:
    platform, kept = made()
    platform.error = BadInput("no")
    kept.add(over(note(1), 60.0))
    await kept.flush()
    platform.error = None
    kept.add(over(note(2), 60.0))
    await kept.flush()
    assert [one.id for report in platform.reports for one in report.calls] == ["call-2"]


async def test_calls_one_after_another_do_not_cost_a_report_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_PAUSE", 60.0)
    platform, kept = made()
    coming = iter(range(2, 100))

    async def exchange(method: str, path: str, content: bytes) -> bytes:
        if (number := next(coming, None)) is not None:  # a call ends while the platform reads of the one before
            kept.add(over(note(number), 60.0))
        return await Platform.exchange(platform, method, path, content)

    platform.exchange = exchange  # type: ignore[method-assign]
    kept.add(over(note(1), 60.0))
    sending = asyncio.create_task(kept.send())
    await asyncio.sleep(0.01)
    assert [len(one.calls) for one in platform.reports] == [1] and len(kept._buffer) == 1
    for number in range(records._BATCH):  # a whole report waits for nothing
        kept.add(over(note(1000 + number), 60.0))
    assert await kept.flush()
    assert [len(one.calls) for one in platform.reports] == [1, records._BATCH] and len(kept._buffer) == 2
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_what_does_not_fit_is_counted_and_figures_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST", 10)
    platform, kept = made()
    for number in range(25):
        kept.add(over(note(number), 60.0))
    await kept.flush()
    ids = [one.id for report in platform.reports for one in report.calls]
    assert ids == [f"call-{number}" for number in range(15, 25)]
    [(*_, packed)] = platform.reports[0].cells
    cell = Cell.unpacked(packed)
    assert (cell.calls, cell.unkept) == (25, 15)


async def test_long_logs_take_no_more_than_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_TEXT", 1000)
    platform, kept = made()
    for number in range(20):
        kept.add(over(note(number), 60.0, {"logs": "x" * 300}))
        assert sum(one.text for one in kept._buffer) <= 1000
    await kept.flush()
    assert len(platform.reports[0].calls) == 3 and kept._text == 0


async def test_counts_of_a_long_absence_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_CELLS", 5)
    _, kept = made()
    for minute in range(20):
        kept.add(over(note(minute), minute * 60.0))
    assert len(kept._cells) == 5


class Asked:
    """An exchange that is asked what was printed."""

    def __init__(self) -> None:
        self.printed, self.looks = "", 0

    def look(self) -> None:
        self.looks += 1


def going(kept: Records, number: int, queued: float, started: float = 0.0) -> tuple[Note, Asked]:
    one, exchange = note(number, queued=queued), Asked()
    one.started, one.exchange = started, cast(Any, exchange)
    kept.open(one)
    return one, exchange


async def test_a_long_call_is_told_of_and_asked_only_where_somebody_looks() -> None:
    platform, kept = made()
    one, exchange = going(kept, 1, 100.0)
    kept.glance(100.5)
    await kept.flush()
    assert platform.reports[-1].calls == () and platform.reports[-1].running == ()
    kept.glance(101.5)
    await kept.flush()
    [waiting] = platform.reports[-1].calls
    assert (waiting.state, waiting.ended, platform.reports[-1].running) == (State.WAITING, None, ("call-1",))
    one.started, platform.watch = 101.6, [("ada", "double")]
    kept.glance(102.0)
    await kept.flush()
    assert platform.reports[-1].calls[0].state is State.RUNNING and exchange.looks == 0
    kept.glance(102.5)
    assert exchange.looks == 1
    exchange.printed = "line\n"
    kept.glance(103.0)
    await kept.flush()
    await kept.flush()
    assert [[one.logs for one in report.calls] for report in platform.reports[-2:]] == [["line\n"], []]
    kept.add(over(one, 104.0))
    await kept.flush()
    [ended] = platform.reports[-1].calls
    assert (ended.state, ended.logs, platform.reports[-1].running) == (State.DONE, "line\n", ())
    assert kept._running == set()


async def test_no_more_than_so_many_are_told_of_and_what_nobody_ended_is_forgotten() -> None:
    platform, kept = made()
    calls = [going(kept, number, 100.0 + number / 1000) for number in range(records.SHOWN + 10)]
    kept.glance(102.0)
    await kept.flush()
    assert len(platform.reports[-1].calls) == len(platform.reports[-1].running) == records.SHOWN
    kept.glance(102.0 + SPEC.timeout + 1000)
    assert kept._running == set() and len(calls) > records.SHOWN


async def test_an_account_with_many_long_calls_leaves_others_theirs() -> None:
    platform, kept = made()
    for number in range(100):
        going(kept, number, 100.0)
    kept._watched = frozenset({("ada", "watched")})
    watched = HERE.model_copy(update={"name": "watched"})
    for number, route in ((200, watched), (201, HERE.model_copy(update={"owner": "bob"}))):
        kept.open(note(number, route=route, queued=101.0))
    kept.glance(103.0)
    await kept.flush()
    told = platform.reports[-1].running
    assert len(told) == records.SHOWN and {"call-200", "call-201"} < set(told)
    kept._watched = frozenset({("ada", "double")})
    kept.glance(103.5)
    kept._watched = frozenset({("ada", "watched")})
    kept.glance(104.0)
    await kept.flush()
    assert "call-200" in [one.id for one in platform.reports[-1].calls], "it was told of no more, so it is told anew"


async def test_a_platform_that_begins_anew_hears_of_what_goes_on() -> None:
    platform, kept = made()
    going(kept, 1, 100.0, 100.0)
    kept.glance(102.0)
    await kept.flush()
    platform.error = Unavailable("away")
    await kept.flush()
    platform.error = None
    await kept.flush()
    kept.glance(103.0)
    await kept.flush()
    assert [one.id for report in platform.reports[1:] for one in report.calls] == ["call-1"]


async def test_one_report_holds_only_so_much_of_what_is_printed() -> None:
    platform, kept = made()
    platform.watch = [("ada", "double")]
    for number in range(30):
        going(kept, number, 100.0, 100.0)[1].printed = "x" * 70_000
    kept.glance(102.0)
    for _ in range(10):
        await kept.flush()
    sizes = [sum(len(one.logs) for one in report.calls) for report in platform.reports]
    assert max(sizes) <= 2**18 + 70_000 and sum(sizes) == 30 * 70_000


@pytest.mark.parametrize("letter", ["x", "\x01", "é", "\U0001f600", "\ud800"])
async def test_one_report_holds_only_so_much_of_what_was_printed(letter: str) -> None:
    """What one function prints in its calls must not hold up the gateway, and with it all others' calls."""
    platform, kept = made()
    for number in range(30):
        kept.add(over(note(number), 60.0, {"logs": letter * 65536, "error": {"message": letter}}))
    await kept.flush()
    assert [one.id for report in platform.reports for one in report.calls] == [f"call-{one}" for one in range(30)]
    assert max(len(raw) for raw in platform.raw) < 2_200_000 and kept._text == 0
