"""What the platform keeps of calls: figures outlive a restart, count once, and go with their function."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core.called import COSTS, FIGURES, CallBook, forgetting
from ropewalk_core.errors import Unavailable
from ropewalk_core.figures import Cell
from ropewalk_core.journal import Journal, Operation, Put
from ropewalk_core.model import Call, CallReport, State
from ropewalk_core.testing import SimulatedClock

KNOWN = {("ada", "f"), ("ada", "g"), ("bob", "f")}


def cell(calls: int, seconds: float = 0.1) -> Cell:
    made = Cell(calls=calls, errors=1, cpu=calls * 0.5, gb_seconds=calls * 2.0)
    made.times = {}
    for _ in range(calls):
        made.took(seconds)
    return made


def report(
    clock: SimulatedClock, *calls: Call, number: int = 0, life: str = "", name: str = "f", owner: str = "ada"
) -> CallReport:
    cells = ((owner, name, int(clock.wall() // 60), cell(4).packed()),)
    return CallReport(life=life, number=number, calls=calls, cells=cells, state={"workers": 2})


async def test_figures_outlive_the_process_and_costs_the_function(tmp_path: Path) -> None:
    clock, where = SimulatedClock(), tmp_path / "journal.db"
    journal = Journal(where, now=clock.wall)
    book = CallBook(journal, clock)
    book.record(report(clock), KNOWN)
    book.record(report(clock, name="g"), KNOWN)
    assert book.figures("ada", "f", "hour").total.calls == 4
    await book.keep()
    assert book._changed == {}, "what is written takes no memory"
    book.record(report(clock), KNOWN)
    book.keep_now()
    journal.close()
    journal = Journal(where, now=clock.wall)
    book = CallBook(journal, clock)
    for window in ("hour", "day"):
        found = book.figures("ada", "f", window)  # type: ignore[arg-type]
        assert (found.total.calls, found.total.errors) == (8, 2) and found.total.p99 == pytest.approx(0.1, rel=0.045)
    [day] = book.costs("ada", "f").days
    assert (day.calls, day.cpu, day.gb_seconds) == (8, 4.0, 16.0)
    book.forget("ada", "f")
    await journal.write(forgetting("ada", "f"))
    assert book.figures("ada", "f", "day").total.calls == 0 and book.costs("ada", "f").days == ()
    assert book.costs("ada").days[0].calls == 12
    assert journal.get(FIGURES, "ada", "f") is None and journal.get(COSTS, "ada", "account") is not None
    journal.close()


async def test_a_function_that_is_removed_while_its_figures_are_written_in_vain_has_none(tmp_path: Path) -> None:
    class Away(Journal):
        async def write(self, *operations: Operation) -> int:
            book.forget("ada", "f")
            raise Unavailable("away")

    clock = SimulatedClock()
    journal = Away(tmp_path / "journal.db", now=clock.wall)
    book = CallBook(journal, clock)
    book.record(report(clock), KNOWN)
    await book.keep()
    assert book.figures("ada", "f", "hour").total.calls == 0 and book.costs("ada").days[0].calls == 4
    book.keep_now()
    journal.close()
    journal = Journal(tmp_path / "journal.db", now=clock.wall)
    assert journal.get(FIGURES, "ada", "f") is None
    found = journal.get(COSTS, "ada", "account")
    assert found is not None and list(found.body) == ["days"], "of an account only costs are asked"
    journal.close()


async def test_a_report_that_comes_twice_counts_once(tmp_path: Path) -> None:
    clock = SimulatedClock()
    journal = Journal(tmp_path / "journal.db", now=clock.wall)
    book = CallBook(journal, clock)
    for number, life in ((1, "a"), (1, "a"), (2, "a"), (1, "b")):
        book.record(report(clock, number=number, life=life), KNOWN)
    assert book.figures("ada", "f", "hour").total.calls == book.total.calls == 12
    journal.close()


async def test_what_is_nonsense_in_a_report_or_the_journal_hides_nothing_else(tmp_path: Path) -> None:
    clock = SimulatedClock()
    journal = Journal(tmp_path / "journal.db", now=clock.wall)
    await journal.write(Put(FIGURES, "ada", "f", {"hour": {"x": 1}}))
    book = CallBook(journal, clock)
    assert book.figures("ada", "f", "hour").total.calls == 0
    good = report(clock)
    book.record(good.model_copy(update={"cells": (("ada", "f", 1, ["x"]), *good.cells)}), KNOWN)
    assert book.figures("ada", "f", "hour").total.calls == 4
    journal.close()


async def test_functions_that_are_gone_are_only_their_accounts_cost(tmp_path: Path) -> None:
    clock = SimulatedClock()
    journal = Journal(tmp_path / "journal.db", now=clock.wall)
    book = CallBook(journal, clock)
    call = Call(id="c", function="old", owner="ada", revision="r", started=1.0, state=State.FAILED, code="RW-TIMED-OUT")
    book.record(report(clock, call, name="old"), KNOWN)
    assert book.latest("ada", "old", 10) == () and book.figures("ada", "old", "hour").total.calls == 0
    assert book.costs("ada").days[0].calls == 4 and book.errors == {"RW-TIMED-OUT": 1}
    journal.close()
